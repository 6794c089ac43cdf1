"""A folder with modules of tasks: served by a real supervisor, and imported here as a client imports them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.live import Project

Import = Callable[[str], ModuleType]


@pytest.fixture
def import_here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Imports a module of the project in this process, for the length of the test."""
    monkeypatch.chdir(project.folder)
    monkeypatch.syspath_prepend(str(project.folder))
    imported: list[str] = []

    def load(name: str) -> ModuleType:
        imported.append(name)
        return importlib.import_module(name)

    yield load
    for name in imported:
        module = sys.modules.pop(name, None)
        for each in vars(module).values() if module else ():
            if hasattr(type(each), "close") and type(each).__name__ == "JobRunner":
                each.close()
