"""What is claimed, in which order, and what is not: priority, time, lanes, locks, pauses."""

from __future__ import annotations

import pytest

from ..durations import HOUR, MINUTE
from ..model import State, pool_lane
from ..storage import (
    Storage,
    TaskRule,
)
from .desk import NOON, PLAIN, Desk, a_locked_run, a_pause, a_run, locked


class ClaimFacts:
    """What is claimed, in which order, and what is not: priority, time, lanes, locks, pauses."""

    # --- claims: order ----------------------------------------------------------------------------------

    def test_priority_is_strict(self, desk: Desk) -> None:  # rule 18
        for priority in (100, 120, 10, 12, 0, 2):
            desk.storage.add([a_run(priority=priority)])
        assert [claim.priority for claim in desk.claim()] == [120, 100, 12, 10, 2, 0]

    def test_equal_priorities_go_by_due_time_and_then_by_order_of_enqueue(self, desk: Desk) -> None:
        early, first, second = a_run(due_at=NOON - 1), a_run(), a_run()
        desk.storage.add([first])
        desk.storage.add([second, early])
        assert [claim.id for claim in desk.claim()] == [early.id, first.id, second.id]

    def test_a_claimed_run_is_not_claimed_again(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        assert len(desk.claim()) == 1
        assert desk.claim() == []

    def test_a_claim_says_what_the_run_is(self, desk: Desk) -> None:
        given = a_run(priority=3, tick=NOON, missed=2, policy="{}", options="{}", cause="{}")
        desk.storage.add([given])
        (claim,) = desk.claim()
        for name in ("id", "task", "payload", "priority", "due_at", "created_at", "trigger", "pool", "tick"):
            assert getattr(claim, name) == getattr(given, name), name
        assert (claim.missed, claim.policy, claim.options, claim.cause) == (2, "{}", "{}", "{}")
        assert (claim.claim_no, claim.attempt, claim.failures, claim.crashes) == (1, 1, 0, 0)
        assert claim.refused is None

    def test_a_claimed_run_is_running_under_its_owner(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        run = desk.storage.run(claim.id)
        assert (run.state, run.owner, run.host) == (State.RUNNING, "owner-1", "web1")
        assert (run.claim_no, run.attempt, run.started_at) == (1, 1, None)

    def test_no_more_is_claimed_than_is_wanted(self, desk: Desk) -> None:
        desk.storage.add([a_run() for _ in range(5)])
        answer = desk.turn(want={"default": 3})
        assert (len(answer.claimed), answer.more) == (3, True)
        answer = desk.turn(want={"default": 3})
        assert (len(answer.claimed), answer.more) == (2, False)

    def test_a_pool_that_wants_nothing_gets_nothing(self, desk: Desk) -> None:
        desk.use(resize=PLAIN, dump=TaskRule(pool_lane("commands"), "commands"))
        desk.storage.add([a_run(), a_run("dump", lane=pool_lane("commands"), pool="commands")])
        answer = desk.turn(want={"default": 0, "commands": 1})
        assert [claim.task for claim in answer.claimed] == ["dump"]

    def test_lanes_of_one_pool_are_merged_by_priority(self, desk: Desk) -> None:
        desk.use(resize=PLAIN, dump=locked("dump"))
        runs = [
            a_run(priority=1),
            a_locked_run("dump", priority=2),
            a_run(priority=3),
            a_locked_run("dump", priority=0),
        ]
        desk.storage.add(runs)
        assert desk.tasks(2) == ["resize", "dump"]

    # --- claims: time -----------------------------------------------------------------------------------

    def test_a_scheduled_run_waits_for_its_time(self, desk: Desk) -> None:
        desk.storage.add([a_run(state=State.SCHEDULED, due_at=NOON + MINUTE)])
        answer = desk.turn()
        assert (answer.claimed, answer.next_due) == ([], NOON + MINUTE)
        desk.now = NOON + MINUTE
        answer = desk.turn()
        assert (len(answer.claimed), answer.next_due) == (1, None)

    def test_what_is_due_is_queued_even_when_nothing_is_wanted(self, desk: Desk) -> None:
        run = a_run(state=State.SCHEDULED)
        desk.storage.add([run])
        desk.turn(want={})
        assert desk.storage.run(run.id).state is State.QUEUED

    def test_many_that_are_due_are_queued_by_and_by(self, desk: Desk) -> None:
        desk.storage.add([a_run(state=State.SCHEDULED) for _ in range(1_200)])
        turns = 0
        while desk.turn(want={}).more:
            turns += 1
            assert turns < 1_200
        assert desk.storage.overview(NOON).counts[State.QUEUED] == 1_200

    def test_a_retry_waits_for_its_time(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.RETRYING, due_at=NOON + MINUTE)])
        run = desk.storage.run(claim.id)
        assert (run.state, run.due_at, run.failures) == (State.RETRYING, NOON + MINUTE, 1)
        assert desk.claim() == []
        desk.now = NOON + MINUTE
        (again,) = desk.claim()
        assert (again.id, again.claim_no, again.attempt, again.failures) == (claim.id, 2, 2, 1)

    def test_a_run_that_is_not_started_in_time_expires(self, desk: Desk) -> None:  # rule 19
        run = a_run(expires_at=NOON + MINUTE)
        desk.storage.add([run])
        assert desk.turn(want={}).next_due == NOON + MINUTE
        desk.now = NOON + MINUTE
        assert desk.claim() == []
        kept = desk.storage.run(run.id)
        assert (kept.state, kept.reason, kept.finished_at) == (State.EXPIRED, "expired", NOON + MINUTE)

    def test_a_run_expires_even_when_nothing_can_be_claimed(self, desk: Desk) -> None:
        run = a_run("nobody knows it", expires_at=NOON + MINUTE)
        desk.storage.add([run])
        desk.now = NOON + MINUTE
        desk.turn(want={})
        assert desk.storage.run(run.id).state is State.EXPIRED

    def test_more_expired_runs_than_one_turn_ends_are_not_claimed_either(self, desk: Desk) -> None:
        desk.storage.add([a_run(expires_at=NOON) for _ in range(1_200)])
        desk.storage.add([a_run()])
        assert len(desk.claim()) == 1

    def test_expiry_bounds_only_the_first_start(self, desk: Desk) -> None:
        desk.storage.add([a_run(expires_at=NOON + MINUTE)])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.RETRYING, due_at=NOON + HOUR)])
        desk.now = NOON + HOUR
        assert len(desk.claim()) == 1

    # --- claims: rules ----------------------------------------------------------------------------------

    def test_a_run_of_an_unknown_task_waits_until_it_is_known(self, desk: Desk) -> None:  # rule 20
        desk.storage.add([a_run("thumbnail"), a_run()])
        assert desk.tasks() == ["resize"]
        assert desk.tasks() == []
        desk.use(thumbnail=PLAIN)
        assert desk.tasks() == ["thumbnail"]

    def test_many_runs_of_an_unknown_task_do_not_hold_up_the_others(self, desk: Desk) -> None:
        desk.storage.add([a_run("thumbnail", priority=9) for _ in range(2_200)])
        desk.storage.add([a_run()])
        assert desk.tasks() == ["resize"]
        assert desk.turn(want={}).claimed == []
        desk.use(thumbnail=PLAIN, resize=PLAIN)
        assert {desk.tasks(1)[0] for _ in range(3)} == {"thumbnail"}

    def test_a_task_that_is_paused_with_many_runs_does_not_hold_up_the_others(self, desk: Desk) -> None:
        desk.storage.add([a_run("mail", priority=9) for _ in range(300)])
        desk.storage.add([a_run("thumbnail", priority=8) for _ in range(300)])
        desk.storage.add([a_run(), a_run()])
        desk.storage.pause(a_pause("task:mail"))
        desk.turn(want={})
        answer = desk.turn()
        assert ([claim.task for claim in answer.claimed], answer.more) == (["resize", "resize"], True)

    def test_runs_follow_their_task_into_another_pool(self, desk: Desk) -> None:
        desk.use(resize=TaskRule(pool_lane("big"), "big"), mail=PLAIN)
        desk.storage.add([a_run(), a_run("mail")])
        seen = [claim.task for _ in range(2) for claim in desk.turn(want={"default": 1, "big": 1}).claimed]
        assert sorted(seen) == ["mail", "resize"]

    def test_runs_that_wait_in_a_pool_that_is_gone_are_found(self, desk: Desk) -> None:
        desk.storage.add([a_run(lane=pool_lane("old"), pool="old")])
        assert [claim.task for _ in range(2) for claim in desk.claim()] == ["resize"]

    def test_runs_follow_their_task_when_it_gets_a_lock(self, desk: Desk) -> None:
        desk.storage.add([a_run(), a_run()])
        desk.use(resize=locked("resize"))
        assert [len(desk.claim()) for _ in range(3)] in ([0, 1, 0], [1, 0, 0])

    def test_order_survives_a_move_between_lanes(self, desk: Desk) -> None:
        runs = [a_run(), a_run("mail"), a_run()]
        desk.storage.add(runs)
        desk.storage.pause(a_pause("task:resize"))
        desk.turn(want={})
        assert desk.tasks(1) == ["mail"]
        late = a_run()
        desk.storage.add([late])
        desk.storage.resume("task:resize")
        desk.turn(want={})
        assert [claim.id for claim in desk.claim()] == [runs[0].id, runs[2].id, late.id]

    # --- locks (rule 17) --------------------------------------------------------------------------------

    def test_a_lock_is_held_by_as_many_as_it_has_slots(self, desk: Desk) -> None:
        desk.use(dump=locked("dump", slots=2))
        desk.storage.add([a_locked_run("dump") for _ in range(5)])
        first = desk.turn()
        assert (len(first.claimed), first.more) == (2, False)
        assert desk.claim() == []
        assert len(desk.turn([desk.end(first.claimed[0])]).claimed) == 1

    def test_a_lock_is_shared_between_tasks_and_pools(self, desk: Desk) -> None:
        desk.use(dump=locked("dump"), load=locked("load")._replace(pool="commands"))
        desk.storage.add([a_locked_run("load"), a_locked_run("dump")])
        first = desk.turn(want={"default": 5, "commands": 5}).claimed
        assert len(first) == 1
        second = desk.turn([desk.end(first[0])], want={"default": 5, "commands": 5}).claimed
        assert {first[0].task, second[0].task} == {"dump", "load"}

    def test_the_best_run_of_all_gets_the_lock(self, desk: Desk) -> None:
        desk.use(dump=locked("dump"), load=locked("load"))
        desk.storage.add([a_locked_run("dump", priority=1), a_locked_run("load", priority=2)])
        assert desk.tasks() == ["load"]

    def test_runs_behind_a_busy_lock_do_not_hold_up_the_others(self, desk: Desk) -> None:
        desk.use(resize=PLAIN, dump=locked("dump"))
        desk.storage.add([a_locked_run("dump", priority=9) for _ in range(50)])
        desk.storage.add([a_run(), a_run()])
        assert desk.tasks(2) == ["dump", "resize"]
        assert desk.tasks(2) == ["resize"]

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.RETRYING, State.QUEUED])
    def test_a_lock_ends_with_the_attempt(self, desk: Desk, state: State) -> None:
        desk.use(dump=locked("dump"))
        desk.storage.add([a_locked_run("dump"), a_locked_run("dump")])
        (claim,) = desk.claim()
        answer = desk.turn([desk.end(claim, state, due_at=NOON + HOUR)])
        assert len(answer.claimed) == 1

    @pytest.mark.parametrize("on_busy", ["skip", "fail"])
    def test_a_run_that_does_not_wait_for_its_lock_is_claimed_to_be_refused(
        self, desk: Desk, on_busy: str
    ) -> None:
        desk.use(dump=locked("dump", on_busy=on_busy))
        desk.storage.add([a_locked_run("dump", priority=2), a_locked_run("dump", priority=1)])
        first, second = desk.claim(1)
        assert (first.refused, second.refused) == (None, "lock busy")
        back = desk.end(second, State.SKIPPED, outcome=None, attempt=0, reason="lock busy", started_at=None)
        assert desk.turn([back]).refused == []
        run = desk.storage.run(second.id)
        assert (run.state, run.reason, run.attempt) == (State.SKIPPED, "lock busy", 0)
        assert desk.storage.attempts(second.id) == []

    def test_a_refused_claim_holds_no_lock(self, desk: Desk) -> None:
        desk.use(dump=locked("dump", on_busy="skip"))
        desk.storage.add([a_locked_run("dump"), a_locked_run("dump")])
        held, _refused = desk.claim()
        desk.storage.add([a_locked_run("dump")])
        assert [claim.refused for claim in desk.turn([desk.end(held)]).claimed] == [None]

    # --- pauses -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("target", ["task:resize", "pool:default", "all"])
    def test_nothing_of_what_is_paused_is_claimed(self, desk: Desk, target: str) -> None:
        desk.storage.add([a_run()])
        desk.storage.pause(a_pause(target))
        assert [desk.claim() for _ in range(3)] == [[], [], []]
        assert desk.storage.resume(target)
        assert [len(desk.claim()) for _ in range(2)] == [0, 1]

    @pytest.mark.parametrize("target", ["task:dump", "pool:default", "all"])
    def test_nothing_of_a_paused_task_with_a_lock_is_claimed(self, desk: Desk, target: str) -> None:
        desk.use(dump=locked("dump"))
        desk.storage.add([a_locked_run("dump")])
        desk.storage.pause(a_pause(target))
        assert [desk.claim() for _ in range(3)] == [[], [], []]

    def test_a_paused_task_does_not_hold_up_the_others(self, desk: Desk) -> None:
        desk.storage.pause(a_pause("task:resize"))
        desk.turn(want={})
        desk.storage.add([a_run(), a_run("mail")])
        assert desk.tasks(1) == ["mail"]

    def test_a_change_of_pauses_moves_the_control_version_and_stops_that_turns_claims(
        self, desk: Desk
    ) -> None:
        desk.storage.add([a_run()])
        before = desk.version
        desk.storage.pause(a_pause("task:mail"))
        answer = desk.turn()
        assert answer.control_version != before
        assert answer.claimed == []
        assert len(desk.claim()) == 1

    def test_a_pause_with_an_end_ends_by_itself(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        desk.storage.pause(a_pause("task:resize", until=NOON + HOUR))
        desk.turn(want={})
        assert desk.turn().next_due == NOON + HOUR
        desk.now = NOON + HOUR
        assert desk.storage.pauses(desk.now) == []
        assert desk.tasks() == ["resize"]

    def test_pauses_are_listed_as_they_were_given(self, storage: Storage) -> None:
        pause = a_pause("task:resize", until=NOON + HOUR)
        storage.pause(pause)
        storage.pause(a_pause("all"))
        assert storage.pauses(NOON) == [a_pause("all"), pause]
        assert storage.pauses(NOON + HOUR) == [a_pause("all")]
        assert storage.pauses(0) == [a_pause("all"), pause]  # known until the next one
        assert storage.resume("task:resize") is True
        assert storage.resume("task:resize") is False
        assert storage.pauses(NOON) == [a_pause("all")]
