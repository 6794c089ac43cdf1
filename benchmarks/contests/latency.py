"""P4: from the enqueue in another process to the start of the call, on a system that has nothing to do."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.contests.drain import on
from benchmarks.measure import Contest, Entrant, Goal, Missing
from benchmarks.rivals import PATIENCE, Peer
from benchmarks.site import SQLITE, Site

PAUSE = 0.05  # seconds between two enqueues
WARM = 5  # calls before the measurement: workers start when they are first needed


def delays(folder: Path, count: int) -> list[float]:
    """Milliseconds of the calls after the first few, once all of them have begun."""
    file, end = folder / "moments", time.monotonic() + PATIENCE
    while not file.exists() or file.read_text().count("\n") < count + WARM:
        if time.monotonic() > end:
            raise Missing("not all calls began")
        time.sleep(0.05)
    pairs = [line.split() for line in file.read_text().splitlines()]
    pairs.sort(key=lambda pair: int(pair[0]))
    return [(int(began) - int(sent)) / 1e6 for sent, began in pairs[WARM:]]


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


def ours(folder: Path, *, share: int, count: int, backend: str | None = None) -> float:
    site = Site(folder, backend=backend)
    with site.serving():
        site.until_there()
        command = [sys.executable, "-m", "benchmarks.sender", site.backend, str(count + WARM), str(PAUSE)]
        subprocess.run(command, check=True, timeout=PATIENCE)
        return percentile(delays(folder, count), share)


def on_server(folder: Path, *, servers: Servers, name: str, share: int, count: int) -> float:
    return ours(folder, share=share, count=count, backend=on(servers, name, folder))


def theirs(folder: Path, *, peer: Peer, servers: Servers, share: int, count: int) -> float:
    rivals.new_tally(folder)
    rivals.prepare(peer, folder, servers)
    with rivals.serving(peer, folder, servers):
        rivals.ask(peer, folder, servers, "send", str(count + WARM), str(PAUSE))
        return percentile(delays(folder, count), share)


def _peer(peer: Peer, servers: Servers, share: int, count: int) -> Entrant:
    attempt = partial(theirs, peer=peer, servers=servers, share=share, count=count)
    return Entrant(name=peer.name, settings=peer.settings, attempt=attempt)


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    count = 100 if sizes.is_quick else 200
    shares = (50,) if sizes.is_quick else (50, 99)
    return [each for share in shares for each in _of(share, count, sizes, servers)]


def _of(share: int, count: int, sizes: Sizes, servers: Servers) -> list[Contest]:
    sqlite = Entrant(
        name="jobrunner on SQLite",
        settings=SQLITE,
        attempt=partial(ours, share=share, count=count),
        is_ours=True,
    )
    peers = (rivals.SAQ_REDIS, rivals.HUEY_SQLITE)
    goals = {
        50: Goal(text="<= 3 x SAQ on Redis", ratio=3.0, peer=rivals.SAQ_REDIS.name),
        99: Goal(text="<= half of huey's", ratio=0.5, peer=rivals.HUEY_SQLITE.name),
    }
    found = [_contest("SQLite", share, goals[share], sqlite, peers, count, sizes, servers)]
    if sizes.is_quick:
        return found
    for name, title, best, huey in (
        ("REDIS", "Redis", rivals.SAQ_REDIS, rivals.HUEY_REDIS),
        ("POSTGRES", "PostgreSQL", rivals.PGQUEUER, rivals.HUEY_POSTGRES),
    ):
        mine = Entrant(
            name=f"jobrunner on {title}",
            settings=best.settings,
            attempt=partial(on_server, servers=servers, name=name, share=share, count=count),
            is_ours=True,
        )
        goal = {
            50: Goal(text=f"<= {best.name}", ratio=1.0, peer=best.name),
            99: Goal(text="<= half of huey's", ratio=0.5, peer=huey.name),
        }[share]
        found.append(_contest(title, share, goal, mine, (best, huey), count, sizes, servers))
    return found


def _contest(
    title: str,
    share: int,
    goal: Goal,
    mine: Entrant,
    peers: Sequence[Peer],
    count: int,
    sizes: Sizes,
    servers: Servers,
) -> Contest:
    return Contest(
        target="P4",
        name=f"enqueue to start on {title}, p{share}",
        unit="ms",
        goal=goal,
        entrants=[mine, *(_peer(each, servers, share, count) for each in peers)],
        more_is_better=False,
        repeat=sizes.repeat,
    )
