"""The same random calls on every storage give the answers that the one in memory gives."""

from __future__ import annotations

import tempfile
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from jobrunner.durations import DAY, HOUR, SECOND
from jobrunner.model import (
    Claim,
    Edge,
    NewRun,
    Settle,
    Started,
    State,
    Trigger,
    pool_lane,
    task_lane,
)
from jobrunner.plan import Retention
from jobrunner.storage import Exchange, Rate, Revocation, RunFilter, Storage, TaskRule, Tick, open_storage
from jobrunner.storage.postgres.store import PostgresStorage
from jobrunner.storage.redis.store import RedisStorage
from jobrunner.testing.desk import (
    A_STATUS,
    NOON,
    PLAIN,
    Desk,
    a_catalogue,
    a_pause,
    a_pipeline,
    a_run,
    locked,
)
from tests.postgres_server import Server

TASKS = ("resize", "mail", "dump", "load", "skip", "far", "rare", "report")
RULES = {
    "resize": PLAIN,
    "mail": PLAIN,
    "dump": locked("dump", slots=2),
    "load": locked("load", slots=2),  # the same lock as `dump`
    "skip": locked("skip", lock="door", on_busy="skip"),
    "far": TaskRule(pool_lane("other"), "other"),
    "rare": TaskRule(task_lane("rare"), "default", "database", 2, "wait", Rate(2, 60 * SECOND)),
}
LANES = {name: rule.lane for name, rule in RULES.items()}
STATES = (
    *(State.SUCCEEDED, State.FAILED, State.RETRYING, State.QUEUED, State.SUCCEEDED),
    *(State.WAITING, State.CANCELLED),
)
TARGETS = ("all", "pool:default", "pool:other", "task:resize", "task:dump", "task:report")
MARKS = ("task:resize", "task:dump", "task:report", "task:rare")
KEYS = ("resize:1", "resize:2")
CONDITIONS = ("ok", "final", "failed")
WAYS = ("skip", "skip", "skip", "allow", "allow", "late", "twice", "paused", "queue", "replace")  # of a tick
SOON = (None, 15)  # seconds

numbers = st.integers(min_value=0, max_value=2**30)


class SameAnswers(RuleBasedStateMachine):
    """Two storages, one of them simple enough to be believed."""

    def opener(self) -> Storage:
        """Open the one that is looked at."""
        raise NotImplementedError

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.openers = (self.opener, lambda: open_storage("memory://random"))
        self.anchor = open_storage("memory://random")
        self.ids: list[str] = []
        self.time = NOON
        self.places = dict.fromkeys("abcd", NOON)
        self.claims: tuple[list[Claim], ...] = ([], [])
        self.lives = 0
        self.enter()

    def enter(self) -> None:
        self.lives += 1
        rules = dict(RULES)
        self.desks = [Desk(opened(), f"owner-{self.lives}", rules) for opened in self.openers]
        self.live()

    def live(self) -> None:
        """Leases are renewed."""
        for desk in self.desks:
            desk.now = self.time
            desk.storage.heartbeat(desk.owner, A_STATUS, self.time)

    def teardown(self) -> None:
        if hasattr(self, "desks"):
            for desk in self.desks:
                desk.storage.close()
            self.anchor.close()
            self.folder.cleanup()

    @property
    def storages(self) -> list[Storage]:
        return [desk.storage for desk in self.desks]

    def new(self, task: str, number: int, **changes: Any) -> NewRun:
        run_id = f"{len(self.ids):08x}-0000-7000-8000-{number % 16**12:012x}"
        self.ids.append(run_id)
        lane = LANES.get(task, pool_lane("default"))
        return a_run(task, id=run_id, lane=lane, created_at=self.time, due_at=self.time, **changes)

    # --- calls --------------------------------------------------------------------------------------

    @rule(
        task=st.sampled_from((*TASKS, "unknown")),
        number=numbers,
        priority=st.sampled_from((0, 0, 5, -3)),
        delay=st.sampled_from((0, 0, 0, 30, 90)),
        patience=st.sampled_from((None, None, 20, 100)),
        lane=st.sampled_from((None, None, "pool:default", "pool:gone")),
        size=st.sampled_from((2, 2, 5_000)),
        key=st.sampled_from((None, None, *KEYS)),
        replaces=st.booleans(),
    )
    def add(
        self,
        task: str,
        number: int,
        priority: int,
        delay: int,
        patience: int | None,
        lane: str | None,
        size: int,
        key: str | None,
        replaces: bool,
    ) -> None:
        due = self.time + delay * SECOND
        run = self.new(task, number, priority=priority, payload='"' + "p" * size + '"')
        run = run._replace(
            due_at=due,
            state=State.SCHEDULED if delay else State.QUEUED,
            expires_at=None if patience is None else due + patience * SECOND,
            lane=lane or run.lane,
            unique=key,
            replaces=replaces,
        )
        self.same([storage.add([run, run]) for storage in self.storages])

    @rule(
        tasks=st.lists(st.sampled_from(TASKS[:4]), min_size=1, max_size=3),
        number=numbers,
        join=st.sampled_from(("last", "list", "list-any")),
        parallel=st.booleans(),
        patience=st.sampled_from((None, 30)),
        key=st.sampled_from((None, None, *KEYS)),
        replaces=st.booleans(),
        handler=st.booleans(),
        born=st.booleans(),
    )
    def add_pipeline(
        self,
        tasks: list[str],
        number: int,
        join: str,
        parallel: bool,
        patience: int | None,
        key: str | None,
        replaces: bool,
        handler: bool,
        born: bool,
    ) -> None:
        expires = None if patience is None else self.time + patience * SECOND
        steps = [self.new(task, number, compose='"all"', trigger=Trigger.PIPELINE) for task in tasks]
        root_id = self.new("report", number).id
        changes: dict[str, Any] = {"id": root_id, "join": join, "unique": key, "replaces": replaces}
        times = {"created_at": self.time, "due_at": self.time, "expires_at": expires}
        root, *rows = a_pipeline(*steps, **changes, **times)
        if parallel:
            rows = [row._replace(state=State.QUEUED, after=()) for row in rows]
        if born:
            rows[0] = rows[0]._replace(state=State.SUCCEEDED, result='{"é":"\\u00e9\U0001f600"}')
        if handler:
            last = self.new("mail", number, state=State.WAITING, after=(Edge(rows[-1].id, "failed"),))
            rows.append(last._replace(pipeline=root.id, pipeline_name="report", step="9"))
            root = root._replace(after=(*root.after, Edge(last.id, "final")))
        self.same([storage.add([root, *rows]) for storage in self.storages])

    @rule(
        task=st.sampled_from(TASKS[:4]),
        number=numbers,
        others=st.lists(
            st.tuples(numbers, st.sampled_from(("ok", "final", "failed"))), min_size=1, max_size=3
        ),
        delay=st.sampled_from((0, 20)),
        join=st.sampled_from((None, None, "list-any")),
    )
    def add_behind(
        self, task: str, number: int, others: list[tuple[int, str]], delay: int, join: str | None
    ) -> None:
        """A run that waits for any others, some of which were never there."""
        ids = [*self.ids, "00000000-0000-7000-8000-00000000dead"]
        edges = tuple(Edge(ids[place % len(ids)], "final" if join else how) for place, how in others)
        run = self.new(task, number, state=State.WAITING, after=edges, join=join, compose='"first"')
        run = run._replace(due_at=self.time + delay * SECOND, expires_at=self.time + (delay + 50) * SECOND)
        self.same([storage.add([run]) for storage in self.storages])

    @rule(
        default=st.integers(0, 4),
        other=st.integers(0, 2),
        ends=st.lists(st.tuples(numbers, st.sampled_from(STATES), st.booleans()), max_size=4),
        starts=st.lists(numbers, max_size=2),
        seconds=st.sampled_from((0, 0, 1, 40)),
    )
    def turn(
        self,
        default: int,
        other: int,
        ends: list[tuple[int, State, bool]],
        starts: list[int],
        seconds: int,
    ) -> None:
        self.time += seconds * SECOND
        self.live()
        settled: tuple[list[Settle], ...] = ([], [])
        for number, state, follows in ends:
            self.end(number, state, follows, settled)
        answers = []
        for desk, claims, settles in zip(self.desks, self.claims, settled, strict=True):
            desk.now = self.time
            marks = [self.mark(desk, claims[number % len(claims)]) for number in starts if claims]
            answers.append(desk.turn(settles, started=marks, want={"default": default, "other": other}))
        self.same([without_seq(answer) for answer in answers])
        for claims, answer in zip(self.claims, answers, strict=True):
            claims += answer.claimed

    def mark(self, desk: Desk, claim: Claim) -> Started:
        return Started(claim.seq, claim.claim_no, desk.owner, self.time, 7)

    def end(self, number: int, state: State, follows: bool, settled: tuple[list[Settle], ...]) -> None:
        """End a claim, or (an even number) only pretend so: it is ended again later."""
        if not self.claims[0]:
            return
        place = number % len(self.claims[0])
        if self.claims[0][place].id in {settle.id for settle in settled[0]}:
            return  # one turn ends a run once
        follow = (self.new("mail", number),) if follows else ()
        for desk, claims, settles in zip(self.desks, self.claims, settled, strict=True):
            claim = claims[place] if number % 2 == 0 else claims.pop(place)
            changes = self.ended(claim, number, state, follow)
            settles.append(desk.end(claim, state, **changes))

    def ended(self, claim: Claim, number: int, state: State, follow: tuple[NewRun, ...]) -> dict[str, Any]:
        changes: dict[str, Any] = {"ended_at": self.time, "started_at": self.time - 5, "follow": follow}
        if claim.refused or (state is State.QUEUED and number % 3 == 0):
            changes |= {"outcome": None, "attempt": claim.attempt - 1, "failures": claim.failures}
        text = f'"{number}\\n\u007f\u00fc\u20ac\U0001f600/"'
        more: dict[State, dict[str, Any]] = {
            State.RETRYING: {"due_at": self.time + 10 * SECOND},
            State.SUCCEEDED: {"result": text, "pid": number % 4 or None},
            State.FAILED: {"error": text},
            State.CANCELLED: {"outcome": "cancelled", "reason": "cancelled"},
            State.WAITING: self.grown(claim, follow),
        }
        return changes | more.get(state, {})

    def grown(self, claim: Claim, follow: tuple[NewRun, ...]) -> dict[str, Any]:
        after = tuple(Edge(run.id, "final") for run in follow)
        fields = {"attempt": claim.attempt - 1, "failures": claim.failures, "started_at": None}
        return {"outcome": None, "join": "list", "after": after, **fields}

    @rule(number=numbers, reason=st.sampled_from(("cancelled", "cancelled", "timeout", "removed")))
    def cancel(self, number: int, reason: str) -> None:
        if self.ids:
            ids = [self.ids[number % len(self.ids)], self.ids[number // 7 % len(self.ids)]]
            self.same([storage.cancel(ids, self.time, reason=reason) for storage in self.storages])

    @rule(
        what=st.sampled_from(MARKS), number=numbers, once=st.booleans(), seconds=st.sampled_from((None, 15))
    )
    def revoke(self, what: str, number: int, once: bool, seconds: int | None) -> None:
        target = f"run:{self.ids[number % len(self.ids)]}" if self.ids and number % 3 == 0 else what
        until = None if seconds is None else self.time + seconds * SECOND
        for storage in self.storages:
            storage.revoke(Revocation(target, self.time, until, once, "ana"))

    @rule(what=st.sampled_from(MARKS))
    def restore(self, what: str) -> None:
        self.same([storage.restore(what) for storage in self.storages])

    @rule(number=numbers, lock=st.sampled_from(("database", "door", "press")), takes=st.booleans())
    def hold(self, number: int, lock: str, takes: bool) -> None:
        """One more lock for a run that runs, or one less."""
        answers = []
        for desk, claims in zip(self.desks, self.claims, strict=True):
            if claims:
                claim = claims[number % len(claims)]
                fence = (desk.owner, claim.seq, claim.claim_no, lock)
                storage = desk.storage
                answers.append(storage.acquire(*fence, 2) if takes else storage.release(*fence))
        self.same([answers[:1], answers[1:]])

    @rule(known=st.sampled_from((TASKS, TASKS[1:], ("mail",))))
    def publish(self, known: tuple[str, ...]) -> None:
        for desk in self.desks:
            catalogue = a_catalogue(*known)
            desk.storage.publish(desk.owner, catalogue, keep=["a", "b"], now=self.time)

    @rule(what=st.sampled_from(TARGETS), seconds=st.sampled_from((None, 15)))
    def pause(self, what: str, seconds: int | None) -> None:
        until = None if seconds is None else self.time + seconds * SECOND
        for storage in self.storages:
            storage.pause(a_pause(what, until))

    @rule(what=st.sampled_from(TARGETS))
    def resume(self, what: str) -> None:
        self.same([storage.resume(what) for storage in self.storages])

    @rule(
        key=st.sampled_from("ab"),
        task=st.sampled_from(TASKS[:2]),
        number=numbers,
        lag=st.sampled_from((0, 0, 1)),
        skips=st.booleans(),
        overlap=st.sampled_from(("skip", "queue", "replace")),
        is_pipeline=st.booleans(),
        unique=st.sampled_from((None, KEYS[0])),
    )
    def tick(
        self,
        key: str,
        task: str,
        number: int,
        lag: int,
        skips: bool,
        overlap: str,
        is_pipeline: bool,
        unique: str | None,
    ) -> None:
        for storage in self.storages:
            storage.watermarks({key: None}, NOON)
        expected = self.places[key] - lag
        given = {"tick": expected + 1, "schedule": key, "trigger": Trigger.SCHEDULE, "unique": unique}
        run = self.new(task, number, **given)
        members: tuple[NewRun, ...] = ()
        if is_pipeline:
            steps = [self.new(each, number, trigger=Trigger.PIPELINE) for each in TASKS[:2]]
            times = {"created_at": self.time, "due_at": self.time}
            run, *rows = a_pipeline(*steps, id=run.id, **times, **given)
            members = tuple(rows)
        refused = self.new(task, number)._replace(state=State.SKIPPED, reason="overlap") if skips else None
        tick = Tick(key, expected, expected + 1, None, run, refused, members, overlap)
        verdicts = [storage.tick([tick]) for storage in self.storages]
        self.same(verdicts)
        self.places[key] = verdicts[0][0].watermark

    @rule(
        wanted=st.lists(
            st.tuples(st.sampled_from("abcd"), st.sampled_from(TASKS[:4]), st.sampled_from(WAYS)),
            min_size=2,
            max_size=8,
        ),
        number=numbers,
    )
    def ticks(self, wanted: list[tuple[str, str, str]], number: int) -> None:
        """Many in one write: each sees what those before it have added."""
        for storage in self.storages:
            storage.watermarks(dict.fromkeys("abcd"), NOON)
        made: list[Tick] = []
        places = dict(self.places)
        for key, task, way in wanted:
            made.append(self.new_tick(key, places[key], task, way, number))
            places[key] += way != "late"
            if way == "twice":
                made.append(made[-1]._replace(schedule="a", expected=places["a"], tick=places["a"] + 1))
                places["a"] += 1
        verdicts = [storage.tick(made) for storage in self.storages]
        self.same(verdicts)
        for tick, verdict in zip(made, verdicts[0], strict=True):
            self.places[tick.schedule] = verdict.watermark

    def new_tick(self, key: str, place: int, task: str, way: str, number: int) -> Tick:
        expected = place - (way == "late")
        run = self.new(task, number, tick=place + 1, schedule=key, trigger=Trigger.SCHEDULE)
        refused = None if way == "allow" else run._replace(state=State.SKIPPED, reason="overlap")
        if way == "paused":
            run, refused = run._replace(state=State.SKIPPED, reason="paused"), None
        overlap = way if way in ("queue", "replace") else "skip"
        return Tick(key, expected, expected + 1, place + 2, run, refused, overlap=overlap)

    @rule(most=st.integers(0, 6), limit=st.integers(1, 4), age=st.sampled_from((0, HOUR, DAY)))
    def prune(self, most: int, limit: int, age: int) -> None:
        retention = Retention(history=age, results=age // 2, max_runs=most)
        self.same([storage.prune(retention, self.time, limit=limit) for storage in self.storages])
        # Results leave in batches too, where that is worth it: whoever prunes comes again.
        rest = Retention(history=MANY * DAY, results=age // 2, max_runs=MANY)
        self.same([storage.prune(rest, self.time, limit=MANY) for storage in self.storages])

    @rule(state=st.sampled_from((State.QUEUED, State.FAILED)))
    def die(self, state: State) -> None:
        """The supervisor dies; the next one resolves what it left."""
        for storage in self.storages:
            storage.close()
        dead = self.desks
        self.time += 40 * SECOND  # longer than a lease
        self.enter()
        orphans = [storage.orphans(f"owner-{self.lives}") for storage in self.storages]
        self.same([[(run._replace(seq=0), owner) for run, owner in each] for each in orphans])
        for desk, old, found, claims in zip(self.desks, dead, orphans, self.claims, strict=True):
            claims_of = {claim.id: claim for claim in claims}
            settles = [old.end(claims_of[run.id], state, ended_at=self.time) for run, _ in found]
            assert all(desk.storage.settle(settles))

    # --- what must hold -----------------------------------------------------------------------------

    def same(self, answers: list[Any]) -> None:
        assert answers[0] == answers[1], "\n".join(map(str, answers))

    @invariant()
    def everything_reads_the_same(self) -> None:
        if not hasattr(self, "desks"):
            return
        lists = [storage.runs(RunFilter(limit=1000)) for storage in self.storages]
        self.same([[run._replace(seq=0) for run in runs] for runs in lists])
        self.same([storage.pauses(self.time) for storage in self.storages])
        self.same([storage.revocations(self.time) for storage in self.storages])
        self.same([storage.edges(self.ids) for storage in self.storages])
        self.same([storage.next_ticks() for storage in self.storages])
        for which in (RunFilter(unique=KEYS[0]), RunFilter(pipeline=self.ids[0] if self.ids else "")):
            self.same([[run.id for run in storage.runs(which)] for storage in self.storages])
        self.same([[s.owner.id for s in storage.supervisors(0) if s.alive] for storage in self.storages])
        self.same([without_seqs(storage) for storage in self.storages])
        held = [desk.storage.claimed_by(desk.owner) for desk in self.desks]
        self.same([[claim._replace(seq=0) for claim in claims] for claims in held])

    @invariant()
    def no_lock_has_more_holders_than_slots(self) -> None:
        if hasattr(self, "desks"):
            running = self.storages[0].runs(RunFilter(states=(State.RUNNING,), limit=1000))
            taken = {claim.id for claim in self.claims[0] if claim.refused}
            holders = [run for run in running if run.task in ("dump", "load", "rare") and run.id not in taken]
            assert len(holders) <= 2


def without_seq(answer: Exchange) -> Exchange:
    """The answer without what a storage may number as it likes."""
    return answer._replace(
        claimed=[claim._replace(seq=0) for claim in answer.claimed],
        refused=[settle._replace(seq=0) for settle in answer.refused],
        cancels=[(0, claim_no) for _, claim_no in answer.cancels],
    )


def without_seqs(storage: Storage) -> list[object]:
    """The overview, and every run's attempts."""
    view = storage.overview(NOON + HOUR, tasks=TASKS)
    tasks = [
        (task.task, task.queued, task.running, task.recent, task.typical, task.last and task.last.id)
        for task in view.tasks
    ]
    attempts = [storage.attempts(run.id) for run in storage.runs(RunFilter(limit=1000))]
    return [view.counts, view.oldest_queued, view.day, tasks, attempts]


assert all(LANES[name] == task_lane(name) for name in ("dump", "load", "skip"))
EXAMPLES, MORE = 8, 120  # in an ordinary run, in `make drills`
FEW = 2  # in an ordinary run on a server: each look at everything is many calls
MANY = 10_000


def show_alike(machine: type[SameAnswers], full: bool, examples: int = EXAMPLES) -> None:
    # The ordinary run tells the same stories each time; `make drills` looks for new ones.
    count = MORE if full else examples
    chosen = settings(max_examples=count, stateful_step_count=40, derandomize=not full)
    run_state_machine_as_test(machine, settings=chosen)


def test_sqlite_answers_as_memory_does(full_drills: bool) -> None:
    class OnSqlite(SameAnswers):
        def opener(self) -> Storage:
            return open_storage(f"sqlite:///{self.folder.name}/jobs.db")

    show_alike(OnSqlite, full_drills)


def test_a_folder_answers_as_memory_does(full_drills: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.storage.file.journal.GROWTH", 20_000)  # a new snapshot now and then

    class OnFile(SameAnswers):
        def opener(self) -> Storage:
            return open_storage(f"file:///{self.folder.name}/queue")

    show_alike(OnFile, full_drills)


def test_redis_answers_as_memory_does(redis_url: str, full_drills: bool) -> None:
    class OnRedis(SameAnswers):
        def opener(self) -> Storage:
            url = f"{redis_url}?namespace={self.folder.name.rpartition('/')[2]}"
            return RedisStorage.open(url, server_time=False)

    show_alike(OnRedis, full_drills, FEW)


def test_postgres_answers_as_memory_does(postgres_server: Server, full_drills: bool) -> None:
    class OnPostgres(SameAnswers):
        def opener(self) -> Storage:
            url = postgres_server.url(namespace=self.folder.name.rpartition("/")[2])
            return PostgresStorage.open(url, server_time=False)

    show_alike(OnPostgres, full_drills, FEW)
