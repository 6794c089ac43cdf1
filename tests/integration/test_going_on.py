"""One that goes on under a new id, on real servers that refuse it: it waits, and works when they let it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.events import Event, Ready, StorageBack, StorageTrouble
from jobrunner.plan import Plan
from jobrunner.storage import open_storage
from jobrunner.succession import Former
from jobrunner.supervisor import Supervisor
from jobrunner.until import Until
from tests.postgres_server import GUARDED, NoServer, PostgresServer
from tests.servers import a_redis, missing_server

PASSWORD = "sEcret"
Act = Callable[[], None]
Case = tuple[str, Act, Act]  # the URL, what makes the server refuse, what lets it take work again


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("jobrunner.opening.START_PAUSE", SECOND // 20)


@pytest.fixture(params=["read-only", "password", "evicts"])
def redis_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with a_redis(tmp_path / "redis") as server, server.client() as client:
        acts: dict[str, tuple[Act, Act]] = {
            "read-only": (
                lambda: client.replicaof("127.0.0.1", "1"),
                lambda: client.replicaof("NO", "ONE"),
            ),
            "password": (
                lambda: client.config_set("requirepass", PASSWORD),
                lambda: client.config_set("requirepass", ""),
            ),
            "evicts": (
                lambda: client.config_set("maxmemory-policy", "allkeys-lru"),
                lambda: client.config_set("maxmemory-policy", "noeviction"),
            ),
        }
        refuse, let = acts[request.param]
        yield server.url, refuse, let


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    try:
        server = PostgresServer()
    except NoServer as error:
        missing_server(f"PostgreSQL: {error}")
    with closing(server), server.connect() as connection:
        connection.execute(f"create role {GUARDED} login superuser password '{PASSWORD}'")
        yield server


@pytest.fixture(params=["read-only", "password", "no login"])
def postgres_case(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Case]:
    def ask(text: str) -> Act:
        def act() -> None:
            with postgres.connect() as connection:
                connection.execute(text)

        return act

    acts: dict[str, tuple[Act, Act]] = {
        "read-only": (
            ask(f"alter role {GUARDED} set default_transaction_read_only = on"),
            ask(f"alter role {GUARDED} reset default_transaction_read_only"),
        ),
        "password": (
            ask(f"alter role {GUARDED} password 'another'"),
            ask(f"alter role {GUARDED} password '{PASSWORD}'"),
        ),
        "no login": (ask(f"alter role {GUARDED} nologin"), ask(f"alter role {GUARDED} login")),
    }
    refuse, let = acts[request.param]
    url = postgres.url(namespace="going_on").replace("jobrunner@", f"{GUARDED}:{PASSWORD}@")
    yield url, refuse, let
    let()


def test_one_that_goes_on_outlives_what_redis_says(redis_case: Case) -> None:
    it_goes_on(*redis_case)


def test_one_that_goes_on_outlives_what_postgres_says(postgres_case: Case) -> None:
    it_goes_on(*postgres_case)


def it_goes_on(url: str, refuse: Act, let: Act) -> None:
    # rules 33 and 34, I11
    open_storage(url).close()  # what was made while all was well
    plan = Plan(file="jobs.yaml", hash="1", backend=url, timezone="UTC")
    former = Former(
        owner="me",
        plan=plan,
        settles=(),
        ended_at=SystemClock().now(),
        trouble_since=SystemClock().monotonic(),
    )
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        if isinstance(event, StorageTrouble):
            let()

    refuse()
    Supervisor(plan, emit=hear, until=Until.ONCE, former=former).run()
    kinds = [type(event) for event in events]
    assert kinds[0] is StorageTrouble
    assert kinds.index(StorageBack) < kinds.index(Ready)
    assert PASSWORD not in str(events)
