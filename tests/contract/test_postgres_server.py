"""What only a server brings: a clock of its own, faults, poolers, other people's transactions, migrations."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest

from jobrunner import JobRunner
from jobrunner.clock import SystemClock
from jobrunner.durations import DAY, HOUR, SECOND
from jobrunner.errors import (
    NotFound,
    PayloadError,
    StorageError,
    StorageRefused,
    StorageUnavailable,
    UsageError,
)
from jobrunner.ids import new_id
from jobrunner.model import Claim, State
from jobrunner.place import state_folder
from jobrunner.storage import RunFilter, open_storage
from jobrunner.storage.postgres import schema
from jobrunner.storage.postgres.address import read
from jobrunner.storage.postgres.store import PostgresStorage
from jobrunner.testing.desk import (
    A_STATUS,
    NOON,
    PATIENCE,
    Desk,
    a_catalogue,
    a_locked_run,
    a_pause,
    a_pipeline,
    a_run,
    an_owner,
    in_threads,
    is_readable,
    locked,
)
from tests.postgres_server import GUARDED, PostgresServer, Server

CLOCK = SystemClock()


@pytest.fixture
def storage(postgres_url: str) -> Iterator[PostgresStorage]:
    with closing(PostgresStorage.open(postgres_url)) as storage:
        yield storage


@pytest.fixture
def stranger(postgres_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Somebody else's connection to the same database."""
    with psycopg.connect(read(postgres_url).conninfo) as connection:
        yield connection


@pytest.fixture(scope="module")
def private_server() -> Iterator[PostgresServer]:
    """A server whose life is in these tests' hands."""
    server = PostgresServer()
    yield server
    server.close()


def namespace_of(url: str) -> str:
    return read(url).namespace


# --- the clock -------------------------------------------------------------------------------------------


def test_the_servers_clock_says_what_is_due(storage: PostgresStorage) -> None:
    now = CLOCK.now()
    soon, later = (a_run(state=State.SCHEDULED, due_at=now + delay) for delay in (-HOUR, HOUR))
    storage.add([soon, later])
    desk = Desk(storage)
    for wrong in (now - DAY, now + DAY):
        desk.now = wrong
        answer = desk.turn()
        assert abs(answer.now - CLOCK.now()) < HOUR
        assert answer.next_due == later.due_at
    assert storage.run(soon.id).state is State.RUNNING
    assert storage.run(later.id).state is State.SCHEDULED


def test_the_servers_clock_says_how_long_a_lease_holds(storage: PostgresStorage) -> None:
    storage.enter(an_owner("a", started_at=NOON - DAY), A_STATUS)
    storage.heartbeat("a", A_STATUS, NOON - DAY)
    assert storage.lease == 30 * SECOND
    assert [each.alive for each in storage.supervisors(NOON + DAY)] == [True]
    assert storage.orphans("b") == []


# --- texts and numbers -----------------------------------------------------------------------------------


def test_what_cannot_be_stored_is_named(storage: PostgresStorage) -> None:
    for run, place in (
        (a_run("mail", payload='"a\0b"'), "payload of a run of 'mail'"),
        (a_run("mail", payload='"\ud800"'), "payload of a run of 'mail'"),
        (a_run("mail", detail="\0"), "detail of a run of 'mail'"),
        (a_run("mail", priority=2**63), "priority of a run of 'mail'"),
        (a_run("mail", due_at=-(2**63) - 1), "due_at of a run of 'mail'"),
        (a_run(lane=os.urandom(5_000).hex()), "cannot be stored"),  # too long for an index
    ):
        with pytest.raises(PayloadError, match=place):
            storage.add([a_run(), run])
    assert storage.runs(RunFilter()) == []
    edge = a_run(priority=2**63 - 1, due_at=-(2**63))
    assert storage.add([edge]) == [True]
    assert storage.run(edge.id).priority == 2**63 - 1


@pytest.mark.parametrize(
    "text",
    ["{}", '{"a":"b,c"}', "\\", '\\"', "NULL", "null", "'", "ä€😀", "\x01\x7f\x85\u2028", " ", ",", "%s"],
)
def test_texts_come_back_as_they_were_given(storage: PostgresStorage, text: str) -> None:
    run = a_run(payload=text, detail=text, schedule=text, unique=text)
    storage.add([run, a_run(payload="x")])
    found = storage.run(run.id)
    assert (found.payload, found.detail, found.schedule, found.unique) == (text,) * 4
    desk = Desk(storage)
    claim = next(each for each in desk.claim() if each.id == run.id)
    desk.turn([desk.end(claim, result=text, error=text, output=text)], want={})
    found = storage.run(run.id)
    assert (found.result, found.error, found.output) == (text, text, text)


def test_an_error_with_a_nul_in_its_text_is_still_that_error(storage: PostgresStorage) -> None:
    storage.add([a_run()])
    desk = Desk(storage)
    (claim,) = desk.claim()
    desk.turn([desk.end(claim, State.FAILED, outcome="exception ValueError", error="a\0b")], want={})
    run = storage.run(claim.id)
    assert (run.outcome, run.error) == ("exception ValueError", "a\\x00b")


def claim_into(desk: Desk, claims: list[Claim]) -> None:
    claims += desk.claim()


# --- several at once -------------------------------------------------------------------------------------


def test_many_that_start_at_once_make_one_schema(postgres_url: str) -> None:
    opened: list[PostgresStorage] = []
    in_threads([lambda: opened.append(PostgresStorage.open(postgres_url))] * 6)
    try:
        opened[0].add([a_run()])
        assert [len(each.runs(RunFilter())) for each in opened] == [1] * 6
    finally:
        for each in opened:
            each.close()


def test_namespaces_are_storages_of_their_own(postgres_server: Server, postgres_url: str) -> None:
    other = postgres_server.url(namespace=namespace_of(postgres_url) + "_2")
    with closing(PostgresStorage.open(postgres_url)) as one, closing(PostgresStorage.open(other)) as two:
        one.add([a_run()])
        assert two.runs(RunFilter()) == []


def test_a_count_of_lock_holders_sees_what_was_committed_while_it_waited(
    storage: PostgresStorage, postgres_url: str
) -> None:
    """Under READ COMMITTED, each statement after the advisory lock has a snapshot of its own."""
    with closing(PostgresStorage.open(postgres_url)) as other:
        desks = [Desk(each, name, {"dump": locked("dump")}) for each, name in ((storage, "a"), (other, "b"))]
        for _ in range(25):
            storage.add([a_locked_run("dump") for _ in range(4)])
            claims: list[Claim] = []
            in_threads([partial(claim_into, desk, claims) for desk in desks])
            assert len(claims) == 1
            for desk in desks:
                desk.turn([desk.end(claim) for claim in desk.storage.claimed_by(desk.owner)], want={})


# --- other people's transactions -------------------------------------------------------------------------


def test_an_enqueue_belongs_to_the_callers_transaction(
    storage: PostgresStorage, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    desk = Desk(storage)
    stranger.execute("create temporary table mine (n int)")
    stranger.commit()
    run, undone = a_run(), a_run()
    assert storage.add_on(stranger, [run, run]) == [True, False]
    stranger.execute("insert into mine values (1)")
    assert stranger.execute("show search_path").fetchone() == ('"$user", public',)
    with pytest.raises(NotFound):
        storage.run(run.id)
    stranger.commit()
    assert is_readable(storage, PATIENCE)
    assert [claim.id for claim in desk.claim()] == [run.id]
    storage.add_on(stranger, [undone])
    stranger.rollback()
    with pytest.raises(NotFound):
        storage.run(undone.id)


def test_a_refused_enqueue_leaves_the_callers_transaction_alive(
    storage: PostgresStorage, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    stranger.execute("create temporary table mine (n int)")
    with pytest.raises(PayloadError):
        storage.add_on(stranger, [a_run(payload="\0")])
    stranger.execute("insert into mine values (1)")
    stranger.commit()
    with pytest.raises(UsageError, match="psycopg 3"):
        storage.add_on(object(), [a_run()])  # type: ignore[arg-type]


def test_a_connection_without_transactions_enqueues_at_once(
    storage: PostgresStorage, postgres_url: str
) -> None:
    run = a_run()
    with psycopg.connect(read(postgres_url).conninfo, autocommit=True) as connection:
        storage.add_on(connection, [run])
        assert storage.run(run.id).state is State.QUEUED
        assert connection.execute("show search_path").fetchone() == ('"$user", public',)


def test_a_plain_enqueue_in_an_open_transaction_holds_no_supervisor_up(
    storage: PostgresStorage, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    desk = Desk(storage)
    storage.add_on(stranger, [a_run(), a_run("mail", unique="mail:1")])
    storage.add([a_run()])
    assert len(desk.claim()) == 1


def test_a_lock_that_nobody_lets_go_of_is_unavailable_and_not_for_ever(
    storage: PostgresStorage,
    stranger: psycopg.Connection[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger.execute(f"select pg_advisory_xact_lock({storage._database._lock_key})")
    storage._database.close()
    monkeypatch.setattr("jobrunner.storage.postgres.database.LOCK_TIMEOUT", 0.05)
    with closing(PostgresStorage.open(storage_url(storage))) as impatient:
        with pytest.raises(StorageUnavailable, match="does not let go of a lock"):
            impatient.cancel(["x"], NOON)
        stranger.rollback()
        assert impatient.cancel(["x"], NOON) == [False]


def storage_url(storage: PostgresStorage) -> str:
    address = storage._database.address
    mark = "&" if "?" in address.conninfo else "?"
    return f"{address.conninfo}{mark}namespace={address.namespace}"


# --- connections that end --------------------------------------------------------------------------------


def kill_sessions(stranger: psycopg.Connection[tuple[object, ...]], storage: PostgresStorage) -> int:
    """End every session of the storage, as an administrator or a crash does."""
    name = f"jobrunner {storage._database.address.namespace}"
    rows = stranger.execute(
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name = %s", (name,)
    ).fetchall()
    stranger.commit()
    return len(rows)


def test_a_connection_that_died_while_it_lay_idle_is_replaced_unnoticed(
    storage: PostgresStorage, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    desk = Desk(storage)
    storage.add([a_run(), a_run()])
    (claim, _) = desk.claim()
    assert kill_sessions(stranger, storage) >= 2
    assert desk.turn([desk.end(claim)]).refused == []
    assert kill_sessions(stranger, storage) >= 1
    assert storage.run(claim.id).state is State.SUCCEEDED


def test_a_connection_that_dies_in_a_transaction_leaves_nothing_half_done(
    storage: PostgresStorage, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    run = a_run()

    def add_and_lose() -> None:
        with storage._database.writing() as turn:
            storage._add(turn, [run])
            kill_sessions(stranger, storage)
            turn.connection.execute("select 1")

    with pytest.raises(StorageUnavailable, match=r"lost the connection|cannot answer now"):
        add_and_lose()
    assert storage.runs(RunFilter()) == []
    assert storage.add([run]) == [True]


def test_listening_begins_anew_and_looks_for_what_was_missed(
    storage: PostgresStorage, postgres_url: str, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    Desk(storage)
    fd = storage.wake_fd()
    storage.changed()
    kill_sessions(stranger, storage)
    assert is_readable(storage, PATIENCE)
    storage.woken()
    assert not is_readable(storage)
    assert storage.changed() is True
    assert storage.changed() is False
    with closing(PostgresStorage.open(postgres_url)) as client:
        client.add([a_run()])
    assert is_readable(storage, PATIENCE)
    assert storage.wake_fd() == fd


def test_a_supervisors_own_writes_do_not_wake_it(storage: PostgresStorage, postgres_url: str) -> None:
    Desk(storage)
    storage.woken()
    for _ in range(5):
        storage.add([a_run()])
    with closing(PostgresStorage.open(postgres_url)) as client:
        client.add([a_run()])
    assert is_readable(storage, PATIENCE)
    ear = storage._ear
    assert ear is not None
    heard = ear.hush()
    while not heard and is_readable(storage, PATIENCE):
        heard = ear.hush()
    assert heard


# --- behind a pooler -------------------------------------------------------------------------------------


@pytest.fixture
def pooled(postgres_url: str) -> Iterator[PostgresStorage]:
    """As behind a transaction pooler: each transaction may meet another session."""
    with closing(PostgresStorage.open(f"{postgres_url}&notify=false")) as storage:
        yield storage


def test_without_notifications_looking_is_enough(pooled: PostgresStorage, postgres_url: str) -> None:
    desk = Desk(pooled)
    assert pooled.wake_fd() is None
    pooled.woken()
    pooled.changed()
    with closing(PostgresStorage.open(f"{postgres_url}&notify=false")) as client:
        client.add([a_run()])
    assert [pooled.changed() for _ in range(2)] == [True, False]
    assert len(desk.claim()) == 1


def test_an_enqueue_on_anothers_connection_is_found_without_notifications(
    pooled: PostgresStorage, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    """Its count moves before it is committed: whoever looks in between must look again."""
    desk = Desk(pooled)
    pooled.add_on(stranger, [a_run()])
    assert pooled.changed()
    assert desk.claim() == []
    stranger.commit()
    looks = 0
    while not pooled.changed():
        looks += 1
        assert looks < 10
    assert len(desk.claim()) == 1


def test_behind_a_pooler_nothing_is_left_in_a_session(pooled: PostgresStorage) -> None:
    desk = Desk(pooled)
    for _ in range(8):
        pooled.add([a_run()])
        desk.turn([desk.end(claim) for claim in desk.claim()], want={})
    (connection,) = pooled._database._idle
    assert connection.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)
    assert connection.execute("show search_path").fetchone() == ('"$user", public',)
    assert connection.execute("show statement_timeout").fetchone() == ("0",)
    assert connection.execute("select count(*) from pg_listening_channels()").fetchone() == (0,)


def test_a_frozen_supervisor_does_not_hold_the_others_up(
    storage: PostgresStorage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends the session of a process that stopped within its transaction, and frees its lock."""
    monkeypatch.setattr("jobrunner.storage.postgres.database.IDLE_TIMEOUT", 0.2)
    with closing(PostgresStorage.open(postgres_url)) as frozen:

        def freeze() -> None:
            with frozen._database.writing() as turn:
                assert storage.cancel(["x"], NOON) == [False]  # waits until the other's session is ended
                turn.connection.execute("select 1")

        with pytest.raises(StorageUnavailable):
            freeze()
        assert frozen.cancel(["x"], NOON) == [False]


# --- what is refused -------------------------------------------------------------------------------------


def refused(url: str, kind: type[StorageError], match: str, *, create: bool = True) -> StorageError:
    with pytest.raises(kind, match=match) as caught:
        open_storage(url, create=create)
    assert caught.value.help
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_client_makes_no_tables(postgres_url: str) -> None:
    refused(postgres_url, StorageRefused, "there are no tables of jobrunner in schema", create=False)
    with closing(PostgresStorage.open(postgres_url)), closing(open_storage(postgres_url, create=False)):
        pass


def test_tables_of_others_and_of_newer_versions_are_left_alone(
    postgres_url: str, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    name = namespace_of(postgres_url)
    stranger.execute(f"create schema {name}; create table {name}.runs (id int)")
    stranger.commit()
    refused(postgres_url, StorageRefused, "the tables of another program")
    stranger.execute(f"drop schema {name} cascade")
    stranger.commit()
    PostgresStorage.open(postgres_url).close()
    stranger.execute(f"update {name}.facts set number = 99 where name = 'schema version'")
    stranger.commit()
    refused(postgres_url, StorageRefused, r"made by a newer jobrunner \(version 99")


def test_older_tables_are_brought_up_to_date_when_nobody_works_on_them(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(PostgresStorage.open(postgres_url)) as storage:
        storage.add([a_run()])
        storage.enter(an_owner("a"), A_STATUS)
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, ("alter table runs add column novel text",)))
        monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
        refused(postgres_url, StorageRefused, "in use by a supervisor of an older jobrunner on web1")
        storage.leave("a", NOON)
    opened: list[PostgresStorage] = []
    in_threads([lambda: opened.append(PostgresStorage.open(postgres_url))] * 3)
    for each in opened:
        assert len(each.runs(RunFilter())) == 1
        each.close()


@pytest.mark.parametrize(
    ("url", "kind", "match"),
    [
        ("postgresql://127.0.0.1:1/jobs", StorageUnavailable, "cannot reach .*refused"),
        ("postgresql:///jobs?host=/nowhere", StorageUnavailable, "cannot reach"),
        ("postgresql://jobs.invalid/jobs", StorageUnavailable, "cannot reach"),
        ("postgresql://127.0.0.1:1/jobs?colour=blue", StorageRefused, "colour"),
    ],
)
def test_a_server_that_is_not_there(url: str, kind: type[StorageError], match: str) -> None:
    refused(url, kind, match)


def test_a_wrong_login_is_refused_and_no_password_is_shown(private_server: PostgresServer) -> None:
    url = private_server.url().replace("jobrunner@", f"{GUARDED}:sEcret@")
    error = refused(url, StorageRefused, "lets nobody in: .*password authentication failed")
    assert "sEcret" not in f"{error} {error.help}"
    refused(url.replace(":sEcret", ""), StorageRefused, "lets nobody in")
    refused(private_server.url().replace("/tests", "/nowhere"), StorageRefused, "does not exist")
    error = refused(private_server.url(dbname="nowhere"), StorageRefused, "does not exist")
    assert "createdb nowhere" in error.help


def test_a_user_without_rights_is_told_so(private_server: PostgresServer) -> None:
    with private_server.connect() as connection:
        connection.execute("create role weak login; revoke create on database tests from public")
    weak = private_server.url(namespace="weak").replace("jobrunner@", "weak@")
    refused(weak, StorageRefused, "forbids it: permission denied")


def test_a_standby_is_read_and_not_written(private_server: PostgresServer) -> None:
    url = private_server.url(namespace="standby")
    with closing(PostgresStorage.open(url)) as storage:
        run = a_run()
        storage.add([run])
        private_server.become_standby()
        try:
            assert storage.run(run.id).state is State.QUEUED
            with pytest.raises(StorageRefused, match="is read-only") as caught:
                storage.add([a_run()])
            assert "standby" in caught.value.help
            refused(private_server.url(namespace="other"), StorageRefused, "is read-only")
        finally:
            private_server.become_primary()
        assert storage.add([a_run()]) == [True]


def test_a_server_that_was_ended_comes_back(private_server: PostgresServer) -> None:
    with closing(PostgresStorage.open(private_server.url(namespace="ended"))) as storage:
        desk = Desk(storage)
        storage.add([a_run()])
        private_server.stop(signal.SIGQUIT)
        with pytest.raises(StorageUnavailable):
            desk.claim()
        assert not storage._database._idle
        private_server.start()
        assert len(desk.claim()) == 1
        assert storage.changed() is True


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_is_refused(private_server: PostgresServer, encoding: str) -> None:
    name = encoding.lower()
    with private_server.connect() as connection:
        connection.execute(
            f"create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'"
        )
    refused(private_server.url(dbname=name), StorageRefused, f"holds text as {encoding}")


@contextmanager
def old_server(version: str) -> Iterator[int]:
    """The port of something that greets as an old PostgreSQL does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    def greet() -> None:
        connection, _ = listener.accept()
        with connection:
            while connection.recv(4096)[4:8] != struct.pack("!i", 3 << 16):
                connection.sendall(b"N")  # no TLS, no GSS: the client asks again without
            parameters = {"server_version": version, "server_encoding": "UTF8", "client_encoding": "UTF8"}
            words = [message(b"S", f"{k}\0{v}\0".encode()) for k, v in parameters.items()]
            connection.sendall(message(b"R", struct.pack("!i", 0)) + b"".join(words) + message(b"Z", b"I"))
            connection.recv(1)

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
    thread.join(PATIENCE)


def test_a_server_that_is_too_old_is_refused() -> None:
    with old_server("9.6.24") as port:
        refused(f"postgresql://127.0.0.1:{port}/jobs", StorageRefused, "is PostgreSQL 9, which is too old")


def test_it_is_not_used_after_a_fork(storage: PostgresStorage) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            storage.runs(RunFilter())
        except UsageError:
            storage.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert storage.add([a_run()]) == [True]  # the child's end has closed nothing here


def test_a_missing_driver_is_answered_with_the_line_to_type() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from jobrunner.storage import open_storage\nfrom jobrunner.errors import StorageRefused\n"
        "try: open_storage('postgresql://127.0.0.1/x')\n"
        "except StorageRefused as error: print(error, '|', error.help)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the driver for PostgreSQL is not installed" in done.stdout
    assert done.stdout.endswith("| pip install 'jobrunner[postgres]'\n")


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("postgresql:jobs", "names no PostgreSQL database"),
        ("postgresql://h:port/jobs", "is no URL"),
        ("postgresql://h/jobs?namespace=Big", "cannot be a namespace"),
        ("postgresql://h/jobs?namespace=public", "cannot be a namespace"),
        ("postgresql://h/jobs?namespace=pg_x", "cannot be a namespace"),
        ("postgresql://h/jobs?namespace=", "cannot be a namespace"),
        ("postgresql://h/jobs?notify=no", "notify='no'"),
        ("postgresql://u:sEcret@h:port/jobs", "is no URL"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        open_storage(url)
    assert "sEcret" not in str(caught.value)


def test_what_an_address_says() -> None:
    address = read("postgres://ana:p%40ss@db1:5433,db2/jobs?namespace=mine&notify=false&sslmode=require")
    assert address.conninfo == "postgres://ana:p%40ss@db1:5433,db2/jobs?sslmode=require"
    assert (address.namespace, address.notify) == ("mine", False)
    assert address.url == "postgres://ana:***@db1:5433,db2/jobs?namespace=mine&notify=false&sslmode=require"
    assert read("postgresql:///jobs").namespace == "jobrunner"
    assert "p%40ss" not in state_folder("postgres://ana:p%40ss@db1/jobs")
    assert read("postgresql://h/j?password=x").url == "postgresql://h/j?password=***"


# --- statements ------------------------------------------------------------------------------------------


class Counter(psycopg.Connection[tuple[Any, ...]]):
    """A connection that counts what it is asked."""

    asked = 0

    def execute(self, *given: Any, **options: Any) -> Any:
        Counter.asked += 1
        return super().execute(*given, **options)


def statements_of(act: Callable[[], object]) -> int:
    """How many statements this needs."""
    before = Counter.asked
    act()
    return Counter.asked - before


@pytest.fixture
def counted(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStorage]:
    monkeypatch.setattr(psycopg, "connect", Counter.connect)
    with closing(PostgresStorage.open(postgres_url)) as storage:
        yield storage


def test_an_exchange_needs_no_more_statements_for_more_runs(counted: PostgresStorage) -> None:
    desk = Desk(counted)
    numbers = []
    for size in (10, 10, 200):
        counted.add([a_run() for _ in range(2 * size)])
        claims = desk.claim(size)
        ends = [desk.end(claim) for claim in claims[: size // 2]]
        ends += [desk.end(claim, State.FAILED) for claim in claims[size // 2 :]]
        numbers.append(statements_of(partial(desk.turn, ends, want={"default": size})))
        desk.turn([desk.end(claim) for claim in counted.claimed_by("owner-1")], want={})
    assert numbers[1] == numbers[2]
    assert numbers[2] <= 14


def test_a_wake_up_is_six_statements_from_the_claim(counted: PostgresStorage, postgres_url: str) -> None:
    """Begin, look around, read the heads, take, look ahead, commit: nobody looks first whether to write."""
    desk = Desk(counted)
    with closing(PostgresStorage.open(postgres_url)) as client:
        client.add([a_run()])
    assert is_readable(counted, timeout=PATIENCE)
    counted.woken()
    claims: list[Claim] = []
    assert statements_of(lambda: claims.extend(desk.claim())) == 6
    assert len(claims) == 1


def test_a_turn_with_nothing_to_do_is_four_statements_and_takes_no_lock(
    counted: PostgresStorage, postgres_url: str
) -> None:
    desk = Desk(counted)
    with closing(PostgresStorage.open(postgres_url)) as other, other._database.writing():
        assert statements_of(desk.turn) == 4


@pytest.mark.parametrize("notify", ["true", "false"])
def test_an_enqueue_is_one_message_to_the_server(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, notify: str
) -> None:
    monkeypatch.setattr(psycopg, "connect", Counter.connect)
    url = f"{postgres_url}&notify={notify}"
    with closing(PostgresStorage.open(url)) as storage, JobRunner(backend=url) as jobs:
        desk = Desk(storage)
        storage.publish(desk.owner, a_catalogue("resize", "mail"), keep=[], now=NOON)
        both: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [("resize", (), {}), ("mail", (), {})]
        jobs.enqueue_many(both)
        assert statements_of(lambda: jobs.enqueue("resize")) == 1
        assert statements_of(lambda: jobs.enqueue(jobs["resize"].options(unique_key="k"))) == 1
        assert statements_of(lambda: jobs.enqueue_many(both * 50)) == 1
        assert statements_of(lambda: storage.pause(a_pause("all"))) <= 4


def test_an_enqueue_that_is_refused_is_asked_for_once_more(counted: PostgresStorage) -> None:
    run = a_run()
    marks = {"resize": counted.published("resize").mark}
    assert counted.add_if([run], marks) == [True]
    assert statements_of(lambda: counted.add_if([run], marks)) == 2
    assert counted.add_if([run], marks) == [False]
    assert counted.add_if([a_run()], {"resize": "another"}) is None


def test_a_pipeline_is_added_in_few_statements(counted: PostgresStorage) -> None:
    assert statements_of(lambda: counted.add(a_pipeline(a_run(), a_run()))) <= 7


TEXTS = [
    "{}",
    '{"a":"b,c"}',
    "\\",
    '\\"',
    "NULL",
    "'",
    "''; select 1 --",
    "E'\\'",
    "$1",
    "ä€😀",
    "%s",
    "\x01\u2028",
]


@pytest.mark.parametrize("notify", ["true", "false"])
@pytest.mark.parametrize("number", [1, 2])
def test_what_stands_in_a_statement_is_stored_as_it_is(postgres_url: str, notify: str, number: int) -> None:
    with closing(PostgresStorage.open(f"{postgres_url}&notify={notify}")) as storage:
        for text in TEXTS:
            runs = [a_run(payload=text, policy=text, priority=-5) for _ in range(number)]
            assert storage.add_if(runs, {"resize": ""}) == [True] * number
            assert storage.add_if(runs, {"resize": text}) is None
            for each in runs:
                found = storage.run(each.id)
                assert (found.payload, found.policy, found.priority) == (text, text, -5)


@pytest.mark.parametrize("bad", ["\0", "\ud800", 2**63])
@pytest.mark.parametrize("notify", ["true", "false"])
def test_a_run_that_cannot_be_stored_leaves_the_connection_as_it_was(
    postgres_url: str, notify: str, bad: str | int
) -> None:
    run = a_run(priority=bad) if isinstance(bad, int) else a_run(payload=bad)
    with closing(PostgresStorage.open(f"{postgres_url}&notify={notify}")) as storage:
        for _ in range(2):
            with pytest.raises(PayloadError):
                storage.add_if([run], {"resize": ""})
            assert storage.add_if([a_run()], {"resize": ""}) == [True]
        assert len(storage.runs(RunFilter())) == 2


def test_an_enqueue_by_a_connection_that_died_while_it_lay_idle_is_done(
    storage: PostgresStorage, stranger: psycopg.Connection[tuple[object, ...]]
) -> None:
    storage.add([a_run()])
    assert kill_sessions(stranger, storage) >= 1
    assert storage.add([a_run()]) == [True]


def test_an_enqueue_finds_its_statement_again_after_a_rollback(storage: PostgresStorage) -> None:
    """The driver has a session forget all that was prepared, once it has prepared something itself."""
    for _ in range(10):
        storage.runs(RunFilter())
    storage.add([a_run()])
    pid = only_pid(storage)
    for bad in ("\0", "\ud800"):
        with pytest.raises(NotFound):
            storage.run(new_id(NOON))
        assert storage.add([a_run()]) == [True]
        with pytest.raises(PayloadError):
            storage.add([a_run(payload=bad)])
        assert storage.add([a_run(), a_run()]) == [True, True]
    assert only_pid(storage) == pid


def only_pid(storage: PostgresStorage) -> int:
    (pid,) = storage._database._pids.values()
    return pid
