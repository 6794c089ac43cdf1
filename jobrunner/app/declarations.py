"""Run in a process of its own: imports modules and says which tasks their decorators have declared.

    {"path": [...], "patience": seconds, "modules": ["shop.jobs", "demo:jobs"]}  ->  one JSON line for each

A module stands for the tasks in its namespace and those of the JobRunners there; `module:attribute` for the
tasks of that one JobRunner. What the modules print goes nowhere; one that hangs meets an alarm.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .. import hooks
from .runner import JobRunner
from .task import Task, parameters_of


def main() -> None:
    """Answer on a descriptor of its own, then end without waiting for what the modules have started."""
    # Byte code is matched by a file's second and size: that of an edit within the same second would be stale.
    sys.dont_write_bytecode = True
    question = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    sys.path[:0] = question["path"]
    for name in question["modules"]:
        signal.alarm(int(question["patience"]))  # its default action ends this process
        answer = _answer(name, question["path"])
        signal.alarm(0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)


def _answer(name: str, path: list[str]) -> dict[str, object]:
    module_name, _, attribute = name.partition(":")
    before = hooks.receivers()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            where = f"{', '.join(path)} and the packages of {sys.executable}"
            return {"error": f"there is no module {missing!r}", "help": f"looked in {where}"}
        return {"error": f"importing {module_name} failed: there is no module {missing!r}", "help": ""}
    except BaseException as error:  # whatever a module raises is the answer
        return {"error": f"importing {module_name} failed: {type(error).__name__}: {error}", "help": ""}
    found = _of_runner(module, attribute) if attribute else _document(module, list(_tasks_in(module)))
    signals = hooks.signals() - {hooks.Signal.EXECUTING} if hooks.receivers() > before else ()
    return {**found, "signals": sorted(signals)}


def _of_runner(module: ModuleType, attribute: str) -> dict[str, object]:
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            return {"error": f"{module.__name__} has no {attribute!r}", "help": _runners_in(module)}
        found = getattr(found, name)
    if not isinstance(found, JobRunner):
        kind = type(found).__name__
        return {
            "error": f"{module.__name__}:{attribute} is a {kind}, expected a JobRunner",
            "help": _runners_in(module),
        }
    document = _document(module, list(found.tasks.values()))
    return {**document, "config": found.file, "backend": found.backend}


def _runners_in(module: ModuleType) -> str:
    """The help line that names what was probably meant."""
    names = [name for name, value in vars(module).items() if isinstance(value, JobRunner)]
    meant = " or ".join(f"{module.__name__}:{name}" for name in names)
    return f"did you mean {meant}?" if meant else f"{module.__name__} has no JobRunner"


def _tasks_in(module: ModuleType) -> Iterator[Task[..., Any]]:
    """Each once: those of its namespace, and those of the JobRunners there."""
    seen: set[tuple[int, str]] = set()
    for value in list(vars(module).values()):
        found = value.tasks.values() if isinstance(value, JobRunner) else [value]
        for task in found:
            if isinstance(task, Task) and (id(task.jobs), task.name) not in seen:
                seen.add((id(task.jobs), task.name))
                yield task.jobs.tasks.get(task.name, task)


def _document(module: ModuleType, tasks: list[Task[..., Any]]) -> dict[str, object]:
    file = getattr(module, "__file__", None)
    return {"file": file, "tasks": [describe(task) for task in tasks if task.function is not None]}


def describe(task: Task[..., Any]) -> dict[str, object]:
    """A task as jobs.yaml would say it, and where it is."""
    function = inspect.unwrap(task.function) if task.function else None
    code = getattr(function, "__code__", None)
    call = f"{getattr(task.function, '__module__', '')}:{getattr(task.function, '__qualname__', '')}"
    options = {"call": call, **_described(task), **task.declared}
    return {
        "name": task.name,
        "call": call,
        "options": options,
        "error": _unreachable(task, call) or _unwritable(options),
        "parameters": parameters_of(task.function) if task.function else None,
        "file": getattr(code, "co_filename", None),
        "line": getattr(code, "co_firstlineno", 1),
    }


def _described(task: Task[..., Any]) -> dict[str, object]:
    """The first line of its docstring."""
    text = inspect.getdoc(task.function) or ""
    return {"description": text.splitlines()[0]} if text else {}


def _unreachable(task: Task[..., Any], call: str) -> str:
    """Why a worker would not find the function under its name; "" when it would."""
    if "<lambda>" in call:
        return "it is a lambda, which has no name that a worker finds it by: write a def"
    if "<" in call:
        return "it is declared inside a function, where no worker finds it: move it to the top of its module"
    module, _, path = call.partition(":")
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    if (found.function if isinstance(found, Task) else found) is task.function:
        return ""
    return f"{call} is something else than this function: two of one name, or a decorator above @task?"


def _unwritable(options: dict[str, object]) -> str:
    try:
        json.dumps(options)
    except (TypeError, ValueError) as error:
        options.clear()
        return f"its options cannot be written down: {error}"
    return ""


if __name__ == "__main__":
    main()
