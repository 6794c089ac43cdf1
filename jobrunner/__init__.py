"""jobrunner: crontab's successor and a task queue in one YAML file."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; importing `typing` would cost more than all of this
if TYPE_CHECKING:
    from .context import CancelRun, CurrentRun, RetryRun, current_run
    from .schedule import Schedule, ScheduleError

__version__ = "0.1.0"
__all__ = ["CancelRun", "CurrentRun", "RetryRun", "Schedule", "ScheduleError", "__version__", "current_run"]

# Imported when first used: a task that only wants current_run() must not pay for croniter.
_HOMES = {
    "CancelRun": ".context",
    "CurrentRun": ".context",
    "RetryRun": ".context",
    "Schedule": ".schedule",
    "ScheduleError": ".schedule",
    "current_run": ".context",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
