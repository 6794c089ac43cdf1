"""Which run a call makes: the task's entry, the call's arguments and options, as a row to be added."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any

from ..birth import new_run
from ..catalogue import Entry
from ..client import enqueue, forced_entry
from ..codec import LIMIT, NO_ARGUMENTS
from ..durations import Micros, parse_duration
from ..ids import new_id
from ..model import NewRun, Policy, Run, Trigger, pool_lane, unique_key
from ..plain import to_plain
from .options import Terms
from .pipeline import Node, Step, whole
from .task import Task, parameters_of

Entries = Callable[[str], Entry | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """When a call is made, and in which zone its naive moments are (None: this machine's)."""

    now: Micros
    zone: tzinfo | None = None
    limit: int = LIMIT  # bytes of arguments


def born(
    task: Task[..., Any],
    entry: Entry,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any],
    terms: Terms,
    occasion: Occasion,
) -> NewRun:
    """The run that a call makes. Raises WrongArguments (a TypeError) or PayloadError (one too)."""
    task.check_call(entry, args, kwargs)
    if entry.composition is not None:
        terms.demand_whole()
    due_at = terms.due_at(occasion.now, occasion.zone)
    run = enqueue(
        entry,
        run_id=terms.run_id or new_id(occasion.now),
        now=occasion.now,
        args=args,
        kwargs=kwargs,
        due_at=due_at,
        priority=terms.priority,
        expires=terms.patience(due_at, occasion.zone),
        limit=occasion.limit,
    )
    options = terms.stored() if entry.composition is None else None
    if options is not None:
        run = run._replace(options=options)
    if terms.unique_key is None:
        return run
    return run._replace(unique=unique_key(task.name, terms.unique_key), replaces=terms.replaces)


def woven(node: Node[Any], entries: Entries, occasion: Occasion) -> tuple[NewRun, ...]:
    """The rows of a pipeline: its root, and all steps that are known.

    Raises NotFound for a step whose task nobody knows, WrongArguments for a first step that cannot be called.
    """
    from .. import composition

    terms = node.terms
    due_at = terms.due_at(occasion.now, occasion.zone)
    patience = terms.patience(due_at, occasion.zone)
    if isinstance(node, Step):  # with handlers: the call's options are those of its only step
        node = replace(node, terms=terms.of_step(patience))
    else:
        terms.demand_whole()
    for step in node.firsts():
        entry = entries(step.task.name)
        if entry is not None:
            step.task.check_call(entry, step.args or None, step.kwargs)
    text = composition.to_text(whole(node))
    timeout = None if isinstance(node, Step) else terms.timeout
    entry = replace(pipeline_entry(), composition=text, timeout=timeout)
    root = new_run(
        entry,
        run_id=terms.run_id or new_id(occasion.now),
        trigger=Trigger.ENQUEUE,
        now=occasion.now,
        due_at=due_at,
        payload=NO_ARGUMENTS,
        priority=terms.priority,
        expires=patience,
    )
    if terms.unique_key is not None:
        root = root._replace(unique=unique_key(entry.name, terms.unique_key), replaces=terms.replaces)
    return composition.begin(root, entry, entries)


def pipeline_entry() -> Entry:
    """The entry of a pipeline that has no name."""
    from ..composition import ANONYMOUS

    return Entry(name=ANONYMOUS, kind="pipeline", pool="", lane=pool_lane(""))


def rescheduled(run: Run, entry: Entry, terms: Terms, occasion: Occasion) -> NewRun:
    """A copy of a run that waits, with other options; what they leave open is the run's own."""
    now = occasion.now
    wants_time = terms.delay is not None or terms.eta is not None
    due_at = terms.due_at(now, occasion.zone) if wants_time else max(now, run.due_at)
    patience = terms.patience(due_at, occasion.zone)
    if patience is None and run.expires_at is not None:
        patience = run.expires_at - run.due_at
    copy = new_run(
        entry,
        run_id=terms.run_id or new_id(now),
        trigger=Trigger.ENQUEUE,
        now=now,
        due_at=due_at,
        payload=run.payload,
        priority=run.priority if terms.priority is None else terms.priority,
        options=_merged(run.options, terms.stored()),
        cause=run.cause,
        detail=json.dumps({"rescheduled_from": run.id}),
    )
    key = run.unique if terms.unique_key is None else unique_key(run.task, terms.unique_key)
    expires_at = None if patience is None else due_at + patience
    return copy._replace(expires_at=expires_at, unique=key, replaces=key is not None)


def _merged(old: str | None, new: str | None) -> str | None:
    both = {**json.loads(old or "{}"), **json.loads(new or "{}")}
    return json.dumps(both, separators=(",", ":")) if both else None


def own_entry(task: Task[..., Any]) -> Entry:
    """The entry of a declared task that no supervisor has published yet, made of what its decorator says."""
    said = task.declared
    expires, priority = said.get("expires"), said.get("priority")
    args, kwargs = said.get("args", ()), said.get("kwargs", {})
    unique = said.get("unique")
    key: Mapping[str, Any] = unique if isinstance(unique, Mapping) else {"key": unique}
    assert isinstance(args, Sequence)
    assert isinstance(kwargs, Mapping)
    bare = forced_entry(task.name)
    return Entry(
        name=task.name,
        kind="call",
        pool=str(said.get("pool", bare.pool)),
        lane=bare.lane,
        priority=priority if isinstance(priority, int) else 0,
        expires=parse_duration(expires) if isinstance(expires, str | int | float) else None,
        args=tuple(args),
        kwargs=kwargs,
        parameters=None if task.function is None else parameters_of(task.function),
        policy=_policy(said),
        unique=key.get("key"),
        replaces=key.get("on_conflict") == "replace",
    )


def _policy(said: Mapping[str, object]) -> str | None:
    given = {key: said[key] for key in ("on_interrupt", "max_crashes", "on_failure") if key in said}
    if "on_failure" in given:
        given["on_failure"] = tuple(given["on_failure"])  # type: ignore[arg-type]
    plain = to_plain(Policy(**given))  # type: ignore[arg-type]
    return json.dumps(plain, separators=(",", ":")) if plain else None
