"""How YAML is read: scalars of version 1.2, merges, bounds, and both loaders alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from jobrunner.config.load import FastLoader, PureLoader, load_nodes
from jobrunner.config.problems import Findings
from jobrunner.config.values import Document, Values, resolve_plain
from tests.config.mistakes import MISTAKES

LOADERS = pytest.mark.parametrize("loader", [FastLoader, PureLoader])

SCALARS: list[tuple[str, object]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("true", True),
    ("False", False),
    ("yes", "yes"),
    ("no", "no"),
    ("on", "on"),
    ("0", 0),
    ("-7", -7),
    ("010", "010"),
    ("0x1F", "0x1F"),
    ("1_000", "1_000"),
    ("12:30", "12:30"),
    ("1.5", 1.5),
    ("1e3", 1000.0),
    ("1e999", "1e999"),
    ("00.5", "00.5"),
    (".nan", ".nan"),
    ("2026-11-23", "2026-11-23"),
    ("=", "="),
    ("-", "-"),
    ("9" * 400, "9" * 400),
]


@pytest.mark.parametrize(("text", "value"), SCALARS, ids=[text[:20] or "nothing" for text, _ in SCALARS])
def test_a_scalar_without_quotes_is_read_by_yaml_1_2(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert (found, type(found)) == (value, type(value))


def values(text: str, loader: Any = FastLoader, **variables: str) -> tuple[dict[str, Any], Findings]:
    findings = Findings()
    root = load_nodes(text, "jobs.yaml", findings, loader=loader)
    assert root is not None, findings.sorted()
    return Values(Document("jobs.yaml", root, findings), variables, findings).root(), findings


@LOADERS
def test_merges_take_the_own_key_first_and_then_the_earlier_source(loader: Any) -> None:
    text = "x-a: &a {k: 1, l: 1}\nx-b: &b {l: 2, m: 2}\nkwargs: {<<: [*a, *b], k: 3, n: {<<: *a}}\n"
    read, findings = values(text, loader)
    assert read == {"kwargs": {"k": 3, "l": 1, "m": 2, "n": {"k": 1, "l": 1}}}
    assert not findings.failed


@LOADERS
@pytest.mark.parametrize("tag", ["!!python/name:os.system", "!!timestamp", "!!binary", "!!set", "!mine"])
def test_only_tags_of_plain_values_are_allowed(loader: Any, tag: str) -> None:
    _, findings = values(f"a: {tag} x\nb: !!str 5\nc: !!int 7\n", loader)
    assert [each.code for each in findings.sorted()] == ["tag-refused"]


def test_tags_of_plain_values_say_what_is_meant() -> None:
    read, _ = values("b: !!str 5\nc: !!int '7'\nd: !!map {}\ne: '5'\n")
    assert read == {"b": "5", "c": 7, "d": {}, "e": "5"}


@LOADERS
def test_positions_count_characters_not_bytes(loader: Any) -> None:
    findings = Findings()
    root = load_nodes("a: 1\nté: {é: ü, x: 😀, y: z}\n", "f", findings, loader=loader)
    assert root is not None
    document = Document("f", root, findings)
    assert document.place(["té", "y"])[1:] == (2, 21, 1)
    assert document.place(["té", "y"], key=True)[1:] == (2, 18, 1)


@LOADERS
@pytest.mark.parametrize("name", MISTAKES)
def test_both_loaders_find_the_same_fault(loader: Any, name: str) -> None:
    found, wanted = Findings(), Findings()
    load_nodes(MISTAKES[name], "jobs.yaml", found, loader=loader)
    load_nodes(MISTAKES[name], "jobs.yaml", wanted)
    assert found.sorted() == wanted.sorted()


# ---- variables -------------------------------------------------------------------------------------------


def test_variables_are_expanded_before_a_scalar_is_read() -> None:
    read, _ = values("a: ${N}\nb: '${N}'\nc: ${M:-4}\nd: $N $$ $${N}\ne: ['x-${N}']\n", N="3")
    assert read == {"a": 3, "b": "3", "c": 4, "d": "$N $ ${N}", "e": ["x-3"]}


def test_a_command_is_left_to_its_shell_even_when_an_alias_shares_it() -> None:
    text = "env: {A: &x 'echo ${N} $$'}\ntasks: {a: {command: *x}, b: {command: ['${N}']}}\n"
    read, findings = values(text, N="3")
    assert read["env"] == {"A": "echo 3 $"}
    assert read["tasks"] == {"a": {"command": "echo ${N} $$"}, "b": {"command": ["${N}"]}}
    assert not findings.failed


# ---- whatever is in a file ---------------------------------------------------------------------------------

PIECES = ["*", "&a ", "*a", "<<: ", "{", "}", "[", "]", ": ", "\t", "\n", "- ", "${X}", "${", "$$", "'", '"']
PIECES += [
    "!",
    "!!int ",
    "|",
    ">",
    " #",
    "null",
    "-1",
    "1e999",
    "tasks:",
    "\x85",
    "é",
    "%",
    "@",
    "---\n",
    "? ",
]
TEXTS = [*MISTAKES.values(), (Path(__file__).parents[2] / "examples/jobs.yaml").read_text()[:1500]]


@st.composite
def spoilt_files(draw: st.DrawFn) -> str:
    """A file into which something was typed, and from which something was lost."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 3))):
        at, lost = draw(st.integers(0, len(text))), draw(st.integers(0, 9))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + lost :]
    return text


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=spoilt_files())
def test_whatever_is_in_a_file_there_is_a_plan_or_an_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_bytes(text.encode())
    found: Compiled = compile_file(str(file), environ={})
    assert (found.plan is None) is bool(found.errors)
    assert all(each.message and each.code for each in found.problems)
    assert not set(found.rendered) & set("\x1b\0\t\r")
