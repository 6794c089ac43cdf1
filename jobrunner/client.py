"""Which run an enqueue or a retry makes: what a client decides before it writes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from .birth import new_run
from .catalogue import Entry
from .codec import LIMIT, encode_arguments
from .durations import Micros
from .errors import NotFound, UsageError, WrongArguments
from .model import NewRun, Run, Trigger, task_lane, unique_key

ARGUMENT_LIMIT: Final = 128 * 1024  # bytes; execve refuses one string above it (Linux: MAX_ARG_STRLEN)
_TASK_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_PLACE: Final = re.compile(r"\{([A-Za-z0-9_-]+)\}", re.ASCII)  # in a unique key: {image}, {0}
_KEYWORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)


# ---- which task ------------------------------------------------------------------------------------------


def nearest(name: str, known: Iterable[str]) -> str:
    """The help line that suggests the nearest of the known names; "" when none is near."""
    import difflib  # only mistakes need it

    found = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(repr(each) for each in found)}?" if found else ""


def unknown_task(name: str, known: Iterable[str]) -> NotFound:
    """The error for a task that no published catalogue has (semantics 20)."""
    names = sorted(known)
    listed = f"known tasks: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}" if names else ""
    return NotFound(f"no task {name!r}", help=nearest(name, names) or listed)


def forced_entry(name: str) -> Entry:
    """An entry for a task that no catalogue has yet: its runs wait in a lane of their own until one has.

    Raises UsageError for what cannot be a task's name.
    """
    if not _TASK_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a task",
            help="letters, digits, '_', '.' and '-', at most 100, the first a letter or a digit",
        )
    return Entry(name=name, kind="call", pool="default", lane=task_lane(name))


# ---- enqueue ---------------------------------------------------------------------------------------------


def enqueue(
    entry: Entry,
    *,
    run_id: str,
    now: Micros,
    args: Sequence[object] | None = None,
    kwargs: Mapping[str, object] | None = None,
    due_at: Micros | None = None,
    priority: int | None = None,
    expires: Micros | None = None,
    unique: str | None = None,
    limit: int = LIMIT,
) -> NewRun:
    """The run that an enqueue makes. `args` replace the task's own, `kwargs` are merged over its own.

    `unique` takes the place of the task's own key; `limit` bounds the arguments, in bytes of their text.
    Of a pipeline this is the root alone: see `whole`.
    Raises WrongArguments for arguments that the task cannot take, PayloadError for what cannot be stored.
    """
    positional = entry.args if args is None else tuple(args)
    named = {**entry.kwargs, **(kwargs or {})}
    check_arguments(entry, positional, named)
    key = key_of(entry, positional, named) if unique is None else unique
    run = new_run(
        entry,
        run_id=run_id,
        trigger=Trigger.ENQUEUE,
        now=now,
        due_at=now if due_at is None else max(now, due_at),
        payload=encode_arguments(positional, named, limit=limit),
        priority=priority,
        expires=expires,
    )
    if key is None:
        return run
    return run._replace(unique=unique_key(entry.name, key), replaces=entry.replaces)


def whole(run: NewRun, entry: Entry, entries: Callable[[str], Entry | None]) -> tuple[NewRun, ...]:
    """The rows to be added: the run itself, or a pipeline's root and its steps.

    Raises NotFound for a step whose task nobody knows.
    """
    if entry.composition is None:
        return (run,)
    from .composition import begin  # most enqueues do not need it

    return begin(run, entry, entries)


def key_of(entry: Entry, args: Sequence[object], kwargs: Mapping[str, object]) -> str | None:
    """The unique key of a call: the task's own, with the arguments that it names filled in.

    An argument that is not given is nothing: `resize-` for `resize-{size}`.
    """
    if entry.unique is None:
        return None
    named = {**{str(place): value for place, value in enumerate(args)}, **kwargs}
    named.update(zip(entry.parameters or (), args, strict=False))
    return _PLACE.sub(lambda found: _spelt(named.get(found[1], "")), entry.unique)


def _spelt(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, default=str)


def check_arguments(entry: Entry, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    """Raise WrongArguments when these arguments cannot reach the task, as far as its entry tells."""
    if entry.kind == "command":
        _check_strings(entry, args, kwargs)
    elif entry.parameters is not None:
        _check_names(entry, entry.parameters, args, kwargs)


def _check_names(
    entry: Entry, parameters: Sequence[str], args: Sequence[object], kwargs: Mapping[str, object]
) -> None:
    takes = f"{entry.name} takes ({', '.join(parameters)})"
    if len(args) > len(parameters):
        raise WrongArguments(
            f"{len(args)} positional arguments for {len(parameters)} of {entry.name}", help=takes
        )
    for name in kwargs:
        if name not in parameters:
            raise WrongArguments(
                f"{entry.name} has no argument {name!r}", help=nearest(name, parameters) or takes
            )
        if name in parameters[: len(args)]:
            own = f": {name!r} is among the task's own kwargs" if name in entry.kwargs else ""
            raise WrongArguments(f"argument {name!r} of {entry.name} is given twice{own}", help=takes)
    missing = [name for name in entry.required if name not in kwargs and name not in parameters[: len(args)]]
    if missing:
        listed = ", ".join(repr(name) for name in missing)
        raise WrongArguments(f"{entry.name} needs {listed}", help=takes)


def _check_strings(entry: Entry, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
    for number, value in enumerate(args, 1):
        _check_string(f"argument {number} of {entry.name}", value, reserved=0)
    variables: dict[str, str] = {}
    for name, value in kwargs.items():
        variable = _variable(entry, name)
        if variable in variables:
            raise WrongArguments(
                f"{name!r} and {variables[variable]!r} of {entry.name} would both be {variable}",
                help="a command gets its keyword arguments in the environment: upper case, '-' as '_'",
            )
        variables[variable] = name
        _check_string(f"argument {name!r} of {entry.name}", value, reserved=len(variable) + 1)


def _variable(entry: Entry, name: str) -> str:
    if not _KEYWORD.fullmatch(name):
        raise WrongArguments(
            f"{name!r} cannot become an environment variable of {entry.name}",
            help="a command gets it as JOBRUNNER_ARG_<NAME>: letters, digits, '_' and '-'",
        )
    return "JOBRUNNER_ARG_" + name.upper().replace("-", "_")


def _check_string(what: str, value: object, *, reserved: int) -> None:
    """Refuse what execve would refuse when the command starts, long after the enqueue was acknowledged."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)
    if "\0" in text:
        raise WrongArguments(f"{what} holds a NUL character", help="a command cannot be given one")
    size = len(text.encode(errors="surrogatepass")) + reserved + 1
    if size > ARGUMENT_LIMIT:
        raise WrongArguments(
            f"{what} has {size} bytes, more than the {ARGUMENT_LIMIT} that a command can be given",
            help="put it into a file and give the file's name",
        )


# ---- retry -----------------------------------------------------------------------------------------------


def retried(
    entry: Entry | None,
    run: Run,
    old: Sequence[Run],
    entries: Callable[[str], Entry | None],
    *,
    run_id: str,
    now: Micros,
) -> tuple[NewRun, ...]:
    """The rows of a retry; `old` are those of the pipeline of which the run is the root, if it is one."""
    if run.join is None:
        return (retry(entry, run, run_id=run_id, now=now),)
    from .composition import retried as woven

    known = entry or Entry(name=run.task, kind="pipeline", pool=run.pool, lane=run.lane)
    return woven(retry(known, run, run_id=run_id, now=now), entry, old, entries)


def retry(entry: Entry | None, run: Run, *, run_id: str, now: Micros) -> NewRun:
    """A new run with the arguments, priority, options and key of a final one. UsageError for a live one."""
    if not run.state.is_final:
        raise UsageError(
            f"run {run.id} of {run.task} is {run.state.value}: only a final run is retried",
            help="wait for it, or cancel it first",
        )
    again = new_run(
        entry or forced_entry(run.task),
        run_id=run_id,
        trigger=Trigger.RETRY,
        now=now,
        due_at=now,
        payload=run.payload,
        priority=run.priority,
        options=run.options,
        cause=run.cause,
        detail=json.dumps({"retry_of": run.id}),
    )
    return again._replace(unique=run.unique)
