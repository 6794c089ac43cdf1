"""What a valid file probably does not mean."""

from __future__ import annotations

import re
from typing import Final

from yaml.nodes import ScalarNode

from .build import Building
from .draft import Draft
from .load import PLAIN, place_of
from .problems import LINE_BREAKS

_PIPE: Final = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.|\|\||\|""", re.DOTALL)
_LOST: Final = re.compile(r" (#.*)$")


def lint(building: Building) -> None:
    """Adds the warnings about tasks and locks."""
    lines: dict[str, list[str]] = {}
    for draft in building.drafts.values():
        command = draft.own.command
        if isinstance(command, str):
            _pipe_without_pipefail(building, draft, command)
            if draft.part.source.name not in lines:
                lines[draft.part.source.name] = LINE_BREAKS.split(draft.part.source.text)
            _lost_comment(building, draft, lines[draft.part.source.name])
    _unused_locks(building)


def _pipe_without_pipefail(building: Building, draft: Draft, command: str) -> None:
    if "|" not in command or "pipefail" in command or "pipefail" in (draft.get("shell") or ""):
        return
    if any(each[0] == "|" for each in _PIPE.finditer(command)):
        building.findings.warning(
            draft.place("command"),
            "pipe-without-pipefail",
            "in a pipe only the exit code of the last program counts: a failure before it is a success",
            hint="write shell: bash -o pipefail",
        )


def _lost_comment(building: Building, draft: Draft, lines: list[str]) -> None:
    """`command: curl x # y`: YAML takes the rest for a comment. Two blanks before `#` are meant."""
    node = draft.part.document.node(["tasks", draft.name, "command"])
    if not isinstance(node, ScalarNode) or node.tag != PLAIN or node.style:
        return
    end = node.end_mark
    lost = _LOST.match(lines[end.line][end.column :]) if end.line < len(lines) else None
    if lost is not None:
        place = place_of(node, draft.part.document.name)
        building.findings.warning(
            place._replace(line=end.line + 1, column=end.column + 2, width=len(lost[1])),
            "comment-in-command",
            "the rest of this line is a comment to YAML, and not a part of the command",
            hint="quote the whole command, or put two blanks before a comment",
        )


def _unused_locks(building: Building) -> None:
    used = {lock.name for draft in building.drafts.values() if (lock := draft.get("lock")) is not None}
    for part in building.reading.parts:
        for name in part.model.locks or ():
            if name not in used and not used - building.locks.keys():  # else one of them is misspelt
                place = part.document.place(["locks", name], key=True)
                building.findings.warning(place, "unused-lock", f"no task uses lock {name!r}")
