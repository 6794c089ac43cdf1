"""Pipelines in Python: values of which `jobs.enqueue(...)` makes runs.

    add.s(1, 2).then(add, 3).then(add, 4)            one after the other; a result goes to the next
    group([add.s(i, i) for i in range(9)])           all at once; its result is the list of theirs
    group([...]).then(total)                         a chord: total gets the list
    split.s(text).then(count.each()).then(total)     one step for each item of the result before

Whatever is made of them is one tree (`composition`), the same that jobs.yaml makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack, cast, overload

from ..errors import UsageError
from ..model import Options
from .options import NO_TERMS, CallOptions, Terms

if TYPE_CHECKING:
    from .. import composition
    from .task import Task

R_co = TypeVar("R_co", covariant=True)
Q = TypeVar("Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Generic[R_co]):
    """A part of a pipeline, or a whole one; `R_co` is what its result is."""

    terms: Terms = NO_TERMS
    handlers: tuple[Step[Any], ...] = ()  # called when it has failed

    @overload
    def then(self, following: Task[..., Q], /, *args: Any, **kwargs: Any) -> Chain[Q]: ...
    @overload
    def then(self, following: Node[Q], /) -> Chain[Q]: ...
    def then(self, following: Any, /, *args: Any, **kwargs: Any) -> Chain[Any]:
        """What comes after it, with the result: a tuple extends the arguments, a dict the keyword arguments
        (not over those given here), None is nothing, anything else is appended."""
        return Chain(steps=(*_steps_of(self), *_steps_of(node_of(following, args, kwargs))))

    def error(self, handler: Task[..., Any] | Step[Any], /, *args: Any, **kwargs: Any) -> Self:
        """What is called when it has failed, after all retries; `current_run().cause` says what happened."""
        called = node_of(handler, args, kwargs)
        if not isinstance(called, Step):
            raise UsageError("a handler is a task, or a call of one", help="write error(task, ...)")
        return replace(self, handlers=(*self.handlers, called))

    def options(self, **options: Unpack[CallOptions]) -> Self:
        """The same with options: of a step, for its run; of anything else, for the pipeline as a whole."""
        return replace(self, terms=self.terms.with_options(options))

    def spec(self) -> composition.Node:
        """It in the tree of a pipeline."""
        raise NotImplementedError

    def tasks(self) -> Iterable[Step[Any]]:
        """All steps in it, handlers included."""
        yield from self.handlers

    def firsts(self) -> Iterable[Step[Any]]:
        """The steps that have no result before them."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Node[R_co]):
    """A call of a task, not made yet: `add.s(1, 2)`."""

    task: Task[..., R_co]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any]
    takes_input: bool = True

    def without_input(self) -> Step[R_co]:
        """The same, called without the result before it."""
        return replace(self, takes_input=False)

    def spec(self) -> composition.Step:
        from .. import composition

        terms = self.terms
        _demand(terms.eta is None, "eta", "a step has a delay, from the moment it is free")
        _demand(terms.run_id is None, "id", "it is that of the pipeline")
        _demand(terms.unique_key is None, "unique_key", "it is that of the pipeline")
        options = Options(timeout=terms.timeout, retries=terms.retries, retry_delay=terms.retry_delay)
        _demand(terms.expires is None or isinstance(terms.expires, int), "expires", "of a step it is a time")
        return composition.Step(
            task=self.task.name,
            args=self.args or None,
            kwargs=dict(self.kwargs),
            takes_input=self.takes_input,
            delay=terms.delay or 0,
            expires=cast("int | None", terms.expires),
            priority=terms.priority,
            options=None if options == Options() else options,
            on_failure=_handlers(self),
        )

    def tasks(self) -> Iterable[Step[Any]]:
        yield self
        yield from self.handlers

    def firsts(self) -> Iterable[Step[Any]]:
        return (self,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Each(Node[R_co]):
    """One step for each item of the result before it: `count.each()`."""

    step: Step[Any]
    goes_on: bool = False

    def spec(self) -> composition.Map:
        from .. import composition

        return composition.Map(step=self.step.spec(), goes_on=self.goes_on, on_failure=_handlers(self))

    def tasks(self) -> Iterable[Step[Any]]:
        yield from self.step.tasks()
        yield from self.handlers


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain(Node[R_co]):
    """One after the other; its result is that of the last."""

    steps: tuple[Node[Any], ...]

    def spec(self) -> composition.Steps:
        from .. import composition

        return composition.Steps(steps=tuple(_inner(each) for each in self.steps), on_failure=_handlers(self))

    def tasks(self) -> Iterable[Step[Any]]:
        for each in self.steps:
            yield from each.tasks()
        yield from self.handlers

    def firsts(self) -> Iterable[Step[Any]]:
        return self.steps[0].firsts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group(Node[R_co]):
    """All at once; its result is the list of theirs, in this order."""

    members: tuple[Node[Any], ...]
    goes_on: bool = False

    def spec(self) -> composition.Parallel:
        from .. import composition

        return composition.Parallel(
            members=tuple(_inner(each) for each in self.members),
            goes_on=self.goes_on,
            on_failure=_handlers(self),
        )

    def tasks(self) -> Iterable[Step[Any]]:
        for each in self.members:
            yield from each.tasks()
        yield from self.handlers

    def firsts(self) -> Iterable[Step[Any]]:
        for each in self.members:
            yield from each.firsts()


# ---- making them -----------------------------------------------------------------------------------------


def group(
    members: Iterable[Node[Q]], *, on_member_failure: Literal["fail", "continue"] = "fail"
) -> Group[list[Q]]:
    """All of these at once. With `continue` a member that fails leaves a Failure in its place."""
    if on_member_failure not in ("fail", "continue"):
        raise UsageError(f"on_member_failure: got {on_member_failure!r}, expected 'fail' or 'continue'")
    return Group(members=tuple(_node(each) for each in members), goes_on=on_member_failure == "continue")


def chain(*steps: Node[Any]) -> Chain[Any]:
    """These one after the other. Raises UsageError for none at all."""
    if not steps:
        raise UsageError("a chain has at least one step")
    return Chain(steps=tuple(each for node in steps for each in _steps_of(_node(node))))


@overload
def chord(
    members: Iterable[Node[Any]] | Group[Any], callback: Task[..., Q], /, *args: Any, **kwargs: Any
) -> Chain[Q]: ...
@overload
def chord(members: Iterable[Node[Any]] | Group[Any], callback: Node[Q], /) -> Chain[Q]: ...
def chord(members: Any, callback: Any, /, *args: Any, **kwargs: Any) -> Chain[Any]:
    """All members at once, then the callback with the list of their results."""
    block = members if isinstance(members, Group) else group(members)
    return block.then(callback, *args, **kwargs)


def node_of(what: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Node[Any]:
    """A task with these arguments as a step; a part of a pipeline as it is, which then takes none."""
    from .task import Task

    if isinstance(what, Task):
        return what.s(*args, **kwargs)
    if args or kwargs:
        raise UsageError("arguments go to a task", help="give them to its s(...)")
    return _node(what)


def _node(what: Any) -> Node[Any]:
    if not isinstance(what, Node):
        raise UsageError(
            f"got {what!r:.100}, expected a part of a pipeline", help="task.s(...), chain, group, chord"
        )
    return what


def _steps_of(node: Node[Any]) -> tuple[Node[Any], ...]:
    """What a node is when it becomes a part of a chain: a plain chain is its steps."""
    is_plain = isinstance(node, Chain) and not node.handlers and node.terms == NO_TERMS
    return node.steps if is_plain and isinstance(node, Chain) else (node,)


def _inner(node: Node[Any]) -> composition.Node:
    if not isinstance(node, Step):
        _demand(node.terms == NO_TERMS, "options of a group or chain", "they hold for a whole pipeline")
    return node.spec()


def _handlers(node: Node[Any]) -> tuple[composition.Step, ...]:
    return tuple(handler.spec() for handler in node.handlers)


def _demand(holds: bool, what: str, why: str) -> None:
    if not holds:
        raise UsageError(f"{what} cannot stand inside a pipeline: {why}")


def whole(node: Node[Any]) -> composition.Pipeline:
    """The tree of a pipeline that is this node."""
    from .. import composition

    if isinstance(node, Chain):
        return composition.Pipeline(
            steps=composition.Steps(steps=tuple(_inner(each) for each in node.steps)),
            on_failure=_handlers(node),
        )
    return composition.Pipeline(steps=composition.Steps(steps=(node.spec(),)))
