"""Drains no-op calls through a pool of workers alone, without any storage: `python -m benchmarks.pool`.

`--kind` chooses the kind of pool.

Prints calls per second and the supervisor's CPU time per call; medians of several repetitions, with the
smallest and the largest.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator

from jobrunner.clock import SystemClock
from jobrunner.codec import NO_ARGUMENTS
from jobrunner.durations import Micros
from jobrunner.execution import Backing, Call, Reply
from jobrunner.execution.pool import ProcessPool
from jobrunner.execution.shared import SharedPool
from jobrunner.ids import new_id
from jobrunner.loop import EventLoop
from jobrunner.model import Ended, Ending
from jobrunner.plan import Pool, PoolKind, Task


def noop() -> None:
    """What is called."""


def nobody(_call: Call | None, _text: str, _reply: Reply) -> None:
    """Nothing here asks the storage: there is none."""


class Counter:
    """A sink that counts, and keeps what came back to be started again."""

    def __init__(self) -> None:
        self.done = 0
        self.back: deque[Call] = deque()

    def started(self, call: Call, at: Micros, pid: int | None) -> None:
        """Nothing to do."""

    def ended(self, call: Call, ended: Ended) -> None:
        if ended.ending is Ending.RECALLED:
            self.back.append(call)
            return
        assert ended.ending is Ending.OK, ended
        self.done += 1


def calls(number: int) -> Iterator[Call]:
    """That many calls of `noop`."""
    task = Task(name="noop", call="benchmarks.pool:noop")
    now = SystemClock().now()
    for seq in range(1, number + 1):
        yield Call(
            seq=seq,
            claim_no=1,
            run_id=new_id(now),
            attempt=1,
            task=task,
            payload=NO_ARGUMENTS,
            trigger="enqueue",
            tick=None,
            missed=0,
            due_at=now,
            timeout=None,
            owner="benchmark",
        )


def drain(pool: ProcessPool | SharedPool, loop: EventLoop, sink: Counter, todo: deque[Call]) -> None:
    """Feed the pool as its room allows until everything is done."""
    target = sink.done + len(todo)
    while sink.done < target:
        todo.extendleft(sink.back)
        sink.back.clear()
        room = min(pool.room(), len(todo))
        if room:
            pool.start([todo.popleft() for _ in range(room)])
        loop.turn(100_000)


def measure(number: int, slots: int, kind: PoolKind) -> tuple[float, float]:
    """(calls per second, microseconds of CPU of this process per call), workers warm."""
    with tempfile.TemporaryDirectory() as folder:
        loop, sink = EventLoop(SystemClock()), Counter()
        pool = (ProcessPool if kind is PoolKind.PROCESS else SharedPool)(
            Pool(name="default", kind=kind, slots=slots),
            loop,
            sink,
            output_root=folder,
            backing=Backing("memory://", ask=nobody),
            pythonpath=(".",),
        )
        drain(pool, loop, sink, deque(calls(200)))
        todo = deque(calls(number))
        wall, cpu = time.perf_counter(), time.process_time()
        drain(pool, loop, sink, todo)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        pool.close()
        loop.close()
    return number / wall, cpu / number * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--calls", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--kind", type=PoolKind, choices=list(PoolKind)[:4], default=PoolKind.PROCESS)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    figures = [measure(options.calls, options.slots, options.kind) for _ in range(options.repeat)]
    for name, values in zip(
        ("calls/s", "supervisor CPU, us per call"), zip(*figures, strict=True), strict=True
    ):
        print(f"{name:28} {statistics.median(values):10,.1f}   ({min(values):,.1f} to {max(values):,.1f})")


if __name__ == "__main__":
    main()
