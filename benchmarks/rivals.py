"""The peers as programs: how each is filled, served and asked, in an environment of their own."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crew import Crew, at_work, last_line
from benchmarks.measure import Missing

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "peers"
ENVIRONMENT = Path(os.environ.get("JOBRUNNER_BENCH_VENV", HERE.parent / ".venv-bench"))
SLOT = struct.Struct("qqq")  # as in peers/tally.py
SLOTS = 64
PATIENCE = 60.0  # seconds for one repetition


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One peer on one storage."""

    name: str
    settings: str
    app: str  # module below peers/
    store: str
    workers: Sequence[Sequence[str]]  # argument lists; the first word is a command of the environment
    prepare: Sequence[Sequence[str]] = ()


def binary(name: str) -> str:
    found = ENVIRONMENT / "bin" / name
    if not found.exists():
        raise Missing("not installed: make bench makes the environment of the peers")
    return str(found)


def surroundings(folder: Path, **more: str) -> dict[str, str]:
    """The environment variables of a peer's processes."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("JOBRUNNER_", "PYTHON"))}
    path = f"{ENVIRONMENT / 'bin'}:{kept.get('PATH', '')}"
    own = {"PYTHONPATH": str(PROGRAMS), "PATH": path, "FILE": str(folder / "queue.db"), "HOME": str(folder)}
    return {**kept, **own, "TALLY": str(folder / "tally"), "MOMENTS": str(folder / "moments"), **more}


def new_tally(folder: Path) -> None:
    (folder / "tally").write_bytes(bytes(SLOT.size * SLOTS))


def tallied(folder: Path) -> tuple[int, float]:
    """How many calls were counted, and the seconds from the first to the last."""
    text = (folder / "tally").read_bytes()
    slots = [slot for slot in SLOT.iter_unpack(text) if slot[0]]
    if not slots:
        return 0, 0.0
    span = max(last for _, _, last in slots) - min(first for _, first, _ in slots)
    return sum(count for count, _, _ in slots), span / 1e9


def until_tallied(folder: Path, count: int, crew: Crew) -> float:
    """Wait until so many calls were counted; the calls per second of the time between first and last."""
    end = time.monotonic() + PATIENCE
    with (folder / "tally").open("rb") as file:
        shared = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        while sum(SLOT.unpack_from(shared, at)[0] for at in range(0, len(shared), SLOT.size)) < count:
            crew.check()
            if time.monotonic() > end:
                raise Missing(f"{tallied(folder)[0]:,} of {count:,} calls in {PATIENCE:.0f} s")
            time.sleep(0.02)
    done, span = tallied(folder)
    if done != count:
        raise Missing(f"{done:,} calls were made of {count:,} that were asked for")
    return done / span if span else 0.0


def enqueued(peer: Peer, folder: Path, servers: Mapping[str, str], count: int) -> float:
    """Let the peer enqueue one by one; runs per second, once its queue is seen to hold them."""
    rate, length = ask(peer, folder, servers, "rate", str(count)).split()[-2:]
    if int(length) != count:
        raise Missing(f"its queue holds {length} of {count} that were enqueued")
    return float(rate)


def ask(
    peer: Peer, folder: Path, servers: Mapping[str, str], *arguments: str, patience: float = PATIENCE
) -> str:
    """Run the peer's program once; what it prints."""
    command = [binary("python"), str(PROGRAMS / f"{peer.app}.py"), *arguments]
    variables = surroundings(folder, STORE=peer.store, **servers)
    with (folder / "ask.log").open("ab") as log:
        done = subprocess.run(
            command,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=False,
            timeout=patience,
        )
    if done.returncode != 0:
        raise Missing(f"{' '.join(arguments)} failed: {last_line(folder / 'ask.log')}")
    return done.stdout


@contextmanager
def serving(peer: Peer, folder: Path, servers: Mapping[str, str]) -> Iterator[Crew]:
    """The peer's workers."""
    variables = surroundings(folder, STORE=peer.store, **servers)
    commands = [_words(command, variables) for command in peer.workers]
    with at_work(commands, folder / "workers.log", variables, PROGRAMS) as crew:
        yield crew


def prepare(peer: Peer, folder: Path, servers: Mapping[str, str]) -> None:
    """Make the peer's tables, where it has some."""
    variables = surroundings(folder, STORE=peer.store, **servers)
    for command in peer.prepare:
        with (folder / "prepare.log").open("ab") as log:
            words = _words(command, variables)
            done = subprocess.run(words, env=variables, stdout=log, stderr=log, check=False, timeout=PATIENCE)
        if done.returncode != 0:
            raise Missing(f"{command[0]} failed: {last_line(folder / 'prepare.log')}")


def _words(command: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """The command with `$NAME` replaced; its first word is looked up in the environment of the peers."""
    words = [variables.get(word[1:], word) if word.startswith("$") else word for word in command]
    return [binary(words[0]), *words[1:]]


# --- who takes part -------------------------------------------------------------------------------

FSYNC, NO_FSYNC = "fsync at each commit", "no fsync"
AOF = "fsync each second (AOF)"

HUEY_SQLITE = Peer(
    name="huey SqliteHuey, 1 thread",
    settings=FSYNC,
    app="huey_app",
    store="sqlite",
    workers=[["huey_consumer", "huey_app.huey", "-w", "1", "-q", "-n"]],
)
HUEY_SQLITE_4 = Peer(
    name="huey SqliteHuey, 4 threads",
    settings=FSYNC,
    app="huey_app",
    store="sqlite",
    workers=[["huey_consumer", "huey_app.huey", "-w", "4", "-q", "-n"]],
)
HUEY_SQLITE_FAST = Peer(
    name="huey SqliteHuey, 1 thread, fsync=False",
    settings=NO_FSYNC,
    app="huey_app",
    store="sqlite-nofsync",
    workers=[["huey_consumer", "huey_app.huey", "-w", "1", "-q", "-n"]],
)
HUEY_REDIS = Peer(
    name="huey RedisHuey, 4 processes",
    settings=AOF,
    app="huey_app",
    store="redis",
    workers=[["huey_consumer", "huey_app.huey", "-w", "4", "-k", "process", "-q", "-n"]],
)
HUEY_POSTGRES = Peer(
    name="huey PostgresHuey, 4 processes",
    settings=FSYNC,
    app="huey_app",
    store="postgres",
    workers=[["huey_consumer", "huey_app.huey", "-w", "4", "-k", "process", "-q", "-n"]],
    prepare=[["python", "-c", "import huey_app; huey_app.huey.pending_count()"]],
)
RQ = Peer(
    name="RQ, 2 SimpleWorkers",
    settings=AOF,
    app="rq_app",
    store="redis",
    workers=[["rq", "worker", "--url", "$REDIS", "--worker-class", "rq.worker.SimpleWorker", "-q"]] * 2,
)
DRAMATIQ = Peer(
    name="Dramatiq, 2 processes x 8 threads",
    settings=AOF + ", no results",
    app="dramatiq_app",
    store="redis",
    workers=[["dramatiq", "dramatiq_app", "--processes", "2", "--threads", "8"]],
)
CELERY = Peer(
    name="Celery, prefork 2",
    settings=AOF,
    app="celery_app",
    store="redis",
    workers=[["celery", "-A", "celery_app", "worker", "-c", "2", "-l", "ERROR"]],
)
SAQ_REDIS = Peer(
    name="SAQ on Redis, 2 processes",
    settings=AOF,
    app="saq_app",
    store="redis",
    workers=[["saq", "saq_app.settings", "--workers", "2", "-q"]],
)
SAQ_POSTGRES = Peer(
    name="SAQ on Postgres, 2 processes",
    settings=FSYNC,
    app="saq_app",
    store="postgres",
    workers=[["saq", "saq_app.settings", "--workers", "2", "-q"]],
)
PROCRASTINATE = Peer(
    name="Procrastinate, 2 workers x 8",
    settings=FSYNC,
    app="procrastinate_app",
    store="postgres",
    workers=[["procrastinate", "--log-level", "error", "-a", "procrastinate_app.app", "worker", "-c", "8"]]
    * 2,
    prepare=[["procrastinate", "-a", "procrastinate_app.app", "schema", "--apply"]],
)
PGQUEUER = Peer(
    name="PgQueuer, batch 100",
    settings=FSYNC,
    app="pgqueuer_app",
    store="postgres",
    workers=[["python", "pgqueuer_app.py", "serve"]],
    prepare=[["pgq", "--pg-dsn", "$POSTGRES", "install"]],
)


def make_environment() -> None:
    """Install the peers at their pinned versions, unless they are there."""
    stamp, wanted = ENVIRONMENT / "peers.txt", (PROGRAMS / "peers.txt").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing the peers into {ENVIRONMENT.name} (once)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    pip = [str(ENVIRONMENT / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "-r", str(PROGRAMS / "peers.txt")], check=True)
    stamp.write_text(wanted)
