"""Wrappers that people write around their commands in a crontab, turned into keys of the task."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from jobrunner.durations import SECOND, DurationError, parse_duration
from jobrunner.schedule.parse import spell_duration

from .shell import Token, tokens, unquoted

_SLEEP: Final = (
    re.compile(
        r"""sleep\s+["']?\$(?:\(\(|\[)\s*\$?\{?RANDOM\}?\s*%\s*(\d+)\s*(?:\)\)|\])["']?\s*(?:;|&&)\s*"""
    ),
    re.compile(r"""perl\s+-e\s+'sleep\s+int\(rand\((\d+)\)\)'\s*(?:;|&&)\s*"""),
)
_AMOUNT: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_HARMLESS_TAIL: Final = re.compile(r"\|\s*(?:/usr/bin/)?(?:logger|tee|ts|systemd-cat)\b[^|;&]*$")
_MOST_WRAPPERS: Final = 10
_WRAPPERS: Final = frozenset(("flock", "timeout", "nice", "ionice", "chronic", "cronic"))
_BEFORE_A_COMMAND: Final = frozenset(("&&", "||", ";", ";;", "&", "(", "|"))
_PREFIXES: Final = frozenset(
    ("env", "exec", "command", "sudo", "!", "{", "if", "then", "else", "do", "while")
)
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """A command without its wrappers, the keys that they became, and what is to be said of it."""

    command: str
    keys: dict[str, object] = field(default_factory=dict)
    lock_file: str | None = None
    """The file of a `flock -n`: `overlap: skip` when no other task names it, a lock otherwise."""
    notes: tuple[str, ...] = ()


def lift(command: str, may_lift_lock: Callable[[str], bool] = lambda _file: True) -> Lifted:
    """The command with its leading wrappers as keys, up to a lock on a file that may not be lifted."""
    lifted = Lifted(command=command)
    for _ in range(_MOST_WRAPPERS):
        further = _one(lifted)
        if further is None or (
            further.lock_file is not None
            and lifted.lock_file is None
            and not may_lift_lock(further.lock_file)
        ):
            break
        lifted = further
    return lifted


def _one(lifted: Lifted) -> Lifted | None:
    """One wrapper less, or None."""
    command = lifted.command.lstrip(" \t")
    for pattern in _SLEEP:
        if found := pattern.match(command):
            return _with(lifted, command[found.end() :], jitter=spell_duration(int(found[1]) * SECOND))
    words = tokens(command)
    if not words or not words[0].is_word or not _wraps_everything(command, words):
        return None
    program = words[0].text.rpartition("/")[2]
    taker = {"flock": _flock, "timeout": _timeout, "nice": _nice, "chronic": _chronic, "cronic": _chronic}
    taken = taker[program](lifted, command, words) if program in taker else None
    return taken if taken is not None and taken.command.strip() else None


def _wraps_everything(command: str, words: list[Token]) -> bool:
    """A wrapper holds its first simple command only: nothing may follow but redirections and a logger."""
    for token in words:
        if not token.is_word and token.text in ("&&", "||", ";", "&", "(", ")", ";;", "'", '"', "`"):
            return False
        if not token.is_word and token.text == "|":
            return _HARMLESS_TAIL.match(command, token.start) is not None
    return True


def _with(lifted: Lifted, command: str, *notes: str, **keys: object) -> Lifted:
    return replace(lifted, command=command, keys={**lifted.keys, **keys}, notes=(*lifted.notes, *notes))


def _flock(lifted: Lifted, command: str, words: list[Token]) -> Lifted | None:
    """`flock -n FILE COMMAND`, with `-x`, `--nonblock`, `-E 0`; others wait, which no key says of a tick."""
    at, never_waits = 1, False
    while at < len(words) and words[at].text.startswith("-"):
        option = words[at].text
        if option in ("--nonblock", "--nb", "--exclusive") or re.fullmatch(r"-[nxeo]+", option):
            never_waits |= option in ("--nonblock", "--nb") or "n" in option.partition("--")[0]
            at += 1
        elif option == "-E" or option == "--conflict-exit-code":
            at += 2
        else:
            return None
    if not never_waits or at + 1 >= len(words) or lifted.lock_file is not None:
        return None
    file, rest = unquoted(words[at].text), words[at + 1 :]
    text = _text_of(command, rest)
    return None if text is None else replace(_with(lifted, text), lock_file=file)


def _text_of(command: str, rest: list[Token]) -> str | None:
    """What is run: the words as they stand, or the text behind `-c`."""
    if rest[0].text not in ("-c", "--command"):
        return command[rest[0].start :]
    if len(rest) < 2 or not rest[1].is_word:
        return None
    inner, tail = unquoted(rest[1].text), command[rest[1].end :]
    if not tail.strip():
        return inner
    return f"{{ {inner}; }}{tail}" if re.search(r"[;|&]", inner) else f"{inner}{tail}"


def _timeout(lifted: Lifted, command: str, words: list[Token]) -> Lifted | None:
    """`timeout [-k AFTER] TIME COMMAND`; with another signal than TERM it stays."""
    at, keys = 1, dict[str, object]()
    while at < len(words) and words[at].text.startswith("-"):
        option = words[at].text
        value = words[at + 1].text if option in ("-k", "--kill-after") and at + 1 < len(words) else ""
        value = value or option.removeprefix("--kill-after=").removeprefix("-k")
        if option in ("--preserve-status", "--foreground", "-v", "--verbose"):
            at += 1
            continue
        after = _duration(value)
        if not option.startswith(("-k", "--kill-after")) or after is None:
            return None
        keys["kill_after"] = after
        at += 2 if option in ("-k", "--kill-after") else 1
    limit = _duration(words[at].text) if at + 1 < len(words) else None
    if limit is None or "timeout" in lifted.keys:
        return None
    return _with(lifted, command[words[at + 1].start :], timeout=limit, **keys)


def _duration(text: str) -> str | None:
    """A time of `timeout` as a duration of jobs.yaml; None for anything that is none, or is nothing."""
    found = _AMOUNT.fullmatch(text)
    if found is None or float(found[1]) == 0:
        return None
    duration = f"{found[1]}{found[2] or 's'}"
    try:
        return duration if parse_duration(duration) else None
    except DurationError:
        return None


def _nice(lifted: Lifted, command: str, words: list[Token]) -> Lifted | None:
    """`nice COMMAND`, `nice -n N COMMAND`, `nice -N COMMAND`."""
    at, amount = 1, 10
    if at < len(words) and (found := re.fullmatch(r"(?:-n|--adjustment=|-)(-?\d+)", words[at].text)):
        at, amount = 2, int(found[1])
    elif len(words) > 2 and words[1].text == "-n" and re.fullmatch(r"-?\d+", words[2].text):
        at, amount = 3, int(words[2].text)
    if at >= len(words) or not words[at].is_word or words[at].text.startswith("-") or abs(amount) > 19:
        return None
    return _with(lifted, command[words[at].start :], nice=amount)


def _chronic(lifted: Lifted, command: str, words: list[Token]) -> Lifted | None:
    """`chronic COMMAND`: output is kept here whatever becomes of the run."""
    if len(words) < 2 or not words[1].is_word or words[1].text.startswith("-"):
        return None
    note = f"'{words[0].text}' is not needed: jobrunner logs keeps the output, of success and failure"
    return _with(lifted, command[words[1].start :], note)


def left_wrappers(command: str) -> list[str]:
    """Wrappers that could not become keys, by name, wherever a command may begin."""
    found: list[str] = []
    begins = True
    for token in tokens(command):
        if not token.is_word:
            begins = token.text in _BEFORE_A_COMMAND
        elif begins:
            program = token.text.rpartition("/")[2]
            found += [program] if program in _WRAPPERS else []
            begins = program in _PREFIXES or _ASSIGNMENT.match(token.text) is not None
    return list(dict.fromkeys(found))
