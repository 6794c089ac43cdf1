"""SQLite with a past and a long queue: each step of a turn by its index. A million runs in the full form."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from jobrunner.durations import DAY, HOUR, SECOND
from jobrunner.model import State
from jobrunner.plan import Retention
from jobrunner.storage import Rate, Revocation, RunFilter, TaskRule, open_storage
from jobrunner.storage.sqlite import SqliteStorage
from jobrunner.testing.desk import NOON, Desk, a_locked_run, a_pipeline, a_run, a_tick, locked
from tests.contract.test_sqlite_plans import Listener

SIZE = 10_000  # rows, in the ordinary run
MILLION = 1_000_000  # in the drill

FILL = """
    with recursive n (i) as (select 1 union all select i + 1 from n where i < :size)
    insert into runs (id, task, state, lane, pool, priority, due_at, created_at, started_at, finished_at,
        expires_at, claim_no, attempt, owner, trigger, payload)
    select lower(hex(randomblob(16))), :task || (i % :tasks), :state, :lane, 'default', i % 3,
        :due + i % 1000, :due - i * 1000, :finished - i, :finished - i, :expires, :claims, :claims, :owner,
        'enqueue', '{}'
    from n
"""

EDGES = """
    insert into edges (seq, place, before, condition)
    select seq, 0, 'none-' || seq, 'ok' from runs where state = 'scheduled'
"""


def fill(connection: sqlite3.Connection, size: int) -> None:
    """Runs in every state of a run's life; half of them are finished."""

    def some(state: str, number: int, **changes: Any) -> None:
        given: dict[str, Any] = {
            "state": state,
            "size": max(1, number),
            "task": "task-",
            "tasks": 50,
            "lane": "pool:default",
            "due": NOON,
            "finished": None,
            "expires": None,
            "claims": 0,
            "owner": None,
        }
        connection.execute(FILL, {**given, **changes})

    some("queued", size // 10, task="resize", tasks=1)
    some("queued", size // 20, expires=NOON + DAY)
    some("queued", size // 10, lane="task:dump")
    some("queued", size // 10, lane="task:nobody")
    some("scheduled", size // 10, due=NOON + HOUR)
    some("retrying", size // 20, due=NOON + HOUR)
    for state in ("succeeded", "failed", "cancelled"):
        some(state, size // 6, finished=NOON, claims=1)
    connection.execute("update runs set task = 'resize' where task = 'resize0'")
    connection.execute("update runs set task = 'dump' where lane = 'task:dump'")
    connection.execute(EDGES)
    connection.commit()
    connection.execute("analyze")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    with closing(open_storage(f"sqlite:///{tmp_path}/jobs.db")) as opened:
        yield cast(SqliteStorage, opened)


RARE = TaskRule("task:rare", "default", rate=Rate(3, 60 * SECOND))


def full_desk(storage: SqliteStorage, size: int) -> Desk:
    desk = Desk(storage)
    desk.use(**desk.rules.tasks, dump=locked("dump"), rare=RARE)
    fill(storage._database._connected(), size)
    storage.add([a_locked_run("dump", priority=9), *(a_run("rare", lane="task:rare") for _ in range(9))])
    desk.claim(1)  # the lock is held from now on
    return desk


def works(desk: Desk) -> dict[str, Callable[[], object]]:
    """One of everything that a supervisor and its clients do often."""
    storage = desk.storage
    claims = desk.claim(30)
    tree = a_pipeline(a_run(), a_run("mail"))
    run = a_run(unique="resize:1")
    return {
        "a turn": lambda: desk.turn(
            [
                *(desk.end(claim) for claim in claims[:10]),
                *(desk.end(claim, State.RETRYING, due_at=NOON + DAY) for claim in claims[10:20]),
                desk.end(claims[20], State.FAILED, follow=(a_run("mail"),)),
            ],
            want={"default": 20},
        ),
        "an idle turn": lambda: desk.turn(want={}),
        "an enqueue": lambda: storage.add([a_run(), run]),
        "a key that is taken over": lambda: storage.add([a_run(unique="resize:1", replaces=True)]),
        "a pipeline": lambda: storage.add(tree),
        "a mark": lambda: storage.revoke(Revocation("task:mail", NOON)),
        "a turn that revokes": lambda: desk.turn(want={"default": 5}),
        "a cancelled pipeline": lambda: storage.cancel([tree[0].id], NOON),
        "a tick": lambda: storage.tick([a_tick(1)]),
        "recovery": lambda: (storage.orphans("heir"), storage.claimed_by("owner-1")),
        "an extra lock": lambda: storage.acquire("owner-1", claims[25].seq, claims[25].claim_no, "door", 1),
        "history": lambda: [storage.runs(which) for which in LISTS],
        "show": lambda: (storage.run(run.id), storage.attempts(run.id), storage.edges([run.id])),
        "status": lambda: storage.overview(NOON, tasks=["resize", "task-1", "nobody"]),
        "retention": lambda: storage.prune(Retention(history=DAY, max_runs=500), NOON, limit=50),
    }


LISTS = (
    RunFilter(),
    RunFilter(tasks=("task-1",)),
    RunFilter(states=(State.FAILED,)),
    RunFilter(tasks=("task-1",), states=(State.FAILED,)),
    RunFilter(pipeline="nobody"),
    RunFilter(unique="resize:1"),
)


def check(storage: SqliteStorage, size: int) -> None:
    desk = full_desk(storage, size)
    storage.watermarks({"a": None}, NOON)
    for name, work in works(desk).items():
        with Listener(storage) as listener:
            work()
        assert scans(listener) == [], name


def scans(listener: Listener) -> list[str]:
    """Every step that reads a growing table from end to end."""
    return [
        f"{step}: {statement}"
        for statement, step in listener.plans()
        if re.match(r"SCAN (runs|attempts|edges|bodies)\b", step) and "USING" not in step
    ]


def test_each_step_reads_by_its_index(storage: SqliteStorage) -> None:
    check(storage, SIZE)


@pytest.mark.drill
def test_the_same_holds_with_a_million_runs(storage: SqliteStorage, full_drills: bool) -> None:
    check(storage, MILLION if full_drills else 3 * SIZE)
