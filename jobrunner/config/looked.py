"""The look for callables, and its answer, as text between two processes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..execution.environment import allowed
from ..plain import from_plain, to_plain
from ..plan import Plan, Task
from .imports import Verdict, look_for_callables


def asked(plan: Plan) -> str:
    """What the child must know of a plan."""
    calls = {name: task for name, task in plan.tasks.items() if task.call is not None}
    return json.dumps(to_plain(replace(plan, tasks=calls)), separators=(",", ":"))


def answered(text: str, environ: Mapping[str, str]) -> str:
    """The child's answer: one JSON list."""
    verdicts = look_for_callables(from_plain(Plan, json.loads(text)), allowed(environ))
    return json.dumps([to_plain(each) for each in verdicts], separators=(",", ":"))


def verdicts_of(text: str | bytes) -> list[Verdict]:
    """What `answered` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    return [from_plain(Verdict, each) for each in json.loads(text)]


def judged(plan: Plan, verdicts: Iterable[Verdict]) -> Plan:
    """The plan with what was found out about its callables: arguments, and what keeps a task from running."""
    found = {each.task: each for each in verdicts}
    return replace(plan, tasks={name: _judged(task, found.get(name)) for name, task in plan.tasks.items()})


def _judged(task: Task, verdict: Verdict | None) -> Task:
    """The very same task when nothing is new."""
    if verdict is None:
        return task
    blocked = _why(verdict)
    known = replace(task, parameters=verdict.parameters, required=verdict.required, blocked=blocked)
    return task if known == task else known


def _why(verdict: Verdict) -> str | None:
    if not verdict.message:
        return None
    return f"{verdict.message} ({verdict.help})" if verdict.help else verdict.message
