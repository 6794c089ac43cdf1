"""Looks for the callables of a plan in child processes, and for its programs on their PATH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from ..plan import Plan, Task
from .draft import Draft
from .problems import Findings, Place, Problem

PATIENCE: Final = 10.0  # seconds for one module
_PROBE: Final = Path(__file__).with_name("probe.py")
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the look for one callable; no message: it was found."""

    task: str
    message: str = ""
    help: str = ""


def check_callables(
    plan: Plan, findings: Findings | None = None, drafts: Mapping[str, Draft] | None = None
) -> list[Problem]:
    """The callables of a plan that cannot be found, as errors; looked for by the interpreter of their pool.

    User code is imported in child processes only, one module after the other, ten seconds at most each.
    With `findings` the errors are added there too, at the places that `drafts` know.
    """
    found = Findings() if findings is None else findings
    before = set(found.sorted())
    for verdict in look_for_callables(plan):
        if verdict.message:
            place = _place(plan, verdict.task, "call", drafts)
            found.error(place, "callable-not-found", f"call: {verdict.message}", hint=verdict.help)
    return [problem for problem in found.sorted() if problem not in before]


def _place(plan: Plan, task: str, key: str, drafts: Mapping[str, Draft] | None) -> Place:
    if drafts is not None and task in drafts:
        return drafts[task].place(key)
    return Place(plan.file, plan.tasks[task].line, 1)


def look_for_callables(plan: Plan) -> Iterator[Verdict]:
    """A verdict on every task that is a call."""
    calls = [task for task in plan.tasks.values() if task.call is not None]
    ordered = sorted(calls, key=lambda task: (task.pool, _module(task)))
    for pool, tasks in groupby(ordered, key=lambda task: task.pool):
        yield from _look_in_pool(plan, pool, list(tasks))


def _module(task: Task) -> str:
    return (task.call or "").partition(":")[0]


def _look_in_pool(plan: Plan, pool: str, tasks: list[Task]) -> Iterator[Verdict]:
    """One child for all modules; the module that ends it or hangs is blamed, and the rest gets a new one."""
    while tasks:
        answers, ending = _probe(plan, pool, tasks)
        for answer in answers:
            yield Verdict(task=answer["task"], message=answer["message"], help=answer["help"])
        tasks = tasks[len(answers) :]
        if not tasks:
            return
        culprit = _module(tasks[0])
        for task in (each for each in tasks if _module(each) == culprit):
            yield Verdict(task=task.name, message=f"importing {culprit} {ending}")
        tasks = [task for task in tasks if _module(task) != culprit]


def _probe(plan: Plan, pool: str, tasks: list[Task]) -> tuple[list[Any], str]:
    """The answers of one child, in order, and how it ended."""
    settings = plan.pools.get(pool)
    python = sys.executable if settings is None or settings.python is None else settings.python
    question = json.dumps(
        {
            "path": list(plan.pythonpath),
            "patience": PATIENCE,
            "calls": [[task.name, task.call] for task in tasks],
        }
    )
    environ = {**os.environ, **({} if settings is None else settings.env)}
    modules = len({_module(task) for task in tasks})
    try:
        done = subprocess.run(
            [python, "-c", _PROBE.read_text(encoding="utf-8")],
            input=question.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.path.dirname(plan.file) or "/",
            env=environ,
            timeout=PATIENCE * (modules + 1),
            check=False,
            start_new_session=True,
        )
        return _answers(done.stdout), _ending(done.returncode)
    except subprocess.TimeoutExpired as error:
        return _answers(error.stdout or b""), _ending(-14)
    except OSError as error:
        return [], f"is not possible with {python}: {error.strerror}"


def _answers(output: bytes) -> list[Any]:
    lines = output.decode("utf-8", "replace").split("\n")
    return [json.loads(line) for line in lines[:-1] if line.startswith("{")]


def _ending(code: int) -> str:
    if code == -14:  # SIGALRM: the probe's own alarm
        return f"took longer than {PATIENCE:g} s"
    return (
        f"ended the process with signal {-code}" if code < 0 else f"ended the process with exit code {code}"
    )


def check_programs(
    plan: Plan, environ: Mapping[str, str], findings: Findings, drafts: Mapping[str, Draft]
) -> None:
    """Warns of commands in list form whose program is not there."""
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
                f"there is no program {task.command[0]!r}" + ("" if "/" in program else f" on PATH {path}"),
                hint="name it by its absolute path, or set PATH under env",
            )
