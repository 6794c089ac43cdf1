"""Which storage a URL means: one of ours, or somebody else's by an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from jobrunner.errors import StorageRefused, StorageUnavailable, UsageError
from jobrunner.storage import open_storage


def brought_by(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Some package brings a storage for `mine://`."""
    found = EntryPoint("mine", value, "jobrunner.storages")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [found])


def broken(url: str, *, create: bool) -> object:
    raise RuntimeError("no such thing")


def unavailable(url: str, *, create: bool) -> object:
    raise StorageUnavailable("later")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f"{__name__}:broken", "RuntimeError: no such thing"),
        (f"{__name__}:nothing_of_this_name", "AttributeError"),
        ("no_such_package_anywhere:opened", "ModuleNotFoundError"),
        ("builtins:len", "TypeError"),
    ],
)
def test_a_storage_of_somebody_else_that_cannot_be_opened_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    brought_by(monkeypatch, value)
    with pytest.raises(StorageRefused, match=words) as refused:
        open_storage("mine://here")
    assert value in str(refused.value)


def test_what_it_says_itself_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    brought_by(monkeypatch, f"{__name__}:unavailable")
    with pytest.raises(StorageUnavailable, match="later"):
        open_storage("mine://here")


def test_a_scheme_that_nobody_brings_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="unknown storage scheme 'mine'") as refused:
        open_storage("mine://here")
    assert "file:///FOLDER" in refused.value.help
