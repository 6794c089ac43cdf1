"""The storage contract: where runs, results, locks and history are kept.

Atomic are: one settle with its follow-ups; one claim; one `add`; one `tick`. After a claim every write
carries the fence: (seq, claim_no, owner), and the row's state must be `running`.

A method raises `StorageUnavailable` when the same call may work later (locked, full, out of reach) and
`StorageRefused` when a person has to look (damaged, newer schema, read-only). Every method may be called
again after an unknown outcome: adds are idempotent by id, ticks by watermark, settles by fence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..catalogue import Catalogue, Entry
from ..durations import DAY, Micros
from ..errors import JobRunnerError, StorageRefused, UsageError
from ..model import Attempt, Claim, Edge, NewRun, Run, Settle, Started, State
from ..place import shown
from .published import Published

if TYPE_CHECKING:  # a plan is the supervisor's: clients start without it
    from ..plan import Retention

AWAY: Micros = DAY  # how long the schedules and retries of a supervisor are kept whose machine is gone
COUNT_LIMIT = 10_000  # counts are exact up to here; one more means "more"


class TaskRule(NamedTuple):
    """What a claim must know about a task of the plan."""

    lane: str  # pool_lane(pool), or task_lane(name) when the task has a lock or a limit
    pool: str
    lock: str | None = None
    lock_slots: int = 1
    on_busy: str = "wait"  # wait | skip | fail
    rate: Rate | None = None


class Rate(NamedTuple):
    """At most `limit` starts in each window [k * window, (k + 1) * window) since the epoch; retries count."""

    limit: int
    window: Micros


class Rules(NamedTuple):
    """The claim rules of one plan; the same object as long as the plan is in force."""

    tasks: Mapping[str, TaskRule]


class Tick(NamedTuple):
    """A tick (or a gap) to be accounted for: moves the watermark, and adds one row at most."""

    schedule: str  # key
    expected: Micros  # the watermark that the caller knows; another value: nothing is written
    tick: Micros  # the new watermark, > expected
    next_at: Micros | None  # the tick after it, for clients
    run: NewRun | None  # None: another schedule of the task made this very run
    refused: NewRun | None = None  # the skipped row if an earlier run of the task is not final; None: allow
    members: tuple[NewRun, ...] = ()  # `run` is the root of a pipeline: its steps, written with it
    overlap: str = "skip"  # `queue`, `replace`: see `Storage.tick`; else `refused` alone decides


class Verdict(NamedTuple):
    """What became of a `Tick`."""

    watermark: Micros  # the watermark now; not the tick's own when somebody else was faster
    accounted: bool  # this call wrote it
    holder: str | None = None  # id of the run that made it `refused`


class ExchangeRequest(NamedTuple):
    """One turn of the dispatcher."""

    owner: str
    now: Micros  # a storage on a server uses its own time
    settled: Sequence[Settle]
    started: Sequence[Started]
    want: Mapping[str, int]  # pool -> most runs to claim
    rules: Rules
    control_version: int  # the last one this dispatcher has seen


class Exchange(NamedTuple):
    """The answer to one turn."""

    claimed: list[Claim]  # best first, per pool; `refused` ones are to be settled, not started
    refused: list[Settle]  # settles whose fence did not hold and whose row is not final by the same claim
    cancels: list[tuple[int, int]]  # (seq, claim_no) of this owner's runs that a client wants cancelled
    control_version: int  # moved: nothing was claimed this turn
    next_due: Micros | None  # when time changes something: a run due or late, a pause over, a new rate window
    more: bool  # some lane still holds claimable runs
    now: Micros  # the storage's clock
    limited: tuple[str, ...] = ()  # tasks whose due runs were left for the next window of their rate


class OwnerInfo(NamedTuple):
    """One incarnation of a supervisor."""

    id: str
    host: str
    pid: int
    process_start: int  # clock ticks since boot (/proc/PID/stat, field 22)
    boot_id: str  # where the pid means a process: `machine.pid_space`
    started_at: Micros
    config: str  # path of the file
    config_hash: str


class OwnerStatus(NamedTuple):
    """What a supervisor reports of itself with each heartbeat."""

    config_hash: str
    config_loaded_at: Micros
    config_error: str | None
    draining: bool
    workers: int
    busy: Mapping[str, int]  # pool -> busy slots
    untold: int = 0  # notifications that could not be delivered so far
    untold_because: str | None = None
    trouble: str | None = None  # why nothing is claimed at present
    stalled: Mapping[str, str] | None = None  # pools whose workers do not start, and why: their runs wait
    alone: bool = False  # nobody enters beside it: what it moves must stand still


class Supervisor(NamedTuple):
    """A supervisor, as clients see it."""

    owner: OwnerInfo
    status: OwnerStatus
    heartbeat_at: Micros
    left_at: Micros | None  # orderly end
    alive: bool


class Pause(NamedTuple):
    """A pause of a task (`task:NAME`), a pool (`pool:NAME`) or everything (`all`)."""

    target: str
    since: Micros
    until: Micros | None
    by: str
    reason: str


class Revocation(NamedTuple):
    """A mark that a claim looks at: what would start is cancelled instead, in that write, as `revoked`.

    A step meets the marks of its pipeline too (`run:ROOT`, `task:PIPELINE`): they cancel the whole of it.
    """

    target: str  # `run:ID` or `task:NAME`
    since: Micros
    until: Micros | None = None  # in force before it
    once: bool = False  # the first run that it ends uses it up
    by: str = ""


class RunFilter(NamedTuple):
    """Which runs to list, newest first (by order of enqueue)."""

    tasks: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    triggers: tuple[str, ...] = ()
    since: Micros | None = None  # created at or after
    until: Micros | None = None  # created before
    limit: int = 50
    pipeline: str | None = None  # id of a root: the root itself and its steps
    unique: str | None = None  # `unique_key(...)`: the run that holds it


class TaskSummary(NamedTuple):
    """What `status` shows of a task."""

    task: str
    queued: int
    running: int  # of a pipeline: its unfinished roots
    waiting_retry: Run | None  # a run in `retrying`
    current: Run | None  # the oldest running one
    last: Run | None  # the latest that has finished and was not skipped
    recent: tuple[tuple[State, int], ...] = ()  # (state, failures) of the last finished ones, oldest first
    typical: Micros | None = None  # median duration of the recent successes


class DayStats(NamedTuple):
    """Runs that finished in the last 24 hours."""

    ok: int
    failed: int
    retried: int


class Overview(NamedTuple):
    """Counts of the whole storage, exact up to COUNT_LIMIT."""

    counts: Mapping[State, int]
    oldest_queued: Micros | None  # due_at of the oldest queued run
    day: DayStats
    size: int  # bytes
    tasks: tuple[TaskSummary, ...] = ()


class ClientStorage(Protocol):
    """The half of a storage that clients use; no call needs a supervisor to be alive.

    A waiting run (its `after` edges, model.Edge) is resolved by `edges.resolve`, in the very write that
    makes the last of its predecessors final, whatever made that final: a settle, a cancel, an expiry, an
    add of runs whose predecessors are final already. What becomes final thereby resolves others in turn.
    """

    url: str

    # --- writes ---------------------------------------------------------------------------------------

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        """Add runs, all in one write, and wake the supervisor.

        False: a run with this id is there already, or its unique key is held by a run that is not final
        (then none of the runs of its pipeline is added either: they follow their root in `runs`). A run
        that `replaces` is added in any case: a holder that is not running is cancelled (`superseded`), a
        running one (of a pipeline: one of whose steps was claimed) goes on without the key. Follow-ups of a
        settle are added like this too.
        """
        ...

    def add_if(self, runs: Sequence[NewRun], marks: Mapping[str, str]) -> list[bool] | None:
        """`add`, if what is published about these tasks at that moment is what the marks stand for.

        `marks`: task -> mark, as `published` told it. None: it is something else, and nothing was added.
        """
        ...

    def cancel(self, run_ids: Sequence[str], now: Micros, *, reason: str = "cancelled") -> list[bool]:
        """End runs that are not running at once (state cancelled); mark running ones for their supervisor.

        A run that stands for others (`join`) ends by that all that are below it (its edges, and theirs
        where they are joins), and then itself: state cancelled, or failed with the outcome `timeout` when
        that is the reason (of those below: `cancelled`). The first reason stays. False: final already.
        """
        ...

    def pause(self, pause: Pause) -> None:
        """Pause a task, a pipeline, a pool or all; moves the control version."""
        ...

    def resume(self, target: str) -> bool:
        """End a pause; False when there was none. Moves the control version."""
        ...

    def pauses(self, now: Micros) -> list[Pause]:
        """The pauses that end after `now`; one that is over stays known until the next of its target."""
        ...

    def revoke(self, revocation: Revocation) -> None:
        """Set the mark; it replaces an earlier one of the same target."""
        ...

    def restore(self, target: str) -> bool:
        """Take the mark away; False when there was none."""
        ...

    def revocations(self, now: Micros) -> list[Revocation]:
        """The marks in force at `now`."""
        ...

    # --- reads ----------------------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        """The run with this id, or with this unique beginning or ending. Raises NotFound, AmbiguousRun."""
        ...

    def runs(self, which: RunFilter) -> list[Run]: ...

    def attempts(self, run_id: str) -> list[Attempt]:
        """All attempts of a run, oldest first, the current one included."""
        ...

    def edges(self, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
        """The edges of these runs, for each that has some."""
        ...

    def wait(self, run_id: str, timeout: float | None) -> Run:
        """Block until the run is final or `timeout` seconds have passed; the run as it is then."""
        ...

    def overview(self, now: Micros, *, tasks: Sequence[str] | None = None, recent: int = 20) -> Overview:
        """What `status` shows; `tasks` None: all that the catalogue has."""
        ...

    def catalogue(self) -> Catalogue | None:
        """The newest published catalogue; where several supervisors live, what all of them know."""
        ...

    def entry(self, task: str) -> Entry | None:
        """One task of the catalogue."""
        ...

    def published(self, task: str) -> Published:
        """The same, with the mark by which `add_if` knows it again."""
        ...

    def next_ticks(self) -> dict[str, Micros | None]:
        """Schedule key -> next tick."""
        ...

    def supervisors(self, now: Micros) -> list[Supervisor]:
        """The supervisors known here, those alive first, then the newest."""
        ...

    def close(self) -> None: ...


class Storage(ClientStorage, Protocol):
    """A storage, whole: clients use the same object as the supervisor."""

    lease: Micros | None  # how long an owner is believed alive after a heartbeat; None: an OS lock tells

    # --- schedules ------------------------------------------------------------------------------------

    def watermarks(self, keys: Mapping[str, Micros | None], now: Micros) -> dict[str, Micros]:
        """The watermark of every schedule named (with its next tick for clients).

        A schedule never seen before gets `now` as its watermark: nothing before it is ever caught up.
        """
        ...

    def tick(self, ticks: Sequence[Tick]) -> list[Verdict]:
        """Account for ticks, each atomically and all in one write.

        If the watermark is `expected`, it moves to `tick` and one row is added (a pipeline's root with its
        `members`): `run`, or `refused` when that is given and a run of the task holds. What holds: queued,
        running, retrying, scheduled with a tick of its own, or the unfinished root of a pipeline; not one
        dated for later by hand, nor a waiting run (semantics 8).

        `overlap` "queue" and runs hold: the tick's run waits (WAITING, with a `final` edge to each holder;
        of a pipeline its members without edges do), and the one that waited so before it is cancelled:
        `superseded`. "replace": the holders are cancelled (`superseded`), and the run waits for those that
        were running. The verdict names the holder that was enqueued first.

        A tick whose run is there already (another schedule's) does nothing of this. A run whose unique key
        is held is added without it.
        """
        ...

    # --- the supervisor -------------------------------------------------------------------------------

    def enter(self, owner: OwnerInfo, status: OwnerStatus) -> bool:
        """Become an owner. False: another supervisor works here; stand by and try again.

        Where leases tell, several work side by side, unless one of them is `alone`: that one enters only
        where nobody lives, and nobody enters beside it.
        """
        ...

    def heartbeat(self, owner: str, status: OwnerStatus, now: Micros) -> None:
        """Report that the owner lives. Raises OwnerLost when it was voided."""
        ...

    def leave(self, owner: str, now: Micros) -> None:
        """End an ownership in order; releases what `enter` took."""
        ...

    def publish(self, owner: str, catalogue: Catalogue, *, keep: Sequence[str], now: Micros) -> None:
        """Replace this owner's catalogue; forgets the watermarks of all schedules but those in `keep`
        (and, where several supervisors live, those in the catalogues of the others).

        Of tasks that no live owner's catalogue has, retries and ticks that do not run are cancelled with the
        reason `removed` (semantics 20); not a pipeline that has begun. Where leases tell who lives, the
        catalogue of an owner that is gone counts for a day, unless another works on its machine for the
        same file: what a machine has that is away is neither removed nor forgotten.
        """
        ...

    def exchange(self, request: ExchangeRequest) -> Exchange:
        """One turn: fenced settles with follow-ups, start marks, promotion of what is due, expiry, claims.

        Raises OwnerLost when the owner is not in force. If the control version has moved since the
        request's, nothing is claimed this turn. Expiry ends queued runs that were not started in time, and
        cancels unfinished pipelines whose `expires_at` has come (reason `timeout`).
        """
        ...

    def orphans(self, owner: str) -> list[tuple[Run, OwnerInfo]]:
        """Running runs whose owner is dead, with that owner; at once where an OS lock proves the death.

        Where leases tell, this voids the dead owners (it steals leases that have run out): whatever they
        still write is refused by the fence.
        """
        ...

    def settle(self, settles: Sequence[Settle]) -> list[bool]:
        """Write settles of dead owners (recovery), each under the fence of its own `owner` field."""
        ...

    def claimed_by(self, owner: str) -> list[Claim]:
        """The rows running under this owner: what to adopt after an unknown outcome."""
        ...

    def acquire(self, owner: str, seq: int, claim_no: int, lock: str, slots: int) -> bool:
        """Give a running run one more lock, if one of its slots is free; True too when it has it already.

        It ends with the run's attempt, like the run's own lock (semantics 17). False as well when the
        fence does not hold.
        """
        ...

    def release(self, owner: str, seq: int, claim_no: int, lock: str) -> bool:
        """Take that lock away again; False when the run does not hold it."""
        ...

    def prune(self, retention: Retention, now: Micros, *, limit: int = 1000) -> list[str]:
        """Remove at most `limit` finished runs past the retention (and results past theirs).

        What belongs to a pipeline is kept as long as any of it is not final, and goes with the root. Gives
        the ids of the runs removed, whose output files are the caller's to remove: by the moment of their
        end, after each root what belongs to it. `limit` and the number of runs to keep count the latter
        too, but no pipeline is removed by halves.
        """
        ...

    # --- wake-ups -------------------------------------------------------------------------------------

    def wake_fd(self) -> int | None:
        """A descriptor that becomes readable when somebody added or changed something; None: only polling."""
        ...

    def woken(self) -> None:
        """Empty the descriptor."""
        ...

    def changed(self) -> bool:
        """Whether somebody else wrote since the last call: the net under the wake-ups, cheap."""
        ...


def open_storage(url: str, *, create: bool = True) -> Storage:
    """Open the storage that a URL names: `sqlite:///path`, `postgresql://host/database`, `redis://host`,
    `memory://`, or somebody's own.

    A scheme that is not ours is looked for among the entry points of the group `jobrunner.storages`: a
    function that takes the URL and `create`, and gives a `Storage`.

    `create=False` refuses to make what is not there (a client's typing error must not create a database).
    Raises StorageRefused or StorageUnavailable, and UsageError for an unknown scheme.
    """
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        from .sqlite import SqliteStorage

        return SqliteStorage.open(url, create=create)
    if scheme == "memory":
        from .memory import MemoryStorage

        return MemoryStorage(url)
    if scheme == "file":
        from .file import FileStorage

        return FileStorage.open(url, create=create)
    if scheme in ("redis", "rediss", "unix"):
        from .redis import open_redis

        return open_redis(url)
    if scheme in ("postgresql", "postgres"):
        from .postgres import open_postgres

        return open_postgres(url, create=create)
    return _open_foreign(scheme, url, create=create)


def _open_foreign(scheme: str, url: str, *, create: bool) -> Storage:
    """A storage that somebody else has written."""
    from importlib.metadata import entry_points  # no client of ours pays for it

    for found in entry_points(group="jobrunner.storages", name=scheme):
        try:
            opened: Storage = found.load()(url, create=create)
        except JobRunnerError:
            raise
        except Exception as error:  # the code of somebody else
            raise StorageRefused(
                f"the storage {scheme}:// ({found.value}) cannot be opened: {type(error).__name__}: {error}",
                help="look at the package that brings it",
            ) from error
        return opened
    raise UsageError(
        f"unknown storage scheme {scheme!r} in {shown(url)!r}",
        help="write sqlite:///PATH, file:///FOLDER, postgresql://HOST/DATABASE, redis://HOST or memory://",
    )
