"""One PostgreSQL database: connections, transactions, and how its errors reach us."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from select import POLLIN, poll
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg.errors import InvalidSqlStatementName
from psycopg.rows import tuple_row

from ...durations import Micros
from ...errors import StorageRefused, UsageError
from . import faults
from .address import Address
from .statement import Statement

OLDEST_SERVER = 130000  # PostgreSQL 13
MOST_CONNECTIONS = 4  # of one storage object, the one that listens aside
CONNECT_TIMEOUT = 5  # seconds
LOCK_TIMEOUT = 5.0  # seconds: another transaction holds what is needed
STATEMENT_TIMEOUT = 30.0  # seconds
IDLE_TIMEOUT = 5.0  # seconds within a transaction: a frozen process must not hold the others up

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]

# Noticed within seconds: a peer that answers no more (libpq's keepalives, see its manual, 34.1.2).
_LIFE_SIGNS = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_NOW = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint"

_inherited: list[object] = []  # connections opened before a fork: kept, so that nothing closes them


@dataclass(slots=True)
class Turn:
    """A transaction under way."""

    connection: Connection
    now: Micros
    tells: bool = False  # others hear of it, once it is committed


class Database:
    """Connections to one schema; may be used from several threads.

    Every write that changes runs takes the schema's advisory lock first, and asks in statements of its own
    afterwards: each of them sees all that was committed before it. Under READ COMMITTED one statement alone
    could not count the holders of a lock, nor see that it writes the last of several predecessors.
    """

    def __init__(self, address: Address, *, server_time: bool = True) -> None:
        self.address = address
        self.own_changes = 0  # of the sequence `changes`, made by this object
        self._server_time = server_time
        self._latest: Micros = 0  # the moment that the last call was given
        self._idle: list[Connection] = []
        self._used = 0
        self._freed = threading.Condition()
        self._prepared: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()  # names of statements
        self._pids: dict[Connection, int] = {}  # replaced, never changed: other threads look through it
        self._process = os.getpid()
        self._closed = False
        self._lock_key = lock_key(address.namespace)

    # --- use ----------------------------------------------------------------------------------------

    @contextmanager
    def reading(self, given: Micros | None = None) -> Iterator[Turn]:
        """One snapshot for all reads of the block."""
        with self._transaction("begin isolation level repeatable read read only", given) as turn:
            yield turn

    @contextmanager
    def writing(
        self, given: Micros | None = None, *, alone: bool = True, tells: bool = False
    ) -> Iterator[Turn]:
        """One transaction: all of the block, or nothing of it.

        `alone`: no other such transaction is under way meanwhile. `tells`: others hear of it; the block may
        still decide so.
        """
        begin = f"begin; select pg_advisory_xact_lock({self._lock_key})" if alone else "begin"
        with self._transaction(begin, given, tells=tells) as turn:
            yield turn

    @contextmanager
    def _transaction(self, begin: str, given: Micros | None, *, tells: bool = False) -> Iterator[Turn]:
        self._demand_open()
        with self._place(), self._faults():
            connection, server_now = self._begun(begin)
            try:
                turn = Turn(connection, self._time(server_now, given), tells)
                yield turn
                self._end(connection, tells=turn.tells)
            except BaseException as error:
                self._give_up(connection, error)
                raise
            self._idle.append(connection)

    def _begun(self, begin: str) -> tuple[Connection, Micros]:
        """A connection on which a transaction has begun; one that died while it lay idle is replaced."""
        text = f"{begin}; {self._settings(local=True)}{_NOW}"
        while True:
            connection, is_fresh = self._taken()
            try:
                return connection, _last_number(connection, text)
            except psycopg.Error as error:
                was_dead = connection.broken or connection.closed
                self._give_up(connection, error)
                if is_fresh or not was_dead:
                    raise
            except BaseException as error:
                self._give_up(connection, error)
                raise

    def _end(self, connection: Connection, *, tells: bool) -> None:
        """Commit. The count of changes moves after it: who sees it move finds the change."""
        if not tells:
            connection.execute("commit")
            return
        with self._freed:
            self.own_changes += 1
        connection.execute(self._telling())

    def _telling(self) -> str:
        """The end of a transaction of which others hear."""
        notify = f"select pg_notify('{self.address.namespace}', ''); " if self.address.notify else ""
        return f"{notify}commit; select nextval('{self.address.schema}.changes')"

    def in_one_step(self, statement: Statement, values: Sequence[object], given: Micros) -> Row | None:
        """Run one statement as a transaction of which others hear: one message; the first row of its answer.

        The moment that counts is its last value; None: the server's own.
        """
        self._demand_open()
        moment = None if self._server_time else self._time(0, given)
        with self._place(), self._faults():
            row = self._stepped(statement, [*values, moment])
        with self._freed:
            self.own_changes += 1
        return row

    def _stepped(self, statement: Statement, values: Sequence[object]) -> Row | None:
        """The same on one connection; once more where the session has forgotten what was prepared.

        After a rollback psycopg may have it forget everything (`DEALLOCATE ALL`). A message whose statement
        is not there has written nothing.
        """
        while True:
            connection = self._living()
            try:
                row = self._asked(connection, statement, values)
            except InvalidSqlStatementName as error:
                self._prepared[connection].discard(statement.name)
                self._give_up(connection, error)
                continue
            except BaseException as error:
                if not self._has(connection, statement):  # who knows whether it is prepared now
                    self._drop(connection)
                else:
                    self._give_up(connection, error)
                raise
            self._idle.append(connection)
            return row

    def _asked(self, connection: Connection, statement: Statement, values: Sequence[object]) -> Row | None:
        end = self._telling()
        if not self.address.notify:
            asked = f"begin; {self._settings(local=True)}{statement.whole(values)}; {end}"
        elif self._has(connection, statement):
            asked = f"begin; {statement.prepared(values)}; {end}"
        else:
            asked = f"{statement.preparing}; begin; {statement.prepared(values)}; {end}"
        cursor = connection.execute(asked, prepare=False)
        self._prepared.setdefault(connection, set()).add(statement.name)
        while cursor.description is None:
            cursor.nextset()
        return cursor.fetchone()

    def _has(self, connection: Connection, statement: Statement) -> bool:
        return statement.name in self._prepared.get(connection, ())

    def _living(self) -> Connection:
        """A connection of which nothing says that it has ended while it lay idle."""
        while True:
            connection, is_fresh = self._taken()
            if is_fresh or not _has_news(connection):
                return connection
            self._drop(connection)

    @contextmanager
    def within(self, connection: Connection) -> Iterator[Turn]:
        """Our tables within a transaction of somebody else's connection, which is left as it was."""
        with _plain_rows(connection):
            number = connection.execute(_NOW).fetchone()
            path = connection.execute("select current_setting('search_path')").fetchone()
            self._demand_tables(connection)
            connection.execute(f"set local search_path = {self.address.schema}")
            yield Turn(connection, self._time(int(number[0]) if number else 0, None))
            if self.address.notify:
                connection.execute("select pg_notify(%s, '')", (self.address.namespace,))
            connection.execute("select nextval('changes')")
            connection.execute("select set_config('search_path', %s, true)", path)

    def _demand_tables(self, connection: Connection) -> None:
        """A connection of somebody else's may lead anywhere."""
        row = connection.execute("select to_regclass(%s)", (f"{self.address.schema}.runs",)).fetchone()
        if row is None or row[0] is None:
            raise UsageError(
                f"the connection leads to the database {connection.info.dbname!r} on"
                f" {connection.info.host}:{connection.info.port}, where {self.address.url} has no tables",
                help="pass a connection to the same database as the storage",
            )

    def be_alone(self, connection: Connection) -> None:
        """Wait until no other transaction changes runs; until the end of this one."""
        connection.execute(f"select pg_advisory_xact_lock({self._lock_key})")

    def changes(self) -> int:
        """How many writes of others were told so far, counted from an unknown start."""
        own = self.own_changes
        with self._transaction("begin read only", None) as turn:
            row = turn.connection.execute("select last_value from changes").fetchone()
        return int(row[0] if row else 0) - own

    def is_own(self, pid: int) -> bool:
        """Whether a connection of this object has this server process."""
        return pid in self._pids.values()

    def close(self) -> None:
        if self._process != os.getpid():
            _inherited.append(self._idle)  # closing them here would harm the process that opened them
            return
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop())

    def _time(self, server: Micros, given: Micros | None) -> Micros:
        """The moment that counts: machines have clocks of their own, the server's is the same for all."""
        if self._server_time:
            return server
        self._latest = self._latest if given is None else given
        return self._latest

    # --- connections --------------------------------------------------------------------------------

    def _demand_open(self) -> None:
        if self._closed:
            raise UsageError(f"the storage {self.address.url} is closed", help="open it again")
        if self._process != os.getpid():
            raise UsageError(
                f"the storage {self.address.url} was opened before a fork",
                help="open it in the process that uses it",
            )

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Wait for one of the few connections."""
        with self._freed:
            self._freed.wait_for(lambda: self._used < MOST_CONNECTIONS)
            self._used += 1
        try:
            yield
        finally:
            with self._freed:
                self._used -= 1
                self._freed.notify()

    def _taken(self) -> tuple[Connection, bool]:
        try:
            return self._idle.pop(), False
        except IndexError:
            return self.connect(), True

    def connect(self) -> Connection:
        """A connection of its own, set up. Raises StorageRefused or StorageUnavailable."""
        threshold = 5 if self.address.notify else None  # a pooler gives the next statement to another session
        try:
            connection = psycopg.connect(
                self.address.conninfo, autocommit=True, prepare_threshold=threshold, **_merged(self.address)
            )
        except psycopg.Error as error:
            raise faults.not_connected(error, self.address.url) from error
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        with self._freed:
            self._pids = {**self._pids, connection: connection.info.backend_pid}
        return connection

    def _set_up(self, connection: Connection) -> None:
        version, encoding = (
            connection.info.server_version,
            connection.info.parameter_status("server_encoding"),
        )
        demand_version(version, self.address.url)
        if encoding != "UTF8":
            raise StorageRefused(
                f"the database of {self.address.url} holds text as {encoding}, not as UTF8",
                help="make another: createdb --encoding=UTF8 --template=template0 NAME",
            )
        if self.address.notify:
            connection.execute(self._settings(local=False))

    def _settings(self, *, local: bool) -> str:
        """What a session is set to; behind a pooler each transaction anew, since it may meet any session."""
        if local and self.address.notify:
            return ""
        word = "set local" if local else "set"
        return "".join(f"{word} {name} = {value}; " for name, value in _settings_of(self.address).items())

    def _give_up(self, connection: Connection, error: BaseException) -> None:
        """Roll back; a connection that is broken, or led to a server that only reads, is not used again."""
        if isinstance(error, psycopg.Error) and error.sqlstate == faults.READ_ONLY:
            self._drop(connection)
        if not connection.closed:
            with suppress(psycopg.Error):
                connection.execute("rollback")
        if connection.closed or connection.broken or connection.info.transaction_status:
            self._drop(connection)
        else:
            self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        with self._freed:
            self._pids = {each: pid for each, pid in self._pids.items() if each is not connection}
        with suppress(psycopg.Error):
            connection.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if faults.is_poison(error):
                raise  # who knows whose row it was says so
            raise faults.translated(error, self.address.url) from error


@contextmanager
def _plain_rows(connection: Connection) -> Iterator[None]:
    """Rows are tuples and cursors plain within the block, however the owner of the connection likes them."""
    rows, cursors = connection.row_factory, connection.cursor_factory
    connection.row_factory, connection.cursor_factory = tuple_row, psycopg.Cursor
    try:
        yield
    finally:
        connection.row_factory, connection.cursor_factory = rows, cursors


def _has_news(connection: Connection) -> bool:
    """Whether something has come unasked: the server's last word, or the end."""
    looking = poll()
    looking.register(connection.fileno(), POLLIN)
    return bool(looking.poll(0))


def _settings_of(address: Address) -> dict[str, str]:
    return {
        "search_path": address.schema,
        "statement_timeout": f"{int(STATEMENT_TIMEOUT * 1000)}",
        "lock_timeout": f"{int(LOCK_TIMEOUT * 1000)}",
        "idle_in_transaction_session_timeout": f"{int(IDLE_TIMEOUT * 1000)}",
        # Every statement of this package is a look into an index: the planner need not weigh other ways,
        # which are better for a table that is small now and worse for what it is a minute later.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
    }


def _merged(address: Address) -> dict[str, Any]:
    """What the URL does not say itself."""
    said = psycopg.conninfo.conninfo_to_dict(address.conninfo)
    ours = {**_LIFE_SIGNS, "application_name": f"jobrunner {address.namespace}", "client_encoding": "utf8"}
    return {name: value for name, value in ours.items() if name not in said}


def demand_version(version: int, url: str) -> None:
    """Raises StorageRefused for a server that is too old."""
    if version < OLDEST_SERVER:
        raise StorageRefused(
            f"{url} is PostgreSQL {version // 10000}, which is too old",
            help=f"upgrade the server to PostgreSQL {OLDEST_SERVER // 10000} or newer",
        )


def lock_key(namespace: str) -> int:
    """The number of the advisory lock of a schema: 64 bits of its name."""
    number = 0x6A6F6252756E6E72
    for byte in namespace.encode():
        number = (number ^ byte) * 0x100000001B3 % 2**64  # FNV-1a, short and the same everywhere
    return number - 2**63


def _last_number(connection: Connection, text: str) -> int:
    """Run several statements in one step; the number that the last one gives."""
    cursor = connection.execute(text)
    while cursor.nextset():
        pass
    row = cursor.fetchone()
    return int(row[0]) if row else 0
