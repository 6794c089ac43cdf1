"""The same random calls on SQLite and in memory give the same answers."""

from __future__ import annotations

import tempfile
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobrunner.durations import DAY, HOUR, SECOND
from jobrunner.model import Claim, NewRun, Settle, Started, State, pool_lane, task_lane
from jobrunner.plan import Retention
from jobrunner.storage import Exchange, RunFilter, Storage, TaskRule, Tick, open_storage
from jobrunner.testing.desk import NOON, PLAIN, Desk, a_pause, a_run, locked

TASKS = ("resize", "mail", "dump", "load", "skip", "far")
RULES = {
    "resize": PLAIN,
    "mail": PLAIN,
    "dump": locked("dump", slots=2),
    "load": locked("load", slots=2),  # the same lock as `dump`
    "skip": locked("skip", lock="door", on_busy="skip"),
    "far": TaskRule(pool_lane("other"), "other"),
}
LANES = {name: rule.lane for name, rule in RULES.items()}
STATES = (State.SUCCEEDED, State.FAILED, State.RETRYING, State.QUEUED)
TARGETS = ("all", "pool:default", "pool:other", "task:resize", "task:dump")

numbers = st.integers(min_value=0, max_value=2**30)


class SameAnswers(RuleBasedStateMachine):
    """Two storages, one of them simple enough to be believed."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.urls = (f"sqlite:///{self.folder.name}/jobs.db", "memory://random")
        self.anchor = open_storage("memory://random")
        self.ids: list[str] = []
        self.time = NOON
        self.places = dict.fromkeys("ab", NOON)
        self.claims: tuple[list[Claim], ...] = ([], [])
        self.lives = 0
        self.enter()

    def enter(self) -> None:
        self.lives += 1
        rules = dict(RULES)
        self.desks = [Desk(open_storage(url), f"owner-{self.lives}", rules) for url in self.urls]

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
    ) -> None:
        due = self.time + delay * SECOND
        run = self.new(task, number, priority=priority, payload='"' + "p" * size + '"')
        run = run._replace(
            due_at=due,
            state=State.SCHEDULED if delay else State.QUEUED,
            expires_at=None if patience is None else due + patience * SECOND,
            lane=lane or run.lane,
        )
        self.same([storage.add([run, run]) for storage in self.storages])

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
            changes: dict[str, Any] = {"ended_at": self.time, "started_at": self.time - 5, "follow": follow}
            if claim.refused or (state is State.QUEUED and number % 3 == 0):
                changes |= {"outcome": None, "attempt": claim.attempt - 1, "failures": claim.failures}
            if state is State.RETRYING:
                changes["due_at"] = self.time + 10 * SECOND
            settles.append(desk.end(claim, state, **changes))

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        if self.ids:
            run_id = self.ids[number % len(self.ids)]
            self.same([storage.cancel([run_id], self.time) for storage in self.storages])

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
    )
    def tick(self, key: str, task: str, number: int, lag: int, skips: bool) -> None:
        for storage in self.storages:
            storage.watermarks({key: None}, NOON)
        expected = self.places[key] - lag
        run = self.new(task, number, tick=expected + 1, schedule=key)
        refused = run._replace(state=State.SKIPPED, reason="overlap") if skips else None
        tick = Tick(key, expected, expected + 1, None, run, refused)
        verdicts = [storage.tick([tick]) for storage in self.storages]
        self.same(verdicts)
        self.places[key] = verdicts[0][0].watermark

    @rule(most=st.integers(0, 6), limit=st.integers(1, 4), age=st.sampled_from((0, HOUR, DAY)))
    def prune(self, most: int, limit: int, age: int) -> None:
        retention = Retention(history=age, results=age // 2, max_runs=most)
        self.same([storage.prune(retention, self.time, limit=limit) for storage in self.storages])

    @rule(state=st.sampled_from((State.QUEUED, State.FAILED)))
    def die(self, state: State) -> None:
        """The supervisor dies; the next one resolves what it left."""
        for storage in self.storages:
            storage.close()
        dead = self.desks
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
        self.same([[s.owner.id for s in storage.supervisors(0) if s.alive] for storage in self.storages])
        self.same([without_seqs(storage) for storage in self.storages])

    @invariant()
    def no_lock_has_more_holders_than_slots(self) -> None:
        if hasattr(self, "desks"):
            running = self.storages[0].runs(RunFilter(states=(State.RUNNING,), limit=1000))
            taken = {claim.id for claim in self.claims[0] if claim.refused}
            holders = [run for run in running if run.task in ("dump", "load") and run.id not in taken]
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
SameAnswers.TestCase.settings = settings(max_examples=30, stateful_step_count=40)
TestSameAnswers = SameAnswers.TestCase
