"""What a SQLite storage refuses, waits for, and survives."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from jobrunner.durations import SECOND
from jobrunner.errors import StorageRefused, StorageUnavailable, UsageError
from jobrunner.model import State
from jobrunner.storage import RunFilter, open_storage
from jobrunner.storage.beside import LockFile
from jobrunner.storage.sqlite import SqliteStorage, schema
from jobrunner.testing.desk import A_STATUS, NOON, PATIENCE, Desk, a_run, an_owner, in_threads

MAGIC = b"SQLite format 3\x00"


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A closed database with a few hundred runs."""
    path = tmp_path / "jobs.db"
    with closing(open_storage(url_of(path))) as storage:
        storage.add([a_run() for _ in range(500)])
    return path


# --- making and opening -----------------------------------------------------------------------------


def test_a_new_database_is_nobody_elses_business(tmp_path: Path) -> None:  # security S6
    path = tmp_path / "state" / "jobs.db"
    with closing(open_storage(url_of(path))) as storage:
        assert storage.enter(an_owner(), A_STATUS)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert set(modes) == {"jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.lock", "jobs.db.wake"}
    assert set(modes.values()) == {0o600}


def test_a_relative_url_is_relative_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(open_storage("sqlite:///here.db")) as storage:
        assert storage.url == f"sqlite:///{tmp_path}/here.db"
    assert (tmp_path / "here.db").is_file()


@pytest.mark.parametrize("name", ["a b?c#d%41.db", "ü.db", "x" * 200 + ".db", "'quoted'.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    with closing(open_storage(url_of(folder / name))) as storage:
        desk = Desk(storage)
        with closing(open_storage(url_of(folder / name))) as client:
            client.add([a_run()])
        assert storage.wake_fd() is not None
        assert len(desk.claim()) == 1
    assert (folder / name).is_file()


@pytest.mark.parametrize("url", ["sqlite:", "sqlite://", "sqlite:///", "sqlite://jobs.db"])
def test_a_url_without_a_file_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        open_storage(url)


def test_a_client_makes_no_database_by_mistake(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="there is no database"):
        open_storage(url_of(tmp_path / "typo" / "jobs.db"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for create in (True, False):
        with pytest.raises(StorageRefused):
            open_storage(url_of(tmp_path / "file" / "jobs.db"), create=create)


def test_making_a_database_leaves_nothing_else_behind(good: Path) -> None:
    assert [each.name for each in good.parent.iterdir()] == ["jobs.db"]


def test_many_may_make_the_same_database_at_once(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"

    def client() -> None:
        with closing(open_storage(url_of(path))) as storage:
            storage.add([a_run()])

    in_threads([client] * 12)
    with closing(open_storage(url_of(path), create=False)) as storage:
        assert len(storage.runs(RunFilter())) == 12


# --- twelve damaged databases -----------------------------------------------------------------------


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_480])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def random_bytes(path: Path) -> None:
    path.write_bytes(bytes((place * 37 + 11) % 251 for place in range(65_536)))


def a_header_and_nothing_after_it(path: Path) -> None:
    path.write_bytes(MAGIC + bytes((place * 37 + 11) % 251 for place in range(65_536)))


def a_text(path: Path) -> None:
    path.write_text("tasks: {}\n")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    path.unlink()
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(str(path))


def another_programs(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("create table runs (id text)")
        other.commit()


def a_newer_one(path: Path) -> None:
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"pragma user_version = {schema.VERSION + 1}")


def pages_overwritten(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[4096 : 4096 * 6] = b"\xab" * 4096 * 5
    path.write_bytes(bytes(whole))


DAMAGES: list[Callable[[Path], None]] = [
    emptied,
    truncated,
    cut_in_the_header,
    random_bytes,
    a_header_and_nothing_after_it,
    a_text,
    a_folder,
    a_pipe,
    a_socket,
    another_programs,
    a_newer_one,
    pages_overwritten,
]


def fingerprint(path: Path) -> object:
    status = path.lstat()
    return status.st_ino, status.st_mode, path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_database_is_refused_and_left_as_it_is(good: Path, damage: Callable[[Path], None]) -> None:
    damage(good)
    before = fingerprint(good)
    for create in (True, False):
        with (
            pytest.raises(StorageRefused) as refused,
            closing(open_storage(url_of(good), create=create)) as storage,
        ):
            storage.enter(an_owner(), A_STATUS)
        assert refused.value.help
        assert str(good) in str(refused.value)
    assert fingerprint(good) == before


def test_an_overview_of_a_damaged_table_is_refused(good: Path) -> None:
    """Its counts come from indexes that may be whole."""
    whole = bytearray(good.read_bytes())
    whole[4096 : 3 * 4096] = b"\xab" * 2 * 4096
    good.write_bytes(bytes(whole))
    with (
        closing(open_storage(url_of(good), create=False)) as storage,
        pytest.raises(StorageRefused, match="damaged"),
    ):
        storage.overview(0)


def test_damage_that_shows_later_is_refused_too(good: Path) -> None:
    """One page in the middle of the table: what does not touch it still works."""
    whole = bytearray(good.read_bytes())
    middle = len(whole) // 2 // 4096 * 4096
    whole[middle : middle + 4096] = b"\xab" * 4096
    good.write_bytes(bytes(whole))
    with closing(open_storage(url_of(good))) as storage, pytest.raises(StorageRefused, match="damaged"):
        storage.enter(an_owner(), A_STATUS)


# --- versions ---------------------------------------------------------------------------------------


def test_an_older_database_is_brought_up_to_date(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = ("alter table runs add column colour text not null default 'red'",)
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, added))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with closing(open_storage(url_of(good))) as storage:
        assert len(storage.runs(RunFilter(limit=1000))) == 500
    with closing(sqlite3.connect(good)) as look:
        assert look.execute("pragma user_version").fetchone() == (schema.VERSION,)
        assert look.execute("select distinct colour from runs").fetchall() == [("red",)]


def test_a_step_that_fails_changes_nothing(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = good.read_bytes()
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("create table extra (a)", "create table runs (a)")))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    with pytest.raises(StorageRefused):
        open_storage(url_of(good))
    assert good.read_bytes() == before


def test_a_database_of_version_0_gets_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as empty:
        empty.execute(f"pragma application_id = {schema.APPLICATION_ID}")
        empty.execute("pragma journal_mode = wal")
    with closing(open_storage(url_of(path))) as storage:
        assert storage.add([a_run()]) == [True]


def test_nothing_is_changed_under_a_living_supervisor(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_storage(url_of(good))) as storage:
        assert storage.enter(an_owner(), A_STATUS)
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
        with pytest.raises(StorageRefused, match="supervisor of an older"):
            open_storage(url_of(good))


# --- a storage that says "not now" ------------------------------------------------------------------


def test_a_database_that_somebody_holds_is_waited_for_and_then_named(good: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(good)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder, closing(SqliteStorage.open(url_of(good), busy_timeout=0.2)) as storage:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StorageUnavailable, match=rf"locked for more than 0.2 s.*pid {holder.pid}"):
            storage.add([a_run()])
        assert len(storage.runs(RunFilter(limit=1000))) == 500  # reading goes on
        holder.communicate(timeout=PATIENCE)
        assert storage.add([a_run()]) == [True]


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
print("held", flush=True)
sys.stdin.read()
connection.execute("rollback")
"""


def test_a_database_that_is_let_go_in_time_is_written(good: Path) -> None:
    holder = sqlite3.connect(good, isolation_level=None, check_same_thread=False)
    with closing(holder), closing(open_storage(url_of(good))) as storage:
        holder.execute("begin immediate")
        in_threads([lambda: storage.add([a_run()]), lambda: holder.execute("rollback")])
        assert len(storage.runs(RunFilter(limit=1000))) == 501


def test_a_disk_that_is_full_is_not_now(tmp_path: Path) -> None:
    """SQLite's own limit of pages gives the very error that a full disk gives."""
    with closing(SqliteStorage.open(url_of(tmp_path / "jobs.db"))) as storage:
        desk = Desk(storage)
        storage.add([a_run()])
        (claim,) = desk.claim()
        connection = storage._database._connected()
        connection.execute("pragma max_page_count = 1")
        with pytest.raises(StorageUnavailable, match="full"):
            storage.add([a_run(payload='"' + "x" * 100_000 + '"') for _ in range(20)])
        assert len(storage.runs(RunFilter())) == 1
        connection.execute("pragma max_page_count = 1000000")
        assert storage.add([a_run()]) == [True]
        assert desk.turn([desk.end(claim)]).refused == []


def test_a_file_that_was_replaced_is_not_written(good: Path) -> None:
    with closing(open_storage(url_of(good))) as storage:
        good.rename(good.with_name("elsewhere.db"))
        with pytest.raises(StorageRefused, match="removed or replaced"):
            storage.add([a_run()])
        good.with_name("elsewhere.db").rename(good)
        assert storage.add([a_run()]) == [True]


def test_a_closed_storage_says_so(good: Path) -> None:
    storage = open_storage(url_of(good))
    storage.close()
    with pytest.raises(UsageError, match="closed"):
        storage.add([a_run()])


# --- without permission -----------------------------------------------------------------------------


@contextmanager
def powerless() -> Iterator[None]:
    """As somebody whom permissions concern: root becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_file_that_cannot_be_written_can_be_read(open_folder: Path) -> None:
    path = open_folder / "jobs.db"
    with closing(open_storage(url_of(path))) as storage:
        storage.add([a_run()])
    os.chmod(path, 0o444)
    os.chmod(open_folder, 0o555)
    with powerless(), closing(open_storage(url_of(path), create=False)) as storage:
        assert len(storage.runs(RunFilter())) == 1
        with pytest.raises(StorageRefused, match="cannot write") as refused:
            storage.add([a_run()])
        assert "writable" in refused.value.help
    os.chmod(open_folder, 0o755)


def test_a_file_of_another_user_is_answered_with_the_line_to_type(open_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs another user's file: run as root")
    path = open_folder / "jobs.db"
    open_storage(url_of(path)).close()
    with powerless(), pytest.raises(StorageRefused, match="permission") as refused:
        open_storage(url_of(path))
    assert "sudo -u root jobrunner" in refused.value.help


def test_a_folder_that_cannot_be_written_is_refused(open_folder: Path) -> None:
    os.chmod(open_folder, 0o555)
    with powerless(), pytest.raises(StorageRefused, match="permission"):
        open_storage(url_of(open_folder / "state" / "jobs.db"))
    os.chmod(open_folder, 0o755)


# --- deaths -----------------------------------------------------------------------------------------

WRITE = """
import sys
from jobrunner.storage import open_storage
from jobrunner.testing.desk import a_run
storage = open_storage(sys.argv[1])
while True:
    runs = [a_run() for _ in range(3)]
    storage.add(runs)
    for run in runs:
        print(run.id, flush=True)
"""


@pytest.mark.drill
def test_what_was_acknowledged_survives_the_death_of_its_writer(tmp_path: Path, full_drills: bool) -> None:
    path = tmp_path / "jobs.db"
    acknowledged: set[str] = set()
    for _ in range(30 if full_drills else 4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE, url_of(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert writer.stdout is not None
        with writer:
            for _ in range(40):
                acknowledged.add(writer.stdout.readline().strip())
            writer.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in writer.stdout if line.endswith("\n"))
    with closing(open_storage(url_of(path), create=False)) as storage:
        assert storage.enter(an_owner(), A_STATUS)
        kept = {run.id for run in storage.runs(RunFilter(limit=10**6))}
    assert acknowledged - kept == set()
    assert len(kept) % 3 == 0  # all of a call, or nothing of it


OWN = """
import sys
from jobrunner.storage import open_storage
from jobrunner.testing.desk import Desk, a_run
storage = open_storage(sys.argv[1])
desk = Desk(storage, "dead")
storage.add([a_run() for _ in range(10)])
desk.turn([desk.end(desk.claim(1)[0])], want={"default": 4})
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_killed_owner_is_dead_at_once(tmp_path: Path) -> None:  # rule 32
    url = url_of(tmp_path / "jobs.db")
    owner = subprocess.Popen(
        [sys.executable, "-c", OWN, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with owner, closing(open_storage(url)) as storage:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"claimed\n"
        assert not storage.enter(an_owner("heir"), A_STATUS)
        assert [each.alive for each in storage.supervisors(NOON)] == [True]
        owner.kill()
        owner.wait(PATIENCE)
        assert [each.alive for each in storage.supervisors(NOON)] == [False]
        heir = Desk(storage, "heir")
        orphans = storage.orphans("heir")
        assert len(orphans) == 4
        assert {info.id for _, info in orphans} == {"dead"}
        assert len(heir.claim()) == 5


def test_an_owners_socket_that_is_left_over_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    a_socket_file = path.with_name("jobs.db.wake")
    with closing(open_storage(url_of(path))) as storage:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as left:
            left.bind(str(a_socket_file))
        storage.add([a_run()])  # nobody listens there: no trouble
        Desk(storage)
        assert storage.wake_fd() is not None


def test_a_long_log_is_cut_by_clients_when_nobody_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.storage.sqlite.upkeep.LONGEST_LOG", 200_000)
    monkeypatch.setattr("jobrunner.storage.sqlite.upkeep.STEP", 50_000)
    path = tmp_path / "jobs.db"
    sizes = []
    with closing(open_storage(url_of(path))) as storage:
        for _ in range(300):
            storage.add([a_run()])
            sizes.append(path.with_name("jobs.db-wal").stat().st_size)
    assert max(sizes) < 400_000
    assert len([size for size in sizes if size == 0]) >= 3


def test_a_client_writes_the_log_over_again_when_nobody_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.storage.sqlite.upkeep.COPIED_WRITES", 10)
    path = tmp_path / "jobs.db"
    with closing(open_storage(url_of(path))) as storage, closing(open_storage(url_of(path))) as other:
        sizes = []
        for _ in range(100):
            storage.add([a_run()])
            other.add([a_run()])
            sizes.append(path.with_name("jobs.db-wal").stat().st_size)
    assert max(sizes) < 1_000_000  # five times that was written
    assert sizes == sorted(sizes)  # it is not cut either: a file that grows again is dearer to sync


def test_a_client_copies_the_log_in_a_commit_of_its_own_under_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a copy might begin when all was copied already, and meet a writer that begins the log anew."""
    monkeypatch.setattr("jobrunner.storage.sqlite.upkeep.COPIED_WRITES", 1)
    path = tmp_path / "jobs.db"
    held = LockFile(str(path))
    with closing(open_storage(url_of(path))) as storage:
        storage.add([a_run()])
        assert held.take_copying()
        before = path.stat().st_mtime_ns
        storage.add([a_run()])  # somebody else is copying: not now
        assert path.stat().st_mtime_ns == before
        held.end_copying()
        assert path.stat().st_mtime_ns == before
        storage.add([a_run()])
        assert path.stat().st_mtime_ns != before
        assert held.take_copying()  # it was given back
        held.release()


def test_a_client_leaves_the_log_to_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.storage.sqlite.upkeep.COPIED_WRITES", 1)
    path = tmp_path / "jobs.db"
    with closing(open_storage(url_of(path))) as owner, closing(open_storage(url_of(path))) as client:
        Desk(owner)
        before = path.stat()
        for _ in range(20):
            client.add([a_run()])
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_an_owner_copies_the_log_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.storage.sqlite.database.COPIED_PAGES", 100)
    path = tmp_path / "jobs.db"
    with closing(open_storage(url_of(path))) as storage:
        desk = Desk(storage)
        for _ in range(200):
            storage.add([a_run()])
            desk.turn([desk.end(claim) for claim in desk.claim()])
        assert path.with_name("jobs.db-wal").stat().st_size < 2_000_000
        assert storage.overview(NOON + SECOND).counts[State.SUCCEEDED] == 200


def test_a_storage_is_not_carried_over_a_fork(good: Path) -> None:
    """SQLite's locks are the process's: a child that used its parent's connection would break both."""
    with closing(open_storage(url_of(good))) as storage:
        child = os.fork()
        if child == 0:
            try:
                storage.add([a_run()])
            except UsageError:
                storage.close()
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert storage.add([a_run()]) == [True]


def test_a_supervisor_does_not_enter_where_it_cannot_write(open_folder: Path) -> None:
    path = open_folder / "jobs.db"
    open_storage(url_of(path)).close()
    os.chmod(path, 0o444)
    os.chmod(open_folder, 0o555)
    with powerless(), closing(open_storage(url_of(path))) as storage:
        with pytest.raises(StorageRefused, match="cannot write"):
            storage.enter(an_owner(), A_STATUS)
        assert storage.supervisors(NOON) == []
    os.chmod(open_folder, 0o755)
