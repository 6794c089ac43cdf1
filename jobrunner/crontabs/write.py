"""An import as the text of a jobs.yaml: comments kept, quotes where they must be, shared things said once."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .translate import CRONS_WAYS, SLOTS, Imported, ImportedTask

_PLAIN: Final = re.compile(r"[A-Za-z/_][^\x00-\x1f\x7f-\uffff\U00010000-\U0010ffff]*")
_DURATION: Final = re.compile(r"[0-9]+(?:ms|[smhdw])")
_WORDS: Final = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
_SAFE: Final = r"\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff"
_UNSAFE: Final = re.compile(f"[^{_SAFE}]")
_LINES: Final = re.compile(rf"(?:[!-~][{_SAFE}]*\n)(?:(?:[!-~][{_SAFE}]*)?\n)*[!-~][{_SAFE}]*\n")
_ORDER: Final = ("user", "command", "shell", "stdin", "schedule", "timezone")
_INTERPOLATED: Final = frozenset(("shell", "stdin", "cwd", "timezone"))


def write(imported: Imported) -> str:
    """The whole file."""
    blocks = [list(_comments(imported.header, "")), list(_top(imported.tasks))]
    blocks.append(list(_tasks(imported)))
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks if block)


def _top(tasks: Sequence[ImportedTask]) -> Iterator[str]:
    """What holds for every task: cron's ways, its environment, its folder."""
    env, shared = _shared_env(tasks), _shared(tasks)
    if env:
        yield "env:  # as cron sets it"
        yield from _mapping(env, 1, expanded=True)
        yield ""
    if len(tasks) > SLOTS:
        yield f"pools: {{commands: {{slots: {2 * len(tasks)}}}}}  # cron starts as many at a time as are due"
        yield ""
    yield "defaults:  # cron's ways; strike one out and jobrunner's own holds"
    yield from _mapping({**CRONS_WAYS, **shared}, 1)
    used = [lock for task in tasks if isinstance(lock := task.settings.get("lock"), dict)]
    locks = {str(lock["name"]) for lock in used}
    if locks:
        yield ""
        yield "locks:"
        yield from (f"  {scalar(name)}: {{slots: 1}}" for name in sorted(locks))


def _tasks(imported: Imported) -> Iterator[str]:
    if not imported.tasks:
        yield "tasks: {}"
        yield from _comments(imported.trailer, "")
        return
    yield "tasks:"
    env, shared = _shared_env(imported.tasks), _shared(imported.tasks)
    for number, task in enumerate(imported.tasks):
        if number:
            yield ""
        yield from _task(task, env, shared)
    if imported.trailer:
        yield ""
        yield from _comments(imported.trailer, "  ")


def _task(task: ImportedTask, env: Mapping[str, str], shared: Mapping[str, object]) -> Iterator[str]:
    yield from _comments(task.comments, "  ")
    yield f"  {scalar(task.name)}:"
    settings = {**_cwd(task), **task.settings}
    own = {key: value for key, value in settings.items() if shared.get(key) != value}
    ordered = {key: own.pop(key) for key in _ORDER if key in own} | own
    yield from _mapping(ordered, 2)
    rest = {name: value for name, value in task.env.items() if env.get(name) != value}
    if rest:
        yield "    env:"
        yield from _mapping(rest, 3, expanded=True)


def _cwd(task: ImportedTask) -> dict[str, object]:
    return {"cwd": task.env["HOME"]} if task.env["HOME"].strip() else {}


def _shared_env(tasks: Sequence[ImportedTask]) -> dict[str, str]:
    """The variables that every task has, with the value that most of them have."""
    names = [name for name in tasks[0].env if all(name in task.env for task in tasks)] if tasks else []
    return {name: Counter(task.env[name] for task in tasks).most_common(1)[0][0] for name in names}


def _shared(tasks: Sequence[ImportedTask]) -> dict[str, object]:
    """Keys that `defaults` can say for all tasks."""
    every = [{**_cwd(task), **task.settings} for task in tasks]
    keys = ("cwd", "shell", "timezone", "notify")
    first = every[0] if every else {}
    return {key: first[key] for key in keys if key in first and all(e.get(key) == first[key] for e in every)}


def _comments(lines: Sequence[str], indent: str) -> Iterator[str]:
    """Comments as they were; characters that YAML forbids are escaped."""
    kept = list(lines)
    while kept and not kept[-1]:
        kept.pop()
    for line in kept:
        yield indent + _UNSAFE.sub(_escape, line.replace("\t", "    ")).rstrip() if line else ""


def _escape(match: re.Match[str]) -> str:
    """A character as an escape of YAML."""
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _mapping(values: Mapping[str, object], depth: int, *, expanded: bool = False) -> Iterator[str]:
    for key, value in values.items():
        text = _freed(value) if expanded or key in _INTERPOLATED else value
        yield from f"{'  ' * depth}{scalar(key)}: {_value(text, depth)}".split("\n")


def _value(value: object, depth: int) -> str:
    if isinstance(value, str) and value.count("\n") > 1 and _LINES.fullmatch(value):
        lines = "\n".join("  " * (depth + 1) + line if line else "" for line in value.split("\n")[:-1])
        return f"|\n{lines}"
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)}: {_value(each, depth)}" for key, each in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(scalar(each, inside=True) for each in value) + "]"
    if isinstance(value, bool | int):
        return json.dumps(value)
    return scalar(str(value))


def _key(key: str) -> str:
    """`on` needs no quotes: jobs.yaml is read by the rules of YAML 1.2, where it is no truth value."""
    return key if key == "on" else scalar(key)


def _freed(value: Any) -> Any:
    """A text whose `$` mean themselves where jobs.yaml would expand `${...}`."""
    if isinstance(value, str) and ("${" in value or "$$" in value):
        return value.replace("$", "$$")
    return value


def scalar(text: str, *, inside: bool = False) -> str:
    """A text as YAML reads it back: plain where that is safe, else in quotes; never folded."""
    if _is_plain(text) and not (inside and re.search(r"[][{},]", text)):
        return text
    if _UNSAFE.search(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{_UNSAFE.sub(_escape, escaped)}"'
    return "'" + text.replace("'", "''") + "'" if re.search(r'["\\]', text) else f'"{text}"'


def _is_plain(text: str) -> bool:
    if _DURATION.fullmatch(text):
        return True
    if not _PLAIN.fullmatch(text) or text.lower() in _WORDS or text != text.strip():
        return False
    return ": " not in text and " #" not in text and not text.endswith(":")
