"""Everything that one configuration is read from: the file, what it includes, and its env files."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..digest import sha256
from ..fingerprint import combined, digest
from .environment import parse_environment
from .file_models import FileModel, IncludedModel
from .load import load_nodes
from .problems import Findings, Place
from .reading import Source, read_source
from .validate import check_names, validate
from .values import Document, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of a configuration: its text, its nodes, and what it holds."""

    source: Source
    document: Document
    raw: Mapping[str, Any]  # as it was written, before what is wrong was taken out
    model: IncludedModel  # a FileModel for the file itself

    @property
    def folder(self) -> str:
        return self.source.folder


@dataclass(slots=True)
class Reading:
    """Reads a file and all that belongs to it; notes what was read."""

    environ: Mapping[str, str]
    findings: Findings
    parts: list[Part] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)  # by the name that problems use
    watched: dict[str, None] = field(default_factory=dict)  # absolute paths, in order
    variables: Mapping[str, str] = field(default_factory=dict)
    env_file: dict[str, str] = field(default_factory=dict)  # what the file's own env_file holds
    _digest: Any = field(default_factory=sha256)
    _digests: dict[str, bytes] = field(default_factory=dict)  # by absolute path
    _env_files: dict[str, dict[str, str]] = field(default_factory=dict)
    _used: dict[str, str | None] = field(default_factory=dict)

    def read(self, path: str) -> bool:
        """Read the file and what it includes; False when the file itself cannot be used."""
        self.watched[os.path.abspath(path)] = None
        source = self._source(path, path)
        document = None if source is None else self._document(source)
        if source is None or document is None:
            return False
        self._read_environment(document, source)
        self._part(source, document, FileModel, (source.path,))
        return True

    @property
    def hash(self) -> str:
        """Of everything that was read, variables of the environment included."""
        digest = self._digest.copy()
        for name, value in sorted(self._used.items()):
            digest.update(f"\0{name}={value}".encode("utf-8", "surrogateescape"))
        return str(digest.hexdigest())

    def note(self, content: bytes, path: str | None = None) -> None:
        """Count this as read too, from this file: what follows from it changes with it."""
        self._digest.update(content)
        if path is not None:
            self.watched[path] = None
            self._digests[path] = digest(content)

    @property
    def fingerprint(self) -> str:
        """Of the content of the files alone: what the watch over them compares."""
        return combined(self._digests)

    # ---- files

    def _source(self, path: str, name: str, at: Place | None = None) -> Source | None:
        self.findings.knows(name)
        source = read_source(path, name, self.findings, at=at)
        if source is not None:
            self.texts[name] = source.text
            self._digest.update(source.content)
            self._digests[source.path] = digest(source.content)
        return source

    def _document(self, source: Source) -> Document | None:
        root = load_nodes(source.text, source.name, self.findings)
        return None if root is None else Document(source.name, root, self.findings)

    def _part(
        self, source: Source, document: Document, kind: type[IncludedModel], chain: tuple[str, ...]
    ) -> None:
        values = Values(document, self.variables, self.findings)
        raw = values.root()
        self._used |= values.used
        check_names(document, raw, self.findings)
        model = validate(document, _copy(raw), kind, self.findings)
        part = Part(source=source, document=document, raw=raw, model=model)
        self.parts.append(part)
        self._include(part, chain)

    # ---- include

    def _include(self, part: Part, chain: tuple[str, ...]) -> None:
        for index, pattern in enumerate(part.model.include or ()):
            place = part.document.place(["include", index])
            for path in self._matching(pattern, part.folder, place):
                self._include_one(path, part, place, chain)

    def _matching(self, pattern: str, folder: str, place: Place) -> list[str]:
        full = os.path.normpath(os.path.join(folder, os.path.expanduser(pattern)))
        self.watched[full] = None  # of a pattern, the folder is what matters
        if not glob.has_magic(pattern):
            return [full]
        found = sorted(glob.glob(full, recursive=True))
        if not found:
            message = f"no file fits {pattern!r}"
            self.findings.warning(place, "include-empty", message, hint=f"looked in {os.path.dirname(full)}")
        return found

    def _include_one(self, path: str, part: Part, place: Place, chain: tuple[str, ...]) -> None:
        if path in chain:
            circle = " -> ".join(os.path.basename(each) for each in (*chain[chain.index(path) :], path))
            self.findings.error(place, "include-cycle", f"the files include each other in a circle: {circle}")
            return
        if path in (each.source.path for each in self.parts):
            return  # named twice, by two patterns: read once
        self.watched[path] = None
        source = self._source(path, self._name_beside(path, part), place)
        document = None if source is None else self._document(source)
        if source is not None and document is not None:
            self._part(source, document, IncludedModel, (*chain, path))

    def _name_beside(self, path: str, part: Part) -> str:
        """The name of a file in messages, as seen from where the user named the first one."""
        relative = os.path.relpath(path, part.folder)
        return os.path.normpath(os.path.join(os.path.dirname(part.source.name), relative))

    # ---- env files

    def _read_environment(self, document: Document, source: Source) -> None:
        """The file's own env_file, whose variables count in `${...}` wherever the environment has none."""
        self.variables = self.environ
        values = Values(document, self.environ, Findings())
        names = values.key("env_file")
        listed = names if isinstance(names, list) else [names]
        for index, name in enumerate(listed):
            if isinstance(name, str) and name.strip():
                place = document.place(["env_file", index])
                self.env_file |= self.environment_of(name, source.folder, place)
        self.variables = {**self.env_file, **self.environ}

    def environment_of(self, name: str, folder: str, place: Place) -> Mapping[str, str]:
        """The variables of an env file; a leading `-` lets it be missing."""
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(name.removeprefix("-"))))
        self.watched[path] = None
        if name.startswith("-") and not os.path.lexists(path):
            return {}
        if path not in self._env_files:
            source = self._source(path, name.removeprefix("-"), place)
            text = "" if source is None else source.text
            self._env_files[path] = parse_environment(text, name.removeprefix("-"), self.findings)
        return self._env_files[path]


def _copy(raw: Any) -> Any:
    """The mappings of a document, copied as deep as validation takes keys out."""
    return {key: _copy_section(value) for key, value in raw.items()}


def _copy_section(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: dict(each) if isinstance(each, dict) else each for key, each in value.items()}
