"""The settings of one task as they are in force, and who says each: for `jobrunner show`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import ConfigError, NotFound
from ..plain import to_plain
from ..plan import Plan, Task
from ..redact import Redactor
from .compile import quietly, read_building
from .draft import Draft
from .kinds import suggestion
from .problems import Findings, render_problems
from .reference import ordered_keys
from .secrets import shown, without_secrets
from .sources import Reading

_RENAMED: Final = {"schedule": "schedules"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A key in force: its value as plain data, and its origin: FILE:LINE, with `(defaults)`, or `default`."""

    key: str
    value: object
    origin: str


def effective(path: str, task: str, *, environ: Mapping[str, str]) -> list[Setting]:
    """Every key of a task with its value and origin, in the order of the reference.

    Raises ConfigError when the file is invalid, NotFound when it has no such task.
    """
    findings = Findings()
    reading = Reading(environ=environ, findings=findings)
    with quietly():
        building = read_building(path, reading)
        plan = None if building is None else building.plan()
    if findings.failed or building is None or plan is None:
        secrets = () if building is None else building.secrets
        rendered = render_problems(without_secrets(findings.sorted(), secrets), reading.texts)
        raise ConfigError(Redactor(secrets).text(rendered))
    if task not in plan.tasks:
        hint = suggestion(task, plan.tasks, what="tasks")
        raise NotFound(f"there is no task {task!r} in {path}", help=hint)
    return settings_of(plan, plan.tasks[task], building.drafts[task])


def settings_of(plan: Plan, task: Task, draft: Draft) -> list[Setting]:
    """The settings of a task of a plan, keys of the other kind left out."""
    other = "command" if task.call is not None else "call"
    keys = [key for key in ordered_keys() if key not in (other, "env_file")]
    return [
        Setting(key=key, value=shown(plan, _value(plan, task, key)), origin=_origin(draft, key))
        for key in keys
    ]


def _value(plan: Plan, task: Task, key: str) -> object:
    if key == "schedule":
        return [rule.text for rule in task.schedules]
    if key == "timezone":
        zones = list(dict.fromkeys(rule.timezone for rule in task.schedules))
        return zones[0] if len(zones) == 1 else zones or plan.timezone
    value = getattr(task, _RENAMED.get(key, key))
    if key == "umask" and value is not None:
        return f"{value:03o}"
    if key == "limits":
        return to_plain(value) or None  # what is not limited is not worth a word
    if key in ("retries", "lock", "output", "notify") and value is not None:
        return {name: to_plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return to_plain(value)


def _origin(draft: Draft, key: str) -> str:
    said = draft.origin(key)
    if said == "default" and key in ("env", "timezone") and draft.main.document.node([key]) is not None:
        place = draft.main.document.place([key], key=True)
    elif said == "default":
        return "default"
    else:
        place = draft.place(key)
    return f"{place.file}:{place.line}" + (" (defaults)" if said == "defaults" else "")
