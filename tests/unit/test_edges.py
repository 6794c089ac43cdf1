"""What becomes of a waiting run as its predecessors end (semantics 19, 35)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobrunner.edges import Resolution, Waiting, failure, missing, resolve
from jobrunner.model import FINAL, Condition, Input, Join, State

NOW = 1_000
PLAIN = Waiting(created_at=100, due_at=100, expires_at=None, join=None, cancel_reason=None)


def an_input(state: State, condition: str = "ok", **given: Any) -> Input:
    base = Input("id", "resize", state, condition, "7", None, "ok", None, None, 1)
    return base._replace(**given)


def joined(join: Join, *states: State, cancel_reason: str | None = None) -> Resolution | None:
    row = PLAIN._replace(join=join.value, cancel_reason=cancel_reason)
    return resolve(row, [an_input(state, "final") for state in states], NOW)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("condition", Condition)
def test_a_run_goes_on_when_its_predecessor_has_ended_as_wanted(state: State, condition: Condition) -> None:
    fits = {
        Condition.OK: {State.SUCCEEDED},
        Condition.FINAL: FINAL,
        Condition.FAILED: {State.FAILED, State.EXPIRED},
    }[condition]
    found = resolve(PLAIN, [an_input(state, condition)], NOW)
    if state not in FINAL:
        assert found is None
    elif state in fits:
        assert found == Resolution(State.QUEUED, NOW)
    elif condition is Condition.FAILED:
        assert found == Resolution(None)
    else:
        assert found == Resolution(State.SKIPPED, reason="upstream failed")


def test_a_run_waits_for_all_of_its_predecessors() -> None:
    one, two = an_input(State.SUCCEEDED), an_input(State.RUNNING)
    assert resolve(PLAIN, [one, two], NOW) is None
    assert resolve(PLAIN, [one, one], NOW) == Resolution(State.QUEUED, NOW)


def test_an_end_that_does_not_fit_is_not_waited_beyond() -> None:
    found = resolve(PLAIN, [an_input(State.RUNNING), an_input(State.CANCELLED)], NOW)
    assert found == Resolution(State.SKIPPED, reason="upstream failed")


def test_a_handler_with_more_conditions_leaves_no_row_when_it_is_not_needed() -> None:
    found = resolve(PLAIN, [an_input(State.FAILED), an_input(State.FAILED, "failed")], NOW)
    assert found == Resolution(None)


def test_a_run_that_waits_for_nothing_goes_on_at_once() -> None:
    assert resolve(PLAIN, [], NOW) == Resolution(State.QUEUED, NOW)


def test_a_delay_counts_from_now_and_its_patience_moves_along() -> None:
    row = PLAIN._replace(due_at=130, expires_at=150)
    assert resolve(row, [], NOW) == Resolution(State.SCHEDULED, NOW + 30, NOW + 50)


def test_a_moment_that_was_past_when_the_run_was_made_is_no_delay() -> None:
    assert resolve(PLAIN._replace(due_at=20), [], NOW) == Resolution(State.QUEUED, NOW)


def test_a_predecessor_that_is_gone_has_ended_neither_well_nor_badly() -> None:
    for condition, state in (("ok", State.SKIPPED), ("failed", None), ("final", State.QUEUED)):
        found = resolve(PLAIN, [missing("gone", condition)], NOW)
        assert found is not None
        assert found.state is state


@pytest.mark.parametrize("join", Join)
def test_a_join_waits_for_all_its_members(join: Join) -> None:
    assert joined(join, State.FAILED, State.RUNNING) is None


def test_a_join_that_went_well_has_its_members_results() -> None:
    well = State.SUCCEEDED
    assert joined(Join.LAST, well, well) == Resolution(State.SUCCEEDED, outcome="ok", result="7")
    assert joined(Join.LIST, well, well) == Resolution(State.SUCCEEDED, outcome="ok", result="[7,7]")
    assert joined(Join.LIST_ANY) == Resolution(State.SUCCEEDED, outcome="ok", result="[]")
    assert joined(Join.LAST) == Resolution(State.SUCCEEDED, outcome="ok")


def test_a_result_that_is_not_there_is_null_in_the_list() -> None:
    row = PLAIN._replace(join="list")
    found = resolve(row, [an_input(State.SUCCEEDED, "final", result=None)], NOW)
    assert found is not None
    assert found.result == "[null]"


@pytest.mark.parametrize("state", sorted(FINAL - {State.SUCCEEDED}))
def test_a_join_fails_with_a_member_unless_any_end_is_as_good(state: State) -> None:
    for join in (Join.LAST, Join.LIST):
        failed = joined(join, State.SUCCEEDED, state)
        assert failed is not None
        assert (failed.state, failed.reason, failed.result) == (State.FAILED, "upstream failed", None)
    found = joined(Join.LIST_ANY, State.SUCCEEDED, state)
    assert found is not None
    assert found.state is State.SUCCEEDED
    assert json.loads(found.result or "")[1]["$failure"]["state"] == state.value


@pytest.mark.parametrize("join", Join)
def test_a_join_that_was_cancelled_says_why(join: Join) -> None:
    ends = [State.SUCCEEDED, State.CANCELLED]
    assert joined(join, *ends, cancel_reason="removed") == Resolution(State.CANCELLED, reason="removed")
    assert joined(join, *ends, cancel_reason="timeout") == Resolution(State.FAILED, outcome="timeout")
    assert joined(join, State.RUNNING, cancel_reason="timeout") is None


def test_a_failed_join_tells_which_member_failed_and_a_block_of_blocks_tells_the_same() -> None:
    row = PLAIN._replace(join="last")
    skipped = an_input(State.SKIPPED, "final", task="mail", reason="upstream failed", outcome=None)
    bad = an_input(State.FAILED, "final", run_id="r7", outcome="exit 3")
    for inputs in ([bad, skipped], [skipped, bad]):
        inner = resolve(row, inputs, NOW)
        assert inner is not None
        assert inner.error == "resize (r7): exit 3"
    block = an_input(State.FAILED, "final", task="(parallel)", reason="upstream failed", error="x (r7): y")
    for inputs, text in (([block], "x (r7): y"), ([skipped], "mail (id): upstream failed")):
        outer = resolve(row, inputs, NOW)
        assert outer is not None
        assert outer.error == text


def test_a_failure_says_the_reason_else_the_outcome_else_the_state() -> None:
    bad = an_input(State.FAILED, outcome="exit 3", error="boom")
    assert json.loads(failure(bad))["$failure"] == {
        "task": "resize",
        "run_id": "id",
        "state": "failed",
        "reason": "exit 3",
        "error": "boom",
    }
    assert json.loads(failure(bad._replace(reason="overlap")))["$failure"]["reason"] == "overlap"
    assert json.loads(failure(bad._replace(outcome=None)))["$failure"]["reason"] == "failed"
