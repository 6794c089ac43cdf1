"""What a storage in a folder promises when the power goes, the disk fails, or a writer dies (D4, D5)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobrunner.errors import StorageMissing, StorageRefused, StorageUnavailable, UsageError
from jobrunner.ids import new_id
from jobrunner.model import Run, State
from jobrunner.storage import RunFilter, Storage, open_storage
from jobrunner.storage.file import FileStorage, journal
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
    in_threads,
)

BLOCK = 512  # bytes that are written as a whole


def url_of(folder: Path) -> str:
    return f"file:///{folder}"


def told(storage: Storage) -> list[object]:
    """Everything that a client can read."""
    runs = storage.runs(RunFilter(limit=10_000))
    ids = [run.id for run in runs]
    attempts = [storage.attempts(run_id) for run_id in ids]
    facts = [storage.pauses(NOON), storage.next_ticks(), storage.catalogue(), storage.edges(ids)]
    return [runs, attempts, *facts]


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state.[0-9]*"))


# --- power ------------------------------------------------------------------------------------------


def a_history(desk: Desk) -> Iterator[object]:
    """Writes of every kind, one after the other."""
    desk.storage.publish(desk.owner, a_catalogue("resize", "mail"), keep=["a"], now=NOON)
    desk.storage.watermarks({"a": NOON + 1}, NOON)
    yield desk.version
    for place in range(1, 12):
        yield desk.storage.add(a_pipeline(a_run(), a_run(priority=place)))
        yield desk.storage.tick([a_tick(place)])
        claims = desk.claim(3)
        yield claims
        yield desk.turn(
            [desk.end(claim, (State.SUCCEEDED, State.FAILED, State.RETRYING)[place % 3]) for claim in claims],
            want={},
        )
        desk.storage.pause(a_pause(f"task:{place}"))
        yield place
        yield desk.storage.cancel([claim.id for claim in claims[:1]], NOON)


@pytest.mark.parametrize("growth", [10**9, 3_000], ids=["one file", "many snapshots"])
def test_a_power_cut_loses_nothing_that_was_acknowledged(
    tmp_path: Path, growth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D4: what is on disk after each sync is a storage; whatever of the next write got there too."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    monkeypatch.setattr(journal, "GROWTH", growth)
    synced: list[tuple[Path, list[object]]] = []
    folder = tmp_path / "queue"
    with closing(open_storage(url_of(folder))) as storage:
        for _ in a_history(Desk(storage)):
            kept = tmp_path / f"kept-{len(synced)}"
            shutil.copytree(folder, kept, ignore=shutil.ignore_patterns("*.wake", "*.lock"))
            synced.append((kept, told(storage)))
    for (kept, before), (later, _) in pairwise(synced):
        _tear(kept, later, chance)
        with closing(open_storage(url_of(kept), create=False)) as survivor:
            assert told(survivor) == before
            assert survivor.add([a_run()]) == [True]
        with closing(open_storage(url_of(kept), create=False)) as again:
            assert len(again.runs(RunFilter(limit=10_000))) == len(before[0]) + 1  # type: ignore[arg-type]


def _tear(kept: Path, later: Path, chance: random.Random) -> None:
    """Let a part of the next write reach the disk, as much as chance will have."""
    (mine,), (theirs,) = states(kept), states(later)
    if mine.name != theirs.name:
        (kept / "draft.1").write_bytes(theirs.read_bytes()[: chance.randrange(100)])
        return
    more = theirs.read_bytes()[mine.stat().st_size :]
    if more:
        with mine.open("ab") as file:
            file.write(_part(more.splitlines(keepends=True)[0], mine.stat().st_size, chance))


def _part(line: bytes, at: int, chance: random.Random) -> bytes:
    """Of a record that was never acknowledged: its beginning, or all but some of the blocks it lies in."""
    if chance.random() < 0.5:
        return line[: chance.randrange(len(line))]
    torn = bytearray(line)
    cuts = [0, *range(BLOCK - at % BLOCK, len(line), BLOCK), len(line)]
    blocks = [slice(*each) for each in pairwise(cuts)]
    for block in chance.sample(blocks, chance.randrange(1, len(blocks) + 1)):
        torn[block] = bytes(block.stop - block.start)
    return bytes(torn)


@pytest.mark.parametrize("call", ["fdatasync", "fsync", "write", "rename"])
def test_a_disk_that_fails_is_said_and_nothing_is_lost_or_invented(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D5: every n-th call fails; what was refused is done again, and all is as if nothing had failed."""
    monkeypatch.setattr(journal, "GROWTH", 3_000)
    real: Callable[..., Any] = getattr(os, call)
    count = 0

    def failing(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise OSError(28, "No space left on device")
        return real(*given)

    with (
        closing(open_storage(url_of(tmp_path / "queue"))) as storage,
        closing(open_storage("memory://")) as model,
    ):
        monkeypatch.setattr(os, call, failing)
        refused = 0
        for number in range(60):
            batch = a_pipeline(a_run(priority=number), a_run())
            model.add(batch)
            before = told(storage)
            try:
                assert storage.add(batch) == [True] * 3
            except StorageUnavailable:
                refused += 1
                assert told(storage) == before
                monkeypatch.setattr(os, call, real)
                assert storage.add(batch) == [True] * 3
                monkeypatch.setattr(os, call, failing)
        monkeypatch.setattr(os, call, real)
        assert told(storage)[0] == told(model)[0]
    assert count >= 3
    assert refused or call in ("rename", "fsync")  # those only put off a snapshot


WRITER = """
import sys
from jobrunner.storage import open_storage
from jobrunner.testing.desk import a_run
storage = open_storage(sys.argv[1])
while True:
    run = a_run()
    storage.add([run])
    print(run.id, flush=True)
"""


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    url = url_of(tmp_path / "queue")
    with closing(open_storage(url)) as storage:
        acknowledged: list[str] = []
        for number in (1, 7, 30):
            writers = [
                subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
                for _ in range(2)
            ]
            for writer in writers:
                assert writer.stdout is not None
                acknowledged += [writer.stdout.readline().strip() for _ in range(number)]
                writer.send_signal(signal.SIGKILL)
            for writer in writers:
                acknowledged += writer.communicate()[0].split()
        found = {run.id for run in storage.runs(RunFilter(limit=100_000))}
        assert set(filter(lambda each: len(each) == 36, acknowledged)) <= found
        assert len(found) - len(acknowledged) <= 6


def test_a_supervisor_that_is_killed_leaves_its_runs_to_the_next(tmp_path: Path) -> None:
    url = url_of(tmp_path / "queue")
    with closing(open_storage(url)) as first:
        desk = Desk(first, "a")
        first.add([a_run()])
        (claim,) = desk.claim()
        script = (
            "import os, sys; from jobrunner.storage import open_storage;"
            "from jobrunner.testing.desk import A_STATUS, an_owner; s = open_storage(sys.argv[1]);"
            "print(s.enter(an_owner('b'), A_STATUS)); os.kill(os.getpid(), 9)"
        )
        first.leave("a", NOON)
        done = subprocess.run(
            [sys.executable, "-c", script, url], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.returncode) == ("True\n", -signal.SIGKILL)
        assert first.enter(an_owner("c"), A_STATUS)
        assert [run.id for run, _ in first.orphans("c")] == [claim.id]


# --- what is refused --------------------------------------------------------------------------------


def test_a_damaged_line_is_refused_and_never_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    with closing(open_storage(url_of(folder))) as storage:
        for _ in range(5):
            storage.add([a_run()])
    (file,) = states(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StorageRefused, match="damaged at byte"):
        open_storage(url_of(folder))


def test_what_is_not_there_is_not_made_by_a_typing_error(tmp_path: Path) -> None:
    with pytest.raises(StorageMissing):
        open_storage(url_of(tmp_path / "quue"), create=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError):
        open_storage("file:///")


def test_a_storage_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    folder.mkdir()
    (folder / "state.1").write_bytes(journal.line_of({"format": 99}))
    with pytest.raises(StorageRefused, match="another version"):
        open_storage(url_of(folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    with closing(open_storage(url_of(folder))) as storage:
        states(folder)[0].chmod(0o400)
        assert storage.runs(RunFilter()) == []


# --- several processes ------------------------------------------------------------------------------


def test_handles_that_write_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "GROWTH", 20_000)
    url = url_of(tmp_path / "queue")
    handles = [open_storage(url) for _ in range(4)]
    batches = [[a_run() for _ in range(3)] for _ in range(40)]
    in_threads([partial(handles[n % 4].add, batch) for n, batch in enumerate(batches)])
    ids = {run.id for batch in batches for run in batch}
    for handle in handles:
        assert {run.id for run in handle.runs(RunFilter(limit=1000))} == ids
        handle.close()
    assert len(states(tmp_path / "queue")) == 1


def test_a_line_that_was_taken_back_is_read_anew(tmp_path: Path) -> None:
    """A failed sync cuts its line off again, and another process may have seen it meanwhile."""
    folder = tmp_path / "queue"
    with closing(open_storage(url_of(folder))) as one, closing(open_storage(url_of(folder))) as two:
        one.add([a_run()])
        size = states(folder)[0].stat().st_size
        one.add([a_run("mail")])
        assert len(two.runs(RunFilter())) == 2
        os.truncate(states(folder)[0], size)
        third: Storage = FileStorage.open(url_of(folder))
        third.add([a_run("dump", payload='"' + "x" * 500 + '"')])
        third.close()
        found: list[Run] = two.runs(RunFilter())
        assert [run.task for run in found] == ["dump", "resize"]


def test_a_new_storage_is_nobody_elses_business(tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    with closing(open_storage(url_of(folder))) as storage:
        assert storage.enter(an_owner(), A_STATUS)
        storage.add([a_run(id=new_id(NOON))])
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_last_record_with_a_hole_is_cut_off_and_one_with_a_wrong_letter_is_damage(tmp_path: Path) -> None:
    """D4: of a write that was not acknowledged any block may be missing; a flipped bit is another matter."""
    folder = tmp_path / "queue"
    with closing(open_storage(url_of(folder))) as storage:
        storage.add([a_run()])
        (file,) = states(folder)
        before = file.stat().st_size
        storage.add([a_run(payload='"' + "x" * 20_000 + '"')])
    whole = file.read_bytes()
    hole = slice(before + BLOCK, before + 2 * BLOCK)
    file.write_bytes(whole[: hole.start] + bytes(BLOCK) + whole[hole.stop :])
    with closing(open_storage(url_of(folder), create=False)) as storage:
        assert len(storage.runs(RunFilter())) == 1
        assert storage.add([a_run()]) == [True]
    with closing(open_storage(url_of(folder), create=False)) as storage:
        assert len(storage.runs(RunFilter())) == 2
    file.write_bytes(whole[: hole.start] + b"y" * BLOCK + whole[hole.stop :])
    with pytest.raises(StorageRefused, match="damaged at byte"):
        open_storage(url_of(folder))


def test_a_snapshot_that_failed_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "GROWTH", 1_000)
    folder = tmp_path / "a" / "b" / "queue"
    with closing(open_storage(url_of(folder))) as storage:
        (folder / "draft.1").write_bytes(b"of a writer that was killed")
        with monkeypatch.context() as full:
            full.setattr(os, "fsync", _no_room)
            for _ in range(10):
                storage.add([a_run()])
            assert list(folder.glob("draft.*")) == []
        storage.add([a_run()])
        assert len(storage.runs(RunFilter())) == 11
    assert [path.name for path in states(folder)] != ["state.1"]


def _no_room(_fd: int) -> None:
    raise OSError(28, "No space left on device")
