"""P1 and P2: draining no-op callables, from the first call to the last one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.measure import Contest, Entrant, Goal, Missing
from benchmarks.rivals import Peer
from benchmarks.servers import fresh
from benchmarks.site import SQLITE, Site

OURS = "jobrunner, 2 process slots"
FEWER = "peers drain fewer, so that it ends in time: their rate does not depend on it"
SLOW = (rivals.RQ, rivals.CELERY, rivals.SAQ_POSTGRES, rivals.PROCRASTINATE, rivals.HUEY_POSTGRES)


def ours(folder: Path, *, backend: str | None, runs: int) -> float:
    rivals.new_tally(folder)
    site = Site(folder, backend=backend)
    site.publish()
    site.fill("nothing", runs)
    with site.serving() as crew:
        rate = rivals.until_tallied(folder, runs, crew)
        site.demand("nothing", runs)
        return rate


def theirs(folder: Path, *, peer: Peer, servers: Servers, runs: int) -> float:
    rivals.new_tally(folder)
    servers = fresh(servers)
    rivals.prepare(peer, folder, servers)
    rivals.ask(peer, folder, servers, "fill", "nothing", str(runs))
    with rivals.serving(peer, folder, servers) as crew:
        return rivals.until_tallied(folder, runs, crew)


def on(servers: Servers, name: str) -> str:
    """The URL of a server that was emptied, for our side."""
    if name not in servers:
        raise Missing(f"no {name.lower()} server here")
    return fresh(servers)[name]


def on_server(folder: Path, *, servers: Servers, name: str, runs: int) -> float:
    return ours(folder, backend=on(servers, name), runs=runs)


def _peer(peer: Peer, sizes: Sizes, servers: Servers, *, is_aside: bool = False) -> Entrant:
    runs = sizes.slow_runs if peer in SLOW else sizes.quick_runs
    return Entrant(
        name=peer.name,
        settings=peer.settings,
        attempt=partial(theirs, peer=peer, servers=servers, runs=runs),
        is_aside=is_aside,
    )


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    p1 = _on_sqlite(sizes, servers)
    if sizes.is_quick:
        return [p1]
    redis = (rivals.HUEY_REDIS, rivals.SAQ_REDIS, rivals.DRAMATIQ, rivals.CELERY, rivals.RQ)
    postgres = (rivals.HUEY_POSTGRES, rivals.PGQUEUER, rivals.PROCRASTINATE, rivals.SAQ_POSTGRES)
    return [
        p1,
        _on_server("Redis", "REDIS", rivals.AOF, redis, sizes, servers),
        _on_server("PostgreSQL", "POSTGRES", rivals.FSYNC, postgres, sizes, servers),
    ]


def _on_sqlite(sizes: Sizes, servers: Servers) -> Contest:
    mine = Entrant(
        name=OURS,
        settings=f"{SQLITE}, results stored",
        attempt=partial(ours, backend=None, runs=sizes.runs),
        is_ours=True,
    )
    peers = [_peer(each, sizes, servers) for each in (rivals.HUEY_SQLITE, rivals.HUEY_SQLITE_4)]
    if not sizes.is_quick:
        peers.append(_peer(rivals.PGQUEUER, sizes, servers))
        peers.append(_peer(rivals.HUEY_SQLITE_FAST, sizes, servers, is_aside=True))
    return Contest(
        target="P1",
        name=f"drain {sizes.runs:,} no-op callables on SQLite",
        unit="runs/s",
        goal=Goal(
            text=">= 10 x huey at its default durability, ahead of every peer that syncs",
            ratio=10.0,
            peer=rivals.HUEY_SQLITE.name,
            is_ahead=True,
        ),
        entrants=[mine, *peers],
        repeat=sizes.repeat,
        note=FEWER,
    )


def _on_server(
    title: str, name: str, settings: str, peers: Sequence[Peer], sizes: Sizes, servers: Servers
) -> Contest:
    mine = Entrant(
        name=OURS,
        settings=f"{settings}, results stored",
        attempt=partial(on_server, servers=servers, name=name, runs=sizes.runs),
        is_ours=True,
    )
    return Contest(
        target="P2",
        name=f"drain {sizes.runs:,} no-op callables on {title}",
        unit="runs/s",
        goal=Goal(
            text=">= 5 x huey on the same server, ahead of the others",
            ratio=5.0,
            peer=peers[0].name,
            is_ahead=True,
        ),
        entrants=[mine, *(_peer(each, sizes, servers) for each in peers)],
        repeat=sizes.repeat,
        note=FEWER,
    )
