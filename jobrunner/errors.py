"""The errors of the project: one tree, drawn here.

    JobRunnerError
    ├── ConfigError            the file is invalid; carries every problem found     exit 5
    ├── UsageError             the call or the command line is wrong                exit 2
    │   └── WrongArguments     the arguments do not fit the task; a TypeError too   exit 2
    ├── NotFound               no such task or run, with the nearest names          exit 4
    │   └── AmbiguousRun       a shortened run id fits several runs                 exit 4
    ├── LockBusy               a lock was not free in time                          exit 1
    ├── NoSupervisor           nobody is there to do what was asked                 exit 3
    ├── ResultTimeout          the wait is over before the run                      exit 124
    ├── RunError               a run has no result, since it did not succeed        exit 1
    │   ├── TaskFailed         it failed: with its error and traceback
    │   ├── RunCancelled       it was cancelled, or revoked
    │   ├── RunExpired         it was not started in time
    │   └── RunSkipped         it was not to run: a busy lock, a failed predecessor
    ├── PayloadError           arguments or a result that cannot be stored          exit 2
    └── StorageError           the storage said no                                  exit 1
        ├── StorageUnavailable it may work later: locked, full, out of reach
        ├── StorageRefused     it will not work as it is: damaged, newer, read-only
        │   └── StorageMissing nothing is there yet: the first start of a supervisor makes it
        └── OwnerLost          this owner was voided: nothing of it may be written any more

An error says where, what, got, wanted and the next step; `help` is that next step.
"""

from __future__ import annotations

from typing import ClassVar


class JobRunnerError(Exception):
    """The root. `exit_code` is what a command ends with when this error reaches its edge."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, help: str = "") -> None:  # noqa: A002 - the word users read
        super().__init__(message)
        self.message = message
        self.help = help
        if help:
            self.add_note(help)  # a traceback shows it too


class ConfigError(JobRunnerError):
    """The configuration is invalid; the message holds all its problems, one a line."""

    exit_code = 5
    code = "config-invalid"


class UsageError(JobRunnerError):
    """The call or the command line is wrong."""

    exit_code = 2
    code = "usage"


class WrongArguments(UsageError, TypeError):
    """The arguments of a call do not fit the task."""

    code = "wrong-arguments"


class NotFound(JobRunnerError):
    """There is no such task or run."""

    exit_code = 4
    code = "not-found"


class AmbiguousRun(NotFound):
    """A shortened run id fits more than one run."""

    code = "ambiguous-run"


class LockBusy(JobRunnerError):
    """A lock that a task asked for was not free in time."""

    code = "lock-busy"


class NoSupervisor(JobRunnerError):
    """No supervisor is alive on this storage."""

    exit_code = 3
    code = "no-supervisor"


class ResultTimeout(JobRunnerError):
    """A run was not final when the time to wait for it was over; it goes on."""

    exit_code = 124
    code = "timeout"


class RunError(JobRunnerError):
    """A run ended without a result; asking for it raises one of these.

    `run_id`, `task`, `state` ("failed", ...); `reason` is why it did not run or is final, if there is one;
    `outcome` is that of its last attempt ("exception ValueError", "timeout", "exit 3", ...); `error` is the
    message of that attempt, and `traceback` the text of the traceback, "" when there is none.
    """

    code = "run"

    def __init__(
        self,
        message: str,
        *,
        run_id: str,
        task: str,
        state: str,
        reason: str | None = None,
        outcome: str | None = None,
        error: str = "",
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.task = task
        self.state = state
        self.reason = reason
        self.outcome = outcome
        self.error = error
        self.traceback = traceback


class TaskFailed(RunError):
    """The run failed, after all its retries."""

    code = "failed"


class RunCancelled(RunError):
    """The run was cancelled or revoked."""

    code = "cancelled"


class RunExpired(RunError):
    """The run was not started in time."""

    code = "expired"


class RunSkipped(RunError):
    """The run was not to run: its lock was busy, a predecessor failed."""

    code = "skipped"


class PayloadError(JobRunnerError, TypeError):
    """A value cannot be stored: which one (its path), and what is storable."""

    exit_code = 2
    code = "not-storable"


class StorageError(JobRunnerError):
    """The storage refused a call."""

    code = "storage"


class StorageUnavailable(StorageError):
    """The storage cannot answer now; the same call may work later."""

    code = "storage-unavailable"


class StorageRefused(StorageError):
    """The storage cannot be used as it is; a person has to look."""

    code = "storage-refused"


class StorageMissing(StorageRefused):
    """Nothing was made there yet; the first start of a supervisor makes it."""

    code = "storage-missing"


class OwnerLost(StorageError):
    """This owner was voided by a recovery; it must go on under a new id."""

    code = "owner-lost"
