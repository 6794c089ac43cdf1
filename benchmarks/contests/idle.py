"""P6: what a supervisor takes that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.measure import Contest, Entrant, Goal, Missing
from benchmarks.site import SQLITE, Site, proc_cpu, proc_memory, proc_wakes

REST = 30.0  # seconds of observation, after
SETTLE = 8.0  # seconds in which a start calms down
HEAD = "backend: {backend}\ntasks:\n"
TASK = '  task-{number}: {{{{command: "true", schedule: "{minute} 3 1 1 *"}}}}\n'
WHAT: tuple[tuple[str, str, Callable[[dict[str, float]], float]], ...] = (
    ("processor", "% of a core", lambda rest: rest["cpu"]),
    ("wake-ups", "per second", lambda rest: rest["wakes"]),
    ("memory", "MiB resident", lambda rest: rest["memory"]),
)
GOALS = {10: (0.1, 2.0, 30.0), 1_000: (0.1, 2.0, 50.0)}


def observe(pid: int) -> dict[str, float]:
    time.sleep(SETTLE)
    cpu, wakes, began = proc_cpu(pid), proc_wakes(pid), time.monotonic()
    time.sleep(REST)
    took = time.monotonic() - began
    return {
        "cpu": (proc_cpu(pid) - cpu) / took * 100,
        "wakes": (proc_wakes(pid) - wakes) / took,
        "memory": proc_memory(pid),
    }


@cache
def ours(tasks: int, repetition: int) -> dict[str, float]:
    """The figures of one repetition; each is looked at by three contests."""
    _ = repetition
    text = HEAD + "".join(TASK.format(number=number, minute=number % 60) for number in range(tasks))
    with TemporaryDirectory(prefix="jobrunner-idle-") as folder:
        site = Site(Path(folder), text=text)
        with site.serving() as pid:
            site.until_there()
            return observe(pid)


@cache
def huey(repetition: int) -> dict[str, float]:
    _ = repetition
    with TemporaryDirectory(prefix="jobrunner-idle-") as folder:
        rivals.new_tally(Path(folder))
        with rivals.serving(rivals.HUEY_SQLITE, Path(folder), {}) as pids:
            return observe(pids[0])


class Turns:
    """One figure of each repetition in turn."""

    def __init__(self, source: Callable[[int], dict[str, float]], pick: Callable[[dict[str, float]], float]):
        self._source, self._pick, self._next = source, pick, 0

    def __call__(self, folder: Path) -> float:
        _ = folder
        self._next += 1
        try:
            return self._pick(self._source(self._next))
        except FileNotFoundError as error:
            raise Missing(str(error)) from error


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    _ = servers
    found = []
    for tasks, bounds in GOALS.items():
        for (what, unit, pick), bound in zip(WHAT, bounds, strict=True):
            mine = Entrant(
                name="jobrunner", settings=SQLITE, attempt=Turns(partial(ours, tasks), pick), is_ours=True
            )
            peer = Entrant(name="huey SqliteHuey", settings=rivals.FSYNC, attempt=Turns(huey, pick))
            found.append(
                Contest(
                    target="P6",
                    name=f"idle with {tasks:,} tasks: {what}",
                    unit=unit,
                    goal=Goal(text=f"<= {bound:g}", bound=bound),
                    entrants=[mine, peer] if tasks == 10 else [mine],
                    more_is_better=False,
                    repeat=min(2, sizes.repeat),
                )
            )
    return found
