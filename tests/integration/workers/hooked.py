"""A module with hooks: importing it in a worker is what registers them."""

from __future__ import annotations

import os
import sys

from jobrunner import CancelRun, CurrentRun, current_run, hooks

LOG: list[str] = []

mine = hooks.Hooks()
hooks.register(mine)
mine.startup.append(lambda: LOG.append("startup"))
mine.shutdown.append(lambda: os.write(2, b"shutdown\n") and None)


@mine.before.append
def _before(run: CurrentRun) -> None:
    LOG.append(f"before {run.task}")
    if run.task == "refused":
        raise CancelRun("not today", retry=False)
    if run.task == "unlucky":
        raise ValueError("a hook that fails")


@mine.after.append
def _after(run: CurrentRun, result: object, error: BaseException | None) -> None:
    LOG.append(f"after {run.task} {result} {type(error).__name__}")


mine.listen(lambda notice: LOG.append(f"{notice.signal} {notice.attempt}"), [hooks.Signal.EXECUTING])


def log() -> list[str]:
    LOG.append(current_run().id)
    return list(LOG)


def refused() -> None:
    LOG.append("it was called")


def unlucky() -> str:
    return "called"


def failing() -> None:
    sys.exit(4)
