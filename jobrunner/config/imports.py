"""Looks for the callables of a plan in child processes: whether they can be imported, and what they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..plan import Plan, Pool, Task

PATIENCE: Final = 8.0  # seconds for one module
_PROBE: Final = Path(__file__).with_name("probe.py")
_PACKAGE_ROOT: Final = str(Path(__file__).parents[2])
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the look for one callable; no message: it was found."""

    task: str
    message: str = ""
    help: str = ""
    parameters: tuple[str, ...] | None = None  # names of its arguments; None: any
    required: tuple[str, ...] = ()  # those without a default


@dataclass(frozen=True, slots=True)
class _Place:
    """What has to be the same for two tasks to be looked for by one process."""

    python: str
    environ: tuple[tuple[str, str], ...]
    cwd: str


def look_for_callables(plan: Plan, inherited: Mapping[str, str]) -> Iterator[Verdict]:
    """A verdict on every task that is a call; `inherited` is what workers take over of the environment.

    As in a worker, a module is imported in its task's environment and folder.
    """
    groups: dict[_Place, list[Task]] = {}
    for task in sorted(plan.tasks.values(), key=_module):
        if task.call is not None:
            groups.setdefault(_place(plan, task, inherited), []).append(task)
    for place, tasks in groups.items():
        yield from _look_in(place, plan.pythonpath, tasks)


def _place(plan: Plan, task: Task, inherited: Mapping[str, str]) -> _Place:
    pool = plan.pools.get(task.pool, Pool(name=task.pool))
    environ = {**inherited, **pool.env, **task.env}
    if pool.python is None and Path(_PACKAGE_ROOT).name not in _INSTALLED:
        given = environ.get("PYTHONPATH")  # a checkout: modules may import this package
        environ["PYTHONPATH"] = f"{_PACKAGE_ROOT}{os.pathsep}{given}" if given else _PACKAGE_ROOT
    return _Place(pool.python or sys.executable, tuple(sorted(environ.items())), task.cwd)


def _module(task: Task) -> str:
    return (task.call or "").partition(":")[0]


def _look_in(place: _Place, path: tuple[str, ...], tasks: list[Task]) -> Iterator[Verdict]:
    """One child for all modules; the module that ends it or hangs is blamed, and the rest gets a new one."""
    while tasks:
        answers, ending = _probe(place, path, tasks)
        for answer in answers:
            yield _verdict(answer)
        tasks = tasks[len(answers) :]
        if not tasks:
            return
        culprit = _module(tasks[0])
        for task in (each for each in tasks if _module(each) == culprit):
            yield Verdict(task=task.name, message=f"importing {culprit} {ending}")
        tasks = [task for task in tasks if _module(task) != culprit]


def _verdict(answer: Mapping[str, Any]) -> Verdict:
    names = answer.get("parameters")
    return Verdict(
        task=answer["task"],
        message=answer["message"],
        help=answer["help"],
        parameters=None if names is None else tuple(names),
        required=tuple(answer.get("required") or ()),
    )


def _probe(place: _Place, path: tuple[str, ...], tasks: list[Task]) -> tuple[list[Any], str]:
    """The answers of one child, in order, and how it ended."""
    calls = [[task.name, task.call] for task in tasks]
    question = json.dumps({"path": list(path), "patience": PATIENCE, "calls": calls})
    modules = len({_module(task) for task in tasks})
    if not os.path.isdir(place.cwd):
        return [], f"is not possible: there is no folder {place.cwd} (cwd)"
    try:
        done = subprocess.run(
            [place.python, "-c", _PROBE.read_text(encoding="utf-8")],
            input=question.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=place.cwd,
            env=dict(place.environ),
            timeout=PATIENCE * (modules + 1),
            check=False,
        )
        return _answers(done.stdout), _ending(done.returncode)
    except subprocess.TimeoutExpired as error:
        return _answers(error.stdout or b""), _ending(-14)
    except OSError as error:
        return [], f"is not possible with {place.python}: {error.strerror}"


def _answers(output: bytes) -> list[Any]:
    lines = output.decode("utf-8", "replace").split("\n")
    return [json.loads(line) for line in lines[:-1] if line.startswith("{")]


def _ending(code: int) -> str:
    if code == -14:  # SIGALRM: the probe's own alarm
        return f"took longer than {PATIENCE:g} s"
    return (
        f"ended the process with signal {-code}" if code < 0 else f"ended the process with exit code {code}"
    )
