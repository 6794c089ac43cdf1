"""Figures of the PostgreSQL storage alone: `python -m benchmarks.storage_postgres [RUNS]`.

A server of its own, at its default durability (`fsync` and `synchronous_commit` on), over the loopback. CPU
is that of this process, the server's aside; medians. JOBRUNNER_TEST_POSTGRES_URL names another server.
"""

from __future__ import annotations

import os
import sys

from benchmarks.storage_sqlite import TURN, adds, drain, locked_turns, reads, retention, turns
from jobrunner.storage.postgres.store import PostgresStorage
from jobrunner.testing.desk import Desk
from tests.postgres_server import PostgresServer


def main(size: int, given: str | None) -> None:
    if given is not None:
        measure(PostgresStorage.open(given), size)
        return
    server = PostgresServer(options=())
    try:
        measure(PostgresStorage.open(server.url()), size)
    finally:
        server.close()


def measure(storage: PostgresStorage, size: int) -> None:
    desk = Desk(storage, f"owner-{os.getpid()}")
    print(f"{size:,} runs; one exchange: {TURN} successes and {TURN} claims")
    adds(storage, size)
    turns(desk, "empty history", 50)
    locked_turns(desk)
    drain(desk, size // 2)
    turns(desk, f"{size // 2:,} finished", 50)
    reads(storage)
    retention(storage)
    storage.close()


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 50_000,
        os.environ.get("JOBRUNNER_TEST_POSTGRES_URL"),
    )
