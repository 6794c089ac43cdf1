"""What a schedule says of its text: errors that refuse it and warnings that let it pass."""

from __future__ import annotations

from dataclasses import dataclass


class ScheduleError(ValueError):
    """A schedule that cannot be accepted.

    `message` says what, got and wanted; `help` is the next step; `token` is the offending piece of the
    text as it was written (empty when the whole text is meant), so that a caller can point at it.
    """

    def __init__(self, message: str, *, help: str = "", token: str = "") -> None:  # noqa: A002
        super().__init__(f"{message} ({help})" if help else message)
        self.message = message
        self.help = help
        self.token = token


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleWarning:
    """A remark on an accepted schedule: a stable code, what is the matter, and what to write instead."""

    code: str
    message: str
    help: str
