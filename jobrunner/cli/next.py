"""`jobrunner next`: the ticks to come, of an expression, of a task, or of a whole file."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final

import click

from jobrunner.catalogue import scheduled
from jobrunner.client import unknown_task
from jobrunner.durations import SECOND, Micros, format_duration, from_micros, to_micros
from jobrunner.errors import UsageError
from jobrunner.plan import Pipeline, Plan, Task
from jobrunner.schedule import Schedule, ScheduleError

from .command import TASK, command
from .documents import Document
from .moments import moment
from .screen import Cell, Screen
from .session import Session, zone_named
from .words import WEEKDAYS

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_CLOCK: Final = re.compile(r"[0-9]{2}:[0-9]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """One or several schedules, asked as one."""

    schedules: Sequence[Schedule]
    task: str | None = None

    def ticks(self, after: Micros) -> Iterator[datetime]:
        """The ticks later than `after`; those that several schedules name come once."""
        last: datetime | None = None
        for tick in heapq.merge(*(_ticks(each, after) for each in self.schedules)):
            if tick != last:
                yield tick
            last = tick

    def first(self, after: Micros, number: int) -> list[datetime]:
        return [tick for tick, _ in zip(self.ticks(after), range(number), strict=False)]

    @property
    def expression(self) -> str:
        return ", ".join(each.text for each in self.schedules)

    @property
    def words(self) -> str:
        return ", ".join(each.describe() for each in self.schedules)

    @property
    def timezone(self) -> str:
        return ", ".join(dict.fromkeys(each.timezone for each in self.schedules))

    def notes(self, after: Micros) -> list[str]:
        """What the clocks' changes do, and what is odd about the text."""
        moment = from_micros(after)
        notes = [note for each in self.schedules for note in each.notes(moment)]
        remarks = [
            f"{w.message} ({w.help})" if w.help else w.message
            for each in self.schedules
            for w in each.warnings()
        ]
        return list(dict.fromkeys([*notes, *remarks]))


def _ticks(schedule: Schedule, after: Micros) -> Iterator[datetime]:
    moment = schedule.next_after(from_micros(after))
    while moment is not None:
        yield moment
        moment = schedule.next_after(moment)


@command("next")
@click.argument("what", metavar="[TASK|EXPRESSION]", type=TASK, required=False)
@click.option(
    "-n", "number", type=click.IntRange(min=1, max=10_000), help="How many; 5, or 10 for a whole file."
)
@click.option("--tz", metavar="ZONE", help="The zone of the expression: Europe/Paris.")
@click.option("--from", "start", metavar="TIME", help="After this moment; else after now.")
@click.pass_obj
def next_command(
    session: Session, *, what: str | None, number: int | None, tz: str | None, start: str | None
) -> int:
    """Show the next ticks of a TASK, of an EXPRESSION such as "30 2 * * *", or of all tasks of the file.

    It reads the file alone: no supervisor and no storage is needed.
    """
    if what is None:
        return _next_of_file(session, number or 10, tz, start)
    table, now = _timetable(session, what, tz), session.now()
    after = _start(now, start, zone_named(table.schedules[0].timezone))
    _write(session, table, after, table.first(after, number or 5), now)
    return 0


def _start(now: Micros, text: str | None, zone: tzinfo | None) -> Micros:
    return now if text is None else moment(text, "--from", now=now, zone=zone)


# ---- what is meant ---------------------------------------------------------------------------------------


def _timetable(session: Session, what: str, tz: str | None) -> Timetable:
    """A task of the file goes before a nickname such as `daily`; what has blanks is an expression."""
    if not _NAME.fullmatch(what):
        return Timetable(schedules=[_parsed(what, tz)])
    plan = _plan(session) if session.config_or_none() is not None else None
    if plan is not None and what in (named := {each.name: each for each in scheduled(plan)}):
        return _of_task(named[what], tz)
    try:
        return Timetable(schedules=[Schedule.parse(what, tz)])
    except ScheduleError:
        raise unknown_task(what, [each.name for each in scheduled(plan)] if plan else ()) from None


def _parsed(text: str, tz: str | None) -> Schedule:
    try:
        return Schedule.parse(text, tz)
    except ScheduleError as error:
        raise UsageError(error.message, help=error.help) from None


def _of_task(task: Task | Pipeline, tz: str | None) -> Timetable:
    if not task.schedules:
        raise UsageError(
            f"{task.name} has no schedule: it runs on demand", help=f"jobrunner enqueue {task.name}"
        )
    schedules = [Schedule.parse(rule.source, tz or rule.timezone, name=task.name) for rule in task.schedules]
    return Timetable(schedules=schedules, task=task.name)


def _plan(session: Session) -> Plan:
    from .files import plan_of

    return plan_of(session)


# ---- one timetable ---------------------------------------------------------------------------------------


def _write(session: Session, table: Timetable, after: Micros, ticks: Sequence[datetime], now: Micros) -> None:
    screen = session.screen()
    if session.json:
        screen.json(_document(table, after, ticks))
        return
    at = "at " if _CLOCK.match(table.words) else ""
    screen.line(f"{at}{table.words}, {table.timezone}")
    for tick in ticks:
        screen.line(f"  {_tick(tick)}   {_distance(tick, now)}")
    if any(each.kind == "reboot" for each in table.schedules):
        screen.line("  once, when the service starts for the first time after each boot of the machine")
    elif not ticks:
        screen.line("  no tick is to come")
    for note in _joined(table.notes(after)):
        screen.line(screen.paint(note, "yellow"))


def _document(table: Timetable, after: Micros, ticks: Sequence[datetime]) -> Document:
    document: Document = {
        "expression": table.expression,
        "timezone": table.timezone,
        "text": table.words,
        "ticks": [tick.isoformat() for tick in ticks],
        "notes": table.notes(after),
    }
    return document if table.task is None else {"task": table.task, **document}


def _tick(tick: datetime) -> str:
    return f"{WEEKDAYS[tick.weekday()]} {tick:%Y-%m-%d %H:%M:%S %z}"


def _distance(tick: datetime, now: Micros) -> str:
    rest = (to_micros(tick) - now) // SECOND * SECOND
    if rest == 0:
        return "now"
    return f"in {format_duration(rest)}" if rest > 0 else f"{format_duration(-rest)} ago"


def _joined(notes: Sequence[str]) -> Iterator[str]:
    if notes:
        yield f"note: {' '.join(note if note.endswith('.') else note + '.' for note in notes)}"


# ---- the whole file --------------------------------------------------------------------------------------


def _next_of_file(session: Session, number: int, tz: str | None, start: str | None) -> int:
    plan, now = _plan(session), session.now()
    after = _start(now, start, zone_named(plan.timezone))
    tables = [_of_task(task, tz) for task in scheduled(plan) if task.schedules and task.enabled]
    named = (_named(table, after) for table in tables)
    merged = [pair for pair, _ in zip(heapq.merge(*named), range(number), strict=False)]
    screen = session.screen()
    if session.json:
        screen.json([{"task": task, "at": tick.isoformat()} for tick, task in merged])
    else:
        _write_merged(screen, merged, now)
    return 0


def _named(table: Timetable, after: Micros) -> Iterator[tuple[datetime, str]]:
    return ((tick, table.task or "") for tick in table.ticks(after))


def _write_merged(screen: Screen, merged: Sequence[tuple[datetime, str]], now: Micros) -> None:
    rows = [[Cell(task, "bold"), Cell(_tick(tick)), Cell(_distance(tick, now))] for tick, task in merged]
    if rows:
        screen.table(("TASK", "AT", ""), rows)
    else:
        screen.line("no task has a schedule")
