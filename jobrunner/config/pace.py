"""Schedules that are faster than their task: what its runs took is asked of whoever knows the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeAlias

from ..durations import Micros, format_duration, to_micros
from ..plan import Overlap, Plan, ScheduleRule, Task
from ..schedule import Schedule
from .build import Building
from .draft import Draft
from .problems import Findings

Usual: TypeAlias = Callable[[Plan], Mapping[str, Micros]]  # what a run of each task usually takes

_TICKS: Final = 200  # looked at: a schedule that is close only now and then is seen, too
_BECOMES: Final[Mapping[Overlap, str]] = {
    Overlap.SKIP: "the ticks in between are skipped",
    Overlap.ALLOW: "its runs pile up beside one another",
    Overlap.QUEUE: "there is always one that waits",
    Overlap.REPLACE: "each of its runs is ended by the next one",
}


def check_pace(plan: Plan, usual: Usual, findings: Findings, building: Building) -> None:
    """Warns of a schedule whose ticks come sooner than a run of its task usually ends."""
    scheduled = any(task.schedules and task.enabled for task in plan.tasks.values())
    durations = usual(plan) if scheduled else {}
    for name, took in durations.items():
        task, draft = plan.tasks.get(name), building.drafts.get(name)
        if task is not None and draft is not None and task.enabled and building.now is not None:
            _check(task, took, building.now, findings, draft)


def _check(task: Task, took: Micros, now: datetime, findings: Findings, draft: Draft) -> None:
    for index, rule in enumerate(task.schedules):
        pause = _shortest(rule, task.name, to_micros(now))
        if pause is not None and pause < took:
            message = (
                f"schedule: its ticks are {format_duration(pause)} apart, and a run usually takes"
                f" {format_duration(took)}: {_BECOMES[task.overlap]}"
            )
            place = draft.place("schedule", index)
            hint = f"a schedule with more than {format_duration(took)} between its ticks"
            findings.warning(place, "shorter-than-a-run", message, hint=hint)


def _shortest(rule: ScheduleRule, name: str, now: Micros) -> Micros | None:
    """The shortest time between two of the next ticks; None when there are not two."""
    schedule = Schedule.parse(rule.source, rule.timezone, name=name)
    ticks: list[Micros] = []
    tick = schedule.next_us(now) if schedule.kind != "reboot" else None
    while tick is not None and len(ticks) < _TICKS:
        ticks.append(tick)
        tick = schedule.next_us(tick)
    return min((later - sooner for sooner, later in pairwise(ticks)), default=None)
