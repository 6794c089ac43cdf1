"""P5: how late ticks are: their committed row, and the start of their command."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks import minute, rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.crew import Crew
from benchmarks.measure import Contest, Entrant, Goal, Missing
from benchmarks.site import SQLITE, Site

HEAD = "backend: {backend}\nretention: {{max_runs: 1000000}}\npools: {{commands: {{slots: 1}}}}\ntasks:\n"
TASK = '  task-{number}: {{{{command: "true", schedule: every {every}, overlap: allow}}}}\n'
GOALS = {10: 20.0, 1_000: 50.0, 10_000: 250.0}  # schedules -> ms, p99
STARTING = "backend: {backend}\npools: {{commands: {{slots: 20}}}}\ntasks:\n"
START = (
    '  task-{number}: {{{{command: "date +%s%N >> {{folder}}/begun", schedule: every 1s, overlap: allow}}}}\n'
)
JOBS = minute.JOBS


def p99(late: Sequence[float]) -> float:
    return statistics.quantiles(late, n=100)[98]


def rows(folder: Path, *, schedules: int) -> float:
    """Milliseconds from the tick to its committed row, p99. All schedules tick at the same moments."""
    every, rounds = ("1s", 10) if schedules <= 10 else ("10s", 3) if schedules <= 1_000 else ("30s", 2)
    tasks = "".join(TASK.format(number=number, every=every) for number in range(schedules))
    site = Site(folder, text=HEAD + tasks)
    with site.serving() as crew:
        site.until_there()
        return p99(_watch(folder / "jobs.db", schedules * rounds, crew))


def _watch(database: Path, wanted: int, crew: Crew) -> list[float]:
    """The lateness of so many rows, each when it was first seen; a look takes some microseconds."""
    late: list[float] = []
    seen, version, end = 0, -1, time.monotonic() + 120
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        while len(late) < wanted:
            crew.check()
            if time.monotonic() > end:
                raise Missing(f"{len(late)} of {wanted} ticks in 120 s")
            now_version = connection.execute("pragma data_version").fetchone()[0]
            if now_version == version:
                time.sleep(0.001)
                continue
            version, now = now_version, time.time_ns() // 1000
            found = connection.execute(
                "select seq, tick from runs where seq > ? order by seq", (seen,)
            ).fetchall()
            seen = found[-1][0] if found else seen
            late += [(now - tick) / 1000 for _, tick in found if tick is not None]
    return late


def starts(folder: Path, *, rounds: int) -> float:
    """Milliseconds from the second to the start of the ten commands of that second, p99."""
    site = Site(folder, text=STARTING + "".join(START.format(number=number) for number in range(JOBS)))
    begun, end = folder / "begun", time.monotonic() + rivals.PATIENCE
    with site.serving() as crew:
        while not begun.exists() or begun.read_text().count("\n") < JOBS * rounds:
            crew.check()
            if time.monotonic() > end:
                raise Missing("not all commands began")
            time.sleep(0.1)
    moments = [int(line) for line in begun.read_text().splitlines()]
    return p99([moment % 1_000_000_000 / 1e6 for moment in moments])


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    _ = servers
    of_rows = [_of_rows(schedules, bound, sizes) for schedules, bound in GOALS.items()]
    return [*(of_rows[:1] if sizes.is_tiny else of_rows), _of_starts(sizes)]


def _of_rows(schedules: int, bound: float, sizes: Sizes) -> Contest:
    mine = Entrant(
        name="jobrunner", settings=SQLITE, attempt=partial(rows, schedules=schedules), is_ours=True
    )
    return Contest(
        target="P5",
        name=f"lateness of a tick's row, {schedules:,} schedules at the same moments, p99",
        unit="ms",
        goal=Goal(text=f"<= {bound:.0f} ms", bound=bound),
        entrants=[mine],
        more_is_better=False,
        repeat=1 if schedules >= 10_000 else min(2, sizes.repeat),
        note="seen from another process, which looks each millisecond",
    )


def _of_starts(sizes: Sizes) -> Contest:
    mine = Entrant(
        name="jobrunner, every second",
        settings=SQLITE,
        attempt=partial(starts, rounds=2 if sizes.is_tiny else 10),
        is_ours=True,
    )
    peers = [
        Entrant(name=f"{name}, every minute", settings="", attempt=partial(_latest, name=name))
        for name in minute.PROGRAMS
    ]
    return Contest(
        target="P5",
        name=f"from the tick to the start of its command, {JOBS} at a time, p99",
        unit="ms",
        goal=Goal(text="<= 20 ms, ahead of the others", bound=20.0, is_ahead=True),
        entrants=[mine, *([] if sizes.is_tiny else peers)],
        more_is_better=False,
        repeat=1,
        note="the others tick once a minute, watched through the same one; the last of ten counts",
    )


def _latest(_folder: Path, *, name: str) -> float:
    return minute.latest(name)
