"""`jobrunner systemd`: a unit for this file on this machine, and the commands that install it."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from collections.abc import Sequence
from typing import Final

import click

from jobrunner.place import state_folder, storage_file
from jobrunner.plan import Plan

from .command import command
from .screen import say
from .session import Session
from .units import Unit

_SYSTEM: Final = "/etc/systemd/system"
_USER: Final = "~/.config/systemd/user"


@command("systemd")
@click.option(
    "--user", "of_user", is_flag=True, help="A unit of your own service manager (systemctl --user)."
)
@click.option("--relaxed", is_flag=True, help="Tasks may write wherever their user may, and use sudo.")
@click.option("--as", "user", metavar="NAME", help="The user that it runs as; else whoever has the storage.")
@click.option(
    "--name", help="Of the unit; else jobrunner, or jobrunner-STEM for another file than jobs.yaml."
)
@click.pass_obj
def systemd_command(
    session: Session, *, of_user: bool, relaxed: bool, user: str | None, name: str | None
) -> int:
    """Print a systemd unit for the file, with absolute paths, and the commands that install it.

    Exit code 5: the file is invalid.
    """
    from .files import plan_of

    plan = plan_of(session)
    asked = _asked(plan.file, of_user=of_user, relaxed=relaxed, user=user, name=name)
    name = name or _name_for(plan.file)
    state = state_folder(plan.backend)
    who = "" if of_user else user or _user_of(state)
    commands = _for_user(asked, name) if of_user else _for_machine(asked, name, state, who)
    unit = Unit(
        program=_program(),
        file=os.path.abspath(plan.file),
        state=state,
        needed=(os.path.realpath(sys.executable), os.path.realpath(plan.file), *plan.pythonpath),
        user=who,
        patience=plan.shutdown_timeout,
        grace=max((task.kill_after for task in plan.tasks.values()), default=0),
        is_of_user=of_user,
        is_relaxed=relaxed,
        comment=(f"{name}.service. Install it:", *(f"  {each}" for each in commands)),
    )
    if session.json:
        session.screen().json({"name": name, "unit": unit.text(), "commands": list(commands)})
    else:
        session.screen().line(unit.text().rstrip("\n"))
    _warn(plan, relaxed=relaxed, of_user=of_user)
    return 0


def _name_for(file: str) -> str:
    stem = os.path.splitext(os.path.basename(file))[0]
    return "jobrunner" if stem == "jobs" else f"jobrunner-{stem}"


def _program() -> tuple[str, ...]:
    """What starts this very jobrunner: its script beside the interpreter, else the module."""
    script = os.path.join(os.path.dirname(os.path.abspath(sys.executable)), "jobrunner")
    return (script,) if os.access(script, os.X_OK) else (os.path.abspath(sys.executable), "-m", "jobrunner")


def _user_of(state: str) -> str:
    """Who has the storage, or will have it: whoever asks, behind a sudo too."""
    try:
        return _name_of(os.stat(state).st_uid)
    except OSError:
        return os.environ.get("SUDO_USER") or _name_of(os.getuid())


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _asked(file: str, *, of_user: bool, relaxed: bool, user: str | None, name: str | None) -> str:
    """This very command line, from whatever folder."""
    flags = [*(["--user"] if of_user else []), *(["--relaxed"] if relaxed else [])]
    values = [*(["--as", user] if user else []), *(["--name", name] if name else [])]
    return shlex.join([*_program(), "-c", os.path.abspath(file), "systemd", *flags, *values])


def _for_user(asked: str, name: str) -> Sequence[str]:
    return (
        f"mkdir -p {_USER}",
        f"{asked} > {_USER}/{name}.service",
        "systemctl --user daemon-reload",
        f"systemctl --user enable --now {name}",
        "loginctl enable-linger    # it runs while you are not logged in, too",
        f"journalctl --user -u {name} -f",
    )


def _for_machine(asked: str, name: str, state: str, user: str) -> Sequence[str]:
    return (
        *_folder(state, user),
        f"{asked} | sudo tee {_SYSTEM}/{name}.service",
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {name}",
        f"systemctl status {name}",
        f"journalctl -u {name} -f",
    )


def _folder(state: str, user: str) -> Sequence[str]:
    """A folder that systemd does not make must be there before the first start."""
    if state.startswith("/var/lib/") or os.path.isdir(state):
        return ()
    return (shlex.join(["sudo", "install", "-d", "-m", "700", "-o", user, state]),)


def _warn(plan: Plan, *, relaxed: bool, of_user: bool) -> None:
    if storage_file(plan.backend) is None and plan.backend.startswith("memory"):
        say("warning: the queue of memory:// ends with the service: write backend: sqlite:///PATH")
    if any(task.user or task.group for task in plan.tasks.values()) and (of_user or not relaxed):
        say("warning: tasks with user: or group: need a service of root without the hardened profile")
        say("  print it with: jobrunner systemd --relaxed --as root")
