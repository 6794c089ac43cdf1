"""How a worker finds a callable, calls it, and describes what came out of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from contextvars import copy_context
from types import CodeType, CoroutineType, TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import hooks
from ..codec import encode
from ..context import CancelRun, CurrentRun, RetryRun
from ..errors import PayloadError
from ..hooks import Notice, Signal
from ..model import Ending

if TYPE_CHECKING:
    import asyncio
    from traceback import FrameSummary

MOST_MESSAGE: Final = 8 * 1024  # characters of an exception's own message
MOST_TRACEBACK: Final = 64 * 1024
_OWN_FILES: Final = frozenset(
    __file__.replace("calling", each)
    for each in ("calling", "worker", "alone", "inplace", "workshop", "threads", "greenlets", "coroutines")
)


class Outcome(NamedTuple):
    """What came out of a call, without its times."""

    ending: Ending
    result: str | None = None  # encoded
    error: str | None = None
    exit_code: int | None = None
    exception: str | None = None
    exceptions: tuple[str, ...] = ()
    retry: bool | None = None
    delay: int | None = None
    is_last: bool = False  # the worker should not be trusted with another call

    def plain(self) -> dict[str, object]:
        """As the supervisor reads it; empty fields are left out."""
        fields = self._asdict()
        return {name: value for name, value in fields.items() if value is not None and name != "is_last"}


class NoCallable(LookupError):
    """The module is there, but what was asked for is not, or cannot be called."""


# ---- finding -----------------------------------------------------------------------------------------------


def find(call: str) -> Callable[..., object]:
    """Imports `package.module:attribute`; whatever the import raises goes through.

    Raises NoCallable when it leads to nothing that can be called.
    """
    module_name, _, path = call.partition(":")
    found: object = importlib.import_module(module_name)
    for name in path.split("."):
        found = _attribute(found, name, call)
    if getattr(type(found), "__jobrunner_task__", False):
        found = found.function  # type: ignore[attr-defined] # calling the task itself would enqueue it
    if not callable(found):
        raise NoCallable(f"{call} is a {type(found).__name__}, not a callable")
    return found


def _attribute(owner: object, name: str, call: str) -> object:
    try:
        return getattr(owner, name)
    except AttributeError:
        where = getattr(owner, "__file__", None) or f"{owner!r:.100}"
        raise NoCallable(f"{call}: there is no {name!r} in {where}") from None


def not_found(call: str, error: BaseException) -> Outcome:
    """The outcome when a callable cannot be imported."""
    importlib.invalidate_caches()  # so that a file that is put there now is found by the next attempt
    if isinstance(error, NoCallable):
        text = _message(error)
    else:
        text = f"{call} cannot be imported: {_headline(error)}\n\n{traceback_text(error)}"
    searched = "\n".join(f"  {folder}" for folder in sys.path)
    return Outcome(Ending.COULD_NOT_START, error=f"{text.rstrip()}\nsearched:\n{searched}")


# ---- calling -----------------------------------------------------------------------------------------------


class Caller:
    """Calls callables, the asynchronous ones on one event loop that is kept."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def call(
        self, function: Callable[..., object], args: list[object], kwargs: Mapping[str, object]
    ) -> object:
        """Gives the result; runs a coroutine to its end."""
        result = function(*args, **kwargs)
        if type(result) is CoroutineType:
            return self._run(result)
        return result

    def _run(self, coroutine: CoroutineType[object, object, object]) -> object:
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            # A runner keeps the context of its first call: the run, and whose output it is, are this one's.
            return self._runner.run(_alone(coroutine), context=copy_context())
        except BaseException:
            # The exception may have come out of the loop itself: what is left on it is ended with it.
            runner, self._runner = self._runner, None
            runner.close()
            raise


async def _alone(coroutine: CoroutineType[object, object, object]) -> object:
    """The coroutine's result; tasks that it leaves behind are cancelled, not carried into the next call."""
    import asyncio

    try:
        return await coroutine
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1)


def hooked(run: CurrentRun, call: Callable[[], object]) -> object:
    """Makes this call with the hooks of this process around it; a CancelRun of theirs goes through."""
    before(run)
    try:
        result = call()
    except BaseException as error:
        hooks.leave(run, None, error)
        raise
    hooks.leave(run, result, None)
    return result


def before(run: CurrentRun) -> None:
    """Calls the hooks before an attempt, and tells the receivers that it executes. Raises CancelRun."""
    hooks.start()  # a module that was imported for this very call may have brought its own
    hooks.enter(run)
    hooks.send(
        Notice(signal=Signal.EXECUTING, task=run.task, run_id=run.id, at=run.now(), attempt=run.attempt)
    )


def call_hook(path: str | None, call: Callable[[Callable[..., object]], object]) -> None:
    """Finds a hook of the pool and lets `call` make the call; whatever it raises goes through."""
    if path is not None:
        call(find(path))


# ---- describing --------------------------------------------------------------------------------------------


def success(result: object, *, store: bool) -> Outcome:
    """The outcome of a call that returned; its result must be storable, if it is to be stored."""
    if not store:
        return Outcome(Ending.OK)
    try:
        return Outcome(Ending.OK, result=encode(result, what="result"))
    except PayloadError as error:
        text = f"{error.message}\n{error.help}" if error.help else error.message
        return Outcome(Ending.NOT_STORABLE, error=text)
    except Exception as error:
        return Outcome(Ending.NOT_STORABLE, error=f"result: encoding it failed: {_headline(error)}")


def failure(error: BaseException, function: Callable[..., object], arguments: _Arguments) -> Outcome:
    """The outcome of a call that raised."""
    try:
        return _failure(error, function, arguments)
    except BaseException as second:
        text = f"an exception that cannot be described: that raised {_name_of(type(second))}"
        return Outcome(Ending.EXCEPTION, error=text, exception="Exception")


def _failure(error: BaseException, function: Callable[..., object], arguments: _Arguments) -> Outcome:
    if isinstance(error, RetryRun):
        return Outcome(Ending.RETRY_ASKED, delay=error.delay)
    if isinstance(error, CancelRun):
        return Outcome(Ending.CANCELLED, error=_message(error) or None, retry=error.retry)
    if isinstance(error, SystemExit):
        return _exit(error)
    if isinstance(error, TypeError):
        mismatch = _mismatch(error, function, arguments)
        if mismatch:
            return Outcome(Ending.BAD_ARGUMENTS, error=mismatch)
    names = _names(error)
    return Outcome(
        Ending.EXCEPTION,
        error=f"{_headline(error)}\n\n{traceback_text(error)}",
        exception=names[0],
        exceptions=names,
        is_last=isinstance(error, MemoryError),
    )


# Straight from `type`: a metaclass of the task's making has no say here.
_bases_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__
_qualname_of: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_module_of: Callable[[type], object] = type.__dict__["__module__"].__get__

_Arguments = tuple[list[object], Mapping[str, object]]


def _exit(error: SystemExit) -> Outcome:
    """As the interpreter itself reads it: None is 0, an int its low byte, anything else 1 and a text."""
    code = error.code
    if code is None:
        return Outcome(Ending.EXIT, exit_code=0)
    if isinstance(code, int):
        return Outcome(Ending.EXIT, exit_code=int(code) & 0xFF)
    return Outcome(Ending.EXIT, exit_code=1, error=_message(error))


def _mismatch(error: TypeError, function: Callable[..., object], arguments: _Arguments) -> str | None:
    """What does not fit the signature; None when the function was entered, or the arguments fit.

    Looking only after a TypeError keeps the signature off the path of every good call.
    """
    import inspect

    if _innermost(error.__traceback__) is getattr(inspect.unwrap(function), "__code__", None):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    args, kwargs = arguments
    try:
        signature.bind(*args, **kwargs)
    except TypeError as reason:
        name = getattr(function, "__name__", "the callable")
        return f"{name}{signature}: {reason}"
    return None


def _innermost(trace: TracebackType | None) -> CodeType | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else trace.tb_frame.f_code


def _names(error: BaseException) -> tuple[str, ...]:
    """The names of its type and of the type's bases, short and qualified, its own short one first."""
    names: list[str] = []
    for kind in _bases_of(type(error)):
        if kind is object:
            continue
        names.append(_name_of(kind))
        module = _module_of(kind)
        if module != "builtins":
            names.append(f"{module}.{_qualname_of(kind)}")
    return tuple(_clean(name)[:200] for name in names)


def _headline(error: BaseException) -> str:
    name, message = _names(error)[0], _message(error)
    return f"{name}: {message}" if message else name


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as second:
        return f"(no message: its __str__ raised {_name_of(type(second))})"
    return _cut(_clean(text), MOST_MESSAGE)


def traceback_text(error: BaseException) -> str:
    """The traceback as text, without the frames of this program."""
    import traceback

    try:
        lines = traceback.format_exception(type(error), error, _below_own(error.__traceback__))
    except BaseException as second:
        return f"(no traceback: describing the exception raised {_name_of(type(second))})"
    return _cut(_clean("".join(lines)), MOST_TRACEBACK)


def _below_own(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the call; between ours lie some of asyncio and the like."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    own = [each.tb_frame.f_code.co_filename in _OWN_FILES for each in frames]
    while own and own[-1]:  # it was raised by us, in the midst of the call
        own.pop()
    below = len(own) - own[::-1].index(True) if True in own else 0
    return frames[below] if own else None


def without_own(frames: list[FrameSummary]) -> list[FrameSummary]:
    """Frames, outermost first, without those of this program that lead to the call."""
    own = [number for number, frame in enumerate(frames) if frame.filename in _OWN_FILES]
    return frames[own[-1] + 1 :] if own else frames


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, most: int) -> str:
    """Head and tail: how it began, and what it ended with."""
    if len(text) <= most:
        return text
    half = (most - 60) // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"
