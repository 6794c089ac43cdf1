"""A process that goes on under a new id outlives whatever the storage says, and keeps what it owes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobrunner import lifecycle
from jobrunner.durations import SECOND, Micros
from jobrunner.errors import OwnerLost, StorageRefused, StorageUnavailable
from jobrunner.events import Event, GoingOn, Ready, Stopped, StorageBack, StorageTrouble
from jobrunner.logs import words
from jobrunner.model import Settle, State
from jobrunner.plan import Plan
from jobrunner.storage import ExchangeRequest, Rules, TaskRule
from jobrunner.storage.memory import MemoryStorage
from jobrunner.succession import Former
from jobrunner.supervisor import Supervisor
from jobrunner.until import Until
from tests.builders import NOON, a_run, a_task, an_end
from tests.stage import STATUS, FaultyStorage, an_owner

REFUSED = StorageRefused("it is a read-only replica", help="write the URL of the master")
GONE = StorageUnavailable("the server does not answer")
PLAN = Plan(file="jobs.yaml", hash="1", backend="memory://", timezone="UTC")


class Leased(FaultyStorage):
    """Tells life by leases. In memory one owner is in office: the former one is not left again."""

    lease = 30 * SECOND

    def leave(self, owner: str, now: Micros) -> None:
        self.calls.append("leave")
        if owner != "me":
            self._real.leave(owner, now)


@dataclass
class Scene:
    """Supervisors on a storage that refuses when told."""

    memory: MemoryStorage
    faulty: FaultyStorage
    events: list[Event] = field(default_factory=list)
    refusals: list[Exception] = field(default_factory=list)  # of the next tries to open it

    def open(self, _url: str) -> FaultyStorage:
        if self.refusals:
            raise self.refusals.pop()
        return self.faulty

    def supervisor(self, former: Former | None, hear: Callable[[Event], None] | None = None) -> Supervisor:
        def emit(event: Event) -> None:
            self.events.append(event)
            if hear is not None:
                hear(event)

        return Supervisor(PLAN, emit=emit, until=Until.ONCE, former=former)

    def told(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("jobrunner.opening.START_PAUSE", SECOND // 100)
    memory = MemoryStorage()
    scene = Scene(memory, Leased(memory))
    monkeypatch.setattr("jobrunner.opening.open_storage", scene.open)
    yield scene
    memory.close()


def a_former(*settles: Settle, trouble_since: int | None = None) -> Former:
    return Former(owner="me", plan=PLAN, settles=settles, ended_at=NOON, trouble_since=trouble_since)


def an_end_that_was_not_written(memory: MemoryStorage) -> Settle:
    """Of a run that the former incarnation had claimed."""
    assert memory.enter(an_owner(), STATUS)
    assert memory.add([a_run()]) == [True]
    rules = Rules({"backup": TaskRule("pool:commands", "commands")})
    answer = memory.exchange(ExchangeRequest("me", NOON, [], [], {"commands": 1}, rules, 1))
    (claim,) = answer.claimed
    memory.leave("me", NOON)
    task = a_task()
    return lifecycle.settle(claim, "me", an_end(), lifecycle.terms(task, None, task.policy), chance=0.5)


@pytest.mark.parametrize("error", [REFUSED, GONE])
@pytest.mark.parametrize("call", ["open", "enter", "settle", "orphans", "publish", "watermarks"])
def test_one_that_goes_on_waits_for_whatever_the_storage_says(
    scene: Scene, call: str, error: Exception
) -> None:
    # rules 33 and 34: a running supervisor outlives a password that was changed, a replica, a server gone
    if call == "open":
        scene.refusals = [error] * 3
    else:
        scene.faulty.fails(call, error, times=3)
    scene.supervisor(a_former()).run()
    assert scene.told(Ready) != []
    (trouble,) = scene.told(StorageTrouble)  # the same words are not repeated within seconds
    assert isinstance(trouble, StorageTrouble)
    assert trouble.message == str(error)
    assert len(scene.told(StorageBack)) == 1


@pytest.mark.parametrize("call", ["open", "enter", "orphans", "publish"])
def test_a_first_start_ends_with_what_a_person_has_to_look_at(scene: Scene, call: str) -> None:
    if call == "open":
        scene.refusals = [REFUSED]
    else:
        scene.faulty.fails(call, REFUSED)
    with pytest.raises(StorageRefused):
        scene.supervisor(None).run()
    assert scene.told(Ready) == scene.told(StorageTrouble) == []


def test_what_was_owed_is_written_before_anything_else(scene: Scene) -> None:
    owed = an_end_that_was_not_written(scene.memory)
    scene.faulty.fails("settle", GONE, times=2)
    scene.supervisor(a_former(owed)).run()
    assert scene.memory.run(owed.id).state is State.SUCCEEDED
    assert scene.memory.run(owed.id).attempt == 1


def test_what_is_owed_goes_on_to_the_one_after_it(scene: Scene) -> None:
    owed = an_end_that_was_not_written(scene.memory)
    scene.faulty.fails("enter", OwnerLost("voided"))  # an entry whose answer was lost, and its lease over
    supervisor = scene.supervisor(a_former(owed, trouble_since=1))
    with pytest.raises(OwnerLost):
        supervisor.run()
    assert supervisor.follower is not None
    assert supervisor.follower.settles == (owed,)
    assert supervisor.follower.trouble_since == 1
    (going_on,) = scene.told(GoingOn)
    assert "the ends of 1 runs wait to be written" in words(going_on).words
    assert scene.told(Stopped) == []


def test_a_signal_ends_the_wait_and_what_is_owed_is_said(scene: Scene) -> None:
    owed = an_end_that_was_not_written(scene.memory)
    scene.refusals = [GONE] * 1_000
    supervisor = scene.supervisor(
        a_former(owed), lambda event: supervisor._stop.on_signal() if type(event) is StorageTrouble else None
    )
    supervisor.run()
    (stopped,) = scene.told(Stopped)
    assert isinstance(stopped, Stopped)
    assert stopped.unwritten == 1
    assert supervisor.follower is None


def test_trouble_is_told_from_its_beginning(scene: Scene) -> None:
    supervisor = scene.supervisor(a_former(trouble_since=0))
    since_boot = supervisor._clock.monotonic()
    supervisor.run()
    (back,) = scene.told(StorageBack)
    assert isinstance(back, StorageBack)
    assert back.after >= since_boot
