"""The kinds of values that keys take: how each is checked, and how schema and reference describe it."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from ..durations import SECOND, DurationError, SizeError, parse_duration, parse_size

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_CALL: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_DOTTED: Final = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*)\.([^\W\d]\w*)")
_MODULE: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_UMASK: Final = re.compile(r"[0-7]{1,4}", re.ASCII)
_ADDRESS: Final = re.compile(r"[^\s@,;<>\"'-][^\s@,;<>\"']*(@[^\s@,;<>\"']+)?")  # a local user has no host
_URL: Final = re.compile(r"https?://[^\s/]+(/\S*)?", re.ASCII | re.IGNORECASE)
_SERVER: Final = re.compile(r"([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII)
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)  # by identity: annotations must be hashable
class Kind:
    """A kind of values: its check, its name in the reference, and its JSON Schema (None: the type's own)."""

    check: Callable[[object], object]
    says: str
    schema: Mapping[str, Any] | None = None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(core) if self.schema is None else dict(self.schema)


def refuse(code: str, message: str, hint: str = "", at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """An error of a value; `at` leads from the key to the part that is meant."""
    return PydanticCustomError(code, "{message}", {"message": message, "help": hint, "at": at})


def spell(value: object) -> str:
    """A value as a message names it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else text[:76] + "...'"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    words = sorted(known)
    by_lower = {each.lower(): each for each in words}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), by_lower, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def suggestion(word: str, known: Iterable[str], *, what: str = "known") -> str:
    """`did you mean 'x'?`, or the list of what is known."""
    words = sorted(known)
    near = nearest(word, words)
    if near is not None:
        return f"did you mean {near!r}?"
    if not words:
        return ""
    shown = ", ".join(words[:12])
    return f"{what}: {shown}" + (f" and {len(words) - 12} more" if len(words) > 12 else "")


# ---- text ------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise refuse("wrong-type", f"got {spell(value)}, expected text", "put it in quotes")
    if "\0" in value:
        raise refuse("bad-value", "got a NUL character, which no program can be given")
    return value


def _filled(value: object) -> str:
    text = _text(value)
    if not text.strip():
        raise refuse("bad-value", "got empty text, expected something")
    return text


def _name(value: object) -> str:
    text = _text(value)
    if not NAME.fullmatch(text):
        raise refuse(*bad_name(text))
    return text


def bad_name(text: str) -> tuple[str, str, str]:
    """Code, message and help for something that is no name."""
    cleaned = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:100]
    message = f"not a name: got {spell(text)}, expected up to 100 letters, digits, '_', '.' and '-'"
    return "bad-name", message, f"write {cleaned}" if cleaned else "begin with a letter or a digit"


def _call(value: object) -> str:
    text = _text(value).strip()
    if not _CALL.fullmatch(text):
        dotted = _DOTTED.fullmatch(text)
        hint = f"write {dotted[1]}:{dotted[2]}" if dotted else "such as shop.images:resize"
        raise refuse("bad-value", f"got {spell(text)}, expected package.module:function", hint)
    return text


def _module(value: object) -> str:
    text = _text(value).strip()
    if not _MODULE.fullmatch(text):
        is_file = re.fullmatch(r"[\w./-]+\.py", text)
        hint = (
            f"write {text.removesuffix('.py').strip('./').replace('/', '.')}"
            if is_file
            else "such as shop.jobs"
        )
        raise refuse("bad-value", f"got {spell(text)}, expected the name of a module", hint)
    return text


def _shell(value: object) -> str:
    text = _filled(value)
    try:
        shlex.split(text)
    except ValueError as error:
        raise refuse("bad-value", f"got {spell(text)}: {str(error).lower()}", "close the quotes") from None
    return text


# ---- numbers and words -----------------------------------------------------------------------------------


def _number_hint(value: object) -> str:
    text = str(value).strip().replace("_", "")
    plain = text.lstrip("+-").lstrip("0") or "0"
    return f"write {plain}" if isinstance(value, str) and text and plain.isascii() and plain.isdigit() else ""


def whole(low: int, high: int) -> Kind:
    """A whole number between two bounds."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            wanted = f"got {spell(value)}, expected a whole number"
            raise refuse("not-a-number", wanted, _number_hint(value))
        if not low <= value <= high:
            raise refuse("out-of-range", f"got {value}, expected {low} to {high}")
        return value

    return Kind(check, "whole number", {"type": "integer", "minimum": low, "maximum": high})


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, str) else ""
    hint = {"yes": "write true", "on": "write true", "y": "write true", "true": "write true without quotes"}
    hint |= {
        "no": "write false",
        "off": "write false",
        "n": "write false",
        "false": "write false without quotes",
    }
    raise refuse("not-a-flag", f"got {spell(value)}, expected true or false", hint.get(word, ""))


def _backoff(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 100:
        raise refuse(
            "out-of-range", f"got {spell(value)}, expected a number from 1 to 100", "2 doubles each delay"
        )
    return float(value)


def _percent(value: object) -> float:
    found = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if found and float(found[1]) <= 100:
        return float(found[1]) / 100
    if not isinstance(value, bool) and value == 0:
        return 0.0
    hint = f"write {value}%" if isinstance(value, int) and 0 < value <= 100 else ""
    raise refuse("bad-value", f"got {spell(value)}, expected a percentage such as 10%", hint)


def choice(*words: str) -> Kind:
    """One of some words."""

    def check(value: object) -> str:
        if value in words:
            return str(value)
        wanted = f"got {spell(value)}, expected one of {', '.join(words)}"
        near = nearest(value, words) if isinstance(value, str) else None
        raise refuse("bad-value", wanted, f"did you mean {near!r}?" if near else "")

    return Kind(check, " ".join(f"`{word}`" for word in words), {"enum": list(words)})


def _duration(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refuse("not-a-duration", f"got {spell(value)}, expected a duration such as 90s or 1h30m")
    try:
        return parse_duration(value)
    except DurationError as error:
        raise refuse("not-a-duration", error.message, error.help) from None


def _positive_duration(value: object) -> int:
    duration = _duration(value)
    if duration == 0:
        raise refuse("out-of-range", f"got {spell(value)}, expected more than nothing", "null means: none")
    return duration


def _seconds(value: object) -> int:
    """Time that the kernel counts in whole seconds."""
    duration = _duration(value)
    if duration < SECOND or duration % SECOND:
        raise refuse("out-of-range", f"got {spell(value)}, expected whole seconds, 1s or more")
    return duration


def _umask(value: object) -> int:
    text = _text(value)
    if not _UMASK.fullmatch(text) or int(text, 8) > 0o777:
        digits = text.lower().removeprefix("0o")
        hint = (
            f"write {digits.zfill(3)}"
            if _UMASK.fullmatch(digits) and digits != text
            else "such as 022 or 077"
        )
        raise refuse("bad-value", f"got {spell(text)}, expected up to three octal digits", hint)
    return int(text, 8)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise refuse("not-a-size", f"got {spell(value)}, expected a size such as 10MiB")
    try:
        return parse_size(value)
    except SizeError as error:
        raise refuse("not-a-size", error.message, error.help) from None


# ---- lists and maps --------------------------------------------------------------------------------------


def one_or_list(value: object) -> object:
    """A single value as the list of it."""
    return [value] if isinstance(value, str | int | float | dict) and not isinstance(value, bool) else value


def _exit_codes(value: object) -> object:
    if value == []:
        raise refuse("bad-value", "got an empty list, expected at least one exit code", "0 is the usual one")
    return one_or_list(value)


def _command(value: object) -> str | list[str]:
    if isinstance(value, list):
        if not value:
            raise refuse("bad-value", "got an empty list, expected a program and its arguments")
        return [_argument(item, index) for index, item in enumerate(value)]
    if isinstance(value, dict):
        raise refuse(
            "wrong-type", "got a mapping, expected a command or a list", "quote it if braces are meant"
        )
    return _filled(value)


def _argument(item: object, index: int) -> str:
    if not isinstance(item, str):
        raise refuse("wrong-type", f"got {spell(item)}, expected text", "put it in quotes", (index,))
    if "\0" in item or (index == 0 and not item):
        raise refuse("bad-value", "got nothing that can be a program's argument, expected text", "", (index,))
    return item


def _environment(value: object) -> object:
    if not isinstance(value, dict):
        raise refuse("wrong-type", f"got {spell(value)}, expected a mapping", "write {NAME: value}")
    return value


def _variable(name: object) -> str:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        wanted = "expected letters, digits and '_'"
        raise refuse("bad-name", f"not a variable's name: got {spell(name)}, {wanted}")
    return name


def _setting(value: object) -> str:
    if value is None:
        raise refuse("wrong-type", "got nothing, expected text", 'write "" for an empty value')
    return _text(value)


def _arguments(value: object) -> list[object]:
    if not isinstance(value, list):
        raise refuse(
            "wrong-type", f"got {spell(value)}, expected a list", f"write [{value}]" if value else ""
        )
    return value


def _keywords(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise refuse("wrong-type", f"got {spell(value)}, expected a mapping", "write {name: value}")
    return value


def retries_mapping(value: object) -> object:
    if isinstance(value, dict):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        wanted = f"got {spell(value)}, expected a whole number or a mapping such as {{max: 3, delay: 10s}}"
        raise refuse("not-a-number", wanted, _number_hint(value))
    return {"max": value}


def named(key: str) -> Callable[[object], object]:
    """A mapping that may be written as the value of one of its keys."""
    return lambda value: value if isinstance(value, dict) else {key: value}


def _reason(value: object) -> int | str:
    """An exit code or the name of an exception, as `on` and `not_on` list them."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return value
    if isinstance(value, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", value):
        return value
    raise refuse("bad-value", f"got {spell(value)}, expected an exit code or the name of an exception")


def _address(value: object) -> str:
    text = _text(value).strip()
    if not _ADDRESS.fullmatch(text):
        hint = "one address an item: [ana@example.com, ben@example.com]" if "," in text else ""
        raise refuse("bad-value", f"got {spell(text)}, expected an address such as ops@example.com", hint)
    return text


def _url(value: object) -> str:
    text = _text(value).strip()
    if not _URL.fullmatch(text):
        raise refuse("bad-value", f"got {spell(text)}, expected a URL", "such as https://example.com/hook")
    return text


def _server(value: object) -> str:
    text = _text(value).strip()
    found = _SERVER.fullmatch(text)
    if not found or not 0 < int(found[2] or 25) < 65536:
        raise refuse("bad-value", f"got {spell(text)}, expected HOST or HOST:PORT", "mail.example.com:587")
    return text


_DURATION_SCHEMA: Final[dict[str, Any]] = {
    "type": ["string", "number"],
    "pattern": r"^([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)? ?(w|d|h|ms|m|s) ?)+)$",
    "minimum": 0,
    "examples": ["90s", "15m", "1h30m", "2d"],
}
_STRINGS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string"}}
_ONE_OR_MORE: Final[dict[str, Any]] = {"anyOf": [{"type": "string"}, _STRINGS]}
_SCALAR: Final[dict[str, Any]] = {"type": ["string", "number", "boolean"]}

Text: TypeAlias = Annotated[str, Kind(_text, "text", {"type": "string"})]
Filled: TypeAlias = Annotated[str, Kind(_filled, "text", {"type": "string", "minLength": 1})]
Name: TypeAlias = Annotated[str, Kind(_name, "name", {"type": "string", "pattern": f"^{NAME.pattern}$"})]
FilePath: TypeAlias = Annotated[str, Kind(_filled, "path", {"type": "string", "minLength": 1})]
Call: TypeAlias = Annotated[
    str, Kind(_call, "`package.module:function`", {"type": "string", "pattern": r"^[\w.]+:[\w.]+$"})
]
Shell: TypeAlias = Annotated[str, Kind(_shell, "command line", {"type": "string", "minLength": 1})]
Flag: TypeAlias = Annotated[bool, Kind(_flag, "`true` `false`", {"type": "boolean"})]
Backoff: TypeAlias = Annotated[
    float, Kind(_backoff, "number", {"type": "number", "minimum": 1, "maximum": 100})
]
Percent: TypeAlias = Annotated[
    float,
    Kind(
        _percent,
        "percentage",
        {"type": ["string", "integer"], "pattern": r"^[0-9]{1,3}(\.[0-9]+)?\s*%$", "maximum": 0},
    ),
]
Duration: TypeAlias = Annotated[int, Kind(_duration, "duration", _DURATION_SCHEMA)]
Period: TypeAlias = Annotated[int, Kind(_positive_duration, "duration", _DURATION_SCHEMA)]
Seconds: TypeAlias = Annotated[int, Kind(_seconds, "duration in whole seconds", _DURATION_SCHEMA)]
Umask: TypeAlias = Annotated[
    int, Kind(_umask, "octal digits", {"type": ["string", "integer"], "pattern": f"^{_UMASK.pattern}$"})
]
Size: TypeAlias = Annotated[
    int,
    Kind(
        _size,
        "size",
        {
            "type": ["string", "integer"],
            "pattern": r"^[0-9.]+\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)?$",
            "minimum": 0,
        },
    ),
]
Command: TypeAlias = Annotated[
    Any,
    Kind(
        _command,
        "text for the shell; list: program and arguments, no shell",
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": _SCALAR}]},
    ),
]
Environment: TypeAlias = Annotated[
    dict[Annotated[str, Kind(_variable, "name")], Annotated[str, Kind(_setting, "text")]],
    Kind(
        _environment,
        "map of texts",
        {
            "type": "object",
            "propertyNames": {"pattern": f"^{_VARIABLE.pattern}$"},
            "additionalProperties": _SCALAR,
        },
    ),
]
Modules: TypeAlias = Annotated[
    list[Annotated[str, Kind(_module, "module")]], Kind(one_or_list, "list of modules", _ONE_OR_MORE)
]
Variables: TypeAlias = Annotated[
    list[Annotated[str, Kind(_variable, "name")]], Kind(one_or_list, "names of variables", _ONE_OR_MORE)
]
Names: TypeAlias = Annotated[list[Name], Kind(one_or_list, "task names", _ONE_OR_MORE)]
Address: TypeAlias = Annotated[str, Kind(_address, "address", {"type": "string", "minLength": 1})]
Addresses: TypeAlias = Annotated[list[Address], Kind(one_or_list, "address, or a list of them", _ONE_OR_MORE)]
Url: TypeAlias = Annotated[str, Kind(_url, "URL", {"type": "string", "pattern": "^https?://"})]
Server: TypeAlias = Annotated[str, Kind(_server, "`HOST` or `HOST:PORT`", {"type": "string", "minLength": 1})]
FilePaths: TypeAlias = Annotated[list[FilePath], Kind(one_or_list, "list of paths", _ONE_OR_MORE)]
ExitCodes: TypeAlias = Annotated[
    list[Annotated[int, whole(0, 255)]],
    Kind(
        _exit_codes,
        "list of exit codes",
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": 255}},
    ),
]
Reasons: TypeAlias = Annotated[
    list[Annotated[Any, Kind(_reason, "exit code or exception name")]],
    Kind(
        one_or_list,
        "list of exit codes and exception names",
        {"type": "array", "items": {"type": ["integer", "string"]}},
    ),
]
Arguments: TypeAlias = Annotated[list[Any], Kind(_arguments, "list of plain values", {"type": "array"})]
Keywords: TypeAlias = Annotated[dict[str, Any], Kind(_keywords, "map of plain values", {"type": "object"})]


def extras(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Schema of a mapping with exactly these keys."""
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}
