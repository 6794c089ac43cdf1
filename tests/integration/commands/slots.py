"""A command pool on a real loop, without a supervisor: calls go in, their ends come out."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from jobrunner.clock import SystemClock
from jobrunner.codec import encode_arguments
from jobrunner.durations import SECOND, Micros
from jobrunner.execution import Call
from jobrunner.execution.commands import CommandExecutor
from jobrunner.execution.family import Process, marks_of, processes, send
from jobrunner.execution.journal import Journal
from jobrunner.execution.leftovers import UNCLAIMED, Orphans, become_subreaper
from jobrunner.ids import new_id
from jobrunner.loop import EventLoop
from jobrunner.model import Ended
from jobrunner.output import Record, Stream, read_output
from jobrunner.plan import Task
from tests.builders import NOON, a_pool, a_task

PATIENCE: Micros = 60 * SECOND
CLOCK = SystemClock()
NUMBERS = itertools.count(1)

Command = str | tuple[str, ...]


def a_call(
    command: Command = "true",
    *args: object,
    keywords: dict[str, object] | None = None,
    call: dict[str, Any] | None = None,
    **task: Any,
) -> Call:
    """The first attempt of a new run of this command."""
    return call_of(a_task(command=command, **task), *args, keywords=keywords, **(call or {}))


def call_of(task: Task, *args: object, keywords: dict[str, object] | None = None, **changes: Any) -> Call:
    """The first attempt of a new run of this task."""
    given: dict[str, Any] = {
        "seq": next(NUMBERS),
        "claim_no": 1,
        "run_id": new_id(CLOCK.now()),
        "attempt": 1,
        "task": task,
        "payload": encode_arguments(args, keywords or {}),
        "trigger": "enqueue",
        "tick": None,
        "missed": 0,
        "due_at": NOON,
        "timeout": task.timeout,
        "owner": "owner-of-tests",
    }
    return Call(**{**given, **changes})


class Slots:
    """A pool of kind `command`, and the sink that it reports to."""

    def __init__(self, folder: Path, slots: int = 8) -> None:
        become_subreaper()
        self.root = str(folder / "output")
        self.folder = str(folder)
        self.loop = EventLoop(CLOCK)
        self.journal = Journal.opened(self.folder)
        self.begun: dict[str, int] = {}  # run id: pid; of commands that last
        self.begun_at: dict[str, Micros] = {}
        self.ends: dict[str, Ended] = {}
        self.executor = CommandExecutor(a_pool(slots=slots), self.loop, self, self.root, self.journal)

    def started(self, call: Call, at: Micros, pid: int | None) -> None:
        assert call.run_id not in self.begun
        assert pid is not None
        self.begun[call.run_id], self.begun_at[call.run_id] = pid, at

    def ended(self, call: Call, ended: Ended) -> None:
        assert call.run_id not in self.ends, "reported twice"
        self.ends[call.run_id] = ended

    def run(self, call: Call) -> Ended:
        """Start a call and wait for its end."""
        return self.run_all([call])[0]

    def run_all(self, calls: list[Call]) -> list[Ended]:
        """Start calls, as many at a time as there are slots; their ends, in the order of the calls."""
        waiting = list(calls)
        while waiting:
            self.wait_until(lambda: self.executor.room() > 0)
            batch, waiting = waiting[: self.executor.room()], waiting[self.executor.room() :]
            self.executor.start(batch)
        self.wait_until(lambda: all(call.run_id in self.ends for call in calls))
        return [self.ends[call.run_id] for call in calls]

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Turn the loop until this holds."""
        end = CLOCK.monotonic() + PATIENCE
        while not holds():
            assert CLOCK.monotonic() < end, "it did not come true"
            self.loop.turn(SECOND // 50)

    def wait_for_output(self, call: Call, text: bytes) -> None:
        """Turn the loop until the call has written this."""
        self.wait_until(lambda: text in self.written(call))

    def records(self, call: Call) -> list[Record]:
        """The captured output."""
        return list(read_output(self.root, call.run_id, call.attempt))

    def written(self, call: Call, stream: Stream = Stream.STDOUT) -> bytes:
        """What was captured of one stream."""
        return b"".join(record.data for record in self.records(call) if record.stream is stream)

    def close(self) -> None:
        """End everything, and leave this process as it was."""
        self.executor.close()
        self.journal.close()
        self.loop.close()
        for each in marked_with(self.begun):  # what may be kept, and what a failed test left
            send(each, signal.SIGKILL)
        collect_orphans()
        ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # a subreaper no more


def collect_orphans() -> None:
    """Collect every dead child of this process."""
    orphans = Orphans()
    orphans.collect_dead((), 0)
    orphans.collect_dead((), UNCLAIMED)
    orphans.close()


def survivors(*calls: Call) -> list[Process]:
    """The living processes that are marked with one of these runs."""
    return marked_with({call.run_id for call in calls})


def marked_with(run_ids: Collection[str]) -> list[Process]:
    """The living processes that are marked with one of these run ids."""
    table = processes()
    marks = marks_of(table)
    return [each for each in table.values() if not each.is_dead and marks[each.pid].run_id in run_ids]


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    found = processes().get(pid)
    return found is not None and not found.is_dead


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
