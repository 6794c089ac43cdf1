"""P5: how late ticks are, from their nominal second to their committed row, seen from outside."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks.contests import Servers, Sizes
from benchmarks.measure import Contest, Entrant, Goal, Missing
from benchmarks.site import SQLITE, Site

HEAD = "backend: {backend}\nretention: {{max_runs: 1000000}}\npools: {{commands: {{slots: 1}}}}\ntasks:\n"
TASK = '  task-{number}: {{{{command: "true", schedule: every {every}, overlap: allow, enabled: true}}}}\n'
GOALS = {10: 20.0, 1_000: 50.0, 10_000: 250.0}  # schedules -> ms, p99


def p99(folder: Path, *, schedules: int) -> float:
    """Milliseconds. All schedules have their ticks at the same moments."""
    every, rounds = ("1s", 10) if schedules <= 10 else ("10s", 3) if schedules <= 1_000 else ("30s", 2)
    tasks = "".join(TASK.format(number=number, every=every) for number in range(schedules))
    site = Site(folder, text=HEAD + tasks)
    with site.serving():
        site.until_there()
        late = _watch(folder / "jobs.db", schedules * rounds)
    return statistics.quantiles(late, n=100)[98]


def _watch(database: Path, wanted: int) -> list[float]:
    """The lateness of so many rows, each when it was first seen; a look takes some microseconds."""
    late: list[float] = []
    seen, version, end = 0, -1, time.monotonic() + 150
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        while len(late) < wanted:
            if time.monotonic() > end:
                raise Missing(f"{len(late)} of {wanted} ticks in 150 s")
            now_version = connection.execute("pragma data_version").fetchone()[0]
            if now_version == version:
                time.sleep(0.001)
                continue
            version, now = now_version, time.time_ns() // 1000
            rows = connection.execute(
                "select seq, tick from runs where seq > ? order by seq", (seen,)
            ).fetchall()
            seen = rows[-1][0] if rows else seen
            late += [(now - tick) / 1000 for _, tick in rows if tick is not None]
    return late


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    _ = servers
    return [
        Contest(
            target="P5",
            name=f"lateness of a tick's row, {schedules:,} schedules at the same moments, p99",
            unit="ms",
            goal=Goal(text=f"<= {bound:.0f} ms", bound=bound),
            entrants=[
                Entrant(
                    name="jobrunner", settings=SQLITE, attempt=partial(p99, schedules=schedules), is_ours=True
                )
            ],
            more_is_better=False,
            repeat=sizes.repeat if schedules < 10_000 else 1,
            note="cron is up to a second late, huey anywhere in the minute",
        )
        for schedules, bound in GOALS.items()
    ]
