"""How many commands a second: 1,000 x `true` in 4 and 16 slots, output captured, beside `xargs -P`.

python benchmarks/commands.py [runs] [repetitions]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from jobrunner.clock import SystemClock
from jobrunner.execution import Call
from jobrunner.execution.commands import CommandExecutor
from jobrunner.execution.journal import Journal
from jobrunner.execution.leftovers import become_subreaper
from jobrunner.loop import EventLoop
from jobrunner.model import Ended, Ending
from jobrunner.plan import Pool, PoolKind, Task

CLOCK = SystemClock()
TRUE = shutil.which("true") or "/bin/true"


class Slots:
    """A sink that starts the next call as soon as a slot is free."""

    def __init__(self, loop: EventLoop, calls: Iterator[Call]) -> None:
        self._loop = loop
        self._calls = calls
        self.executor: CommandExecutor | None = None

    def started(self, *_: object) -> None:
        return

    def ended(self, call: Call, ended: Ended) -> None:
        assert ended.ending is Ending.OK, (call, ended)
        self._loop.soon(self.fill)

    def fill(self) -> None:
        assert self.executor is not None
        for _ in range(self.executor.room()):
            call = next(self._calls, None)
            if call is None:
                break
            self.executor.start([call])
        if self.executor.busy() == 0:
            self._loop.stop()


def ours(runs: int, slots: int) -> None:
    """Run the commands by the executor of a supervisor: journal, output, pidfd, leftovers and all."""
    loop = EventLoop(CLOCK)
    with tempfile.TemporaryDirectory() as folder, Journal.opened(folder) as journal:
        sink = Slots(loop, calls(runs))
        pool = Pool(name="commands", kind=PoolKind.COMMAND, slots=slots)
        sink.executor = CommandExecutor(pool, loop, sink, f"{folder}/output", journal)
        loop.soon(sink.fill)
        loop.run()
        sink.executor.close()
    loop.close()


def calls(runs: int) -> Iterator[Call]:
    task = Task(name="true", command=(TRUE,), pool="commands")
    empty = '{"args":[],"kwargs":{}}'
    for seq in range(runs):
        yield Call(seq, 1, f"run-{seq}", 1, task, empty, "enqueue", None, 0, CLOCK.now(), None, "bench")


def xargs(runs: int, slots: int) -> None:
    """The same by xargs, which captures nothing and keeps no record."""
    numbers = "\n".join(map(str, range(runs)))
    subprocess.run(["xargs", "-P", str(slots), "-n", "1", TRUE], input=numbers, text=True, check=True)


def rate(work: Callable[[int, int], None], runs: int, slots: int) -> float:
    """Commands a second."""
    begin = CLOCK.monotonic()
    work(runs, slots)
    return runs * 1_000_000 / (CLOCK.monotonic() - begin)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    become_subreaper()
    print(f"{runs:,} x true, commands a second: median (least - most) of {repetitions}")
    print(f"{'slots':>5}  {'jobrunner':>22}  {'xargs -P':>22}  ratio of medians")
    for slots in (4, 16):
        # Alternating, so that whatever else the machine does meets both.
        pairs = [(rate(ours, runs, slots), rate(xargs, runs, slots)) for _ in range(repetitions)]
        mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
        ratio = statistics.median(mine) / statistics.median(theirs)
        print(f"{slots:>5}  {shown(mine):>22}  {shown(theirs):>22}  {ratio:.2f}")


def shown(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} - {max(rates):,.0f})"


if __name__ == "__main__":
    main()
