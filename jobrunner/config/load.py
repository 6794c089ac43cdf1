"""YAML text to nodes with positions: YAML 1.2's plain scalars, and bounds against hostile files."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from yaml.composer import ComposerError
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from .faults import diagnose, quote
from .problems import Findings, Place
from .reading import place_of_index

DEEPEST: Final = 100  # levels of nesting
LARGEST: Final = 1_000_000  # nodes, with every alias written out
MOST_REPAIRS: Final = 20
PLAIN: Final = "plain"  # the tag of a scalar without quotes and without a tag: its text decides
QUOTED: Final = "quoted"  # the tag of one that has neither, but quotes: it is text
STR: Final = "tag:yaml.org,2002:str"
SEQ: Final = "tag:yaml.org,2002:seq"
MAP: Final = "tag:yaml.org,2002:map"
_NOT_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BANG: Final = re.compile(r"(?<=[:,\[{-] )!(?=\s)")
_IMPLICIT: Final[dict[type[Node], str]] = {SequenceNode: SEQ, MappingNode: MAP}


class _Bounded:
    """What both loaders get: no tags are guessed, and nesting ends before the stack does."""

    _depth = 0

    def resolve(self, kind: type[Node], _value: object, implicit: Any) -> str:
        if kind is ScalarNode:
            return PLAIN if implicit[0] else QUOTED
        return _IMPLICIT[kind]

    def descend_resolver(self, parent: Node | None, _index: object) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            mark = parent.start_mark if parent is not None else None
            raise ComposerError(None, None, f"nested deeper than {DEEPEST} levels", mark)

    def ascend_resolver(self) -> None:
        self._depth -= 1


class PureLoader(_Bounded, yaml.SafeLoader):
    """The loader in Python, for machines without libyaml."""


if hasattr(yaml, "CSafeLoader"):

    class FastLoader(_Bounded, yaml.CSafeLoader):
        """The loader of libyaml, ten times as fast."""

else:  # pragma: no cover - wheels of PyYAML bring libyaml
    FastLoader = PureLoader  # type: ignore[misc,assignment]


def load_nodes(
    text: str, name: str, findings: Findings, *, loader: type[Any] = FastLoader
) -> MappingNode | None:
    """The root mapping of a file; None when there is none, which is then among the findings.

    A value that only lacks its quotes is reported and then read as if it had them, so that the rest of
    the file is looked at too.
    """
    if _has_forbidden_character(text, name, findings):
        return None
    root = _composed(text, name, findings, loader)
    if root is None:
        return None
    if not isinstance(root, MappingNode):
        findings.unreadable(place_of(root, name), "wrong-type", *_no_mapping(root))
        return None
    return root if _is_bounded(root, text, name, findings) else None


def _no_mapping(root: Node) -> tuple[str]:
    got = "a list" if isinstance(root, SequenceNode) else "text"
    return (f"got {got} at the top, expected a mapping with the key 'tasks'",)


def _has_forbidden_character(text: str, name: str, findings: Findings) -> bool:
    found = _NOT_YAML.search(text)
    if found is None:
        return False
    place = place_of_index(name, text, found.start())
    if found[0] == "\0":
        findings.unreadable(
            place, "nul-character", "the file holds a NUL byte, expected text", hint="is it a binary file?"
        )
    else:
        findings.unreadable(
            place,
            "control-character",
            f"the control character U+{ord(found[0]):04X} is not allowed in YAML",
            hint=f'remove it, or write it as "\\x{ord(found[0]):02x}" in double quotes',
        )
    return True


def _composed(text: str, name: str, findings: Findings, loader: type[Any]) -> Node | None:
    for _ in range(MOST_REPAIRS):
        try:
            root = _compose(text, loader)
        except (yaml.MarkedYAMLError, ReaderError) as error:
            fault = diagnose(error, text)
            place = Place(name, fault.line, fault.column, fault.width)
            findings.unreadable(place, fault.code, fault.message, hint=fault.help)
            if fault.repaired is None:
                return None
            text = fault.repaired
            continue
        if root is None:
            _empty(name, findings)
        return root
    return None


def _compose(text: str, loader: type[Any]) -> Node | None:
    reader = loader(text)
    try:
        node: Node | None = reader.get_single_node()
        return node
    finally:
        reader.dispose()


def _empty(name: str, findings: Findings) -> None:
    findings.unreadable(
        Place(name, 1, 1),
        "file-empty",
        "the file is empty, expected at least the key 'tasks'",
        hint="to remove every task, write tasks: {}",
    )


# ---- bounds ----------------------------------------------------------------------------------------------


def _is_bounded(root: Node, text: str, name: str, findings: Findings) -> bool:
    """Counts the nodes with every alias written out, without writing any out: a bomb is small to count."""
    try:
        _Census(text).size(root, 0)
    except _Refused as refused:
        findings.unreadable(place_of(refused.node, name), refused.code, refused.message, hint=refused.help)
        return False
    return True


class _Refused(Exception):
    def __init__(self, node: Node, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.node, self.code, self.message, self.help = node, code, message, hint


def _bang(node: Node) -> _Refused:
    """`! test -f x`, which YAML reads as `test -f x`: the opposite."""
    quoted = quote(f"! {node.value}")
    hint = f"write {quoted}  (YAML drops a leading '!')"
    return _Refused(node, "must-be-quoted", "this value must be quoted", hint)


class _Census:
    def __init__(self, text: str) -> None:
        places = (place_of_index("", text, found.start()) for found in _BANG.finditer(text))
        self._bangs = {(place.line - 1, place.column - 1) for place in places}
        self._sizes: dict[Node, tuple[int, int]] = {}  # nodes, levels
        self._open: set[Node] = set()

    def size(self, node: Node, depth: int) -> tuple[int, int]:
        if not isinstance(node, CollectionNode):
            mark = node.start_mark
            if self._bangs and (mark.line, mark.column) in self._bangs:
                raise _bang(node)
            return 1, 1
        known = self._sizes.get(node)
        if known is None:
            if node in self._open:
                raise _Refused(node, "alias-loop", "an alias in here refers to what it is a part of")
            known = self._sizes[node] = self._sum(node, depth)
        if depth + known[1] > 2 * DEEPEST:
            raise _Refused(node, "too-deep", f"nested deeper than {DEEPEST} levels")
        return known

    def _sum(self, node: CollectionNode, depth: int) -> tuple[int, int]:
        self._open.add(node)
        total, levels = 1, 0
        for child in _children(node):
            size, below = self.size(child, depth + 1)
            total, levels = total + size, max(levels, below)
            if total > LARGEST:
                raise _Refused(
                    node,
                    "alias-bomb",
                    f"with its aliases written out this holds more than {LARGEST:,} values, the limit",
                )
        self._open.discard(node)
        return total, levels + 1


def _children(node: CollectionNode) -> Any:
    if isinstance(node, MappingNode):
        return (child for pair in node.value for child in pair)
    return node.value


def place_of(node: Node, name: str) -> Place:
    """Where a node is written: a scalar to its end, a list or mapping by its first line."""
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Place(name, start.line + 1, start.column + 1, max(1, width))
