"""Frozen dataclasses to plain JSON values and back, by their annotations; defaults are left out."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import TypeVar, cast

T = TypeVar("T")


def to_plain(value: object) -> object:
    """The JSON value of a dataclass, mapping, sequence, enum or scalar."""
    if is_dataclass(value) and not isinstance(value, type):
        return _fields_of(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _fields_of(value: object) -> dict[str, object]:
    pairs = ((each, getattr(value, each.name)) for each in fields(value))  # type: ignore[arg-type]
    return {each.name: to_plain(item) for each, item in pairs if item != _default(each)}


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
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _union_reader(arguments)
    if origin is tuple:
        return _sequence_reader(_reader(arguments[0]))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_reader(_reader(arguments[1]))
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


def _sequence_reader(item: Callable[[object], object]) -> Callable[[object], object]:
    return lambda plain: tuple(item(each) for each in cast(list[object], plain))


def _mapping_reader(item: Callable[[object], object]) -> Callable[[object], object]:
    return lambda plain: {key: item(each) for key, each in cast(dict[str, object], plain).items()}
