"""`jobrunner pause` and `jobrunner resume`."""

from __future__ import annotations

import os

import click

from jobrunner.client import nearest
from jobrunner.errors import NotFound, UsageError
from jobrunner.storage import Pause
from jobrunner.storage.pausing import end_pause

from .command import TASK, command
from .moments import duration, moment
from .screen import say
from .session import Session, user_name
from .status_document import pause_document
from .words import absolute


@command("pause")
@click.argument("task", type=TASK, required=False)
@click.option("--pool", metavar="POOL", help="Everything that would run in this pool.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--for", "time", metavar="DURATION", help="End the pause by itself after this time: 2h.")
@click.option("--until", metavar="TIME", help="End the pause then: 'tomorrow 08:00'.")
@click.option("--reason", default="", help="Shown by status.")
@click.pass_obj
def pause_command(
    session: Session,
    *,
    task: str | None,
    pool: str | None,
    everything: bool,
    time: str | None,
    until: str | None,
    reason: str,
) -> int:
    """Claim nothing of a TASK, of a pool or at all. What is running goes on; ticks meanwhile are skipped."""
    target, now = _target(session, task, pool, everything=everything), session.now()
    if time is not None and until is not None:
        raise UsageError("--for and --until exclude each other", help="give one of them")
    zone = session.zone()
    end = None
    if time is not None:
        end = now + duration(time, "--for")
    elif until is not None:
        end = moment(until, "--until", now=now, zone=zone)
        if end <= now:
            raise UsageError(f"--until: {absolute(end, zone)} is over", help="give a time to come")
    pause = Pause(target=target, since=now, until=end, by=user(session), reason=reason)
    session.storage().pause(pause)
    if session.json:
        session.screen().json(pause_document(pause))
    else:
        tail = f" until {absolute(end, zone)}" if end is not None else f": jobrunner resume {_again(target)}"
        session.screen().line(f"paused {_named(target)}{tail}")
    return 0


@command("resume")
@click.argument("task", type=TASK, required=False)
@click.option("--pool", metavar="POOL", help="The pause of this pool.")
@click.option("--all", "everything", is_flag=True, help="The pause of everything.")
@click.pass_obj
def resume_command(session: Session, *, task: str | None, pool: str | None, everything: bool) -> int:
    """End the pause of a TASK, of a pool, or of everything. Nothing that was skipped is caught up."""
    target = _target(session, task, pool, everything=everything)
    ended = end_pause(session.storage(), target, session.now())
    if session.json:
        session.screen().json({"target": target, "resumed": ended})
    elif ended:
        session.screen().line(f"resumed {_named(target)}")
    else:
        say(f"{_named(target)} was not paused")
    _still_paused(session, task)
    return 0


def _target(session: Session, task: str | None, pool: str | None, *, everything: bool) -> str:
    if sum((task is not None, pool is not None, everything)) != 1:
        raise UsageError("which one?", help="name a task, or say --pool POOL, or --all")
    if task is not None:
        return f"task:{session.entry(task).name}"
    catalogue = session.published()
    if catalogue is None:
        raise NotFound(
            f"nothing is known on {session.place()} yet", help=f"start it: {session.start_command()}"
        )
    names = [each.name for each in catalogue.pools]
    if pool is not None and pool not in names:
        raise NotFound(f"no pool {pool!r}", help=nearest(pool, names) or f"pools: {', '.join(names)}")
    return "all" if pool is None else f"pool:{pool}"


def _still_paused(session: Session, task: str | None) -> None:
    if task is None:
        return
    targets = {"all", f"pool:{session.entry(task).pool}"}
    for pause in session.storage().pauses(session.now()):
        if pause.target in targets:
            say(f"note: {_named(pause.target)} is still paused, and {task} with it")


def _named(target: str) -> str:
    kind, _, name = target.partition(":")
    return {"task": name, "pool": f"pool {name}"}.get(kind, "everything")


def _again(target: str) -> str:
    kind, _, name = target.partition(":")
    return {"task": name, "pool": f"--pool {name}"}.get(kind, "--all")


def user(session: Session) -> str:
    """Who does this: behind sudo, the person and not root."""
    for name in ("SUDO_USER", "LOGNAME", "USER"):
        if session.environ.get(name):
            return session.environ[name]
    return user_name(os.geteuid())
