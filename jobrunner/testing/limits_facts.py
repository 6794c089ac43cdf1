"""What holds a run back, or ends it before it begins: rates, marks, locks, pauses, overlap, removals."""

from __future__ import annotations

from typing import Any

import pytest

from ..durations import HOUR, MINUTE
from ..model import State, Trigger, task_lane, unique_key
from ..storage import Rate, Revocation, RunFilter, Storage, TaskRule, Tick
from .desk import (
    NOON,
    Desk,
    Opener,
    a_catalogue,
    a_locked_run,
    a_pause,
    a_pipeline,
    a_run,
    a_tick,
    is_readable,
    locked,
    waiting,
)


def rated(task: str, limit: int, window: int = MINUTE, **changes: Any) -> TaskRule:
    return TaskRule(task_lane(task), "default", rate=Rate(limit, window))._replace(**changes)


def a_mark(target: str, **changes: Any) -> Revocation:
    return Revocation(target, NOON, by="ana")._replace(**changes)


def a_report(place: int, overlap: str, *steps: Any) -> Tick:
    """The tick of a pipeline's schedule."""
    root, *members = a_pipeline(*steps, tick=NOON + place, schedule="a", trigger=Trigger.SCHEDULE)
    return Tick("a", NOON + place - 1, NOON + place, None, root, None, tuple(members), overlap)


class LimitFacts:
    """What holds a run back, or ends it before it begins."""

    # --- rates (rule 18) --------------------------------------------------------------------------------

    def test_a_rate_bounds_the_starts_of_each_window(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 2))
        desk.storage.add([a_locked_run("dump") for _ in range(5)])
        first = desk.turn()
        assert (len(first.claimed), first.more) == (2, False)
        assert (first.next_due, desk.turn().next_due) == (NOON + MINUTE, NOON + MINUTE)
        assert desk.claim() == []
        desk.now = NOON + MINUTE - 1
        assert desk.claim() == []
        for moment, number in ((MINUTE, 2), (MINUTE + 1, 0), (3 * MINUTE, 1)):
            desk.now = NOON + moment
            assert len(desk.claim()) == number
        assert desk.turn().next_due is None

    def test_an_exchange_names_the_tasks_that_a_rate_holds_back(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 1), load=rated("load", 2), resize=desk.rules.tasks["resize"])
        desk.storage.add([*(a_locked_run(task) for task in ("dump", "dump", "load")), a_run()])
        assert desk.turn().limited == ("dump",)
        assert desk.turn(want={}).limited == ()  # nobody asked for work: nothing was held back
        desk.storage.add([a_locked_run("load"), a_locked_run("load")])
        assert desk.turn().limited == ("dump", "load")
        desk.now = NOON + MINUTE
        assert (len(desk.claim()), desk.turn().limited) == (2, ())

    def test_windows_begin_with_the_epoch(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 1))
        desk.now = NOON + MINUTE - 1
        desk.storage.add([a_locked_run("dump") for _ in range(2)])
        assert (len(desk.claim()), desk.turn().next_due) == (1, NOON + MINUTE)
        desk.now = NOON + MINUTE
        assert len(desk.claim()) == 1

    def test_retries_count_as_starts(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 1))
        desk.storage.add([a_locked_run("dump")])
        (claim,) = desk.claim()
        assert desk.turn([desk.end(claim, State.QUEUED)]).claimed == []
        desk.now = NOON + MINUTE
        assert len(desk.claim()) == 1

    def test_what_waits_for_its_rate_takes_no_slot_from_others(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 1), resize=desk.rules.tasks["resize"])
        desk.storage.add([a_locked_run("dump", priority=9) for _ in range(20)])
        desk.storage.add([a_run(), a_run()])
        assert desk.tasks(2) == ["dump", "resize"]
        assert desk.tasks(2) == ["resize"]

    def test_a_rate_and_a_lock_bind_together(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 2, lock="database"))
        desk.storage.add([a_locked_run("dump") for _ in range(4)])
        (first,) = desk.claim()
        (second,) = desk.turn([desk.end(first)]).claimed
        assert desk.turn([desk.end(second)]).claimed == []
        desk.now = NOON + MINUTE
        assert len(desk.claim()) == 1

    def test_what_finds_its_lock_busy_has_not_started(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 2, lock="database", on_busy="skip"), load=locked("load"))
        desk.storage.add([a_locked_run("load")])
        (holder,) = desk.claim()
        desk.storage.add([a_locked_run("dump")])
        (refused,) = desk.claim()
        assert refused.refused == "lock busy"
        back = desk.end(refused, State.SKIPPED, outcome=None, attempt=0, reason="lock busy", started_at=None)
        desk.storage.add([a_locked_run("dump") for _ in range(3)])
        desk.turn([back, desk.end(holder)], want={})
        desk.use(dump=rated("dump", 2))
        assert len(desk.claim()) == 2

    def test_a_new_window_length_begins_anew(self, desk: Desk) -> None:
        desk.use(dump=rated("dump", 1))
        desk.storage.add([a_locked_run("dump") for _ in range(2)])
        desk.now = NOON + 90 * MINUTE
        assert len(desk.claim()) == 1
        desk.use(dump=rated("dump", 1, HOUR))
        assert len(desk.claim()) == 1

    # --- revocations (rule 20) --------------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["run", "task"])
    def test_what_is_revoked_is_cancelled_instead_of_started(self, desk: Desk, kind: str) -> None:
        run, other = a_run(), a_run("mail")
        behind = waiting(run)
        desk.storage.add([run, other, behind])
        desk.storage.revoke(a_mark(f"run:{run.id}" if kind == "run" else "task:resize"))
        assert desk.storage.run(run.id).state is State.QUEUED
        assert desk.tasks() == ["mail"]
        ended = desk.storage.run(run.id)
        assert (ended.state, ended.reason, ended.claim_no) == (State.CANCELLED, "revoked", 0)
        assert desk.storage.run(behind.id).state is State.SKIPPED
        desk.storage.add([a_run()])
        assert desk.tasks() == ([] if kind == "task" else ["resize"])

    def test_a_mark_that_is_used_once_ends_one_run(self, desk: Desk) -> None:
        low, high = a_run(priority=1), a_run(priority=2)
        desk.storage.add([low, high])
        desk.storage.revoke(a_mark("task:resize", once=True))
        assert [claim.id for claim in desk.claim()] == [low.id]
        assert desk.storage.run(high.id).reason == "revoked"
        assert desk.storage.revocations(NOON) == []

    def test_a_mark_ends_by_its_time(self, desk: Desk) -> None:
        desk.storage.revoke(a_mark("task:resize", until=NOON + MINUTE))
        desk.storage.add([a_run()])
        assert desk.claim() == []
        desk.now = NOON + MINUTE
        desk.storage.add([a_run()])
        assert len(desk.claim()) == 1
        assert desk.storage.revocations(desk.now) == []

    def test_what_is_restored_runs(self, desk: Desk) -> None:
        run = a_run()
        desk.storage.add([run])
        desk.storage.revoke(a_mark(f"run:{run.id}"))
        assert [desk.storage.restore(f"run:{run.id}") for _ in range(2)] == [True, False]
        assert len(desk.claim()) == 1

    def test_marks_are_listed_as_they_were_given(self, storage: Storage) -> None:
        marks = [a_mark("run:7", once=True, until=NOON + 1), a_mark("task:mail")]
        for mark in [a_mark("task:mail", once=True), *reversed(marks)]:
            storage.revoke(mark)
        assert storage.revocations(NOON) == marks

    def test_a_revoked_run_with_a_busy_lock_takes_nothing(self, desk: Desk) -> None:
        desk.use(dump=locked("dump"))
        runs = [a_locked_run("dump", priority=place) for place in (2, 1)]
        desk.storage.add(runs)
        desk.storage.revoke(a_mark(f"run:{runs[0].id}"))
        claimed = [claim.id for _ in range(2) for claim in desk.claim()]
        assert claimed == [runs[1].id]

    @pytest.mark.parametrize("kind", ["run", "task"])
    def test_a_mark_on_a_pipeline_cancels_the_whole_of_it(self, desk: Desk, kind: str) -> None:
        root, *steps = a_pipeline(a_run(), a_run())
        desk.storage.add([root, *steps])
        desk.storage.revoke(a_mark(f"run:{root.id}" if kind == "run" else "task:report", once=True))
        assert desk.claim() == []
        for run in (root, *steps):
            kept = desk.storage.run(run.id)
            assert (kept.state, kept.reason) == (State.CANCELLED, "revoked")
        assert desk.storage.revocations(NOON) == []

    @pytest.mark.parametrize("what", ["revoke", "restore"])
    def test_marks_wake_the_supervisor(self, opened: Opener, what: str) -> None:
        desk, client = Desk(opened()), opened()
        client.revoke(a_mark("task:resize"))
        desk.storage.woken()
        if what == "revoke":
            client.revoke(a_mark("task:mail"))
        else:
            client.restore("task:resize")
        assert is_readable(desk.storage, 30.0)

    # --- extra locks (rule 17) --------------------------------------------------------------------------

    def test_a_running_run_takes_one_more_lock(self, desk: Desk) -> None:
        desk.use(resize=desk.rules.tasks["resize"], dump=locked("dump"))
        desk.storage.add([a_run(), a_run()])
        one, two = ((desk.owner, claim.seq, claim.claim_no) for claim in desk.claim())
        assert [desk.storage.acquire(*one, "database", 1) for _ in range(2)] == [True, True]
        assert desk.storage.acquire(*two, "database", 1) is False
        desk.storage.add([a_locked_run("dump")])
        assert desk.claim() == []
        assert [desk.storage.release(*one, "database") for _ in range(2)] == [True, False]
        assert desk.tasks() == ["dump"]
        assert desk.storage.acquire(*two, "database", 1) is False
        assert desk.storage.acquire(*two, "database", 2) is True

    def test_the_runs_own_lock_is_had_already(self, desk: Desk) -> None:
        desk.use(dump=locked("dump"))
        desk.storage.add([a_locked_run("dump")])
        (claim,) = desk.claim()
        fence = desk.owner, claim.seq, claim.claim_no
        assert desk.storage.acquire(*fence, "database", 1) is True
        assert desk.storage.release(*fence, "database") is False

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.RETRYING, State.QUEUED])
    def test_an_extra_lock_ends_with_the_attempt(self, desk: Desk, state: State) -> None:
        desk.storage.add([a_run(), a_run()])
        first, second = desk.claim()
        assert desk.storage.acquire(desk.owner, first.seq, first.claim_no, "door", 1)
        desk.turn([desk.end(first, state, due_at=NOON + HOUR)])
        assert not desk.storage.acquire(desk.owner, first.seq, first.claim_no, "window", 1)
        assert not desk.storage.release(desk.owner, first.seq, first.claim_no, "door")
        assert desk.storage.acquire(desk.owner, second.seq, second.claim_no, "door", 1)

    def test_who_does_not_run_gets_no_lock(self, desk: Desk) -> None:
        desk.storage.add([a_run(), a_run()])
        (claim,) = desk.claim(1)
        for fence in (
            ("somebody", claim.seq, claim.claim_no),
            (desk.owner, claim.seq, 7),
            (desk.owner, claim.seq + 1, 1),
        ):
            assert desk.storage.acquire(*fence, "door", 1) is False
        assert desk.storage.acquire(desk.owner, claim.seq, claim.claim_no, "door", 1)

    # --- paused pipelines -------------------------------------------------------------------------------

    def test_steps_of_a_paused_pipeline_wait(self, desk: Desk) -> None:  # rule 20
        desk.use(resize=desk.rules.tasks["resize"], dump=locked("dump"))
        root, *steps = a_pipeline(a_run(), a_locked_run("dump"))
        plain = a_run(priority=-1)
        desk.storage.add([root, *steps, plain])
        desk.storage.pause(a_pause("task:report"))
        desk.turn(want={})
        assert [claim.id for claim in desk.claim(1)] == [plain.id]
        assert [desk.claim() for _ in range(2)] == [[], []]
        assert desk.storage.run(steps[0].id).lane == "paused:report"
        desk.storage.resume("task:report")
        (claim,) = [claim for _ in range(4) for claim in desk.claim()]
        assert claim.id == steps[0].id
        desk.storage.pause(a_pause("task:report"))
        desk.turn([desk.end(claim)], want={})
        assert [desk.claim() for _ in range(2)] == [[], []]
        desk.storage.resume("task:report")
        assert [claim.id for _ in range(4) for claim in desk.claim()] == [steps[1].id]

    def test_a_paused_task_holds_up_the_steps_that_are_of_it(self, desk: Desk) -> None:
        runs = a_pipeline(a_run("mail"))
        desk.storage.add(runs)
        desk.storage.pause(a_pause("task:mail"))
        desk.turn(want={})
        assert [desk.claim() for _ in range(2)] == [[], []]
        desk.storage.resume("task:mail")
        assert [claim.id for _ in range(3) for claim in desk.claim()] == [runs[1].id]

    # --- ticks: overlap (rule 8) ------------------------------------------------------------------------

    def test_a_ticks_pipeline_is_written_whole(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        tick = a_report(1, "skip", a_run(), a_run())
        assert desk.storage.tick([tick])[0].holder is None
        assert tick.run is not None
        assert len(desk.storage.runs(RunFilter(pipeline=tick.run.id))) == 3
        assert [claim.id for claim in desk.claim()] == [tick.members[0].id]

    def test_an_unfinished_pipeline_is_in_the_way_and_one_dated_for_later_is_not(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        later = a_pipeline(a_run(state=State.SCHEDULED, due_at=NOON + HOUR), due_at=NOON + HOUR)
        desk.storage.add(later)
        first, second = (a_report(place, "skip", a_run()) for place in (1, 2))
        assert second.run is not None
        refused = second.run._replace(state=State.SKIPPED, reason="overlap", join=None, after=())
        verdicts = desk.storage.tick([first, second._replace(refused=refused)])
        assert first.run is not None
        assert [verdict.holder for verdict in verdicts] == [None, first.run.id]
        assert desk.storage.run(second.run.id).state is State.SKIPPED
        assert desk.storage.runs(RunFilter(pipeline=second.run.id))[0].id == second.run.id
        assert len(desk.storage.runs(RunFilter(pipeline=second.run.id))) == 1

    def test_a_queued_tick_waits_for_all_that_hold(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        desk.storage.add([a_run(), a_run()])
        claims = desk.claim(1)
        tick = a_tick(1)._replace(overlap="queue", refused=None)
        assert tick.run is not None
        (verdict,) = desk.storage.tick([tick])
        assert (verdict.accounted, verdict.holder) == (True, claims[0].id)
        assert desk.storage.run(tick.run.id).state is State.WAITING
        (second,) = desk.turn([desk.end(claims[0], State.FAILED)]).claimed
        assert [claim.id for claim in desk.turn([desk.end(second)]).claimed] == [tick.run.id]

    def test_a_newer_tick_takes_the_place_of_one_that_waits(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        first, second = (a_tick(place)._replace(overlap="queue", refused=None) for place in (1, 2))
        assert first.run is not None
        assert second.run is not None
        assert [verdict.holder for verdict in desk.storage.tick([first, second])] == [claim.id] * 2
        kept = desk.storage.run(first.run.id)
        assert (kept.state, kept.reason) == (State.CANCELLED, "superseded")
        assert [claim.id for claim in desk.turn([desk.end(claim)]).claimed] == [second.run.id]

    def test_what_waits_behind_another_for_a_catch_up_is_left_alone(self, desk: Desk) -> None:  # rule 9
        desk.storage.watermarks({"a": None}, NOON)
        running = a_run()
        desk.storage.add([running])
        (claim,) = desk.claim()
        missed = waiting(running, condition="final", tick=NOON - 5, trigger=Trigger.CATCH_UP)
        desk.storage.add([missed])
        desk.storage.tick([a_tick(1)._replace(overlap="queue", refused=None)])
        assert desk.storage.run(missed.id).state is State.WAITING
        assert len(desk.turn([desk.end(claim)]).claimed) == 2

    def test_a_replacing_tick_ends_what_holds_and_waits_for_what_ran(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        queued = a_run(priority=-1)
        desk.storage.add([a_run(), queued])
        (claim,) = desk.claim(1)
        tick = a_tick(1)._replace(overlap="replace", refused=None)
        assert tick.run is not None
        assert desk.storage.tick([tick])[0].holder == claim.id
        ended = desk.storage.run(queued.id)
        assert (ended.state, ended.reason) == (State.CANCELLED, "superseded")
        assert desk.turn().cancels == [(claim.seq, claim.claim_no)]
        assert desk.claim() == []
        end = desk.end(claim, State.CANCELLED, outcome="cancelled", reason="cancelled")
        assert [each.id for each in desk.turn([end]).claimed] == [tick.run.id]
        assert desk.storage.run(claim.id).reason == "superseded"

    def test_a_replacing_tick_whose_way_is_free_runs_at_once(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        desk.storage.add([a_run()])
        tick = a_tick(1)._replace(overlap="replace", refused=None)
        desk.storage.tick([tick])
        assert tick.run is not None
        assert [claim.id for claim in desk.claim()] == [tick.run.id]

    @pytest.mark.parametrize("overlap", ["queue", "replace"])
    def test_a_pipeline_waits_for_a_pipeline(self, desk: Desk, overlap: str) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        ticks = [a_report(place, overlap, a_run(), a_run()) for place in (1, 2, 3)]
        desk.storage.tick(ticks[:1])
        (claim,) = desk.claim()
        desk.storage.tick(ticks[1:])
        roots = [desk.storage.run(tick.run.id) for tick in ticks if tick.run is not None]
        assert (roots[1].state, roots[1].reason) == (State.CANCELLED, "superseded")
        assert roots[0].cancel_requested is (overlap == "replace")
        assert desk.claim() == []
        while desk.storage.run(roots[0].id).state is State.WAITING:
            state = State.SUCCEEDED if overlap == "queue" else State.CANCELLED
            desk.turn([desk.end(claim, state)], want={})
            (claim,) = desk.claim()
        assert claim.id == ticks[2].members[0].id

    @pytest.mark.parametrize("overlap", ["queue", "replace"])
    def test_a_tick_that_is_there_already_changes_nothing(self, desk: Desk, overlap: str) -> None:
        desk.storage.watermarks({"a": None, "b": None}, NOON)
        tick = a_tick(1)._replace(overlap=overlap, refused=None)
        assert tick.run is not None
        desk.storage.tick([tick, tick._replace(schedule="b")])
        run = desk.storage.run(tick.run.id)
        assert (run.state, run.cancel_requested) == (State.QUEUED, False)

    def test_a_tick_is_never_refused_for_its_key(self, desk: Desk) -> None:
        desk.storage.watermarks({"a": None}, NOON)
        key = unique_key("resize", "x")
        desk.storage.add([a_run(unique=key)])
        first, second = (a_tick(place)._replace(refused=None) for place in (1, 2))
        for tick in (first, second):
            assert tick.run is not None
            desk.storage.tick([tick._replace(run=tick.run._replace(unique=key))])
        assert [run.unique for run in desk.storage.runs(RunFilter())] == [None, None, key]

    # --- removed tasks (rule 20) ------------------------------------------------------------------------

    def test_ticks_and_retries_of_removed_tasks_are_cancelled(self, desk: Desk) -> None:
        mine = [a_run("mail") for _ in range(3)]
        desk.storage.add(mine[:1])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.RETRYING, due_at=NOON + HOUR)])
        ticks = [a_run("mail", tick=NOON), a_run("mail", state=State.SCHEDULED, due_at=NOON + 9, tick=NOON)]
        kept = [a_run("mail"), a_run(tick=NOON)]
        desk.storage.add([*ticks, *kept])
        desk.storage.publish(desk.owner, a_catalogue("resize"), keep=["a"], now=NOON + 4)
        for run in (mine[0], *ticks):
            ended = desk.storage.run(run.id)
            assert (ended.state, ended.reason, ended.finished_at) == (State.CANCELLED, "removed", NOON + 4)
        assert [desk.storage.run(run.id).state for run in kept] == [State.QUEUED] * 2

    def test_a_removed_pipeline_that_has_begun_goes_on(self, desk: Desk) -> None:  # rule 26
        desk.storage.watermarks({"a": None}, NOON)
        first = a_report(1, "skip", a_run(), a_run())
        desk.storage.tick([first])
        assert len(desk.claim()) == 1
        second = a_report(2, "skip", a_run())
        desk.storage.tick([second])
        desk.storage.publish(desk.owner, a_catalogue("resize", "mail"), keep=["a"], now=NOON)
        assert first.run is not None
        assert second.run is not None
        assert desk.storage.run(first.run.id).state is State.WAITING
        assert desk.storage.run(second.run.id).reason == "removed"
