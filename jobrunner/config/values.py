"""Nodes to plain values: variables are expanded, plain scalars read by YAML 1.2's rules, keys unique."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from .interpolate import InterpolationError, interpolate
from .load import MAP, PLAIN, QUOTED, SEQ, STR, place_of
from .problems import Findings, Place

Path: TypeAlias = Sequence[str | int]
Shape: TypeAlias = Mapping[str, str]

_TYPED: Final = {f"tag:yaml.org,2002:{each}" for each in ("int", "float", "bool", "null")}
_SAFE_TAGS: Final = {PLAIN, QUOTED, STR, SEQ, MAP, *_TYPED}
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NUMBER_STARTS: Final = frozenset("-+.0123456789")
_WORDS: Final[Mapping[str, object]] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LONGEST_NUMBER: Final = 300

# How the value of a key is read: `text` is what is written (3.10 stays "3.10"), `raw` the same without
# variables; any other key is read as YAML means it.
_TASK: Final[Shape] = {
    "command": "raw",
    **dict.fromkeys(("shell", "call", "description", "stdin", "cwd", "lock", "pool"), "text"),
    **dict.fromkeys(("user", "group", "umask"), "text"),
    **dict.fromkeys(("on_success", "on_failure", "env", "env_file", "timezone"), "text"),
    "notify": "notify",
}
_NOTIFY: Final[Shape] = {"command": "raw", **dict.fromkeys(("on", "mail", "webhook"), "text")}
_MAIL: Final[Shape] = dict.fromkeys(("sender", "smtp", "user", "password_file", "sendmail"), "text")
_PIPELINE: Final[Shape] = {**dict.fromkeys(("description", "timezone"), "text"), "notify": "notify"}
_POOL: Final[Shape] = {"env": "text", "python": "text"}
_ROOT: Final[Shape] = dict.fromkeys(
    ("env", "env_file", "secrets", "include", "modules", "pythonpath", "timezone", "backend"), "text"
)


def resolve_plain(text: str) -> object:
    """What a scalar without quotes is: null, true, false, a decimal number, or text (`no`, `010`)."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if not _FLOAT.fullmatch(text) or re.match(r"[-+]?0[0-9]", text):
        return text
    number = float(text)
    return number if math.isfinite(number) else text


class Pair(NamedTuple):
    """A key of a mapping and its value, its own or one that `<<` brought."""

    key: str
    key_node: Node
    value: Node
    merged: bool = False


class Document:
    """One file as nodes, and the way back from a value to the place where it is written."""

    def __init__(self, name: str, root: MappingNode, findings: Findings) -> None:
        self.name = name
        self.root = root
        self._findings = findings
        self._pairs: dict[MappingNode, dict[str, Pair]] = {}

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where the value at `path` is written, or its key; or the nearest part that is written."""
        node: Node = self.root
        key_node: Node | None = None
        for step in path:
            found = self._step(node, step)
            if found is None:
                if isinstance(step, int):  # a single value, read as a list of one
                    continue
                return self._place(node if isinstance(node, ScalarNode) else key_node or node)
            key_node, node = found
        return self._place(key_node if key and key_node is not None else node, key_node)

    def _step(self, node: Node, step: str | int) -> tuple[Node | None, Node] | None:
        if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
            return None, node.value[step]
        if isinstance(node, MappingNode):
            self.pairs(node)
            pair = self._pairs[node].get(str(step))
            return None if pair is None else (pair.key_node, pair.value)
        return None

    def _place(self, node: Node, key_node: Node | None = None) -> Place:
        """A block of several lines is shown by its key: a caret cannot underline it."""
        block = isinstance(node, CollectionNode) and node.end_mark.line != node.start_mark.line
        return place_of(key_node if block and key_node is not None else node, self.name)

    def written(self, path: Path) -> list[str]:
        """The keys of a path that are written: `retries: 3` has no `max`."""
        node: Node | None = self.root
        keys: list[str] = []
        for step in path:
            found = None if node is None else self._step(node, step)
            if found is None and isinstance(step, int):
                continue
            if isinstance(step, str) and (found is not None or isinstance(node, MappingNode)):
                keys.append(step)
            node = None if found is None else found[1]
        return keys

    def node(self, path: Path) -> Node | None:
        """The node at a path, None when nothing is written there."""
        node: Node = self.root
        for step in path:
            found = self._step(node, step)
            if found is None:
                return None
            node = found[1]
        return node

    def pairs(self, node: MappingNode) -> Iterable[Pair]:
        """The keys of a mapping with those that `<<` brings; its own ones win. Duplicates are findings."""
        known = self._pairs.get(node)
        if known is None:
            known = self._pairs[node] = self._own_pairs(node)
        return known.values()

    def _own_pairs(self, node: MappingNode) -> dict[str, Pair]:
        pairs: dict[str, Pair] = {}
        merges: list[Node] = []
        for key_node, value in node.value:
            if isinstance(key_node, ScalarNode) and key_node.tag == PLAIN and key_node.value == "<<":
                merges.append(value)
                continue
            key = self._key(key_node)
            if key is None:
                continue
            if key in pairs:
                self._duplicate(key, key_node, pairs[key].key_node)
            pairs.setdefault(key, Pair(key, key_node, value))
        for merge in merges:
            self._merge(merge, pairs)
        return pairs

    def _merge(self, value: Node, pairs: dict[str, Pair]) -> None:
        sources = value.value if isinstance(value, SequenceNode) else [value]
        for source in sources:
            if not isinstance(source, MappingNode):
                self._findings.consequence(
                    place_of(value, self.name),
                    "wrong-type",
                    "<<: got something else than a mapping, expected the alias of one",
                    hint="write <<: *name, where &name stands before a mapping",
                )
                return
            for pair in self.pairs(source):
                pairs.setdefault(pair.key, pair._replace(merged=True))

    def _key(self, node: Node) -> str | None:
        if isinstance(node, ScalarNode) and node.tag in _SAFE_TAGS and (node.value or node.tag != PLAIN):
            return str(node.value)
        place = place_of(node, self.name)
        if isinstance(node, MappingNode):
            # {{ x }} is a mapping whose key is the mapping {x: null}
            outer = place._replace(column=max(1, place.column - 1), width=place.width + 2)
            self._findings.unreadable(
                outer,
                "must-be-quoted",
                "this value must be quoted",
                hint='write it in quotes, "{{ ... }}"  (YAML takes {{ for the beginning of a mapping)',
            )
        else:
            self._findings.unreadable(place, "key-not-text", "not a key, expected text before the colon")
        return None

    def _duplicate(self, key: str, node: Node, first: Node) -> None:
        self._findings.unreadable(
            place_of(node, self.name),
            "duplicate-key",
            f"duplicate key {key!r}, first on line {first.start_mark.line + 1}",
            hint="YAML would keep one of them and drop the other: remove or rename one",
        )


class Values:
    """Reads the values of a document with a set of variables."""

    def __init__(self, document: Document, variables: Mapping[str, str], findings: Findings) -> None:
        self._document = document
        self._variables = variables
        self._findings = findings
        self.used: dict[str, str | None] = {}  # variables that were looked up

    def root(self) -> dict[str, object]:
        """The whole document, without its shelf of `x-` keys."""
        readers: dict[str, Callable[[Node], object]] = {
            "tasks": lambda node: self._each(node, _TASK),
            "defaults": lambda node: self._shaped(node, _TASK),
            "pools": lambda node: self._each(node, _POOL),
            "pipelines": lambda node: self._each(node, _PIPELINE),
            "mail": lambda node: self._shaped(node, _MAIL),
        }
        read: dict[str, object] = {}
        for pair in self._document.pairs(self._document.root):
            if not pair.key.startswith("x-"):
                read[pair.key] = readers.get(pair.key, self._reader(_ROOT.get(pair.key)))(pair.value)
        return read

    def key(self, key: str) -> object:
        """The value of one key at the top; None when it is not there."""
        node = self._document.node([key])
        return None if node is None else self._reader(_ROOT.get(key))(node)

    def _each(self, node: Node, shape: Shape) -> object:
        if not isinstance(node, MappingNode):
            return self.plain(node)
        return {pair.key: self._shaped(pair.value, shape) for pair in self._document.pairs(node)}

    def _shaped(self, node: Node, shape: Shape) -> object:
        if not isinstance(node, MappingNode):
            return self.plain(node)
        self._is_safe(node)
        return {
            pair.key: self._reader(shape.get(pair.key))(pair.value) for pair in self._document.pairs(node)
        }

    def _reader(self, how: str | None) -> Callable[[Node], object]:
        if how == "raw":
            return self.raw
        if how == "notify":
            return lambda node: self._shaped(node, _NOTIFY)
        return self.text if how == "text" else self.plain

    def plain(self, node: Node) -> object:
        """The value as YAML means it."""
        if not isinstance(node, ScalarNode):
            return self._collection(node, self.plain)
        text = self._expanded(node)
        if node.tag in (QUOTED, STR) or text is None:
            return text
        if node.tag == PLAIN or (node.tag in _TYPED):
            return resolve_plain(text)
        self._is_safe(node)
        return None

    def text(self, node: Node) -> object:
        """The value as it is written, variables expanded; null stays null."""
        if not isinstance(node, ScalarNode):
            return self._collection(node, self.text)
        if not self._is_safe(node):
            return None
        if node.tag == PLAIN and resolve_plain(node.value) is None:
            return None
        return self._expanded(node)

    def raw(self, node: Node) -> object:
        """The value as it is written, to the letter; null stays null."""
        if not isinstance(node, ScalarNode):
            return self._collection(node, self.raw)
        if not self._is_safe(node):
            return None
        return None if node.tag == PLAIN and resolve_plain(node.value) is None else node.value

    def _collection(self, node: Node, read: Callable[[Node], object]) -> object:
        self._is_safe(node)
        if isinstance(node, SequenceNode):
            return [read(each) for each in node.value]
        assert isinstance(node, MappingNode)
        return {pair.key: read(pair.value) for pair in self._document.pairs(node)}

    def _expanded(self, node: ScalarNode) -> str | None:
        text: str = node.value
        if "$" not in text:
            return text
        try:
            return interpolate(text, self._variables, self.used)
        except InterpolationError as error:
            place = place_of(node, self._document.name)
            self._findings.unreadable(place, error.code, error.message, hint=error.help)
            return None

    def _is_safe(self, node: Node) -> bool:
        """Whether a node has no tag, or one of plain YAML; any other is a finding."""
        if node.tag in _SAFE_TAGS:
            return True
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        self._findings.unreadable(
            place_of(node, self._document.name),
            "tag-refused",
            f"the tag {tag} is not allowed, expected a plain value",
            hint="quote a value that begins with '!'" if isinstance(node, ScalarNode) else "remove the tag",
        )
        return False
