"""The state machine: every ending, and the row it makes."""

from __future__ import annotations

from typing import Any

import pytest

from jobrunner.durations import SECOND
from jobrunner.lifecycle import MOST_ASKED_RETRIES, Terms, refuse, settle, settle_orphan, terms
from jobrunner.model import Ended, Ending, NewRun, Options, Policy, Reason, Settle, State
from jobrunner.plan import Retries, Task
from tests.builders import NOON, a_claim, a_run, a_task, an_end

RETRIES = Retries(max=2, delay=3 * SECOND, backoff=2, jitter=0)


def settled(ended: Ended, *, task: Task | None = None, **claim: Any) -> Settle:
    task = task or a_task()
    return settle(a_claim(**claim), "me", ended, terms(task, None, task.policy), chance=0.5)


def test_a_run_that_ends_well_has_succeeded() -> None:
    row = settled(an_end(Ending.OK, result='"done"'))
    assert (row.state, row.outcome, row.reason, row.result) == (State.SUCCEEDED, "ok", None, '"done"')


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (an_end(Ending.EXIT, exit_code=3), "exit 3"),
        (an_end(Ending.SIGNAL, signal="SIGKILL"), "signal SIGKILL"),
        (an_end(Ending.EXCEPTION, exception="ValueError"), "exception ValueError"),
        (an_end(Ending.TIMEOUT), "timeout"),
        (an_end(Ending.COULD_NOT_START), "could not start"),
    ],
)
def test_a_failure_is_retried_while_retries_are_left_and_failed_afterwards(
    ended: Ended, outcome: str
) -> None:
    # rules 12 and 13
    task = a_task(retries=RETRIES)
    first, last = settled(ended, task=task), settled(ended, task=task, failures=2)
    assert (first.state, first.outcome, first.failures) == (State.RETRYING, outcome, 1)
    assert (last.state, last.outcome, last.failures) == (State.FAILED, outcome, 3)


def test_the_retry_delay_counts_from_the_end_of_the_attempt() -> None:
    # rule 12
    ended = an_end(Ending.EXIT, exit_code=1)
    row = settled(ended, task=a_task(retries=RETRIES), failures=1)
    assert row.due_at == ended.ended_at + 6 * SECOND


@pytest.mark.parametrize("ending", [Ending.NOT_STORABLE, Ending.BAD_ARGUMENTS])
def test_what_a_retry_cannot_mend_is_never_retried(ending: Ending) -> None:
    # rule 12
    assert settled(an_end(ending), task=a_task(retries=RETRIES)).state is State.FAILED


def test_an_interrupted_run_is_queued_again_and_keeps_its_retries_and_crashes() -> None:
    # rule 15: an orderly stop is not counted
    row = settled(an_end(Ending.INTERRUPTED), failures=1, crashes=1)
    assert (row.state, row.outcome, row.failures, row.crashes) == (State.QUEUED, "interrupted", 1, 1)


def test_a_crash_is_queued_again_until_there_were_too_many() -> None:
    # rule 15
    first, last = settled(an_end(Ending.CRASHED)), settled(an_end(Ending.CRASHED), crashes=2)
    assert (first.state, first.crashes, first.failures) == (State.QUEUED, 1, 0)
    assert (last.state, last.reason) == (State.FAILED, Reason.TOO_MANY_CRASHES)


@pytest.mark.parametrize("ending", [Ending.INTERRUPTED, Ending.CRASHED])
def test_a_run_that_may_start_only_once_is_failed_when_it_is_cut_off(ending: Ending) -> None:
    # rule 15: at most once by choice
    row = settled(an_end(ending), task=a_task(on_interrupt="fail", retries=RETRIES))
    assert (row.state, row.reason) == (State.FAILED, Reason.INTERRUPTED)


def test_a_call_that_had_not_begun_goes_back_as_it_was() -> None:
    # rule 15: calls that had not started are not counted
    row = settled(an_end(Ending.RECALLED, started_at=None), claim_no=4, attempt=2, crashes=1)
    assert (row.state, row.outcome, row.attempt, row.crashes) == (State.QUEUED, None, 1, 1)


def test_a_task_that_asks_for_a_retry_uses_none_up() -> None:
    # rule 12
    row = settled(an_end(Ending.RETRY_ASKED, delay=5 * SECOND))
    assert (row.state, row.failures) == (State.RETRYING, 0)
    assert row.due_at == NOON + 6 * SECOND


def test_a_task_cannot_ask_for_retries_for_ever() -> None:
    # rule 12: at most 1,000 times
    row = settled(an_end(Ending.RETRY_ASKED, delay=0), attempt=MOST_ASKED_RETRIES + 1)
    assert row.state is State.FAILED


@pytest.mark.parametrize(
    ("retry", "failures", "state"),
    [
        (False, 0, State.CANCELLED),
        (None, 0, State.RETRYING),
        (None, 2, State.CANCELLED),
        (True, 2, State.RETRYING),
    ],
)
def test_cancelrun_follows_its_own_word_on_retries(retry: bool | None, failures: int, state: State) -> None:
    # rule 12: CancelRun(retry=False) ends the run
    ended = an_end(Ending.CANCELLED, retry=retry)
    assert settled(ended, task=a_task(retries=RETRIES), failures=failures).state is state


def test_a_removed_task_is_not_retried() -> None:
    # rule 26
    rule = terms(None, None, Policy())
    row = settle(a_claim(), "me", an_end(Ending.EXIT, exit_code=1), rule, chance=0.5)
    assert row.state is State.FAILED


def test_an_enqueuer_may_grant_its_own_retries() -> None:
    rule = terms(a_task(), Options(retries=1, retry_delay=7 * SECOND), Policy())
    row = settle(a_claim(), "me", an_end(Ending.TIMEOUT), rule, chance=0.5)
    assert (row.state, row.due_at) == (State.RETRYING, NOON + 8 * SECOND)


@pytest.mark.parametrize(
    ("ending", "asked"),
    [
        (Ending.OK, [(State.SUCCEEDED, "ok")]),
        (Ending.TIMEOUT, [(State.FAILED, "timeout")]),
        (Ending.RECALLED, []),
    ],
)
def test_callbacks_are_asked_for_when_a_run_is_final(ending: Ending, asked: list[tuple[State, str]]) -> None:
    heard: list[tuple[State, str]] = []
    follow = a_run("page-ops")

    def callbacks(state: State, why: str) -> tuple[NewRun, ...]:
        heard.append((state, why))
        return (follow,)

    row = settle(a_claim(), "me", an_end(ending), Terms(policy=Policy()), chance=0.5, callbacks=callbacks)
    assert heard == asked
    assert row.follow == ((follow,) if asked else ())


def test_an_orphan_that_had_begun_counts_as_an_unplanned_interruption() -> None:
    # rules 15 and 32
    row = settle_orphan(a_claim(), "dead", Policy(), an_end(Ending.INTERRUPTED))
    assert (row.state, row.outcome, row.crashes, row.owner) == (State.QUEUED, "interrupted", 1, "dead")


def test_an_orphan_whose_start_was_never_reported_is_not_counted() -> None:
    # rule 15
    row = settle_orphan(a_claim(), "dead", Policy(), an_end(Ending.INTERRUPTED, started_at=None))
    assert (row.state, row.outcome, row.crashes, row.attempt) == (State.QUEUED, None, 0, 0)


def test_for_an_orphan_that_may_start_only_once_the_claim_was_the_start() -> None:
    # rule 15
    policy = Policy(on_interrupt="fail")
    row = settle_orphan(a_claim(), "dead", policy, an_end(Ending.INTERRUPTED, started_at=None))
    assert (row.state, row.reason) == (State.FAILED, Reason.INTERRUPTED)


def test_an_orphan_that_crashed_too_often_fails_with_its_callbacks() -> None:
    # rule 15
    follow = (a_run("page-ops"),)
    row = settle_orphan(
        a_claim(crashes=2),
        "dead",
        Policy(),
        an_end(Ending.INTERRUPTED),
        callbacks=lambda _state, _why: follow,
    )
    assert (row.state, row.reason, row.follow) == (State.FAILED, Reason.TOO_MANY_CRASHES, follow)


def test_a_refused_run_has_made_no_attempt() -> None:
    # rule 17: on_busy skip
    row = refuse(a_claim(), "me", State.SKIPPED, Reason.LOCK_BUSY, NOON)
    assert (row.state, row.reason, row.attempt, row.outcome) == (State.SKIPPED, "lock busy", 0, None)
