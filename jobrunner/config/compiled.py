"""What a compilation gives, and its form as text between two processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..plain import from_plain, to_plain
from ..plan import Plan
from .problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A plan, or the errors that forbid one; `rendered` is what a terminal shows of the problems."""

    plan: Plan | None
    problems: tuple[Problem, ...] = ()
    rendered: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)  # texts of the files, as problems name them
    watched: tuple[str, ...] = ()  # what was read or looked for, were it in vain
    fingerprint: str = ""  # of what could be read

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.is_error)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if not problem.is_error)


def problem_document(problem: Problem) -> dict[str, object]:
    """A problem as `check --json` prints it."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "severity": problem.severity,
        "code": problem.code,
        "message": problem.message,
        "help": problem.help,
    }


def check_document(file: str, compiled: Compiled) -> dict[str, object]:
    """The document of `check --json`."""
    return {
        "file": file,
        "errors": len(compiled.errors),
        "warnings": len(compiled.warnings),
        "problems": [problem_document(problem) for problem in compiled.problems],
    }


def to_text(compiled: Compiled) -> str:
    """One JSON document; the texts of the files are left out, since the problems are rendered already."""
    document = {
        "plan": None if compiled.plan is None else to_plain(compiled.plan),
        "problems": [{**problem_document(each), "width": each.width} for each in compiled.problems],
        "rendered": compiled.rendered,
        "watched": list(compiled.watched),
        "fingerprint": compiled.fingerprint,
    }
    return json.dumps(document, separators=(",", ":"))


def from_text(text: str | bytes) -> Compiled:
    """What `to_text` wrote. Raises ValueError for anything else."""
    document: Any = json.loads(text)
    plan = document["plan"]
    return Compiled(
        plan=None if plan is None else from_plain(Plan, plan),
        problems=tuple(Problem(**each) for each in document["problems"]),
        rendered=document["rendered"],
        watched=tuple(document["watched"]),
        fingerprint=document["fingerprint"],
    )
