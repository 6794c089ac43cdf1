"""How cron reads a line."""

from __future__ import annotations

import pytest

from jobrunner.crontabs.fields import Refused, read_fields
from jobrunner.crontabs.parse import Dialect, Kind, Line, read_crontab, split_command


def line_of(text: str, dialect: Dialect = Dialect.DEBIAN, *, system: bool = False) -> Line:
    (line,) = read_crontab(f"{text}\n", dialect=dialect, system=system)
    return line


# ---- commands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "command", "stdin"),
    [
        ("cat > f%line1%line2", "cat > f", "line1\nline2\n"),
        (r"echo 'a\%b'", "echo 'a%b'", None),
        (r"echo a\\b", r"echo a\b", None),
        (r"echo \x \\\% end\\", r"echo \x \% end" + "\\", None),
        ("mail joe%Joe,%%Where?%", "mail joe", "Joe,\n\nWhere?\n"),
        (r"cat%50\% off\n", "cat", "50% off\\n\n"),
        ("cat%", "cat", None),
        ("cat%%", "cat", "\n"),
    ],
)
def test_the_first_bare_percent_ends_the_command(text: str, command: str, stdin: str | None) -> None:
    assert split_command(text, Dialect.DEBIAN) == (command, stdin)


def test_cronie_leaves_two_backslashes_alone() -> None:
    assert split_command(r"echo a\\b \% c", Dialect.CRONIE) == (r"echo a\\b % c", None)


@pytest.mark.parametrize(
    "text", ["[ \"$(date '+%a')\" = Fri ] && x", "x=$(date +%F)", "sleep $((RANDOM % 9))"]
)
def test_a_percent_that_cuts_a_command_is_pointed_out(text: str) -> None:
    assert "'%' ends the command" in line_of(f"* * * * * {text}").notes[0]


def test_a_redirection_behind_a_comment_is_pointed_out() -> None:
    (note,) = line_of("* * * * * cmd # quiet > /dev/null").notes
    assert "the redirection behind it is lost" in note


def test_blanks_before_a_command_and_tabs_between_fields_mean_nothing() -> None:
    line = line_of("\t 5\t4  * *\tsun \techo  x")
    assert (line.when, line.command) == ("5 4 * * sun", "echo  x")


def test_a_dash_of_cronie_says_nothing_of_the_time() -> None:
    assert line_of("-*/5 * * * * x", Dialect.CRONIE).when == "*/5 * * * *"
    assert line_of("-*/5 * * * * x").refusal == "bad minute"


def test_the_user_stands_in_sixth_place_of_a_system_crontab() -> None:
    line = line_of("@daily  www-data\tphp x", system=True)
    assert (line.user, line.command) == ("www-data", "php x")
    assert line_of("@daily root", system=True).kind is Kind.REFUSED


# ---- variables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        (' NAME = "v w" ', "NAME", "v w"),
        ("A=x # note", "A", "x # note"),
        ("P=$HOME/bin:$PATH  ", "P", "$HOME/bin:$PATH"),
        ("Q='single \"inside\" quotes'", "Q", 'single "inside" quotes'),
        ('"ODD NAME"=1', "ODD NAME", "1"),
        ('EMPTY=""', "EMPTY", ""),
        ("A = b = c", "A", "b = c"),
    ],
)
def test_a_variable_is_read_as_cron_reads_it(text: str, name: str, value: str) -> None:
    line = line_of(text)
    assert (line.kind, line.name, line.value) == (Kind.VARIABLE, name, value)


@pytest.mark.parametrize("text", ["FOO='", 'FOO="a" b', "FOO", "= x"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    assert line_of(text).kind is Kind.REFUSED


def test_a_command_that_begins_with_a_variable_is_a_task() -> None:
    assert line_of("* * * * * A=1 cmd").command == "A=1 cmd"


@pytest.mark.parametrize(("dialect", "notes"), [(Dialect.DEBIAN, 1), (Dialect.CRONIE, 0)])
def test_a_bare_empty_value_is_refused_by_debian_alone(dialect: Dialect, notes: int) -> None:
    line = line_of("MAILTO=", dialect)
    assert (line.kind, line.value, len(line.notes)) == (Kind.VARIABLE, "", notes)


# ---- files -----------------------------------------------------------------------------------------------


def test_a_last_line_without_a_newline_is_taken_and_reported() -> None:
    *_, last = read_crontab("# c\n@daily x")
    assert last.command == "x"
    assert "ignores such a file as a whole" in last.notes[0]


def test_a_carriage_return_is_taken_off_and_reported() -> None:
    line = line_of("@daily x\r")
    assert line.command == "x"
    assert "carriage return" in line.notes[0]


def test_a_line_of_a_carriage_return_is_blank() -> None:
    assert line_of("\r").kind is Kind.BLANK


# ---- fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "minutes", "weekdays"),
    [
        ("0-10/5 * * * 7", {0, 5, 10}, {0}),
        ("*/35 * * * sat-sun", {0, 35}, set()),
        ("0~59 * * * 5#2", {0}, {5}),
        ("5,07 * * * mon,Wed-FRI", {5, 7}, {1, 3, 4, 5}),
        ("1 * * * 5-7", {1}, {5, 6, 0}),
    ],
)
def test_fields_are_read_as_cron_reads_them(text: str, minutes: set[int], weekdays: set[int]) -> None:
    sets = read_fields(text.split())
    assert (set(sets.minutes), set(sets.weekdays)) == (minutes, weekdays)


@pytest.mark.parametrize("word", ["5/15", "60", "50-70", "*/0", "~", "x", "", "1,", "0-", "jan"])
def test_what_cron_refuses_is_refused(word: str) -> None:
    with pytest.raises(Refused, match="bad minute"):
        read_fields([word, "*", "*", "*", "*"])
