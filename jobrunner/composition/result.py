"""A result as the next step's input: a tuple extends its args, a dict its kwargs, another is appended.

Texts are worked on as JSON (codec), so that the supervisor never makes a value of a user's.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from ..errors import PayloadError

_COMPACT = (",", ":")


def with_input(payload: str, own: Collection[str], result: str | None) -> str:
    """The payload with a result taken in; keyword arguments named in `own` stay as they are."""
    given: Any = None if result is None else json.loads(result)
    if given is None:
        return payload
    call = json.loads(payload)
    if (content := _tuple(given)) is not None:
        call["args"] = [*call["args"], *content]
    elif isinstance(given, dict) and not _is_tag(given):
        explicit = {name: value for name, value in call["kwargs"].items() if name in own}
        call["kwargs"] = {**call["kwargs"], **given, **explicit}
    else:
        call["args"] = [*call["args"], given]
    return json.dumps(call, separators=_COMPACT)


def items_of(result: str | None) -> list[str]:
    """The texts of a list's items, for a map over them. Raises PayloadError for what is no list."""
    given: Any = None if result is None else json.loads(result)
    content = _tuple(given)
    items = given if content is None else content
    if not isinstance(items, list):
        raise PayloadError(
            f"a map over its input wants a list, got {result or 'null':.200}",
            help="let the step before it give a list or a tuple",
        )
    return [json.dumps(item, separators=_COMPACT) for item in items]


def as_json(result: str | None) -> str | None:
    """The result as plain JSON for a command's stdin: tuples and sets as lists. None: there is no input."""
    given: Any = None if result is None else json.loads(result)
    return None if given is None else json.dumps(_untagged(given), separators=_COMPACT)


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _is_tag(value):
        ((tag, content),) = value.items()
        if tag in ("$tuple", "$set", "$frozenset"):
            return _untagged(content)
        return _untagged(content) if tag == "$failure" else value
    return {name: _untagged(item) for name, item in value.items()}


def _tuple(value: Any) -> list[Any] | None:
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("$tuple"), list):
        return list(value["$tuple"])
    return None


def _is_tag(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$")
