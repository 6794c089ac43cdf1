"""Validated files to a plan: defaults are applied, names are resolved, and what does not fit is reported."""

from __future__ import annotations

import shlex
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel

from ..durations import DAY, SECOND
from ..plan import (
    DEFAULT_POOLS,
    CatchUp,
    Limits,
    LockUse,
    OutputRule,
    Overlap,
    Plan,
    Pool,
    PoolKind,
    Retention,
    Retries,
    Task,
)
from ..schedule import Schedule, ScheduleError
from .accounts import Accounts
from .backend import BackendError, backend_url
from .declared import Module, ask, over, parts_of
from .discover import Target
from .draft import Draft, absolute, mapping
from .file_models import FileModel
from .fits import check_fit, check_pool
from .kinds import nearest, suggestion
from .notices import mail_of, notify_of
from .pipelines import Composer, PipelineDraft
from .problems import Findings, Place
from .rules import Rules
from .schema import (
    DefaultsModel,
    LimitsModel,
    LockModel,
    OutputModel,
    PoolModel,
    RetentionModel,
    RetriesModel,
    TaskModel,
)
from .secrets import check_composed, check_secrets, check_stored, secret_values
from .sources import Part, Reading
from .unique import rate_of, unique_of

WORKER_KEYS: Final = ("python", "max_calls", "max_age", "max_memory", "on_startup", "on_shutdown")
COMMAND_ONLY: Final = (
    *("shell", "stdin", "success_codes", "leftovers", "result"),
    *("user", "group", "umask", "nice", "limits"),
)


@dataclass(slots=True)
class Building:
    """Makes the plan of what was read."""

    reading: Reading
    findings: Findings
    now: datetime | None = None
    target: Target | None = None  # the JobRunner that is served, when it was named instead of a file
    found: Module | None = None  # what was found there
    drafts: dict[str, Draft] = field(default_factory=dict)
    composed: dict[str, PipelineDraft] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    locks: dict[str, int] = field(default_factory=dict)
    receivers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()  # values, once the plan is made
    _declared: dict[tuple[str, str], Place] = field(default_factory=dict)
    _parameters: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    _accounts: Accounts = field(default_factory=Accounts)

    @property
    def main(self) -> Part:
        return self.reading.parts[0]

    @property
    def file(self) -> FileModel:
        model = self.main.model
        assert isinstance(model, FileModel)  # the others are of what is included
        return model

    def plan(self) -> Plan:
        """The plan; to be used only when the findings hold no error."""
        self._collect()
        self.secrets = secret_values(self._secret_names(), *self._shared_variables())
        zone = self._zone()
        rules = Rules(zone=zone, now=self.now, findings=self.findings)
        tasks = {draft.name: self._task(draft, rules) for draft in self.drafts.values()}
        retention, stop = self.file.retention, self.file.shutdown_timeout
        composed = self.composed = self._pipelines()
        names = {*self._declares("tasks"), *self.drafts}
        env = {**self.reading.env_file, **(self.file.env or {})}
        pipelines = Composer(self.findings, names, composed, env).made(rules)
        for name, draft in composed.items():
            check_composed(pipelines.get(name), draft.named_at, self.secrets, self.findings)
        return Plan(
            file=self.main.source.path if self.target is None else self.target.path,
            backend=self._backend(),
            timezone=zone,
            pythonpath=self._pythonpath(),
            pools=self.pools,
            locks=self.locks | self._undeclared_locks(),
            mail=mail_of(self.main, self.file.mail, self.findings),
            retention=Retention(**_given(retention or RetentionModel())),
            shutdown_timeout=30 * SECOND if stop is None else stop,
            secrets=self._all_secrets(tasks.values()),
            tasks=tasks,
            receivers=self.receivers,
            pipelines=pipelines,
            watched=tuple(self.reading.watched),
            hash=self.reading.hash,  # last: env files of tasks are read on the way
            fingerprint=self.reading.fingerprint,
        )

    # ---- the file

    def _zone(self) -> str:
        """The zone of the file; the machine's own one must have a name, since every process asks for it."""
        given = self.file.timezone
        place = self.main.document.place(["timezone"])
        try:
            name = Schedule.parse("daily", given).timezone
            return Schedule.parse("daily", name).timezone
        except ScheduleError as error:
            message, hint = f"timezone: {error.message}", error.help
        if given is None:
            place = Place(self.main.source.name, 1, 1)
            message = "the zone of this machine has no name, expected one of the IANA database"
            hint = "write timezone: Europe/Paris, or whichever it is"
        self.findings.error(place, "unknown-timezone", message, hint=hint)
        return "UTC"

    def _backend(self) -> str:
        try:
            return backend_url(self.file.backend, self.main.source.path)
        except BackendError as error:
            place = self.main.document.place(["backend"])
            self.findings.error(place, error.code, f"backend: {error.message}", hint=error.help)
            return ""

    def _pythonpath(self) -> tuple[str, ...]:
        given = self.file.pythonpath
        folders = [absolute(each, self.main.folder) for each in (["."] if given is None else given)]
        if self.target is not None and self.target.folder not in folders:
            folders.insert(0, self.target.folder)
        return tuple(folders)

    def _collect(self) -> None:
        """Tasks, pools and locks of all files; a name that two files declare is an error."""
        self.pools |= DEFAULT_POOLS
        defaults = self.file.defaults or DefaultsModel()
        for part in self.reading.parts:
            for name, pool in self._new(part, "pools"):
                self.pools[name] = self._pool(part, name, pool)
            for name, lock in self._new(part, "locks"):
                self.locks[name] = lock.slots or 1
            for name, task in self._new(part, "tasks"):
                self.drafts[name] = Draft(name=name, part=part, main=self.main, own=task, defaults=defaults)
        is_bare = self.target is None and self.file.modules is None
        if is_bare and all(part.raw.get("tasks") is None for part in self.reading.parts):
            self._no_tasks()
        self._declare(defaults)

    def _declare(self, defaults: DefaultsModel) -> None:
        """Tasks that decorators declare join those of the files."""
        for index, module in enumerate(self._modules()):
            if module.error:
                place = self.main.document.place(["modules", index])
                self.findings.error(place, "module-not-usable", f"modules: {module.error}", hint=module.help)
            self.reading.note(repr(module.tasks).encode())
            if module.signals:
                self.receivers[module.name.partition(":")[0]] = module.signals
            self._parameters |= {each.name: each.parameters for each in module.tasks}
            for part in parts_of(module.tasks, self.main, self.findings):
                for name, task in (part.model.tasks or {}).items():
                    declared = Draft(name=name, part=part, main=self.main, own=task, defaults=defaults)
                    self.drafts[name] = self._joined(self.drafts.get(name), declared)

    def _modules(self) -> Iterator[Module]:
        """What the modules declare: those that the file names, then the one that was named instead of it."""
        yield from ask(
            self.file.modules or (),
            pythonpath=self._pythonpath(),
            folder=self.main.folder,
            pool=self.pools["default"],
            environ=self.reading.environ,
        )
        if self.found is not None:
            yield self.found

    def _joined(self, known: Draft | None, declared: Draft) -> Draft:
        """What the file says of the same callable goes over what its decorator says."""
        if known is None or known.part is declared.part:
            return declared
        if known.own.command is None and known.own.call in (None, declared.own.call):
            return replace(known, own=over(known.own, declared.own))
        first = known.named_at
        message = f"task {declared.name!r} is declared twice, first in {first.file} on line {first.line}"
        hint = "rename one of them: @jobs.task(name=...)"
        self.findings.error(declared.named_at, "duplicate-task", message, hint=hint)
        return known

    def _pipelines(self) -> dict[str, PipelineDraft]:
        return {
            name: PipelineDraft(name=name, part=part, own=own)
            for part in self.reading.parts
            for name, own in self._new(part, "pipelines")
        }

    def _new(self, part: Part, section: str) -> Iterator[tuple[str, Any]]:
        """What a file declares and none before it did."""
        for name, declared in (getattr(part.model, section) or {}).items():
            if self._is_new(part, section, name):
                yield name, declared

    def _is_new(self, part: Part, section: str, name: str) -> bool:
        place = part.document.place([section, name], key=True)
        first = self._declared.setdefault((section, name), place)
        if first is not place:
            kind = section.removesuffix("s")
            message = f"{kind} {name!r} is declared twice, first in {first.file} on line {first.line}"
            self.findings.error(place, f"duplicate-{kind}", message, hint="rename one of them")
        return first is place

    def _no_tasks(self) -> None:
        key = self.main.document.node(["tasks"]) is not None
        place = self.main.document.place(["tasks"], key=True) if key else Place(self.main.source.name, 1, 1)
        message = (
            "tasks: got nothing, expected a mapping" if key else "the file has no key 'tasks', expected one"
        )
        if not _is_misspelt(self.main.raw, FileModel, ("tasks",)):
            hint = "to remove every task, write tasks: {}"
            self.findings.consequence(place, "missing-key", message, hint=hint)

    def _pool(self, part: Part, name: str, pool: PoolModel) -> Pool:
        known = DEFAULT_POOLS.get(name, Pool(name=name))
        kind = PoolKind(pool.kind or known.kind)
        given = {key: value for key, value in _given(pool).items() if key in WORKER_KEYS}
        for key in given if kind is PoolKind.COMMAND else ():
            place = part.document.place(["pools", name, key], key=True)
            message = f"pool {name!r} runs commands: {key!r} has no meaning there"
            self.findings.error(place, "key-does-not-fit", message)
        if pool.python is not None:
            given["python"] = absolute(pool.python, part.folder)
        slots = known.slots if pool.slots is None else pool.slots
        made = Pool(name=name, kind=kind, slots=slots, env=pool.env or {}, **given)
        check_pool(made, part.document.place(["pools", name, "kind"]), self.findings)
        return made

    def _undeclared_locks(self) -> dict[str, int]:
        """Without a top-level `locks`, a lock that a task names has one slot."""
        used = {lock.name for draft in self.drafts.values() if (lock := draft.get("lock")) is not None}
        return dict.fromkeys(sorted(used - self.locks.keys()), 1)

    # ---- secrets

    def _secret_names(self) -> tuple[str, ...]:
        return tuple(self.file.secrets or ())

    def _shared_variables(self) -> list[Mapping[str, str]]:
        """Where variables come from that are nobody's own; what `${...}` is replaced by comes first."""
        pools = [pool.env for pool in self.pools.values()]
        return [self.reading.variables, self.reading.env_file, self.file.env or {}, *pools]

    def _all_secrets(self, tasks: Iterable[Task]) -> tuple[str, ...]:
        tasks = list(tasks)
        sources = [*self._shared_variables(), *(task.env for task in tasks)]
        check_secrets(self.main, self._secret_names(), sources, self.findings)
        self.secrets = tuple(dict.fromkeys((*self.secrets, *(s for task in tasks for s in task.secrets))))
        return self.secrets

    # ---- a task

    def _task(self, draft: Draft, rules: Rules) -> Task:
        self._check_what(draft)
        self._accounts.check(draft, self.findings)
        get, env = draft.get, self._environment(draft)
        secrets = tuple(dict.fromkeys((*self.secrets, *secret_values(self._secret_names(), env))))
        check_stored(draft, secrets, self.findings)
        return Task(
            name=draft.name,
            command=tuple(draft.own.command) if isinstance(draft.own.command, list) else draft.own.command,
            shell=_words(get("shell") or "/bin/sh"),
            call=draft.own.call,
            args=tuple(draft.own.args or ()),
            kwargs=draft.own.kwargs or {},
            schedules=tuple(rules.of(draft)),
            overlap=Overlap(get("overlap") or Overlap.SKIP),
            catch_up=CatchUp(get("catch_up") or CatchUp.ONE),
            catch_up_window=_or(get("catch_up_window"), DAY),
            catch_up_limit=_or(get("catch_up_limit"), 100),
            jitter=get("jitter") or 0,
            retries=_retries(get("retries")),
            timeout=get("timeout"),
            kill_after=_or(get("kill_after"), 10 * SECOND),
            expires=get("expires"),
            priority=get("priority") or 0,
            lock=self._lock(draft, get("lock")),
            rate_limit=rate_of(get("rate_limit")),
            unique=unique_of(get("unique")),
            pool=self._pool_of(draft),
            on_interrupt=get("on_interrupt") or "requeue",
            max_crashes=_or(get("max_crashes"), 3),
            leftovers=get("leftovers") or "end",
            on_success=self._callbacks(draft, "on_success"),
            on_failure=self._callbacks(draft, "on_failure"),
            notify=notify_of(draft, self.findings),
            secrets=secrets,
            env=env,
            cwd=absolute(get("cwd"), draft.folder("cwd")) if get("cwd") else draft.main.folder,
            **_as_whom(draft),
            stdin=draft.own.stdin,
            success_codes=tuple(get("success_codes") or (0,)),
            output=_output(get("output")),
            enabled=get("enabled") is not False,
            description=draft.own.description or "",
            store_result=get("store_result") is not False,
            result=get("result") or "text",
            parameters=self._parameters.get(draft.name),
            line=draft.named_at.line,
        )

    def _check_what(self, draft: Draft) -> None:
        """Exactly one of command and call, and no key of its own that means nothing for it."""
        own, raw = draft.own, draft.raw
        given = [
            key for key in ("command", "call") if raw.get(key) is not None or getattr(own, key) is not None
        ]
        if len(given) == 2:
            message = f"task {draft.name!r} has both 'command' and 'call', expected one of them"
            self._at_key(draft, "call", "command-or-call", message, hint="make two tasks of it")
        if not given and not _is_misspelt(draft.raw, TaskModel, ("command", "call")):
            message = f"task {draft.name!r} has neither 'command' nor 'call', expected one of them"
            hint = "command: a shell command; call: package.module:function"
            self.findings.consequence(draft.named_at, "command-or-call", message, hint=hint)
        for key in COMMAND_ONLY if given == ["call"] else ():
            if draft.raw.get(key) is not None:
                message = f"{key!r} is for commands, and task {draft.name!r} is a call"
                self._at_key(draft, key, "key-does-not-fit", message, hint="remove it")

    def _at_key(self, draft: Draft, key: str, code: str, message: str, *, hint: str) -> None:
        place = draft.part.document.place(["tasks", draft.name, key], key=True)
        self.findings.consequence(place, code, message, hint=hint)

    def _lock(self, draft: Draft, lock: LockModel | None) -> LockUse | None:
        if lock is None:
            return None
        declared = self._declares("locks")
        if any("locks" in part.raw for part in self.reading.parts) and lock.name not in declared:
            hint = suggestion(lock.name, declared, what="declared under locks")
            self.findings.error(draft.place("lock"), "unknown-lock", f"unknown lock {lock.name!r}", hint=hint)
        return LockUse(name=lock.name, on_busy=lock.on_busy or "wait")

    def _declares(self, section: str) -> Mapping[str, object]:
        """The names that the files declare, valid or not."""
        return ChainMap(*(dict(mapping(part.raw.get(section))) for part in self.reading.parts))

    def _pool_of(self, draft: Draft) -> str:
        is_call = draft.own.call is not None
        given = draft.get("pool")
        name = str(given or ("default" if is_call else "commands"))
        pool = self.pools.get(name)
        if pool is None:
            self._unknown_pool(draft, name)
        else:
            check_fit(draft, pool, self.pools.values(), self.findings)
        return name

    def _unknown_pool(self, draft: Draft, name: str) -> None:
        if name not in self._declares("pools"):
            hint = suggestion(name, self.pools, what="pools")
            self.findings.error(draft.place("pool"), "unknown-pool", f"unknown pool {name!r}", hint=hint)

    def _callbacks(self, draft: Draft, key: str) -> tuple[str, ...]:
        names = tuple(draft.get(key) or ())
        known = {**self._declares("tasks"), **self._declares("pipelines"), **self.drafts} if names else {}
        for index, name in enumerate(names):
            if name not in known:
                hint = suggestion(name, known.keys() - {draft.name}, what="tasks")
                place = draft.place(key, index)
                self.findings.error(place, "unknown-task", f"unknown task {name!r}", hint=hint)
        return names

    def _environment(self, draft: Draft) -> Mapping[str, str]:
        """The file's env_file, its env, the task's env_file, its env: later ones win."""
        merged = {**self.reading.env_file, **(self.file.env or {})}
        for index, name in enumerate(draft.get("env_file") or ()):
            place = draft.place("env_file", index)
            merged |= self.reading.environment_of(name, draft.folder("env_file"), place)
        return merged | (draft.get("env") or {})


@lru_cache(maxsize=64)
def _words(shell: str) -> tuple[str, ...]:
    return tuple(shlex.split(shell))


def _is_misspelt(raw: Mapping[str, Any], model: type[BaseModel], keys: tuple[str, ...]) -> bool:
    """Whether an unknown key was probably meant to be one of these: then that is reported already."""
    unknown = raw.keys() - model.model_fields.keys()
    return any(nearest(key, model.model_fields) in keys for key in unknown)


def _or(value: Any, default: int) -> int:
    return default if value is None else int(value)


def _given(model: Any) -> dict[str, Any]:
    """What a model says, without what it leaves open."""
    return {key: value for key in type(model).model_fields if (value := getattr(model, key)) is not None}


def _retries(model: RetriesModel | None) -> Retries:
    if model is None:
        return Retries()
    given = _given(model)
    lists = {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    merged: dict[str, Any] = given | lists
    merged.setdefault("max_delay", max(Retries().max_delay, merged.get("delay", 0)))
    return Retries(**merged)


def _as_whom(draft: Draft) -> dict[str, Any]:
    """As whom and within which bounds a command runs; what `defaults` say of that is not for calls."""
    if draft.own.call is not None:
        return {}
    limits = Limits(**_given(draft.get("limits") or LimitsModel()))
    return {"limits": limits, **{key: draft.get(key) for key in ("user", "group", "umask", "nice")}}


def _output(model: OutputModel | None) -> OutputRule:
    return OutputRule() if model is None else OutputRule(**_given(model))
