"""How a PostgreSQL storage asks: indexes on every path, and no more rows read however many there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from jobrunner.durations import DAY, HOUR, SECOND
from jobrunner.model import State
from jobrunner.plan import Retention
from jobrunner.storage import RunFilter, Verdict
from jobrunner.storage.postgres.database import Connection
from jobrunner.storage.postgres.store import PostgresStorage
from jobrunner.testing.desk import A_STATUS, NOON, Desk, a_locked_run, a_run, a_tick, locked

SIZE = 10_000  # rows, in the ordinary run
MILLION = 1_000_000  # in the drill
TABLES = {"runs", "attempts", "edges"}  # what grows


class Step(NamedTuple):
    """One step of a plan that reads a growing table."""

    statement: str
    kind: str
    index_name: str


class Recorder(psycopg.Connection[Any]):
    """A connection that keeps what it is asked."""

    heard: list[tuple[Any, Any]] = []  # noqa: RUF012 - one list for all connections, cleared by the test

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        if isinstance(query, str) and query.split()[0] in ("select", "with", "update", "insert", "delete"):
            Recorder.heard.append((query, params))
        return super().execute(query, params, **options)


class Watch:
    """The statements of a block, their plans, and how many rows they read."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.storage = storage

    def __enter__(self) -> Watch:
        Recorder.heard.clear()
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self.heard = [each for each in Recorder.heard if "pg_stat" not in each[0]]
        self.rows_read = self._read() - self._before

    def _read(self) -> int:
        """Rows of growing tables that were read so far, or entries of their indexes."""
        connection = self.connection()
        connection.execute("select pg_stat_force_next_flush()")
        connection.execute("select pg_stat_clear_snapshot()")
        row = connection.execute(
            "select (select sum(seq_tup_read) from pg_stat_user_tables where schemaname = current_schema()"
            " and relname = any(%(tables)s)) + (select sum(idx_tup_read) from pg_stat_user_indexes"
            " where schemaname = current_schema() and relname = any(%(tables)s))",
            {"tables": list(TABLES)},
        ).fetchone()
        return int(row[0] or 0) if row else 0

    def connection(self) -> Connection:
        (connection,) = self.storage._database._idle
        return connection

    def steps(self) -> Iterator[Step]:
        for query, params in self.heard:
            row = self.connection().execute(f"explain (format json) {query}", params).fetchone()
            plan = row[0] if row else []
            for node in _nodes((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]):
                if node.get("Relation Name") in TABLES or node.get("Index Name"):
                    yield Step(query, node["Node Type"], node.get("Index Name", ""))

    def scans(self) -> list[str]:
        """Every step that reads a growing table from end to end."""
        return [f"{step.kind}: {step.statement}" for step in self.steps() if step.kind == "Seq Scan"]

    def index_of(self, text: str) -> set[str]:
        """The indexes that the statements use in which this text stands."""
        return {step.index_name for step in self.steps() if text in " ".join(step.statement.split())} - {""}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", []):
        yield from _nodes(each)


@pytest.fixture
def storage(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresStorage]:
    monkeypatch.setattr(psycopg, "connect", Recorder.connect)
    storage = PostgresStorage.open(postgres_url, server_time=False)
    yield storage
    storage.close()


FILL = """
    insert into runs (id, task, state, lane, pool, priority, due_at, created_at, started_at, finished_at,
        expires_at, claim_no, attempt, owner, trigger, payload, result, outcome)
    select md5('%(kind)s' || n), '%(task)s' || n %% %(tasks)s, '%(state)s', '%(lane)s', 'default', n %% 3,
        %(noon)s + n %% 1000 + %(later)s, %(noon)s - n * 1000, %(finished)s, %(finished)s,
        case when %(expires)s then %(noon)s + %(day)s end, %(claims)s, %(claims)s, %(owner)s, 'enqueue',
        '{}', null, null
    from generate_series(1, %(size)s) as n
"""


def fill(connection: Connection, size: int) -> None:
    """`size` runs in every state of a run's life, and ten times as many that are finished."""

    def some(kind: str, state: str, number: int, **changes: Any) -> None:
        given: dict[str, Any] = {
            "kind": kind,
            "state": state,
            "size": number,
            "task": "resize" if state == "queued" else "task-",
            "tasks": 1 if state == "queued" else 50,
            "lane": "pool:default",
            "noon": NOON,
            "day": DAY,
            "later": 0,
            "finished": "null::bigint",
            "expires": "false",
            "claims": 0,
            "owner": "null",
        }
        text = FILL % {**given, **changes}
        connection.execute(text.replace("'resize' || n % 1", "'resize'"))

    some("queued", "queued", size // 10)
    some("late", "queued", size // 20, expires="true")
    some("locked", "queued", size // 10, lane="task:dump")
    some("strange", "queued", size // 10, lane="task:nobody")
    some("later", "scheduled", size // 10, later=HOUR)
    some("retry", "retrying", size // 10, later=HOUR)
    some("running", "running", 20, owner="'owner-2'", claims=1)
    for state in ("succeeded", "failed", "cancelled"):
        some(state, state, size // 6, finished=f"{NOON} - n", claims=1)
    connection.execute("update runs set task = 'dump' where lane = 'task:dump'")
    connection.execute("update runs set task = 'nobody' where lane = 'task:nobody'")
    connection.execute(
        "insert into attempts (seq, number, outcome, ended_at)"
        " select seq, 1, 'exit 1', due_at from runs where state = 'retrying'"
    )
    connection.execute(
        "insert into edges (run, place, predecessor, condition, is_done)"
        " select seq, 0, md5('none' || seq), 'ok', false from runs where state = 'scheduled'"
    )


def full_desk(storage: PostgresStorage, size: int) -> Desk:
    """A supervisor's side of a storage with a past and a long queue, of which PostgreSQL has statistics."""
    desk = Desk(storage)
    desk.use(**desk.rules.tasks, dump=locked("dump"))
    connection = storage._database._idle[0]
    connection.execute("set statement_timeout = 0")
    fill(connection, size)
    connection.execute("analyze")
    connection.execute("set statement_timeout = '30s'")
    storage.add([a_locked_run("dump", priority=9)])
    desk.claim(1)  # the lock is held from now on
    return desk


def the_work(desk: Desk) -> dict[str, Watch]:
    """One of everything that a supervisor and its clients do often, watched."""
    storage = desk.storage
    assert isinstance(storage, PostgresStorage)
    claims = desk.claim(20)
    assert len(claims) >= 19
    watched: dict[str, Watch] = {}

    def watch(name: str) -> Watch:
        return watched.setdefault(name, Watch(storage))

    with watch("exchange"):
        ends = [desk.end(claim) for claim in claims[:10]]
        ends += [desk.end(claim, State.RETRYING, due_at=NOON + DAY) for claim in claims[10:]]
        assert len(desk.turn(ends, want={"default": 20}).claimed) == 20
    with watch("idle"):
        desk.turn(want={})
    with watch("add"):
        storage.add([a_run(), a_run(unique="resize:1")])
    with watch("tick"):
        storage.watermarks({"a": None}, NOON)
        storage.tick([a_tick(1)])
    with watch("recover"):
        storage.orphans("owner-1")
        storage.claimed_by("owner-1")
    with watch("heartbeat"):
        storage.heartbeat("owner-1", A_STATUS, NOON)
    with watch("cancel"):
        storage.cancel([claims[0].id, "nobody"], NOON)
    with watch("history"):
        for which in LISTS:
            storage.runs(which)
    with watch("show"):
        storage.run(claims[0].id[-12:])
        storage.attempts(claims[0].id)
        storage.edges([claims[0].id])
    with watch("status"):
        storage.overview(NOON + SECOND, tasks=["resize", "task-1", "nobody"])
    with watch("prune"):
        storage.prune(Retention(history=DAY, max_runs=500), NOON, limit=100)
    return watched


LISTS = (
    RunFilter(),
    RunFilter(tasks=("task-1",)),
    RunFilter(tasks=("task-1",), states=(State.FAILED,)),
    RunFilter(states=(State.FAILED, State.RUNNING)),
    RunFilter(states=(State.RETRYING,)),
    RunFilter(triggers=("enqueue",)),
    RunFilter(since=NOON - 10_000),
    RunFilter(pipeline="nobody"),
    RunFilter(unique="resize:1"),
)

# What each work may read: about what it writes or shows, however many runs there are.
MOST_READ = {
    "exchange": 300,
    "idle": 50,
    "add": 50,
    "tick": 100,
    "recover": 150,
    "heartbeat": 10,
    "cancel": 30,
    "history": 45_000,  # two of the lists walk back over the newest 20,000
    "show": 50,
    "status": 200_000,  # counts are exact up to 10,000, of each state and of each task
    "prune": 2_000,
}

INDEXES = (
    ("exchange", "cross join lateral ( select seq, id, task, claim_no + 1", "runs_to_claim"),
    ("exchange", "with recursive lanes", "runs_to_claim"),
    ("exchange", "exists (select 1 from runs where state in ('scheduled', 'retrying')", "runs_due"),
    ("exchange", "exists (select 1 from runs where state in ('scheduled', 'retrying')", "runs_to_expire"),
    ("exchange", "exists (select 1 from runs where state in ('scheduled', 'retrying')", "runs_to_time_out"),
    ("exchange", "select unnest(array_append(extra_locks, lock))", "runs_locking"),
    ("exchange", "set state = 'succeeded'", "runs_running"),
    ("exchange", "update edges set is_done", "edges_to_come"),
    ("exchange", "cancel_reason is not null and owner =", "runs_to_cancel"),
    ("recover", "state = 'running' and owner <>", "runs_running or runs_by_state"),
    ("recover", "state = 'running' and owner =", "runs_running"),
    ("tick", "where task = $1 and state = 'queued'", "runs_by_task"),
    ("history", "where task =", "runs_by_task"),
    ("history", "where state = chosen.state", "runs_by_state"),
    ("show", "reverse(id)", "runs_by_tail"),
    ("status", "lane, priority desc, due_at limit 1", "runs_to_claim"),
    ("prune", "finished_at < ", "runs_done"),
)


def check(storage: PostgresStorage, size: int) -> None:
    watched = the_work(full_desk(storage, size))
    read = {name: watch.rows_read for name, watch in watched.items()}
    print("rows read:", read)
    for name, watch in watched.items():
        assert watch.scans() == [], name
    for name, text, index in INDEXES:
        used = watched[name].index_of(text.replace("$1", "%(task)s"))
        assert used & set(index.split(" or ")), (name, text, used)
    assert {name: number for name, number in read.items() if number > MOST_READ[name]} == {}


def test_every_step_reads_by_its_index_and_no_more_than_it_needs(storage: PostgresStorage) -> None:
    check(storage, SIZE)


@pytest.mark.drill
def test_the_same_holds_with_a_million_runs(storage: PostgresStorage, full_drills: bool) -> None:
    check(storage, MILLION if full_drills else 3 * SIZE)


def test_a_turn_of_many_runs_has_no_more_statements_than_one_of_few(storage: PostgresStorage) -> None:
    desk = Desk(storage)
    storage.add([a_run() for _ in range(500)])
    counts = []
    for size in (2, 200):
        claims = desk.claim(size)
        Recorder.heard.clear()
        answer = desk.turn([desk.end(claim, result="1") for claim in claims], want={"default": size})
        counts.append(len(Recorder.heard))
        assert len(answer.claimed) == size
        desk.turn([desk.end(claim) for claim in answer.claimed], want={})
    few, many = counts
    assert few == many
    assert 0 < many < 20


def test_many_ticks_of_one_moment_have_no_more_statements_than_a_few(storage: PostgresStorage) -> None:
    counts = []
    for size in (2, 200):
        runs = [a_run(f"of-{size}-{number}", tick=NOON + 1) for number in range(size)]
        ticks = [
            a_tick(1)._replace(schedule=run.task, run=run, refused=run._replace(state=State.SKIPPED))
            for run in runs
        ]
        storage.watermarks(dict.fromkeys(run.task for run in runs), NOON)
        Recorder.heard.clear()
        assert storage.tick(ticks) == [Verdict(NOON + 1, True)] * size
        counts.append(len(Recorder.heard))
    assert counts[0] == counts[1] < 10
