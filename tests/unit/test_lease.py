"""A supervisor whose lease is not renewed starts nothing, ends what runs, and goes on as somebody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobrunner.durations import MINUTE, SECOND, Micros
from jobrunner.errors import OwnerLost, StorageRefused, StorageUnavailable
from jobrunner.events import LeaseEnded, LeaseLate, StorageBack, StorageTrouble
from jobrunner.execution.journal import Journal
from jobrunner.lease import LeaseKeeper, Stage, stage_at
from jobrunner.model import Ended, Ending, State
from jobrunner.pools import Pools
from tests.builders import NOON, UNASKED, a_run, a_task
from tests.stage import ME, STATUS, Aside
from tests.stage import Stage as Scene

GONE = StorageUnavailable("the server does not answer")
READ_ONLY = StorageRefused("it is a read-only replica", help="write the URL of the master")


class Keeping(Scene):
    """A dispatcher whose owner lives by a lease."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(a_task("dump"))
        self.over = self.recovered = 0
        self.renewals = Aside(self.loop)
        pools = Pools(loop=self.loop, sink=self.dispatcher, output_root="", journal=journal, backing=UNASKED)
        self.keeper = LeaseKeeper(
            owner=ME,
            loop=self.loop,
            storage=self.storage,
            service=self.service,
            renewals=self.renewals,
            emit=self.events.append,
            trouble=self.trouble,
            status=lambda: STATUS,
            dispatcher=self.dispatcher,
            pools=pools,
            recover=self._recover,
            on_lost=self._lose,
            on_over=self._be_over,
        )

    def _recover(self) -> None:
        self.recovered += 1

    def _be_over(self) -> None:
        self.over += 1

    def waits(self, time: Micros) -> None:
        """Let time pass second by second, as it does."""
        for _ in range(time // SECOND):
            self.clock.passes(SECOND)
            self.turns(5)

    def loses_storage(self, error: Exception = GONE) -> None:
        """Renewals fail; a turn of the dispatcher is answered as long as it has nothing to write."""
        self.faulty.fails("heartbeat", error, times=1_000)

    def finds_storage(self) -> None:
        self.faulty._before["heartbeat"].clear()

    def words(self) -> list[str]:
        return [event.message for event in self.told(StorageTrouble)]


@pytest.fixture
def scene(tmp_path: object) -> Iterator[Keeping]:
    with Journal.opened(str(tmp_path)) as journal:
        scene = Keeping(journal)
        scene.keeper.start()
        scene.turns()
        yield scene
        scene.close()


def test_the_stages_of_a_lease_are_15_20_and_27_seconds() -> None:  # rule 33
    ages = [0, 14_999_999, 15 * SECOND, 20 * SECOND, 27 * SECOND, 29 * SECOND]
    assert [stage_at(age) for age in ages] == [Stage.HELD, *Stage]


def test_the_lease_is_renewed_every_ten_seconds(scene: Keeping) -> None:
    scene.waits(MINUTE)
    assert scene.faulty.calls.count("heartbeat") == 7


def test_nothing_starts_before_the_first_renewal(tmp_path: object) -> None:
    with Journal.opened(str(tmp_path)) as journal:
        scene = Keeping(journal)
        scene.loses_storage()
        scene.keeper.start()
        scene.add(a_run("dump"))
        scene.waits(3 * SECOND)
        assert scene.executor.started == []
        scene.finds_storage()
        scene.waits(2 * SECOND)
        assert len(scene.executor.started) == 1
        scene.close()


def test_nothing_starts_15_s_after_the_last_renewal_was_sent(scene: Keeping) -> None:
    scene.loses_storage()
    scene.waits(14 * SECOND)
    scene.add(a_run("dump"))
    assert len(scene.executor.started) == 1
    scene.waits(SECOND)
    scene.add(a_run("dump"))
    assert len(scene.executor.started) == 1
    assert len(scene.told(LeaseLate)) == 1


def test_a_renewal_in_time_lets_work_start_again(scene: Keeping) -> None:
    scene.loses_storage()
    scene.waits(17 * SECOND)
    scene.add(a_run("dump"))
    scene.finds_storage()
    scene.waits(2 * SECOND)
    assert len(scene.executor.started) == 1
    assert scene.keeper.may_start()
    assert (scene.over, scene.lost) == (0, 0)


def test_what_runs_gets_term_after_20_s_and_kill_after_27(scene: Keeping) -> None:
    scene.add(a_run("dump"))
    scene.loses_storage()
    scene.waits(19 * SECOND)
    assert scene.executor.ends == []
    scene.waits(SECOND)
    (call,) = scene.executor.started
    assert scene.executor.ends == [(call, Ending.INTERRUPTED)]
    assert scene.told(LeaseEnded) == [LeaseEnded(1)]
    scene.waits(7 * SECOND)
    assert scene.executor.ends == [(call, Ending.INTERRUPTED)] * 2


def test_after_term_there_is_no_way_back(scene: Keeping) -> None:
    scene.add(a_run("dump"))
    scene.loses_storage()
    scene.waits(21 * SECOND)
    scene.finds_storage()
    scene.waits(2 * SECOND)
    assert not scene.keeper.may_start()
    assert scene.over == 0
    (call,) = scene.executor.calls
    scene.executor.finish(call, Ended(Ending.INTERRUPTED, started_at=NOON, ended_at=NOON))
    scene.waits(SECOND)
    assert scene.over > 0
    assert scene.runs_of("dump")[0].state is State.QUEUED


def test_what_cannot_be_ended_is_waited_for_until_29_s(scene: Keeping) -> None:
    scene.add(a_run("dump"))
    scene.loses_storage()
    scene.waits(28 * SECOND)
    assert scene.over == 0
    scene.waits(SECOND)
    assert scene.over > 0


def test_a_suspend_counts(scene: Keeping) -> None:
    scene.add(a_run("dump"))
    scene.loses_storage()
    scene.clock.suspends(40 * SECOND)
    scene.waits(SECOND)
    assert scene.executor.ends != []


def test_a_renewal_counts_from_the_moment_it_was_sent(scene: Keeping) -> None:
    scene.waits(9 * SECOND)
    scene.renewals.hold()
    scene.waits(6 * SECOND)  # a renewal is asked for at ten seconds
    assert not scene.keeper.may_start()
    scene.renewals.let_go()
    scene.turns()
    assert scene.keeper.may_start()


def test_an_owner_that_was_voided_is_told(scene: Keeping) -> None:
    scene.faulty.fails("heartbeat", OwnerLost("gone"))
    scene.waits(11 * SECOND)
    assert scene.lost == 1


def test_dead_supervisors_are_looked_for(scene: Keeping) -> None:
    before = scene.faulty.calls.count("orphans")
    scene.waits(10 * SECOND)
    assert scene.faulty.calls.count("orphans") - before == 5
    assert scene.recovered == 0


def test_ends_that_could_not_be_written_are_kept_for_the_next_one(scene: Keeping) -> None:
    scene.add(a_run("dump"))
    scene.faulty.fails("exchange", GONE, times=100)
    (call,) = scene.executor.calls
    scene.executor.finish(call, Ended(Ending.OK, started_at=NOON, ended_at=NOON))
    scene.turns()
    assert [settle.id for settle in scene.dispatcher.unsettled()] == [call.run_id]


# --- what the log says --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [GONE, READ_ONLY])
def test_an_idle_supervisor_tells_of_a_renewal_that_fails(scene: Keeping, error: Exception) -> None:
    # rule 33: nobody learns first from work that has ended
    scene.loses_storage(error)
    scene.waits(9 * SECOND)
    assert scene.words() == []
    scene.waits(SECOND)
    assert scene.words() == [str(error)]
    assert scene.told(StorageTrouble)[0].help == getattr(error, "help", "")


def test_trouble_before_the_first_renewal_is_told_at_once(tmp_path: object) -> None:
    with Journal.opened(str(tmp_path)) as journal:
        scene = Keeping(journal)
        scene.loses_storage(READ_ONLY)
        scene.keeper.start()
        scene.turns(5)
        assert scene.words() == [str(READ_ONLY)]
        scene.close()


def test_trouble_that_lasts_is_told_now_and_then(scene: Keeping) -> None:
    scene.loses_storage()
    scene.waits(20 * SECOND)
    assert 2 <= len(scene.words()) <= 3  # of ten tries in ten seconds


def test_the_storage_is_back_when_it_takes_the_renewal(scene: Keeping) -> None:
    # what a turn without writes is answered meanwhile proves nothing
    scene.loses_storage(READ_ONLY)
    scene.waits(12 * SECOND)
    scene.faulty.fails("exchange", READ_ONLY)
    scene.dispatcher.wake()
    scene.waits(SECOND)
    assert scene.faulty.calls.count("exchange") >= 2
    assert scene.told(StorageBack) == []
    scene.finds_storage()
    scene.waits(SECOND)
    (back,) = scene.told(StorageBack)
    assert 2 * SECOND <= back.after <= 4 * SECOND


def test_a_look_for_the_dead_that_fails_is_told(scene: Keeping) -> None:
    scene.faulty.fails("orphans", READ_ONLY, times=2)
    scene.waits(2 * SECOND)
    assert scene.words() == [str(READ_ONLY)]
    assert scene.told(StorageBack) == []
    scene.waits(4 * SECOND)
    assert len(scene.told(StorageBack)) == 1


def test_looks_for_the_dead_do_not_pile_up_behind_a_storage_that_hangs(scene: Keeping) -> None:
    before = scene.faulty.calls.count("orphans")
    scene.service.hold()
    scene.waits(9 * SECOND)
    scene.service.let_go()
    scene.turns()
    assert scene.faulty.calls.count("orphans") - before == 1


def test_a_call_that_takes_minutes_costs_no_lease(scene: Keeping) -> None:
    # what runs is not ended, and repeated, for one that waits for a lock or a black hole
    scene.add(a_run("dump"))
    scene.service.hold()
    scene.waits(2 * MINUTE)
    assert scene.keeper.may_start()
    assert scene.executor.ends == []
    scene.service.let_go()
