"""D4: the power goes while SQLite writes. What was acknowledged is there, whole, whatever of the rest is.

The file storage has its own in tests/contract/test_file_faults.py.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from jobrunner.errors import StorageRefused, StorageUnavailable
from jobrunner.model import State
from jobrunner.plan import Retention
from jobrunner.storage import RunFilter, Storage, open_storage
from jobrunner.storage.sqlite import database, upkeep
from jobrunner.testing.desk import NOON, Desk, a_catalogue, a_pause, a_pipeline, a_run, a_tick
from tests.drills.disk import Disk, Fail, Keep, any_part, everything, failing, left, noted, nothing_more, put

pytestmark = pytest.mark.drill
ROUNDS = 3  # of the history, each with about twenty writes
BIG = '"' + "x" * 9_000 + '"'  # a payload that lies beside the row


class Moment(NamedTuple):
    """What was acknowledged when so much had been noted."""

    notes: int
    told: list[object]


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/jobs.db"


def told(storage: Storage) -> list[object]:
    """Everything that a client can read."""
    runs = storage.runs(RunFilter(limit=10_000))
    ids = [run.id for run in runs]
    attempts = [storage.attempts(run_id) for run_id in ids]
    facts = [storage.pauses(NOON), storage.next_ticks(), storage.catalogue(), storage.edges(ids)]
    return [runs, attempts, *facts]


def a_history(folder: Path, chance: random.Random) -> Iterator[Storage]:
    """Writes of every kind, one after the other; after each the storage to look at."""
    for number in range(ROUNDS):
        with (
            closing(open_storage(url_of(folder))) as client,
            closing(open_storage(url_of(folder))) as storage,
        ):
            desk = Desk(storage, f"owner-{number}")
            yield client
            for _ in _a_round(desk, client, number * 3, chance):
                yield client
            storage.leave(desk.owner, NOON)
            yield client
        # whoever closes last copies the log, and removes it


def _a_round(desk: Desk, client: Storage, place: int, chance: random.Random) -> Iterator[None]:
    storage = desk.storage
    storage.publish(desk.owner, a_catalogue("resize", "mail"), keep=["a"], now=NOON)
    yield
    storage.watermarks({"a": NOON + 1}, NOON)
    yield
    for step in range(place, place + 3):
        client.add(a_pipeline(a_run(payload=BIG), a_run(priority=step)))
        yield
        storage.tick([a_tick(step + 1)])
        yield
        claims = desk.claim(3)
        yield
        states = (State.SUCCEEDED, State.FAILED, State.RETRYING)
        desk.turn([desk.end(each, chance.choice(states)) for each in claims], want={})
        yield
        client.pause(a_pause(f"task:{step}"))
        yield
        client.cancel([claim.id for claim in claims[:1]], NOON)
        yield
    storage.prune(Retention(history=1, max_runs=30), NOON * 2, limit=5)
    yield


@pytest.fixture
def _small_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is copied, cut and begun anew all the time."""
    monkeypatch.setattr(database, "COPIED_PAGES", 20)
    monkeypatch.setattr(upkeep, "LONGEST_LOG", 40_000)
    monkeypatch.setattr(upkeep, "STEP", 10_000)
    monkeypatch.setattr(upkeep, "COPIED_WRITES", 3)


def noted_history(
    folder: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> tuple[Disk, list[Moment]]:
    folder.mkdir()
    with noted(folder, monkeypatch) as disk:
        moments = [Moment(len(disk.notes), told(client)) for client in a_history(folder, chance)]
    return disk, moments


@pytest.mark.usefixtures("_small_logs")
def test_power_cuts_lose_nothing_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_drills: bool
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    disk, moments = noted_history(tmp_path / "disk", chance, monkeypatch)
    kinds = {note.what for note in disk.notes}
    assert kinds >= {"write", "sync", "truncate", "name", "unname", "folder"}  # all of it was seen
    cuts = _cuts(disk, moments, chance, 600 if full_drills else 30)
    for number, (cut, keep, names_kept) in enumerate(cuts):
        folder = tmp_path / f"cut-{number}"
        put(left(disk.notes[:cut], keep, names_kept), folder)
        _look_over(folder, cut, moments)
    print(f"{len(cuts)} power cuts in {len(disk.notes)} writes and syncs: 0 lost, 0 corrupt")


def _cuts(
    disk: Disk, moments: list[Moment], chance: random.Random, count: int
) -> list[tuple[int, Keep, float]]:
    """Half of them right behind an answer, when nothing but what was synced may be there."""
    cuts: list[tuple[int, Keep, float]] = []
    for number in range(count):
        if number % 2:
            cuts.append((chance.choice(moments).notes, nothing_more, 0.0))
        else:
            cut = chance.randrange(1, len(disk.notes) + 1)
            cuts.append((cut, chance.choice([any_part(chance), everything, nothing_more]), chance.random()))
    return cuts


def _look_over(folder: Path, cut: int, moments: list[Moment]) -> None:
    """The storage is as it was at the last answer, or as it was going to be at the next one."""
    before = [moment.told for moment in moments if moment.notes <= cut][-1:]
    after = [moment.told for moment in moments if moment.notes > cut][:1]
    if not (folder / "jobs.db").exists():
        assert before == []  # it was being made
        return
    with closing(sqlite3.connect(folder / "jobs.db")) as plain:
        assert plain.execute("pragma integrity_check").fetchall() == [("ok",)]
    with closing(open_storage(url_of(folder), create=False)) as survivor:
        found = told(survivor)
        assert found in [*before, *after] or (not before and found[0] == [])
        assert survivor.add([a_run()]) == [True]
    with closing(open_storage(url_of(folder), create=False)) as again:
        assert len(again.runs(RunFilter(limit=10_000))) == len(found[0]) + 1  # type: ignore[arg-type]


@pytest.mark.usefixtures("_small_logs")
def test_the_same_cuts_find_what_a_storage_without_syncs_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drill itself is proved: with `synchronous = normal` acknowledged writes are gone."""
    real = database._prepare

    def careless(connection: sqlite3.Connection, copied_pages: int) -> None:
        real(connection, copied_pages)
        connection.execute("pragma synchronous = normal")

    monkeypatch.setattr(database, "_prepare", careless)
    disk, moments = noted_history(tmp_path / "disk", random.Random(1), monkeypatch)
    lost = 0
    for number, moment in enumerate(moments[5:30]):
        folder = tmp_path / f"cut-{number}"
        put(left(disk.notes[: moment.notes], nothing_more, 0.0), folder)
        try:
            _look_over(folder, moment.notes, moments)
        except (AssertionError, StorageRefused):
            lost += 1
    assert lost > 5


@pytest.mark.usefixtures("_small_logs")
@pytest.mark.parametrize(
    ("what", "full"),
    [("write", False), ("write", True), ("sync", False), ("truncate", False)],
    ids=["write EIO", "write ENOSPC", "sync EIO", "truncate EIO"],
)
def test_a_disk_that_fails_is_said_and_nothing_is_lost_or_invented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, *, full: bool, full_drills: bool
) -> None:
    """D5: every n-th call fails; what was refused is done again, and all is as if nothing had failed."""
    refused = 0
    for every in (1, 2, 3, 5, 7, 11, 13, 17) if full_drills else (2, 3):
        folder = tmp_path / str(every)
        folder.mkdir()
        with noted(folder, monkeypatch) as disk:
            refused += _fail_now_and_then(folder, disk, failing(every, what, full=full))
    assert refused or what == "truncate"  # the log is cut later, when that fails: nobody need know


def _fail_now_and_then(folder: Path, disk: Disk, fail: Fail) -> int:
    """How many adds were refused."""
    with closing(open_storage("memory://")) as model, closing(open_storage(url_of(folder))) as storage:
        Desk(storage)
        refused = 0
        for number in range(25):
            batch = a_pipeline(a_run(priority=number, payload=BIG), a_run())
            model.add(batch)
            before = _ids(storage)
            disk.fail = fail
            try:
                assert storage.add(batch) == [True] * 3
                continue
            except StorageUnavailable:
                refused += 1
            disk.fail = _never
            # A sync that failed says nothing of what it was to sync: all of it, or nothing.
            found = _ids(storage)
            assert found in (before, before | {run.id for run in batch})
            assert storage.add(batch) == [found == before] * 3
        disk.fail = _never
        assert told(storage)[0] == told(model)[0]
    with closing(sqlite3.connect(folder / "jobs.db")) as plain:
        assert plain.execute("pragma integrity_check").fetchall() == [("ok",)]
    return refused


def _never(_what: str) -> int:
    return 0


def _ids(storage: Storage) -> set[str]:
    return {run.id for run in storage.runs(RunFilter(limit=10_000))}
