"""Redis as users meet it: errors in one line, a supervisor that outlives them, runs moved in."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis._parsers.base import BaseParser

from jobrunner.errors import StorageError, StorageRefused, StorageUnavailable
from jobrunner.model import State
from jobrunner.storage import RunFilter, open_storage
from jobrunner.storage.health import examine
from jobrunner.storage.redis.faults import refusal
from jobrunner.testing.desk import Desk
from tests.drills.checker import CLOCK, enqueue
from tests.live import Project, wait_until
from tests.servers import RedisServer, a_redis, free_port, redis_programs

PASSWORD = "Ein-Geheimnis"
NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with a_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One that a test may change."""
    with a_redis(tmp_path_factory.mktemp("redis"), None, "--appendonly", "yes") as server:
        yield server


def refused(project: Project, url: str, code: int) -> str:
    """What `status` says of this URL: one error, one help, no traceback, no password."""
    done = project.jobrunner("--backend", url, "status")
    assert done.returncode == code, done
    assert done.stdout == ""
    error, help_ = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert help_.startswith("help: ")
    assert PASSWORD not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://127.0.0.1:port/0",
        "redis://127.0.0.1/jobs",
        "redis://127.0.0.1/0?namespace=a%20b",
        "redis://127.0.0.1/0?sokcet_timeout=3",
        "redis://127.0.0.1/0?nonsense=3",
        "unix://",
    ],
)
def test_a_wrong_url_is_answered_in_one_line(project: Project, url: str) -> None:
    refused(project, url, 2)


def test_a_refused_connection_is_answered_in_one_line(project: Project) -> None:
    assert "cannot be reached: Connection refused" in refused(project, f"redis://{NOBODY}/0", 1)
    assert "cannot be reached" in refused(project, "unix:///nowhere/redis.sock", 1)


def test_a_wrong_password_is_answered_in_one_line(project: Project, own_server: RedisServer) -> None:
    place = f"127.0.0.1:{own_server.port}"
    assert "refused user name and password" in refused(project, f"redis://:{PASSWORD}@{place}", 1)
    with own_server.client() as client:
        client.config_set("requirepass", "another")
    assert "wants a password" in refused(project, f"redis://{place}", 1)
    assert "refused user name and password" in refused(project, f"redis://ana:{PASSWORD}@{place}", 1)


def test_a_read_only_replica_is_answered_in_one_line(project: Project, own_server: RedisServer) -> None:
    with own_server.client() as client:
        client.replicaof("127.0.0.1", "1")
    assert "read-only replica" in refused(project, own_server.url, 1)


def test_a_server_that_throws_data_away_is_answered_in_one_line(
    project: Project, own_server: RedisServer
) -> None:
    with own_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    assert "maxmemory-policy allkeys-lru" in refused(project, own_server.url, 1)


def test_a_server_that_is_too_old_is_answered_in_one_line(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answering = threading.Thread(target=_answer_as_redis_5, args=(listener,), daemon=True)
        answering.start()
        said = refused(project, f"redis://127.0.0.1:{listener.getsockname()[1]}", 1)
    assert "is version 5.0.14: too old" in said


def _answer_as_redis_5(listener: socket.socket) -> None:
    """A server that says of itself what an old one says, whatever it is asked."""
    info = b"# Server\r\nredis_version:5.0.14\r\n"
    bulk = b"$%d\r\n%s\r\n" % (len(info), info)
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(65536):
            greetings, questions = data.count(b"\r\nCLIENT\r\n"), data.count(b"\r\nINFO\r\n")
            connection.sendall(b"+OK\r\n" * greetings + bulk * questions)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("MASTERDOWN Link with MASTER is down", StorageUnavailable, "master is down"),
        ("CLUSTERDOWN The cluster is down", StorageUnavailable, "its cluster is down"),
        ("TRYAGAIN Multiple keys request during rehashing", StorageUnavailable, "moving keys"),
        ("LOADING Redis is loading the dataset in memory", StorageUnavailable, "still loads"),
        ("NOPERM this user has no permissions to run", StorageRefused, "may not do that"),
        ("MOVED 3999 127.0.0.1:6381", StorageRefused, "another node"),
        ("ASK 3999 127.0.0.1:6381", StorageRefused, "another node"),
        ("ERR DB index is out of range", StorageRefused, "no database of that number"),
    ],
)
def test_what_the_driver_makes_of_an_answer_is_understood(
    answer: str, kind: type[StorageError], words: str
) -> None:
    """The driver takes the first word off some answers, and raises classes of its own."""
    parser: Any = BaseParser
    error = refusal("redis://h", parser.parse_error(answer))
    assert type(error) is kind
    assert words in str(error)


def test_a_missing_driver_is_answered_with_the_line_that_installs_it(project: Project) -> None:
    blocked = project.write("raise ImportError('no redis', name='redis')\n", "blocked/redis/__init__.py")
    environment = {**os.environ, "PYTHONPATH": str(blocked.parent.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "--backend", f"redis://{NOBODY}", "status"],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the driver for Redis is not installed",
        "help: pip install 'jobrunner[redis]'",
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"appendonly": "yes", "appendfsync": "always"},
            "✓ appendfsync always: what is acknowledged is on the disk",
        ),
        (
            {"appendonly": "yes", "appendfsync": "everysec"},
            "✓ appendfsync everysec: a power cut loses the last second",
        ),
        ({"appendonly": "yes", "appendfsync": "no"}, "! appendfsync no: a power cut loses"),
        ({"appendonly": "no", "save": "3600 1"}, "! it keeps snapshots alone"),
        ({"appendonly": "no", "save": ""}, "! it keeps nothing on disk"),
    ],
)
def test_what_a_server_may_lose_is_told_by_its_settings(
    own_server: RedisServer, settings: dict[str, str], words: str
) -> None:
    with own_server.client() as client:
        for name, value in settings.items():
            client.config_set(name, value)
    health = examine(own_server.url)
    assert f"{'!' if health.help else '✓'} {health.weakness or health.keeps}".startswith(words)
    assert health.driver.startswith("Redis ")


def test_the_documented_user_is_enough_and_doctor_says_what_it_may_not_see(
    project: Project, own_server: RedisServer
) -> None:
    with own_server.client() as client:
        rights = ["~{jobrunner}:*", "&{jobrunner}:*", "+@all", "-@dangerous", "+info"]
        client.execute_command("ACL", "SETUSER", "ana", "on", f">{PASSWORD}", *rights)
    url = f"redis://ana:{PASSWORD}@127.0.0.1:{own_server.port}/0"
    project.write(file_on(url))
    supervisor = project.start()
    assert project.jobrunner("enqueue", "hello", "--wait").returncode == 0
    assert (
        "appendonly yes; how often it is synced this user may not see" in project.jobrunner("doctor").stdout
    )
    assert supervisor.stop() == 0
    assert "&{NAMESPACE}:*" in refused(project, f"{url}?namespace=another", 1)


def test_the_namespace_of_a_newer_jobrunner_is_refused(project: Project, own_server: RedisServer) -> None:
    with closing(open_storage(own_server.url)) as storage:
        Desk(storage)
    with own_server.client() as client:
        assert client.get("{jobrunner}:format") == "2"
        client.set("{jobrunner}:format", "3")
    assert "made by a newer jobrunner (format 3, this one knows 2)" in refused(project, own_server.url, 1)
    with closing(open_storage(f"{own_server.url}?namespace=another")) as storage:
        assert storage.runs(RunFilter()) == []


# --- a running supervisor ---------------------------------------------------------------------------------


def file_on(url: str) -> str:
    return f"backend: {url}\ntasks:\n  hello: {{command: 'echo hello'}}\n"


def test_a_supervisor_waits_for_a_server_that_is_not_there_yet(project: Project, tmp_path: Path) -> None:
    port = free_port()
    project.write(file_on(f"redis://127.0.0.1:{port}/0"))
    supervisor = project.start(ready=False)
    assert "cannot be reached" in supervisor.wait_for("storage-trouble")["error"]
    program = max(redis_programs().items())[1]
    late = RedisServer(program, tmp_path / "late", port)
    try:
        supervisor.wait_for("ready", timeout=15.0)
        assert supervisor.stop() == 0
    finally:
        late.stop()


@pytest.mark.parametrize("trouble", ["gone", "password", "read-only"])
def test_a_running_supervisor_outlives_trouble_and_goes_on(
    project: Project, own_server: RedisServer, trouble: str
) -> None:  # I11: within 15 s
    project.write(file_on(own_server.url))
    supervisor = project.start()
    if trouble == "gone":
        own_server.stop()
    else:
        with own_server.client() as client:
            if trouble == "password":
                client.config_set("requirepass", PASSWORD)
                client.client_kill_filter(_type="normal", skipme=True)
            else:
                client.replicaof("127.0.0.1", "1")
            supervisor.wait_for("storage-trouble")
            if trouble == "password":
                client.config_set("requirepass", "")
            else:
                client.replicaof("NO", "ONE")
    if trouble == "gone":
        supervisor.wait_for("storage-trouble")
        own_server.start()
    back = CLOCK.monotonic()
    with closing(open_storage(own_server.url)) as storage:
        (run_id,) = enqueue(storage, "hello", [{}])
        assert storage.wait(run_id, 30.0).state is State.SUCCEEDED
    assert CLOCK.monotonic() - back < 15_000_000
    assert supervisor.stop() == 0


@pytest.mark.parametrize("version", sorted(redis_programs()) or ["6.2"])
def test_runs_end_when_the_server_has_no_memory_left(
    project: Project, tmp_path: Path, version: str
) -> None:  # completion is possible at `maxmemory`, also on Redis 6.2
    with a_redis(tmp_path / "redis", version) as server:
        _end_without_memory(project, server)


def _end_without_memory(project: Project, own_server: RedisServer) -> None:
    project.write(f"backend: {own_server.url}\ntasks:\n  nap: {{command: 'sleep 1', retries: 0}}\n")
    supervisor = project.start()
    with closing(open_storage(own_server.url)) as storage, own_server.client() as client:
        (run_id,) = enqueue(storage, "nap", [{}])
        wait_until(lambda: storage.run(run_id).started_at is not None, lambda: str(storage.run(run_id)))
        client.config_set("maxmemory", "1mb")
        done = project.jobrunner("enqueue", "nap")
        assert done.returncode == 1
        assert "no memory left" in done.stderr
        assert storage.wait(run_id, 30.0).state is State.SUCCEEDED
        client.config_set("maxmemory", "0")
        assert project.jobrunner("enqueue", "nap", "--wait").returncode == 0
    assert supervisor.stop() == 0


def test_runs_are_moved_in_from_another_storage(project: Project, server: RedisServer) -> None:
    project.write("tasks:\n  hello: {command: 'echo hello'}\n")
    supervisor = project.start()
    assert project.jobrunner("enqueue", "hello", "--wait").returncode == 0
    source, target = f"sqlite:///{project.folder}/.jobrunner/jobs.db", f"{server.url}?namespace=moved"
    busy = project.jobrunner("migrate-storage", source, target)
    assert busy.returncode == 1
    assert f"pid {supervisor.pid} on" in busy.stderr
    assert supervisor.stop() == 0
    assert project.jobrunner("enqueue", "hello").returncode == 0
    document = project.answer("migrate-storage", source, target)
    assert document == {"finished": 1, "waiting": 1}
    project.write(file_on(target))
    with closing(open_storage(target)) as storage:
        (done,) = storage.runs(RunFilter(states=(State.SUCCEEDED,)))
        assert project.jobrunner("logs", done.id).stdout == "hello\n"
        supervisor = project.start()
        wait_until(
            lambda: storage.overview(CLOCK.now(), tasks=()).counts[State.SUCCEEDED] == 2,
            lambda: str(storage.overview(CLOCK.now(), tasks=())),
        )
    assert supervisor.stop() == 0
