"""`jobrunner reload`: what the file says now is put in force, and the difference is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from jobrunner.control import Document, ask, control_path
from jobrunner.errors import ConfigError, JobRunnerError, NoSupervisor, UsageError
from jobrunner.machine import hostname
from jobrunner.place import state_folder
from jobrunner.storage import Supervisor

from .command import command
from .screen import Screen
from .session import Session

PATIENCE: Final = 120.0  # seconds; a file of ten thousand tasks takes about ten
NEEDS_RESTART: Final = "needs-restart"
INVALID: Final = ConfigError.exit_code
FAILED: Final = JobRunnerError.exit_code
MOST_NAMES: Final = 10  # of the reload before this one


@command("reload")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--code", is_flag=True, help="Only start workers anew, for new Python code.")
@click.pass_obj
def reload_command(session: Session, *, dry_run: bool, code: bool) -> int:
    """Ask the supervisor to read its file again, and wait until that is in force.

    Shows what is new (+), changed (~) and removed (-). Exit code 5: the file is invalid, and what was in
    force stays in force. Exit code 3: no supervisor is running.
    """
    if dry_run and code:
        raise UsageError("--dry-run and --code exclude each other", help="give one of them")
    question = {"ask": "reload", "dry_run": dry_run, "code": code}
    paths = [control_path(state_folder(session.url()), pid) for pid in _pids(session)]
    answers = [ask(path, question, patience=PATIENCE) for path in paths]
    worst = max(answers, key=_exit_code)
    if session.json:
        shown = {name: value for name, value in worst.items() if name != "rendered"}
        session.screen().json(shown)
    else:
        _write(session.screen(), worst)
    return _exit_code(worst)


def _pids(session: Session) -> list[int]:
    """The supervisors on this machine; each has the same file in force afterwards."""
    alive = _alive(session)
    if not alive:
        raise NoSupervisor(
            f"no supervisor is running on {session.place()}", help=f"start it: {session.start_command()}"
        )
    here = [each.owner.pid for each in alive if each.owner.host == hostname()]
    if not here:
        hosts = ", ".join(sorted({each.owner.host for each in alive}))
        raise JobRunnerError(
            f"the supervisor of {session.place()} runs on {hosts}", help="run jobrunner reload there"
        )
    return here


def _alive(session: Session) -> list[Supervisor]:
    if not session.exists():
        return []
    return [each for each in session.storage().supervisors(session.now()) if each.alive]


def _exit_code(answer: Document) -> int:
    if answer.get("verdict") in ("applied", "unchanged", "dry run"):
        return 0
    problems = answer.get("problems") or []
    needs_restart = any(each.get("code") == NEEDS_RESTART for each in problems)
    return FAILED if needs_restart or answer.get("verdict") != "invalid" else INVALID


def _write(screen: Screen, answer: Document) -> None:
    if _exit_code(answer):
        said = str(answer.get("rendered", "")).rstrip("\n")
        error = ConfigError if _exit_code(answer) == INVALID else JobRunnerError
        raise error(f"{said}\nnot reloaded: what was in force stays in force")
    signs = (("+", "added", "green"), ("~", "changed", "yellow"), ("-", "removed", "red"))
    for sign, key, colour in signs:
        for name in answer.get(key, ()):
            screen.line(f"{screen.paint(sign, colour)} {name}")
    for name in answer.get("settings", ()):
        screen.line(f"{screen.paint('~', 'yellow')} {name} (a setting of the file)")
    for line in _summary(answer):
        screen.line(line)


def _summary(answer: Document) -> Iterator[str]:
    count = sum(len(answer.get(key, ())) for key in ("added", "changed", "removed", "settings"))
    if answer.get("verdict") == "dry run":
        yield "not applied: --dry-run"
    elif count:
        yield "reloaded; workers start anew"
    else:
        anew = "; workers start anew" if answer.get("applied") else ""
        yield f"nothing has changed: tasks and settings are what they were{anew}"
        last = answer.get("last")
        if last:
            yield f"the change before is in force since {last['at']} ({last['by']}){_told(last)}"


def _told(last: Document) -> str:
    """What that reload has changed: it may have been faster than the person who asks."""
    signs = (("+", "added"), ("~", "changed"), ("-", "removed"), ("~", "settings"))
    names = [f"{sign} {name}" for sign, key in signs for name in last.get(key, ())]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f": {', '.join(names[:MOST_NAMES])}{more}" if names else ""
