"""`notify` of a pipeline: the end of the whole is foreseen with each of its steps, and told once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner import composition
from jobrunner.birth import new_run, not_run
from jobrunner.catalogue import entries_of
from jobrunner.composition import Parallel, Step, Steps, to_text
from jobrunner.composition import Pipeline as Spec
from jobrunner.durations import MINUTE, SECOND, Micros
from jobrunner.events import Notified
from jobrunner.ids import new_id
from jobrunner.model import Ended, Ending, NewRun, Reason, Run, State, Trigger
from jobrunner.notify import Notice, Occasion
from jobrunner.notify.occasions import DROP, TELL, Judgement, judge_whole
from jobrunner.notify.whole import Whole, tells, whole_of
from jobrunner.plan import Notify, Pipeline
from tests.builders import NOON, a_task
from tests.notify.test_herald import FAILED, OK, Told
from tests.notify.test_occasions import a_notice, a_row
from tests.stage import Stage

EVERYTHING = Notify(
    on=(Occasion.FAILURE, Occasion.RECOVERY, Occasion.SUCCESS, Occasion.MISSED, Occasion.LATE),
    webhook="http://127.0.0.1/hook",
)
SIDE_BY_SIDE = Parallel(members=(Step(task="load"), Step(task="check")))
STEPS = Steps(steps=(Step(task="extract"), SIDE_BY_SIDE))


def nightly(**changes: Any) -> Pipeline:
    handlers = (Step(task="page"),)
    return Pipeline(
        name="nightly",
        composition=to_text(Spec(steps=STEPS, on_failure=handlers)),
        **{"notify": EVERYTHING, **changes},
    )


class Line(Told):
    """A herald that hears of the steps of a pipeline."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        tasks = [a_task(name) for name in ("extract", "load", "check", "page")]
        super().__init__(folder, Stage(*tasks, pipelines={"nightly": nightly(**changes)}))
        self.entries = entries_of(self.stage.plan)

    def born(self, **changes: Any) -> tuple[NewRun, ...]:
        """The root and its steps."""
        now, entry = self.stage.clock.now(), self.entries["nightly"]
        run = new_run(entry, run_id=new_id(now), trigger=Trigger.ENQUEUE, now=now, due_at=now)
        return composition.begin(run._replace(**changes), entry, self.entries.get)

    def enqueued(self) -> NewRun:
        rows = self.born()
        self.stage.add(*rows)
        return rows[0]

    def step(self, ended: Ended) -> None:
        """The oldest call ends so, a moment after the one before it."""
        self.stage.clock.passes(1000)
        now = self.stage.clock.now()
        self.stage.executor.finish(self.stage.executor.calls[0], ended._replace(started_at=now, ended_at=now))
        self.stage.turns(20)

    def occasions(self) -> list[str]:
        return [event.occasion for event in self.stage.told(Notified)]

    def documents(self) -> list[Any]:
        return [json.loads(letter.document) for letter in self.pigeon.letters]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    made.begin()
    yield made
    made.stage.close()


def test_the_failure_of_a_pipeline_names_the_step_and_tells_its_output(line: Line) -> None:
    root = line.enqueued()
    line.step(OK)
    line.step(FAILED)
    line.stage.passes(SECOND)
    assert line.occasions() == [], "another step is running"
    line.step(OK)
    line.stage.passes(SECOND)
    assert line.occasions() == ["failure"]
    [document] = line.documents()
    assert document["text"] == "nightly failed: load, exit 3"
    assert (document["task"], document["run"]["id"]) == ("nightly", root.id)
    assert (document["step"]["task"], document["step"]["exit_code"]) == ("load", 3)
    assert document["output_tail"] == "the end of it"
    body = line.pigeon.letters[0].body
    assert "step      2.1, load, run" in body
    line.step(OK)  # the handler
    line.stage.passes(MINUTE)
    assert (line.occasions(), line.files()) == (["failure"], 0)


def test_it_is_written_down_before_the_row_that_ends_the_whole(line: Line) -> None:
    line.enqueued()
    line.step(OK)
    line.step(OK)
    assert line.files() == 3, "failure, recovery, success"
    line.stage.service.hold()
    line.stage.executor.finish(line.stage.executor.calls[0], OK)
    assert line.files() == 3
    line.stage.service.let_go()
    line.stage.turns()
    line.stage.passes(SECOND)
    assert (line.occasions(), line.files()) == (["success"], 0)


def test_the_first_success_after_a_failure_is_a_recovery(line: Line) -> None:
    for ended in (FAILED, OK, OK):
        line.enqueued()
        line.step(ended)
        line.step(OK)  # the handler, or `load`
        if ended is OK:
            line.step(OK)
        line.stage.passes(SECOND)
    assert line.occasions() == ["failure", "recovery", "success", "success"]


def test_a_pipeline_that_is_cancelled_is_told_to_nobody(line: Line) -> None:
    root = line.enqueued()
    line.step(OK)
    line.stage.memory.cancel([root.id], line.stage.clock.now())
    line.stage.passes(MINUTE)
    for _ in range(2):
        line.step(Ended(Ending.CANCELLED))
    line.stage.passes(MINUTE)
    assert line.stage.memory.run(root.id).state is State.CANCELLED
    assert (line.occasions(), line.files()) == ([], 0)


def test_a_pipeline_of_which_no_step_began_before_its_time_was_up_has_failed(tmp_path: Path) -> None:
    line = Line(tmp_path, timeout=MINUTE)
    line.begin()
    line.stage.dispatcher.hold()
    line.enqueued()
    for _ in range(20):
        line.stage.passes(5 * SECOND)
        line.stage.dispatcher.wake()
        line.stage.turns()
    assert line.occasions() == ["failure"]
    assert line.documents()[0]["text"] == "nightly failed: timeout"
    line.stage.close()


def test_what_a_killed_supervisor_had_foreseen_is_told_by_the_next(tmp_path: Path) -> None:
    line = Line(tmp_path)
    root = line.enqueued()
    for ended in (OK, OK, FAILED):
        line.stage.executor.finish(line.stage.executor.calls[0], ended)
        line.stage.turns(20)
    assert line.stage.memory.run(root.id).state is State.FAILED
    for each in line.folder.glob("*.json"):
        each.unlink()  # as this one would have written them
    dead = Notice(occasion=Occasion.FAILURE, task="nightly", run_id=root.id, owner="dead", born_at=NOON)
    line.spool.write(dead)
    line.begin()
    line.stage.passes(SECOND)
    assert line.occasions() == ["failure"]
    line.stage.close()


def test_a_failure_that_recovery_writes_is_foreseen_too(line: Line) -> None:
    # rule 32: the run of a dead supervisor, a step
    rows = line.born()
    line.stage.memory.add(rows)
    row = line.stage.memory.run(rows[1].id)
    settle = a_settle(row)
    line.herald.before_recovery([(row, settle)])
    line.stage.turns()
    assert line.files() == 3


def a_settle(row: Run) -> Any:
    from jobrunner.model import Settle

    return Settle(
        seq=row.seq,
        claim_no=1,
        owner="dead",
        id=row.id,
        state=State.FAILED,
        outcome="interrupted",
        attempt=1,
        failures=0,
        crashes=3,
        due_at=row.due_at,
        started_at=NOON,
        ended_at=NOON,
    )


def test_a_tick_of_a_pipeline_that_did_not_run_is_told(line: Line) -> None:
    skipped = not_run(line.born(tick=NOON)[0], Reason.OVERLAP)
    skipped = skipped._replace(join=None, after=(), compose=None)
    line.herald.before_ticks([skipped])
    line.stage.memory.add([skipped])
    line.stage.passes(SECOND)
    assert line.occasions() == ["missed"]
    assert line.documents()[0]["text"] == "nightly did not run: overlap"


# ---- a table of facts ------------------------------------------------------------------------------------

ROOT: dict[str, Any] = {"task": "nightly", "join": "last", "claim_no": 0, "attempt": 0}


@pytest.mark.parametrize(
    ("root", "began", "now", "judgement"),
    [
        (a_row(State.WAITING, **ROOT), None, NOON, Judgement(wait=MINUTE)),
        (a_row(State.WAITING, **ROOT), NOON + SECOND, NOON + 2 * MINUTE, DROP),
        (a_row(State.WAITING, **ROOT), None, NOON + MINUTE, TELL),
        (a_row(State.SUCCEEDED, **ROOT), NOON + 2 * MINUTE, NOON + 3 * MINUTE, TELL),
        (a_row(State.WAITING, **{**ROOT, "missed": 3}), None, NOON, TELL),
    ],
)
def test_a_pipeline_is_late_by_the_start_of_its_first_step(
    root: Run, began: Micros | None, now: Micros, judgement: Judgement
) -> None:
    notice = a_notice(Occasion.LATE)
    assert judge_whole(notice, root, Whole(began=began), None, now=now, tells=True) == judgement


def a_step(place: str, at: Micros, **changes: Any) -> Run:
    given = {"id": place, "step": place, "pipeline": "root", "started_at": at - SECOND, "finished_at": at}
    return a_row(**{"state": State.SUCCEEDED, **given, **changes})


def test_of_several_supervisors_the_one_tells_that_ended_the_last_step() -> None:
    # each answers from the same rows, so that one of them tells
    root = a_row(State.FAILED, finished_at=NOON + 3 * SECOND, **ROOT)
    rows = [
        root,
        a_step("1", NOON + SECOND),
        a_step("2.1", NOON + 2 * SECOND, state=State.FAILED),
        a_step("2.2", NOON + 3 * SECOND),
        a_step("2", NOON + 3 * SECOND, join="list"),
        a_step("f1", NOON + 4 * SECOND),  # a handler ends later, and elsewhere
    ]
    whole = whole_of(root, rows)
    assert whole.last is not None
    assert whole.culprit is not None
    assert (whole.began, whole.last.id, whole.culprit.id) == (NOON, "2.2", "2.1")
    assert [tells(whole, mine, is_oldest=True) for mine in (("1", "2.1"), ("2.2",), ())] == [
        False,
        True,
        False,
    ]


def test_of_a_pipeline_without_an_attempt_the_oldest_supervisor_tells() -> None:
    root = a_row(State.FAILED, finished_at=NOON, **ROOT)
    whole = whole_of(root, [root, a_step("1", NOON, claim_no=0, started_at=None, state=State.CANCELLED)])
    assert whole == Whole()
    assert [tells(whole, (), is_oldest=oldest) for oldest in (True, False)] == [True, False]


def test_where_several_work_the_steps_that_ended_here_are_remembered(line: Line) -> None:
    line.stage.memory.lease = 30 * SECOND
    line.enqueued()
    line.step(OK)
    line.step(OK)
    steps = {len(waiting.notice.steps) for waiting in line.herald._waiting.values()}
    assert steps == {2}
    line.step(FAILED)
    line.stage.passes(SECOND)
    assert line.occasions() == ["failure"]


def test_where_another_has_ended_the_last_step_nothing_is_told_here(line: Line) -> None:
    line.stage.memory.lease = 30 * SECOND
    line.enqueued()
    line.step(OK)
    line.stage.dispatcher._emit = line.stage.events.append  # the other steps end elsewhere
    line.step(OK)
    line.step(OK)
    line.stage.passes(10 * SECOND)
    assert (line.occasions(), line.files()) == ([], 0)
