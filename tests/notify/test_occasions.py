"""Which ends and ticks are told: a table of facts."""

from __future__ import annotations

from typing import Any

import pytest

from jobrunner.durations import SECOND, Micros
from jobrunner.ids import new_id
from jobrunner.model import Reason, Run, State, Trigger
from jobrunner.notify import Notice, Occasion
from jobrunner.notify.occasions import DROP, TELL, Judgement, ended_before, judge, of_end, of_tick
from jobrunner.plan import Notify
from tests.builders import NOON

ALL = Notify(on=tuple(each for each in Occasion if each is not Occasion.TEST), mail=("root",))


def a_row(state: State = State.FAILED, **changes: Any) -> Run:
    given: dict[str, Any] = dict.fromkeys(Run._fields)
    given |= {"seq": 1, "id": new_id(NOON), "task": "backup", "state": state, "trigger": Trigger.SCHEDULE}
    given |= {"missed": 0, "due_at": NOON, "created_at": NOON, "claim_no": 1, "attempt": 1, "tick": NOON}
    return Run(**{**given, **changes})


def a_notice(occasion: Occasion, **changes: Any) -> Notice:
    given: dict[str, Any] = {"task": "backup", "run_id": "r", "owner": "me", "born_at": NOON, "claim_no": 1}
    return Notice(occasion=occasion, **{**given, **changes})


def judged(
    occasion: Occasion, run: Run | None, before: Run | None = None, *, now: Micros = NOON, mine: bool = True
) -> Judgement:
    return judge(a_notice(occasion), run, before, now=now, mine=mine)


@pytest.mark.parametrize(
    ("state", "failing", "told"),
    [
        (State.FAILED, False, [Occasion.FAILURE]),
        (State.SUCCEEDED, False, [Occasion.SUCCESS]),
        (State.SUCCEEDED, True, [Occasion.RECOVERY, Occasion.SUCCESS]),
        (State.SKIPPED, False, [Occasion.MISSED]),
        (State.RETRYING, False, []),
        (State.QUEUED, False, []),
        (State.CANCELLED, False, []),
    ],
)
def test_what_an_end_may_be(state: State, failing: bool, told: list[Occasion]) -> None:
    assert of_end(state, ALL, failing=failing) == told
    assert of_end(state, Notify(on=(), mail=("root",)), failing=failing) == []


def test_a_tick_may_be_missed_or_late() -> None:
    assert of_tick(ALL) == [Occasion.MISSED, Occasion.LATE]
    assert of_tick(Notify(mail=("root",))) == []


@pytest.mark.parametrize(
    ("occasion", "run", "before", "tells"),
    [
        (Occasion.FAILURE, a_row(State.FAILED), None, True),
        (Occasion.FAILURE, a_row(State.SUCCEEDED), None, False),
        (Occasion.FAILURE, a_row(State.CANCELLED), None, False),
        (Occasion.SUCCESS, a_row(State.SUCCEEDED), None, True),
        (Occasion.RECOVERY, a_row(State.SUCCEEDED), a_row(State.FAILED), True),
        (Occasion.RECOVERY, a_row(State.SUCCEEDED), a_row(State.SUCCEEDED), False),
        (Occasion.RECOVERY, a_row(State.SUCCEEDED), None, False),
        (Occasion.MISSED, a_row(State.SKIPPED, reason=Reason.OVERLAP), None, True),
        (Occasion.MISSED, a_row(State.SKIPPED, reason=Reason.MISSED_DOWN), None, True),
        (Occasion.MISSED, a_row(State.EXPIRED, reason=Reason.EXPIRED), None, True),
        (Occasion.MISSED, a_row(State.SKIPPED, reason=Reason.PAUSED), None, False),
        (Occasion.MISSED, a_row(State.SKIPPED, reason=Reason.DISABLED), None, False),
        (Occasion.MISSED, a_row(State.SUCCEEDED), None, False),
        (Occasion.LATE, a_row(State.RUNNING, missed=3), None, True),
        (Occasion.LATE, a_row(State.RUNNING, started_at=NOON + 61 * SECOND), None, True),
        (Occasion.LATE, a_row(State.RUNNING, started_at=NOON + 60 * SECOND), None, False),
        (Occasion.LATE, a_row(State.SKIPPED, claim_no=0, attempt=0), None, False),
    ],
)
def test_what_came_true_is_told_and_nothing_else(
    occasion: Occasion, run: Run, before: Run | None, tells: bool
) -> None:
    assert judged(occasion, run, before) == (TELL if tells else DROP)


def test_an_end_that_is_on_its_way_is_waited_for() -> None:
    assert judged(Occasion.FAILURE, a_row(State.RUNNING)).wait == SECOND
    assert judged(Occasion.FAILURE, a_row(State.RUNNING), mine=False) == DROP
    assert judged(Occasion.FAILURE, a_row(State.RUNNING, claim_no=2)) == DROP
    assert judged(Occasion.FAILURE, a_row(State.QUEUED)) == DROP


def test_a_row_that_never_comes_is_not_waited_for_for_ever() -> None:
    assert judged(Occasion.MISSED, None).wait == SECOND
    assert judged(Occasion.MISSED, None, now=NOON + 60 * SECOND) == DROP
    assert judged(Occasion.MISSED, None, mine=False) == DROP


def test_a_queued_run_is_looked_at_again_when_it_is_late_or_expired() -> None:
    queued = a_row(State.QUEUED, claim_no=0, attempt=0, expires_at=NOON + 90 * SECOND)
    assert judged(Occasion.LATE, queued).wait == 60 * SECOND
    assert judged(Occasion.LATE, queued, now=NOON + 60 * SECOND) == TELL
    assert judged(Occasion.MISSED, queued).wait == 92 * SECOND
    assert judged(Occasion.MISSED, queued._replace(expires_at=None)) == DROP


def test_the_run_before_is_the_latest_that_had_ended() -> None:
    first, second, third = (
        a_row(id=str(number), seq=number, finished_at=at) for number, at in ((1, 30), (2, 10), (3, 20))
    )
    assert ended_before(first, [first, second, third]) == third
    assert ended_before(second, [first, second, third]) is None
