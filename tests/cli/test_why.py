"""`jobrunner why`: the story of a tick, from its row."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from jobrunner.birth import not_run, of_tick, own_payload
from jobrunner.catalogue import entry_of
from jobrunner.durations import DAY, HOUR, MINUTE, SECOND, Micros
from jobrunner.model import NewRun, Reason, State
from jobrunner.plan import ScheduleRule, Task
from jobrunner.storage import Pause, Tick
from tests.builders import NOON, a_run, a_task
from tests.cli.desk import Answer, Desk, Stage

FILE = """
timezone: UTC
tasks:
  backup: {command: "true", schedule: "0 * * * *"}
  resize: {command: "true"}
"""
RULE = ScheduleRule(
    key="backup|hourly", source="0 * * * *", timezone="UTC", text="0 * * * *", words="every hour"
)
BACKUP = a_task("backup", schedules=(RULE,))


@pytest.fixture
def theatre(desk: Desk, stage: Callable[..., Stage]) -> Stage:
    (desk.folder / "jobs.yaml").write_text(FILE)
    return stage(BACKUP, a_task("resize"))


def row(tick: Micros, task: Task = BACKUP, *, missed: int = 0) -> NewRun:
    entry = entry_of(task)
    return of_tick(
        entry, schedule=RULE.key, tick=tick, now=NOON, due_at=tick, payload=own_payload(entry), missed=missed
    )


def accounted(theatre: Stage, *runs: NewRun) -> None:
    """Write the rows of these ticks, oldest first."""
    [mark] = theatre.storage.watermarks({RULE.key: None}, NOON - 30 * DAY).values()
    for run in runs:
        tick = run.tick or 0
        [verdict] = theatre.storage.tick([Tick(RULE.key, mark, max(tick, mark + 1), None, run)])
        assert verdict.accounted
        mark = verdict.watermark


def why(desk: Desk, *arguments: str) -> Answer:
    answer = desk("why", *arguments)
    assert (answer.code, answer.err) == (0, ""), answer
    return answer


def test_a_tick_that_ran_says_when_and_how_long(desk: Desk, theatre: Stage) -> None:
    accounted(theatre, row(NOON))
    [claim] = theatre.exchange()
    theatre.ended(claim)
    desk.clock.at = NOON + MINUTE
    assert why(desk, "backup", "--at", "today 12:00").out.splitlines() == [
        "12:00 matches the schedule (every hour, UTC).",
        f"Run {claim.id[-8:]} started 12:00 and took 2 s: ok.",
    ]


def test_an_overlap_names_its_holder_and_when_that_ended(desk: Desk, theatre: Stage) -> None:
    holder = theatre.has_run("backup")
    accounted(theatre, not_run(row(NOON), Reason.OVERLAP, detail={"holder": holder}))
    lines = why(desk, "backup", "--at", "12:00").out.splitlines()
    assert lines[1] == "No run: skipped (overlap)."
    assert lines[2] == f"Run {holder[-8:]}, started 12:00, was not final; it ended at 12:00:02."


def test_a_tick_inside_a_gap_finds_the_row_of_the_gap_and_what_caught_up(desk: Desk, theatre: Stage) -> None:
    detail = {"from": NOON - 20 * HOUR, "to": NOON - 2 * HOUR, "count": 19}
    fold = not_run(row(NOON - 2 * HOUR), Reason.MISSED_DOWN, detail=detail)
    accounted(theatre, fold, row(NOON - HOUR, missed=20))
    document = why(desk, "backup", "--at", "2026-11-23T03:00", "--json").document
    assert (document["verdict"], document["reason"]) == ("did not run", "missed (supervisor down)")
    assert "one of 19 ticks from 2026-11-22 16:00 to 10:00" in document["explanation"]
    assert "caught up for it, with the tick of 11:00" in document["explanation"]


def test_without_a_time_it_is_about_the_latest_tick(desk: Desk, theatre: Stage) -> None:
    accounted(theatre, row(NOON - HOUR), row(NOON))
    for claim in theatre.exchange():
        theatre.ended(claim)
    desk.clock.at = NOON + 20 * SECOND
    document = why(desk, "backup", "--json").document
    assert (document["verdict"], document["tick"]) == ("ran", "2026-11-23T12:00:00Z")


def test_a_moment_without_a_tick_says_so(desk: Desk, theatre: Stage) -> None:
    document = why(desk, "backup", "--at", "11:30", "--json").document
    assert (document["verdict"], document["tick"]) == ("no tick", None)
    assert document["explanation"].endswith("Its tick before that was 11:00.")


def test_a_tick_to_come_of_a_paused_task_says_what_will_happen(desk: Desk, theatre: Stage) -> None:
    theatre.storage.pause(Pause(target="task:backup", since=NOON, until=None, by="ana", reason=""))
    document = why(desk, "backup", "--at", "14:00", "--json").document
    assert (document["verdict"], document["reason"]) == ("is to come", "paused")


def test_a_queued_run_says_what_it_waits_for(desk: Desk, theatre: Stage) -> None:
    desk("enqueue", "resize")
    theatre.storage.pause(Pause(target="pool:commands", since=NOON, until=None, by="ana", reason="disk"))
    desk.clock.at = NOON + 5 * SECOND
    lines = why(desk, "resize").out.splitlines()
    assert lines[0].endswith("has been waiting for 5 s, enqueued by hand.")
    assert lines[1] == "commands is paused by ana (disk)."


def test_a_tick_that_waits_for_an_earlier_run_names_it(desk: Desk, theatre: Stage) -> None:
    # rule 8: `queue`
    holder = theatre.begun(a_run("backup", lane=entry_of(BACKUP).lane))[0].id
    [mark] = theatre.storage.watermarks({RULE.key: None}, NOON - DAY).values()
    theatre.storage.tick([Tick(RULE.key, mark, NOON, None, row(NOON), overlap="queue")])
    document = why(desk, "backup", "--at", "12:00", "--json").document
    assert document["verdict"] == "waits"
    assert f"waits for run {holder[-8:]} to end" in document["explanation"]


def test_a_retry_says_what_failed_and_when_the_next_one_is_due(desk: Desk, theatre: Stage) -> None:
    accounted(theatre, row(NOON))
    [claim] = theatre.exchange()
    theatre.ended(claim, State.RETRYING, "exit 1", due_at=NOON + 4 * MINUTE)
    assert why(desk, "backup").out.splitlines()[-1] == "The next one is due 12:04."


def test_a_task_that_nobody_asked_for_has_no_row(desk: Desk, theatre: Stage) -> None:
    assert json.loads(why(desk, "resize", "--json").out)["verdict"] == "no row"


def test_an_unknown_task_is_answered_with_the_nearest(desk: Desk, theatre: Stage) -> None:
    answer = desk("why", "bakup")
    assert answer.code == 4
    assert "did you mean 'backup'?" in answer.err
