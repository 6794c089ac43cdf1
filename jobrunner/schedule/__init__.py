"""Schedules: the rules that name ticks.

    Schedule.parse("30 2 * * *", "Europe/Paris").next_after(moment)

Nothing here reads a clock: every question takes its moment.
"""

from __future__ import annotations

from .errors import ScheduleError, ScheduleWarning
from .schedule import Schedule
from .spread import spread
from .zone import forget_zones

__all__ = ["Schedule", "ScheduleError", "ScheduleWarning", "forget_zones", "spread"]
