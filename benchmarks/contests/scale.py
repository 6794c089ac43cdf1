"""P10 and P11: a million runs in the storage, and several supervisors on one storage."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.contests.drain import on
from benchmarks.measure import Contest, Entrant, Goal
from benchmarks.site import CALLS, SQLITE, Site
from benchmarks.storage_sqlite import BATCH, exchange_of, fresh, settle_of
from jobrunner.model import Claim
from jobrunner.storage import Storage, open_storage
from jobrunner.testing.desk import NOON, Desk

MILLION = 1_000_000
TURN = 100


@cache
def million(kind: str) -> dict[str, float]:
    """Milliseconds of an exchange and of `status`, empty and with a million runs queued or finished."""
    with TemporaryDirectory(prefix="jobrunner-scale-") as folder:
        storage = open_storage(f"sqlite:///{folder}/jobs.db")
        desk = Desk(storage)
        _add(storage, 10_000)
        before = _figures(desk)
        for _ in range(MILLION // BATCH):
            storage.add([fresh() for _ in range(BATCH)])
            if kind == "finished":
                _finish(desk)
        after = _figures(desk)
        storage.close()
    return {name: after[name] / before[name] for name in before}


def _add(storage: Storage, size: int) -> None:
    for _ in range(size // BATCH):
        storage.add([fresh() for _ in range(BATCH)])


def _finish(desk: Desk) -> None:
    claims = desk.storage.exchange(exchange_of(desk, [])).claimed
    for _ in range(BATCH // TURN):
        claims = desk.storage.exchange(exchange_of(desk, claims)).claimed
    desk.turn([settle_of(desk, claim) for claim in claims], want={})


def _figures(desk: Desk) -> dict[str, float]:
    claims: list[Claim] = desk.claim(TURN)
    turns = []
    for _ in range(50):
        request = exchange_of(desk, claims)
        began = time.perf_counter()
        claims = desk.storage.exchange(request).claimed
        turns.append(time.perf_counter() - began)
    desk.turn([settle_of(desk, claim) for claim in claims], want={})
    looks = [_timed(lambda: desk.storage.overview(NOON, tasks=["resize"])) for _ in range(10)]
    return {"claim": statistics.median(turns), "status": statistics.median(looks)}


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def growth(folder: Path, *, kind: str, what: str) -> float:
    _ = folder
    return million(kind)[what]


def several(folder: Path, *, servers: Servers, name: str, count: int, runs: int) -> float:
    """Calls of 5 ms per second through so many supervisors on one storage, two slots each."""
    rivals.new_tally(folder)
    backend = on(servers, name, folder)
    site = Site(folder, backend=backend, text=CALLS)
    site.publish()
    site.fill("five", runs)
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(site.serving())
        return rivals.until_tallied(folder, runs)


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    grown = [
        Contest(
            target="P10",
            name=f"{what} with {MILLION:,} runs {kind}, against 10,000",
            unit="x",
            goal=Goal(text="<= 2 x", bound=2.0),
            entrants=[
                Entrant(
                    name="jobrunner",
                    settings=SQLITE,
                    attempt=partial(growth, kind=kind, what=what),
                    is_ours=True,
                )
            ],
            more_is_better=False,
            repeat=1,
        )
        for kind in ("queued", "finished")
        for what in ("claim", "status")
    ]
    return [*grown, *(_side_by_side(name, title, count, sizes, servers) for name, title, count in SIDES)]


SIDES = (
    ("REDIS", "Redis", 2),
    ("REDIS", "Redis", 4),
    ("POSTGRES", "PostgreSQL", 2),
    ("POSTGRES", "PostgreSQL", 4),
)


def _side_by_side(name: str, title: str, count: int, sizes: Sizes, servers: Servers) -> Contest:
    alone = Entrant(
        name="jobrunner, one supervisor",
        settings="",
        attempt=partial(several, servers=servers, name=name, count=1, runs=4_000),
    )
    together = Entrant(
        name=f"jobrunner, {count} supervisors",
        settings="",
        attempt=partial(several, servers=servers, name=name, count=count, runs=4_000),
        is_ours=True,
    )
    return Contest(
        target="P11",
        name=f"tasks of 5 ms through {count} supervisors on one {title}",
        unit="runs/s",
        goal=Goal(text=">= 1.6 x one with two", ratio=1.6, peer=alone.name),
        entrants=[together, alone],
        repeat=sizes.repeat,
    )
