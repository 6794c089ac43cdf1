"""Which lock files of a crontab may become keys: those that every line which names them gives up.

A `flock -n FILE` that is lifted excludes only tasks of the file that is written. A line that has its own way
with FILE (`flock -w 60`, a part of a longer command, a mere mention) would run beside it, so both keep it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_WORD: Final = re.compile(r"""[^\s"'`;|&<>()=]+""")
_SAME_FOLDERS: Final = (("/var/run/", "/run/"), ("/var/lock/", "/run/lock/"))


class Use(NamedTuple):
    """A line: the command that is left of it, and the lock file that was lifted, if any."""

    line: int
    command: str
    env: Mapping[str, str]
    lock_file: str | None


def file_of(written: str, env: Mapping[str, str]) -> str | None:
    """The absolute path that a line means; None when only a shell can tell."""
    path = _expanded(written, env)
    if re.search(r"[$`*?\[]", path) or not path:
        return None
    home = env.get("HOME", "/")
    path = posixpath.normpath(
        posixpath.join(home, path.replace("~/", f"{home}/", 1) if path[:2] == "~/" else path)
    )
    for folder, same in _SAME_FOLDERS:
        if path.startswith(folder):
            return same + path.removeprefix(folder)
    return path


def shared_with_others(uses: Sequence[Use]) -> dict[str, int]:
    """The lifted lock files that a line still uses by itself, with the first such line."""
    lifted = {file for use in uses if use.lock_file and (file := file_of(use.lock_file, use.env))}
    found: dict[str, int] = {}
    for use in uses if lifted else ():
        for file in lifted.intersection(_named(use)):
            found.setdefault(file, use.line)
    return found


def _named(use: Use) -> Iterator[str]:
    """The files that the words of a command may mean."""
    for word in _WORD.findall(_expanded(use.command, use.env)):
        file = file_of(word, {"HOME": use.env.get("HOME", "/")})
        if file is not None:
            yield file


def _expanded(text: str, env: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: env.get(match[1] or match[2], match[0]), text)
