"""P4: from the enqueue in another process to the start of the call, on a system that has nothing to do."""

from __future__ import annotations

import random
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
REST = 1.0, 2.0  # the same where a peer must have become idle: a backoff has hardly begun after 50 ms
WARM = 5  # calls before the measurement: workers start when they are first needed


def evenly(count: int) -> tuple[float, ...]:
    """The pauses before so many calls, and before those that warm up."""
    return (PAUSE,) * (WARM + count)


def with_rests(count: int) -> tuple[float, ...]:
    """The same, with rests at random, alike for all: who looks at even intervals is met at any time."""
    chance = random.Random(4)
    return (PAUSE,) * WARM + tuple(round(chance.uniform(*REST), 3) for _ in range(count))


def delays(folder: Path, count: int, crew: Crew) -> list[float]:
    """Milliseconds of the calls after the first few, once all of them have begun."""
    file, end = folder / "moments", time.monotonic() + PATIENCE
    while not file.exists() or file.read_text().count("\n") < count:
        crew.check()
        if time.monotonic() > end:
            raise Missing("not all calls began")
        time.sleep(0.05)
    pairs = [line.split() for line in file.read_text().splitlines()]
    pairs.sort(key=lambda pair: int(pair[0]))
    return [(int(began) - int(sent)) / 1e6 for sent, began in pairs[WARM:]]


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


def _words(pauses: Sequence[float]) -> str:
    return ",".join(map(str, pauses)) if len(set(pauses)) > 1 else str(pauses[0])


def _patience(pauses: Sequence[float]) -> float:
    return sum(pauses) + PATIENCE


def ours(folder: Path, *, pauses: Sequence[float], backend: Callable[[], str] | None = None) -> list[float]:
    site = Site(folder, backend=backend() if backend else None)
    with site.serving() as crew:
        site.until_there()
        sender = [sys.executable, "-m", "benchmarks.sender", site.backend, str(len(pauses)), _words(pauses)]
        subprocess.run(sender, check=True, timeout=_patience(pauses))
        return delays(folder, len(pauses), crew)


def theirs(folder: Path, *, peer: Peer, servers: Servers, pauses: Sequence[float]) -> list[float]:
    rivals.new_tally(folder)
    servers = fresh(servers)
    rivals.prepare(peer, folder, servers)
    with rivals.serving(peer, folder, servers) as crew:
        send = ("send", str(len(pauses)), _words(pauses))
        rivals.ask(peer, folder, servers, *send, patience=_patience(pauses))
        return delays(folder, len(pauses), crew)


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


def _mine(
    title: str, settings: str, pauses: Sequence[float], backend: Callable[[], str] | None = None
) -> Side:
    work = partial(ours, pauses=pauses, backend=backend)
    return Side(f"jobrunner on {title}", settings, Shared(work), is_ours=True)


def _peer(peer: Peer, servers: Servers, pauses: Sequence[float]) -> Side:
    return Side(peer.name, peer.settings, Shared(partial(theirs, peer=peer, servers=servers, pauses=pauses)))


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    pauses = evenly(sizes.moments)
    saq, huey = (_peer(each, servers, pauses) for each in (rivals.SAQ_REDIS, rivals.HUEY_SQLITE))
    sqlite = _mine("SQLite", SQLITE, pauses)
    found = [
        _contest("SQLite", 50, Goal(text="<= 3 x SAQ on Redis", ratio=3.0, peer=saq.name), sqlite, saq),
        _contest("SQLite", 99, Goal(text="<= half of huey's", ratio=0.5), sqlite, huey),
    ]
    if not sizes.is_quick:
        found += _on_redis(servers, pauses, saq)
        found += _on_postgres(servers, pauses)
    return [*(replace(each, repeat=min(2, sizes.repeat)) for each in found), _rested(sizes, servers)]


def _rested(sizes: Sizes, servers: Servers) -> Contest:
    """The line about a system that is idle: huey's default looks every 0.1 s at first, every 10 s at last."""
    pauses = with_rests(sizes.rests)
    mine, huey = _mine("SQLite", SQLITE, pauses), _peer(rivals.HUEY_SQLITE, servers, pauses)
    goal = Goal(text="30 x ahead of huey's default", ratio=1 / 30)
    contest = _contest("SQLite after a rest", 50, goal, mine, huey)
    low, high = REST
    note = f"{sizes.rests} enqueues {low} to {high} s after the last one, the same ones for both (seed 4)"
    return replace(contest, repeat=1, note=note)


def _on_redis(servers: Servers, pauses: Sequence[float], saq: Side) -> list[Contest]:
    mine = _mine("Redis", rivals.AOF, pauses, lambda: on(servers, "REDIS"))
    return _on_server("Redis", mine, saq, _peer(rivals.HUEY_REDIS, servers, pauses))


def _on_postgres(servers: Servers, pauses: Sequence[float]) -> list[Contest]:
    mine = _mine("PostgreSQL", rivals.FSYNC, pauses, lambda: on(servers, "POSTGRES"))
    best, huey = (_peer(each, servers, pauses) for each in (rivals.PGQUEUER, rivals.HUEY_POSTGRES))
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
