"""The command line and a supervisor on a PostgreSQL that is not as it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.model import State
from jobrunner.storage import open_storage
from jobrunner.storage.postgres.durability import health
from tests.drills.checker import enqueue, finished
from tests.live import Project
from tests.postgres_server import GUARDED, PostgresServer

RESUMED_BY = 15.0  # seconds after the end of a fault (rule 34)
CLOCK = SystemClock()

FILE = """
backend: "{url}"
tasks:
  greet: {{command: "echo hello $1"}}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    with server.connect() as connection:
        connection.execute(f"create role {GUARDED} login superuser password 'sEcret'")
    yield server
    server.close()


def guarded(server: PostgresServer, namespace: str) -> str:
    return server.url(namespace=namespace).replace("jobrunner@", f"{GUARDED}:sEcret@")


def test_a_day_on_postgres(project: Project, server: PostgresServer) -> None:
    url = guarded(server, "a_day")
    project.write(FILE.format(url=url))
    status = project.jobrunner("status")
    assert (status.returncode, status.stderr) == (3, "")
    assert "no supervisor has run on postgresql://guarded:***@127.0.0.1" in status.stdout
    supervisor = project.start()
    ready = supervisor.wait_for("ready")
    assert url.replace("sEcret", "***") in ready["message"]
    done = project.jobrunner("enqueue", "greet", "--args", '["world"]', "--wait")
    assert done.returncode == 0, done
    assert project.jobrunner("status").returncode == 0
    run = project.answer("history")[0]
    assert (run["task"], run["state"]) == ("greet", "succeeded")
    assert project.jobrunner("logs", run["id"]).stdout == "hello world\n"
    assert project.jobrunner("show", run["id"][-8:]).returncode == 0
    document = project.answer("status")
    assert document["backend"] == url.replace("sEcret", "***")
    assert supervisor.stop() == 0
    everything = project.logs() + status.stdout + done.stdout + done.stderr
    assert "sEcret" not in everything
    assert not list(project.folder.rglob("*sEcret*"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("sEcret", "wrong"), "password authentication failed"),
        (lambda url: url.replace("/tests", "/nowhere"), 'database "nowhere" does not exist'),
        (lambda _: "postgresql://127.0.0.1:1/jobs", "refused"),
        (lambda _: "postgresql://127.0.0.1:port/jobs", "is no URL"),
        (lambda url: url.replace("namespace=", "nämespace="), "nämespace"),
    ],
    ids=["password", "database", "port", "url", "parameter"],
)
@pytest.mark.parametrize("command", [("status",), ("enqueue", "greet", "--force"), ("history",)])
def test_a_command_says_in_one_line_what_is_wrong(
    project: Project,
    server: PostgresServer,
    change: Callable[[str], str],
    words: str,
    command: tuple[str, ...],
) -> None:
    done = project.jobrunner("--backend", change(guarded(server, "wrong")), *command)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "sEcret" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2  # what is wrong, and what to do


def test_a_supervisor_does_not_start_with_a_wrong_password(project: Project, server: PostgresServer) -> None:
    project.write(FILE.format(url=guarded(server, "wrong").replace("sEcret", "wrong")))
    done = project.jobrunner("run", "jobs.yaml")
    assert done.returncode == 1
    assert "password authentication failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_supervisor_waits_for_a_server_that_is_not_there_yet(project: Project) -> None:
    with closing(PostgresServer()) as server:
        server.stop()
        project.write(FILE.format(url=server.url()))
        supervisor = project.start(ready=False)
        supervisor.wait_for("storage-trouble")
        server.start()
        supervisor.wait_for("ready")
        assert supervisor.stop() == 0


# --- faults while a supervisor runs ----------------------------------------------------------------------


def end_sessions(server: PostgresServer) -> None:
    with server.connect("postgres") as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'jobrunner %'"
        )


def ask(server: PostgresServer, text: str) -> None:
    """Change something of the server, and let everybody connect anew."""
    with server.connect("postgres") as connection:
        connection.execute(text)
    end_sessions(server)


Act = Callable[[PostgresServer], None]
FAULTS: dict[str, tuple[Act, Act]] = {
    "stopped": (PostgresServer.stop, PostgresServer.start),
    "a standby": (PostgresServer.become_standby, PostgresServer.become_primary),
    "another password": (
        lambda server: ask(server, f"alter role {GUARDED} password 'another'"),
        lambda server: ask(server, f"alter role {GUARDED} password 'sEcret'"),
    ),
    "no such database": (
        lambda server: rename(server, "tests", "elsewhere"),
        lambda server: rename(server, "elsewhere", "tests"),
    ),
    "no login": (
        lambda server: ask(server, f"alter role {GUARDED} nologin"),
        lambda server: ask(server, f"alter role {GUARDED} login"),
    ),
}


def rename(server: PostgresServer, old: str, new: str) -> None:
    with server.connect("postgres") as connection:
        connection.execute(f"alter database {old} allow_connections false")
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s", (old,)
        )
        connection.execute(f"alter database {old} rename to {new}")
        connection.execute(f"alter database {new} allow_connections true")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_supervisor_survives_it_and_resumes(project: Project, server: PostgresServer, fault: str) -> None:
    # rules 33 and 34, I11
    url = guarded(server, "survives_" + fault.replace(" ", "_"))
    project.write(FILE.format(url=url))
    supervisor = project.start()
    happen, end = FAULTS[fault]
    happen(server)
    try:
        told = supervisor.wait_for("storage-trouble")
    finally:
        end(server)
    back = CLOCK.monotonic()
    with closing(open_storage(url, create=False)) as storage:
        [run] = finished(storage, enqueue(storage, "greet", [{}]))
        assert run.state is State.SUCCEEDED
    took = (CLOCK.monotonic() - back) / SECOND
    print(f"{fault}: {told['message']}; work again after {took:.1f} s")
    assert "sEcret" not in supervisor.log()
    assert supervisor.stop() == 0
    assert took <= RESUMED_BY


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fsync": "off", "synchronous_commit": "off"}, "fsync=off: a power cut"),
        ({"fsync": "on", "full_page_writes": "off"}, "full_page_writes=off: a power cut may damage"),
        ({"fsync": "on", "synchronous_commit": "off"}, "synchronous_commit=off: a crash of the server loses"),
        ({"fsync": "on", "synchronous_commit": "local"}, ""),
    ],
)
def test_what_a_server_may_lose_is_judged_by_its_settings(settings: dict[str, str], words: str) -> None:
    found = health({"server_version": "17.2", **settings})
    assert found.driver == "PostgreSQL 17.2"
    assert found.weakness.startswith(words)
    assert bool(found.weakness) == bool(found.help) == (not found.keeps) == bool(words)


def test_doctor_says_what_a_server_may_lose(project: Project, server: PostgresServer) -> None:
    url = guarded(server, "order")  # a word of SQL's own
    project.write(FILE.format(url=url))
    open_storage(url).close()
    (found,) = [each for each in project.answer("doctor")["checks"] if each["check"] == "driver"]
    assert found["verdict"] == "warn"
    assert "fsync=off: a power cut, or a crash of the machine, may destroy the database" in found["message"]
    assert found["help"] == "set fsync = on, for the server, the role and the database"
