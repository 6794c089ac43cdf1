"""Several supervisors on one storage: what D14 does and asserts, whatever the storage is."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path

from jobrunner.durations import SECOND
from jobrunner.model import Run, State
from jobrunner.storage import RunFilter, Storage, open_storage
from tests.drills.checker import MARKS, check, enqueue, marks
from tests.live import Project, wait_until

SLOTS = 2
DEPTH = 256  # calls that a supervisor may have given out and not yet settled, beside those in its slots
BATCH = 100
PATIENCE = 900.0  # seconds, for the whole
MOST_GROWTH = 15 * 1024  # KiB that a supervisor may grow by, from the middle to the end

FILE = """
backend: "{url}"
pools:
  default: {{kind: process, slots: {slots}}}
tasks:
  work: {{call: "marked:work", max_crashes: 1000}}
"""
TICKER = """
  tick{number:02}: {{call: "marked:work", schedule: every 1s, overlap: allow, max_crashes: 1000}}
"""


def side_by_side(
    project: Project, url: str, *, supervisors: int, schedules: int, ticks: int, runs: int
) -> None:
    """So many supervisors, ticks of as many schedules as said, and runs by hand; one is killed in the middle.

    Every run and every tick once; what the killed one had begun is begun again, and nothing else is.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}, {supervisors} supervisors on {url}")
    chance = random.Random(seed)
    project.write(MARKS, "marked.py")
    tickers = "".join(TICKER.format(number=number) for number in range(schedules))
    project.write(FILE.format(url=url, slots=SLOTS) + tickers)
    living = [project.start() for _ in range(supervisors)]
    ids: list[str] = []
    with closing(open_storage(url, create=False)) as storage:
        victim = chance.choice(living)
        for place in range(0, runs, BATCH):
            if place >= runs // 2 and victim.process.poll() is None:
                victim.kill()
            ids += enqueue(storage, "work", [{}] * min(BATCH, runs - place))
            threading.Event().wait(0.02)
        living.remove(victim)
        before = [resident(supervisor.pid) for supervisor in living]
        wait_until(lambda: ticks_of(storage, ticks) is not None, lambda: "too few ticks", PATIENCE)
        wait_until(lambda: is_done(storage), lambda: "runs are left", PATIENCE)
        grown = [resident(each.pid) - size for each, size in zip(living, before, strict=True)]
        print(f"memory: {[size // 1024 for size in before]} MB, grown by {[kib // 1024 for kib in grown]} MB")
        assert max(grown) <= MOST_GROWTH
        for supervisor in living:
            supervisor.stop()
        wait_until_settled(project, storage)
        told(project, storage, ids, ticks)


def is_done(storage: Storage) -> bool:
    """Whether nothing that was enqueued by hand waits or runs."""
    return not storage.runs(RunFilter(tasks=("work",), states=(State.QUEUED, State.RUNNING), limit=1))


def resident(pid: int) -> int:
    """KiB of memory that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def ticks_of(storage: Storage, least: int) -> list[Run] | None:
    """The runs of ticks, when there are so many of them."""
    runs = storage.runs(RunFilter(triggers=("schedule", "catch-up"), limit=least + 10_000))
    return runs if len(runs) >= least else None


def wait_until_settled(project: Project, storage: Storage) -> None:
    """One more supervisor does what is left, without new ticks."""
    last = project.start("--drain", "--no-schedule")
    assert last.wait(PATIENCE) == 0


def told(project: Project, storage: Storage, ids: Sequence[str], ticks: int) -> None:
    """Compare what was promised with what was done."""
    ticked = ticks_of(storage, ticks) or []
    by_hand = [storage.run(run_id) for run_id in ids]
    seen = marks(project)
    verdict = check([*ids, *(run.id for run in ticked)], [*by_hand, *ticked], seen)
    most = SLOTS + DEPTH
    print(f"{len(ticked)} ticks, {len(ids)} runs, {len(verdict.lost)} lost, {verdict.repeated} repeated")
    assert (verdict.lost, verdict.unexpected, verdict.after_success) == (set(), set(), set())
    assert verdict.repeated <= most  # I5: only what the killed one had begun and not settled
    assert {run.state for run in by_hand} == {State.SUCCEEDED}
    every_tick_once(ticked)


def every_tick_once(ticked: Sequence[Run]) -> None:
    """One row for each second of each schedule, from its first tick to its last (I6)."""
    places = Counter((run.schedule, run.tick) for run in ticked)
    assert {place: number for place, number in places.items() if number > 1} == {}
    by_schedule: dict[str | None, list[int]] = {}
    for run in ticked:
        by_schedule.setdefault(run.schedule, []).append(run.tick or 0)
    for schedule, moments in by_schedule.items():
        steps = {later - sooner for sooner, later in pairwise(sorted(moments))}
        assert steps <= {SECOND}, schedule
