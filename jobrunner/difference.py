"""What a new plan changes: which tasks are new, changed or removed, and which settings of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import NamedTuple

from .plan import Plan, Task

_TOLD_BY_NAME = ("pools", "locks")  # one by one, as pools.NAME
_NO_SETTING = ("file", "hash", "tasks", "watched", "fingerprint", *_TOLD_BY_NAME)


class Difference(NamedTuple):
    """Names of tasks, and of settings of the file such as `timezone` or `pools.default`."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(self[:])


def difference(old: Plan, new: Plan) -> Difference:
    """What is otherwise in the new plan."""
    both = [name for name in new.tasks if name in old.tasks]
    return Difference(
        added=tuple(name for name in new.tasks if name not in old.tasks),
        changed=tuple(name for name in both if _said(old.tasks[name]) != _said(new.tasks[name])),
        removed=tuple(name for name in old.tasks if name not in new.tasks),
        settings=tuple(_settings(old, new)),
    )


def _said(task: Task) -> Task:
    """The task without what is found out about it, and without its line: lines move with every edit."""
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
