"""P4: from the enqueue in another process to the start of the call, on a system that has nothing to do."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks import rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.contests.drain import on
from benchmarks.crew import Crew
from benchmarks.measure import Contest, Entrant, Goal, Missing, Shared
from benchmarks.rivals import PATIENCE, Peer
from benchmarks.servers import fresh
from benchmarks.site import SQLITE, Site

PAUSE = 0.05  # seconds between two enqueues
WARM = 5  # calls before the measurement: workers start when they are first needed


def delays(folder: Path, count: int, crew: Crew) -> list[float]:
    """Milliseconds of the calls after the first few, once all of them have begun."""
    file, end = folder / "moments", time.monotonic() + PATIENCE
    while not file.exists() or file.read_text().count("\n") < count + WARM:
        crew.check()
        if time.monotonic() > end:
            raise Missing("not all calls began")
        time.sleep(0.05)
    pairs = [line.split() for line in file.read_text().splitlines()]
    pairs.sort(key=lambda pair: int(pair[0]))
    return [(int(began) - int(sent)) / 1e6 for sent, began in pairs[WARM:]]


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


def ours(folder: Path, *, count: int, backend: Callable[[], str] | None = None) -> list[float]:
    site = Site(folder, backend=backend() if backend else None)
    with site.serving() as crew:
        site.until_there()
        command = [sys.executable, "-m", "benchmarks.sender", site.backend, str(count + WARM), str(PAUSE)]
        subprocess.run(command, check=True, timeout=PATIENCE)
        return delays(folder, count, crew)


def theirs(folder: Path, *, peer: Peer, servers: Servers, count: int) -> list[float]:
    rivals.new_tally(folder)
    servers = fresh(servers)
    rivals.prepare(peer, folder, servers)
    with rivals.serving(peer, folder, servers) as crew:
        rivals.ask(peer, folder, servers, "send", str(count + WARM), str(PAUSE))
        return delays(folder, count, crew)


# --- who takes part: each repetition is measured once, and looked at for its median and its p99 -----


@dataclass(frozen=True, slots=True)
class Side:
    """One entrant whose delays several contests look at."""

    name: str
    settings: str
    delays: Shared[list[float]]
    is_ours: bool = False

    def entrant(self, share: int, *, is_aside: bool = False) -> Entrant:
        return Entrant(
            name=self.name,
            settings=self.settings,
            attempt=self.delays.figure(lambda found: percentile(found, share)),
            is_ours=self.is_ours,
            is_aside=is_aside,
        )


def _mine(title: str, settings: str, count: int, backend: Callable[[], str] | None = None) -> Side:
    work = partial(ours, count=count, backend=backend)
    return Side(f"jobrunner on {title}", settings, Shared(work), is_ours=True)


def _peer(peer: Peer, servers: Servers, count: int) -> Side:
    return Side(peer.name, peer.settings, Shared(partial(theirs, peer=peer, servers=servers, count=count)))


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    count, repeat = sizes.moments, min(2, sizes.repeat)
    saq, huey = (_peer(each, servers, count) for each in (rivals.SAQ_REDIS, rivals.HUEY_SQLITE))
    sqlite = _mine("SQLite", SQLITE, count)
    found = [
        _contest("SQLite", 50, Goal(text="<= 3 x SAQ on Redis", ratio=3.0, peer=saq.name), sqlite, saq),
        _contest("SQLite", 50, Goal(text="30 x ahead of huey's default", ratio=1 / 30), sqlite, huey),
        _contest("SQLite", 99, Goal(text="<= half of huey's", ratio=0.5), sqlite, huey),
    ]
    if not sizes.is_quick:
        found += _on_redis(servers, count, saq)
        found += _on_postgres(servers, count)
    return [replace(each, repeat=repeat) for each in found]


def _on_redis(servers: Servers, count: int, saq: Side) -> list[Contest]:
    mine = _mine("Redis", rivals.AOF, count, lambda: on(servers, "REDIS"))
    return _on_server("Redis", mine, saq, _peer(rivals.HUEY_REDIS, servers, count))


def _on_postgres(servers: Servers, count: int) -> list[Contest]:
    mine = _mine("PostgreSQL", rivals.FSYNC, count, lambda: on(servers, "POSTGRES"))
    best, huey = (_peer(each, servers, count) for each in (rivals.PGQUEUER, rivals.HUEY_POSTGRES))
    return _on_server("PostgreSQL", mine, best, huey)


def _on_server(title: str, mine: Side, best: Side, huey: Side) -> list[Contest]:
    return [
        _contest(title, 50, Goal(text=f"<= {best.name}", ratio=1.0, peer=best.name), mine, best, huey),
        _contest(title, 99, Goal(text="<= half of huey's", ratio=0.5, peer=huey.name), mine, best, huey),
    ]


def _contest(title: str, share: int, goal: Goal, mine: Side, *peers: Side) -> Contest:
    beside = f", beside {peers[0].name.partition(',')[0]}" if len(peers) == 1 else ""
    return Contest(
        target="P4",
        name=f"enqueue to start on {title}, p{share}{beside}",
        unit="ms",
        goal=goal,
        entrants=[mine.entrant(share), *(each.entrant(share) for each in peers)],
        more_is_better=False,
    )
