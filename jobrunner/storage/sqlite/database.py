"""One SQLite file: how it is made, opened, refused, migrated, and used in transactions."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...errors import StorageError, StorageRefused, StorageUnavailable, UsageError
from ..beside import LockFile
from . import faults, schema

PREFIX = "sqlite:///"
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
BUSY_TIMEOUT = 5.0  # seconds
CACHE_KIB = 4_096  # a claim reads as much with four times that, over a million queued runs
COPIED_PAGES = 4_000  # of log (16 MB), after which the owner copies it: pages written often are copied once
_CUT_PATIENCE = 50  # milliseconds: claims wait meanwhile
_CACHED_STATEMENTS = 256

_inherited: list[sqlite3.Connection | None] = []  # opened before a fork: kept, so that nothing closes them


def path_of(url: str) -> str:
    """The file that a URL names: `sqlite:///relative` (to the current folder) or `sqlite:////absolute`."""
    if not url.startswith(PREFIX) or len(url) == len(PREFIX):
        raise UsageError(
            f"{url!r} names no file", help="write sqlite:///relative/path.db or sqlite:////absolute/path.db"
        )
    return os.path.abspath(url[len(PREFIX) :])


class Database:
    """One connection, used by one thread at a time.

    Every write is a transaction of its own that begins as `immediate`: one that reads first and writes
    then would fail at once when somebody else writes, whatever the busy timeout says.
    """

    def __init__(self, path: str, *, create: bool, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.writes = 0  # transactions committed by this object: `data_version` does not count those
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._process = os.getpid()
        self._closed = False
        self._copies_log = False
        _demand_sqlite()
        _look(path, create=create)
        if not os.path.exists(path):
            _make(path)
        with self.lock, self._faults():
            self._connected()

    # --- use ----------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for all reads of the block."""
        with self.lock, self._faults():
            connection = self._connected()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("begin")
            try:
                yield connection
            finally:
                self._end(connection, "commit")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block, or nothing of it."""
        with self.lock:
            connection = None
            try:
                connection = self._connected()
                self._demand_same_file()
                connection.execute("begin immediate")
                yield connection
                connection.execute("commit")
            except BaseException as error:
                if connection is not None:
                    self._end(connection, "rollback")
                if isinstance(error, sqlite3.Error):
                    raise self._fault(error) from error
                raise
            self.writes += 1

    def version(self) -> tuple[int, int]:
        """What changes with every write of anybody."""
        with self.lock, self._faults():
            return self.writes, data_version(self._connected())

    def foreign_version(self) -> int:
        """What changes with every write of others."""
        with self.lock, self._faults():
            return data_version(self._connected())

    def size(self) -> int:
        """Bytes on disk, the log included. Asked of the file system: opening the files is forbidden here."""
        names = (self.path, self._log())
        return sum(os.stat(name).st_size for name in names if os.path.exists(name))

    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        try:
            return os.stat(self._log()).st_size
        except OSError:
            return 0

    def own(self) -> None:
        """From now on commits of this connection copy the log into the database, so many pages at a time."""
        self._copies_log = True
        self._copy_each(COPIED_PAGES)

    def disown(self) -> None:
        """Leave the log to others again."""
        self._copies_log = False
        self._copy_no_more()

    @contextmanager
    def copying(self) -> Iterator[None]:
        """Commits within the block copy all of the log; what is written after that begins it anew."""
        self._copy_each(1)
        try:
            yield
        finally:
            with suppress(StorageError):  # what was committed is committed
                self._copy_no_more()

    def _copy_each(self, pages: int) -> None:
        with self.lock, self._faults():
            self._connected().execute(f"pragma wal_autocheckpoint = {pages}")

    def _copy_no_more(self) -> None:
        """As every connection begins: one that is made anew need not be told."""
        with self.lock, self._faults():
            if self._connection is not None:
                self._connection.execute("pragma wal_autocheckpoint = 0")

    def cut_log(self) -> None:
        """Copy all of the log and make its file empty, unless readers or writers are in the way."""
        with self.lock, self._faults():
            connection = self._connected()
            connection.execute(f"pragma busy_timeout = {_CUT_PATIENCE}")
            try:
                connection.execute("pragma wal_checkpoint(truncate)").fetchall()
            finally:
                self._set_patience(connection)

    def check(self, seconds: float) -> None:
        """Look for damage, for at most so long. Raises StorageRefused."""
        from ...clock import SystemClock

        clock = SystemClock()
        end = clock.monotonic() + int(seconds * 1_000_000)
        with self.lock, self._faults():
            connection = self._connected()
            connection.set_progress_handler(lambda: clock.monotonic() > end, 10_000)
            try:
                found = connection.execute("pragma quick_check(1)").fetchall()
            except sqlite3.OperationalError as error:
                if faults.primary_code(error) != sqlite3.SQLITE_INTERRUPT:
                    raise
                return
            finally:
                connection.set_progress_handler(None, 0)
        if found != [("ok",)]:
            raise faults.damaged(self.path, str(found[0][0]))

    def close(self) -> None:
        if self._process != os.getpid():
            _inherited.append(self._connection)  # closing it here would harm the process that opened it
            return
        with self.lock:
            self._closed = True
            self._disconnect()

    # --- the connection -----------------------------------------------------------------------------

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            raise UsageError(f"the storage {self.path} is closed", help="open it again")
        if self._process != os.getpid():
            raise UsageError(
                f"the storage {self.path} was opened before a fork",
                help="open it in the process that uses it",
            )
        if self._connection is None:
            _look(self.path, create=False)
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = _connect(self.path, self._busy_timeout)
        try:
            self._set_patience(connection)
            _demand_ours(connection, self.path)
            _prepare(connection, COPIED_PAGES if self._copies_log else 0)
            self._file = _identity(self.path)
            if _version_of(connection) < schema.VERSION:
                _demand_nobody(self.path)
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_patience(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"pragma busy_timeout = {int(self._busy_timeout * 1000)}")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _demand_same_file(self) -> None:
        """What is written into a file that somebody removed or replaced would be lost without a word."""
        if _identity(self.path) != self._file:
            raise StorageRefused(
                f"{self.path} was removed or replaced while it was in use",
                help="put it back, or restart whatever uses it",
            )

    def _end(self, connection: sqlite3.Connection, how: str) -> None:
        """End a transaction that may have ended by itself (SQLite rolls back after some errors)."""
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute(how)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: sqlite3.Error) -> StorageError:
        if faults.primary_code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT):
            self._disconnect()  # what this connection remembers of the file is not to be believed
        return faults.translated(error, self.path, patience=self._busy_timeout)

    def _log(self) -> str:
        return self.path + "-wal"


def data_version(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("pragma data_version").fetchone()[0]
    return number


def library_version() -> tuple[int, int, int]:
    """Of the SQLite library in use."""
    major, minor, patch = sqlite3.sqlite_version_info
    return major, minor, patch


def _demand_sqlite() -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise StorageRefused(
            f"SQLite {sqlite3.sqlite_version} is too old", help=f"use a Python with SQLite {wanted} or newer"
        )


# --- opening ----------------------------------------------------------------------------------------


def _look(path: str, *, create: bool) -> None:
    """Refuse what is no database before SQLite touches it; a missing one too unless it may be made."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if create:
            return
        raise StorageRefused(
            f"there is no database at {path}",
            help="start the supervisor once (jobrunner run FILE), or look at the path",
        ) from None
    except NotADirectoryError:
        raise StorageRefused(
            f"{os.path.dirname(path)} is no folder", help="look at the path of the storage"
        ) from None
    except PermissionError:
        raise faults.cannot_open(path) from None
    if not stat.S_ISREG(status.st_mode):
        raise StorageRefused(
            f"{path} is {_kind(status.st_mode)}, not a file", help="name a file, or a path where none is yet"
        )
    if status.st_size == 0:
        # SQLite would take it for a new database: what was in it would be forgotten without a word.
        raise StorageRefused(
            f"{path} is empty (0 bytes), so it is no database",
            help="restore it from a backup; or remove it, and a new storage is made there",
        )


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _make(path: str) -> None:
    """Make a database under another name, then link it to its own: never is there half of one."""
    folder, name = os.path.split(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        draft = os.path.join(folder, f".{name[:80]}.{os.urandom(8).hex()}.new")
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except PermissionError:
        raise faults.cannot_open(path) from None
    except OSError as error:
        raise _cannot_make(path, error) from error
    try:
        _fill(draft, path)
        with suppress(FileExistsError):  # somebody else was faster: theirs is as good
            os.link(draft, path)
        _sync_folder(folder)
    except OSError as error:
        raise _cannot_make(path, error) from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(draft + suffix)


def _cannot_make(path: str, error: OSError) -> StorageError:
    words = f"cannot make {path}: {error.strerror}"
    passing = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
    kind = StorageUnavailable if error.errno in passing else StorageRefused
    return kind(words, help="look at the path and at the disk")


def _fill(draft: str, path: str) -> None:
    connection = _connect(draft, BUSY_TIMEOUT)
    try:
        mode = connection.execute("pragma journal_mode = wal").fetchone()[0]
        if mode != "wal":
            raise StorageRefused(
                f"the file system of {path} cannot hold a database that several processes use",
                help="choose a local disk: network file systems cannot",
            )
        connection.execute("pragma synchronous = full")
        _migrate(connection)
        connection.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.Error as error:
        raise faults.translated(error, path, patience=BUSY_TIMEOUT) from error
    finally:
        connection.close()


def _sync_folder(folder: str) -> None:
    """Without this a power cut may take the file's name away again."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _connect(path: str, patience: float) -> sqlite3.Connection:
    if not _needs_immutable(path):
        return _opened(path, "mode=rw", patience)
    return _opened(path, "mode=ro&immutable=1", patience)


def _opened(path: str, how: str, patience: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{_quoted(path)}?{how}",
        uri=True,
        timeout=patience,
        isolation_level=None,  # transactions are begun and ended here, in words
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
    )


def _quoted(path: str) -> str:
    """A path in a URI: SQLite ends it at `?` and `#`, `%` begins an escape (sqlite.org/uri.html)."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _needs_immutable(path: str) -> bool:
    """In a folder that cannot be written, SQLite reads a WAL database only if nobody can change it."""
    if os.access(os.path.dirname(path), os.W_OK, effective_ids=True):
        return False
    return not any(os.path.exists(path + suffix) for suffix in ("-wal", "-shm"))


def _demand_ours(connection: sqlite3.Connection, path: str) -> None:
    """Refuse what another program or a newer version made, before anything is written."""
    application = connection.execute("pragma application_id").fetchone()[0]
    version = _version_of(connection)
    if application != schema.APPLICATION_ID:
        raise StorageRefused(
            f"{path} is the database of another program", help="choose another path for the storage"
        )
    if version > schema.VERSION:
        raise StorageRefused(
            f"{path} was made by a newer jobrunner (schema {version}, this one knows {schema.VERSION})",
            help="upgrade jobrunner here too",
        )


def _prepare(connection: sqlite3.Connection, copied_pages: int) -> None:
    connection.execute("pragma synchronous = full")  # an acknowledged write survives a power cut
    connection.execute(f"pragma wal_autocheckpoint = {copied_pages}")  # 0 for clients: see `upkeep`
    connection.execute("pragma mmap_size = 0")
    connection.execute(f"pragma cache_size = -{CACHE_KIB}")
    connection.execute("pragma temp_store = memory")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _version_of(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("pragma user_version").fetchone()[0]
    return version


def _demand_nobody(path: str) -> None:
    """A supervisor of the older version would go on with tables that it does not know."""
    if LockFile(path).is_held():
        raise StorageRefused(
            f"{path} is in use by a supervisor of an older jobrunner", help="restart that supervisor first"
        )


def _migrate(connection: sqlite3.Connection) -> None:
    """Take every step that this database has not taken yet, all in one transaction."""
    connection.execute("begin immediate")
    try:
        for step in schema.STEPS[_version_of(connection) :]:  # asked again: somebody may have been faster
            for statement in step:
                connection.execute(statement)
        connection.execute(f"pragma application_id = {schema.APPLICATION_ID}")
        connection.execute(f"pragma user_version = {schema.VERSION}")
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
