"""A supervisor's command pool in a process of its own, to be killed: `dying.py FOLDER OWNER`, calls on stdin.

Each line is a JSON object {"run_id", "command", "task"}; the words `started PID` answer each.
"""

from __future__ import annotations

import itertools
import json
import sys

from jobrunner.clock import SystemClock
from jobrunner.codec import NO_ARGUMENTS
from jobrunner.durations import Micros
from jobrunner.execution import Call
from jobrunner.execution.commands import CommandExecutor
from jobrunner.execution.journal import Journal
from jobrunner.execution.leftovers import become_subreaper
from jobrunner.loop import EventLoop
from jobrunner.model import Ended
from jobrunner.plan import Pool, PoolKind, Task


class Told:
    """A sink that prints what it is told."""

    def started(self, call: Call, at: Micros, pid: int | None) -> None:
        print(f"started {pid}", flush=True)

    def ended(self, call: Call, ended: Ended) -> None:
        print(f"ended {ended.outcome}", flush=True)


def call_of(task: Task, run_id: str, owner: str, number: int) -> Call:
    return Call(
        seq=number,
        claim_no=1,
        run_id=run_id,
        attempt=1,
        task=task,
        payload=NO_ARGUMENTS,
        trigger="enqueue",
        tick=None,
        missed=0,
        due_at=0,
        timeout=None,
        owner=owner,
    )


def main(folder: str, owner: str) -> None:
    become_subreaper()
    loop = EventLoop(SystemClock())
    pool = Pool(name="commands", kind=PoolKind.COMMAND, slots=8)
    executor = CommandExecutor(pool, loop, Told(), f"{folder}/output", Journal.opened(folder))

    numbers = itertools.count(1)

    def take() -> None:
        given = json.loads(sys.stdin.readline())
        task = Task(name="task", command=given["command"], pool="commands", **given["task"])
        executor.start([call_of(task, given["run_id"], owner, next(numbers))])

    loop.watch(sys.stdin.fileno(), read=take)
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
