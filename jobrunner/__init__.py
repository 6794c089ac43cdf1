"""jobrunner: crontab's successor and a task queue in one YAML file."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it; importing `typing` would cost more than all of this
if TYPE_CHECKING:
    from .app.crontab import Crontab, crontab
    from .app.handle import RunGroup, RunHandle
    from .app.pipeline import Chain, Each, Group, Node, Step, chain, chord, group
    from .app.records import AttemptRecord, RunRecord
    from .app.runner import JobRunner
    from .app.task import Task
    from .context import CancelRun, CurrentRun, RetryRun, current_run
    from .errors import (
        JobRunnerError,
        LockBusy,
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
    "Chain",
    "Crontab",
    "CurrentRun",
    "Each",
    "Failure",
    "Group",
    "JobRunner",
    "JobRunnerError",
    "LockBusy",
    "Node",
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
    "Step",
    "Task",
    "TaskFailed",
    "UsageError",
    "WrongArguments",
    "__version__",
    "chain",
    "chord",
    "crontab",
    "current_run",
    "group",
]

# Imported when first used: a task that only wants current_run() must not pay for croniter.
_HOMES = {
    "AttemptRecord": ".app.records",
    "CancelRun": ".context",
    "Chain": ".app.pipeline",
    "Crontab": ".app.crontab",
    "CurrentRun": ".context",
    "Each": ".app.pipeline",
    "Failure": ".model",
    "Group": ".app.pipeline",
    "JobRunner": ".app.runner",
    "JobRunnerError": ".errors",
    "LockBusy": ".errors",
    "Node": ".app.pipeline",
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
    "Step": ".app.pipeline",
    "Task": ".app.task",
    "TaskFailed": ".errors",
    "UsageError": ".errors",
    "WrongArguments": ".errors",
    "chain": ".app.pipeline",
    "chord": ".app.pipeline",
    "crontab": ".app.crontab",
    "current_run": ".context",
    "group": ".app.pipeline",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
