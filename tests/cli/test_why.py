"""`jobrunner why`: the story of a tick, from its row."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from jobrunner.birth import not_run, of_tick, own_payload
from jobrunner.catalogue import catalogue_of, entry_of
from jobrunner.cli import why_rows
from jobrunner.durations import DAY, HOUR, MINUTE, SECOND, Micros
from jobrunner.model import NewRun, Reason, State
from jobrunner.plan import Plan, ScheduleRule, Task
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
    assert lines[1] == "The pool commands is paused by ana since 12:00, until somebody resumes it (disk)."


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


def test_a_tick_of_a_paused_task_says_who_paused_it_and_until_when(desk: Desk, theatre: Stage) -> None:
    # rules 10 and 20: the row itself knows, whatever became of the pause
    pause = Pause(
        target="task:backup", since=NOON - HOUR, until=NOON + 2 * HOUR, by="ana", reason="the disk is changed"
    )
    accounted(theatre, not_run(row(NOON), Reason.PAUSED, detail={"pause": pause._asdict()}))
    desk.clock.at = NOON + 5 * HOUR
    lines = why(desk, "backup", "--at", "12:00").out.splitlines()
    assert lines[1:] == [
        "No run: skipped (paused).",
        "backup was paused by ana since 11:00, until 14:00 (the disk is changed).",
    ]
    [run] = desk("history", "backup", "--json").document
    assert "paused by ana" in desk("show", run["id"]).out


def test_a_blocked_tick_says_what_blocked_it(desk: Desk, theatre: Stage) -> None:
    # rule 25
    accounted(theatre, not_run(row(NOON), Reason.BLOCKED, detail={"why": "no module shop"}))
    assert "It was blocked then: no module shop" in why(desk, "backup", "--at", "12:00").out


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.MISSED_DOWN, "No supervisor was there at that time"),
        (Reason.MISSED_SUSPENDED, "The machine was asleep at that time"),
        (Reason.MISSED_CLOCK, "The clock of the machine was set forward past that time"),
        (
            Reason.MISSED_HELD_UP,
            "The supervisor was there, but its storage, the machine or a reload held it up",
        ),
    ],
)
def test_a_missed_tick_says_why_nobody_came_to_it_in_time(
    desk: Desk, theatre: Stage, reason: Reason, words: str
) -> None:
    # rule 5
    accounted(theatre, not_run(row(NOON - HOUR), reason))
    assert f"{words}" in why(desk, "backup", "--at", "11:00").out
    assert "it was accounted for at 12:00." in why(desk, "backup", "--at", "11:00").out


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("catch_up: none", "Nothing caught up for it: catch_up is none."),
        ("catch_up_window: 1m", "Nothing caught up for it: it was older than the catch_up_window of 1 m."),
        ("catch_up: all", "Nothing caught up for it: only the latest 100 of a gap are run (catch_up_limit)."),
        ("catch_up: one", "Nothing caught up for it."),
    ],
)
def test_a_miss_that_nothing_caught_up_says_why(desk: Desk, theatre: Stage, keys: str, words: str) -> None:
    # rule 9; the catch-up run of another tick, or of another gap, is not told
    (desk.folder / "jobs.yaml").write_text(FILE.replace('0 * * * *"', f'0 * * * *", {keys}'))
    other = row(NOON, missed=1)
    accounted(theatre, not_run(row(NOON - HOUR), Reason.MISSED_DOWN), other)
    assert why(desk, "backup", "--at", "11:00").out.splitlines()[-1] == words


def test_an_overlap_of_a_tick_that_came_late_says_so(desk: Desk, theatre: Stage) -> None:
    # rules 5 and 8: what was in its way came after it, and that is told
    holder = theatre.has_run("backup")
    accounted(theatre, not_run(row(NOON - HOUR), Reason.OVERLAP, detail={"holder": holder}))
    assert why(desk, "backup", "--at", "11:00").out.splitlines()[2:] == [
        "Nobody came to this tick before 12:00; by then another run was in its way.",
        f"Run {holder[-8:]}, started 12:00, was not final; it ended at 12:00:02.",
    ]


def test_a_pipeline_that_was_in_the_way_is_not_said_never_to_have_started(desk: Desk, theatre: Stage) -> None:
    # rule 8: the row of the whole is never claimed
    holder = a_run("backup", state=State.WAITING, join="last")
    theatre.storage.add([holder])
    accounted(theatre, not_run(row(NOON), Reason.OVERLAP, detail={"holder": holder.id}))
    assert f"Run {holder.id[-8:]}, due 12:00, was not final" in why(desk, "backup", "--at", "12:00").out


def test_a_fold_is_found_behind_pages_of_rows(desk: Desk, theatre: Stage, few_on_a_page: None) -> None:
    # rule 10: the row of a gap is the oldest after its ticks, behind all the later ones
    detail = {"from": NOON - 20 * HOUR, "to": NOON - 9 * HOUR, "count": 12}
    later = [not_run(row(NOON - hour * HOUR), Reason.OVERLAP) for hour in range(8, 0, -1)]
    rows = [not_run(row(NOON - 9 * HOUR), Reason.MISSED_DOWN, detail=detail), *later]
    accounted(theatre, *[each._replace(created_at=each.tick or 0) for each in rows])
    assert "one of 12 ticks" in why(desk, "backup", "--at", "2026-11-22T20:00").out


@pytest.fixture
def few_on_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why_rows, "PAGE", 3)


def test_a_removed_task_is_explained_from_its_rows(desk: Desk, theatre: Stage) -> None:
    accounted(theatre, not_run(row(NOON - HOUR), Reason.REMOVED), row(NOON))
    (desk.folder / "jobs.yaml").write_text(FILE.replace("  backup", "  other"))
    gone = f"backup is not in {desk.folder}/jobs.yaml any more; this is what its rows tell."
    assert why(desk, "backup", "--at", "11:00").out.splitlines() == [gone, "No run: skipped (removed)."]
    lines = why(desk, "backup").out.splitlines()
    assert lines[0] == gone
    assert lines[-1] == "It waits until a supervisor knows its task again; jobrunner cancel ends it."
    assert why(desk, "backup", "--at", "09:00", "--json").document["verdict"] == "no tick"


def test_show_of_a_removed_task_has_its_last_runs(desk: Desk, theatre: Stage) -> None:
    accounted(theatre, row(NOON))
    (desk.folder / "jobs.yaml").write_text(FILE.replace("  backup", "  other"))
    catalogue = catalogue_of(Plan(file="", hash="1", backend=desk.url, timezone="UTC", tasks={}))
    theatre.storage.publish(theatre.owner.id, catalogue, keep=[], now=NOON)
    answer = desk("show", "backup")
    assert answer.code == 0, answer
    assert answer.out.startswith("backup is not in the file any more.")
    assert row(NOON).id in answer.out
    assert desk("show", "backup", "--json").document["last_run"]["id"] == row(NOON).id
    assert desk("show", "bakup").code == 4


def test_a_tick_of_an_earlier_schedule_is_explained_from_its_row(desk: Desk, theatre: Stage) -> None:
    # rule 11
    accounted(theatre, not_run(row(NOON - HOUR), Reason.OVERLAP))
    (desk.folder / "jobs.yaml").write_text(FILE.replace("0 * * * *", "30 4 * * *"))
    assert why(desk, "backup", "--at", "11:00").out.splitlines() == [
        "11:00 was a tick of the schedule that was in force then.",
        "No run: skipped (overlap).",
    ]


def test_a_run_by_hand_is_found_by_its_minute(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("resize")
    desk.clock.at = NOON + HOUR
    assert run[-8:] in why(desk, "resize", "--at", "12:00").out


def test_what_the_shell_means_by_its_code_is_told(desk: Desk, theatre: Stage) -> None:
    said = "exit 127 (the shell says: command not found; PATH=/bin)\nsh: 1: pg_dmp: not found"
    theatre.has_run("resize", State.FAILED, "exit 127", exit_code=127, error=said)
    assert why(desk, "resize").out.splitlines()[-1] == f"It said: {said.replace(chr(10), '; ')}."


def test_an_exception_is_told_by_its_last_line(desk: Desk, theatre: Stage) -> None:
    said = "Traceback (most recent call last):\n  File x\nValueError: no such picture"
    theatre.has_run("resize", State.FAILED, "exception ValueError", error=said)
    assert why(desk, "resize").out.splitlines()[-1] == "It said: ValueError: no such picture."


def test_before_a_schedule_was_ever_in_force_nothing_is_to_be_decided(desk: Desk, theatre: Stage) -> None:
    # rule 11: a first deployment catches up nothing
    (desk.folder / "jobs.yaml").write_text(FILE.replace("0 * * * *", "30 4 * * *"))
    for arguments in (("backup",), ("backup", "--at", "yesterday 04:30")):
        document = why(desk, *arguments, "--json").document
        assert (document["verdict"], document["reason"]) == ("no row", None)
        assert "what lies before its first start is never run." in document["explanation"]


def test_what_is_written_of_a_run_whose_supervisor_is_gone_is_not_taken_for_the_truth(
    desk: Desk, theatre: Stage
) -> None:
    theatre.begun(a_run("resize", lane="pool:commands"))
    assert why(desk, "resize", "--json").document["verdict"] == "runs"
    theatre.close()
    desk.clock.at = NOON + 14 * SECOND
    document = why(desk, "resize", "--json").document
    assert document["verdict"] == "waits"
    assert (
        "what has become of it is found out at the next start. No supervisor is running."
        in (document["explanation"])
    )


def test_a_superseded_run_names_the_one_that_took_its_place(desk: Desk, theatre: Stage) -> None:
    # rule 8: `queue`
    theatre.begun(a_run("backup", lane=entry_of(BACKUP).lane))
    [mark] = theatre.storage.watermarks({RULE.key: None}, NOON - DAY).values()
    for tick in (NOON - HOUR, NOON):
        given = row(tick)._replace(created_at=tick)
        theatre.storage.tick([Tick(RULE.key, mark, tick, None, given, overlap="queue")])
        mark = tick
    newer = birth_id(NOON)
    assert why(desk, "backup", "--at", "11:00").out.splitlines()[-1] == (
        f"Run {newer[-8:]}, of the tick of 12:00, took its place."
    )


def birth_id(tick: Micros) -> str:
    return row(tick).id
