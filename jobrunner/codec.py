"""Values to JSON text and back: what a payload and a result may hold, and how it is written.

The text is compact ASCII JSON without raw tabs or newlines. What JSON lacks is an object with one key,
a tag:

    {"$tuple": [...]}  {"$set": [...]}  {"$frozenset": [...]}  {"$dict": [[key, value], ...]}
    {"$bytes": base64}  {"$datetime": ISO 8601, or [wall time, zone, fold]}  {"$date": ISO 8601}
    {"$timedelta": microseconds}  {"$decimal": text}  {"$uuid": text}
    {"$enum": ["module:Class", name, value]}  {"$failure": {...}} of a member of a block that goes on

A dict whose only key begins with `$`, or that has a key other than a string, is written as `$dict`, so
that no value of a user can be taken for a tag. Nothing is ever imported because a text names it.
"""

from __future__ import annotations

import binascii
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag
from functools import partial
from types import FunctionType, ModuleType, NoneType
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, cast

from .errors import PayloadError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from .model import Failure

__all__ = ["LIMIT", "NO_ARGUMENTS", "decode", "decode_arguments", "encode", "encode_arguments"]

LIMIT: Final = 1024 * 1024  # bytes of JSON text
DEEPEST: Final = 100  # levels of nesting; the JSON parser recurses, and its stack is not ours to use up
LONGEST_INT: Final = 4300  # digits; CPython refuses to read more (sys.int_info.default_max_str_digits)
NO_ARGUMENTS: Final = '{"args":[],"kwargs":{}}'
STORABLE: Final = (
    "storable are None, bool, int, float, str, list, tuple, dict, set, frozenset, bytes, datetime, date,"
    " timedelta, Decimal, UUID and enum members"
)

_SCALARS: Final = frozenset({NoneType, bool, int, float, str})
_ONLY_STR: Final = frozenset({str})
_LARGE_INT: Final = 2**63  # a smaller one is its digits, and no encoder need be asked
_LONG_DIGITS: Final = re.compile(rf"[0-9]{{{LONGEST_INT + 1}}}")
_MICROSECOND: Final = timedelta(microseconds=1)
# Straight from `type`: a metaclass of the value's making has no say here.
_qualname: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_module: Callable[[type], str] = type.__dict__["__module__"].__get__


class Place(NamedTuple):
    """Where a part lies inside the whole value."""

    outer: Place | None
    label: object  # the root's name; an index or a key below it

    def __str__(self) -> str:
        if self.outer is None:
            return str(self.label)
        return f"{self.outer}[{_label(self.label)}]"


class _Member(NamedTuple):
    """The label of what has no index: a member of a set, a key of a dict."""

    kind: str


def _label(label: object) -> str:
    if type(label) is str:
        return json.dumps(label[:100])
    return label.kind if isinstance(label, _Member) else str(label)


# ---- writing ---------------------------------------------------------------------------------------------


def encode(value: object, *, what: str = "value", limit: int = LIMIT) -> str:
    """Gives the text of a value. Raises PayloadError, with the path inside `what`, if it cannot be stored.

    `limit` is in bytes of text.
    """
    if value is None:
        return "null"
    if type(value) is int and -_LARGE_INT < value < _LARGE_INT:
        return repr(value)
    return _text(value, _ready(value, Place(None, what), 0), what, limit)


def encode_arguments(args: Sequence[object], kwargs: Mapping[str, object], *, limit: int = LIMIT) -> str:
    """Gives the payload of a call. Raises PayloadError as `encode` does."""
    if not args and not kwargs:
        return NO_ARGUMENTS
    _check_names(kwargs)
    given = list(args), dict(kwargs)
    ready = {
        "args": _ready(given[0], Place(None, "args"), 0),
        "kwargs": _ready(given[1], Place(None, "kwargs"), 0),
    }
    return _text({"args": given[0], "kwargs": given[1]}, ready, "", limit)


def _check_names(kwargs: Mapping[str, object]) -> None:
    for name in kwargs:
        if type(name) is not str:
            raise PayloadError(f"an argument's name is a string: got {_described(name)}")


_to_json = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode


def _text(value: object, ready: object, what: str, limit: int) -> str:
    try:
        text = _to_json(ready)
    except ValueError:  # NaN, an infinity, an int of too many digits
        _refuse_scalar(value, what)
    if len(text) > limit:
        raise PayloadError(
            f"{what or 'arguments'} of {len(text):,} bytes as JSON: at most {limit:,} are stored",
            help="store the bulk elsewhere and pass its name",
        )
    if "\\ud" in text or (len(text) > LONGEST_INT and _LONG_DIGITS.search(text)):
        _check_scalars(value, what)
    return text


def _ready(value: object, place: Place, depth: int) -> object:
    """The value as plain JSON values and tags."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if depth >= DEEPEST:
        raise PayloadError(f"{_start(place)}: nested more than {DEEPEST} levels deep, or contains itself")
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value, place, depth + 1)
    if issubclass(kind, Enum):
        return _ready_enum(cast(Enum, value), place, depth + 1)
    if _module(kind) == "jobrunner.model" and _qualname(kind) == "Failure":
        return {"$failure": cast("Failure", value)._asdict()}
    if _module(kind) == "uuid" and _qualname(kind) == "UUID":
        return {"$uuid": str(value)}
    raise PayloadError(f"{place}: {_described(value)} cannot be stored", help=STORABLE)


def _ready_list(value: object, place: Place, depth: int) -> object:
    items = cast("list[object]", value)
    if _SCALARS.issuperset(map(type, items)):
        return items
    return [_ready(item, Place(place, index), depth) for index, item in enumerate(items)]


def _ready_dict(value: object, place: Place, depth: int) -> object:
    items = cast("dict[object, object]", value)
    if not _ONLY_STR.issuperset(map(type, items)) or (len(items) == 1 and _first(items).startswith("$")):
        return {"$dict": [_ready_pair(pair, place, depth) for pair in items.items()]}
    if _SCALARS.issuperset(map(type, items.values())):
        return items
    return {key: _ready(item, Place(place, key), depth) for key, item in items.items()}


def _first(items: Iterable[object]) -> str:
    return cast(str, next(iter(items)))


def _ready_pair(pair: tuple[object, object], place: Place, depth: int) -> list[object]:
    key, item = pair
    label = key if type(key) in _SCALARS else _Member("a key")
    return [_ready(key, Place(place, _Member("a key")), depth), _ready(item, Place(place, label), depth)]


def _ready_tuple(value: object, place: Place, depth: int) -> object:
    return {"$tuple": _ready_list(value, place, depth)}


def _ready_set(tag: str, value: object, place: Place, depth: int) -> object:
    members = cast("Iterable[object]", value)
    ready = [_ready(member, Place(place, _Member("a member")), depth) for member in members]
    try:
        # Text order, not hash order: equal values give equal texts in every process.
        return {tag: sorted(ready, key=_to_json)}
    except ValueError:
        return {tag: ready}  # holds a number that cannot be stored: refused, with its place, by `_text`


def _ready_datetime(value: object, _place: Place, _depth: int) -> object:
    moment = cast(datetime, value)
    zone = moment.tzinfo
    if zone is not None and type(zone) is _zone_type() and zone.key:
        return {"$datetime": [moment.replace(tzinfo=None).isoformat(), zone.key, moment.fold]}
    return {"$datetime": moment.isoformat()}


def _ready_enum(member: Enum, place: Place, depth: int) -> object:
    kind = type(member)
    plain = _ready(member.value, Place(place, "value"), depth)
    return {"$enum": [f"{_module(kind)}:{_qualname(kind)}", member.name, plain]}


_WRITERS: Final[Mapping[type, Callable[[object, Place, int], object]]] = {
    list: _ready_list,
    dict: _ready_dict,
    tuple: _ready_tuple,
    set: partial(_ready_set, "$set"),
    frozenset: partial(_ready_set, "$frozenset"),
    bytes: lambda value, _place, _depth: {
        "$bytes": binascii.b2a_base64(cast(bytes, value), newline=False).decode()
    },
    datetime: _ready_datetime,
    date: lambda value, _place, _depth: {"$date": cast(date, value).isoformat()},
    timedelta: lambda value, _place, _depth: {"$timedelta": cast(timedelta, value) // _MICROSECOND},
    Decimal: lambda value, _place, _depth: {"$decimal": str(value)},
}


def _start(place: Place) -> str:
    """The root and the first steps of a very deep place."""
    steps: list[Place] = []
    step: Place | None = place
    while step is not None:
        steps.append(step)
        step = step.outer
    return f"{steps[-min(len(steps), 6)]}..."


def _described(value: object) -> str:
    """A value in words, without calling anything of its own."""
    kind = type(value)
    if kind is FunctionType:
        name = cast(FunctionType, value).__name__
        return "a lambda" if name == "<lambda>" else f"the function {name}"
    if isinstance(kind, type) and issubclass(kind, type):
        return f"the class {_qualname(cast(type, value))}"
    if kind is ModuleType:
        return "a module"
    name = _qualname(kind) if _module(kind) == "builtins" else f"{_module(kind)}.{_qualname(kind)}"
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


# ---- numbers and texts that JSON cannot carry ------------------------------------------------------------


def _refuse_scalar(value: object, what: str) -> NoReturn:
    _check_scalars(value, what)
    raise PayloadError(f"{what or 'arguments'}: holds a number that JSON cannot carry")


def _check_scalars(value: object, what: str) -> None:
    """Refuses the number or text that spoils a value whose shape is right: a slow walk, on suspicion only."""
    roots = cast("dict[str, object]", value).items() if not what else [(what, value)]
    for name, root in roots:
        for place, scalar in _scalars(root, Place(None, name)):
            fault = _fault(scalar)
            if fault:
                raise PayloadError(f"{place}: {fault} cannot be stored", help=STORABLE)


def _scalars(value: object, place: Place) -> Iterable[tuple[Place, object]]:
    if type(value) is dict:
        for key, item in value.items():
            yield from _scalars(key, Place(place, _Member("a key")))
            yield from _scalars(item, Place(place, key if type(key) in _SCALARS else _Member("a value")))
    elif type(value) in (list, tuple):
        for index, item in enumerate(cast("list[object]", value)):
            yield from _scalars(item, Place(place, index))
    elif type(value) in (set, frozenset):
        for item in cast("set[object]", value):
            yield from _scalars(item, Place(place, _Member("a member")))
    else:
        yield place, value.value if isinstance(value, Enum) else value


def _fault(scalar: object) -> str:
    if isinstance(scalar, float) and (scalar != scalar or scalar in (float("inf"), float("-inf"))):
        return f"the float {scalar}"
    if isinstance(scalar, int) and abs(scalar) >= 10**LONGEST_INT:
        return f"an int of more than {LONGEST_INT:,} digits"
    if isinstance(scalar, str) and _has_surrogate(scalar):
        return "text with half a character (a lone surrogate)"
    return ""


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# ---- reading ---------------------------------------------------------------------------------------------


def decode(text: str) -> object:
    """Gives the value of a text. Raises PayloadError when it is damaged or has a tag not known here."""
    # Every tag stands in the text as `"$...`: without one, the parser in C does all the work.
    return _read(text, _TAGGED if '"$' in text else _PLAIN)


def decode_arguments(text: str) -> tuple[list[object], dict[str, object]]:
    """Gives the positional and the keyword arguments of a payload. Raises PayloadError when it is damaged."""
    if text == NO_ARGUMENTS:
        return [], {}
    payload = decode(text)
    if isinstance(payload, dict) and payload.keys() == {"args", "kwargs"}:
        args, kwargs = payload["args"], payload["kwargs"]
        if type(args) is list and type(kwargs) is dict and _ONLY_STR.issuperset(map(type, kwargs)):
            return args, kwargs
    raise PayloadError('damaged payload: expected an object with a list "args" and an object "kwargs"')


def _read(text: str, decoder: json.JSONDecoder) -> object:
    try:
        return decoder.decode(text)
    except PayloadError:
        raise
    except RecursionError:
        raise PayloadError("damaged value: nested too deep") from None
    except ValueError as error:
        raise PayloadError(f"damaged value: not the JSON it should be ({str(error)[:200]})") from None


def _untag(read: dict[str, object]) -> object:
    if len(read) != 1:
        return read
    ((tag, content),) = read.items()
    if not tag.startswith("$"):
        return read
    reader = _READERS.get(tag)
    if reader is None:
        raise PayloadError(
            f"a value with the unknown tag {tag[:40]!r}", help="it may come from a newer version"
        )
    try:
        return reader(content)
    except (TypeError, ValueError, ArithmeticError, KeyError, InvalidOperation) as error:
        raise PayloadError(f"damaged value: {tag} with unfitting content ({str(error)[:200]})") from None


def _items(content: object) -> list[object]:
    if type(content) is not list:
        raise TypeError("expected a list")
    return content


def _words(content: object) -> str:
    if type(content) is not str:
        raise TypeError("expected a string")
    return content


def _read_dict(content: object) -> object:
    return dict(cast("list[tuple[object, object]]", _items(content)))


def _zone_type() -> type[ZoneInfo]:
    from zoneinfo import ZoneInfo  # it looks at the build of Python at once: few payloads need it

    return ZoneInfo


def _read_datetime(content: object) -> object:
    if type(content) is str:
        return datetime.fromisoformat(content)
    wall, zone, fold = cast("tuple[str, str, int]", _items(content))
    try:
        return datetime.fromisoformat(wall).replace(tzinfo=_zone_type()(zone), fold=fold)
    except (KeyError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"zone {zone!r} is not known here") from error


def _read_timedelta(content: object) -> object:
    if type(content) is not int:
        raise TypeError("expected microseconds")
    return timedelta(microseconds=content)


def _read_uuid(content: object) -> object:
    from uuid import UUID

    return UUID(_words(content))


def _read_failure(content: object) -> object:
    from .model import Failure

    if not isinstance(content, dict) or not all(
        type(each) in (str, NoneType) for each in [*content, *content.values()]
    ):
        raise TypeError("expected texts")
    return Failure(**content)


def _read_enum(content: object) -> object:
    """The member, where its class is at hand; else its plain value. Imports nothing, calls no class."""
    path, name, value = cast("tuple[str, str, object]", _items(content))
    found = _enum_class(_words(path))
    if found is None:
        return value
    member = found.__members__.get(name)
    if member is None and issubclass(found, Flag) and type(value) is int:
        return found(value)  # a combination of flags has no name of its own
    return value if member is None else member


def _enum_class(path: str) -> type[Enum] | None:
    module, _, names = path.partition(":")
    found: object = sys.modules.get(module)
    for name in names.split("."):
        # vars(), never getattr(): a module's __getattr__ may import, a descriptor may run code.
        found = vars(found).get(name) if isinstance(found, ModuleType | type) else None
    return found if isinstance(found, type) and issubclass(found, Enum) else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "$tuple": lambda content: tuple(_items(content)),
    "$set": lambda content: set(_items(content)),
    "$frozenset": lambda content: frozenset(_items(content)),
    "$dict": _read_dict,
    "$bytes": lambda content: binascii.a2b_base64(_words(content), strict_mode=True),
    "$datetime": _read_datetime,
    "$date": lambda content: date.fromisoformat(_words(content)),
    "$timedelta": _read_timedelta,
    "$decimal": lambda content: Decimal(_words(content)),
    "$uuid": _read_uuid,
    "$enum": _read_enum,
    "$failure": _read_failure,
}
_PLAIN: Final = json.JSONDecoder(parse_constant=_no_constant)
_TAGGED: Final = json.JSONDecoder(parse_constant=_no_constant, object_hook=_untag)
