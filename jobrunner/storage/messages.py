"""What a task asks of the storage by way of its supervisor, as JSON: calls, answers and errors.

A worker never opens the storage. Only what clients may do is in here, by the names of the contract, and an
extra lock for the run that asks.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from typing import Any, Final

from .. import errors
from ..errors import JobRunnerError
from ..plain import from_plain, to_plain
from . import ClientStorage

CALLS: Final = frozenset(
    name for name in vars(ClientStorage) if not name.startswith("_") and name not in ("url", "close")
)
ACQUIRE: Final = "acquire"  # lock, seconds to wait or None -> bool
RELEASE: Final = "release"  # lock -> bool


@cache
def _kinds(name: str) -> tuple[Mapping[str, Any], Any]:
    """The kinds of the arguments by name, and of the answer."""
    hints = typing.get_type_hints(getattr(ClientStorage, name), localns=vars(typing))
    answer = hints.pop("return", None)
    return hints, answer


def call_text(name: str, *args: object, **kwargs: object) -> str:
    """A call as text."""
    return json.dumps([name, to_plain(args), to_plain(kwargs)], separators=(",", ":"))


class Asked(typing.NamedTuple):
    """A call that was read."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]


def asked(text: str) -> Asked:
    """The call of a text. Raises ValueError for what is none that a task may make."""
    name, args, kwargs = json.loads(text)
    if name in (ACQUIRE, RELEASE):
        return Asked(name, args, kwargs)
    if name not in CALLS:
        raise ValueError(f"no task may ask for {name!r:.100}")
    kinds, _ = _kinds(name)
    bound = signature(getattr(ClientStorage, name)).bind(None, *args, **kwargs).arguments
    given = {each: from_plain(kinds[each], value) for each, value in bound.items() if each != "self"}
    return Asked(name, [], given)


def answer_text(answer: object) -> str:
    """An answer as text."""
    return json.dumps({"answer": to_plain(answer)}, separators=(",", ":"))


def error_text(error: Exception) -> str:
    """An error as text; one that is not ours keeps its name and words alone."""
    known = isinstance(error, JobRunnerError)
    plain = {
        "error": type(error).__name__ if known else "StorageError",
        "message": str(error) if known else f"{type(error).__name__}: {error}",
        "help": getattr(error, "help", ""),
    }
    return json.dumps(plain, separators=(",", ":"))


def answer_of(name: str, text: str) -> Any:
    """The answer of a text, to the call of this name. Raises the error that it is."""
    plain = json.loads(text)
    if "error" in plain:
        kind: Callable[..., JobRunnerError] = getattr(errors, plain["error"], JobRunnerError)
        raise kind(plain["message"], help=plain["help"])
    if name in (ACQUIRE, RELEASE):
        return plain["answer"]
    return from_plain(_kinds(name)[1], plain["answer"])
