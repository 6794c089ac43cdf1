"""The tree of a pipeline as values, and as the text in which it lies in a catalogue and in a root's row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..codec import decode, encode
from ..durations import Micros
from ..model import Options
from ..plain import from_plain, to_plain

MAP_POOL = ".grow"  # where the supervisor itself claims a `map` over its input, to let its members grow


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One task (or, until it is `inlined`, one named pipeline)."""

    task: str
    args: tuple[object, ...] | None = None  # None: the task's own
    kwargs: Mapping[str, object] = field(default_factory=dict)  # over the task's own, and over the input's
    takes_input: bool = True  # False: `input: none`
    delay: Micros = 0  # from the moment it is free
    expires: Micros | None = None  # None: the task's own
    priority: int | None = None  # None: the pipeline's, else the task's
    options: Options | None = None
    on_failure: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """One after the other; each gets the result of the one before it."""

    steps: tuple[Node, ...]
    on_failure: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """All at once; the next step gets the list of their results, in this order."""

    members: tuple[Node, ...]
    goes_on: bool = False  # `on_member_failure: continue`: with a `Failure` in the place of what failed
    on_failure: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """One step for each of these; over its input (None): for each item of the previous result."""

    step: Step
    over: tuple[object, ...] | None = None
    goes_on: bool = False
    on_failure: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested:
    """A named pipeline as a step: a row of its own, under its own name."""

    name: str
    steps: Steps
    args: tuple[object, ...] | None = None  # of its first steps
    kwargs: Mapping[str, object] = field(default_factory=dict)
    takes_input: bool = True
    on_failure: tuple[Step, ...] = ()
    on_success: tuple[Step, ...] = ()


Node = Step | Steps | Parallel | Map | Nested


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A whole one."""

    steps: Steps
    on_failure: tuple[Step, ...] = ()
    on_success: tuple[Step, ...] = ()


def to_text(spec: Pipeline | Node) -> str:
    """The spec as codec text. Raises PayloadError for arguments that cannot be stored."""
    return encode(_plain(spec), what="pipeline")


def from_text(text: str) -> Any:
    """The spec that `to_text` wrote. Raises ValueError for what it has not written."""
    try:
        return _value(decode(text))
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError(f"no text of a pipeline: {text!a:.200}") from error


def outline(node: Node) -> object:
    """The tree as a file would write it, names alone."""
    if isinstance(node, Steps):
        return [outline(each) for each in node.steps]
    if isinstance(node, Parallel):
        return {"parallel": [outline(each) for each in node.members]}
    if isinstance(node, Map):
        return {"map": {"task": node.step.task, "over": "input" if node.over is None else list(node.over)}}
    return node.name if isinstance(node, Nested) else node.task


# Each kind of node, by the one letter that stands before its fields in the text.
_KINDS: Mapping[str, type] = {
    "p": Pipeline,
    "t": Step,
    "s": Steps,
    "a": Parallel,
    "m": Map,
    "n": Nested,
}
_LETTERS: Mapping[type, str] = {kind: letter for letter, kind in _KINDS.items()}


def _plain(value: object) -> object:
    letter = _LETTERS.get(type(value))
    if letter is None:
        return value
    found: dict[str, object] = {}
    for name, default in _DEFAULTS[type(value)].items():
        given = getattr(value, name)
        if given != default:
            write: Callable[[Any], object] = _WRITERS.get(name, _same)
            found[name] = write(given)
    return [letter, found]


def _value(plain: Any) -> Any:
    letter, fields = plain
    read = {name: _read(name, given) for name, given in fields.items()}
    made: Any = _KINDS[letter]
    return made(**read)


def _read(name: str, plain: Any) -> object:
    read: Callable[[Any], object] = _READERS.get(name, _same)
    return read(plain)


def _same(value: Any) -> Any:
    return value


def _write_all(nodes: Any) -> object:
    return [_plain(node) for node in nodes]


def _read_all(nodes: Any) -> object:
    return tuple(_value(node) for node in nodes)


def _write_steps(steps: Any) -> object:
    return _plain(steps) if isinstance(steps, Steps) else _write_all(steps)


def _read_steps(plain: Any) -> object:
    return _value(plain) if plain[:1] == ["s"] else _read_all(plain)


def _read_options(plain: Any) -> object:
    return from_plain(Options, plain)


_WRITERS: Mapping[str, Callable[[Any], object]] = {
    **dict.fromkeys(("members", "on_failure", "on_success"), _write_all),
    "steps": _write_steps,
    "step": _plain,
    "kwargs": dict,
    "options": to_plain,
}
_READERS: Mapping[str, Callable[[Any], object]] = {
    **dict.fromkeys(("members", "on_failure", "on_success"), _read_all),
    "steps": _read_steps,
    "step": _value,
    "options": _read_options,
}
_MISSING = object()


def _defaults_of(kind: Any) -> dict[str, object]:
    empty: dict[str, object] = dict.fromkeys(kind.__slots__, _MISSING)
    required = {"task": "", "steps": Steps(steps=()), "members": (), "step": None, "name": ""}
    made = kind(**{name: required[name] for name in empty if name in required})
    return {name: _MISSING if name in required else getattr(made, name) for name in empty}


_DEFAULTS: Mapping[type, Mapping[str, object]] = {kind: _defaults_of(kind) for kind in _LETTERS}
