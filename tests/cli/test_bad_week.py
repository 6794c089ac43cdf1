"""A bad week on one screen: `history --since 7d`, and `why` for each night that was not as it should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobrunner.birth import not_run, of_tick, own_payload
from jobrunner.catalogue import entry_of
from jobrunner.durations import DAY, HOUR, MINUTE, SECOND, Micros
from jobrunner.model import NewRun, Reason, State
from jobrunner.plan import Retries, ScheduleRule
from jobrunner.storage import Pause, Tick
from tests.builders import NOON, a_task
from tests.cli.desk import Desk, Stage

FILE = """
timezone: UTC
tasks:
  backup: {command: ./backup.sh, schedule: "30 2 * * *", timeout: 2h, retries: 1}
"""
RULE = ScheduleRule(
    key="backup|nightly", source="30 2 * * *", timezone="UTC", text="30 2 * * *", words="02:30 every day"
)
BACKUP = a_task("backup", schedules=(RULE,), timeout=2 * HOUR, retries=Retries(max=1))
MONDAY = NOON - 9 * HOUR - 30 * MINUTE  # 2026-11-23T02:30Z, the last night of the week
SCREEN = 24  # lines of a terminal


class Week:
    """Seven nights, each as it went."""

    def __init__(self, theatre: Stage) -> None:
        self._theatre = theatre
        [self._mark] = theatre.storage.watermarks({RULE.key: None}, MONDAY - 7 * DAY).values()

    def runs(self, night: Micros, *, missed: int = 0) -> None:
        """The tick of this night becomes a run."""
        self._account(self._row(night, missed=missed))

    def does_not_run(
        self, night: Micros, reason: Reason, *, told: Micros | None = None, **detail: object
    ) -> None:
        """Its row is written `told`, or at once."""
        row = not_run(self._row(night), reason, detail=detail)
        self._account(row._replace(created_at=night if told is None else told))

    def ends(self, at: Micros, state: State, outcome: str, **changes: object) -> None:
        """The run that is due begins ten seconds after `at`, and ends so."""
        self._theatre.now = at + 10 * SECOND
        [claim] = self._theatre.exchange()
        given = {"started_at": at + 10 * SECOND, "ended_at": at + 5 * MINUTE, **changes}
        self._theatre.ended(claim, state, outcome, **given)

    def _row(self, night: Micros, *, missed: int = 0) -> NewRun:
        entry = entry_of(BACKUP)
        return of_tick(
            entry,
            schedule=RULE.key,
            tick=night,
            now=night,
            due_at=night,
            payload=own_payload(entry),
            missed=missed,
        )

    def _account(self, run: NewRun) -> None:
        assert run.tick is not None
        [verdict] = self._theatre.storage.tick([Tick(RULE.key, self._mark, run.tick, None, run)])
        assert verdict.accounted
        self._mark = verdict.watermark


@pytest.fixture
def week(desk: Desk, stage: Callable[..., Stage]) -> Desk:
    (desk.folder / "jobs.yaml").write_text(FILE)
    theatre = stage(BACKUP, timezone="UTC")
    nights = [MONDAY - days * DAY for days in (6, 5, 4, 3, 2, 1, 0)]
    story = Week(theatre)
    story.runs(nights[0])
    story.ends(nights[0], State.SUCCEEDED, "ok", exit_code=0)
    story.runs(nights[1])
    story.ends(nights[1], State.FAILED, "timeout", ended_at=nights[1] + 2 * HOUR + 10 * SECOND)
    story.runs(nights[2])
    story.ends(nights[2], State.RETRYING, "exit 1", exit_code=1, due_at=nights[2] + 6 * MINUTE)
    story.ends(nights[2] + 6 * MINUTE, State.SUCCEEDED, "ok", exit_code=0, failures=1)
    theatre.now = nights[3] - HOUR
    holder = theatre.has_run("backup", started_at=nights[3] - HOUR, ended_at=nights[3] + HOUR)
    story.does_not_run(nights[3], Reason.OVERLAP, holder=holder)
    pause = Pause(
        target="task:backup",
        since=nights[4] - HOUR,
        until=nights[4] + HOUR,
        by="ana",
        reason="the disk is changed",
    )
    story.does_not_run(nights[4], Reason.PAUSED, pause=pause._asdict())
    story.does_not_run(nights[5], Reason.MISSED_DOWN, told=nights[6])
    story.runs(nights[6], missed=2)
    story.ends(MONDAY + 6 * HOUR, State.SUCCEEDED, "ok", exit_code=0)
    desk.clock.at = NOON
    return desk


def test_the_whole_story_fits_on_one_screen(week: Desk) -> None:
    answer = week("history", "backup", "--since", "7d")
    lines = answer.out.splitlines()
    assert (answer.code, len(lines)) == (0, 9)
    assert len(lines) < SCREEN
    told = [line for line in lines if "2026-11" in line]
    assert len(told) == 8  # seven nights, and the run by hand
    for words in ("missed (supervisor down)", "paused", "overlap", "timeout", "catch-up"):
        assert any(words in line for line in lines), words


@pytest.mark.parametrize(
    ("night", "words"),
    [
        ("2026-11-18T02:30", ("took 2 h", "timeout")),
        ("2026-11-19T02:30", ("ok at attempt 2", "Attempt 1 of", "ended with: exit 1")),
        ("2026-11-20T02:30", ("skipped (overlap)", "was not final; it ended at 2026-11-20 03:30")),
        (
            "2026-11-21T02:30",
            ("skipped (paused)", "paused by ana since 2026-11-21 01:30, until 2026-11-21 03:30"),
        ),
        ("2026-11-22T02:30", ("missed (supervisor down)", "caught up for it")),
        ("2026-11-23T02:30", ("started", "stands for 2 missed ticks")),
    ],
)
def test_why_tells_of_each_night(week: Desk, night: str, words: tuple[str, ...]) -> None:
    answer = week("why", "backup", "--at", night)
    assert answer.code == 0
    for each in words:
        assert each in answer.out, answer.out
