"""Builders of what a storage is given, and a supervisor's side of it: for the facts of the contract."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..catalogue import Catalogue, Entry
from ..durations import SECOND, Micros
from ..ids import new_id
from ..model import (
    Claim,
    Edge,
    NewRun,
    Reason,
    Run,
    Settle,
    Started,
    State,
    Trigger,
    pool_lane,
    task_lane,
)
from ..storage import (
    Exchange,
    ExchangeRequest,
    OwnerInfo,
    OwnerStatus,
    Pause,
    Rules,
    Storage,
    TaskRule,
    Tick,
)

NOON: Micros = 1_795_435_200 * SECOND  # 2026-11-23T12:00:00Z
PATIENCE = 30.0  # seconds; generous, since machines that run tests are often busy with something else

Opener = Callable[[], Storage]

PLAIN = TaskRule(lane=pool_lane("default"), pool="default")


def a_run(task: str = "resize", **changes: Any) -> NewRun:
    """A queued run of a plain task, due at noon."""
    given: dict[str, Any] = {
        "id": new_id(NOON),
        "task": task,
        "state": State.QUEUED,
        "trigger": Trigger.ENQUEUE,
        "lane": pool_lane("default"),
        "pool": "default",
        "due_at": NOON,
        "created_at": NOON,
    }
    return NewRun(**{**given, **changes})


def a_locked_run(task: str, **changes: Any) -> NewRun:
    """A queued run that waits in its task's own lane."""
    return a_run(task, lane=task_lane(task), **changes)


def waiting(*before: NewRun | str, condition: str = "ok", task: str = "resize", **changes: Any) -> NewRun:
    """A run that waits for others."""
    ids = [each if isinstance(each, str) else each.id for each in before]
    return a_run(task, state=State.WAITING, after=tuple(Edge(each, condition) for each in ids), **changes)


def joining(*members: NewRun, join: str = "last", task: str = "report", **changes: Any) -> NewRun:
    """A row that stands for others."""
    return waiting(*members, condition="final", join=join, task=task, **changes)


def a_pipeline(*steps: NewRun, **changes: Any) -> list[NewRun]:
    """A sequence: its root, then its steps, each of which waits for the one before it."""
    root = joining(*steps, **changes)
    chained = [steps[0], *(waits_for(step, before) for before, step in pairwise(steps))]
    return [root, *(_placed(step, root, number) for number, step in enumerate(chained, 1))]


def _placed(step: NewRun, root: NewRun, number: int) -> NewRun:
    return step._replace(pipeline=root.id, pipeline_name=root.task, step=str(number))


def waits_for(run: NewRun, before: NewRun, condition: str = "ok") -> NewRun:
    """The same run, behind another."""
    return run._replace(state=State.WAITING, after=(Edge(before.id, condition),))


def locked(task: str, lock: str = "database", slots: int = 1, on_busy: str = "wait") -> TaskRule:
    """The rule of a task that takes a lock."""
    return TaskRule(task_lane(task), "default", lock, slots, on_busy)


def an_owner(name: str = "owner-1", **changes: Any) -> OwnerInfo:
    """An incarnation of a supervisor."""
    given: dict[str, Any] = {
        "id": name,
        "host": "web1",
        "pid": 4711,
        "process_start": 99,
        "boot_id": "boot",
        "started_at": NOON,
        "config": "/srv/jobs.yaml",
        "config_hash": "abc",
    }
    return OwnerInfo(**{**given, **changes})


A_STATUS = OwnerStatus("abc", NOON, None, False, 2, {"default": 1})


class Desk:
    """A supervisor's side of the storage: claims, and ends what it claimed."""

    def __init__(
        self, storage: Storage, owner: str = "owner-1", rules: Mapping[str, TaskRule] | None = None
    ) -> None:
        self.storage = storage
        self.owner = owner
        self.rules = Rules(tasks={"resize": PLAIN, "mail": PLAIN} if rules is None else rules)
        self.now = NOON
        self.version = -1
        assert storage.enter(an_owner(owner), A_STATUS)
        self.turn(want={})

    def outlive(self) -> None:
        """Let the leases of all others run out, where leases tell who lives; this one is renewed."""
        if self.storage.lease is not None:
            self.now += self.storage.lease
            self.storage.heartbeat(self.owner, A_STATUS, self.now)

    def use(self, **rules: TaskRule) -> None:
        """The rules of a new plan."""
        self.rules = Rules(tasks=rules)

    def turn(
        self,
        settled: Sequence[Settle] = (),
        *,
        started: Sequence[Started] = (),
        want: Mapping[str, int] | None = None,
    ) -> Exchange:
        """One exchange; what it says of the control version is known in the next."""
        request = ExchangeRequest(
            owner=self.owner,
            now=self.now,
            settled=settled,
            started=started,
            want={"default": 10} if want is None else want,
            rules=self.rules,
            control_version=self.version,
        )
        answer = self.storage.exchange(request)
        self.version = answer.control_version
        return answer

    def claim(self, most: int = 10) -> list[Claim]:
        """The runs that one turn claims."""
        return self.turn(want={"default": most}).claimed

    def tasks(self, most: int = 10) -> list[str]:
        """The tasks of the runs that one turn claims."""
        return [claim.task for claim in self.claim(most)]

    def end(self, claim: Claim, state: State = State.SUCCEEDED, **changes: Any) -> Settle:
        """The settle of an attempt that took a second."""
        given: dict[str, Any] = {
            "seq": claim.seq,
            "claim_no": claim.claim_no,
            "owner": self.owner,
            "id": claim.id,
            "state": state,
            "outcome": "ok" if state is State.SUCCEEDED else "exit 1",
            "attempt": claim.attempt,
            "failures": claim.failures + (state is not State.SUCCEEDED),
            "crashes": claim.crashes,
            "due_at": claim.due_at,
            "started_at": NOON,
            "ended_at": NOON + SECOND,
        }
        return Settle(**{**given, **changes})

    def back(self, claim: Claim) -> Settle:
        """The settle of a call that came back before it had begun."""
        attempt = claim.attempt - 1
        return self.end(
            claim, State.QUEUED, outcome=None, attempt=attempt, failures=claim.failures, started_at=None
        )

    def finish(self, run: NewRun, state: State = State.SUCCEEDED, **changes: Any) -> Run:
        """Add a run, claim it, and end it."""
        self.storage.add([run])
        claim = next(each for each in self.claim(1000) if each.id == run.id)
        self.turn([self.end(claim, state, **changes)], want={})
        return self.storage.run(run.id)


def a_pause(target: str, until: Micros | None = None) -> Pause:
    """A pause by somebody."""
    return Pause(target=target, since=NOON, until=until, by="ana", reason="holidays")


def a_tick(place: int) -> Tick:
    """The tick of schedule `a` of `resize`, so many microseconds after noon; skipped on overlap."""
    run = a_run(tick=NOON + place, schedule="a", trigger=Trigger.SCHEDULE)
    refused = run._replace(state=State.SKIPPED, reason=Reason.OVERLAP.value)
    return Tick("a", NOON + place - 1, NOON + place, NOON + place + 1, run, refused)


def a_catalogue(*tasks: str) -> Catalogue:
    """A catalogue with these tasks."""
    entries = {
        name: Entry(name=name, kind="call", pool="default", lane=pool_lane("default"), args=(1, "a"))
        for name in tasks
    }
    return Catalogue(file="/srv/jobs.yaml", hash="abc", timezone="UTC", tasks=entries, schedules=("a",))


def is_readable(storage: Storage, timeout: float = 0.0) -> bool:
    """Whether the wake-up descriptor has something to say."""
    fd = storage.wake_fd()
    assert fd is not None
    return bool(select.select([fd], [], [], timeout)[0])


def in_threads(actions: Sequence[Callable[[], object]]) -> None:
    """Do all of these at the same time; wait for all."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
