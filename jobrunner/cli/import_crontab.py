"""`jobrunner import-crontab`: a crontab as a jobs.yaml, every line accounted for, compared over a year."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from jobrunner.errors import ConfigError, JobRunnerError, UsageError

from .command import command
from .documents import Document
from .screen import say
from .session import Session, user_name
from .words import one_line, plural

if TYPE_CHECKING:
    from jobrunner.crontabs.equality import Comparison
    from jobrunner.crontabs.recognise import Recognised
    from jobrunner.crontabs.translate import Imported, ImportedTask, Report
    from jobrunner.plan import Plan

_STDIN: Final = "-"
_SHOWN: Final = 5  # differences of one task in words


@command("import-crontab")
@click.argument("file", default=_STDIN, type=click.Path())
@click.option("--system", is_flag=True, help="It has a user column, as /etc/crontab and /etc/cron.d have.")
@click.option(
    "--dialect",
    type=click.Choice(["debian", "cronie"]),
    default="debian",
    help="Whose cron reads it today: cronie is that of Fedora, RHEL, SUSE and Arch.",
)
@click.option("--lift", "lifting", is_flag=True, help="Turn flock -n, timeout, nice, chronic into keys.")
@click.option(
    "-o", "--output", metavar="FILE", help="Write the jobs.yaml here; never over one that is there."
)
@click.option("--user", metavar="NAME", help="Whose crontab it is; else yours.")
@click.pass_obj
def import_crontab_command(
    session: Session,
    *,
    file: str,
    system: bool,
    dialect: str,
    lifting: bool,
    output: str | None,
    user: str | None,
) -> int:
    """Turn the crontab FILE, or `crontab -l |` on stdin, into a jobs.yaml that does the same.

    The jobs.yaml goes to stdout. What became of every line, and how a year of ticks compares with cron's,
    is said on stderr.
    """
    from jobrunner.crontabs.parse import Dialect
    from jobrunner.crontabs.translate import Source, translate

    text, remarks = _text(file)
    known = _recognised(file, text, system=system)
    source = Source(
        text=text,
        user=user or known.user or user_name(os.geteuid()),
        home_of=lambda name: _home_of(name) or _own_home(session, name),
        dialect=Dialect(dialect),
        system=known.system,
        lifting=lifting,
        may_switch=os.geteuid() == 0,
        caller=user_name(os.geteuid()),
    )
    imported = translate(source)
    return _answer(session, imported, [*remarks, *known.notes], output)


# ---- in --------------------------------------------------------------------------------------------------


def _text(file: str) -> tuple[str, list[str]]:
    """The text, and what is to be said of its encoding. Raises UsageError and JobRunnerError."""
    from jobrunner.crontabs.recognise import is_anacrontab

    if file != _STDIN and is_anacrontab(file):
        raise UsageError(
            "an anacrontab has another form: period, delay, name, command",
            help="write schedule: daily, catch_up: one, jitter: 5m; docs/crontab.md says it line by line",
        )
    content = _read(file)
    if isinstance(content, str):
        return content, []
    try:
        return content.decode(), []
    except UnicodeDecodeError:
        return content.decode("latin-1"), [
            "it is not UTF-8: read as Latin-1; look at every special character"
        ]


def _read(file: str) -> bytes | str:
    if file == _STDIN:
        if sys.stdin.isatty():
            raise UsageError(
                "no crontab was given", help="crontab -l | jobrunner import-crontab - > jobs.yaml"
            )
        buffer = getattr(sys.stdin, "buffer", None)
        return sys.stdin.read() if buffer is None else bytes(buffer.read())
    try:
        return Path(file).read_bytes()
    except IsADirectoryError:
        raise UsageError(f"{file} is a folder", help=f"one file at a time: {file.rstrip('/')}/NAME") from None
    except OSError as error:
        raise JobRunnerError(f"cannot read {file}: {error.strerror}") from None


def _recognised(file: str, text: str, *, system: bool) -> Recognised:
    from jobrunner.crontabs.recognise import Recognised, guess, recognise

    known = recognise(file) if file != _STDIN else Recognised()
    if system or known.system:
        return Recognised(system=True, user=known.user, notes=known.notes)
    return known if known.user else guess(text, lambda name: _home_of(name) is not None)


def _home_of(user: str) -> str | None:
    import pwd

    try:
        return pwd.getpwnam(user).pw_dir
    except (KeyError, ValueError):
        return None


def _own_home(session: Session, user: str) -> str | None:
    """HOME, for somebody who is in no list of users: in a container, say."""
    return session.environ.get("HOME") if user == user_name(os.geteuid()) else None


# ---- out -------------------------------------------------------------------------------------------------


def _answer(session: Session, imported: Imported, remarks: Sequence[str], output: str | None) -> int:
    """Writes the file, the report and the comparison. Raises ConfigError when the file is not valid."""
    from jobrunner.crontabs.equality import compare_all
    from jobrunner.crontabs.write import write

    text = write(imported)
    plan, refused = _compiled(session, text)
    if output is not None:
        _write_new(output, text)
    comparisons = [] if plan is None else compare_all(imported.tasks, plan, session.now())
    if session.json:
        document = _document(imported, comparisons, [*remarks])
        session.screen().json(document if output is not None else {**document, "yaml": text})
    else:
        if output is None:
            screen = session.screen()
            screen.stream.write(text)
            screen.stream.flush()  # before the report, where both go to one file
        _talk(imported, comparisons, remarks)
    if refused:
        raise ConfigError(refused)
    return 0


def _compiled(session: Session, text: str) -> tuple[Plan | None, str]:
    """The plan of the text, as `run` would understand it, or what forbids one."""
    from jobrunner.config.compile import compile_file

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "jobs.yaml"
        file.write_text(text, encoding="utf-8")
        found = compile_file(str(file), environ=session.environ)
    return found.plan, found.rendered if found.errors else ""


def _write_new(file: str, text: str) -> None:
    try:
        with open(file, "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise JobRunnerError(
            f"{file} is there already: it is left as it is", help="choose another -o"
        ) from None
    except OSError as error:
        raise JobRunnerError(f"cannot write {file}: {error.strerror}") from None


def _talk(imported: Imported, comparisons: Sequence[Comparison], remarks: Sequence[str]) -> None:
    """The report: every line that is no comment, then the year."""
    from jobrunner.crontabs.equality import summary

    for remark in remarks:
        say(f"note: {remark}")
    for report in imported.reports:
        if not report.is_comment:
            say(f"line {report.line}: {_became(report)}: {one_line(report.text.strip())}")
            for note in report.notes:
                say(f"    {one_line(note)}")
    say(_counted(imported))
    if comparisons:
        say(summary(comparisons))
    for comparison in comparisons:
        for line in _differences(comparison):
            say(f"    {comparison.task}: {line}")


def _became(report: Report) -> str:
    if report.task is not None:
        return f"task {report.task}"
    return (
        "left as a comment" if any(note.startswith("not imported") for note in report.notes) else "variable"
    )


def _counted(imported: Imported) -> str:
    disabled = sum(not task.is_enabled for task in imported.tasks)
    comments = sum(report.is_comment for report in imported.reports)
    left = sum(_became(report) == "left as a comment" for report in imported.reports if not report.is_comment)
    tasks = plural(len(imported.tasks), "task") + (f" ({disabled} of them disabled)" if disabled else "")
    return f"{tasks}, {plural(left, 'line')} not imported, {plural(comments, 'comment')} kept"


def _differences(comparison: Comparison) -> list[str]:
    from jobrunner.crontabs.equality import explain, moment_of
    from jobrunner.schedule.zone import zone_of

    zone = zone_of(comparison.timezone).tzinfo
    shown = comparison.differences[:_SHOWN]
    lines = [f"{moment_of(each.minute, zone):%Y-%m-%d %H:%M %z}: {explain(each)}" for each in shown]
    more = len(comparison.differences) - len(shown)
    return [*lines, f"and {more} more"] if more else lines


def _document(imported: Imported, comparisons: Sequence[Comparison], notes: list[str]) -> Document:
    return {
        "tasks": [_task(each) for each in imported.tasks],
        "lines": [_line(each) for each in imported.reports],
        "equivalence": [_comparison(each) for each in comparisons],
        "notes": notes,
    }


def _task(task: ImportedTask) -> Document:
    return {
        "name": task.name,
        "line": task.line.number,
        "enabled": task.is_enabled,
        **{key: value for key, value in task.settings.items() if key != "enabled"},
        "env": dict(task.env),
    }


def _line(report: Report) -> Document:
    notes = ["comment: kept", *report.notes] if report.is_comment else list(report.notes)
    return {"line": report.line, "text": report.text, "task": report.task, "notes": notes}


def _comparison(comparison: Comparison) -> Document:
    from jobrunner.crontabs.equality import explain, moment_of
    from jobrunner.durations import from_micros
    from jobrunner.schedule.zone import zone_of

    zone = zone_of(comparison.timezone).tzinfo
    return {
        "task": comparison.task,
        "timezone": comparison.timezone,
        "from": from_micros(comparison.after, zone).isoformat(),
        "until": from_micros(comparison.until, zone).isoformat(),
        "ticks": comparison.jobrunner,
        "ticks_of_cron": comparison.cron,
        "differences": [
            {
                "at": moment_of(each.minute, zone).isoformat(),
                "cron": each.cron,
                "jobrunner": each.jobrunner,
                "text": explain(each),
            }
            for each in comparison.differences
        ],
    }
