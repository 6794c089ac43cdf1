"""What happens in a supervisor, as values. Code emits events; `logs` alone writes words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .difference import Difference
from .durations import Micros
from .model import Claim, Ended, NewRun, Settle


@dataclass(frozen=True, slots=True)
class Ready:
    """The supervisor works: storage open, dead runs recovered, first schedule computed."""

    file: str
    storage: str
    timezone: str
    tasks: int
    schedules: int
    pid: int
    next_task: str | None
    next_at: Micros | None
    silence: Micros | None = None  # since the last supervisor was there; None: there was none, or one is


@dataclass(frozen=True, slots=True)
class StandingBy:
    """Another supervisor works on this storage."""

    storage: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """Runs of dead supervisors were resolved."""

    requeued: int
    failed: int
    ended_processes: int
    left: int  # runs of which a process could not be ended: they are looked at again


@dataclass(frozen=True, slots=True)
class RunBegan:
    """An attempt has begun."""

    task: str
    run_id: str
    attempt: int
    trigger: str


class AttemptEnded(NamedTuple):
    """An attempt is over, and what becomes of its run. A tuple, as all that is made for each run."""

    claim: Claim
    ended: Ended
    settle: Settle


@dataclass(frozen=True, slots=True)
class RunRefused:
    """A run was claimed only to be refused: its lock is busy, and its task does not wait for it."""

    claim: Claim
    settle: Settle

    @property
    def task(self) -> str:
        return self.claim.task


@dataclass(frozen=True, slots=True)
class MapGrown:
    """The members of a `map` over its input are known, and are enqueued with this settle."""

    settle: Settle


@dataclass(frozen=True, slots=True)
class RateReached:
    """Due runs of these tasks were left for the next window of their rate."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TicksAdded:
    """Ticks, those of one write, have become runs (and steps of pipelines), and are in the storage."""

    runs: tuple[NewRun, ...]


@dataclass(frozen=True, slots=True)
class TickRefused:
    """A tick did not run."""

    run: NewRun
    reason: str


@dataclass(frozen=True, slots=True)
class StorageTrouble:
    """The storage does not answer, or refuses; work goes on and completions wait in memory."""

    message: str
    help: str
    retry_in: Micros


@dataclass(frozen=True, slots=True)
class HousekeepingFailed:
    """Something done now and then (retention, a heartbeat, a look) did not go through; it is done again."""

    message: str


@dataclass(frozen=True, slots=True)
class ReceiverSaid:
    """The receivers of signals have written something."""

    text: str


@dataclass(frozen=True, slots=True)
class ReceiverFailed:
    """The worker of the receivers of signals did not hear a notice to its end."""

    error: str


@dataclass(frozen=True, slots=True)
class StorageBack:
    """The storage works again, for all who ask it."""

    after: Micros


@dataclass(frozen=True, slots=True)
class Shortage:
    """Something the service may run out of (disk, descriptors, memory) is nearly used up."""

    kind: str
    words: str
    holds: bool  # nothing is claimed until it is over


@dataclass(frozen=True, slots=True)
class ShortageOver:
    """There is enough of it again."""

    kind: str


@dataclass(frozen=True, slots=True)
class NoWorkers:
    """No worker of this pool starts: its runs wait, and it is tried again and again."""

    pool: str
    why: str


@dataclass(frozen=True, slots=True)
class WorkersAgain:
    """They start again."""

    pool: str


@dataclass(frozen=True, slots=True)
class LeaseLate:
    """The lease could not be renewed for too long: nothing new is started."""

    age: Micros
    left: Micros  # until what runs is ended


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The lease is about to run out: what runs is ended, before others may take it over."""

    running: int


@dataclass(frozen=True, slots=True)
class OwnerVoided:
    """The storage knows this supervisor no more: another one declared it dead, or data was lost."""

    running: int


@dataclass(frozen=True, slots=True)
class GoingOn:
    """The lease is over: this process goes on under a new id, as soon as the storage lets it."""

    unwritten: int  # ends of runs that the new id writes


@dataclass(frozen=True, slots=True)
class Late:
    """A settle whose fence no longer held: the run had been taken over; this completion does not count."""

    task_run: str


@dataclass(frozen=True, slots=True)
class Notified:
    """Somebody was told."""

    task: str
    run_id: str
    occasion: str
    channels: tuple[str, ...]
    more: int  # others of this kind, told by this one


@dataclass(frozen=True, slots=True)
class NotNotified:
    """A notification could not be delivered."""

    task: str
    run_id: str
    occasion: str
    message: str
    retry_in: Micros | None  # None: it is given up


@dataclass(frozen=True, slots=True)
class NoticeLost:
    """A notification that was written down cannot be read: its file is removed, and nobody is told."""

    file: str
    error: str
    content: str  # what can be read of it


@dataclass(frozen=True, slots=True)
class Reloading:
    """Somebody wants a reload: `Reloaded` or `ReloadRefused` follows."""

    by: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What the file says now is in force."""

    file: str
    by: str
    news: Difference
    timezone: str
    fresh: bool  # workers start anew


@dataclass(frozen=True, slots=True)
class ReloadRefused:
    """What the file says now cannot be in force: the last good configuration is."""

    file: str
    problems: str  # as `check` shows them
    again: bool = False  # the same was told by the reload before


@dataclass(frozen=True, slots=True)
class TaskBlocked:
    """A task cannot run: its callable cannot be imported."""

    task: str
    why: str


@dataclass(frozen=True, slots=True)
class TaskFree:
    """The callable of a task that was blocked can be imported now."""

    task: str


@dataclass(frozen=True, slots=True)
class RunsRemoved:
    """Ticks and retries went with the tasks that were removed."""

    count: int


@dataclass(frozen=True, slots=True)
class Stopping:
    """A signal asked for the end."""

    running: int
    patience: Micros


@dataclass(frozen=True, slots=True)
class Hurrying:
    """A second signal shortened the end."""

    running: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """The end of the supervisor."""

    interrupted: int
    stuck: int  # queued runs that nobody here can claim (unknown, paused)
    unwritten: int  # runs whose end is not in the storage: the next start recovers them


Event = (
    Ready
    | StandingBy
    | Recovered
    | RunBegan
    | AttemptEnded
    | RunRefused
    | MapGrown
    | RateReached
    | TicksAdded
    | TickRefused
    | StorageTrouble
    | GoingOn
    | OwnerVoided
    | HousekeepingFailed
    | LeaseEnded
    | LeaseLate
    | ReceiverSaid
    | ReceiverFailed
    | StorageBack
    | Shortage
    | ShortageOver
    | NoWorkers
    | WorkersAgain
    | Late
    | Notified
    | NotNotified
    | NoticeLost
    | Reloading
    | Reloaded
    | ReloadRefused
    | TaskBlocked
    | TaskFree
    | RunsRemoved
    | Stopping
    | Hurrying
    | Stopped
)
Emit = Callable[[Event], None]


def both(first: Emit, second: Emit) -> Emit:
    """Tells two listeners, one after the other."""

    def emit(event: Event) -> None:
        first(event)
        second(event)

    return emit
