"""Looks for the callables of a plan in child processes: whether they can be imported, and what they take."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..plan import Plan, Pool, Task
from .aftermath import end_what_was_started, marked

PATIENCE: Final = 6.0  # seconds for one module: with all else, a task is blocked within ten of its edit
GLANCE: Final = 0.5  # seconds; what takes longer is looked for by itself, beside the others
START: Final = 5.0  # seconds for an interpreter to start, on a busy machine
MARGIN: Final = 0.5  # seconds after which its own alarm should have ended a child
LATE: Final = "late"
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

    As in a worker, a module is imported in its task's environment and folder. What takes long is looked for
    by a process of its own, while the others go on: a module that hangs holds up nobody.
    """
    groups = _grouped(plan, inherited)
    try:
        yield from _verdicts(groups, plan.pythonpath)
    finally:
        if groups:
            end_what_was_started(os.getpid())


def _verdicts(groups: Mapping[_Place, list[Task]], path: tuple[str, ...]) -> Iterator[Verdict]:
    slow: list[_Probe] = []
    for place, tasks in groups.items():
        yield from _glance(place, path, tasks, slow)
    for probe in slow:
        answers, ending = probe.answers()
        yield from map(_verdict, answers)
        yield from _blamed(probe.tasks[len(answers) :], ending)


def _grouped(plan: Plan, inherited: Mapping[str, str]) -> dict[_Place, list[Task]]:
    groups: dict[_Place, list[Task]] = {}
    for task in sorted(plan.tasks.values(), key=_module):
        if task.call is not None:
            groups.setdefault(_place(plan, task, inherited), []).append(task)
    return groups


def _place(plan: Plan, task: Task, inherited: Mapping[str, str]) -> _Place:
    pool = plan.pools.get(task.pool, Pool(name=task.pool))
    environ = {**inherited, **pool.env, **task.env}
    if pool.python is None and Path(_PACKAGE_ROOT).name not in _INSTALLED:
        given = environ.get("PYTHONPATH")  # a checkout: modules may import this package
        environ["PYTHONPATH"] = f"{_PACKAGE_ROOT}{os.pathsep}{given}" if given else _PACKAGE_ROOT
    return _Place(pool.python or sys.executable, tuple(sorted(environ.items())), task.cwd)


def _module(task: Task) -> str:
    return (task.call or "").partition(":")[0]


def _glance(place: _Place, path: tuple[str, ...], tasks: list[Task], slow: list[_Probe]) -> Iterator[Verdict]:
    """One child for all modules; the one that ends it is blamed, a slow one is set aside."""
    while tasks:
        answers, ending = _Probe(place, path, tasks, GLANCE).answers()
        yield from map(_verdict, answers)
        tasks = tasks[len(answers) :]
        if not tasks:
            return
        culprit = _module(tasks[0])
        own = [task for task in tasks if _module(task) == culprit]
        tasks = [task for task in tasks if _module(task) != culprit]
        if ending == LATE:
            slow.append(_Probe(place, path, own, PATIENCE))
        else:
            yield from _blamed(own, ending)


def _blamed(tasks: list[Task], ending: str) -> Iterator[Verdict]:
    said = f"took longer than {PATIENCE:g} s" if ending == LATE else ending
    for task in tasks:
        yield Verdict(task=task.name, message=f"importing {_module(task)} {said}")


def _verdict(answer: Mapping[str, Any]) -> Verdict:
    names = answer.get("parameters")
    return Verdict(
        task=answer["task"],
        message=answer["message"],
        help=answer["help"],
        parameters=None if names is None else tuple(names),
        required=tuple(answer.get("required") or ()),
    )


class _Probe:
    """One child that imports the modules of some tasks, one after the other."""

    def __init__(self, place: _Place, path: tuple[str, ...], tasks: list[Task], patience: float) -> None:
        self.tasks = tasks
        self._place = place
        self._patience = patience
        self._child: subprocess.Popen[bytes] | None = None
        self._trouble = ""
        calls = [[task.name, task.call] for task in tasks]
        self._question = json.dumps({"path": list(path), "patience": patience, "calls": calls}).encode()
        if os.path.isdir(place.cwd):
            self._start()
        else:
            self._trouble = f"is not possible: there is no folder {place.cwd} (cwd)"

    def _start(self) -> None:
        try:
            self._child = subprocess.Popen(
                [self._place.python, "-c", _PROBE.read_text(encoding="utf-8")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=self._place.cwd,
                env=marked(dict(self._place.environ)),
            )
        except OSError as error:
            self._trouble = f"is not possible with {self._place.python}: {error.strerror}"
            return
        if self._child.stdin is not None:
            with suppress(BrokenPipeError):
                self._child.stdin.write(self._question)
                self._child.stdin.close()
            self._child.stdin = None  # or `communicate` would close it again

    def answers(self) -> tuple[list[Any], str]:
        """Its answers, in order, and how it ended; waits for it."""
        if self._child is None or self._child.stdout is None:
            return [], self._trouble
        with self._child.stdout as stdout:
            output = self._read(stdout.fileno())
        code = self._child.poll()
        if code is None:  # its alarm did not ring: the module has taken it away
            self._child.kill()
            self._child.wait()
            return _answers(output), LATE
        return _answers(output), _ending(code)

    def _read(self, fd: int) -> bytes:
        """What it says, until it ends, or has said nothing for too long."""
        output, patience = b"", START
        while select.select([fd], [], [], patience)[0]:
            read = os.read(fd, 65536)
            if not read:
                with suppress(subprocess.TimeoutExpired):
                    if self._child is not None:
                        self._child.wait(MARGIN)
                break
            output, patience = output + read, self._patience + MARGIN
        return output


def _answers(output: bytes) -> list[Any]:
    lines = output.decode("utf-8", "replace").split("\n")
    return [json.loads(line) for line in lines[:-1] if line.startswith("{")]


def _ending(code: int) -> str:
    if code == -signal.SIGALRM:  # the probe's own alarm
        return LATE
    return (
        f"ended the process with signal {-code}" if code < 0 else f"ended the process with exit code {code}"
    )
