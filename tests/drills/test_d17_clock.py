"""D17: a wall clock that is stepped, a machine that sleeps or is off, both nights in which the clocks change.

With libfaketime a real supervisor sees another wall clock, while time itself passes as ever. With a clock
handed in, whole nights pass in a moment. Full form: 20 steps instead of 4.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from jobrunner.clock import SystemClock
from jobrunner.durations import DAY, HOUR, MINUTE, SECOND, Micros, to_micros
from jobrunner.janitor import ClockWatch
from jobrunner.model import Ended, Ending, Run, State
from jobrunner.plan import ScheduleRule, Task
from jobrunner.schedule import Schedule
from jobrunner.scheduler import Scheduler
from jobrunner.storage import RunFilter
from jobrunner.timetable import timetables
from tests.builders import a_task
from tests.docs.daylight import PLACES, Night, facts, local, window
from tests.live import LiveSupervisor, Project, clean_environment, wait_until
from tests.stage import Stage

from .checker import client, enqueue, finished

# Python sleeps until a moment of the monotonic clock; libfaketime 0.9.10 takes it for one of the faked clock.
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
LIBRARY = "faketime/libfaketime.so.1"
CLOCK = SystemClock()


# ---- what holds, whatever the clock did ------------------------------------------------------------------


def size(run: Run) -> int:
    """How many ticks a row accounts for."""
    return int(json.loads(run.detail or "{}").get("count", 1))


def first_tick(run: Run) -> Micros:
    return int(json.loads(run.detail or "{}").get("from", run.tick))


def each_tick_has_one_row(rows: list[Run], schedule: Schedule) -> None:
    """I6, rule 6: the rows, by tick, account for every tick between the first and the last exactly once."""
    rows = sorted(rows, key=lambda run: run.tick or 0)
    for before, after in pairwise(rows):
        assert before.tick is not None
        assert schedule.next_us(before.tick) == first_tick(after), "a tick without a row, or with two"
    for row in rows:
        assert row.tick is not None
        assert size(row) == schedule.count_us(first_tick(row) - 1, row.tick)


def catch_up_is_told(rows: list[Run], schedule: Schedule) -> None:
    """Rule 9, `one`: the latest of a gap runs for all, and says for how many."""
    last: Micros | None = None
    for row in sorted(rows, key=lambda run: run.tick or 0):
        if row.state is State.SKIPPED:
            assert row.reason in ("missed (clock)", "missed (supervisor down)", "missed (suspended)")
            continue
        assert row.tick is not None
        if row.missed and last is not None:
            assert row.missed == schedule.count_us(last, row.tick)
        last = row.tick


# ---- a real supervisor, another wall clock ---------------------------------------------------------------


@dataclass
class Wall:
    """The wall clock of whoever runs with `environ`; `offset` is how far it is from the real one."""

    file: Path
    library: Path
    offset: Micros = 0

    def __post_init__(self) -> None:
        self.step(0)

    def step(self, by: Micros) -> None:
        self.offset += by
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{self.offset / SECOND:+.6f}\n")
        fresh.rename(self.file)

    def set_to(self, moment: str) -> None:
        self.step(to_micros(datetime.fromisoformat(moment)) - self.now())

    def now(self) -> Micros:
        return CLOCK.now() + self.offset

    def environ(self, home: Path) -> dict[str, str]:
        folder = home / "python"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(SLEEP)
        found = clean_environment(home)
        return {
            **found,
            "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), found.get("PYTHONPATH")))),
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@dataclass
class Site:
    """A project on a machine with such a clock."""

    project: Project
    wall: Wall
    started: list[LiveSupervisor] = field(default_factory=list)

    def start(self) -> LiveSupervisor:
        made = LiveSupervisor(self.project.file, env=self.wall.environ(self.project.folder))
        self.started.append(made)
        made.wait_for("ready")
        return made

    def rows(self, task: str) -> list[Run]:
        """The rows of ticks, in the order of ticks."""
        with client(self.project) as storage:
            runs = storage.runs(RunFilter(tasks=(task,), limit=100_000))
        return sorted((run for run in runs if run.tick is not None), key=lambda run: run.tick or 0)

    def wait_for_tick(self, task: str, instant: Micros) -> None:
        """Until the ticks up to this instant are accounted for, and their runs final."""

        def there() -> bool:
            rows = self.rows(task)
            return bool(rows) and (rows[-1].tick or 0) >= instant and rows[-1].state.is_final

        wait_until(there, self.started[-1].log)


@pytest.fixture
def site(project: Project) -> Iterator[Site]:
    library = next(Path("/usr/lib").glob(f"*/{LIBRARY}"), None)
    if library is None:
        said = "no libfaketime: apt-get install libfaketime"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    made = Site(project, Wall(project.folder / "offset", library))
    yield made
    for each in made.started:
        with suppress(ProcessLookupError):
            each.close()


@pytest.mark.drill
def test_d17_steps_of_hours_leave_no_tick_out_and_repeat_none(site: Site, full_drills: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    site.project.write('tasks:\n  beat: {command: "true", schedule: every 2s, overlap: allow}\n')
    supervisor = site.start()
    site.wait_for_tick("beat", site.wall.now())
    furthest = site.wall.now()
    steps = [chance.choice((1, -1, 4, -4)) * HOUR for _ in range(20 if full_drills else 4)]
    for step in [*steps, None]:
        site.wall.step(furthest + 8 * HOUR - site.wall.now() if step is None else step)
        if site.wall.now() > furthest + 2 * MINUTE:
            furthest = site.wall.now()
            site.wait_for_tick("beat", furthest - 2 * SECOND)
        else:
            before = len(site.rows("beat"))
            with client(site.project) as storage:
                finished(storage, enqueue(storage, "beat", [{}]))  # it works, and waits for its mark
            assert len(site.rows("beat")) == before, "a tick of a time that was accounted for"
    assert supervisor.stop() == 0
    rows, schedule = site.rows("beat"), Schedule.parse("every 2s", "UTC")
    each_tick_has_one_row(rows, schedule)
    catch_up_is_told(rows, schedule)
    assert {run.reason for run in rows if run.state is State.SKIPPED} == {"missed (clock)"}


@pytest.mark.drill
def test_d17_the_night_in_spring(site: Site) -> None:
    # rule 3: a fixed time inside the gap fires at the instant the gap ends, once; a wildcard one not at all
    site.project.write("""
timezone: America/New_York
tasks:
  fixed: {command: "true", schedule: "0,30 2 * * *"}
  wildcard: {command: "true", schedule: "*/20 2 * * *"}
""")
    site.wall.set_to("2026-03-08T06:30:00+00:00")
    supervisor = site.start()
    site.wall.set_to("2026-03-08T06:59:57+00:00")
    supervisor.wait_for("attempt", task="fixed", state="succeeded")
    supervisor.stop()
    assert [run.tick for run in site.rows("fixed")] == [
        to_micros(datetime.fromisoformat("2026-03-08T07:00Z"))
    ]
    assert site.rows("wildcard") == []


@pytest.mark.drill
def test_d17_the_night_in_autumn(site: Site) -> None:
    # rule 3: a fixed time fires in the first pass of a repeated hour only, restarts or not
    site.project.write("""
timezone: America/New_York
tasks:
  fixed: {command: "true", schedule: "30 1 * * *"}
  wildcard: {command: "true", schedule: "30 * * * *"}
""")
    site.wall.set_to("2026-11-01T05:05:00+00:00")
    first = site.start()
    site.wall.set_to("2026-11-01T05:29:57+00:00")
    for task in ("fixed", "wildcard"):
        first.wait_for("attempt", task=task, state="succeeded")
    first.stop()
    site.wall.set_to("2026-11-01T06:05:00+00:00")
    second = site.start()
    site.wall.set_to("2026-11-01T06:29:57+00:00")
    second.wait_for("attempt", task="wildcard", state="succeeded")
    second.stop()
    passes = [to_micros(datetime.fromisoformat(f"2026-11-01T0{hour}:30Z")) for hour in (5, 6)]
    assert [run.tick for run in site.rows("wildcard")] == passes
    assert [run.tick for run in site.rows("fixed")] == passes[:1]


@pytest.mark.drill
def test_d17_after_three_days_off_one_run_stands_for_all(site: Site) -> None:
    # rule 9: JOBRUNNER_MISSED is the number of missed ticks that it stands for, itself included
    site.project.write("""
timezone: UTC
tasks:
  daily:
    command: echo "$JOBRUNNER_MISSED $JOBRUNNER_SCHEDULED_AT" >> told
    schedule: "0 12 * * *"
    notify: {on: [missed, late], command: cat >> notices}
""")
    site.wall.set_to("2026-06-01T11:00:00+00:00")
    first = site.start()
    site.wall.set_to("2026-06-01T11:59:57+00:00")
    first.wait_for("attempt", task="daily")
    first.stop()
    site.wall.set_to("2026-06-04T14:00:00+00:00")
    second = site.start()
    second.wait_for("attempt", task="daily", trigger="catch-up", state="succeeded")
    second.stop()  # which sends what is due
    notices = [json.loads(line) for line in (site.project.folder / "notices").read_text().splitlines()]
    assert sorted(each["text"] for each in notices) == [
        "daily did not run: missed (supervisor down)",
        "daily did not run: missed (supervisor down)",
        "daily runs late: 3 ticks were missed",
    ]
    told = (site.project.folder / "told").read_text().splitlines()
    assert told == ["0 2026-06-01T12:00:00+00:00", "3 2026-06-04T12:00:00+00:00"]
    rows, schedule = site.rows("daily"), Schedule.parse("0 12 * * *", "UTC")
    each_tick_has_one_row(rows, schedule)
    catch_up_is_told(rows, schedule)
    assert [run.state for run in rows] == [State.SUCCEEDED, *[State.SKIPPED] * 2, State.SUCCEEDED]


# ---- a clock that is handed in ---------------------------------------------------------------------------


def timed(expression: str, zone: str, **changes: object) -> Task:
    rule = ScheduleRule(key=expression, source=expression, timezone=zone, text=expression, words=expression)
    return a_task(expression.replace(" ", "_"), schedules=(rule,), **changes)


class Handed:
    """Scheduler and dispatcher on a storage in memory; every run succeeds at once, by a hand-moved clock."""

    def __init__(self, at: Micros, *tasks: Task) -> None:
        self.stage = Stage(*tasks)
        self.stage.clock.wall = at
        self.stage.executor.at_once = Ended(Ending.OK, started_at=at, ended_at=at)
        self.scheduler = self._scheduler()

    def _scheduler(self) -> Scheduler:
        stage = self.stage
        watch = ClockWatch(stage.clock)

        def look() -> None:
            reason = watch.look()
            if reason is not None:
                made.jumped(reason)

        made = Scheduler(
            loop=stage.loop,
            storage=stage.storage,
            service=stage.service,
            emit=stage.events.append,
            trouble=stage.trouble,
            pauses_of=lambda _task: (),
            look_at_clock=look,
            on_added=stage.dispatcher.wake,
            on_lost=stage._lose,
        )
        made.start(timetables(stage.plan, stage.memory, "boot", stage.clock.now()))
        stage.turns(20)
        return made

    def restart(self) -> None:
        self.scheduler.stop()
        self.scheduler = self._scheduler()

    def passes(self, time: Micros, *, by: Micros = 30 * SECOND) -> None:
        for _ in range(time // by):
            self.stage.clock.passes(by)
            self.stage.turns(6)

    def rows(self, task: Task) -> list[Run]:
        runs = self.stage.memory.runs(RunFilter(tasks=(task.name,), limit=100_000))
        return sorted(runs, key=lambda run: run.tick or 0)


@pytest.fixture
def handed() -> Iterator[Callable[..., Handed]]:
    made: list[Handed] = []

    def make(at: Micros, *tasks: Task) -> Handed:
        made.append(Handed(at, *tasks))
        return made[-1]

    yield make
    for each in made:
        each.stage.close()


NIGHTS = [(place.zone, night) for place in PLACES for night in place.nights]


@pytest.mark.drill
@pytest.mark.parametrize(("zone", "night"), NIGHTS, ids=[f"{zone}-{night.name}" for zone, night in NIGHTS])
def test_d17_a_whole_night_passes_as_cron_has_it(
    handed: Callable[..., Handed], zone: str, night: Night
) -> None:
    start, end = window(night)
    tasks = [timed(expression, zone) for expression in night.expressions]
    site = handed(start - 1, *tasks)
    site.passes(end - start, by=MINUTE // 2)
    for task, expression in zip(tasks, night.expressions, strict=True):
        rows = [run for run in site.rows(task) if (run.tick or 0) < end]
        cron = facts()[zone][night.name][expression]
        assert [local(run.tick or 0, zone) for run in rows] == list(dict.fromkeys(cron)), expression
        assert {run.state for run in rows} <= {State.SUCCEEDED}


@pytest.mark.drill
def test_d17_a_suspend_of_eight_hours_is_a_miss_with_its_reason(handed: Callable[..., Handed]) -> None:
    # rule 5 and rule 9; I12: no storm after a resume
    task = timed("*/5 * * * *", "UTC")
    site = handed(to_micros(datetime.fromisoformat("2026-06-01T00:00:30Z")), task)
    site.passes(20 * MINUTE)
    site.stage.clock.suspends(8 * HOUR)
    site.passes(20 * MINUTE)
    rows, schedule = site.rows(task), Schedule.parse("*/5 * * * *", "UTC")
    each_tick_has_one_row(rows, schedule)
    catch_up_is_told(rows, schedule)
    assert [run.reason for run in rows if run.state is State.SKIPPED] == ["missed (suspended)"]
    assert [run.missed for run in rows if run.missed] == [96]


@pytest.mark.drill
@pytest.mark.parametrize("hours", [1, -1, 4, -4])
def test_d17_a_step_of_hours(handed: Callable[..., Handed], hours: int) -> None:
    # rule 5: a step back repeats no tick; a step forward of more than 60 s is a miss with its reason
    task = timed("*/5 * * * *", "UTC")
    site = handed(to_micros(datetime.fromisoformat("2026-06-01T06:00:30Z")), task)
    site.passes(20 * MINUTE)
    site.stage.clock.steps(hours * HOUR)
    site.passes(20 * MINUTE)
    if hours < 0:
        assert len(site.rows(task)) == 4
        site.passes(-hours * HOUR)
    rows, schedule = site.rows(task), Schedule.parse("*/5 * * * *", "UTC")
    each_tick_has_one_row(rows, schedule)
    catch_up_is_told(rows, schedule)
    skipped = {run.reason for run in rows if run.state is State.SKIPPED}
    assert skipped == ({"missed (clock)"} if hours > 0 else set())


@pytest.mark.drill
def test_d17_a_start_before_the_clock_was_set_is_followed_by_no_storm(handed: Callable[..., Handed]) -> None:
    # rule 6: a gap of years is counted, not looped over; I12: one run each
    seldom, often = timed("*/5 * * * *", "UTC"), timed("* * * * *", "UTC")
    site = handed(to_micros(datetime.fromisoformat("2020-01-01T00:00:30Z")), seldom, often)
    site.passes(10 * MINUTE)
    site.stage.clock.steps(2400 * DAY)
    site.passes(10 * MINUTE)
    for task in (seldom, often):
        rows, schedule = site.rows(task), Schedule.parse(task.schedules[0].source, "UTC")
        each_tick_has_one_row(rows, schedule)
        catch_up_is_told(rows, schedule)
        assert sum(run.state is State.SKIPPED for run in rows) == 1
        assert sum(bool(run.missed) for run in rows) == 1


@pytest.mark.drill
def test_d17_three_days_off(handed: Callable[..., Handed]) -> None:
    # rule 10: more than ten misses are one row
    daily, often = timed("0 12 * * *", "UTC"), timed("*/5 * * * *", "UTC")
    site = handed(to_micros(datetime.fromisoformat("2026-06-01T11:50:30Z")), daily, often)
    site.passes(20 * MINUTE)
    site.stage.clock.passes(3 * DAY)
    site.restart()
    site.passes(20 * MINUTE)
    for task, missed in ((daily, 3), (often, 3 * 288)):
        rows, schedule = site.rows(task), Schedule.parse(task.schedules[0].source, "UTC")
        each_tick_has_one_row(rows, schedule)
        catch_up_is_told(rows, schedule)
        assert [run.missed for run in rows if run.missed] == [missed]
