"""Frozen dataclasses to plain JSON values and back, by their annotations; defaults are left out."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType
from typing import TypeVar, cast

T = TypeVar("T")


_SCALARS = frozenset({NoneType, bool, int, float, str})


def to_plain(value: object) -> object:
    """The JSON value of a dataclass, mapping, sequence, enum or scalar."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if is_dataclass(kind):
        return _fields_of(value, _usual(kind))
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _fields_of(value: object, usual: Mapping[str, object]) -> dict[str, object]:
    found = {}
    for name, default in usual.items():
        item = getattr(value, name)
        if item is not default and item != default:
            found[name] = to_plain(item)
    return found


@cache
def _usual(kind: type) -> dict[str, object]:
    """The fields of a dataclass and their defaults, none of which is changed by anybody."""
    return {each.name: _default(each) for each in fields(kind)}


def _default(each: Field[object]) -> object:
    if each.default_factory is not MISSING:
        return each.default_factory()
    return each.default


def from_plain(kind: type[T], plain: object) -> T:
    """The `kind` that `to_plain` made `plain` of. Unknown keys are ignored: a newer writer may add some."""
    return cast(T, _reader(cast(Hashable, kind))(plain))


@cache
def _reader(kind: Hashable) -> Callable[[object], object]:
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass_reader(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_reader(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(arguments)
    return _container_reader(origin, arguments)


def _container_reader(origin: object, arguments: tuple[object, ...]) -> Callable[[object], object]:
    if origin is tuple:
        return _tuple_reader(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_reader(*(_reader(each) for each in arguments))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        item = _reader(arguments[0])
        return lambda plain: [item(each) for each in cast(list[object], plain)]
    return _as_it_is


def _as_it_is(plain: object) -> object:
    return plain


def _dataclass_reader(kind: type) -> Callable[[object], object]:
    hints = typing.get_type_hints(kind)
    readers = {each.name: _reader(hints[each.name]) for each in fields(kind)}

    def read(plain: object) -> object:
        given = cast(Mapping[str, object], plain)
        return kind(**{name: readers[name](item) for name, item in given.items() if name in readers})

    return read


def _union_reader(kinds: tuple[object, ...]) -> Callable[[object], object]:
    structured = next((_reader(each) for each in kinds if _reader(each) is not _as_it_is), _as_it_is)
    return lambda plain: structured(plain) if isinstance(plain, dict | list) else plain


def _tuple_reader(kinds: tuple[object, ...]) -> Callable[[object], object]:
    readers = [_reader(each) for each in kinds if each is not ...]
    if ... in kinds:
        return lambda plain: tuple(readers[0](each) for each in cast(list[object], plain))
    return lambda plain: tuple(
        read(each) for read, each in zip(readers, cast(list[object], plain), strict=True)
    )


def _named_reader(kind: type) -> Callable[[object], object]:
    """Of a NamedTuple, which is a list in JSON. Fields at its end may be missing: an older writer."""
    hints = typing.get_type_hints(kind)
    readers = [_reader(hints[name]) for name in kind._fields]  # type: ignore[attr-defined]
    return lambda plain: kind(
        *(read(each) for read, each in zip(readers, cast(list[object], plain), strict=False))
    )


def _mapping_reader(
    key: Callable[[object], object], item: Callable[[object], object]
) -> Callable[[object], object]:
    return lambda plain: {key(name): item(each) for name, each in cast(dict[str, object], plain).items()}
