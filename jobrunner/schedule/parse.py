"""From what a user wrote, text or mapping, to the parts of a schedule."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Final, Literal, TypeAlias

from jobrunner.durations import MILLISECOND, SECOND, DurationError, Micros, parse_duration, to_micros

from .cron import CronRule
from .errors import ScheduleError
from .fields import Calendar, Fields, bits
from .interval import Interval, Never, Once
from .text import Expression, parse_expression
from .wall import arrival
from .zone import Zone, zone_of

Kind: TypeAlias = Literal["cron", "every", "at", "reboot"]
Rule: TypeAlias = CronRule | Interval | Once | Never

SHORTEST: Final[Micros] = 100 * MILLISECOND
_FORMS: Final = ("cron", "every", "at")
_COMPANIONS: Final[Mapping[str, frozenset[str]]] = {
    "cron": frozenset({"timezone", "seconds", "days", "args", "kwargs"}),
    "every": frozenset({"timezone", "offset", "args", "kwargs"}),
    "at": frozenset({"timezone", "args", "kwargs"}),
}
_MONTH_WORDS: Final = (
    "",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a schedule is made of."""

    kind: Kind
    text: str
    key: str
    zone: Zone
    rule: Rule
    expression: Expression | None = None
    wall: int | None = None
    """The wall second of a one-off moment that was written without an offset."""


def parse_parts(source: object, timezone: str | tzinfo | None, name: str) -> Parts:
    """Reads any form of a schedule. Raises ScheduleError."""
    if isinstance(source, Mapping):
        return _from_mapping(source, timezone, name)
    if isinstance(source, str):
        return _from_text(source, timezone, name)
    raise ScheduleError(
        f'not a schedule: got {source!r}, expected text such as "30 2 * * *" or "every 90s", or a mapping',
        help='a mapping is {cron: "30 2 * * *"}, {every: 90s} or {at: 2026-12-24T18:00}',
    )


def _from_text(text: str, timezone: str | tzinfo | None, name: str) -> Parts:
    stripped = text.strip(" \t\r\n")
    if not stripped:
        raise ScheduleError(f"not a schedule: got {text!r}, expected five cron fields or an interval")
    if stripped.lower() in ("reboot", "@reboot"):
        return Parts(kind="reboot", text="reboot", key="reboot", zone=zone_of(timezone), rule=Never())
    if interval := re.fullmatch(r"every\s+(.+)", stripped, re.ASCII | re.IGNORECASE | re.DOTALL):
        return _every(interval[1], 0, zone_of(timezone))
    _refuse_look_alikes(stripped)
    return _cron(parse_expression(stripped, name=name), zone_of(timezone))


def _refuse_look_alikes(text: str) -> None:
    """Forms that other programs know and this one spells otherwise."""
    if interval := re.fullmatch(r"@every\s+(.+)", text, re.ASCII | re.IGNORECASE):
        raise ScheduleError(
            f"not a schedule: got {text!r}, expected an interval without @",
            help=f'write "every {interval[1]}"',
            token=text,
        )
    if zone := re.match(r"(?:CRON_)?TZ=(\S+)\s+(.+)", text, re.ASCII):
        raise ScheduleError(
            f"got a zone inside the expression {text!r}, expected five cron fields",
            help=f'write {{cron: "{zone[2]}", timezone: {zone[1]}}}',
            token=text,
        )
    if re.match(r"(?:at\s+)?[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
        moment = text.removeprefix("at").strip()
        raise ScheduleError(
            f"not a schedule: got the moment {text!r}, expected five cron fields or an interval",
            help=f"write {{at: {moment}}}",
            token=text,
        )


def _from_mapping(source: Mapping[object, object], timezone: str | tzinfo | None, name: str) -> Parts:
    form = _form(source)
    zone = zone_of(_zone_key(source, timezone))
    if form == "every":
        return _every(source["every"], _offset(source), zone)
    if form == "at":
        return _at(source["at"], zone)
    text = source["cron"]
    if not isinstance(text, str):
        raise ScheduleError(f'cron: got {text!r}, expected text such as "30 2 * * *"')
    if text.strip().lower() in ("reboot", "@reboot"):
        return _from_text(text, zone.tzinfo, name)
    return _cron(_expression(source, text, name), zone)


def _form(source: Mapping[object, object]) -> str:
    forms = [form for form in _FORMS if form in source]
    if len(forms) != 1:
        got = " and ".join(forms) if forms else (", ".join(map(str, source)) or "nothing")
        raise ScheduleError(f"schedule: got {got}, expected exactly one of the keys cron, every and at")
    for key in source:
        if key != forms[0] and key not in _COMPANIONS[forms[0]]:
            raise _unknown_key(str(key), forms[0])
    return forms[0]


def _unknown_key(key: str, form: str) -> ScheduleError:
    known = sorted(_COMPANIONS[form])
    near = difflib.get_close_matches(key, known, n=1)
    return ScheduleError(
        f"schedule: unknown key {key!r} beside {form!r}, expected {', '.join(known)}",
        help=f"did you mean {near[0]!r}?" if near else "",
        token=key,
    )


def _zone_key(source: Mapping[object, object], timezone: str | tzinfo | None) -> str | tzinfo | None:
    given = source.get("timezone")
    if given is None:
        return timezone
    if not isinstance(given, str | tzinfo):
        raise ScheduleError(f"timezone: got {given!r}, expected a name such as Europe/Paris")
    return given


# ---- cron ------------------------------------------------------------------------------------------------


def _expression(source: Mapping[object, object], text: str, name: str) -> Expression:
    days, seconds = source.get("days", "any"), source.get("seconds")
    if days not in ("any", "all"):
        raise ScheduleError(f"days: got {days!r}, expected any (either day field matches) or all (both do)")
    return parse_expression(
        text, name=name, seconds=None if seconds is None else str(seconds), both_days=days == "all"
    )


def _cron(expression: Expression, zone: Zone) -> Parts:
    calendar = Calendar(expression.fields)
    if not calendar.has_dates():
        raise _never(expression)
    text, key = expression.text, f"cron {expression.resolved}"
    if expression.fields.both_days and not _stars(expression.resolved):
        key += " both-days"
    rule = CronRule(expression.fields, zone, calendar)
    return Parts(
        kind="cron", text=text, key=f"{key} {zone.name}", zone=zone, rule=rule, expression=expression
    )


def _stars(resolved: str) -> bool:
    words = resolved.split(" ")
    return words[2].startswith("*") or words[4].startswith("*")


def _never(expression: Expression) -> ScheduleError:
    return ScheduleError(
        f"no date ever matches {expression.text!r}: {_why_never(expression.fields)}",
        help="write L for the last day of the month" if expression.fields.days else "",
        token=expression.text,
    )


def _why_never(fields: Fields) -> str:
    days, months = bits(fields.days), bits(fields.months)
    if fields.plain and days:
        names = ", ".join(_MONTH_WORDS[month] for month in months)
        return f"{names} has no day {days[0]}" if len(months) == 1 else f"none of {names} has a day {days[0]}"
    return "no month is long enough"


# ---- intervals and moments -------------------------------------------------------------------------------


def _every(given: object, offset: Micros, zone: Zone) -> Parts:
    period = _duration("every", given)
    if period < SHORTEST:
        raise ScheduleError(
            f"every: got {given!r}, expected at least 100ms",
            help="work without a pause belongs into one run that loops",
            token=str(given),
        )
    if offset >= period:
        got, wanted = spell_duration(offset), spell_duration(period)
        raise ScheduleError(f"offset: got {got}, expected less than the interval of {wanted}", token=got)
    text = f"every {spell_duration(period)}"
    if offset:
        text += f" offset {spell_duration(offset)}"
    return Parts(kind="every", text=text, key=text, zone=zone, rule=Interval(period=period, offset=offset))


def _offset(source: Mapping[object, object]) -> Micros:
    return _duration("offset", source["offset"]) if source.get("offset") is not None else 0


def _duration(key: str, given: object) -> Micros:
    if not isinstance(given, str | int | float):
        raise ScheduleError(f"{key}: got {given!r}, expected a duration such as 90s")
    try:
        return parse_duration(given)
    except DurationError as error:
        raise ScheduleError(f"{key}: {error.message}", help=error.help, token=str(given)) from None


def spell_duration(duration: Micros) -> str:
    """Spells a duration in the largest unit that it is a whole number of: `90s`, `15m`, `1500ms`."""
    units = (
        ("d", 86_400 * SECOND),
        ("h", 3600 * SECOND),
        ("m", 60 * SECOND),
        ("s", SECOND),
        ("ms", MILLISECOND),
    )
    for unit, size in units:
        if duration % size == 0:
            return f"{duration // size}{unit}"
    return f"{duration / MILLISECOND:.3f}ms"  # below a millisecond: three decimals are exact


def _at(given: object, zone: Zone) -> Parts:
    moment = _moment(given)
    if moment.utcoffset() is not None:
        utc = to_micros(moment)
        return Parts(kind="at", text=_at_text(given), key=f"at {utc}us", zone=zone, rule=Once(instant=utc))
    wall = to_micros(moment.replace(tzinfo=zone_of("UTC").tzinfo))
    seconds, rest = divmod(wall, SECOND)
    segment = zone.reaching(seconds)
    arrived = arrival(zone, segment, seconds)
    if arrived is None:
        raise ScheduleError(
            f"at: {moment.isoformat()} does not exist in {zone.name}, expected a moment that comes",
            help="the clocks leave it out; add an offset such as +00:00 to name an instant",
            token=str(given),
        )
    instant = arrived * SECOND + (rest if arrived + segment.offset == seconds else 0)
    text = _at_text(given)
    return Parts(
        kind="at", text=text, key=f"{text} {zone.name}", zone=zone, rule=Once(instant=instant), wall=seconds
    )


def _at_text(given: object) -> str:
    return f"at {_moment(given).isoformat()}"


def _moment(given: object) -> datetime:
    if isinstance(given, datetime):
        return given
    if isinstance(given, date):
        return datetime(given.year, given.month, given.day)  # noqa: DTZ001 - the zone is the schedule's
    try:
        if isinstance(given, str) and re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", given, re.ASCII):
            return datetime.fromisoformat(given.strip())
    except ValueError:
        pass
    raise ScheduleError(
        f"at: got {given!r}, expected a moment such as 2026-12-24T18:00 or 2026-12-24T18:00+01:00",
        token=str(given),
    )
