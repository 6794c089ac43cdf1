"""The words of the system as values: states, runs, attempts, and the messages around a claim.

Instants are integer microseconds since the Unix epoch (UTC), durations are integer microseconds
(`Micros`). Values on the hot path, and those that every client loads, are named tuples: a dataclass costs
its import a millisecond or more. The others are frozen dataclasses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from .durations import Micros


class State(StrEnum):
    """The states of a run; who moves a run on is said beside each."""

    WAITING = "waiting"  # the completion of its predecessors
    SCHEDULED = "scheduled"  # time: due at `due_at`
    QUEUED = "queued"  # a supervisor that claims it; or time, when `expires_at` passes
    RUNNING = "running"  # its supervisor; or recovery
    RETRYING = "retrying"  # time: the retry delay
    SUCCEEDED = "succeeded"  # final
    FAILED = "failed"  # final
    CANCELLED = "cancelled"  # final
    EXPIRED = "expired"  # final
    SKIPPED = "skipped"  # final

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED, State.SKIPPED})


class Trigger(StrEnum):
    """Why a run exists."""

    SCHEDULE = "schedule"
    ENQUEUE = "enqueue"
    PIPELINE = "pipeline"
    CALLBACK = "callback"
    RETRY = "retry"
    CATCH_UP = "catch-up"


class Reason(StrEnum):
    """Why a run ended otherwise than by its own attempt, or did not run."""

    OVERLAP = "overlap"
    MISSED_DOWN = "missed (supervisor down)"
    MISSED_SUSPENDED = "missed (suspended)"
    MISSED_CLOCK = "missed (clock)"
    MISSED_HELD_UP = "missed (held up)"  # it was there, and came to it late: a storage that did not answer
    PAUSED = "paused"
    DISABLED = "disabled"
    REMOVED = "removed"
    BLOCKED = "blocked"
    UNKNOWN_TASK = "unknown task"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CANCELLED = "cancelled"
    LOCK_BUSY = "lock busy"
    SUPERSEDED = "superseded"
    UPSTREAM_FAILED = "upstream failed"
    TOO_MANY_CRASHES = "too many crashes"
    INTERRUPTED = "interrupted"


MISSED = frozenset({Reason.MISSED_DOWN, Reason.MISSED_SUSPENDED, Reason.MISSED_CLOCK, Reason.MISSED_HELD_UP})


class Ending(StrEnum):
    """How an attempt ended, without its detail (`exit` without the code)."""

    OK = "ok"
    EXIT = "exit"  # a command's exit code, or a callable that ends its process with one
    SIGNAL = "signal"  # a command's death by a signal
    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    CRASHED = "crashed"  # a signal killed the worker under the call
    INTERRUPTED = "interrupted"  # the supervisor stopped, died or lost its lease
    CANCELLED = "cancelled"
    COULD_NOT_START = "could not start"
    NOT_STORABLE = "result not storable"
    BAD_ARGUMENTS = "bad arguments"
    RETRY_ASKED = "retry asked"  # the task raised RetryRun
    RECALLED = "recalled"  # the call came back before it had started: no attempt


class Ended(NamedTuple):
    """The end of one attempt, as an executor saw it."""

    ending: Ending
    started_at: Micros | None = None
    ended_at: Micros = 0
    result: str | None = None  # encoded (codec), None: no result to keep
    error: str | None = None  # text: message and, for exceptions, the traceback
    exit_code: int | None = None
    signal: str | None = None  # "SIGKILL"
    exception: str | None = None  # the type's name: "ValueError"
    exceptions: tuple[str, ...] = ()  # names of the type and its bases, for `on` / `not_on`
    retry: bool | None = None  # CancelRun(retry=...)
    delay: Micros | None = None  # RetryRun(delay=...)
    pid: int | None = None
    output: str | None = None  # JSON {"stdout": bytes, "stderr": bytes, "dropped": bytes}

    @property
    def outcome(self) -> str:
        """The outcome in words: `ok`, `exit 3`, `signal SIGKILL`, `exception ValueError`, ..."""
        if self.ending is Ending.EXIT:
            return f"exit {self.exit_code}"
        if self.ending is Ending.SIGNAL:
            return f"signal {self.signal}"
        if self.ending is Ending.EXCEPTION:
            return f"exception {self.exception}"
        return self.ending.value


class NewRun(NamedTuple):
    """A run to be added. `state` is scheduled, queued, or (a tick that does not run) skipped."""

    id: str
    task: str
    state: State
    trigger: Trigger
    lane: str  # see `pool_lane`, `task_lane`
    pool: str
    due_at: Micros
    created_at: Micros
    payload: str = '{"args":[],"kwargs":{}}'  # encoded arguments (codec)
    priority: int = 0
    expires_at: Micros | None = None  # bounds the first start
    schedule: str | None = None  # key of the schedule
    tick: Micros | None = None  # nominal instant
    missed: int = 0  # missed ticks this run stands for, itself included
    reason: str | None = None
    policy: str | None = None  # JSON of Policy; None: all defaults. What recovery needs, copied here
    options: str | None = None  # JSON of Options; None: the task's own
    cause: str | None = None  # JSON of Cause: the run whose end enqueued this one
    detail: str | None = None  # JSON: holder of an overlap, from/to/count of folded misses, origin of a retry
    unique: str | None = None  # `unique_key(task, key)`: held until the run is final
    replaces: bool = False  # takes the key over from its holder, instead of being refused
    after: tuple[Edge, ...] = ()  # WAITING: what it waits for; in the order of its inputs
    join: str | None = (
        None  # a Join: a row that stands for others, is never claimed, ends when they have ended
    )
    pipeline: str | None = None  # id of the root of its pipeline; None for a root and for a plain run
    pipeline_name: str | None = None  # the root's task: a step follows its pauses
    step: str | None = None  # place in the pipeline: "2", "2.1"; the part before the last dot is its parent's
    compose: str | None = None  # JSON, see `composition`: how its input is made at the claim
    result: str | None = None  # of a step that is succeeded from birth: reused by a retry (semantics 36)


class Edge(NamedTuple):
    """What a waiting run waits for: that another run is final, and how it ended."""

    run_id: str
    condition: str  # a Condition


class Condition(StrEnum):
    """When an edge lets its run go on. An end that can no longer fit settles the waiting run."""

    OK = "ok"  # succeeded; else the waiting run is skipped: `upstream failed`
    FINAL = "final"  # ended in whatever way, or not there (any more)
    FAILED = "failed"  # failed or expired; else the waiting run was for nothing and its row is removed


class Join(StrEnum):
    """How a row that stands for others ends, once all of them are final (semantics 35)."""

    LAST = "last"  # a sequence: all succeeded, its result is the last one's; else failed: `upstream failed`
    LIST = "list"  # a parallel: all succeeded, its result is the list of theirs; else failed
    LIST_ANY = "list-any"  # the same, succeeded in any case, with a `Failure` in the place of what failed


class Input(NamedTuple):
    """The end of a predecessor, as the claim of its successor (or its join) gets it."""

    run_id: str
    task: str
    state: State
    condition: str  # of the edge
    result: str | None  # encoded; None: there is none (any more)
    reason: str | None
    outcome: str | None
    error: str | None
    exit_code: int | None
    attempt: int


class Failure(NamedTuple):
    """What stands in a list of results in the place of a member that did not succeed."""

    task: str
    run_id: str
    state: str
    reason: str  # the reason if there is one, else the outcome
    error: str | None = None


class Claim(NamedTuple):
    """A claimed run, as the dispatcher gets it from an exchange."""

    seq: int
    id: str
    task: str
    claim_no: int
    attempt: int  # number of the attempt that this claim starts, from 1
    failures: int
    crashes: int
    payload: str
    priority: int
    due_at: Micros
    created_at: Micros
    trigger: str
    pool: str
    tick: Micros | None
    missed: int
    policy: str | None
    options: str | None
    cause: str | None
    refused: str | None = None  # a Reason: claimed only to be settled (lock busy), never started
    pipeline: str | None = None
    pipeline_name: str | None = None
    step: str | None = None
    compose: str | None = None
    inputs: tuple[Input, ...] = ()  # of its edges, in their order; only when `compose` is given


class Settle(NamedTuple):
    """The next row of a claimed run. It is written only if the fence (seq, claim_no, owner) still holds.

    A non-final settle whose `outcome` is not None leaves its attempt in the attempts' history.
    """

    seq: int
    claim_no: int
    owner: str
    id: str
    state: State
    outcome: str | None
    attempt: int
    failures: int
    crashes: int
    due_at: Micros
    started_at: Micros | None
    ended_at: Micros
    reason: str | None = None
    result: str | None = None
    error: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    pid: int | None = None
    output: str | None = None
    follow: tuple[NewRun, ...] = ()  # callbacks; their ids are derived, so a repeated settle adds nothing
    join: str | None = None  # WAITING only: the claimed run has grown (`map` over input) and joins these now:
    after: tuple[Edge, ...] = ()  # ... its new edges, to runs in `follow`; they replace the old ones


class Started(NamedTuple):
    """The mark that an attempt's start was reported."""

    seq: int
    claim_no: int
    owner: str
    started_at: Micros
    pid: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What recovery must know about a run without any plan; it lies in the run's row."""

    on_interrupt: str = "requeue"  # or "fail"
    max_crashes: int = 3
    on_failure: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an enqueuer overrode for one run."""

    timeout: Micros | None = None
    retries: int | None = None
    retry_delay: Micros | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The finished run that enqueued a callback: what its `JOBRUNNER_FAILED_*` variables say."""

    task: str
    run_id: str
    state: str
    reason: str  # the reason if there is one, else the outcome
    exit_code: int | None = None
    output_tail: str = ""


class Run(NamedTuple):
    """A run's row, as clients see it. `outcome` ... `pid` describe its latest attempt."""

    seq: int
    id: str
    task: str
    state: State
    reason: str | None
    trigger: Trigger
    schedule: str | None
    tick: Micros | None
    missed: int
    due_at: Micros
    created_at: Micros
    started_at: Micros | None
    finished_at: Micros | None
    expires_at: Micros | None
    claim_no: int
    attempt: int  # attempts started so far
    failures: int
    crashes: int
    priority: int
    pool: str
    lane: str
    owner: str | None
    host: str | None
    pid: int | None
    outcome: str | None
    exit_code: int | None
    signal: str | None
    error: str | None
    result: str | None  # encoded
    payload: str  # encoded
    policy: str | None
    options: str | None
    cause: str | None
    detail: str | None
    output: str | None
    cancel_requested: bool = False
    unique: str | None = None
    join: str | None = None
    pipeline: str | None = None
    pipeline_name: str | None = None
    step: str | None = None
    compose: str | None = None


class Attempt(NamedTuple):
    """One try of a run."""

    run_id: str
    number: int
    outcome: str | None  # None: still going
    started_at: Micros | None
    ended_at: Micros | None
    exit_code: int | None
    signal: str | None
    error: str | None
    host: str | None
    pid: int | None
    output: str | None


def unique_key(task: str, key: str) -> str:
    """The name under which a run holds a unique key: keys of different tasks never meet."""
    return f"{task}:{key}"


def pool_lane(pool: str) -> str:
    """The lane in which the plain runs of a pool wait."""
    return f"pool:{pool}"


def task_lane(task: str) -> str:
    """The lane of a task that is limited, paused or unknown."""
    return f"task:{task}"


def paused_lane(pipeline: str) -> str:
    """The lane in which the steps of a paused pipeline wait, whatever their tasks."""
    return f"paused:{pipeline}"
