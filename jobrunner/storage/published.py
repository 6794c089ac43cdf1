"""What is published about a task, and the mark by which a storage knows that very definition again.

A client that goes by a definition it has seen before names the mark with its add (`ClientStorage.add_if`):
so an enqueue is one call, and never goes by what is no longer so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ..catalogue import Catalogue, Entry
from ..digest import sha256
from ..plain import from_plain, to_plain


class Published(NamedTuple):
    """What is published about a task."""

    entry: Entry | None = None  # None: nothing
    mark: str = ""  # "": nothing


NOTHING = Published()


def published(text: str | None) -> Published:
    """What this text, as it lies in the storage, says."""
    return NOTHING if text is None else _read(text)


@lru_cache(maxsize=1000)
def _read(text: str) -> Published:
    return Published(from_plain(Entry, json.loads(text)), sha256(text.encode()).hexdigest())


class Shelf:
    """The entries of a catalogue, each marked when it is first asked for."""

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._found: dict[str, Published] = {}

    def of(self, catalogue: Catalogue | None, task: str) -> Published:
        """What this catalogue says about a task."""
        if catalogue is not self._catalogue:
            self._catalogue, self._found = catalogue, {}
        if task not in self._found:
            entry = catalogue.tasks.get(task) if catalogue else None
            self._found[task] = NOTHING if entry is None else published(json.dumps(to_plain(entry)))
        return self._found[task]

    def has(self, catalogue: Catalogue | None, marks: Mapping[str, str]) -> bool:
        """Whether it says what these marks (task -> mark) stand for."""
        return all(self.of(catalogue, task).mark == mark for task, mark in marks.items())
