"""What the end of an attempt writes: the fence, attempts, follow-ups, bad rows, cancels."""

from __future__ import annotations

from typing import Any

import pytest

from ..durations import DAY, HOUR, SECOND
from ..ids import new_id
from ..model import Started, State, Trigger
from ..storage import (
    RunFilter,
)
from .desk import NOON, Desk, a_run


class SettleFacts:
    """What the end of an attempt writes: the fence, attempts, follow-ups, bad rows, cancels."""

    # --- settles: the fence -----------------------------------------------------------------------------

    def test_a_success_is_written_into_the_run(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        end = desk.end(claim, result='{"a":1}', exit_code=0, pid=77, output='{"stdout":3}')
        assert desk.turn([end]).refused == []
        run = desk.storage.run(claim.id)
        assert (run.state, run.outcome, run.result, run.exit_code) == (State.SUCCEEDED, "ok", '{"a":1}', 0)
        assert (run.started_at, run.finished_at, run.pid) == (NOON, NOON + SECOND, 77)
        assert (run.output, run.owner, run.host) == ('{"stdout":3}', None, "web1")

    def test_a_failure_is_written_into_the_run(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn(
            [desk.end(claim, State.FAILED, exit_code=3, signal="SIGKILL", error="boom", reason="expired")]
        )
        run = desk.storage.run(claim.id)
        assert (run.state, run.reason, run.failures) == (State.FAILED, "expired", 1)
        assert (run.exit_code, run.signal, run.error) == (3, "SIGKILL", "boom")

    def test_many_ends_go_through_in_one_turn(self, desk: Desk) -> None:
        desk.storage.add([a_run() for _ in range(100)])
        claims = desk.claim(100)
        states = [State.SUCCEEDED, State.FAILED, State.RETRYING, State.QUEUED]
        ends = [desk.end(claim, states[place % 4]) for place, claim in enumerate(claims)]
        assert desk.turn(ends, want={}).refused == []
        counts = desk.storage.overview(NOON).counts
        assert (counts[State.SUCCEEDED], counts[State.FAILED]) == (25, 25)
        assert counts[State.RETRYING] + counts[State.QUEUED] == 50

    def test_a_claim_number_is_never_given_again(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        numbers = []
        for _ in range(4):
            (claim,) = desk.claim()
            numbers.append((claim.claim_no, claim.attempt))
            desk.turn([desk.back(claim)], want={})
        assert numbers == [(1, 1), (2, 1), (3, 1), (4, 1)]

    def test_an_end_under_an_old_claim_is_refused(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (old,) = desk.claim()
        desk.turn([desk.back(old)], want={})
        (new,) = desk.claim()
        late = desk.end(old, result='"late"', follow=(a_run("mail"),))
        assert desk.turn([late], want={}).refused == [late]
        assert desk.storage.run(new.id).state is State.RUNNING
        assert len(desk.storage.runs(RunFilter())) == 1

    def test_an_end_by_another_owner_is_refused(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        foreign = desk.end(claim, owner="somebody else")
        assert desk.turn([foreign], want={}).refused == [foreign]
        assert desk.storage.run(claim.id).state is State.RUNNING

    def test_an_end_of_a_run_that_is_not_there_is_refused(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        lost = desk.end(claim._replace(seq=claim.seq + 1000))
        swapped = desk.end(claim._replace(id=new_id(NOON)))
        assert desk.turn([lost, swapped], want={}).refused == [lost, swapped]

    def test_one_refused_end_does_not_keep_the_others_from_being_written(self, desk: Desk) -> None:
        desk.storage.add([a_run() for _ in range(5)])
        claims = desk.claim()
        ends = [desk.end(claim) for claim in claims]
        ends[2] = ends[2]._replace(claim_no=99)
        assert desk.turn(ends, want={}).refused == [ends[2]]
        states = [desk.storage.run(claim.id).state for claim in claims]
        assert states == [State.SUCCEEDED] * 2 + [State.RUNNING] + [State.SUCCEEDED] * 2

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.RETRYING])
    def test_an_end_that_comes_again_is_the_same_end(self, desk: Desk, state: State) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        follow = () if state is State.RETRYING else (a_run("mail"),)
        end = desk.end(claim, state, due_at=NOON + HOUR, follow=follow)
        assert [desk.turn([end], want={}).refused for _ in range(3)] == [[], [], []]
        assert len(desk.storage.runs(RunFilter())) == 1 + len(follow)
        assert len(desk.storage.attempts(claim.id)) == 1

    def test_a_start_is_noted(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn(started=[Started(claim.seq, claim.claim_no, "owner-1", NOON + 5, 123)])
        run = desk.storage.run(claim.id)
        assert (run.state, run.started_at, run.pid) == (State.RUNNING, NOON + 5, 123)

    def test_a_start_under_an_old_claim_is_not_noted(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn(started=[Started(claim.seq, claim.claim_no + 1, "owner-1", NOON + 5, 123)])
        desk.turn(started=[Started(claim.seq, claim.claim_no, "owner-2", NOON + 5, 123)])
        assert desk.storage.run(claim.id).started_at is None

    # --- settles: attempts ------------------------------------------------------------------------------

    def test_every_attempt_is_told(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        for code in (3, 4):
            (claim,) = desk.claim()
            desk.turn(
                [
                    desk.end(
                        claim,
                        State.QUEUED,
                        outcome=f"exit {code}",
                        exit_code=code,
                        error=f"e{code}",
                        pid=code,
                    )
                ],
                want={},
            )
        (claim,) = desk.claim()
        assert [each.outcome for each in desk.storage.attempts(claim.id)] == ["exit 3", "exit 4", None]
        desk.turn([desk.end(claim)])
        told = desk.storage.attempts(claim.id)
        assert [(each.number, each.outcome, each.exit_code) for each in told] == [
            (1, "exit 3", 3),
            (2, "exit 4", 4),
            (3, "ok", None),
        ]
        assert (told[0].error, told[0].pid, told[0].host) == ("e3", 3, "web1")
        assert (told[0].started_at, told[0].ended_at) == (NOON, NOON + SECOND)

    def test_a_run_that_waits_for_its_retry_tells_each_attempt_once(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.RETRYING, due_at=NOON + HOUR, error="boom")])
        assert [each.outcome for each in desk.storage.attempts(claim.id)] == ["exit 1"]
        run = desk.storage.run(claim.id)
        assert (run.outcome, run.error, run.finished_at) == ("exit 1", "boom", None)

    def test_a_call_that_came_back_before_it_began_is_no_attempt(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.QUEUED, error="boom", pid=5)], want={})
        (again,) = desk.claim()
        desk.turn([desk.back(again)], want={})
        run = desk.storage.run(claim.id)
        assert (run.attempt, run.outcome, run.error, run.pid) == (1, "exit 1", "boom", 5)
        assert [each.outcome for each in desk.storage.attempts(claim.id)] == ["exit 1"]

    def test_a_run_that_never_began_has_no_attempt(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn([desk.back(claim)], want={})
        assert desk.storage.run(claim.id).attempt == 0
        assert desk.storage.attempts(claim.id) == []

    # --- settles: follow-ups and bad rows ---------------------------------------------------------------

    def test_follow_ups_come_with_the_end(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        follow = a_run("mail", trigger=Trigger.CALLBACK)
        answer = desk.turn([desk.end(claim, follow=(follow,))])
        assert [each.id for each in answer.claimed] == [follow.id]

    @pytest.mark.parametrize(
        "poison", [{"result": '"\ud800"'}, {"error": "\ud800"}, {"pid": 2**70}, {"output": "\udfff"}]
    )
    def test_one_bad_end_is_quarantined_and_the_others_are_written(
        self, desk: Desk, poison: dict[str, Any]
    ) -> None:
        desk.storage.add([a_run() for _ in range(5)])
        claims = desk.claim()
        ends = [desk.end(claim, result="1") for claim in claims]
        ends[2] = ends[2]._replace(**poison, follow=(a_run("mail"),))
        assert desk.turn(ends, want={}).refused == []
        runs = [desk.storage.run(claim.id) for claim in claims]
        assert [run.state for run in runs].count(State.SUCCEEDED) == 4
        bad = runs[2]
        assert (bad.state, bad.outcome, bad.result, bad.failures) == (
            State.FAILED,
            "result not storable",
            None,
            1,
        )
        assert bad.error
        assert len(desk.storage.runs(RunFilter())) == 5

    # --- cancel -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED, State.RETRYING])
    def test_a_run_that_is_not_running_is_cancelled_at_once(self, desk: Desk, state: State) -> None:
        run = a_run(state=State.QUEUED if state is State.RETRYING else state, due_at=NOON + HOUR)
        desk.storage.add([run])
        if state is State.RETRYING:
            (claim,) = desk.claim()
            desk.turn([desk.end(claim, State.RETRYING, due_at=NOON + HOUR)])
        assert desk.storage.cancel([run.id], NOON + 7) == [True]
        kept = desk.storage.run(run.id)
        assert (kept.state, kept.reason, kept.finished_at) == (State.CANCELLED, "cancelled", NOON + 7)
        desk.now = NOON + DAY
        assert desk.claim() == []

    def test_a_final_run_cannot_be_cancelled(self, desk: Desk) -> None:
        run = desk.finish(a_run())
        assert desk.storage.cancel([run.id, "no such run"], NOON) == [False, False]
        assert desk.storage.run(run.id) == run

    def test_a_running_run_is_marked_for_its_supervisor(self, desk: Desk) -> None:
        desk.storage.add([a_run(), a_run()])
        claim, other = desk.claim()
        assert desk.storage.cancel([claim.id], NOON) == [True]
        run = desk.storage.run(claim.id)
        assert (run.state, run.cancel_requested) == (State.RUNNING, True)
        assert desk.storage.run(other.id).cancel_requested is False
        assert desk.turn().cancels == [(claim.seq, claim.claim_no)]
        desk.turn([desk.end(claim, State.CANCELLED, outcome="cancelled", reason="cancelled")])
        assert desk.turn().cancels == []

    @pytest.mark.parametrize("state", [State.RETRYING, State.QUEUED])
    def test_a_cancelled_run_is_not_tried_again(self, desk: Desk, state: State) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.storage.cancel([claim.id], NOON, reason="removed")
        desk.turn([desk.end(claim, state)])
        run = desk.storage.run(claim.id)
        assert (run.state, run.reason, run.finished_at) == (State.CANCELLED, "removed", NOON + SECOND)
        assert len(desk.storage.attempts(claim.id)) == 1

    def test_a_success_stays_one_however_late_its_cancel_came(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.storage.cancel([claim.id], NOON)
        desk.turn([desk.end(claim)])
        assert desk.storage.run(claim.id).state is State.SUCCEEDED
