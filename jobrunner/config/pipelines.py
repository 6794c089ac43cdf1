"""Pipelines of a file to those of a plan: names are resolved, and what cannot be is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..composition import Map, Node, Parallel, Step, Steps, to_text
from ..composition import Pipeline as Spec
from ..durations import DAY
from ..errors import PayloadError
from ..model import Options
from ..plan import CatchUp, Overlap, Pipeline
from .draft import mapping
from .kinds import suggestion
from .notices import notify_of
from .problems import Findings, Place
from .rules import Rules
from .sources import Part
from .step_models import PipelineModel, StepModel
from .unique import unique_of

Path = tuple[str | int, ...]

_KINDS: Final = ("task", "parallel", "map", "sequence")
_OF_LEAVES: Final = ("input", "args", "kwargs")
_OF_TASKS: Final = ("retries", "retry_delay", "timeout", "expires", "priority", "delay", "env")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDraft:
    """What one pipeline says."""

    name: str
    part: Part
    own: PipelineModel

    def get(self, key: str) -> Any:
        return getattr(self.own, key, None)

    def place(self, key: str, *inside: str | int) -> Place:
        return self.part.document.place(["pipelines", self.name, key, *inside])

    @property
    def named_at(self) -> Place:
        return self.part.document.place(["pipelines", self.name], key=True)


@dataclass(slots=True)
class Composer:
    """Makes the pipelines of what was read."""

    findings: Findings
    tasks: Collection[str]  # declared, valid or not
    pipelines: Mapping[str, PipelineDraft]
    env: Mapping[str, str] = field(default_factory=dict)  # the file's
    _named: dict[str, set[str]] = field(default_factory=dict)  # pipeline -> pipelines among its steps
    _draft: PipelineDraft | None = None

    def made(self, rules: Rules) -> dict[str, Pipeline]:
        """The pipelines of the plan."""
        found = {name: self._pipeline(draft, rules) for name, draft in self.pipelines.items()}
        for name, draft in self.pipelines.items():
            if self._reaches(name, name, set()):
                self._error(draft.place("steps"), "pipeline-loop", f"pipeline {name!r} is a step of itself")
        return found

    def _pipeline(self, draft: PipelineDraft, rules: Rules) -> Pipeline:
        self._draft = draft
        if draft.name in self.tasks:
            message = f"{draft.name!r} is a task too: tasks and pipelines share their names"
            self._error(draft.named_at, "duplicate-task", message, "rename one of them")
        get = draft.get
        return Pipeline(
            name=draft.name,
            composition=self._composition(draft),
            description=get("description") or "",
            schedules=tuple(rules.of(draft)),
            overlap=Overlap(get("overlap") or Overlap.SKIP),
            catch_up=CatchUp(get("catch_up") or CatchUp.ONE),
            catch_up_window=DAY if get("catch_up_window") is None else get("catch_up_window"),
            catch_up_limit=get("catch_up_limit") or 100,
            jitter=get("jitter") or 0,
            priority=get("priority") or 0,
            timeout=get("timeout"),
            unique=unique_of(get("unique")),
            notify=notify_of(draft, self.findings),
            env=self.env if draft.own.notify is not None else {},
            enabled=get("enabled") is not False,
            line=draft.named_at.line,
        )

    def _composition(self, draft: PipelineDraft) -> str:
        steps = draft.own.steps
        if steps is None and mapping(mapping(draft.part.raw.get("pipelines")).get(draft.name)).get("steps"):
            return to_text(Spec(steps=Steps(steps=())))  # they are there, and wrong: that is reported
        if steps is None:
            message = f"pipeline {draft.name!r} has no key 'steps', expected one"
            self.findings.consequence(draft.named_at, "missing-key", message)
            return to_text(Spec(steps=Steps(steps=())))
        spec = Spec(
            steps=Steps(steps=tuple(self._series(steps, ("steps",)))),
            on_failure=self._handlers(draft.own.on_failure, ("on_failure",)),
            on_success=self._handlers(draft.own.on_success, ("on_success",)),
        )
        try:
            return to_text(spec)
        except PayloadError as error:
            self._error(draft.place("steps"), "bad-value", f"steps: {error}")
            return to_text(Spec(steps=Steps(steps=())))

    # ---- steps

    def _series(self, models: list[StepModel], path: Path) -> Iterator[Node]:
        for place, model in enumerate(models):
            first = place == 0 and path == ("steps",)
            yield self._node(model, (*path, place), has_input=not first)

    def _node(self, model: StepModel, path: Path, *, has_input: bool) -> Node:
        given = [kind for kind in _KINDS if getattr(model, kind) is not None]
        if len(given) != 1:
            message = f"a step has {' and '.join(map(repr, given)) or 'neither task, parallel nor map'}"
            self._error(self._at(path), "bad-step", f"{message}, expected one of task, parallel, map")
            return Steps(steps=())
        self._check_keys(model, given[0], path)
        on_failure = self._handlers(model.on_failure, (*path, "on_failure"))
        goes_on = model.on_member_failure == "continue"
        if model.sequence is not None:
            return Steps(steps=tuple(self._series(model.sequence, path)))
        if model.map is not None:
            return self._map(model.map, (*path, "map"), goes_on, on_failure, has_input=has_input)
        if model.parallel is not None:
            members = enumerate(model.parallel)
            inside = (*path, "parallel")
            nodes = tuple(self._node(each, (*inside, n), has_input=has_input) for n, each in members)
            return Parallel(members=nodes, goes_on=goes_on, on_failure=on_failure)
        return self._step(model, path, on_failure)

    def _map(
        self, model: StepModel, path: Path, goes_on: bool, on_failure: tuple[Step, ...], *, has_input: bool
    ) -> Node:
        if model.task is None or model.parallel is not None or model.map is not None:
            self._error(self._at(path), "bad-step", "map: expected a task and what it goes over")
            return Steps(steps=())
        if "over" not in model.model_fields_set:
            hint = "over: [1, 2, 3], or over: input"
            self._error(self._at(path), "missing-key", "map has no key 'over', expected one", hint)
        if model.over is None and not has_input:
            hint = "give it a list, or put a step before it"
            self._error(self._at((*path, "over")), "bad-step", "the first step has no input to go over", hint)
        step = self._step(model, path, self._handlers(model.on_failure, (*path, "on_failure")))
        over = None if model.over is None else tuple(model.over)
        return Map(step=step, over=over, goes_on=goes_on, on_failure=on_failure)

    def _step(self, model: StepModel, path: Path, on_failure: tuple[Step, ...]) -> Step:
        name = model.task or ""
        known = {*self.tasks, *self.pipelines}
        if name not in known:
            hint = suggestion(name, known, what="tasks")
            self._error(self._at(path, "task"), "unknown-task", f"unknown task {name!r}", hint)
        elif name in self.pipelines and self._draft is not None:
            self._named.setdefault(self._draft.name, set()).add(name)
            self._refuse_keys(model, _OF_TASKS, path, f"{name!r} is a pipeline")
        given = (model.timeout, model.retries, model.retry_delay, model.env)
        timeout, retries, delay, env = given
        options = Options(timeout=timeout, retries=retries, retry_delay=delay, env=env or {})
        return Step(
            task=name,
            args=None if model.args is None else tuple(model.args),
            kwargs=model.kwargs or {},
            takes_input=model.input is None,
            delay=model.delay or 0,
            expires=model.expires,
            priority=model.priority,
            options=options if any(each is not None for each in given) else None,
            on_failure=on_failure,
        )

    def _check_keys(self, model: StepModel, kind: str, path: Path) -> None:
        if kind != "task":
            self._refuse_keys(model, (*_OF_LEAVES, *_OF_TASKS), path, f"{kind!r} is no task")
        if kind in ("task", "sequence"):
            self._refuse_keys(model, ("on_member_failure",), path, "it has no members")
        self._refuse_keys(model, ("over",), path, "it is for map")

    def _refuse_keys(self, model: StepModel, keys: tuple[str, ...], path: Path, why: str) -> None:
        for key in keys:
            if key in model.model_fields_set:
                self._error(self._at(path, key), "key-does-not-fit", f"{key!r} has no meaning here: {why}")

    def _handlers(self, names: list[str] | None, path: Path) -> tuple[Step, ...]:
        for index, name in enumerate(names or ()):
            if name not in self.tasks:
                hint = suggestion(name, self.tasks, what="tasks")
                self._error(self._at((*path, index)), "unknown-task", f"unknown task {name!r}", hint)
        return tuple(Step(task=name) for name in names or ())

    # ---- problems

    def _reaches(self, start: str, goal: str, seen: set[str]) -> bool:
        following = self._named.get(start, set()) - seen
        seen |= following
        return goal in following or any(self._reaches(each, goal, seen) for each in following)

    def _at(self, path: Path, key: str | None = None) -> Place:
        draft = self._draft
        assert draft is not None
        whole = ["pipelines", draft.name, *path, *(() if key is None else (key,))]
        return draft.part.document.place(whole, key=key is not None and key != "task")

    def _error(self, place: Place, code: str, message: str, hint: str = "") -> None:
        self.findings.error(place, code, message, hint=hint)


def declared(parts: Collection[Part]) -> set[str]:
    """The names of pipelines that the files declare, valid or not."""
    return {name for part in parts for name in mapping(part.raw.get("pipelines"))}
