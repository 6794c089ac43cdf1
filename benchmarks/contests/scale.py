"""P10 and P11: a million runs in the storage, and several supervisors on one storage."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.contests.drain import on
from benchmarks.crew import Crew
from benchmarks.measure import Contest, Entrant, Goal
from benchmarks.site import SQLITE, Site, proc_memory
from benchmarks.storage_sqlite import BATCH, exchange_of, fresh, settle_of
from jobrunner.model import Claim
from jobrunner.storage import Storage, open_storage
from jobrunner.testing.desk import NOON, Desk

TURN = 100
FEW = 10_000  # the empty system has as many: so many rows fit into the same caches


@cache
def grown(kind: str, million: int) -> dict[str, float]:
    """How much longer an exchange and `status` take with a million runs queued or finished."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="jobrunner-scale-"))
        storage = stack.enter_context(closing(open_storage(f"sqlite:///{folder}/jobs.db")))
        desk = Desk(storage)
        _add(storage, min(FEW, million))
        before = _figures(desk)
        for _ in range(million // BATCH):
            storage.add([fresh() for _ in range(BATCH)])
            if kind == "finished":
                _finish(desk)
        if kind == "finished":
            _add(storage, min(FEW, million))  # what is claimed now must be there
        after = _figures(desk)
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


def growth(folder: Path, *, kind: str, what: str, million: int) -> float:
    _ = folder
    return grown(kind, million)[what]


def memory(folder: Path, *, queued: int) -> float:
    """Resident MiB of a supervisor over so many queued runs, while it works through the first of them."""
    rivals.new_tally(folder)
    site = Site(folder)
    site.publish()
    site.fill("five", queued)
    with site.serving() as crew:
        while rivals.tallied(folder)[0] < min(1_000, queued):
            crew.check()
            time.sleep(0.05)
        return proc_memory(crew.pids[0])


def several(folder: Path, *, servers: Servers, name: str, count: int, runs: int) -> float:
    """Calls of 5 ms per second through so many supervisors on one storage, two slots each; every run once."""
    rivals.new_tally(folder)
    site = Site(folder, backend=on(servers, name))
    site.publish()
    site.fill("five", runs)
    with ExitStack() as stack:
        crews = [stack.enter_context(site.serving()) for _ in range(count)]
        rate = rivals.until_tallied(
            folder, runs, Crew([each for crew in crews for each in crew.processes], crews[0].log)
        )
        site.demand("five", runs)
        return rate


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    growing = [_growing(kind, what, sizes) for kind in ("queued", "finished") for what in ("claim", "status")]
    beside = [_side_by_side(name, title, sizes, servers) for name, title in SERVERS.items()]
    return [*growing, _memory(sizes), *beside]


SERVERS = {"REDIS": "Redis", "POSTGRES": "PostgreSQL"}


def _growing(kind: str, what: str, sizes: Sizes) -> Contest:
    mine = Entrant(
        name="jobrunner",
        settings=SQLITE,
        attempt=partial(growth, kind=kind, what=what, million=sizes.million),
        is_ours=True,
    )
    return Contest(
        target="P10",
        name=f"{what} with {sizes.million:,} runs {kind}, against {FEW:,}",
        unit="x",
        goal=Goal(text="<= 2 x", bound=2.0),
        entrants=[mine],
        more_is_better=False,
        repeat=1,
    )


def _memory(sizes: Sizes) -> Contest:
    few, many = min(FEW, sizes.million), sizes.million
    return Contest(
        target="P10",
        name=f"memory of a supervisor with {many:,} runs queued, against {few:,}",
        unit="MiB",
        goal=Goal(text="flat: <= 1.1 x", ratio=1.1),
        entrants=[
            Entrant(
                name=f"jobrunner, {many:,}",
                settings=SQLITE,
                attempt=partial(memory, queued=many),
                is_ours=True,
            ),
            Entrant(name=f"jobrunner, {few:,}", settings=SQLITE, attempt=partial(memory, queued=few)),
        ],
        more_is_better=False,
        repeat=1,
    )


def _side_by_side(name: str, title: str, sizes: Sizes, servers: Servers) -> Contest:
    def entrant(count: int, words: str) -> Entrant:
        work = partial(several, servers=servers, name=name, count=count, runs=sizes.fives)
        return Entrant(name=words, settings="", attempt=work, is_ours=count == 2, is_aside=count == 4)

    return Contest(
        target="P11",
        name=f"tasks of 5 ms through two supervisors on one {title}",
        unit="runs/s",
        goal=Goal(text=">= 1.6 x one, every run once", ratio=1.6, peer="one supervisor"),
        entrants=[
            entrant(2, "two supervisors"),
            entrant(1, "one supervisor"),
            entrant(4, "four supervisors"),
        ],
        repeat=min(2, sizes.repeat),
        note="two slots each",
    )
