"""What a new plan changes: which tasks are new, changed or removed, and which settings of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import NamedTuple

from .catalogue import scheduled
from .plan import Pipeline, Plan, Task

_TOLD_BY_NAME = ("pools", "locks")  # one by one, as pools.NAME
_NO_SETTING = ("file", "hash", "tasks", "pipelines", "watched", "fingerprint", *_TOLD_BY_NAME)


class Difference(NamedTuple):
    """Names of tasks and pipelines, and of settings of the file such as `timezone` or `pools.default`."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(self[:])


def difference(old: Plan, new: Plan) -> Difference:
    """What is otherwise in the new plan."""
    before = {each.name: _said(each) for each in scheduled(old)}
    after = {each.name: _said(each) for each in scheduled(new)}
    return Difference(
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name, said in after.items() if before.get(name, said) != said),
        removed=tuple(name for name in before if name not in after),
        settings=tuple(_settings(old, new)),
    )


def _said(task: Task | Pipeline) -> Task | Pipeline:
    """The task without what is found out about it, and without its line: lines move with every edit."""
    if isinstance(task, Pipeline):
        return replace(task, line=0, blocked=None)
    return replace(task, line=0, parameters=None, required=(), blocked=None)


def _settings(old: Plan, new: Plan) -> Iterator[str]:
    for each in fields(Plan):
        if each.name not in _NO_SETTING and getattr(old, each.name) != getattr(new, each.name):
            yield each.name
    for name in _TOLD_BY_NAME:
        before: Mapping[str, object] = getattr(old, name)
        after: Mapping[str, object] = getattr(new, name)
        changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        yield from (f"{name}.{key}" for key in sorted(changed))
