"""What the supervisor publishes for clients: enough to enqueue and to show, without the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .durations import Micros
from .model import pool_lane, task_lane
from .plain import to_plain

if TYPE_CHECKING:  # clients read catalogues without ever making a plan
    from .plan import Pipeline, Plan, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A task, or a pipeline, as clients know it."""

    name: str
    kind: str  # command | call | pipeline
    pool: str
    lane: str
    description: str = ""
    enabled: bool = True
    priority: int = 0
    expires: Micros | None = None
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)
    parameters: tuple[str, ...] | None = None  # names of a callable's arguments; None: not known, or any
    required: tuple[str, ...] = ()  # those of them that have no default
    policy: str | None = None  # JSON of model.Policy, None when all defaults
    max_attempts: int = 1
    schedule: str = ""  # texts, joined by ", "
    schedule_text: str = ""  # in words
    schedules: tuple[str, ...] = ()  # keys: `Storage.next_ticks` says when each is next
    blocked: str | None = None
    composition: str | None = None  # of a pipeline: text of composition.Pipeline
    timeout: Micros | None = None  # of a pipeline, as a whole
    unique: str | None = None  # key, may name arguments: "{image}"
    replaces: bool = False  # a newer run takes the key over


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """A pool as clients know it."""

    name: str
    kind: str
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Everything published about one file."""

    file: str
    hash: str
    timezone: str
    tasks: Mapping[str, Entry] = field(default_factory=dict)
    pools: tuple[PoolEntry, ...] = ()
    schedules: tuple[str, ...] = ()  # keys


def catalogue_of(plan: Plan) -> Catalogue:
    """The catalogue of a plan."""
    return Catalogue(
        file=plan.file,
        hash=plan.hash,
        timezone=plan.timezone,
        tasks=entries_of(plan),
        pools=tuple(PoolEntry(name=p.name, kind=p.kind, slots=p.slots) for p in plan.pools.values()),
        schedules=tuple(rule.key for each in scheduled(plan) for rule in each.schedules),
    )


def scheduled(plan: Plan) -> Iterator[Task | Pipeline]:
    """The tasks, and then the pipelines."""
    yield from plan.tasks.values()
    yield from plan.pipelines.values()


def entries_of(plan: Plan) -> dict[str, Entry]:
    """The entries of all tasks and pipelines."""
    return {each.name: entry_of(each) for each in scheduled(plan)}


def entry_of(task: Task | Pipeline) -> Entry:
    """The entry of a task or a pipeline in the catalogue."""
    return _of_pipeline(task) if task.kind == "pipeline" else _of_task(task)  # type: ignore[arg-type]


def _of_pipeline(pipeline: Pipeline) -> Entry:
    return Entry(
        name=pipeline.name,
        kind=pipeline.kind,
        pool="",
        lane=pool_lane(""),
        description=pipeline.description,
        enabled=pipeline.enabled,
        priority=pipeline.priority,
        schedule=", ".join(rule.text for rule in pipeline.schedules),
        schedule_text=", ".join(rule.words for rule in pipeline.schedules),
        schedules=tuple(rule.key for rule in pipeline.schedules),
        blocked=pipeline.blocked,
        composition=pipeline.composition,
        timeout=pipeline.timeout,
        unique=None if pipeline.unique is None else pipeline.unique.key,
        replaces=pipeline.unique is not None and pipeline.unique.replaces,
    )


def _of_task(task: Task) -> Entry:
    return Entry(
        name=task.name,
        kind=task.kind,
        pool=task.pool,
        lane=lane_of(task),
        description=task.description,
        enabled=task.enabled,
        priority=task.priority,
        expires=task.expires,
        args=task.args,
        kwargs=task.kwargs,
        parameters=task.parameters,
        required=task.required,
        policy=policy_text(task),
        max_attempts=1 + task.retries.max,
        schedule=", ".join(rule.text for rule in task.schedules),
        schedule_text=", ".join(rule.words for rule in task.schedules),
        schedules=tuple(rule.key for rule in task.schedules),
        blocked=task.blocked,
        unique=None if task.unique is None else task.unique.key,
        replaces=task.unique is not None and task.unique.replaces,
    )


def lane_of(task: Task) -> str:
    """The lane in which a task's runs wait: its own when it is limited or blocked, else its pool's."""
    limited = task.lock is not None or task.rate_limit is not None or task.blocked is not None
    return task_lane(task.name) if limited else pool_lane(task.pool)


def policy_text(task: Task) -> str | None:
    """The task's recovery policy as its runs carry it; None when it is the default."""
    plain = to_plain(task.policy)
    return json.dumps(plain, separators=(",", ":")) if plain else None
