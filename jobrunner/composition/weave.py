"""From the tree of a pipeline to its rows: a root, a row for each step and each block, and the edges."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..birth import callbacks, new_run
from ..catalogue import Entry
from ..codec import NO_ARGUMENTS, decode_arguments, encode, encode_arguments
from ..durations import Micros
from ..errors import NotFound, UsageError
from ..ids import derived_id
from ..model import Cause, Condition, Edge, Join, NewRun, Run, State, Trigger, pool_lane
from ..plain import to_plain
from .result import items_of, with_input
from .spec import MAP_POOL, Map, Nested, Node, Parallel, Pipeline, Step, Steps, from_text, to_text

PARALLEL, SERIES, MAP = "(parallel)", "(steps)", "(map)"  # tasks of rows that stand for blocks
ANONYMOUS = "(pipeline)"  # the task of the root of a pipeline that has no name
DEEPEST = 30  # pipelines that name pipelines
MOST_MEMBERS = 20_000  # of a block: a map grows in the supervisor's own loop
WHOLE = 1_000_000  # more runs than a pipeline has

Entries = Callable[[str], Entry | None]


class Before(NamedTuple):
    """What comes before a node."""

    edges: tuple[Edge, ...] = ()
    known: str | None = None  # the result of what comes before, when that is known already
    has_input: bool = False
    args: Sequence[object] | None = None  # for the first steps: what the enqueuer gave
    kwargs: Mapping[str, object] = {}


class Place(NamedTuple):
    """What all rows of a pipeline share."""

    root: str
    name: str
    now: Micros
    due_at: Micros
    priority: int  # 0: each task's own
    patience: Micros | None = None  # of the steps that begin it, over their tasks' own


# --- the doors --------------------------------------------------------------------------------------


def begin(run: NewRun, entry: Entry, entries: Entries) -> tuple[NewRun, ...]:
    """The rows of a run that is about to be added: itself, or (a pipeline) its root and all known steps.

    Raises NotFound for a step whose task nobody knows, UsageError for a pipeline that names itself.
    """
    if entry.composition is None:
        return (run,)
    spec: Pipeline = from_text(entry.composition)
    return _root(run, _inlined(spec, entries), entries, {}, entry.timeout)


def retried(run: NewRun, entry: Entry | None, old: Iterable[Run], entries: Entries) -> tuple[NewRun, ...]:
    """The rows of a pipeline that is done again: what has succeeded keeps its result (semantics 36).

    `run` is the new root's row, `old` are the rows of the failed one, its root among them.
    """
    rows = list(old)
    text = next((each.compose for each in rows if each.join is not None and each.pipeline is None), None)
    if text is None and entry is not None:  # it was enqueued before it was known
        text = entry.composition
    if text is None:
        raise UsageError(f"run {run.id} is no pipeline")
    kept = {each.step: each for each in rows if each.step is not None and _is_kept(each)}
    if any(each.pipeline is None and each.state is State.SUCCEEDED for each in rows):
        kept = {}  # nothing is left to be done: all of it is done again
    return _root(run, from_text(text), entries, kept, None if entry is None else entry.timeout)


def called(
    entries: Mapping[str, Entry], names: Iterable[str], cause: Cause, born: Micros, now: Micros
) -> tuple[NewRun, ...]:
    """The runs that a final run, born at `born`, enqueues (`on_success`, `on_failure` of a task)."""
    runs = callbacks(entries, tuple(names), cause, born, now)
    return tuple(each for run in runs for each in begin(run, entries[run.task], entries.get))


def _is_kept(run: Run) -> bool:
    """Whether it has succeeded, and is no handler (`2.f1`)."""
    return run.state is State.SUCCEEDED and (run.step or "").replace(".", "").isdigit()


def _root(
    run: NewRun, spec: Pipeline, entries: Entries, kept: Mapping[str, Run], timeout: Micros | None
) -> tuple[NewRun, ...]:
    patience = None if run.expires_at is None else run.expires_at - run.due_at
    place = Place(run.id, run.task, run.created_at, run.due_at, run.priority, patience)
    weaver = Weaver(place, entries, kept)
    args, kwargs = decode_arguments(run.payload)
    ends = weaver.series(spec.steps.steps, "", Before(args=args or None, kwargs=kwargs))
    for handlers in (spec.steps.on_failure, spec.on_failure):
        weaver.handlers(handlers, run.id, "", Condition.FAILED)
    weaver.handlers(spec.on_success, run.id, "", Condition.OK)
    root = run._replace(
        state=State.WAITING,
        join=Join.LAST.value,
        after=_finals(ends),
        expires_at=None if timeout is None else run.due_at + timeout,
        compose=to_text(spec),
    )
    return root, *weaver.runs


def _demand_bare(step: Step) -> None:
    """A step that is a pipeline has no attempts of its own: its steps have."""
    if step.options is not None or step.expires is not None or step.priority is not None or step.delay:
        raise UsageError(
            f"{step.task!r} is a pipeline: as a step it has no timeout, retries, delay, priority, expires",
            help="give them to its own steps",
        )


def _inlined(spec: Pipeline, entries: Entries) -> Pipeline:
    """The same with every named pipeline in its place: what a retry needs is in the root's row."""
    steps = _inline(spec.steps, entries, 0)
    assert isinstance(steps, Steps)
    return replace(spec, steps=steps)


def _inline(node: Node, entries: Entries, depth: int) -> Node:
    if isinstance(node, Step):
        return _inline_step(node, entries, depth)
    if isinstance(node, Steps):
        return replace(node, steps=tuple(_inline(each, entries, depth) for each in node.steps))
    if isinstance(node, Parallel):
        return replace(node, members=tuple(_inline(each, entries, depth) for each in node.members))
    return node


def _inline_step(step: Step, entries: Entries, depth: int) -> Node:
    entry = entries(step.task)
    if entry is None or entry.composition is None:
        return step
    if depth >= DEEPEST:
        raise UsageError(f"pipeline {step.task!r} names itself, by whatever way")
    _demand_bare(step)
    spec: Pipeline = from_text(entry.composition)
    steps = _inline(spec.steps, entries, depth + 1)
    assert isinstance(steps, Steps)
    return Nested(
        name=step.task,
        steps=steps,
        args=step.args,
        kwargs=step.kwargs,
        takes_input=step.takes_input,
        on_failure=(*step.on_failure, *spec.on_failure),
        on_success=spec.on_success,
    )


# --- rows -------------------------------------------------------------------------------------------


class Weaver:
    """Writes the rows of nodes, each block before what it stands for."""

    def __init__(self, place: Place, entries: Entries, kept: Mapping[str, Run] | None = None) -> None:
        self.runs: list[NewRun] = []
        self._handlers: Counter[str] = Counter()  # written so far, by their places without the number
        self._place = place
        self._entries = entries
        self._kept = kept or {}

    def node(self, node: Node, step: str, before: Before) -> str:
        """Write a node's rows; the id of the one that stands for it."""
        if isinstance(node, Step):
            run_id = self._leaf(node, step, before)
        elif isinstance(node, Steps):
            run_id = self._block(SERIES, Join.LAST, step, lambda: self.series(node.steps, step, before))
        elif isinstance(node, Nested):
            run_id = self._nested(node, step, before)
        elif isinstance(node, Map):
            run_id = self._map(node, step, before)
        else:
            run_id = self._parallel(node.members, node, step, before)
        self.handlers(node.on_failure, run_id, step, Condition.FAILED)
        return run_id

    def series(self, nodes: Sequence[Node], step: str, before: Before) -> list[str]:
        """Write nodes, each behind the one before it; their ids."""
        ids: list[str] = []
        for number, node in enumerate(nodes, 1):
            ids.append(self.node(node, below(step, number), before))
            before = self._after(ids[-1], below(step, number))
        return ids

    def _after(self, run_id: str, step: str) -> Before:
        kept = self._kept.get(step)
        edge = Edge(run_id, Condition.OK.value)
        return Before((edge,), None if kept is None else kept.result, has_input=True)

    def handlers(self, handlers: Iterable[Step], run_id: str, step: str, condition: Condition) -> None:
        """Write what is called when a row ends so."""
        place = below(step, "f" if condition is Condition.FAILED else "s")
        edges = (Edge(run_id, condition.value),)
        for handler in handlers:
            self._handlers[place] += 1
            run = self._run(handler, f"{place}{self._handlers[place]}", Before(edges))
            self.runs.append(run._replace(trigger=Trigger.CALLBACK, compose='{"cause":true}'))
            self.handlers(handler.on_failure, run.id, run.step or "", Condition.FAILED)

    # --- blocks ---------------------------------------------------------------------------------

    def _parallel(self, members: Sequence[Node], node: Parallel | Map, step: str, before: Before) -> str:
        _demand_few(len(members))
        join = Join.LIST_ANY if node.goes_on else Join.LIST
        if not members and before.edges:  # it is not over before what it follows is
            return self._growing(Map(step=Step(task=MAP), over=()), step, before)

        def write() -> list[str]:
            return [self.node(each, below(step, number), before) for number, each in enumerate(members, 1)]

        return self._block(MAP if isinstance(node, Map) else PARALLEL, join, step, write)

    def _nested(self, node: Nested, step: str, before: Before) -> str:
        own = Before(
            before.edges,
            before.known,
            before.has_input and node.takes_input,
            node.args if before.args is None else before.args,
            {**node.kwargs, **before.kwargs},
        )
        run_id = self._block(node.name, Join.LAST, step, lambda: self.series(node.steps.steps, step, own))
        self.handlers(node.on_success, run_id, step, Condition.OK)
        return run_id

    def _map(self, node: Map, step: str, before: Before) -> str:
        if node.over is not None:
            return self._spread(node, [_text_of(item) for item in node.over], step, before)
        if before.known is not None:
            return self._spread(node, items_of(before.known), step, before)
        if not before.edges:
            raise UsageError("a map over its input needs a step before it")
        return self._growing(node, step, before)

    def _spread(self, node: Map, items: Sequence[str], step: str, before: Before) -> str:
        """The members of a map whose items are known."""

        def write() -> list[str]:
            return self.members(node, items, step, Before(before.edges))

        if not items and before.edges:
            return self._growing(replace(node, over=()), step, before)
        return self._block(MAP, Join.LIST_ANY if node.goes_on else Join.LIST, step, write)

    def members(self, node: Map, items: Sequence[str], step: str, before: Before) -> list[str]:
        """Write one member of a map for each of its items; their ids."""
        _demand_few(len(items))
        each = _inline(node.step, self._entries, 0)
        return [self._member(each, below(step, number), before, item) for number, item in enumerate(items, 1)]

    def _member(self, node: Node, step: str, before: Before, item: str) -> str:
        payload = with_input(NO_ARGUMENTS, (), item)
        args, kwargs = decode_arguments(payload)
        if isinstance(node, Nested):
            return self.node(node, step, before._replace(args=args or None, kwargs=kwargs))
        assert isinstance(node, Step)
        place = len(self.runs)
        run_id = self.node(node, step, before)
        run = self.runs[place]
        self.runs[place] = run._replace(payload=with_input(run.payload, tuple(node.kwargs), item))
        return run_id

    def _growing(self, node: Map, step: str, before: Before) -> str:
        """The row of a map whose items are not known yet: the supervisor claims it and lets it grow."""
        entry = Entry(name=MAP, kind="map", pool=MAP_POOL, lane=pool_lane(MAP_POOL))
        run = self._row(entry, step, before, compose=to_text(node))
        self.runs.append(run)
        return run.id

    def _block(self, task: str, join: Join, step: str, members: Callable[[], list[str]]) -> str:
        """A row that stands for others, and those."""
        entry = Entry(name=task, kind="pipeline", pool="", lane=pool_lane(""))
        at = len(self.runs)
        run = self._row(entry, step, Before())
        self.runs.append(run)
        ends = _finals(members())
        if run.state is State.SUCCEEDED:  # kept, with what has failed below it: that is not done again
            self.runs[at:] = [each for each in self.runs[at:] if each.state is State.SUCCEEDED]
        state = State.SUCCEEDED if run.state is State.SUCCEEDED else State.WAITING
        self.runs[at] = run._replace(state=state, join=join.value, after=ends)
        return run.id

    # --- leaves ---------------------------------------------------------------------------------

    def _leaf(self, step: Step, place: str, before: Before) -> str:
        run = self._run(step, place, before)
        if step.takes_input and before.has_input:
            run = run._replace(compose=json.dumps({"input": True, "own": sorted(step.kwargs)}))
        self.runs.append(run)
        return run.id

    def _run(self, step: Step, place: str, before: Before) -> NewRun:
        entry = self._entries(step.task)
        if entry is None:
            raise NotFound(f"pipeline {self._place.name!r} has a step of which nobody knows: {step.task!r}")
        if entry.composition is not None:
            raise UsageError(f"{step.task!r} is a pipeline: it cannot be called for a failure")
        args = step.args if before.args is None else before.args
        kwargs = {**entry.kwargs, **step.kwargs, **before.kwargs}
        payload = encode_arguments(entry.args if args is None else tuple(args), kwargs)
        plain = None if step.options is None else to_plain(step.options)
        run = self._row(entry, place, before, payload=payload, delay=step.delay, expires=step.expires)
        return run._replace(
            priority=self._priority(step, entry), options=json.dumps(plain) if plain else None
        )

    def _priority(self, step: Step, entry: Entry) -> int:
        return step.priority if step.priority is not None else self._place.priority or entry.priority

    def _row(
        self,
        entry: Entry,
        step: str,
        before: Before,
        *,
        payload: str | None = None,
        compose: str | None = None,
        delay: Micros = 0,
        expires: Micros | None = None,
    ) -> NewRun:
        place, kept = self._place, self._kept.get(step)
        if expires is None and not before.edges:
            expires = place.patience
        run = new_run(
            entry,
            run_id=derived_id(place.now, "step", place.root, step),
            trigger=Trigger.PIPELINE,
            now=place.now,
            due_at=(place.now if before.edges else place.due_at) + delay,
            payload=payload,
            expires=expires,
        )
        run = run._replace(
            pipeline=place.root,
            pipeline_name=place.name,
            step=step,
            compose=compose,
            priority=place.priority,
            state=State.WAITING if before.edges else run.state,
            after=before.edges,
        )
        if kept is None:
            return run
        return run._replace(state=State.SUCCEEDED, result=kept.result, detail=json.dumps({"kept": kept.id}))


def _demand_few(count: int) -> None:
    if count > MOST_MEMBERS:
        raise UsageError(
            f"got {count:,} members of one map or group, expected at most {MOST_MEMBERS:,}",
            help="give each member a part of the items, or enqueue them with enqueue_many",
        )


def below(step: str, label: object) -> str:
    """The place of a member of this one."""
    return f"{step}.{label}" if step else str(label)


def _finals(ids: Iterable[str]) -> tuple[Edge, ...]:
    return tuple(Edge(run_id, Condition.FINAL.value) for run_id in ids)


def _text_of(item: object) -> str:
    """An item of a map as the text of a result."""
    return encode(item, what="item")
