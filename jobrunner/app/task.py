"""A task as a program calls it: by decorator with its function, or by name without it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, Unpack, cast

from ..catalogue import Entry
from ..errors import UsageError, WrongArguments
from .handle import RunGroup, RunHandle
from .options import NO_TERMS, CallOptions, Terms
from .pipeline import Each, Step

if TYPE_CHECKING:
    from .runner import JobRunner

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A task: calling it enqueues a run and gives a handle on it."""

    __name__: str
    __jobrunner_task__ = True  # a worker that is sent to it calls `function`

    def __init__(
        self,
        jobs: JobRunner,
        name: str,
        *,
        function: Callable[P, Any] | None = None,
        options: Mapping[str, object] | None = None,
        terms: Terms | None = None,
    ) -> None:
        self.jobs = jobs
        self.name = name
        self.function = function
        self.declared: Mapping[str, object] = options or {}  # as jobs.yaml would say it
        self._terms = terms or NO_TERMS
        self.__name__ = name
        if function is not None:
            update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    # ---- calls

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Enqueue a run with these arguments; every one of them goes to the function."""
        return self._enqueue(args or None, kwargs, self._terms)

    def schedule(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> RunHandle[R]:
        """Enqueue a run with options: `delay` or `eta`, `priority`, `retries`, `expires`, `timeout`, ...

        `delay`, `expires`, `timeout` and `retry_delay` are seconds, texts such as "5m", or timedeltas.
        `id` names the run: the same one again adds nothing. While a run with the `unique_key` is not final,
        another one is refused, and the handle is on that run; `on_conflict="replace"` takes its place.
        """
        if args is not None and not isinstance(args, tuple | list):
            raise UsageError(
                f"schedule: got {args!r:.100}, expected the arguments as a tuple",
                help=f"write {self.name}.schedule(({args!r:.60},), delay=...)",
            )
        return self._enqueue(args, kwargs or {}, self._terms.with_options(options))

    def options(self, **options: Unpack[CallOptions]) -> Task[P, R]:
        """The same task with options for its calls: `add.options(priority=9)(1, 2)`."""
        return Task(
            self.jobs,
            self.name,
            function=self.function,
            options=self.declared,
            terms=self._terms.with_options(options),
        )

    def s(self, *args: Any, **kwargs: Any) -> Step[R]:
        """A call that is not made yet: a step of a pipeline. The result before it may still join in."""
        self.check_step(args, kwargs)
        return Step(task=self, args=args, kwargs=kwargs, terms=self._terms)

    def each(
        self, *args: Any, on_member_failure: Literal["fail", "continue"] = "fail", **kwargs: Any
    ) -> Each[list[R]]:
        """A step for each item of the result before it; what comes after gets the list of their results."""
        return Each(step=self.s(*args, **kwargs), goes_on=on_member_failure == "continue")

    def map(self, calls: Iterable[Any]) -> RunGroup[R]:
        """Enqueue a run for each item, all in one write: a tuple is its arguments, else it is one."""
        arguments = [each if isinstance(each, tuple) else (each,) for each in calls]
        return cast("RunGroup[R]", self.jobs._enqueue_each([(self, each, {}) for each in arguments]))

    def call_local(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now, as if it were no task; a coroutine is run to its end."""
        result = self._function()(*args, **kwargs)
        if inspect.iscoroutine(result):
            import asyncio

            result = asyncio.run(cast("Coroutine[Any, Any, Any]", result))
        return cast(R, result)

    # ---- the whole task

    def pause(self, *, until: datetime | None = None, reason: str = "") -> None:
        """Start none of its runs until it is resumed, or until a moment; enqueues wait."""
        self.jobs.pause(self.name, until=until, reason=reason)

    def resume(self) -> bool:
        """End a pause; False when there was none."""
        return self.jobs.resume(self.name)

    def revoke(self, *, once: bool = False, until: datetime | None = None) -> None:
        """Cancel its runs instead of starting them: until it is restored, until a moment, or `once`."""
        self.jobs._revoke(f"task:{self.name}", once=once, until=until)

    def restore(self) -> bool:
        """Take that back; False when it was not revoked."""
        return self.jobs._restore(f"task:{self.name}")

    def is_revoked(self) -> bool:
        """Whether its runs are cancelled instead of being started now."""
        return self.jobs._is_revoked(f"task:{self.name}")

    # ---- inside

    @property
    def terms(self) -> Terms:
        """The options that its calls have."""
        return self._terms

    def _enqueue(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any], terms: Terms) -> RunHandle[R]:
        return cast("RunHandle[R]", self.jobs._enqueue(self, args, kwargs, terms))

    def _function(self) -> Callable[P, Any]:
        if self.function is None:
            raise UsageError(
                f"the code of {self.name} is not at hand: it was asked for by name",
                help="import the module that declares it",
            )
        return self.function

    @cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return None if self.function is None else inspect.signature(self.function)
        except (TypeError, ValueError):  # written in C, without one
            return None

    def check_call(self, entry: Entry, args: Sequence[Any] | None, kwargs: Mapping[str, Any]) -> None:
        """Raise WrongArguments, a TypeError, for arguments that the function would not take."""
        self._check(args, kwargs, entry, is_whole=True)

    def check_step(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The same for the arguments of a step, which the result before it may join."""
        self._check(args, kwargs, None, is_whole=False)

    def _check(
        self, args: Sequence[Any] | None, kwargs: Mapping[str, Any], entry: Entry | None, *, is_whole: bool
    ) -> None:
        signature = self._signature
        if signature is None:
            return
        own = () if entry is None else entry.args
        named = {**({} if entry is None else entry.kwargs), **kwargs}
        bind = signature.bind if is_whole else signature.bind_partial
        try:
            bind(*(own if args is None else args), **named)
        except TypeError as error:
            raise WrongArguments(f"{self.name}{signature}: {error}") from None


def parameters_of(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of a function's parameters; None when it takes any, or does not say."""
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    if any(each.kind not in named for each in given):
        return None  # `client.check_arguments` knows plain parameters only
    return tuple(each.name for each in given)
