"""What `--args` says, in every form."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from jobrunner.cli.arguments import parse_arguments
from jobrunner.errors import UsageError


@pytest.mark.parametrize(
    ("texts", "args", "kwargs"),
    [
        ([], None, {}),
        (['{"image": 42}'], None, {"image": 42}),
        (["[1, 2]"], [1, 2], {}),
        (["[]"], [], {}),
        (["title=The Sea"], None, {"title": "The Sea"}),
        (["title="], None, {"title": ""}),
        (["formula=a=b:=c"], None, {"formula": "a=b:=c"}),
        (["width:=800"], None, {"width": 800}),
        (["tags:=[1]", "dry-run:=true"], None, {"tags": [1], "dry-run": True}),
        (['{"a": 1, "b": 1}', "b:=2", "[9]"], [9], {"a": 1, "b": 2}),
        (["[1]", "[2]"], [1, 2], {}),
    ],
)
def test_every_form_is_read_and_later_ones_are_merged(
    texts: list[str], args: list[object] | None, kwargs: dict[str, object]
) -> None:
    found = parse_arguments(texts)
    assert (found.args, found.kwargs) == (args, kwargs)


def test_a_file_and_stdin_hold_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "arguments.json"
    file.write_text('{"a": 1}')
    monkeypatch.setattr("sys.stdin", io.StringIO("[1]"))
    found = parse_arguments([f"@{file}", "-"])
    assert (found.args, found.kwargs) == ([1], {"a": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plain", "cannot read 'plain'"),
        ("1=2", "cannot read"),
        ("width:=eight", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1, "a": 2}', "a key stands in it twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("@/does/not/exist", "cannot read the file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_forms(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        parse_arguments([text])
    assert "key:=json" in refused.value.help


def test_json_that_is_neither_object_nor_array_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("42"))
    with pytest.raises(UsageError, match="stdin holds int"):
        parse_arguments(["-"])
