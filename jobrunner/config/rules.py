"""Schedules as they are written to the rules of a plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from ..digest import sha256
from ..plan import ScheduleRule
from ..schedule import Schedule, ScheduleError
from .problems import Findings, Place

FEW_TICKS = 50  # of each schedule, in which two of them are looked for that meet


class Scheduled(Protocol):
    """What is asked of the draft of a task or a pipeline."""

    @property
    def name(self) -> str: ...
    @property
    def own(self) -> Any: ...
    def get(self, key: str) -> Any: ...
    def place(self, key: str, *inside: str | int) -> Place: ...


class Rules:
    """Makes schedule rules in the file's zone; changes of clocks are looked for from the moment `now`."""

    def __init__(self, *, zone: str, now: datetime | None, findings: Findings) -> None:
        self._zone = zone
        self._now = now
        self._findings = findings
        self._zones: set[str] = set()
        self._known: dict[tuple[str, str], Schedule] = {}

    def of(self, draft: Scheduled) -> Iterator[ScheduleRule]:
        """The schedules of a task; what is wrong or odd about them goes to the findings."""
        zone = self._zone_of(draft)
        seen: set[str] = set()
        kept: list[ScheduleRule] = []
        for index, source in enumerate(draft.own.schedule or ()):
            place = draft.place("schedule", index)
            rule = self._schedule(draft, source, zone, place)
            if rule is None:
                continue
            if rule.key in seen:
                self._findings.warning(
                    place, "duplicate-schedule", f"this schedule is given twice: {rule.text}"
                )
                continue
            seen.add(rule.key)
            self._meet(draft, rule, kept, place)
            kept.append(rule)
            yield rule

    def _meet(
        self, draft: Scheduled, rule: ScheduleRule, others: Sequence[ScheduleRule], place: Place
    ) -> None:
        """Warns of ticks that one schedule would take from another, for they are at the same moments."""
        if self._now is None or draft.get("overlap") not in (None, "skip"):
            return
        mine = self._first(rule)
        for other in others:
            if (rule.args, rule.kwargs) != (other.args, other.kwargs) and mine & self._first(other):
                self._findings.warning(
                    place,
                    "same-moment",
                    f"schedule: {rule.text} names moments of {other.text}, which comes first: overlap: skip"
                    " lets one of the two run",
                    hint="overlap: allow or queue, another offset, or a task for each",
                )

    def _first(self, rule: ScheduleRule) -> set[datetime]:
        """Its next ticks, as instants."""
        assert self._now is not None
        ticks = Schedule.parse(rule.source, rule.timezone).ticks(self._now, FEW_TICKS)
        return {tick.astimezone(UTC) for tick in ticks}

    def _zone_of(self, draft: Scheduled) -> str:
        """The zone of a task's schedules; the file's, when its own one is not known."""
        given = draft.get("timezone")
        if given is None or given in self._zones:
            return given or self._zone
        try:
            self._zones.add(Schedule.parse("daily", given).timezone)
        except ScheduleError as error:
            place = draft.place("timezone")
            message = f"timezone: {error.message}"
            self._findings.error(place, "unknown-timezone", message, hint=error.help)
            return self._zone
        return str(given)

    def _schedule(self, draft: Scheduled, source: Any, zone: str, place: Place) -> ScheduleRule | None:
        try:
            schedule = self._parsed(source, zone, draft.name)
        except ScheduleError as error:
            self._bad_schedule(error, place)
            return None
        given = source if isinstance(source, dict) else {}
        if not self._arguments_fit(given, place):
            return None
        for warning in schedule.warnings(self._now):
            self._findings.warning(place, warning.code, f"schedule: {warning.message}", hint=warning.help)
        if self._now is not None and schedule.kind != "reboot" and schedule.next_after(self._now) is None:
            message = f"schedule: no tick is to come: {schedule.describe()}"
            self._findings.warning(place, "no-tick-to-come", message, hint="is the year right?")
        args, kwargs = given.get("args"), given.get("kwargs")
        return ScheduleRule(
            key=_schedule_key(draft.name, schedule.key, args, kwargs),
            source=_bare(source),
            timezone=schedule.timezone,
            text=schedule.text,
            words=schedule.describe(),
            args=None if args is None else tuple(args),
            kwargs=kwargs,
        )

    def _parsed(self, source: Any, zone: str, name: str) -> Schedule:
        """The schedule of a text; the same text is read once, unless `H` may draw on the task's name."""
        if not isinstance(source, str) or "H" in source.upper():
            return Schedule.parse(source, zone, name=name)
        known = self._known.get((source, zone))
        if known is None:
            known = self._known[source, zone] = Schedule.parse(source, zone, name=name)
        return known

    def _bad_schedule(self, error: ScheduleError, place: Place) -> None:
        message = error.message if error.message.startswith("schedule") else f"schedule: {error.message}"
        self._findings.consequence(place, "bad-schedule", message, hint=error.help)

    def _arguments_fit(self, given: Mapping[str, Any], place: Place) -> bool:
        fits = isinstance(given.get("args", []), list | None) and isinstance(
            given.get("kwargs", {}), dict | None
        )
        if not fits:
            message = "schedule: args must be a list and kwargs a mapping"
            self._findings.error(place, "wrong-type", message)
        return fits


def _bare(source: Any) -> str | Mapping[str, object]:
    """The schedule without what is said beside it: the zone is in the rule, the arguments are the run's."""
    if not isinstance(source, dict):
        return str(source)
    rest = {key: value for key, value in source.items() if key not in ("args", "kwargs", "timezone")}
    return str(rest["cron"]) if rest.keys() == {"cron"} else rest


def _schedule_key(task: str, key: str, args: Any, kwargs: Any) -> str:
    if args is None and kwargs is None:
        return f"{task}: {key}"
    given = json.dumps([args, kwargs], sort_keys=True, separators=(",", ":"))
    return f"{task}: {key} {sha256(given.encode()).hexdigest()[:16]}"
