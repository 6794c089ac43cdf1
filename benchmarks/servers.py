"""Private Redis and PostgreSQL servers on free loopback ports, for one run of the benchmarks."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis as redis_client

from benchmarks.measure import Missing

PATIENCE = 20.0  # seconds until a server must answer
REDIS = "AOF, fsync each second"
POSTGRES = "fsync, synchronous_commit"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis with an append-only file; its URL."""
    binary, port = _redis_binary(), free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
    with _serving([binary, *options, *durable], port, folder):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL cluster as it comes, trusting this machine; its URL."""
    binaries = _postgres_binaries()
    port, data = free_port(), folder / "data"
    user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to be root
        user = ["setpriv", f"--reuid={_nobody().pw_uid}", f"--regid={_nobody().pw_gid}", "--clear-groups"]
        os.chown(folder, _nobody().pw_uid, _nobody().pw_gid)
        _open_the_way(folder)
    make = [*user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd="/")
    serve = [*user, str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
    with _serving([*serve, "-k", str(folder), "-c", "max_connections=200"], port, folder):
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"


def versions() -> dict[str, str]:
    """The versions of the servers that are here."""
    found = {}
    for name, command in (("Redis", "redis-server"), ("PostgreSQL", "postgres")):
        with contextlib.suppress(Missing):
            binary = _redis_binary() if name == "Redis" else str(_postgres_binaries() / command)
            told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
            found[name] = re.findall(r"[0-9]+\.[0-9.]+", told)[0]
    return found


def fresh(running: Mapping[str, str]) -> dict[str, str]:
    """The servers without anything of an earlier repetition: Redis empty, a new database in PostgreSQL."""
    found = dict(running)
    if "REDIS" in found:
        with redis_client.Redis.from_url(found["REDIS"]) as server:
            server.flushall()
    if "POSTGRES" in found:
        found["POSTGRES"] = _new_database(found["POSTGRES"])
    return found


def _new_database(url: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop database if exists turn with (force)")
        connection.execute("create database turn")
    return url.rpartition("/")[0] + "/turn"


def _redis_binary() -> str:
    binary = shutil.which("redis-server")
    if binary is None:
        raise Missing("no redis-server here")
    return binary


def _postgres_binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)
    if found:
        return found[0].parent
    binary = shutil.which("postgres")
    if binary is None:
        raise Missing("no postgres here")
    return Path(binary).resolve().parent


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _open_the_way(folder: Path) -> None:
    """Another user must be able to reach the folder below a private temporary one."""
    for each in (folder.parent, *folder.parent.parents):
        if each.stat().st_uid == os.geteuid() and not each.stat().st_mode & 0o001:
            each.chmod(each.stat().st_mode | 0o011)


@contextmanager
def _serving(command: Sequence[str], port: int, folder: Path) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
    try:
        _until_it_answers(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                time.sleep(0.5)  # PostgreSQL listens a moment before it takes connections
                return
        time.sleep(0.05)
    raise Missing(f"{process.args!r} does not answer")
