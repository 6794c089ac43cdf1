"""How a SQLite storage asks: indexes on every path, and no more statements for more runs."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from jobrunner.durations import DAY, HOUR
from jobrunner.errors import PayloadError
from jobrunner.model import State
from jobrunner.plan import Retention
from jobrunner.storage import RunFilter, Tick, Verdict, open_storage
from jobrunner.storage.sqlite import SqliteStorage
from jobrunner.storage.sqlite.adding import Batch
from jobrunner.storage.sqlite.many import AT_ONCE
from jobrunner.storage.sqlite.settles import BLOCK
from jobrunner.testing.desk import NOON, Desk, a_locked_run, a_pause, a_run, a_tick, locked

TABLES = {"runs", "attempts", "bodies"}  # what grows


class Listener:
    """The statements that a storage runs, and how SQLite goes about them."""

    def __init__(self, storage: SqliteStorage) -> None:
        self.connection: sqlite3.Connection = storage._database._connected()
        self.heard: list[str] = []

    def __enter__(self) -> Listener:
        self.heard.clear()
        self.connection.set_trace_callback(self.heard.append)
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.set_trace_callback(None)

    def plans(self) -> Iterator[tuple[str, str]]:
        """(statement, step of its plan) of everything that was heard."""
        for statement in set(self.heard):
            if re.match(r"\s*(select|update|delete|insert|with)\b", statement):
                rows = self.connection.execute(f"explain query plan {statement}").fetchall()
                yield from ((statement, row[3]) for row in rows)

    def scans(self) -> list[str]:
        """Every step that reads a growing table from end to end, or sorts it."""
        steps = [(statement, step) for statement, step in self.plans() if re.search(r"\bSCAN\b", step)]
        return [f"{step}: {statement}" for statement, step in steps if _reads_all(step)]

    def sorts(self) -> list[str]:
        return [statement for statement, step in self.plans() if "TEMP B-TREE" in step]


def _reads_all(step: str) -> bool:
    words = step.split()
    return words[1] in TABLES and "USING" not in words


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    with closing(open_storage(f"sqlite:///{tmp_path}/jobs.db")) as opened:
        yield cast(SqliteStorage, opened)


@pytest.fixture
def desk(storage: SqliteStorage) -> Desk:
    return Desk(storage)


def fill(desk: Desk, size: int) -> None:
    """Runs in every state."""
    desk.use(**desk.rules.tasks, dump=locked("dump"))
    desk.storage.add([a_run() for _ in range(size * 2)])
    desk.turn([desk.end(claim) for claim in desk.claim(size)], want={})
    ends = [
        desk.end(claim, state, due_at=NOON + DAY)
        for claim, state in zip(desk.claim(size // 2), [State.FAILED, State.RETRYING] * size, strict=False)
    ]
    desk.turn(ends, want={"default": 3})
    desk.storage.add([a_run(state=State.SCHEDULED, due_at=NOON + HOUR) for _ in range(size)])
    desk.storage.add([a_run(expires_at=NOON + HOUR) for _ in range(size)])
    desk.storage.add([a_locked_run("dump") for _ in range(size)])


@pytest.fixture(params=["before analyze", "after analyze"])
def full(request: pytest.FixtureRequest, desk: Desk, storage: SqliteStorage) -> Desk:
    fill(desk, 400)
    if request.param == "after analyze":
        storage._database._connected().execute("analyze")
    return desk


def test_a_turn_reads_only_by_index(full: Desk, storage: SqliteStorage) -> None:
    claims = full.claim(20)
    full.now = NOON + HOUR
    with Listener(storage) as listener:
        assert len(full.turn([full.end(claim) for claim in claims]).claimed) > 5
    assert listener.scans() == []
    assert listener.sorts() == []


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("state = 'queued' and lane = 'pool:default'", "runs_to_claim"),
        ("due_at <= ", "runs_due"),
        ("claim_no = 0 and expires_at <= ", "runs_to_expire"),
        ("cancel_reason is null\n        and expires_at <= ", "runs_to_time_out"),
        ("cancel_reason is not null and owner = ", "runs_to_cancel"),
        ("group by lock", "runs_locking"),
    ],
)
def test_each_step_of_a_turn_has_its_index(full: Desk, storage: SqliteStorage, text: str, index: str) -> None:
    with Listener(storage) as listener:
        full.claim(5)
    found = {
        step
        for statement, step in listener.plans()
        if text in statement and "count(*) from (" not in statement
    }
    assert found
    assert all(index in step or "PRIMARY KEY" in step for step in found if " runs " in step), found
    assert any(index in step for step in found)


def test_recovery_reads_only_by_index(full: Desk, storage: SqliteStorage) -> None:
    with Listener(storage) as listener:
        assert storage.orphans("heir")
        assert storage.claimed_by(full.owner)
    assert listener.scans() == []


def test_an_overview_reads_only_by_index(full: Desk, storage: SqliteStorage) -> None:
    with Listener(storage) as listener:
        storage.overview(NOON, tasks=["resize", "dump", "mail"])
    assert listener.scans() == []


@pytest.mark.parametrize(
    "which",
    [
        RunFilter(tasks=("resize",)),
        RunFilter(tasks=("resize", "dump"), states=(State.FAILED,)),
        RunFilter(states=(State.FAILED,)),
        RunFilter(states=(State.QUEUED, State.RETRYING)),
        RunFilter(tasks=("resize",), since=NOON + DAY),
        RunFilter(tasks=("resize",), states=(State.EXPIRED,), since=NOON),
        RunFilter(triggers=("retry", "catch-up")),
        RunFilter(tasks=("resize",), triggers=("retry",), states=(State.SUCCEEDED,)),
    ],
)
def test_a_history_that_is_asked_for_by_task_or_state_reads_only_by_index(
    full: Desk, storage: SqliteStorage, which: RunFilter
) -> None:
    with Listener(storage) as listener:
        storage.runs(which)
    assert listener.scans() == []


@pytest.mark.parametrize(
    "which",
    [
        RunFilter(tasks=("resize",)),
        RunFilter(since=NOON + HOUR),
        RunFilter(states=(State.FAILED,)),
        RunFilter(tasks=("resize",), states=(State.FAILED,)),
        RunFilter(triggers=("retry",)),
    ],
)
def test_a_history_of_a_task_or_of_a_time_is_not_sorted(
    full: Desk, storage: SqliteStorage, which: RunFilter
) -> None:
    with Listener(storage) as listener:
        storage.runs(which)
    assert listener.sorts() == []


def test_a_tick_and_a_cancel_read_only_by_index(full: Desk, storage: SqliteStorage) -> None:
    run = storage.runs(RunFilter(states=(State.QUEUED,)))[0]
    storage.watermarks({"a": None}, NOON)
    with Listener(storage) as listener:
        storage.tick([a_tick(1)])
        storage.cancel([run.id], NOON)
        storage.run(run.id)
    assert listener.scans() == []


def test_many_ticks_of_one_moment_have_hardly_more_statements_than_one(
    desk: Desk, storage: SqliteStorage
) -> None:
    """No more than two for each fifty of them: their rows and their watermarks."""
    counts = []
    for size in (1, 10 * AT_ONCE):
        ticks = [ticking(f"of-{size}-{number}") for number in range(size)]
        storage.watermarks(dict.fromkeys(tick.schedule for tick in ticks), NOON)
        with Listener(storage) as listener:
            verdicts = storage.tick(ticks)
        assert verdicts == [Verdict(NOON + 1, True)] * size
        assert listener.scans() == []
        counts.append(len(listener.heard))
    assert counts[1] <= counts[0] + 2 * 10


def ticking(task: str) -> Tick:
    run = a_run(task, schedule=task, tick=NOON + 1)
    return a_tick(1)._replace(schedule=task, run=run, refused=run._replace(state=State.SKIPPED))


def test_retention_reads_only_by_index(full: Desk, storage: SqliteStorage) -> None:
    with Listener(storage) as listener:
        assert storage.prune(Retention(history=0, results=0, max_runs=10), NOON + DAY, limit=10)
    assert listener.scans() == []


def test_a_turn_of_many_runs_has_no_more_statements_than_one_of_few(
    desk: Desk, storage: SqliteStorage
) -> None:
    """Apart from the one that writes the last successes, less than a block of them, one by one."""
    storage.add([a_run() for _ in range(500)])
    counts: list[Counter[str]] = []
    for size in (2, 200):
        claims = desk.claim(size)
        with Listener(storage) as listener:
            answer = desk.turn([desk.end(claim, result="1") for claim in claims], want={"default": size})
        assert len(answer.claimed) == size
        desk.turn([desk.end(claim) for claim in answer.claimed], want={})
        counts.append(Counter(_shape(statement) for statement in listener.heard))
    few, many = counts
    single = next(shape for shape in few if shape.startswith("update runs set state = 'succeeded'"))
    block = next(shape for shape in many if "from (values" in shape)
    assert (few.pop(single), many.pop(single), many.pop(block)) == (2, 200 % BLOCK, 200 // BLOCK)
    assert few == many
    assert sum(few.values()) < 25


def _shape(statement: str) -> str:
    return re.sub(r"'[^']*-[^']*'|'\[[\d, ]*\]'|\b\d+\b", "?", " ".join(statement.split()))


def test_a_turn_with_nothing_to_do_writes_nothing(desk: Desk, storage: SqliteStorage) -> None:
    storage.add([a_locked_run("dump") for _ in range(2)])
    desk.use(dump=locked("dump"))
    assert len(desk.claim()) == 1
    storage.pause(a_pause("task:mail"))
    desk.turn()
    with Listener(storage) as listener:
        assert desk.claim() == []
    assert not [
        each for each in listener.heard if re.match(r"\s*(begin immediate|update|insert|delete)", each)
    ]


def test_what_a_connection_remembers_of_the_file_is_bounded(storage: SqliteStorage) -> None:
    """P10: over a million queued runs a supervisor is no larger than over a few thousand."""
    (size,) = storage._database._connected().execute("pragma cache_size").fetchone()
    assert -4_096 <= size < 0  # KiB, written as a negative number


def test_reading_writes_nothing(desk: Desk, storage: SqliteStorage) -> None:
    run = desk.finish(a_run())
    with Listener(storage) as listener:
        storage.run(run.id)
        storage.runs(RunFilter())
        storage.overview(NOON, tasks=["resize"])
        storage.supervisors(NOON)
    assert not [
        each for each in listener.heard if re.match(r"\s*(begin immediate|update|insert|delete)", each)
    ]


def test_promises_are_kept_by_the_tables_themselves(storage: SqliteStorage) -> None:
    storage.add([a_run()])
    connection = storage._database._connected()
    for change in (
        "state = 'running'",
        "state = 'succeeded'",
        "state = 'done'",
        "owner = 'somebody'",
        "finished_at = 1",
        "lock = 'database'",
        "due_at = 'noon'",
        "task = null",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(f"update runs set {change}")


def test_every_write_is_synced_before_it_is_acknowledged(storage: SqliteStorage) -> None:
    connection = storage._database._connected()
    settings = {
        name: connection.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2}


def test_an_enqueue_is_one_transaction_of_two_statements(storage: SqliteStorage) -> None:
    marks = {"resize": storage.published("resize").mark}
    with Listener(storage) as listener:
        assert storage.add_if([a_run()], marks) == [True]
    heard = [statement.split()[0].lower() for statement in listener.heard]
    assert heard == ["begin", "select", "insert", "commit"]


def test_a_turn_that_was_woken_is_one_transaction(desk: Desk, storage: SqliteStorage) -> None:
    """Nobody looks first whether there is something to write."""
    storage.add([a_run()])
    storage.woken()
    with Listener(storage) as listener:
        assert len(desk.claim()) == 1
    begun = [each for each in listener.heard if each.lower().startswith("begin")]
    assert begun == ["begin immediate"]


def written(storage: SqliteStorage, *batches: Batch) -> list[str]:
    """The first words of the statements that write these together."""
    with Listener(storage) as listener:
        storage._adder._write(list(batches))
    assert all(batch.is_over for batch in batches)
    return [statement.split()[0].lower() for statement in listener.heard]


def test_callers_that_add_at_one_moment_share_their_statements(storage: SqliteStorage) -> None:
    mark = {"resize": storage.published("resize").mark}
    batches = [Batch([a_run()], mark) for _ in range(AT_ONCE)]
    assert written(storage, *batches) == ["begin", "select", "savepoint", "insert", "release", "commit"]
    assert [batch.added for batch in batches] == [[True]] * AT_ONCE


def test_what_is_wrong_with_one_caller_is_not_the_others_trouble(storage: SqliteStorage) -> None:
    known, mark = a_run(), {"resize": storage.published("resize").mark}
    storage.add([known])
    good, outdated = Batch([a_run()], mark), Batch([a_run()], {"resize": "another"})
    twice, bad = Batch([known, a_run()], mark), Batch([a_run(), a_run(priority=2**63)], {})
    for others in ([outdated], [twice], [bad], [outdated, twice, bad]):
        fresh = Batch([a_run(), a_run()], mark)
        written(storage, fresh, *others)
        assert fresh.added == [True, True]
    written(storage, good)
    assert (good.added, outdated.added, twice.added) == ([True], None, [False, False])
    assert isinstance(bad.error, PayloadError)
    assert len(storage.runs(RunFilter())) == 11
