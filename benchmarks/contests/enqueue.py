"""P3: enqueueing, one by one, in one call, and from many threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.contests.drain import on
from benchmarks.measure import Contest, Entrant, Goal, Missing
from benchmarks.rivals import Peer
from benchmarks.servers import fresh
from benchmarks.site import SQLITE, Site
from jobrunner import JobRunner
from jobrunner.model import State
from jobrunner.storage import RunFilter

THREADS = 32
ONE = "jobrunner, one by one"


Work = Callable[[JobRunner, int], float]  # runs per second


def one_by_one(jobs: JobRunner, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        jobs.enqueue("nothing")
    return count / (time.perf_counter() - began)


def at_once(jobs: JobRunner, count: int) -> float:
    began = time.perf_counter()
    jobs.enqueue_many(("nothing", (), {}) for _ in range(count))
    return count / (time.perf_counter() - began)


def by_threads(jobs: JobRunner, count: int) -> float:
    share = count // THREADS
    threads = [threading.Thread(target=one_by_one, args=(jobs, share)) for _ in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return share * THREADS / (time.perf_counter() - began)


def ours(folder: Path, *, work: Work, count: int, backend: str | None = None) -> float:
    """The door that users take, and a look at what is queued then."""
    site = Site(folder, backend=backend)
    site.publish()
    with JobRunner(backend=site.backend) as jobs:
        rate = work(jobs, count)
        queued = len(jobs.storage.runs(RunFilter(states=(State.QUEUED,), limit=count + 1)))
    if queued != count:
        raise Missing(f"{queued} runs are queued of {count} that were enqueued")
    return rate


def on_server(folder: Path, *, servers: Servers, name: str, count: int) -> float:
    return ours(folder, work=one_by_one, count=count, backend=on(servers, name))


def theirs(folder: Path, *, peer: Peer, servers: Servers, count: int) -> float:
    rivals.new_tally(folder)
    servers = fresh(servers)
    rivals.prepare(peer, folder, servers)
    return rivals.enqueued(peer, folder, servers, count)


def _mine(name: str, work: Work, count: int, *, is_ours: bool = True) -> Entrant:
    attempt = partial(ours, work=work, count=count)
    return Entrant(name=name, settings=SQLITE, attempt=attempt, is_ours=is_ours)


def _peer(peer: Peer, count: int, servers: Servers) -> Entrant:
    attempt = partial(theirs, peer=peer, servers=servers, count=count)
    return Entrant(name=peer.name.partition(",")[0], settings=peer.settings, attempt=attempt)


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    count = sizes.enqueued
    huey = _peer(rivals.HUEY_SQLITE, count, servers)
    single = _mine(ONE, one_by_one, count)
    first = Contest(
        target="P3",
        name="enqueue one by one on SQLite",
        unit="runs/s",
        goal=Goal(text=">= huey at equal durability", ratio=1.0, peer=huey.name),
        entrants=[single, huey],
        repeat=sizes.repeat,
    )
    baseline = _mine(ONE, one_by_one, count, is_ours=False)
    many = Contest(
        target="P3",
        name=f"enqueue_many of {sizes.many:,}",
        unit="runs/s",
        goal=Goal(text=">= 20 x one by one", ratio=20.0, peer=ONE),
        entrants=[_mine("jobrunner, in one call", at_once, sizes.many), baseline],
        repeat=sizes.repeat,
    )
    threads = Contest(
        target="P3",
        name=f"enqueue from {THREADS} threads of one process",
        unit="runs/s",
        goal=Goal(text=">= 3 x one by one", ratio=3.0, peer=ONE),
        entrants=[
            _mine(f"jobrunner, {THREADS} threads", by_threads, THREADS * max(1, count // THREADS)),
            baseline,
        ],
        repeat=sizes.repeat,
    )
    if sizes.is_quick:
        return [first, many, threads]
    return [first, many, threads, *_on_servers(count, sizes, servers)]


def _on_servers(count: int, sizes: Sizes, servers: Servers) -> list[Contest]:
    sides = (
        (
            "REDIS",
            "Redis",
            rivals.AOF,
            (rivals.HUEY_REDIS, rivals.SAQ_REDIS, rivals.DRAMATIQ, rivals.CELERY, rivals.RQ),
        ),
        (
            "POSTGRES",
            "PostgreSQL",
            rivals.FSYNC,
            (rivals.HUEY_POSTGRES, rivals.PGQUEUER, rivals.PROCRASTINATE),
        ),
    )
    return [
        Contest(
            target="P3",
            name=f"enqueue one by one on {title}",
            unit="runs/s",
            goal=Goal(text=">= huey at equal durability", ratio=1.0, peer=peers[0].name.partition(",")[0]),
            entrants=[
                Entrant(
                    name="jobrunner",
                    settings=settings,
                    attempt=partial(on_server, servers=servers, name=name, count=count),
                    is_ours=True,
                ),
                *(_peer(each, count // 3, servers) for each in peers),
            ],
            repeat=sizes.repeat,
        )
        for name, title, settings, peers in sides
    ]
