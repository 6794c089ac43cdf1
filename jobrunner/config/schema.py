"""The keys of jobs.yaml as pydantic models: None means that a key was not given, or was given as null."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from .kinds import (
    NAME,
    Address,
    Addresses,
    Arguments,
    Backoff,
    Call,
    Command,
    Duration,
    Environment,
    ExitCodes,
    FilePath,
    FilePaths,
    Filled,
    Flag,
    Keywords,
    Kind,
    Name,
    Names,
    Percent,
    Period,
    Reasons,
    Seconds,
    Server,
    Shell,
    Size,
    Text,
    Umask,
    Url,
    choice,
    extras,
    named,
    one_or_list,
    retries_mapping,
    whole,
)
from .unique import rate

STRICT = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)

Count: TypeAlias = Annotated[int, whole(0, 1_000_000)]
Positive: TypeAlias = Annotated[int, whole(1, 1_000_000_000)]
Slots: TypeAlias = Annotated[int, whole(1, 10_000)]
Priority: TypeAlias = Annotated[int, whole(-1_000_000, 1_000_000)]
Files: TypeAlias = Annotated[int, whole(3, 1_000_000_000)]  # stdin, stdout and stderr are three
Processes: TypeAlias = Annotated[int, whole(1, 4_194_304)]  # the kernel has no more process ids
Nice: TypeAlias = Annotated[int, whole(-20, 19)]
Crashes: TypeAlias = Annotated[int, whole(0, 1000)]
Overlap: TypeAlias = Annotated[str, choice("skip", "queue", "replace", "allow")]
CatchUp: TypeAlias = Annotated[str, choice("none", "one", "all")]
OnBusy: TypeAlias = Annotated[str, choice("wait", "skip", "fail")]
OnConflict: TypeAlias = Annotated[str, choice("refuse", "replace")]
OnInterrupt: TypeAlias = Annotated[str, choice("requeue", "fail")]
Leftovers: TypeAlias = Annotated[str, choice("end", "keep")]
ResultForm: TypeAlias = Annotated[str, choice("text", "json")]
Tls: TypeAlias = Annotated[str, choice("none", "starttls", "implicit")]
Occasions: TypeAlias = Annotated[
    list[Annotated[str, choice("failure", "recovery", "success", "missed", "late")]],
    Kind(
        one_or_list,
        "list of `failure` `recovery` `success` `missed` `late`",
        {
            "type": "array",
            "items": {"enum": ["failure", "recovery", "success", "missed", "late"]},
        },
    ),
]
PoolKindName: TypeAlias = Annotated[str, choice("process", "thread", "greenlet", "async", "command")]


def option(description: str, *examples: object, default: str | None = None) -> Any:
    """A key that may be left out: its meaning, examples, and what holds without it, in words."""
    extra: dict[str, Any] | None = {"default": default} if default is not None else None
    return Field(
        default=None, description=description, examples=list(examples) or None, json_schema_extra=extra
    )


class RetriesModel(BaseModel):
    """Tries after the first one, and the delays before them."""

    model_config = STRICT

    max: Count | None = option("How often to try again", 3, default="0")
    delay: Duration | None = option("Delay before the first retry", "10s", default="10s")
    backoff: Backoff | None = option("Factor from each delay to the next", 2, default="2")
    max_delay: Duration | None = option("No delay is longer than this", "5m", default="10m")
    jitter: Percent | None = option("Random part of each delay", "10%", default="10%")
    on: Reasons | None = option("Retry only after these exit codes and exceptions", [75, "OSError"])
    not_on: Reasons | None = option("Never retry after these", ["ValueError"])


class LockModel(BaseModel):
    """The lock that runs of a task hold while they are running."""

    model_config = STRICT

    name: Name = Field(description="Name of the lock", examples=["database"])
    on_busy: OnBusy | None = option(
        "What a run does while the lock is held: wait, end as skipped, or fail", "skip", default="wait"
    )


class UniqueModel(BaseModel):
    """The key of a run: while another run of the task has it and is not over, an enqueue is refused."""

    model_config = STRICT

    key: Filled = Field(description="The key; may name arguments", examples=["{image}"])
    on_conflict: OnConflict | None = option(
        "Refuse the new run, or let it take the place of one that waits", "replace", default="refuse"
    )


class OutputModel(BaseModel):
    """How much of an attempt's stdout and stderr is kept, and how long."""

    model_config = STRICT

    max_size: Size | None = option(
        "Most that is kept of one attempt: head and tail", "10MiB", default="10MiB"
    )
    keep: Period | None = option("How long it is kept", "30d", default="as `retention` says")


class LimitsModel(BaseModel):
    """What the processes of a command may use at most."""

    model_config = STRICT

    nofile: Files | None = option("Open files of a process", 4096, default="as the supervisor")
    nproc: Processes | None = option(
        "Processes and threads of the user, all counted together", 200, default="as the supervisor"
    )
    cpu: Seconds | None = option(
        "Processor time of a process; then SIGXCPU, and SIGKILL 5 s later", "10m", default="as the supervisor"
    )
    memory: Size | None = option("Address space of a process", "2GiB", default="as the supervisor")
    fsize: Size | None = option(
        "Size of a file that a process writes; then SIGXFSZ", "1GiB", default="as the supervisor"
    )
    core: Size | None = option("Size of a core file", 0, default="as the supervisor")


class NotifyModel(BaseModel):
    """Who is told of what, and by which channels."""

    model_config = STRICT

    on: Occasions | None = option("Of what", ["failure", "missed"], default="`[failure, recovery]`")
    mail: Addresses | None = option("Mail to these addresses", "ops@example.com")
    webhook: Url | None = option("A JSON document by POST to this URL", "https://chat.example.com/hook")
    command: Command | None = option(
        "A command that gets the JSON document on its stdin", "/usr/local/bin/page"
    )


class MailModel(BaseModel):
    """How mail leaves this machine."""

    model_config = STRICT

    sender: Address | None = option(
        "Address that mail comes from", "jobs@example.com", default="USER@HOST of the service"
    )
    smtp: Server | None = option(
        "Server that takes mail; the port is 25 unless it says otherwise",
        "mail.example.com:587",
        default="none: mail goes by `sendmail`",
    )
    tls: Tls | None = option(
        "Encryption of the connection to `smtp`",
        "starttls",
        default="`starttls` on port 587, `implicit` on 465, else `none`",
    )
    user: Filled | None = option("User name for `smtp`", "jobs", default="none: no login")
    password_file: FilePath | None = option(
        "File with the password of `user`, read whenever a mail is sent", "/run/secrets/smtp"
    )
    sendmail: Shell | None = option(
        "Command line that takes a mail on stdin and its addresses as arguments",
        "msmtp -a jobs",
        default="/usr/sbin/sendmail",
    )


_SCHEDULE_TEXT: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "examples": ["*/5 * * * *", "30 2 * * *", "daily", "every 90s", "reboot"],
}
_SCHEDULE_MAPPING = extras(
    {
        "cron": {"type": "string", "description": "Five cron fields", "examples": ["30 2 * * *"]},
        "every": {"type": ["string", "number"], "description": "Elapsed time", "examples": ["90s"]},
        "offset": {"type": ["string", "number"], "description": "Shifts the ticks of `every`"},
        "at": {"type": "string", "description": "One moment", "examples": ["2026-12-24T18:00"]},
        "seconds": {"type": ["string", "integer"], "description": "Seconds of a cron schedule"},
        "days": {"enum": ["any", "all"], "description": "Whether one or both day fields must match"},
        "timezone": {"type": "string", "description": "Zone of this schedule", "examples": ["UTC"]},
        "args": {"type": "array", "description": "Arguments of the runs of this schedule"},
        "kwargs": {"type": "object", "description": "Keyword arguments of the runs of this schedule"},
    }
)
_SCHEDULE = {"anyOf": [_SCHEDULE_TEXT, _SCHEDULE_MAPPING]}
Schedules: TypeAlias = Annotated[
    list[Any],
    Kind(
        one_or_list,
        "one schedule or a list of them",
        {"anyOf": [_SCHEDULE_TEXT, _SCHEDULE_MAPPING, {"type": "array", "items": _SCHEDULE}]},
    ),
]
Retrying: TypeAlias = Annotated[
    RetriesModel,
    Kind(
        retries_mapping,
        "whole number, or `{max, delay, backoff, max_delay, jitter, on, not_on}`",
        {"anyOf": [{"type": "integer", "minimum": 0}, {"definition": "RetriesModel"}]},
    ),
]
Lock: TypeAlias = Annotated[
    LockModel,
    Kind(
        named("name"),
        "name, or `{name, on_busy}`",
        {"anyOf": [{"type": "string", "pattern": f"^{NAME.pattern}$"}, {"definition": "LockModel"}]},
    ),
]


Unique: TypeAlias = Annotated[
    UniqueModel,
    Kind(
        named("key"),
        "text, or `{key, on_conflict}`",
        {"anyOf": [{"type": "string", "minLength": 1}, {"definition": "UniqueModel"}]},
    ),
]
RateText: TypeAlias = Annotated[
    str, Kind(rate, "`N/duration`", {"type": "string", "pattern": "^[0-9]+\\s*/\\s*\\S+$"})
]


class DefaultsModel(BaseModel):
    """What holds for every task; a task's own key replaces it, null unsets it."""

    model_config = STRICT

    timezone: Filled | None = option(
        "Zone of the schedules", "Europe/Paris", default="the file's, then the machine's"
    )
    overlap: Overlap | None = option(
        "What a tick does while an earlier run of the task is not final", "skip", default="skip"
    )
    catch_up: CatchUp | None = option(
        "Which ticks missed while nobody was there are run: none, the latest one, or each",
        "one",
        default="one",
    )
    catch_up_window: Duration | None = option("How old a missed tick may be", "1d", default="1d")
    catch_up_limit: Slots | None = option("How many missed ticks `all` runs: the latest", 20, default="100")
    jitter: Duration | None = option("A random delay per tick, up to this", "5m", default="0")
    retries: Retrying | None = option(
        "Tries after the first one", 3, {"max": 3, "delay": "10s", "backoff": 2}, default="0"
    )
    timeout: Period | None = option("Longest time that one attempt may take", "1h", default="none")
    kill_after: Duration | None = option("Time from SIGTERM to SIGKILL", "10s", default="10s")
    expires: Period | None = option(
        "A run not started within this after it became due expires", "10m", default="none"
    )
    priority: Priority | None = option("Higher goes first; equal: older goes first", 10, default="0")
    lock: Lock | None = option(
        "Held while running", "database", {"name": "database", "on_busy": "skip"}, default="none"
    )
    rate_limit: RateText | None = option(
        "Most starts in each window of time, retries included; what is over it waits",
        "100/1m",
        default="none",
    )
    unique: Unique | None = option(
        "While a run with this key is not over, another enqueue is refused; it may name arguments",
        "{image}",
        {"key": "{image}", "on_conflict": "replace"},
        default="none",
    )
    pool: Name | None = option(
        "Where the task is run", "io", default="`default` for calls, `commands` for commands"
    )
    on_interrupt: OnInterrupt | None = option(
        "What becomes of a run whose supervisor stopped or died", "requeue", default="requeue"
    )
    max_crashes: Crashes | None = option(
        "Crashes and unplanned interruptions before a run is failed as too many crashes", 3, default="3"
    )
    leftovers: Leftovers | None = option(
        "Background children of a command that ended well: end them or keep them", "keep", default="end"
    )
    on_success: Names | None = option("Tasks to enqueue when a run has succeeded", ["report"])
    on_failure: Names | None = option(
        "Tasks to enqueue when a run has failed, after all retries", ["page-ops"]
    )
    notify: NotifyModel | None = option(
        "Who is told of failures, recoveries, successes, missed and late ticks",
        {"on": ["failure", "recovery"], "mail": "ops@example.com"},
        default="none",
    )
    env: Environment | None = option("Environment variables; they go over the file's", {"LANG": "C.UTF-8"})
    env_file: FilePaths | None = option(
        "Files of KEY=VALUE lines; a leading - lets one be missing", [".env", "-local.env"]
    )
    cwd: FilePath | None = option(
        "Working folder, from the folder of this file", "data", default="the folder of the file"
    )
    user: Filled | None = option(
        "User that a command runs as, with all the user's groups; another one than its own needs root",
        "www-data",
        default="the supervisor's",
    )
    group: Filled | None = option(
        "Primary group of a command; another one than its own needs root", "adm", default="the user's"
    )
    umask: Umask | None = option(
        "File mode bits that new files of a command lack", "027", default="inherited"
    )
    nice: Nice | None = option(
        "Priority of a command for the processor, 19 the lowest; under the supervisor's own needs root",
        10,
        default="inherited",
    )
    limits: LimitsModel | None = option(
        "What the processes of a command may use", {"nofile": 4096, "cpu": "10m"}, default="inherited"
    )
    shell: Shell | None = option(
        "Shell for commands written as text; it takes -c", "bash -o pipefail", default="/bin/sh"
    )
    success_codes: ExitCodes | None = option(
        "Exit codes of a command that count as success", [0, 1], default="[0]"
    )
    output: OutputModel | None = option(
        "What is kept of stdout and stderr", {"max_size": "1MiB", "keep": "7d"}
    )
    enabled: Flag | None = option("Whether schedules fire and runs start", False, default="true")
    store_result: Flag | None = option("Whether the result is kept", False, default="true")
    result: ResultForm | None = option("What the stdout of a command is", "json", default="text")


class TaskModel(DefaultsModel):
    """A task: exactly one of `command` and `call`, and how it is run."""

    command: Command | None = option(
        "What to run: text for the shell, or a list of program and arguments without a shell",
        "pg_dump shop > /backup/shop.sql",
        ["cp", "a.txt", "b.txt"],
    )
    call: Call | None = option("A Python function, sync or async", "shop.images:resize")
    args: Arguments | None = option("Arguments; an enqueue replaces them", [1, 2], default="[]")
    kwargs: Keywords | None = option(
        "Keyword arguments; an enqueue's are merged over them", {"width": 800}, default="{}"
    )
    schedule: Schedules | None = option(
        "When to run: cron text, an interval, a moment, reboot, or a list of these",
        "30 2 * * *",
        "every 90s",
        {"every": "90s", "offset": "10s"},
        {"at": "2026-12-24T18:00"},
        default="none: on demand only",
    )
    stdin: Text | None = option("Text for the standard input of a command", "yes\n", default="/dev/null")
    description: Text | None = option("What the task is for", "Nightly dump of the shop database")


class PoolModel(BaseModel):
    """A named set of slots of one kind."""

    model_config = STRICT

    kind: PoolKindName | None = option(
        "process: several workers, one call in each; thread, greenlet, async: one worker, several calls at "
        "once; command: shell commands",
        "greenlet",
        default="process (`commands`: command)",
    )
    slots: Slots | None = option("How many attempts at a time", 4, default="2 (`commands`: 8)")
    python: FilePath | None = option(
        "Another interpreter for the workers", "/opt/venv/bin/python", default="the one that runs jobrunner"
    )
    env: Environment | None = option("Environment variables of the pool", {"OMP_NUM_THREADS": "1"})
    max_calls: Positive | None = option("A worker is replaced after so many calls", 1000, default="none")
    max_age: Period | None = option("A worker is replaced at this age", "6h", default="none")
    max_memory: Size | None = option(
        "A worker is replaced, between two calls, when it holds more than this", "500MiB", default="none"
    )
    on_startup: Call | None = option(
        "A Python function that each worker calls before its first call", "shop.workers:connect"
    )
    on_shutdown: Call | None = option(
        "A Python function that each worker calls at its orderly end", "shop.workers:disconnect"
    )


class LockSlotsModel(BaseModel):
    """A named semaphore."""

    model_config = STRICT

    slots: Slots | None = option("How many runs may hold it at a time", 1, default="1")


class RetentionModel(BaseModel):
    """How long finished runs, their results and their output are kept."""

    model_config = STRICT

    history: Period | None = option("Finished runs", "30d", default="30d")
    results: Period | None = option("Results", "7d", default="7d")
    output: Period | None = option("Captured stdout and stderr", "14d", default="14d")
    max_runs: Count | None = option("Most finished runs that are kept", 100000, default="100000")
