"""jobrunner: crontab's successor and a task queue in one YAML file."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; importing `typing` would cost more than all of this
if TYPE_CHECKING:
    from .app.crontab import Crontab, crontab
    from .app.handle import RunGroup, RunHandle
    from .app.records import AttemptRecord, RunRecord
    from .app.runner import JobRunner
    from .app.task import Task
    from .context import CancelRun, CurrentRun, RetryRun, current_run
    from .errors import (
        JobRunnerError,
        NotFound,
        PayloadError,
        ResultTimeout,
        RunCancelled,
        RunError,
        RunExpired,
        RunSkipped,
        TaskFailed,
        UsageError,
        WrongArguments,
    )
    from .hooks import Notice, Signal
    from .model import Failure, State
    from .schedule import Schedule, ScheduleError

__version__ = "0.1.0"
__all__ = [
    "AttemptRecord",
    "CancelRun",
    "Crontab",
    "CurrentRun",
    "Failure",
    "JobRunner",
    "JobRunnerError",
    "NotFound",
    "Notice",
    "PayloadError",
    "ResultTimeout",
    "RetryRun",
    "RunCancelled",
    "RunError",
    "RunExpired",
    "RunGroup",
    "RunHandle",
    "RunRecord",
    "RunSkipped",
    "Schedule",
    "ScheduleError",
    "Signal",
    "State",
    "Task",
    "TaskFailed",
    "UsageError",
    "WrongArguments",
    "__version__",
    "crontab",
    "current_run",
]

# Imported when first used: a task that only wants current_run() must not pay for croniter.
_HOMES = {
    "AttemptRecord": ".app.records",
    "CancelRun": ".context",
    "Crontab": ".app.crontab",
    "CurrentRun": ".context",
    "Failure": ".model",
    "JobRunner": ".app.runner",
    "JobRunnerError": ".errors",
    "NotFound": ".errors",
    "Notice": ".hooks",
    "PayloadError": ".errors",
    "ResultTimeout": ".errors",
    "RetryRun": ".context",
    "RunCancelled": ".errors",
    "RunError": ".errors",
    "RunExpired": ".errors",
    "RunGroup": ".app.handle",
    "RunHandle": ".app.handle",
    "RunRecord": ".app.records",
    "RunSkipped": ".errors",
    "Schedule": ".schedule",
    "ScheduleError": ".schedule",
    "Signal": ".hooks",
    "State": ".model",
    "Task": ".app.task",
    "TaskFailed": ".errors",
    "UsageError": ".errors",
    "WrongArguments": ".errors",
    "crontab": ".app.crontab",
    "current_run": ".context",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
