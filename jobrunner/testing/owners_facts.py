"""Supervisors, the runs of dead ones, schedules and their ticks, the catalogue."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ..durations import HOUR
from ..errors import OwnerLost
from ..model import Started, State, Trigger
from ..storage import (
    RunFilter,
    Storage,
    Tick,
    Verdict,
)
from .desk import A_STATUS, NOON, Desk, Opener, a_catalogue, a_pipeline, a_run, a_tick, an_owner


class OwnerFacts:
    """Supervisors, the runs of dead ones, schedules and their ticks, the catalogue."""

    # --- owners -----------------------------------------------------------------------------------------

    def test_one_supervisor_works_at_a_time_unless_leases_tell_who_lives(
        self, opened: Opener
    ) -> None:  # rule 31
        first, second = opened(), opened()
        assert first.enter(an_owner("a"), A_STATUS)
        assert second.enter(an_owner("b"), A_STATUS) is (first.lease is not None)
        first.leave("a", NOON)
        assert second.enter(an_owner("b"), A_STATUS)

    def test_a_dead_supervisors_runs_are_found_by_the_next(self, opened: Opener) -> None:  # rule 32
        dead = opened()
        desk = Desk(dead, "a")
        dead.add([a_run(policy='{"max_crashes":1}')])
        (claim,) = desk.claim()
        desk.turn(started=[Started(claim.seq, claim.claim_no, "a", NOON + 1, 9)])
        dead.close()
        heir = Desk(opened(), "b")
        heir.outlive()
        ((run, owner),) = heir.storage.orphans("b")
        assert (run.id, run.claim_no, run.policy) == (claim.id, 1, '{"max_crashes":1}')
        assert (run.started_at, run.pid, owner) == (NOON + 1, 9, an_owner("a"))
        assert heir.storage.settle([desk.end(claim, State.QUEUED, crashes=1)]) == [True]
        assert heir.storage.orphans("b") == []
        (again,) = heir.claim()
        assert (again.id, again.claim_no, again.crashes) == (claim.id, 2, 1)

    def test_an_orderly_end_leaves_what_still_ran_to_the_next(self, opened: Opener) -> None:
        first = opened()
        desk = Desk(first, "a")
        first.add([a_run()])
        (claim,) = desk.claim()
        first.leave("a", NOON)
        heir = Desk(opened(), "b")
        assert [run.id for run, _ in heir.storage.orphans("b")] == [claim.id]

    def test_own_runs_are_no_orphans(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        desk.claim()
        assert desk.storage.orphans("owner-1") == []

    def test_who_is_not_the_owner_may_not_take_a_turn(self, opened: Opener) -> None:
        first = opened()
        desk = Desk(first, "a")
        first.add([a_run()])
        first.leave("a", NOON)
        with pytest.raises(OwnerLost):
            desk.turn()
        heir = Desk(opened(), "b")
        with pytest.raises(OwnerLost):
            desk.turn()
        with pytest.raises(OwnerLost):
            first.heartbeat("a", A_STATUS, NOON)
        with pytest.raises(OwnerLost):
            first.publish("a", a_catalogue(), keep=[], now=NOON)
        assert len(heir.claim()) == 1

    def test_an_owner_can_ask_what_it_claimed(self, desk: Desk) -> None:
        desk.storage.add([a_run(payload='"' + "x" * 9_000 + '"'), a_run(), a_run()])
        claims = desk.claim()
        desk.turn([desk.end(claims[1])])
        assert desk.storage.claimed_by("owner-1") == [claims[0], claims[2]]
        assert desk.storage.claimed_by("owner-2") == []

    def test_supervisors_are_shown_the_living_one_first(self, opened: Opener) -> None:
        first = opened()
        assert first.enter(an_owner("a", started_at=NOON - 5), A_STATUS)
        first.leave("a", NOON)
        second = opened()
        assert second.enter(an_owner("b", started_at=NOON - 9), A_STATUS)
        busy = A_STATUS._replace(draining=True, busy={"default": 2})
        second.heartbeat("b", busy, NOON + 1)
        living, gone = opened().supervisors(NOON + 2)
        assert (living.owner.id, living.alive, living.heartbeat_at) == ("b", True, NOON + 1)
        assert (living.status, living.left_at) == (busy, None)
        assert (gone.owner, gone.alive, gone.left_at) == (an_owner("a", started_at=NOON - 5), False, NOON)

    def test_a_supervisor_that_died_is_not_shown_as_living(self, opened: Opener) -> None:
        first = opened()
        assert first.enter(an_owner("a"), A_STATUS)
        first.close()
        (gone,) = opened().supervisors(NOON + (first.lease or 0))
        assert (gone.alive, gone.left_at) == (False, None)

    # --- schedules --------------------------------------------------------------------------------------

    def test_a_new_schedule_starts_now_and_a_known_one_where_it_was(
        self, storage: Storage
    ) -> None:  # rule 11
        assert storage.watermarks({"a": NOON + HOUR, "b": None}, NOON) == {"a": NOON, "b": NOON}
        assert storage.next_ticks() == {"a": NOON + HOUR, "b": None}
        assert storage.watermarks({"a": NOON + 2, "c": None}, NOON + 1) == {"a": NOON, "c": NOON + 1}
        assert storage.next_ticks() == {"a": NOON + 2, "b": None, "c": None}

    def test_a_tick_moves_the_watermark_and_adds_its_run(self, storage: Storage) -> None:
        storage.watermarks({"a": NOON + 1}, NOON)
        run = a_run(schedule="a", tick=NOON + 1, trigger=Trigger.SCHEDULE)
        assert storage.tick([Tick("a", NOON, NOON + 1, NOON + 2, run)]) == [Verdict(NOON + 1, True)]
        assert storage.run(run.id).tick == NOON + 1
        assert storage.next_ticks() == {"a": NOON + 2}
        assert storage.watermarks({"a": NOON + 2}, NOON + 9) == {"a": NOON + 1}

    def test_a_tick_that_somebody_else_accounted_for_adds_nothing(self, storage: Storage) -> None:
        storage.watermarks({"a": NOON + 1}, NOON)
        tick = Tick("a", NOON, NOON + 1, NOON + 2, a_run())
        storage.tick([tick])
        again = tick._replace(run=a_run())
        assert storage.tick([again]) == [Verdict(NOON + 1, False)]
        assert len(storage.runs(RunFilter())) == 1

    def test_a_tick_without_a_run_only_moves_the_watermark(self, storage: Storage) -> None:
        storage.watermarks({"a": NOON + 1}, NOON)
        assert storage.tick([Tick("a", NOON, NOON + 1, None, None)]) == [Verdict(NOON + 1, True)]
        assert storage.runs(RunFilter()) == []

    def test_ticks_of_one_call_are_judged_one_after_the_other(self, storage: Storage) -> None:
        storage.watermarks({"a": None}, NOON)
        first, second = a_tick(1), a_tick(2)
        assert storage.tick([first, second]) == [
            Verdict(NOON + 1, True),
            Verdict(NOON + 2, True, holder=first.run.id if first.run else None),
        ]
        assert storage.watermarks({"a": None}, NOON) == {"a": NOON + 2}

    def test_of_ticks_written_at_once_nothing_is_lost(self, storage: Storage) -> None:
        given: dict[str, Any] = {"schedule": "a", "trigger": Trigger.SCHEDULE, "policy": "{}"}
        runs = [
            a_run("one", tick=NOON + 1, priority=7, expires_at=NOON + HOUR, payload='{"args":[1]}', **given),
            a_run("two", tick=NOON + 2, missed=3, state=State.SCHEDULED, due_at=NOON + HOUR, **given),
            a_run("three", tick=NOON + 3, state=State.SKIPPED, reason="paused", detail='{"a":1}', **given),
            a_run("four", tick=NOON + 4, payload="[" + " " * 9_000 + "]", options='{"env":{}}', **given),
        ]
        ticks = [Tick("a", at, at + 1, None, run) for at, run in enumerate(runs, start=NOON)]
        storage.watermarks({"a": None}, NOON)
        assert all(verdict.accounted for verdict in storage.tick(ticks))
        for run in runs:
            found = storage.run(run.id)._asdict()
            kept = {name: value for name, value in run._asdict().items() if name in found}
            assert {name: found[name] for name in kept} == kept

    @pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.RETRYING])
    def test_a_tick_is_refused_while_a_run_of_its_task_is_not_over(
        self, desk: Desk, state: State
    ) -> None:  # rule 8
        holder = a_run()
        desk.storage.add([holder])
        if state is not State.QUEUED:
            (claim,) = desk.claim()
            if state is State.RETRYING:
                desk.turn([desk.end(claim, State.RETRYING, due_at=NOON + HOUR)])
        tick = a_tick(1)
        assert desk.storage.tick([tick]) == [Verdict(NOON + 1, True, holder=holder.id)]
        assert tick.refused is not None
        skipped = desk.storage.run(tick.refused.id)
        assert (skipped.state, skipped.reason) == (State.SKIPPED, "overlap")
        assert json.loads(skipped.detail or "")["holder"] == holder.id

    def test_a_tick_that_waits_out_its_jitter_is_in_the_way(self, storage: Storage) -> None:
        waiting = a_run(state=State.SCHEDULED, tick=NOON, due_at=NOON + HOUR)
        storage.add([waiting])
        assert storage.tick([a_tick(1)])[0].holder == waiting.id

    def test_a_run_dated_for_later_by_hand_is_not_in_the_way(self, desk: Desk) -> None:
        desk.finish(a_run())
        desk.storage.add([a_run(state=State.SCHEDULED, due_at=NOON + HOUR), a_run("mail")])
        tick = a_tick(1)
        assert desk.storage.tick([tick])[0].holder is None
        assert tick.run is not None
        assert desk.storage.run(tick.run.id).state is State.QUEUED

    def test_a_tick_that_may_run_beside_others_does(self, storage: Storage) -> None:
        storage.add([a_run()])
        tick = a_tick(1)._replace(refused=None)
        assert storage.tick([tick]) == [Verdict(NOON + 1, True)]
        assert len(storage.runs(RunFilter(states=(State.QUEUED,)))) == 2

    def test_schedules_that_are_no_more_are_forgotten(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None, "b": None}, NOON)
        desk.storage.publish("owner-1", a_catalogue(), keep=["b", "c"], now=NOON)
        assert desk.storage.next_ticks() == {"b": None}
        assert desk.storage.watermarks({"a": None}, NOON + 9) == {"a": NOON + 9}

    # --- the catalogue ----------------------------------------------------------------------------------

    def test_a_catalogue_is_read_back_as_it_was_published(self, desk: Desk, opened: Opener) -> None:
        client = opened()
        assert (client.catalogue(), client.entry("resize")) == (None, None)
        catalogue = a_catalogue("resize", "mail")
        desk.storage.publish("owner-1", catalogue, keep=[], now=NOON)
        assert client.catalogue() == catalogue
        assert list((client.catalogue() or catalogue).tasks) == ["resize", "mail"]
        assert client.entry("mail") == catalogue.tasks["mail"]
        assert client.entry("dump") is None
        desk.storage.publish("owner-1", a_catalogue("dump"), keep=[], now=NOON)
        assert client.entry("mail") is None
        assert client.catalogue() == a_catalogue("dump")

    def test_runs_are_added_if_their_definitions_are_what_the_caller_has_seen(
        self, desk: Desk, opened: Opener
    ) -> None:
        client = opened()
        desk.storage.publish("owner-1", a_catalogue("resize", "mail"), keep=[], now=NOON)
        seen = {task: client.published(task) for task in ("resize", "mail", "dump")}
        assert seen["resize"].entry == a_catalogue("resize").tasks["resize"]
        assert seen["dump"] == (None, "")
        marks = {task: each.mark for task, each in seen.items()}
        first, second = a_run(), a_run()
        assert client.add_if([first], {}) == [True]
        assert client.add_if([first, second], marks) == [False, True]
        assert client.add_if([], marks) == []
        assert len(client.runs(RunFilter())) == 2

    @pytest.mark.parametrize("now_published", [(), ("mail",), ("resize", "dump")])
    def test_runs_are_not_added_by_a_definition_that_is_another_now(
        self, desk: Desk, opened: Opener, now_published: tuple[str, ...]
    ) -> None:
        client = opened()
        desk.storage.publish("owner-1", a_catalogue("resize"), keep=[], now=NOON)
        marks = {task: client.published(task).mark for task in ("resize", "dump")}
        others = a_catalogue(*now_published)
        changed = {name: replace(entry, priority=7) for name, entry in others.tasks.items()}
        desk.storage.publish("owner-1", replace(others, tasks=changed), keep=[], now=NOON)
        assert client.add_if([a_run()], marks) is None
        assert client.add_if(a_pipeline(a_run()), marks) is None
        assert client.add_if([a_run(unique="k", replaces=True)], marks) is None
        assert client.runs(RunFilter()) == []
        marks = {task: client.published(task).mark for task in ("resize", "dump")}
        assert client.add_if([a_run()], marks) == [True]

    def test_the_same_definition_published_again_is_known_again(self, desk: Desk, opened: Opener) -> None:
        client = opened()
        desk.storage.publish("owner-1", a_catalogue("resize"), keep=[], now=NOON)
        mark = client.published("resize").mark
        desk.storage.publish("owner-1", a_catalogue("mail", "resize"), keep=[], now=NOON)
        assert client.add_if([a_run()], {"resize": mark}) == [True]
