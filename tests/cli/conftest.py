"""A desk for each test, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobrunner.plan import Task
from tests.cli.desk import Desk, Stage


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


@pytest.fixture
def stage(desk: Desk) -> Iterator[Callable[..., Stage]]:
    """Opens the desk's storage as its supervisor, with these tasks."""
    with ExitStack() as stack:

        def opened(*tasks: Task, timezone: str = "Europe/Paris") -> Stage:
            made = Stage.opened(desk, *tasks, timezone=timezone)
            stack.callback(made.close)
            return made

        yield opened
