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
from benchmarks.measure import Contest, Entrant, Goal
from benchmarks.rivals import Peer
from benchmarks.site import SQLITE, Site

THREADS = 32
MANY = 10_000
ONE = "jobrunner, one by one"


def one_by_one(site: Site, count: int) -> float:
    with site.storage() as storage:
        runs = site.runs(storage, "nothing", count)
        began = time.perf_counter()
        for run in runs:
            storage.add([run])
        return count / (time.perf_counter() - began)


def at_once(site: Site, count: int) -> float:
    with site.storage() as storage:
        runs = site.runs(storage, "nothing", count)
        began = time.perf_counter()
        storage.add(runs)
        return count / (time.perf_counter() - began)


def by_threads(site: Site, count: int) -> float:
    with site.storage() as storage:
        shares = [site.runs(storage, "nothing", count // THREADS) for _ in range(THREADS)]
        threads = [
            threading.Thread(target=lambda mine=share: [storage.add([run]) for run in mine])
            for share in shares
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count // THREADS * THREADS / (time.perf_counter() - began)


def ours(
    folder: Path, *, work: Callable[[Site, int], float], count: int, backend: str | None = None
) -> float:
    site = Site(folder, backend=backend)
    site.publish()
    return work(site, count)


def on_server(folder: Path, *, servers: Servers, name: str, count: int) -> float:
    return ours(folder, work=one_by_one, count=count, backend=on(servers, name, folder))


def theirs(folder: Path, *, peer: Peer, servers: Servers, count: int) -> float:
    rivals.new_tally(folder)
    rivals.prepare(peer, folder, servers)
    return float(rivals.ask(peer, folder, servers, "rate", str(count)).split()[-1])


def _mine(name: str, work: Callable[[Site, int], float], count: int, *, is_ours: bool = True) -> Entrant:
    attempt = partial(ours, work=work, count=count)
    return Entrant(name=name, settings=SQLITE, attempt=attempt, is_ours=is_ours)


def _peer(peer: Peer, count: int, servers: Servers) -> Entrant:
    attempt = partial(theirs, peer=peer, servers=servers, count=count)
    return Entrant(name=peer.name.partition(",")[0], settings=peer.settings, attempt=attempt)


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    count = 1_000 if sizes.is_quick else 3_000
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
        name=f"enqueue_many of {MANY:,}",
        unit="runs/s",
        goal=Goal(text=">= 20 x one by one", ratio=20.0, peer=ONE),
        entrants=[_mine("jobrunner, in one call", at_once, MANY), baseline],
        repeat=sizes.repeat,
    )
    threads = Contest(
        target="P3",
        name=f"enqueue from {THREADS} threads of one process",
        unit="runs/s",
        goal=Goal(text=">= 3 x one by one", ratio=3.0, peer=ONE),
        entrants=[_mine(f"jobrunner, {THREADS} threads", by_threads, 3_200), baseline],
        repeat=sizes.repeat,
    )
    if sizes.is_quick:
        return [first, many, threads]
    return [first, many, threads, *_on_servers(count, sizes, servers)]


def _on_servers(count: int, sizes: Sizes, servers: Servers) -> list[Contest]:
    sides = (
        (
            "REDIS",
            rivals.AOF,
            (rivals.HUEY_REDIS, rivals.SAQ_REDIS, rivals.DRAMATIQ, rivals.CELERY, rivals.RQ),
        ),
        ("POSTGRES", rivals.FSYNC, (rivals.HUEY_POSTGRES, rivals.PGQUEUER, rivals.PROCRASTINATE)),
    )
    return [
        Contest(
            target="P3",
            name=f"enqueue one by one on {name.title()}",
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
        for name, settings, peers in sides
    ]
