"""What one storage holds, moved into another: nothing is lost, also when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from jobrunner.durations import DAY, HOUR, MINUTE, SECOND
from jobrunner.errors import StorageMissing, StorageRefused, UsageError
from jobrunner.ids import new_id
from jobrunner.migration import Moved, Mover
from jobrunner.model import NewRun, Run, State, Trigger
from jobrunner.storage import Revocation, RunFilter, Storage, Tick, open_storage
from jobrunner.storage.postgres.store import PostgresStorage
from jobrunner.storage.redis.store import RedisStorage
from jobrunner.testing.desk import (
    A_STATUS,
    NOON,
    Desk,
    a_catalogue,
    a_pause,
    a_pipeline,
    a_run,
    a_tick,
    an_owner,
    waiting,
)

Opened = Callable[[str], Storage]
LATER = NOON + DAY
CHANGED = {"seq", "claim_no", "owner", "host", "lane", "expires_at"}  # what a storage may tell otherwise


@pytest.fixture
def opened(redis_url: str, postgres_url: str, tmp_path: Path) -> Iterator[Opened]:
    """Opens one more handle on the storage of a kind."""
    memory = f"memory://{new_id(NOON)}"
    namespace = new_id(NOON)

    def open_one(kind: str) -> Storage:
        if kind.startswith("redis"):
            return RedisStorage.open(f"{redis_url}?namespace={namespace}-{kind}", server_time=False)
        if kind == "postgres":
            return PostgresStorage.open(postgres_url, server_time=False)
        urls = {"sqlite": f"sqlite:///{tmp_path}/jobs.db", "file": f"file:///{tmp_path}/queue"}
        return open_storage(urls.get(kind, memory))

    with closing(open_storage(memory)):
        yield open_one


def filled(storage: Storage) -> None:
    """A storage with a bit of everything, whose supervisor has stopped."""
    desk = Desk(storage)
    storage.publish("owner-1", a_catalogue("resize", "mail"), keep=["a"], now=NOON)
    storage.watermarks({"a": NOON + HOUR}, NOON)
    storage.tick([a_tick(1), Tick("a", NOON + 1, NOON + 2, NOON + 3, None)])
    desk.turn(want={})
    desk.finish(a_run(), result='{"é":1}', exit_code=0, pid=5, output='{"stdout":3}')
    desk.finish(a_run("mail"), State.FAILED, error="boom", exit_code=3)
    storage.add([a_run(state=State.SKIPPED, reason="overlap"), a_run(expires_at=NOON + 1, priority=-9)])
    tried = a_run("mail", priority=5)
    storage.add([tried])
    for code in (1, 2):
        (claim,) = (each for each in desk.claim() if each.id == tried.id)
        desk.turn([desk.end(claim, State.QUEUED, exit_code=code, error=f"e{code}")], want={})
    (claim,) = (each for each in desk.claim() if each.id == tried.id)
    desk.turn([desk.end(claim, State.RETRYING, due_at=LATER, exit_code=3, error="e3", failures=3)], want={})
    storage.add(
        [
            a_run("dump", unique="dump:1", lane="pool:other", pool="other"),
            a_run("mail", state=State.SCHEDULED, due_at=LATER + HOUR, priority=7),
        ]
    )
    first, second = (a_run("dump", lane="pool:other", trigger=Trigger.PIPELINE) for _ in range(2))
    storage.add(a_pipeline(first, second))
    storage.add([waiting(first, condition="failed")])
    storage.pause(a_pause("pool:other"))
    storage.revoke(Revocation("task:dump", NOON))
    cancelled = a_run()
    storage.add([cancelled])
    storage.cancel([cancelled.id], NOON + MINUTE)
    left = [desk.end(each) for each in storage.claimed_by("owner-1")]
    desk.turn(left, want={})
    storage.leave("owner-1", NOON)


def told(run: Run) -> dict[str, object]:
    return {name: value for name, value in run._asdict().items() if name not in CHANGED}


def everything(storage: Storage) -> dict[str, object]:
    """All that must be the same on both sides, by run."""
    runs = storage.runs(RunFilter(limit=1000))
    ids = [run.id for run in runs]
    attempts = {each: [a._replace(host=None) for a in storage.attempts(each)] for each in ids}
    live = {run.id for run in runs if not run.state.is_final}
    return {
        "runs": {run.id: told(run) for run in runs},
        "attempts": attempts,
        "edges": {run_id: edges for run_id, edges in storage.edges(ids).items() if run_id in live},
        "pauses": storage.pauses(NOON),
        "marks": storage.revocations(NOON),
        "nexts": storage.next_ticks(),
        "places": storage.watermarks(storage.next_ticks(), LATER),
        "catalogue": storage.catalogue(),
    }


def same(source: Storage, target: Storage) -> None:
    was, found = everything(source), everything(target)
    for what in was:
        assert found[what] == was[what], what


def moved(source: Storage, target: Storage, name: str = "mover") -> Moved:
    return Mover(source, target, owner=an_owner(name), now=lambda: LATER - SECOND).move()


PAIRS = [
    *(("sqlite", "redis"), ("redis", "sqlite"), ("redis", "redis2")),
    *(("sqlite", "memory"), ("memory", "redis"), ("file", "redis"), ("redis", "file")),
    *(("postgres", "redis"), ("redis", "postgres"), ("sqlite", "postgres"), ("file", "sqlite")),
]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_everything_is_moved_between_any_two_storages(opened: Opened, before: str, after: str) -> None:
    source = opened(before)
    filled(source)
    target = opened(after)
    assert moved(source, target) == Moved(finished=6, waiting=7)
    same(source, target)
    for storage in (source, target):
        storage.close()


def test_runs_go_on_in_their_new_place(opened: Opened) -> None:
    source, target = opened("sqlite"), opened("redis")
    filled(source)
    moved(source, target)
    desk = Desk(target, "next")
    desk.now = LATER + 2 * HOUR
    desk.turn(want={})
    target.resume("pool:other")
    target.restore("task:dump")
    desk.turn(want={})
    claimed = [claim.task for _ in range(3) for claim in desk.turn(want={"default": 9, "other": 9}).claimed]
    assert sorted(claimed)[-2:] == ["mail", "mail"]
    for storage in (source, target):
        storage.close()


def test_a_move_may_be_done_again(opened: Opened) -> None:
    source, target = opened("sqlite"), opened("redis")
    filled(source)
    moved(source, target)
    before = everything(target)
    assert moved(source, target, "again") == Moved(finished=6, waiting=7)
    assert everything(target) == before
    for storage in (source, target):
        storage.close()


def test_an_interrupted_move_goes_on_where_it_stopped(opened: Opened) -> None:
    source, target = opened("sqlite"), opened("redis")
    filled(source)
    calls = 0

    def failing() -> int:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return LATER - SECOND

    with pytest.raises(KeyboardInterrupt):
        Mover(source, target, owner=an_owner("first"), now=failing).move()
    moved(source, target, "second")
    same(source, target)
    for storage in (source, target):
        storage.close()


@pytest.mark.parametrize("side", [0, 1])
def test_nothing_is_moved_while_a_supervisor_lives(opened: Opened, side: int) -> None:
    pair = opened("sqlite"), opened("redis")
    Desk(pair[side])
    with pytest.raises(StorageRefused, match="works on"):
        Mover(*pair, owner=an_owner("mover"), now=lambda: NOON).move()
    for storage in pair:
        storage.close()


@pytest.mark.parametrize("kind", ["redis", "postgres"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_supervisor_that_begins_meanwhile_stands_by_until_the_move_is_done(
    opened: Opened, kind: str, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = opened("sqlite" if side else kind), opened(kind if side else "sqlite")
    beside = opened(kind)
    pair[0].add([a_run()])
    entered: list[bool] = []
    monkeypatch.setattr(
        pair[1],
        "add",
        _and_then(pair[1].add, lambda: entered.append(beside.enter(an_owner("late"), A_STATUS))),
    )
    Mover(*pair, owner=an_owner("mover"), now=lambda: NOON).move()
    assert set(entered) == {False}
    assert beside.enter(an_owner("late"), A_STATUS)
    for storage in (*pair, beside):
        storage.close()


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_a_supervisor_that_came_when_the_movers_lease_had_run_out_is_told(
    opened: Opened, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has run is in both storages: nobody may learn that from a run that was made twice."""
    source, target, beside = opened(kind), opened("sqlite"), opened(kind)
    source.add([a_run()])
    late = an_owner("late", started_at=NOON + MINUTE)
    monkeypatch.setattr(target, "add", _and_then(target.add, lambda: beside.enter(late, A_STATUS)))
    with pytest.raises(StorageRefused, match="has begun to work on"):
        Mover(source, target, owner=an_owner("mover"), now=lambda: NOON).move()
    for storage in (source, target, beside):
        storage.close()


def _and_then(real: Callable[[Sequence[NewRun]], list[bool]], act: Callable[[], object]) -> object:
    def add(runs: Sequence[NewRun]) -> list[bool]:
        answer = real(runs)
        act()
        return answer

    return add


def test_a_storage_is_not_moved_into_itself(opened: Opened) -> None:
    pair = opened("redis"), opened("redis")
    pair[0].add([a_run()])
    with pytest.raises(UsageError, match="the same storage"):
        Mover(*pair, owner=an_owner("mover"), now=lambda: NOON).move()
    for storage in pair:
        storage.close()


def test_a_namespace_with_nothing_in_it_is_a_typing_error(opened: Opened) -> None:
    pair = opened("redis"), opened("sqlite")
    with pytest.raises(StorageMissing, match="there is nothing in"):
        Mover(*pair, owner=an_owner("mover"), now=lambda: NOON).move()
    for storage in pair:
        storage.close()


def test_what_ran_when_its_supervisor_died_is_moved_as_interrupted(opened: Opened) -> None:
    source = opened("sqlite")
    desk = Desk(source)
    source.add([a_run()])
    (claim,) = desk.claim()
    source.close()
    source, target = opened("sqlite"), opened("redis")
    moved(source, target)
    assert target.run(claim.id).state is State.QUEUED
    for storage in (source, target):
        storage.close()
