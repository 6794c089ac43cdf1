"""How problems look on a terminal, whatever they are about; and the grammar of variables."""

from __future__ import annotations

import pytest

from jobrunner.config.interpolate import InterpolationError, interpolate
from jobrunner.config.problems import Findings, Place, Problem, escape, render_problems


def a_problem(line: int = 1, column: int = 1, width: int = 1, severity: str = "error") -> Problem:
    return Problem(
        file="f", line=line, column=column, severity=severity, code="c", message=f"m{line}", width=width
    )


def carets(source: str, column: int, width: int) -> tuple[str, str]:
    rendered = render_problems([a_problem(column=column, width=width)], {"f": source}).split("\n")
    return rendered[2][5:], rendered[3][5:]


def test_the_caret_stands_under_the_token() -> None:
    assert carets("key: value", 6, 5) == ("key: value", "     ^^^^^")


def test_the_caret_stands_right_behind_tabs_wide_and_combining_characters() -> None:
    assert carets("\tx", 2, 1) == ("\\tx", "  ^")
    assert carets("日本x", 3, 1) == ("日本x", "    ^")
    assert carets("e\u0301x", 3, 1) == ("e\u0301x", " ^")


def test_control_characters_of_a_file_are_spelled_out() -> None:
    assert escape("\x1b[31m\x07\x9b\u202e\u2028") == "\\x1b[31m\\x07\\x9b\\u202e\\u2028"
    problem = Problem(file="\x1b", line=1, column=1, severity="error", code="c", message="\x1b", help="\x1b")
    assert "\x1b" not in render_problems([problem], {"\x1b": "\x1b"})


def test_a_long_line_is_cut_around_its_token() -> None:
    line, caret = carets("x" * 500 + "Y" + "z" * 500, 501, 1)
    assert len(line) <= 140
    assert line[caret.index("^")] == "Y"


def test_of_many_problems_the_errors_are_shown_first_and_the_rest_is_counted() -> None:
    problems = [a_problem(line, severity="warning") for line in range(1, 16)]
    problems += [a_problem(line) for line in range(16, 31)]
    rendered = render_problems(problems, {})
    assert "m5" in rendered
    assert "m6:" not in rendered
    assert "m30" in rendered
    assert rendered.endswith("and 10 more\n15 errors, 15 warnings")


def test_a_problem_of_a_whole_file_has_no_line() -> None:
    assert render_problems([a_problem(line=0)], {"f": "x"}) == "f: error: m0\n1 error"


def test_problems_are_sorted_by_file_line_and_column_and_told_once() -> None:
    findings = Findings()
    findings.knows("b")
    for place in (Place("a", 1, 1), Place("b", 2, 1), Place("b", 1, 9), Place("b", 1, 2), Place("b", 1, 2)):
        findings.error(place, "c", "m")
    assert [(each.file, each.line, each.column) for each in findings.sorted()] == [
        ("b", 1, 2),
        ("b", 1, 9),
        ("b", 2, 1),
        ("a", 1, 1),
    ]


def test_what_is_said_of_an_unreadable_value_later_is_left_out() -> None:
    findings = Findings()
    findings.unreadable(Place("f", 1, 1), "first", "m")
    findings.consequence(Place("f", 1, 1), "second", "m")
    findings.consequence(Place("f", 1, 2), "third", "m")
    assert [each.code for each in findings.sorted()] == ["first", "third"]


# ---- variables -------------------------------------------------------------------------------------------

VARIABLES = {"A": "a", "EMPTY": "", "N": "A"}
EXPANSIONS = [
    ("x${A}y", "xay"),
    ("$A ${A}", "$A a"),
    ("$$A $${A} $$$${A}", "$A ${A} $${A}"),
    ("$", "$"),
    ("${EMPTY}|", "|"),
    ("${A:-d}${EMPTY:-d}${U:-d}", "add"),
    ("${A-d}${EMPTY-d}${U-d}", "ad"),
    ("${A:+x}${EMPTY:+x}${U:+x}", "x"),
    ("${A+x}${EMPTY+x}${U+x}", "xx"),
    ("${A:?m}${A?m}${EMPTY?m}", "aa"),
    ("${U:-${V:-${A}}}", "a"),
    ("${A:-${U}}", "a"),
    ("${A:-${U:?never said}}", "a"),
    ("${U:-a:-b}", "a:-b"),
    ("${U:-$$x}", "$x"),
    ("${U:-}", ""),
]


@pytest.mark.parametrize(("text", "expanded"), EXPANSIONS)
def test_a_variable_is_expanded(text: str, expanded: str) -> None:
    assert interpolate(text, VARIABLES, {}) == expanded


REFUSED = [
    ("${U}", "variable-unset", "variable U is not set"),
    ("${U:?say it}", "variable-unset", "U: say it"),
    ("${EMPTY:?say it}", "variable-unset", "EMPTY: say it"),
    ("${U?}", "variable-unset", "U: is not set"),
    ("${", "variable-syntax", "expected"),
    ("${}", "variable-syntax", "expected"),
    ("${A", "variable-syntax", "expected"),
    ("${A:-x", "variable-syntax", "expected"),
    ("${1}", "variable-syntax", "expected"),
    ("${A!x}", "variable-syntax", "expected"),
    ("${A:-" * 50 + "}" * 50, "variable-syntax", "expected"),
]


@pytest.mark.parametrize(("text", "code", "message"), REFUSED)
def test_a_variable_is_refused(text: str, code: str, message: str) -> None:
    with pytest.raises(InterpolationError) as caught:
        interpolate(text, VARIABLES, {})
    assert caught.value.code == code
    assert message in caught.value.message


def test_what_was_looked_up_is_known_afterwards() -> None:
    used: dict[str, str | None] = {}
    interpolate("${A}${U:-${N}}", VARIABLES, used)
    assert used == {"A": "a", "U": None, "N": "A"}
