"""D16: PostgreSQL restarts and killed sessions while work goes on. 30 and 200 of them in the full form."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from jobrunner.client import enqueue as make_run
from jobrunner.durations import SECOND, Micros
from jobrunner.errors import StorageError
from jobrunner.ids import new_id
from jobrunner.storage import RunFilter, Storage, open_storage
from tests.drills.checker import CLOCK, MARKS, check, finished, marks
from tests.live import Project, wait_until
from tests.postgres_server import PostgresServer

FILE = """
backend: "{url}"
pools:
  default: {{kind: process, slots: 2}}
tasks:
  work: {{call: "marked:work"}}
"""
MOST_WAIT = 5.0  # seconds from the server's return to work


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


class Producer:
    """Enqueues as a client should: with an id of its own, again until it is answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.ids: list[str] = []
        self.unanswered = 0  # tries
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._produce, daemon=True)

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _produce(self) -> None:
        with closing(open_storage(self._url, create=False)) as storage:
            entry = storage.entry("work")
            assert entry is not None
            while not self._over.wait(0.01):
                now = CLOCK.now()
                run = make_run(entry, run_id=new_id(now), now=now, kwargs={"seconds": 0.002})
                while not self._is_taken(storage, run):
                    self._over.wait(0.05)
                self.ids.append(run.id)

    def _is_taken(self, storage: Storage, run: object) -> bool:
        try:
            storage.add([run])  # type: ignore[list-item]
        except StorageError:
            self.unanswered += 1
            return False
        return True


def next_mark(project: Project, after: Micros) -> Micros:
    """When the first run ended after this moment."""

    def first() -> Micros | None:
        return min(
            (mark.at for mark in marks(project) if mark.what == "end" and mark.at > after), default=None
        )

    wait_until(lambda: first() is not None, lambda: "no work after the fault")
    return first() or 0


def kill_a_session(server: PostgresServer, chance: random.Random) -> int:
    """End one of the sessions of supervisor and clients; how many that were."""
    with suppress(psycopg.Error), server.connect() as connection:
        rows = connection.execute(
            "select pid from pg_stat_activity where application_name like 'jobrunner %'"
        ).fetchall()
        if rows:
            connection.execute("select pg_terminate_backend(%s)", chance.choice(rows))
            return 1
    return 0


@pytest.mark.drill
def test_restarts_and_killed_sessions_lose_nothing(
    project: Project, server: PostgresServer, full_drills: bool
) -> None:  # rules 33 and 34, I1, I5, I11
    restarts, kills = (30, 200) if full_drills else (3, 20)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    url = server.url()
    project.write(MARKS, "marked.py")
    project.write(FILE.format(url=url))
    supervisor = project.start()
    waits: list[float] = []
    with Producer(url) as producer:
        next_mark(project, 0)
        for _ in range(restarts):
            how = chance.choice([signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
            server.restart(how)
            back = CLOCK.now()
            waits.append((next_mark(project, back) - back) / SECOND)
        killed = 0
        while killed < kills:
            killed += kill_a_session(server, chance)
            threading.Event().wait(chance.uniform(0.0, 0.05))
        back = CLOCK.now()
        waits.append((next_mark(project, back) - back) / SECOND)
    with closing(open_storage(url, create=False)) as storage:
        final = finished(storage, producer.ids)
        rows = storage.runs(RunFilter(limit=1_000_000))
    verdict = check(producer.ids, final, marks(project))
    print(
        f"{restarts} restarts, {killed} sessions killed, {len(final)} runs, {producer.unanswered} cut answers"
    )
    print(
        f"{len(verdict.lost)} lost, {verdict.repeated} repeated; work again after {max(waits):.2f} s at most"
    )
    assert (verdict.lost, verdict.unexpected, verdict.after_success) == (set(), set(), set())
    assert verdict.repeated == 0  # no process died: what was claimed is known again, and is not begun twice
    assert len(rows) == len({row.id for row in rows}) == len(final)
    assert supervisor.stop() == 0
    if full_drills:  # a figure to hold on a machine that does nothing else
        assert max(waits) <= MOST_WAIT
