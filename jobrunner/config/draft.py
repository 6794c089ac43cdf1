"""A task before it becomes one: its own keys, those of `defaults`, and where they are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .problems import Place
from .schema import DefaultsModel, TaskModel
from .sources import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What one task says, and what holds for it."""

    name: str
    part: Part
    main: Part
    own: TaskModel
    defaults: DefaultsModel
    given: Mapping[str, Any] = field(init=False, repr=False)  # what is in force, as far as it is said

    def __post_init__(self) -> None:
        said = {key: getattr(self.defaults, key) for key in self.defaults.model_fields_set}
        own = {key: getattr(self.own, key) for key in self.own.model_fields_set}
        object.__setattr__(self, "given", said | own)

    def get(self, key: str) -> Any:
        """The value in force, None when the key is not given: null unsets what defaults say."""
        return self.given.get(key)

    def origin(self, key: str) -> str:
        """`task`, `defaults` or `default`: who says it."""
        if key in self.own.model_fields_set:
            return "task"
        return "defaults" if key in self.defaults.model_fields_set else "default"

    def place(self, key: str, *inside: str | int) -> Place:
        """Where a key in force is written."""
        if self.origin(key) == "defaults":
            return self.main.document.place(["defaults", key, *inside])
        return self.part.document.place(["tasks", self.name, key, *inside])

    @property
    def raw(self) -> Mapping[str, Any]:
        """Its own keys as they are written, the wrong ones included."""
        return mapping(mapping(self.part.raw.get("tasks")).get(self.name))

    @property
    def named_at(self) -> Place:
        return self.part.document.place(["tasks", self.name], key=True)

    def folder(self, key: str) -> str:
        """The folder that relative paths of a key count from: the one of the file that says it."""
        return (self.main if self.origin(key) == "defaults" else self.part).folder


def absolute(path: str, folder: str) -> str:
    """The path, counted from a folder; `~` is the home of the user."""
    return os.path.normpath(os.path.join(folder, os.path.expanduser(path)))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value, where it is a mapping; an empty one otherwise."""
    return value if isinstance(value, dict) else {}
