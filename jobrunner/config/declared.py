"""Tasks that decorators declare: asked for in a child process, and read as if they stood in the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from yaml.nodes import MappingNode, Node

from ..plan import Pool
from .aftermath import end_what_was_started, marked
from .file_models import IncludedModel
from .load import MAP
from .problems import Findings, Place
from .reading import Source
from .schema import TaskModel
from .sources import Part
from .validate import check_names, validate
from .values import Document, Path

PATIENCE: Final = 10.0  # seconds for one module
_CHILD: Final = "jobrunner.app.declarations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A task that a decorator declares."""

    name: str
    call: str
    options: Mapping[str, Any]  # as jobs.yaml would say them
    parameters: tuple[str, ...] | None
    file: str
    line: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """What was found in one module, or why nothing was."""

    name: str
    tasks: tuple[Declared, ...] = ()
    error: str = ""
    help: str = ""
    config: str | None = None  # of a JobRunner that was named: its file
    backend: str | None = None
    file: str | None = None  # the module itself
    signals: tuple[str, ...] = ()  # that its receivers wait for


# ---- asking ----------------------------------------------------------------------------------------------


def ask(
    names: Sequence[str], *, pythonpath: Sequence[str], folder: str, pool: Pool, environ: Mapping[str, str]
) -> Iterator[Module]:
    """What these modules declare; a child takes as many as it can, and its end blames the next."""
    left = list(names)
    while left:
        answers, ending = _asked(left, pythonpath, folder, pool, environ)
        end_what_was_started(os.getpid())
        for name, answer in zip(left, answers, strict=False):
            yield _module(name, answer)
        left = left[len(answers) :]
        if left:
            yield Module(name=left[0], error=f"importing {left[0].partition(':')[0]} {ending}")
            left = left[1:]


def _asked(
    names: Sequence[str], pythonpath: Sequence[str], folder: str, pool: Pool, environ: Mapping[str, str]
) -> tuple[list[Any], str]:
    question = json.dumps({"path": list(pythonpath), "patience": PATIENCE, "modules": list(names)})
    try:
        done = subprocess.run(
            [pool.python or sys.executable, "-P", "-m", _CHILD],
            input=question.encode(),
            capture_output=True,
            cwd=folder,
            env=marked({**environ, **pool.env}),
            timeout=PATIENCE * (len(names) + 1),
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        return _answers(error.stdout or b""), f"took longer than {PATIENCE:g} s"
    except OSError as error:
        return [], f"is not possible with {pool.python or sys.executable}: {error.strerror}"
    return _answers(done.stdout), _ending(done.returncode, done.stderr)


def _answers(output: bytes) -> list[Any]:
    lines = output.decode("utf-8", "replace").split("\n")
    return [json.loads(line) for line in lines[:-1] if line.startswith("{")]


def _ending(code: int, said: bytes) -> str:
    if code == -14:  # SIGALRM: the child's own alarm
        return f"took longer than {PATIENCE:g} s"
    if code < 0:
        return f"ended the process with signal {-code}"
    last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return f"ended the process with exit code {code}{': ' + last[:300] if last else ''}"


def _module(name: str, answer: dict[str, Any]) -> Module:
    if answer.get("error"):
        return Module(name=name, error=answer["error"], help=answer["help"])
    tasks = tuple(_declared(each, answer["file"] or name) for each in answer["tasks"])
    return Module(
        name=name,
        tasks=tasks,
        config=answer.get("config"),
        backend=answer.get("backend"),
        file=answer["file"],
        signals=tuple(answer.get("signals", ())),
    )


def _declared(answer: dict[str, Any], file: str) -> Declared:
    parameters = answer["parameters"]
    return Declared(
        name=answer["name"],
        call=answer["call"],
        options=answer["options"],
        parameters=None if parameters is None else tuple(parameters),
        file=answer["file"] or file,
        line=answer["line"],
        error=answer["error"],
    )


# ---- as parts of the configuration -----------------------------------------------------------------------


class Lines(Document):
    """A module in the place of a document: a task is written where its function is."""

    def __init__(self, name: str, lines: Mapping[str, int], findings: Findings) -> None:
        super().__init__(name, MappingNode(MAP, []), findings)
        self._lines = lines

    def place(self, path: Path, *, key: bool = False) -> Place:  # noqa: ARG002 - as a document's
        name = str(path[1]) if len(path) > 1 else ""
        return Place(self.name, self._lines.get(name, 1), 1)

    def written(self, path: Path) -> list[str]:
        return [str(step) for step in path]

    def node(self, path: Path) -> Node | None:  # noqa: ARG002
        return None


def parts_of(tasks: Sequence[Declared], main: Part, findings: Findings) -> Iterator[Part]:
    """These tasks as parts of the configuration, one for each file; what is wrong is among the findings."""
    files = dict.fromkeys(each.file for each in tasks)
    for file in files:
        yield _part(_name_of(file, main), [each for each in tasks if each.file == file], main, findings)


def _part(name: str, tasks: Sequence[Declared], main: Part, findings: Findings) -> Part:
    findings.knows(name)
    document = Lines(name, {each.name: each.line for each in tasks}, findings)
    for each in tasks:
        if each.error:
            place = document.place(["tasks", each.name])
            findings.error(place, "bad-task", f"task {each.name!r}: {each.error}")
    raw: dict[str, Any] = {"tasks": {each.name: dict(each.options) for each in tasks if not each.error}}
    check_names(document, raw, findings)
    copy = {"tasks": {key: dict(value) for key, value in raw["tasks"].items()}}
    model = validate(document, copy, IncludedModel, findings)
    source = Source(name=name, path=main.source.path, content=b"", text="")
    return Part(source=source, document=document, raw=raw, model=model)


def _name_of(file: str, main: Part) -> str:
    """The file as problems name it: short where it lies below the folder of the configuration."""
    near = os.path.relpath(file, main.folder)
    return file if near.startswith(os.pardir) else near


def over(own: TaskModel, declared: TaskModel) -> TaskModel:
    """A task of the file over one that a decorator declares: what the file says goes over its options."""
    return declared.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})
