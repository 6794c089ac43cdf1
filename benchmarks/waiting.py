"""How long calls that only wait take side by side, in each kind of pool: `python -m benchmarks.waiting`.

Two hundred calls that sleep for a second, through the pool alone, its worker started; and two calls that
compute, in the process pool, beside one. Wall seconds: the sleep itself is the least that is possible.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections import deque

from benchmarks.pool import Counter, calls, drain, nobody
from jobrunner.clock import SystemClock
from jobrunner.execution import Backing, Call
from jobrunner.execution.pool import ProcessPool
from jobrunner.execution.shared import SharedPool
from jobrunner.loop import EventLoop
from jobrunner.plan import Pool, PoolKind, Task

NAP = 1.0


def nap() -> None:
    """What waits, in a thread or a greenlet."""
    time.sleep(NAP)


async def nap_async() -> None:
    """What waits on an event loop."""
    await asyncio.sleep(NAP)


def compute() -> int:
    """Half a second or so of one processor."""
    return sum(number * number for number in range(5_000_000))


def some(function: str, number: int) -> list[Call]:
    """That many calls of a function of this module."""
    task = Task(name=function, call=f"benchmarks.waiting:{function}")
    return [call._replace(task=task) for call in calls(number)]


def measure(kind: PoolKind, slots: int, function: str, number: int) -> float:
    """Wall seconds for all of them."""
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
        drain(pool, loop, sink, deque(calls(2 * slots if kind is PoolKind.PROCESS else 1)))
        todo = deque(some(function, number))
        wall = time.perf_counter()
        drain(pool, loop, sink, todo)
        wall = time.perf_counter() - wall
        pool.close()
        loop.close()
    return wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--calls", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    rows = [
        (
            f"{options.calls} x 1 s asleep, {kind} {options.calls}",
            (kind, options.calls, function, options.calls),
        )
        for kind, function in (
            (PoolKind.THREAD, "nap"),
            (PoolKind.GREENLET, "nap"),
            (PoolKind.ASYNC, "nap_async"),
        )
    ]
    rows += [(f"{n} x compute, process 2", (PoolKind.PROCESS, 2, "compute", n)) for n in (1, 2)]
    for name, row in rows:
        values = [measure(*row) for _ in range(options.repeat)]
        print(f"{name:36} {statistics.median(values):8.3f} s   ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
