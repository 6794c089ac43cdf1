"""Names of tasks: what a person would call a command."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from itertools import chain, count
from typing import Final

from .shell import Token, tokens, unquoted

_LONGEST: Final = 40
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_SUBJECT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{1,19}", re.ASCII)
_DURATION: Final = re.compile(r"[0-9.]+[smhd]?")
_SEPARATORS: Final = ("&&", "||", ";", ";;", "(", ")", "&")
_PASSING: Final = re.compile(
    r"test|\[\[?|cd|\.|source|sleep|export|set|umask|mkdir|true|date|echo|exit|fi|done|\}|flock"
)
_KEYWORDS: Final = ("if", "then", "else", "do", "while", "{", "!", "command")
_WRAPPER: Final = re.compile(
    r"nice|ionice|timeout|flock|chronic|cronic|sudo|env|nohup|time|exec|setsid|stdbuf|su|runuser|setlock|lckdo"
    r"|eatmydata|chrt|systemd-cat"
)
_WITH_VALUE: Final = frozenset(
    ("-n", "-c", "-k", "-s", "-u", "-w", "-E", "-g", "-p", "-t", "-o", "-e", "-i", "-S", "--signal")
)
_INTERPRETERS: Final = re.compile(
    r"(?:(?:ba|da|z|k|a|c|tc)?sh|python[0-9.]*|perl[0-9.]*|ruby[0-9.]*|node|nodejs|php[0-9.]*|java|Rscript|lua)"
)
_GENERIC: Final = frozenset(("find", "rm", "cp", "mv", "touch", "logger", "wget", "curl", "ls", "cat", "run"))
_PERIODS: Final = {
    "@hourly": "hourly",
    "@daily": "daily",
    "@midnight": "daily",
    "@weekly": "weekly",
    "@monthly": "monthly",
    "@yearly": "yearly",
    "@annually": "yearly",
    "@reboot": "at-boot",
}


def name_of(command: str) -> str:
    """A name for a command, not necessarily a unique one; `command` when nothing in it gives one."""
    every = [_of_part(part) for part in _parts(tokens(command))]
    chosen = next((name for name, is_passing in every if name and not is_passing), "")
    chosen = chosen or next((name for name, _ in every if name), "")
    return chosen or "command"


def unique(name: str, when: str, taken: Container[str], command: str = "") -> str:
    """The name, with its period, its subject or a number behind it when another task has it already."""
    telling = (_PERIODS.get(when), _subject(command))
    candidates = [name, *(f"{name}-{word}" for word in telling if word)]
    numbered = (f"{name}-{number}" for number in count(2))
    return next(each for each in chain(candidates, numbered) if each not in taken)


def _subject(command: str) -> str:
    """The last operand of a command, when it is a short word."""
    words = next((part for part in reversed(list(_parts(tokens(command)))) if part), [])
    operands = _operands(words[1:])
    return operands[-1].lower() if operands and _SUBJECT.fullmatch(operands[-1]) else ""


def _parts(given: Sequence[Token]) -> Iterator[list[str]]:
    """The simple commands of a text, each as its words; what is piped into or redirected to is left out."""
    part: list[str] = []
    piped = skip = False
    for token in given:
        if token.is_word:
            if not piped and not skip:
                part.append(unquoted(token.text))
            skip = False
        elif token.text in _SEPARATORS:
            yield part
            part, piped = [], False
        elif token.text == "|":
            piped = True
        else:
            skip = ">" in token.text or "<" in token.text
            skip = skip and not token.text[-1].isdigit() and not token.text.endswith("-")
    yield part


def _of_part(words: list[str]) -> tuple[str, bool]:
    """A name for a simple command, and whether the command only prepares the next one."""
    words = _bare(words)
    if not words:
        return "", True
    program = _stem(words[0])
    is_passing = _PASSING.fullmatch(words[0]) is not None or (program == "perl" and "-e" in words[1:2])
    if program == "run-parts":
        return _slug("-".join(_operands(words[1:])[-1:]).strip("/").removeprefix("etc/")), False
    if _INTERPRETERS.fullmatch(words[0].rpartition("/")[2]):
        return _interpreted(words), is_passing
    return _slug(_with_subject(program, words)), is_passing


def _bare(words: list[str]) -> list[str]:
    """The words behind assignments and wrappers such as `nice -n 10`."""
    while words:
        if _ASSIGNMENT.fullmatch(words[0]) or words[0] in _KEYWORDS:
            words = words[1:]
        elif _WRAPPER.fullmatch(words[0].rpartition("/")[2]):
            rest = _behind_options(words)
            if not rest:
                break
            words = rest
        else:
            break
    return words


def _behind_options(words: list[str]) -> list[str]:
    wrapper, at = words[0].rpartition("/")[2], 1
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "-c" and wrapper in ("flock", "su", "runuser"):
            return tokens_of(words[at + 1]) if at + 1 < len(words) else []
        at += 2 if words[at] in _WITH_VALUE and not (wrapper == "flock" and words[at] == "-n") else 1
    if wrapper in ("flock", "setlock", "lckdo", "su", "runuser") or (
        wrapper == "timeout" and at < len(words) and _DURATION.fullmatch(words[at])
    ):
        at += 1
    if wrapper in ("flock", "su", "runuser") and words[at : at + 1] == ["-c"] and at + 1 < len(words):
        return tokens_of(words[at + 1])
    return words[at:]


def tokens_of(text: str) -> list[str]:
    """The words of the last simple command of a text that is a word itself."""
    parts = [part for part in _parts(tokens(text)) if part]
    return parts[-1] if parts else []


def _interpreted(words: list[str]) -> str:
    """The script of an interpreter, the module behind `-m`, the command behind `-c`."""
    for at, word in enumerate(words[1:], 1):
        following = words[at + 1] if at + 1 < len(words) else ""
        if word == "-m" and following:
            return _slug(following.rpartition(".")[2])
        if re.fullmatch(r"-[a-z]*c", word) and following:
            return name_of(following) if _is_shell(words[0]) else _slug(_stem(words[0]))
        if not word.startswith("-"):
            return _slug(_script(word))
    return _slug(_stem(words[0]))


def _is_shell(program: str) -> bool:
    return program.endswith("sh")


def _script(path: str) -> str:
    """A script by its name; a colourless one together with its folder."""
    folder, _, _ = path.rpartition("/")
    stem = _stem(path)
    if stem in ("main", "index", "run", "manage", "cron", "script", "start", "app", "job", "task", "artisan"):
        above = folder.rpartition("/")[2]
        return f"{above}-{stem}" if above.strip(".~$") else stem
    return stem


def _with_subject(program: str, words: list[str]) -> str:
    """`certbot renew`, `find tmp`: a program of many uses with its first operand."""
    operands = _operands(words[1:])
    if program in _GENERIC and operands:
        subject = re.sub(r"^\w+://", "", operands[-1] if program in ("curl", "wget") else operands[0])
        subject = subject.partition("?")[0].rstrip("/*")
        if program in ("curl", "wget"):
            return f"{program}-{subject.partition('/')[0]}"
        return f"{program}-{subject.rpartition('/')[2]}"
    if "/" not in words[0] and operands and re.fullmatch(r"[a-z][a-z-]{2,14}", operands[0]):
        return f"{program}-{operands[0]}"
    return _script(words[0])


def _operands(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _stem(path: str) -> str:
    name = path.rstrip("/").rpartition("/")[2]
    stem = re.sub(r"\.(?:sh|bash|py|pl|rb|js|php|ksh|zsh|cron|jar|exe|bin)$", "", name, flags=re.IGNORECASE)
    return stem or name


def _slug(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.").lower()
    return plain[:_LONGEST].rstrip("-.")
