"""The environment of an attempt, as pure functions: what is passed on, declared, and told about the run.

    supervisor's PATH HOME ... < pool's env < task's env < the run's env < JOBRUNNER_*

The last ones cannot be overridden: recovery finds the processes of a dead supervisor by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from ..durations import Micros, from_micros
from ..model import Cause
from ..plain import from_plain
from . import Call

__all__ = [
    "OWNER",
    "RUN_ID",
    "allowed",
    "argument_variables",
    "cause_variables",
    "command_environment",
    "run_variables",
]

PASSED_ON: Final = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"})
OWNER: Final = "JOBRUNNER_OWNER"
RUN_ID: Final = "JOBRUNNER_RUN_ID"
ARGUMENT: Final = "JOBRUNNER_ARG_"


def allowed(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the supervisor's own environment attempts get: nothing that nobody declared (security S8)."""
    return {name: text for name, text in environ.items() if name in PASSED_ON or name.startswith("LC_")}


def command_environment(
    inherited: Mapping[str, str], call: Call, keywords: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The whole environment of a command. `inherited`: allowed and pool's; `keywords`: texts of arguments.

    Raises ValueError for a name or a text that no environment can hold.
    """
    declared = {**call.task.env, **dict(call.env)}
    environment = {**inherited, **declared, **run_variables(call)}
    if keywords:
        environment.update(argument_variables(keywords))
    if call.cause is not None:
        environment.update(cause_variables(call.cause))
    _check(declared)
    return environment


def run_variables(call: Call) -> dict[str, str]:
    """What every attempt is told about its run."""
    return {
        "JOBRUNNER_TASK": call.task.name,
        RUN_ID: call.run_id,
        "JOBRUNNER_ATTEMPT": str(call.attempt),
        "JOBRUNNER_SCHEDULED_AT": moment_text(call.due_at if call.tick is None else call.tick),
        "JOBRUNNER_TRIGGER": call.trigger,
        "JOBRUNNER_MISSED": str(call.missed),
        OWNER: call.owner,
    }


def moment_text(instant: Micros) -> str:
    """RFC 3339 in UTC; a fraction only when there is one."""
    return from_micros(instant).isoformat()


def argument_variables(keywords: Mapping[str, str]) -> dict[str, str]:
    """Keyword arguments as `JOBRUNNER_ARG_<NAME>`. Raises ValueError for a name that makes no variable."""
    variables: dict[str, str] = {}
    for name, text in keywords.items():
        variable = ARGUMENT + name.upper().replace("-", "_")
        if variable in variables:
            raise ValueError(f"two keyword arguments are called {variable} in the environment")
        variables[variable] = text
    _check(variables)
    return variables


def cause_variables(cause: str) -> dict[str, str]:
    """What a callback is told of the run that caused it; `cause` is JSON of `model.Cause`.

    Raises ValueError when it is damaged.
    """
    try:
        told = from_plain(Cause, json.loads(cause))
    except (ValueError, TypeError, AttributeError):
        raise ValueError("the description of the failed run is damaged") from None
    return {
        "JOBRUNNER_FAILED_TASK": _without_nul(told.task),
        "JOBRUNNER_FAILED_RUN_ID": _without_nul(told.run_id),
        "JOBRUNNER_FAILED_REASON": _without_nul(told.reason),
        "JOBRUNNER_FAILED_EXIT_CODE": "" if told.exit_code is None else str(told.exit_code),
        "JOBRUNNER_FAILED_OUTPUT_TAIL": _without_nul(told.output_tail),
    }


def _without_nul(text: object) -> str:
    return str(text).replace("\0", "\\x00")


def _check(variables: Mapping[str, str]) -> None:
    for name, text in variables.items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
        if "\0" in text:
            raise ValueError(f"{name} holds a NUL character, which no environment variable can")
