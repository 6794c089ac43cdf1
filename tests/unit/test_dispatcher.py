"""The dispatcher's turn: claims out, completions in, whatever the storage answers, and when it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jobrunner.durations import MINUTE, SECOND
from jobrunner.errors import OwnerLost, StorageUnavailable
from jobrunner.events import AttemptEnded, Late, RunRefused, StorageBack, StorageTrouble
from jobrunner.model import Ending, State, task_lane
from jobrunner.plan import LockUse, Retries, Task
from tests.builders import NOON, a_run, a_task, an_end
from tests.stage import Stage

TROUBLE = StorageUnavailable("the disk is gone", help="look for it")
Staged = Callable[..., Stage]


@pytest.fixture
def staged() -> Iterator[Staged]:
    made: list[Stage] = []

    def make(*tasks: Task, **given: int) -> Stage:
        made.append(Stage(*(tasks or (a_task(),)), **given))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_run_goes_from_the_storage_to_its_executor_and_back(staged: Staged) -> None:
    stage, run = staged(), a_run()
    stage.add(run)
    [call] = stage.executor.calls
    stage.executor.begin(call, NOON + 5)
    stage.turns()
    assert stage.run(run).started_at == NOON + 5
    stage.executor.finish(call, an_end(result='"done"'))
    stage.turns()
    assert (stage.run(run).state, stage.run(run).result) == (State.SUCCEEDED, '"done"')
    assert stage.dispatcher.is_idle


def test_an_idle_dispatcher_asks_nothing(staged: Staged) -> None:
    stage = staged()
    stage.add(a_run(due_at=NOON + MINUTE, state=State.SCHEDULED))
    asked = len(stage.faulty.calls)
    stage.turns()
    stage.passes(30 * SECOND)
    assert len(stage.faulty.calls) == asked
    stage.passes(30 * SECOND)
    assert len(stage.executor.calls) == 1


def test_no_more_runs_are_claimed_than_there_are_slots(staged: Staged) -> None:
    stage = staged(slots=2)
    stage.add(*(a_run() for _ in range(5)))
    assert len(stage.executor.calls) == 2
    stage.executor.finish(stage.executor.calls[0], an_end())
    stage.turns()
    assert (len(stage.executor.calls), stage.executor.most) == (2, 2)


def test_executors_may_report_the_end_inside_start(staged: Staged) -> None:
    stage = staged(slots=2)
    stage.executor.at_once = an_end(Ending.COULD_NOT_START)
    runs = [a_run() for _ in range(5)]
    stage.add(*runs)
    assert {stage.run(run).state for run in runs} == {State.FAILED}
    assert stage.dispatcher.is_idle


# --- an exchange without an answer ------------------------------------------------------------------


def test_completions_wait_in_memory_and_are_written_once(staged: Staged) -> None:
    # rules 33 and 34, I3
    stage, run = staged(a_task(on_success=("next",)), a_task("next")), a_run()
    stage.add(run)
    stage.faulty.fails("exchange", TROUBLE, times=5)
    stage.executor.finish(stage.executor.calls[0], an_end())
    stage.turns()
    assert stage.run(run).state is State.RUNNING
    for _ in range(12):
        stage.passes(SECOND)
    assert stage.run(run).state is State.SUCCEEDED
    assert len(stage.runs_of("next")) == 1
    assert stage.told(Late) == []
    [back] = stage.told(StorageBack)
    assert back.after <= 15 * SECOND


def test_a_storage_that_fails_for_minutes_is_tried_often_enough(staged: Staged) -> None:
    # rule 34 and I11: work resumes within 15 s
    stage = staged()
    stage.faulty.fails("exchange", TROUBLE, times=1000)
    stage.dispatcher.wake()
    for _ in range(600):
        stage.passes(SECOND)
    pauses = [event.retry_in for event in stage.told(StorageTrouble)]
    assert max(pauses) <= 5 * SECOND
    assert 100 <= len(pauses) <= 150  # tried, but not in a busy loop


def test_a_written_exchange_whose_answer_is_lost_is_not_written_twice(staged: Staged) -> None:
    # I3
    stage = staged(a_task(on_failure=("page",)), a_task("page"))
    run = a_run()
    stage.add(run)
    stage.faulty.loses_answer("exchange", TROUBLE)
    stage.executor.finish(stage.executor.calls[0], an_end(Ending.EXIT, exit_code=3))
    stage.turns()
    stage.passes(SECOND)
    assert (stage.run(run).state, stage.run(run).failures) == (State.FAILED, 1)
    assert len(stage.runs_of("page")) == 1
    assert stage.told(Late) == []


def test_claims_whose_answer_is_lost_are_adopted_once_and_within_the_slots(staged: Staged) -> None:
    # I1 and I4: what was claimed is running under this owner, and nobody else will ever start it
    stage = staged(slots=2)
    runs = [a_run() for _ in range(4)]
    stage.turns()
    stage.dispatcher.wake()
    stage.turns()
    assert all(stage.memory.add(runs))
    stage.faulty.loses_answer("exchange", TROUBLE)
    stage.dispatcher.wake()
    stage.turns()
    assert stage.executor.calls == []
    stage.passes(SECOND)
    assert [call.run_id for call in stage.executor.calls] == [run.id for run in runs[:2]]
    for _ in range(2):
        for call in list(stage.executor.calls):
            stage.executor.finish(call, an_end())
        stage.turns()
    assert [call.run_id for call in stage.executor.started] == [run.id for run in runs]
    assert [call.attempt for call in stage.executor.started] == [1] * 4
    assert stage.executor.most == 2
    assert {stage.run(run).state for run in runs} == {State.SUCCEEDED}


def test_what_runs_when_an_answer_is_lost_is_not_started_again(staged: Staged) -> None:
    # I4
    stage, first, second = staged(), a_run(), a_run()
    stage.add(first, second)
    stage.faulty.loses_answer("exchange", TROUBLE)
    stage.executor.finish(stage.executor.calls[0], an_end())
    stage.turns()
    stage.executor.finish(stage.executor.calls[0], an_end())  # ends while the outcome is unknown
    stage.passes(SECOND)
    assert len(stage.executor.started) == 2
    assert [stage.run(each).state for each in (first, second)] == [State.SUCCEEDED] * 2


def test_a_run_queued_again_and_claimed_anew_in_one_lost_exchange_goes_on(staged: Staged) -> None:
    # rule 15, and nothing is said of a late completion: nobody else has taken it over
    stage, run = staged(), a_run()
    stage.add(run)
    stage.faulty.loses_answer("exchange", TROUBLE)
    stage.executor.finish(stage.executor.calls[0], an_end(Ending.CRASHED))
    stage.turns()
    stage.passes(SECOND)
    [call] = stage.executor.calls
    assert (call.run_id, call.attempt, call.claim_no) == (run.id, 2, 2)
    assert stage.run(run).crashes == 1
    assert stage.told(Late) == []


def test_a_run_refused_for_its_lock_is_not_started_by_its_adoption(staged: Staged) -> None:
    # rule 17: whether a lost claim had got its lock is not known
    task = a_task(lock=LockUse(name="db", on_busy="skip"))
    stage = staged(task)
    first, second = (a_run(lane=task_lane("backup")) for _ in range(2))
    stage.add(first)
    assert len(stage.executor.calls) == 1
    assert all(stage.memory.add([second]))
    stage.faulty.loses_answer("exchange", TROUBLE)
    stage.dispatcher.wake()
    stage.turns()
    stage.passes(SECOND)
    assert len(stage.executor.started) == 1
    assert (stage.run(second).state, stage.run(second).reason) == (State.SKIPPED, "lock busy")


def test_a_lost_owner_writes_nothing_more(staged: Staged) -> None:
    stage, run = staged(), a_run()
    stage.add(run)
    stage.faulty.fails("exchange", OwnerLost("voided"))
    stage.executor.finish(stage.executor.calls[0], an_end())
    stage.turns()
    stage.passes(MINUTE)
    assert stage.lost == 1
    assert stage.run(run).state is State.RUNNING
    assert stage.dispatcher.unwritten == 1


# --- cancel, at each moment -------------------------------------------------------------------------


def test_a_running_run_is_ended_once_when_it_is_cancelled(staged: Staged) -> None:
    stage, run = staged(a_task(retries=Retries(max=3))), a_run()
    stage.add(run)
    [call] = stage.executor.calls
    for _ in range(3):
        stage.memory.cancel([run.id], NOON)
        stage.dispatcher.wake()
        stage.turns()
    assert stage.executor.ends == [(call, Ending.CANCELLED)]
    stage.executor.finish(call, an_end(Ending.CANCELLED))
    stage.turns()
    assert (stage.run(run).state, stage.run(run).reason) == (State.CANCELLED, "cancelled")


@pytest.mark.parametrize("ending", [Ending.RECALLED, Ending.TIMEOUT, Ending.CRASHED, Ending.INTERRUPTED])
def test_a_cancelled_run_goes_on_by_no_ending(staged: Staged, ending: Ending) -> None:
    stage, run = staged(a_task(retries=Retries(max=3))), a_run()
    stage.add(run)
    stage.memory.cancel([run.id], NOON)
    stage.executor.finish(stage.executor.calls[0], an_end(ending))
    stage.turns()
    assert stage.run(run).state is State.CANCELLED
    assert len(stage.executor.started) == 1


def test_a_success_that_was_faster_than_its_cancel_counts(staged: Staged) -> None:
    stage, run = staged(), a_run()
    stage.add(run)
    stage.memory.cancel([run.id], NOON)
    stage.executor.finish(stage.executor.calls[0], an_end())
    stage.turns()
    assert stage.run(run).state is State.SUCCEEDED


def test_a_cancel_between_claim_and_answer_is_heard(staged: Staged) -> None:
    stage, run = staged(), a_run()
    stage.dispatcher.wake()
    stage.turns()
    assert all(stage.memory.add([run]))
    stage.faulty.loses_answer("exchange", TROUBLE)
    stage.dispatcher.wake()
    stage.turns()
    stage.memory.cancel([run.id], NOON)
    stage.passes(SECOND)
    assert [ending for _, ending in stage.executor.ends] == [Ending.CANCELLED]


# --- the end ----------------------------------------------------------------------------------------


def test_what_was_claimed_when_the_end_was_asked_for_is_not_started(staged: Staged) -> None:
    # rule 29: stop claiming at once
    stage, run = staged(), a_run()
    stage.dispatcher.wake()
    stage.turns()
    assert all(stage.memory.add([run]))
    stage.service.hold()
    stage.dispatcher.wake()
    stage.turns()
    stage.dispatcher.stop_claiming()
    stage.service.let_go()
    stage.turns()
    assert stage.executor.started == []
    assert (stage.run(run).state, stage.run(run).attempt) == (State.QUEUED, 0)
    assert stage.quiet >= 1


def test_completions_after_the_stop_are_recorded_with_their_callbacks(staged: Staged) -> None:
    # rule 29
    stage = staged(a_task(on_failure=("page",)), a_task("page"))
    run = a_run()
    stage.add(run)
    stage.dispatcher.stop_claiming()
    stage.executor.finish(stage.executor.calls[0], an_end(Ending.SIGNAL, signal="SIGTERM"))
    stage.turns()
    assert stage.run(run).state is State.FAILED
    [page] = stage.runs_of("page")
    assert page.state is State.QUEUED
    assert stage.executor.calls == []


def test_an_interrupted_run_is_counted_and_queued_again(staged: Staged) -> None:
    # rule 15
    stage, run = staged(), a_run()
    stage.add(run)
    stage.dispatcher.stop_claiming()
    stage.dispatcher.end_all(Ending.INTERRUPTED)
    [(call, ending)] = stage.executor.ends
    stage.executor.finish(call, an_end(ending))
    stage.turns()
    assert (stage.run(run).state, stage.dispatcher.interrupted) == (State.QUEUED, 1)
    assert stage.dispatcher.is_settled


# --- rows and rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    ["{", "[]", '"x"', '{"timeout":"soon"}', '{"env":{"A":1}}', '{"env":3}', '{"retries":-1}', "[" * 9999],
)
def test_damaged_options_fail_their_run_alone(staged: Staged, options: str) -> None:
    # one poisoned row must not end the supervisor
    stage, bad, good = staged(), a_run(options=options), a_run(options='{"timeout":5}')
    stage.add(bad, good)
    assert [call.run_id for call in stage.executor.calls] == [good.id]
    assert (stage.run(bad).state, stage.run(bad).outcome) == (State.FAILED, "bad arguments")
    assert [event.settle.id for event in stage.told(AttemptEnded)] == [bad.id]


@pytest.mark.parametrize(
    "policy", ["{", "[]", '{"max_crashes":"x"}', '{"on_failure":[1]}', '{"on_failure":7}']
)
def test_a_damaged_policy_is_the_default_one(staged: Staged, policy: str) -> None:
    stage, run = staged(), a_run(policy=policy)
    stage.add(run)
    stage.executor.finish(stage.executor.calls[0], an_end(Ending.CRASHED))
    stage.turns()
    assert stage.run(run).crashes == 1
    assert len(stage.executor.calls) == 1


def test_a_run_whose_lock_is_busy_fails_with_its_callbacks_and_a_word(staged: Staged) -> None:
    # rule 17: on_busy fail
    task = a_task(lock=LockUse(name="db", on_busy="fail"), on_failure=("page",))
    stage = staged(task, a_task("page"))
    first, second = (a_run(lane=task_lane("backup")) for _ in range(2))
    stage.add(first, second)
    assert (stage.run(second).state, stage.run(second).reason) == (State.FAILED, "lock busy")
    assert len(stage.runs_of("page")) == 1
    assert [event.settle.id for event in stage.told(RunRefused)] == [second.id]


def test_runs_behind_a_busy_lock_cost_no_turns(staged: Staged) -> None:
    # rule 18
    task = a_task(lock=LockUse(name="db"))
    stage = staged(task)
    stage.add(*(a_run(lane=task_lane("backup")) for _ in range(5)))
    asked = len(stage.faulty.calls)
    stage.turns()
    assert len(stage.executor.calls) == 1
    assert len(stage.faulty.calls) == asked


def test_a_task_may_ask_for_a_retry_and_none_is_used_up(staged: Staged) -> None:
    # rule 12
    stage, run = staged(), a_run()
    stage.add(run)
    stage.executor.finish(stage.executor.calls[0], an_end(Ending.RETRY_ASKED, delay=5 * SECOND))
    stage.turns()
    assert (stage.run(run).state, stage.run(run).failures) == (State.RETRYING, 0)
    stage.passes(6 * SECOND)
    assert [call.attempt for call in stage.executor.calls] == [2]


def test_what_a_pause_holds_is_claimed_when_it_is_over(staged: Staged) -> None:
    from jobrunner.storage import Pause

    stage, run = staged(), a_run()
    stage.memory.pause(Pause(target="all", since=NOON, until=NOON + MINUTE, by="me", reason=""))
    stage.add(run)
    assert stage.executor.calls == []
    assert stage.controls == 1
    stage.passes(MINUTE)
    assert len(stage.executor.calls) == 1


def test_a_wall_clock_set_back_delays_nothing_that_is_woken(staged: Staged) -> None:
    # rule 5
    stage = staged()
    stage.add(a_run(state=State.SCHEDULED, due_at=NOON + MINUTE))
    stage.clock.steps(2 * MINUTE)
    stage.dispatcher.wake()
    stage.turns()
    assert len(stage.executor.calls) == 1
