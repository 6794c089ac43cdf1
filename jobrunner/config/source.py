"""A file as the supervisor's source of plans: the questions to child processes, and their answers."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..durations import SECOND
from ..inquiry import Answer, Question
from ..plan import Plan
from ..reloader import Candidate
from .child import PATIENCE, compiling
from .compiled import from_text, problem_document
from .discover import target_of
from .looked import asked, judged, verdicts_of

LOOK_PATIENCE = 120 * SECOND  # each module has its own, much shorter limit


class FileSource:
    """A jobs.yaml, or a JobRunner named as `module:attribute`."""

    def __init__(self, path: str, *, hide: Callable[[tuple[str, ...]], None]) -> None:
        self._hide = hide  # is told the secrets of a plan before anything else is
        self._path = path if target_of(path) is not None else os.path.abspath(path)

    def compile(self) -> Question:
        return Question(compiling(self._path), round(PATIENCE * SECOND))

    def compiled(self, answer: Answer) -> Candidate:
        try:
            found = from_text(answer.output)
        except (ValueError, KeyError, TypeError):
            said = answer.trouble or "gave no plan"
            rendered = f"{self._path}: the process that reads it {said}; it is read again soon"
            return Candidate(None, rendered=rendered, is_read=False)
        if found.plan is not None:
            self._hide(found.plan.secrets)
        return Candidate(
            plan=found.plan,
            problems=tuple(problem_document(each) for each in found.problems),
            rendered=found.rendered,
            watched=found.watched,
            fingerprint=found.fingerprint,
        )

    def look(self, plan: Plan) -> Question | None:
        if all(task.call is None for task in plan.tasks.values()):
            return None
        return Question(("look",), LOOK_PATIENCE, asked(plan).encode())

    def judged(self, plan: Plan, answer: Answer) -> Plan:
        try:
            return judged(plan, verdicts_of(answer.output))
        except (ValueError, KeyError, TypeError):
            raise ValueError(answer.trouble or "the answer cannot be read") from None
