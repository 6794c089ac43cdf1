"""Looks for the callables of a plan in child processes, and for its programs on their PATH."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from typing import Final

from ..plan import Plan, Task
from .draft import Draft
from .imports import Verdict, look_for_callables
from .problems import Findings, Place, Problem

_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check_callables(
    plan: Plan, findings: Findings | None = None, drafts: Mapping[str, Draft] | None = None
) -> list[Problem]:
    """The callables of a plan that cannot be found, as errors; looked for by the interpreter of their pool.

    User code is imported in child processes only, six seconds at most for a module.
    With `findings` the errors are added there too, at the places that `drafts` know.
    """
    found = Findings() if findings is None else findings
    before = set(found.sorted())
    for verdict in look_for_callables(plan, os.environ):
        if verdict.message:
            place = _place(plan, verdict.task, "call", drafts)
            found.error(place, "callable-not-found", f"call: {verdict.message}", hint=verdict.help)
        else:
            _check_ticks(
                plan.tasks[verdict.task], verdict, _place(plan, verdict.task, "schedule", drafts), found
            )
    return [problem for problem in found.sorted() if problem not in before]


def _check_ticks(task: Task, verdict: Verdict, place: Place, findings: Findings) -> None:
    """An error when a schedule calls the task without what it cannot do without."""
    for rule in task.schedules:
        args = task.args if rule.args is None else rule.args
        given = {*(verdict.parameters or ())[: len(args)], *task.kwargs, *(rule.kwargs or {})}
        missing = [name for name in verdict.required if name not in given]
        if missing:
            names = ", ".join(repr(name) for name in missing)
            message = f"schedule: its ticks would fail: nothing gives {task.call} its {names}"
            hint = "write args or kwargs for the task, or beside the schedule: {cron: ..., kwargs: {...}}"
            findings.error(place, "missing-arguments", message, hint=hint)
            return


def _place(plan: Plan, task: str, key: str, drafts: Mapping[str, Draft] | None) -> Place:
    if drafts is not None and task in drafts:
        return drafts[task].place(key)
    return Place(plan.file, plan.tasks[task].line, 1)


def _check_folders(plan: Plan, findings: Findings, drafts: Mapping[str, Draft]) -> None:
    """Warns of a working folder that is not there, once for each: nothing could start in it."""
    seen: set[str] = set()
    for task in plan.tasks.values():
        if task.cwd in seen or not _is_missing(task.cwd):
            continue
        seen.add(task.cwd)
        message = f"there is no folder {task.cwd!r}: no command can start in it"
        hint = "make it, or write another cwd"
        findings.warning(_place(plan, task.name, "cwd", drafts), "folder-not-found", message, hint=hint)


def _is_missing(folder: str) -> bool:
    """False also for one that this user may not see."""
    try:
        return not stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def check_programs(
    plan: Plan, environ: Mapping[str, str], findings: Findings, drafts: Mapping[str, Draft]
) -> None:
    """Warns of commands in list form whose program is not there, and of folders that are not."""
    _check_folders(plan, findings, drafts)
    for task in plan.tasks.values():
        if not isinstance(task.command, tuple):
            continue
        path = task.env.get("PATH", environ.get("PATH", _DEFAULT_PATH))
        program = task.command[0]
        if "/" in program:
            program = os.path.join(task.cwd, program)
        if shutil.which(program, path=path) is None:
            findings.warning(
                _place(plan, task.name, "command", drafts),
                "command-not-found",
                _words(task.command[0], program, path),
                hint="name it by its absolute path, or set PATH under env",
            )


def _words(written: str, program: str, path: str) -> str:
    if "/" not in program:
        return f"there is no program {written!r} on PATH {path}"
    return (
        f"{written!r} is no program that may be run"
        if os.path.exists(program)
        else f"there is no program {written!r}"
    )
