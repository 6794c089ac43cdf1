"""Adding, finding, listing and removing runs; waiting and waking."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from ..durations import DAY, HOUR, MINUTE, SECOND
from ..errors import AmbiguousRun, NotFound, PayloadError
from ..model import NewRun, Reason, Run, State, Trigger
from ..plan import Retention
from ..storage import (
    COUNT_LIMIT,
    RunFilter,
    Storage,
)
from .desk import (
    NOON,
    PATIENCE,
    Desk,
    Opener,
    a_catalogue,
    a_locked_run,
    a_pause,
    a_run,
    in_threads,
    is_readable,
)


class RecordFacts:
    """Adding, finding, listing and removing runs; waiting and waking."""

    # --- adding -----------------------------------------------------------------------------------------

    def test_an_added_run_is_read_back_as_it_was_given(self, storage: Storage) -> None:
        given = a_run(
            payload='{"args":[1],"kwargs":{}}',
            priority=7,
            expires_at=NOON + HOUR,
            schedule="resize|0 * * * *",
            tick=NOON,
            missed=3,
            policy='{"max_crashes":1}',
            options='{"retries":2}',
            cause='{"task":"x"}',
            detail='{"a":1}',
            trigger=Trigger.CATCH_UP,
        )
        assert storage.add([given]) == [True]
        run = storage.run(given.id)
        for name, value in given._asdict().items():
            assert name in ("after", "replaces") or getattr(run, name) == value, name
        assert (run.claim_no, run.attempt, run.failures, run.crashes) == (0, 0, 0, 0)
        assert (run.started_at, run.finished_at, run.outcome, run.owner) == (None, None, None, None)

    def test_the_same_id_added_again_is_the_same_run(self, storage: Storage) -> None:
        first = a_run(payload='{"args":[1],"kwargs":{}}')
        assert storage.add([first]) == [True]
        assert storage.add([first._replace(payload='{"args":[2],"kwargs":{}}'), a_run()]) == [False, True]
        assert storage.run(first.id).payload == '{"args":[1],"kwargs":{}}'

    def test_one_call_may_name_an_id_twice(self, storage: Storage) -> None:
        run = a_run()
        assert storage.add([run, a_run(), run]) == [True, True, False]

    def test_adding_nothing_is_nothing(self, storage: Storage) -> None:
        assert storage.add([]) == []

    def test_a_skipped_run_is_final_at_once(self, storage: Storage) -> None:
        run = a_run(state=State.SKIPPED, reason=Reason.OVERLAP.value)
        storage.add([run])
        kept = storage.run(run.id)
        assert kept.state is State.SKIPPED
        assert kept.reason == "overlap"
        assert kept.finished_at == NOON

    @pytest.mark.parametrize("size", [10, 4_096, 4_097, 300_000])
    def test_arguments_and_results_of_any_size_come_back_whole(self, desk: Desk, size: int) -> None:
        payload, result = '"' + "p" * size + '"', '"' + "r" * size + '"'
        run = a_run(payload=payload)
        desk.storage.add([run, a_run()])
        claim = desk.claim()[0]
        assert claim.payload == payload
        desk.turn([desk.end(claim, result=result, error="e" * size)])
        kept = desk.storage.run(run.id)
        assert (kept.payload, kept.result, kept.error) == (payload, result, "e" * size)
        assert desk.storage.attempts(run.id)[0].error == "e" * size

    def test_what_cannot_be_stored_is_refused_with_the_whole_call(self, storage: Storage) -> None:
        good = a_run()
        with pytest.raises(PayloadError):
            storage.add([good, a_run(payload='"\ud800"')])
        with pytest.raises(PayloadError):
            storage.add([a_run(priority=2**70)])
        assert storage.runs(RunFilter()) == []
        assert storage.add([good]) == [True]

    def test_threads_that_add_at_once_lose_nothing(self, storage: Storage) -> None:
        batches = [[a_run() for _ in range(5)] for _ in range(40)]
        answers: list[list[bool]] = []

        def keep(batch: list[NewRun]) -> None:
            answers.append(storage.add(batch))

        in_threads([partial(keep, batch) for batch in batches])
        assert answers == [[True] * 5] * 40
        ids = {run.id for batch in batches for run in batch}
        assert {run.id for run in storage.runs(RunFilter(limit=1000))} == ids

    def test_a_bad_run_of_one_thread_is_no_trouble_of_another(self, storage: Storage) -> None:
        errors: list[BaseException] = []

        def bad() -> None:
            try:
                storage.add([a_run(payload='"\ud800"')])
            except PayloadError as error:
                errors.append(error)

        good = [a_run() for _ in range(20)]
        in_threads([action for run in good for action in (bad, partial(storage.add, [run]))])
        assert len(errors) == 20
        assert len(storage.runs(RunFilter(limit=100))) == 20

    # --- retention --------------------------------------------------------------------------------------

    def test_finished_runs_past_their_age_are_removed(self, desk: Desk) -> None:  # rule 22
        old = desk.finish(a_run(), ended_at=NOON)
        young = desk.finish(a_run(), State.FAILED, ended_at=NOON + 2 * DAY)
        skipped = a_run(state=State.SKIPPED)
        waiting = a_run(created_at=NOON - 90 * DAY)
        desk.storage.add([skipped, waiting])
        gone = desk.storage.prune(Retention(history=DAY), NOON + 2 * DAY)
        assert sorted(gone) == sorted([old.id, skipped.id])
        assert {run.id for run in desk.storage.runs(RunFilter())} == {young.id, waiting.id}
        with pytest.raises(NotFound):
            desk.storage.run(old.id)

    def test_the_oldest_of_too_many_are_removed(self, desk: Desk) -> None:
        states = [State.SUCCEEDED, State.FAILED, State.CANCELLED]
        runs = [desk.finish(a_run(), states[place % 3], ended_at=NOON + place) for place in range(9)]
        desk.storage.add([a_run()])
        gone = desk.storage.prune(Retention(max_runs=4), NOON)
        assert gone == [run.id for run in runs[:5]]
        assert desk.storage.prune(Retention(max_runs=4), NOON) == []
        assert len(desk.storage.runs(RunFilter())) == 5

    def test_removal_goes_in_small_batches(self, desk: Desk) -> None:
        runs = [desk.finish(a_run(), ended_at=NOON + place) for place in range(7)]
        batches = [desk.storage.prune(Retention(history=0), NOON + DAY, limit=3) for _ in range(4)]
        assert batches == [[run.id for run in runs[place : place + 3]] for place in (0, 3, 6)] + [[]]

    def test_attempts_go_with_their_run(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.QUEUED, error="e" * 9_000)], want={})
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, result='"' + "r" * 9_000 + '"')])
        assert desk.storage.prune(Retention(history=0), NOON + DAY) == [claim.id]
        with pytest.raises(NotFound):
            desk.storage.attempts(claim.id)
        assert desk.storage.overview(NOON).day.retried in (0, 1)

    @pytest.mark.parametrize("size", [1, 9_000])
    def test_results_go_before_their_run(self, desk: Desk, size: int) -> None:
        result = '"' + "r" * size + '"'
        old = [desk.finish(a_run(), ended_at=NOON, result=result) for _ in range(5)]
        young = desk.finish(a_run(), ended_at=NOON + 2 * DAY, result=result)
        retention = Retention(history=30 * DAY, results=DAY)
        for _ in range(4):
            assert desk.storage.prune(retention, NOON + 2 * DAY, limit=2) == []
        assert [desk.storage.run(run.id).result for run in old] == [None] * 5
        assert desk.storage.run(young.id).result == result

    # --- reads ------------------------------------------------------------------------------------------

    def test_a_run_is_found_by_a_part_of_its_id(self, storage: Storage) -> None:
        first = a_run(id="01934d5e-0000-7000-8000-00000000aaaa")
        second = a_run(id="01934d5e-0000-7000-8000-00000001aaaa")
        storage.add([first, second])
        assert storage.run(first.id).id == first.id
        assert storage.run("00000000aaaa").id == first.id
        assert storage.run("01934d5e-0000-7000-8000-00000001").id == second.id
        for part in ("aaaa", "0193"):
            with pytest.raises(AmbiguousRun):
                storage.run(part)

    @pytest.mark.parametrize("part", ["", "bbbb", "%", "_", "*", "' or 1=1 --", "\x00", "\ud800"])
    def test_what_fits_no_run_is_not_found(self, storage: Storage, part: str) -> None:
        storage.add([a_run(id="01934d5e-0000-7000-8000-00000000aaaa")])
        with pytest.raises(NotFound) as caught:
            storage.run(part)
        assert not isinstance(caught.value, AmbiguousRun)
        with pytest.raises(NotFound):
            storage.attempts(part)

    def test_runs_are_listed_newest_first(self, desk: Desk) -> None:
        runs = [a_run(priority=place) for place in range(5)]
        desk.storage.add(runs)
        desk.claim(2)
        assert [run.id for run in desk.storage.runs(RunFilter())] == [run.id for run in reversed(runs)]
        assert [run.id for run in desk.storage.runs(RunFilter(limit=2))] == [runs[4].id, runs[3].id]

    def test_lists_can_be_narrowed(self, desk: Desk) -> None:
        done = desk.finish(a_run(created_at=NOON - HOUR))
        failed = desk.finish(a_run("mail", trigger=Trigger.SCHEDULE), State.FAILED)
        later = a_run("mail", state=State.SCHEDULED, due_at=NOON + HOUR)
        queued = a_run("dump", created_at=NOON + HOUR)
        desk.storage.add([later, queued])

        def found(**given: Any) -> list[str]:
            return [run.id for run in desk.storage.runs(RunFilter(**given))]

        assert found(tasks=("mail",)) == [later.id, failed.id]
        assert found(tasks=("mail", "resize")) == [later.id, failed.id, done.id]
        assert found(tasks=("mail", "resize"), limit=2) == [later.id, failed.id]
        assert found(states=(State.QUEUED,)) == [queued.id]
        assert found(states=(State.FAILED, State.SUCCEEDED, State.SCHEDULED)) == [
            later.id,
            failed.id,
            done.id,
        ]
        assert found(states=(State.RETRYING,)) == []
        assert found(tasks=("mail",), states=(State.FAILED,)) == [failed.id]
        assert found(triggers=("schedule",)) == [failed.id]
        assert found(since=NOON) == [queued.id, later.id, failed.id]
        assert found(until=NOON) == [done.id]
        assert found(since=NOON, until=NOON + HOUR, tasks=("mail",), triggers=("enqueue",)) == [later.id]
        rare = a_run("mail", trigger=Trigger.CATCH_UP, created_at=NOON + 2 * HOUR)
        desk.storage.add([rare])
        assert found(triggers=("catch-up",)) == [rare.id]
        assert found(tasks=("mail",), triggers=("catch-up", "retry")) == [rare.id]
        assert found(tasks=("dump",), triggers=("catch-up",)) == []
        assert found(tasks=("dump",), triggers=("catch-up",), since=NOON) == []

    def test_an_overview_counts(self, desk: Desk) -> None:
        desk.storage.publish("owner-1", a_catalogue("resize", "mail", "dump"), keep=[], now=NOON)
        desk.turn(want={})
        desk.finish(a_run(), ended_at=NOON + 1)
        desk.finish(a_run(), State.FAILED, ended_at=NOON + 3 * SECOND)
        desk.storage.add([a_run("mail", due_at=NOON - 5), a_run("mail", due_at=NOON - 9), a_run("mail")])
        (running,) = desk.claim(1)
        desk.storage.add([a_run(), a_run(state=State.SKIPPED, created_at=NOON + MINUTE)])
        (again,) = (claim for claim in desk.claim() if claim.task == "resize")
        desk.turn([desk.end(again, State.RETRYING, due_at=NOON + HOUR)], want={})
        view = desk.storage.overview(NOON + MINUTE)
        assert view.counts[State.SUCCEEDED] == view.counts[State.FAILED] == 1
        assert (view.counts[State.RUNNING], view.counts[State.RETRYING]) == (3, 1)
        assert set(view.counts) == set(State)
        assert view.oldest_queued is None
        assert (view.day.ok, view.day.failed, view.day.retried) == (1, 1, 1)
        resize, mail, dump = view.tasks
        assert (resize.task, resize.queued, resize.running, resize.current) == ("resize", 0, 0, None)
        assert resize.waiting_retry is not None
        assert resize.waiting_retry.id == again.id
        assert resize.last is not None
        assert resize.last.state is State.FAILED
        assert resize.recent == ((State.SUCCEEDED, 0), (State.FAILED, 1))
        assert resize.typical == 1
        assert (mail.running, mail.queued, mail.last, mail.typical) == (3, 0, None, None)
        assert mail.current is not None
        assert mail.current.id != running.id or mail.current.state is State.RUNNING
        assert (dump.queued, dump.running, dump.last, dump.recent) == (0, 0, None, ())

    def test_an_overview_shows_what_is_queued(self, storage: Storage) -> None:
        storage.add([a_run("mail", due_at=NOON - 5, priority=1), a_run("dump", due_at=NOON - 9)])
        storage.add([a_locked_run("dump", due_at=NOON - 7), a_run("dump", priority=3)])
        view = storage.overview(NOON, tasks=["dump", "nobody"])
        assert view.oldest_queued == NOON - 9
        assert [(task.task, task.queued) for task in view.tasks] == [("dump", 3), ("nobody", 0)]

    def test_an_overview_takes_the_median_of_recent_successes(self, desk: Desk) -> None:
        for took in (900, 10, 30, 20):
            desk.finish(a_run(), ended_at=NOON + took)
        (task,) = desk.storage.overview(NOON, tasks=["resize"], recent=3).tasks
        assert len(task.recent) == 3
        assert task.typical in (20, 30)

    def test_counts_stop_at_their_limit(self, storage: Storage) -> None:
        storage.add([a_run() for _ in range(COUNT_LIMIT + 5)])
        view = storage.overview(NOON, tasks=["resize"])
        assert view.counts[State.QUEUED] == COUNT_LIMIT + 1

    def test_what_lies_a_day_back_is_not_counted_as_today(self, desk: Desk) -> None:
        desk.finish(a_run(), ended_at=NOON)
        assert desk.storage.overview(NOON + DAY).day.ok == 1
        assert desk.storage.overview(NOON + DAY + 1).day.ok == 0

    # --- waiting and waking -----------------------------------------------------------------------------

    def test_waiting_ends_with_the_run(self, opened: Opener) -> None:
        desk = Desk(opened())
        client = opened()
        run = a_run()
        client.add([run])
        (claim,) = desk.claim()
        found: list[Run] = []
        in_threads(
            [
                lambda: found.append(client.wait(run.id, PATIENCE)),
                lambda: found.append(desk.storage.wait(run.id, PATIENCE)),
                lambda: desk.turn([desk.end(claim)]),
            ]
        )
        assert [each.state for each in found] == [State.SUCCEEDED] * 2

    def test_waiting_ends_when_its_time_is_up(self, storage: Storage) -> None:
        run = a_run()
        storage.add([run])
        assert storage.wait(run.id, 0.05).state is State.QUEUED
        assert storage.wait(run.id, 0).state is State.QUEUED

    def test_waiting_for_a_final_run_does_not_wait(self, desk: Desk) -> None:
        run = desk.finish(a_run())
        assert desk.storage.wait(run.id, None) == run

    def test_waiting_for_no_run_is_refused(self, storage: Storage) -> None:
        with pytest.raises(NotFound):
            storage.wait("cafe", 1)

    @pytest.mark.parametrize("what", ["add", "cancel", "pause", "resume"])
    def test_what_a_client_writes_wakes_the_supervisor(self, opened: Opener, what: str) -> None:
        desk, client = Desk(opened()), opened()
        assert client.wake_fd() is None
        run = a_run()
        client.add([run])
        client.pause(a_pause("all"))
        desk.storage.woken()
        assert not is_readable(desk.storage)
        acts: dict[str, Callable[[], object]] = {
            "add": lambda: client.add([a_run()]),
            "cancel": lambda: client.cancel([run.id], NOON),
            "pause": lambda: client.pause(a_pause("task:resize")),
            "resume": lambda: client.resume("all"),
        }
        acts[what]()
        assert is_readable(desk.storage, PATIENCE)
        desk.storage.woken()
        assert not is_readable(desk.storage)

    def test_many_wake_ups_wait_as_one(self, opened: Opener) -> None:
        desk, client = Desk(opened()), opened()
        for _ in range(100):
            client.add([a_run()])
        desk.storage.woken()
        assert not is_readable(desk.storage)
        assert len(desk.claim(200)) == 100

    def test_writes_of_others_are_noticed_once(self, opened: Opener) -> None:
        desk, client = Desk(opened()), opened()
        desk.storage.changed()
        desk.storage.add([a_run()])
        assert desk.storage.changed() is False
        client.add([a_run()])
        assert [desk.storage.changed() for _ in range(2)] == [True, False]

    def test_a_client_may_add_before_anybody_works(self, opened: Opener) -> None:
        opened().add([a_run()])
        assert len(Desk(opened()).claim()) == 1

    def test_closing_twice_is_closing_once(self, opened: Opener) -> None:
        handle = opened()
        handle.close()
        handle.close()
