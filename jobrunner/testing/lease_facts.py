"""Storages that tell by leases who lives: several supervisors side by side, and what a lease is worth."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from ..durations import DAY, SECOND, Micros
from ..errors import OwnerLost
from ..machine import pid_space
from ..model import State
from ..storage import Storage
from .desk import (
    A_STATUS,
    NOON,
    PATIENCE,
    Desk,
    Opener,
    a_catalogue,
    a_locked_run,
    a_run,
    a_tick,
    an_owner,
    in_threads,
    is_readable,
    locked,
)

NO_PROCESS = 2**22 + 1  # above every pid that Linux gives


class LeaseFacts:
    """Several supervisors side by side, and what a lease is worth."""

    @pytest.fixture
    def lease(self, storage: Storage) -> Micros:
        """How long an owner is believed alive."""
        assert storage.lease is not None
        return storage.lease

    # --- side by side (rule 31) -------------------------------------------------------------------------

    def test_supervisors_side_by_side_claim_each_run_once(self, opened: Opener) -> None:
        desks = [Desk(opened(), name) for name in "abcd"]
        desks[0].storage.add([a_run() for _ in range(200)])
        claimed: list[str] = []

        def work(desk: Desk) -> None:
            for _ in range(12):
                claimed.extend(claim.id for claim in desk.claim(7))

        in_threads([partial(work, desk) for desk in desks])
        assert len(claimed) == len(set(claimed)) == 200

    def test_supervisors_side_by_side_account_for_each_tick_once(self, opened: Opener) -> None:
        storages = [opened() for _ in range(4)]
        storages[0].watermarks({"a": None}, NOON)
        accounted: list[bool] = []

        def tell(storage: Storage) -> None:
            for place in range(1, 41):
                tick = a_tick(place)._replace(refused=None)
                accounted.extend(verdict.accounted for verdict in storage.tick([tick]))

        in_threads([partial(tell, storage) for storage in storages])
        assert sum(accounted) == 40

    def test_a_lock_holds_between_supervisors(self, opened: Opener) -> None:
        first, second = (Desk(opened(), name, {"dump": locked("dump")}) for name in "ab")
        first.storage.add([a_locked_run("dump"), a_locked_run("dump")])
        (claim,) = first.claim()
        assert second.claim() == []
        first.turn([first.end(claim)], want={})
        assert len(second.claim()) == 1

    def test_what_one_supervisor_frees_wakes_the_others(self, opened: Opener) -> None:
        first, second = (Desk(opened(), name, {"dump": locked("dump")}) for name in "ab")
        first.storage.add([a_locked_run("dump"), a_locked_run("dump")])
        (claim,) = first.claim()
        second.storage.woken()
        first.turn([first.end(claim)], want={})
        assert is_readable(second.storage, PATIENCE)

    def test_the_catalogue_is_what_all_who_live_know(self, opened: Opener) -> None:
        first, second = (Desk(opened(), name) for name in "ab")
        first.storage.publish("a", a_catalogue("resize", "mail"), keep=[], now=NOON)
        second.storage.publish("b", a_catalogue("mail", "dump"), keep=[], now=NOON)
        client = opened()
        assert sorted((client.catalogue() or a_catalogue()).tasks) == ["dump", "mail", "resize"]
        assert client.entry("resize") is not None
        marks = {"resize": client.published("resize").mark}
        first.storage.leave("a", NOON)
        assert client.add_if([a_run()], marks) is None  # nobody who lives has that task
        assert sorted((client.catalogue() or a_catalogue()).tasks) == ["dump", "mail"]
        assert client.entry("resize") is None

    def test_the_last_catalogue_stays_when_nobody_lives(self, opened: Opener) -> None:
        desk = Desk(opened(), "a")
        desk.storage.publish("a", a_catalogue("resize"), keep=[], now=NOON)
        desk.storage.leave("a", NOON)
        assert opened().catalogue() == a_catalogue("resize")

    def test_schedules_that_another_supervisor_has_are_kept(self, opened: Opener) -> None:
        first, second = (Desk(opened(), name) for name in "ab")
        first.storage.watermarks({"a": None, "b": None, "c": None}, NOON)
        first.storage.publish("a", a_catalogue(), keep=["a", "b"], now=NOON)
        second.storage.publish("b", a_catalogue(), keep=["b"], now=NOON)
        assert set(second.storage.next_ticks()) == {"a", "b"}

    @pytest.mark.parametrize("gone", [False, True])
    def test_a_tick_is_removed_when_no_one_who_lives_has_its_task(
        self, opened: Opener, gone: bool
    ) -> None:  # rule 20
        first, second = (Desk(opened(), name) for name in "ab")
        first.storage.publish("a", a_catalogue("resize"), keep=["a"], now=NOON)
        first.storage.watermarks({"a": None}, NOON)
        tick = a_tick(1)
        first.storage.tick([tick])
        assert tick.run is not None
        if gone:
            first.storage.leave("a", NOON)
        second.storage.publish("b", a_catalogue("mail"), keep=[], now=NOON)
        assert first.storage.run(tick.run.id).reason == ("removed" if gone else None)

    @pytest.mark.parametrize("orderly", [False, True])
    def test_what_only_an_absent_machine_has_is_kept_for_a_day(
        self, opened: Opener, orderly: bool, lease: Micros
    ) -> None:  # every tick is accounted for: those of the outage are, when it is back
        away, desk = opened(), Desk(opened(), "b")
        away.enter(an_owner("a", host="db1", config="/srv/other.yaml"), A_STATUS)
        away.publish("a", a_catalogue("resize"), keep=["a"], now=NOON)
        away.watermarks({"a": None}, NOON)
        tick = a_tick(1)
        away.tick([tick])
        assert tick.run is not None
        if orderly:
            away.leave("a", NOON)
        else:
            desk.outlive()
            desk.storage.orphans("b")
        desk.storage.publish("b", a_catalogue("mail"), keep=[], now=NOON + lease)
        assert desk.storage.run(tick.run.id).reason is None
        assert set(desk.storage.next_ticks()) == {"a"}
        desk.storage.publish("b", a_catalogue("mail"), keep=[], now=NOON + DAY + 2 * lease)
        assert desk.storage.run(tick.run.id).reason == "removed"
        assert set(desk.storage.next_ticks()) == set()

    def test_what_its_successor_does_not_have_is_removed(self, opened: Opener) -> None:  # rule 20
        away, back = opened(), opened()
        away.enter(an_owner("a", host="db1"), A_STATUS)
        away.publish("a", a_catalogue("resize"), keep=["a"], now=NOON)
        away.watermarks({"a": None}, NOON)
        away.leave("a", NOON)
        back.enter(an_owner("c", host="db1"), A_STATUS)
        back.publish("c", a_catalogue("mail"), keep=[], now=NOON)
        assert set(back.next_ticks()) == set()

    # --- leases (rules 32, 33) --------------------------------------------------------------------------

    def test_a_lease_that_is_renewed_is_not_taken(self, opened: Opener, lease: Micros) -> None:
        first, second = Desk(opened(), "a"), Desk(opened(), "b")
        first.storage.add([a_run()])
        first.claim()
        for _ in range(3):
            first.storage.heartbeat("a", A_STATUS, first.now)
            second.now = first.now = first.now + lease - SECOND
            second.storage.heartbeat("b", A_STATUS, second.now)
            assert second.storage.orphans("b") == []

    def test_a_lease_that_has_run_out_voids_nothing_by_itself(self, opened: Opener, lease: Micros) -> None:
        desk = Desk(opened(), "a")
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.now += 10 * lease
        assert desk.turn([desk.end(claim)], want={}).refused == []
        desk.storage.heartbeat("a", A_STATUS, desk.now)
        assert desk.storage.supervisors(desk.now)[0].alive

    def test_what_a_voided_owner_still_writes_is_refused(self, opened: Opener) -> None:  # D11
        frozen, heir = Desk(opened(), "a"), Desk(opened(), "b")
        frozen.storage.add([a_run(), a_run()])
        claim, other = frozen.claim()
        heir.outlive()
        assert len(heir.storage.orphans("b")) == 2
        late: list[Any] = [frozen.end(claim, result="1"), frozen.end(other)]
        with pytest.raises(OwnerLost):
            frozen.turn(late)
        with pytest.raises(OwnerLost):
            frozen.storage.heartbeat("a", A_STATUS, frozen.now)
        assert frozen.storage.run(claim.id).state is State.RUNNING
        back = [frozen.end(each, State.QUEUED, crashes=1) for each in (claim, other)]
        assert heir.storage.settle(back) == [True, True]
        assert frozen.storage.settle([frozen.end(claim)]) == [False]
        assert len(heir.claim()) == 2

    def test_a_voided_owner_is_never_revived(self, opened: Opener) -> None:
        frozen, heir = Desk(opened(), "a"), Desk(opened(), "b")
        heir.outlive()
        heir.storage.orphans("b")
        with pytest.raises(OwnerLost):
            frozen.storage.enter(an_owner("a"), A_STATUS)
        assert [each.owner.id for each in heir.storage.supervisors(heir.now) if each.alive] == ["b"]

    def test_orphans_are_found_until_they_are_resolved(self, opened: Opener) -> None:
        dead, heir = Desk(opened(), "a"), Desk(opened(), "b")
        dead.storage.add([a_run()])
        (claim,) = dead.claim()
        heir.outlive()
        for _ in range(2):
            assert [run.id for run, _ in heir.storage.orphans("b")] == [claim.id]
        heir.storage.settle([dead.end(claim, State.FAILED)])
        assert heir.storage.orphans("b") == []

    def test_one_whose_process_ended_on_this_machine_is_not_waited_for(
        self, opened: Opener
    ) -> None:  # rule 32
        dead = opened()
        assert dead.enter(an_owner("a", pid=NO_PROCESS, boot_id=pid_space()), A_STATUS)
        assert dead.enter(an_owner("z", pid=NO_PROCESS, boot_id="another machine"), A_STATUS)
        heir = Desk(opened(), "b")
        heir.storage.orphans("b")
        alive = {each.owner.id for each in heir.storage.supervisors(heir.now) if each.alive}
        assert alive == {"b", "z"}
