"""A transaction pooler before PostgreSQL: each transaction may meet another session (`?notify=false`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from jobrunner.model import NewRun, State
from jobrunner.storage import RunFilter, Storage, open_storage
from jobrunner.testing.desk import A_STATUS, NOON, Desk, a_catalogue, a_pipeline, a_run, in_threads
from tests.live import wait_until
from tests.postgres_server import Server, _account
from tests.servers import free_port

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
SETTINGS = """
[databases]
* = host=127.0.0.1 port={port} user=jobrunner
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
ignore_startup_parameters = extra_float_digits
"""


@pytest.fixture(scope="module")
def pooler(postgres_server: Server) -> Iterator[str]:
    """The URL of a pooler with three sessions, in front of the server of the tests."""
    if not os.path.exists(PROGRAM):
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    own, url = free_port(), urlsplit(postgres_server.url())
    with closing(_Pooler(SETTINGS.format(port=url.port, own=own))):
        pooled = f"postgresql://jobrunner@127.0.0.1:{own}{url.path}"
        wait_until(lambda: _answers(pooled), lambda: f"pgbouncer does not answer on {own}")
        yield pooled


class _Pooler:
    """The process; ended by its pid."""

    def __init__(self, settings: str) -> None:
        account = _account()  # it does not run as root
        as_somebody = ["-u", account.pw_name] if account is not None else []
        self._folder = Path(tempfile.mkdtemp(prefix="jobrunner-pgbouncer-"))
        self._folder.chmod(0o755)
        file = self._folder / "pgbouncer.ini"
        file.write_text(settings)
        file.chmod(0o644)
        self._process = subprocess.Popen(
            [PROGRAM, "-q", *as_somebody, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


@pytest.fixture
def url(pooler: str) -> str:
    return f"{pooler}?namespace=pooled_{os.urandom(4).hex()}&notify=false"


def test_supervisors_and_clients_share_three_sessions(url: str) -> None:
    """More threads than sessions: nothing of one transaction is found in the next one's session."""
    with closing(open_storage(url)) as first, closing(open_storage(url)) as second:
        desks = Desk(first, "a"), Desk(second, "b")
        first.publish("a", a_catalogue("resize"), keep=(), now=NOON)
        batches = [[a_run() for _ in range(5)] for _ in range(12)]
        in_threads([partial(_add, url, batch) for batch in batches])
        for desk in desks:
            desk.turn(want={})
        claimed = [claim for _ in range(4) for desk in desks for claim in desk.claim(10)]
        assert sorted(claim.id for claim in claimed) == sorted(run.id for b in batches for run in b)
        for desk in desks:
            mine = [desk.end(claim) for claim in desk.storage.claimed_by(desk.owner)]
            assert desk.turn(mine, want={}).refused == []
            desk.storage.heartbeat(desk.owner, A_STATUS, NOON)
        assert len(first.runs(RunFilter(states=(State.SUCCEEDED,), limit=100))) == 60


def _add(url: str, batch: Sequence[NewRun]) -> None:
    with closing(open_storage(url)) as client:
        assert client.add(batch) == [True] * len(batch)


def test_a_pipeline_and_an_enqueue_in_a_callers_transaction_go_through(url: str) -> None:
    with closing(open_storage(url)) as storage, psycopg.connect(url.partition("?")[0]) as connection:
        desk = Desk(storage)
        steps = a_pipeline(a_run(), a_run())
        storage.add(steps)
        _added_on(storage, connection)
        connection.commit()
        for _ in range(2):
            desk.turn([desk.end(claim) for claim in desk.claim()], want={})
        assert storage.run(steps[0].id).state is State.SUCCEEDED
        assert len(storage.runs(RunFilter(states=(State.SUCCEEDED,)))) == 4


def _added_on(storage: Storage, connection: psycopg.Connection[tuple[object, ...]]) -> None:
    assert storage.add_on(connection, [a_run()]) == [True]  # type: ignore[attr-defined]
