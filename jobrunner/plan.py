"""The compiled file as values: tasks, schedules, pools, locks. Made by `config`, read by the supervisor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .durations import DAY, MINUTE, SECOND, Micros
from .model import Policy

MIB = 1024 * 1024


class PoolKind(StrEnum):
    """How the slots of a pool execute."""

    PROCESS = "process"
    THREAD = "thread"
    GREENLET = "greenlet"
    ASYNC = "async"
    COMMAND = "command"


class Overlap(StrEnum):
    """What a tick does while an earlier run of its task is not final (semantics 8)."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """Which of the ticks missed while nobody was there are run (semantics 9)."""

    NONE = "none"
    ONE = "one"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """Tries after the first one, and the delays before them (semantics 12)."""

    max: int = 0
    delay: Micros = 10 * SECOND
    backoff: float = 2.0
    max_delay: Micros = 10 * MINUTE
    jitter: float = 0.1  # a share of the delay: 0.1 is 10 %
    on: tuple[int | str, ...] = ()  # exit codes or exception names; empty: every failure
    not_on: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockUse:
    """The lock that a task's runs hold while they are running."""

    name: str
    on_busy: str = "wait"  # wait | skip | fail


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most so many starts in each fixed window."""

    limit: int
    window: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """While a run with this key is not final, another enqueue is refused, or takes its place."""

    key: str  # may name arguments: "{image}"
    replaces: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRule:
    """How much of an attempt's stdout and stderr is kept, and how long (None: by retention)."""

    max_size: int = 10 * MIB  # bytes
    keep: Micros | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the processes of a command may use (setrlimit(2)); None: as the supervisor itself."""

    nofile: int | None = None  # open files of a process
    nproc: int | None = None  # processes of the user
    cpu: Micros | None = None  # processor time of a process, in whole seconds
    memory: int | None = None  # bytes of address space of a process
    fsize: int | None = None  # bytes of a file that is written
    core: int | None = None  # bytes of a core file


class Occasion(StrEnum):
    """What somebody wants to be told of."""

    FAILURE = "failure"  # a run has failed for good
    RECOVERY = "recovery"  # the first success after a failure
    SUCCESS = "success"
    MISSED = "missed"  # a tick did not run
    LATE = "late"  # a tick's run had not started a minute after it was due
    TEST = "test"  # `jobrunner notify --test`; no file asks for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Who is told of what, and by which channels: at least one of the last three is set."""

    on: tuple[Occasion, ...] = (Occasion.FAILURE, Occasion.RECOVERY)
    mail: tuple[str, ...] = ()  # addresses
    webhook: str | None = None  # URL, JSON by POST
    command: str | tuple[str, ...] | None = None  # text for /bin/sh, or argv; JSON on stdin


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """How mail leaves this machine: by SMTP when there is a host, else by a sendmail."""

    sender: str | None = None  # None: the user of the supervisor
    sendmail: tuple[str, ...] = ("/usr/sbin/sendmail",)
    host: str | None = None
    port: int = 25
    tls: str = "none"  # none | starttls | implicit
    user: str | None = None
    password_file: str | None = None  # read when a mail is sent


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRule:
    """One schedule of a task. `source` and `timezone` go to `Schedule.parse` as they are."""

    key: str  # identity of its watermark: task, text, zone, overriding arguments
    source: str | Mapping[str, object]
    timezone: str
    text: str  # as shown: "30 2 * * *"
    words: str  # as read aloud: "02:30 every day"
    args: tuple[object, ...] | None = None  # None: the task's own
    kwargs: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A definition: what to do, and how. Exactly one of `command` and `call` is set."""

    name: str
    command: str | tuple[str, ...] | None = None  # str: text for `shell`; tuple: argv
    shell: tuple[str, ...] = ("/bin/sh",)
    call: str | None = None  # "package.module:attribute"
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    schedules: tuple[ScheduleRule, ...] = ()
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.ONE
    catch_up_window: Micros = DAY
    catch_up_limit: int = 100
    jitter: Micros = 0
    retries: Retries = Retries()
    timeout: Micros | None = None  # of one attempt
    kill_after: Micros = 10 * SECOND  # from SIGTERM to SIGKILL
    expires: Micros | None = None
    priority: int = 0
    lock: LockUse | None = None
    rate_limit: RateLimit | None = None
    unique: Unique | None = None
    pool: str = "default"
    on_interrupt: str = "requeue"  # requeue | fail
    max_crashes: int = 3
    leftovers: str = "end"  # end | keep
    on_success: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    notify: Notify | None = None
    secrets: tuple[str, ...] = ()  # values that are redacted in what is kept and shown of it
    env: Mapping[str, str] = field(default_factory=dict)  # declared: file's and task's, merged
    cwd: str = "/"
    user: str | None = None  # of a command; None: the supervisor's
    group: str | None = None  # None: the user's
    umask: int | None = None
    nice: int | None = None
    limits: Limits = Limits()
    stdin: str | None = None
    success_codes: tuple[int, ...] = (0,)
    output: OutputRule = OutputRule()
    enabled: bool = True
    description: str = ""
    store_result: bool = True
    result: str = "text"  # text | json: what a command's stdout is
    parameters: tuple[str, ...] | None = None  # argument names of the callable; None: not known, or any
    required: tuple[str, ...] = ()  # those of them that have no default
    blocked: str | None = None  # why it cannot run here
    line: int = 0  # where it is declared

    @property
    def kind(self) -> str:
        return "command" if self.call is None else "call"

    @property
    def policy(self) -> Policy:
        return Policy(
            on_interrupt=self.on_interrupt, max_crashes=self.max_crashes, on_failure=self.on_failure
        )

    @property
    def may_prefetch(self) -> bool:
        """Whether a call may wait in a worker: not if the claim is the start, nor under a lock or a rate."""
        return self.on_interrupt == "requeue" and self.lock is None and self.rate_limit is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A named composition of tasks; scheduled, enqueued, paused and shown like one."""

    name: str
    composition: str  # text of composition.Pipeline
    description: str = ""
    args: tuple[object, ...] = ()  # of its first steps
    kwargs: Mapping[str, object] = field(default_factory=dict)
    schedules: tuple[ScheduleRule, ...] = ()
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.ONE
    catch_up_window: Micros = DAY
    catch_up_limit: int = 100
    jitter: Micros = 0
    priority: int = 0  # of its steps; 0: each task's own
    timeout: Micros | None = None  # of the whole
    unique: Unique | None = None
    notify: Notify | None = None
    env: Mapping[str, str] = field(default_factory=dict)  # the file's, for the command of `notify`
    enabled: bool = True
    blocked: str | None = None
    line: int = 0  # where it is declared

    @property
    def kind(self) -> str:
        return "pipeline"

    @property
    def pool(self) -> str:
        return ""  # its steps have theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A named set of slots of one kind."""

    name: str
    kind: PoolKind = PoolKind.PROCESS
    slots: int = 2
    python: str | None = None  # path of another interpreter
    env: Mapping[str, str] = field(default_factory=dict)
    max_calls: int | None = None  # after so many calls a worker is replaced
    max_age: Micros | None = None  # since its start
    max_memory: int | None = None  # bytes, resident
    on_startup: str | None = None  # "package.module:function", called at the start of each worker
    on_shutdown: str | None = None  # at its orderly end


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished runs, their results and their output are kept."""

    history: Micros = 30 * DAY
    results: Micros = 7 * DAY
    output: Micros = 14 * DAY
    max_runs: int = 100_000


DEFAULT_POOLS: Mapping[str, Pool] = {
    "default": Pool(name="default", kind=PoolKind.PROCESS, slots=2),
    "commands": Pool(name="commands", kind=PoolKind.COMMAND, slots=8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole file, compiled."""

    file: str  # absolute path of the file, "" when there is none
    hash: str  # sha256 of everything that was read, hex
    backend: str  # URL
    timezone: str
    pythonpath: tuple[str, ...] = ()  # absolute
    pools: Mapping[str, Pool] = field(default_factory=lambda: dict(DEFAULT_POOLS))
    locks: Mapping[str, int] = field(default_factory=dict)  # slots
    retention: Retention = Retention()
    mail: Mail = Mail()
    secrets: tuple[str, ...] = ()  # of all tasks: values that no log line may hold
    shutdown_timeout: Micros = 30 * SECOND
    tasks: Mapping[str, Task] = field(default_factory=dict)
    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)  # one namespace with the tasks
    receivers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # module -> signals that it hears
    watched: tuple[str, ...] = ()  # files and patterns whose change is a change of this plan
    fingerprint: str = ""  # of what those files held when they were read
