"""Figures of the SQLite storage alone: adds, exchanges, reads. `python benchmarks/storage_sqlite.py [RUNS]`.

Durability is the storage's own (WAL, `synchronous=FULL`). CPU is that of this process; medians.
Set TMPDIR to a folder of the disk that is meant: where /tmp lies in memory, syncs cost nothing.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from jobrunner.ids import new_id
from jobrunner.model import Claim, NewRun, Settle, State
from jobrunner.plan import Retention
from jobrunner.storage import ExchangeRequest, RunFilter, Storage, open_storage
from jobrunner.testing.desk import NOON, Desk, a_locked_run, a_run, locked

BATCH = 1_000
TURN = 100


def main(size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"sqlite:///{folder}/jobs.db")
        desk = Desk(storage)
        print(f"{size:,} runs; one exchange: {TURN} successes and {TURN} claims")
        adds(storage, size)
        turns(desk, "empty history", 50)
        locked_turns(desk)
        drain(desk, size // 2)
        turns(desk, f"{size // 2:,} finished", 50)
        reads(storage)
        retention(storage)
        storage.close()


def adds(storage: Storage, size: int) -> None:
    batches = [[fresh() for _ in range(BATCH)] for _ in range(size // BATCH)]
    with timed(f"add, {BATCH} at a time", size):
        for batch in batches:
            storage.add(batch)
    with timed("add, one by one", 1_000):
        for _ in range(1_000):
            storage.add([fresh()])
    threads = [
        threading.Thread(target=lambda: [storage.add([fresh()]) for _ in range(100)]) for _ in range(32)
    ]
    with timed("add, one by one, 32 threads", 3_200):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def fresh() -> NewRun:
    """A run whose id is of this very moment, as in life: ids that grow are cheap to add."""
    return a_run(id=new_id(time.time_ns() // 1000))


def turns(desk: Desk, what: str, count: int) -> None:
    claims = desk.claim(TURN)
    wall, cpu = [], []
    for _ in range(count):
        request = exchange_of(desk, claims)
        began, burnt = time.perf_counter(), time.process_time()
        claims = desk.storage.exchange(request).claimed
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - burnt)
    desk.turn([settle_of(desk, claim) for claim in claims], want={})
    print(f"exchange, {what:28} {median(wall) * 1e3:9.2f} ms wall {median(cpu) * 1e3:9.2f} ms CPU")


def exchange_of(desk: Desk, claims: list[Claim]) -> ExchangeRequest:
    settles = [settle_of(desk, claim) for claim in claims]
    return ExchangeRequest(desk.owner, NOON, settles, [], {"default": TURN}, desk.rules, desk.version)


def settle_of(desk: Desk, claim: Claim) -> Settle:
    return desk.end(claim, State.SUCCEEDED, result='{"value":1}', pid=4711)


def locked_turns(desk: Desk) -> None:
    desk.use(**desk.rules.tasks, dump=locked("dump"))
    for _ in range(100):
        desk.storage.add([a_locked_run("dump", priority=9) for _ in range(BATCH)])
    held = next(claim for claim in desk.claim(1))
    turns(desk, "100,000 behind a busy lock", 30)
    desk.turn([settle_of(desk, held)], want={})
    desk.use(resize=desk.rules.tasks["resize"])


def drain(desk: Desk, size: int) -> None:
    with timed("drain, claims and successes", size):
        claims = desk.claim(TURN)
        for _ in range(size // TURN):
            claims = desk.storage.exchange(exchange_of(desk, claims)).claimed
    desk.turn([settle_of(desk, claim) for claim in claims], want={})


def reads(storage: Storage) -> None:
    looked: dict[str, Callable[[], object]] = {
        "overview": lambda: storage.overview(NOON, tasks=["resize", "dump", "mail"]),
        "history": lambda: storage.runs(RunFilter()),
        "history of a task": lambda: storage.runs(RunFilter(tasks=("resize",))),
        "history, failed": lambda: storage.runs(RunFilter(states=(State.FAILED,))),
        "history, since": lambda: storage.runs(RunFilter(since=NOON + 1)),
        "a run by the end of its id": lambda: storage.run(last[-10:]),
        "a run by its id": lambda: storage.run(last),
    }
    last = storage.runs(RunFilter(limit=1))[0].id
    for what, look in looked.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            look()
            times.append(time.perf_counter() - began)
        print(f"{what:38} {median(times) * 1e3:9.2f} ms")


def retention(storage: Storage) -> None:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        storage.prune(Retention(max_runs=1_000), NOON)
        times.append(time.perf_counter() - began)
    print(f"{'prune 1,000 runs':38} {median(times) * 1e3:9.2f} ms")


@contextmanager
def timed(what: str, count: int) -> Iterator[None]:
    began, burnt = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - began, time.process_time() - burnt
    print(f"{what:38} {count / wall:9,.0f} runs/s {cpu / count * 1e6:9.1f} us CPU each")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
