"""The pool that these tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.commands.slots import Slots, descriptors


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    """Eight slots; afterwards nothing is left open."""
    before = descriptors()
    made = Slots(tmp_path)
    try:
        yield made
    finally:
        made.close()
    assert descriptors() == before
