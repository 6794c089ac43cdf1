"""`jobrunner revoke` and `jobrunner restore`."""

from __future__ import annotations

import click

from jobrunner.durations import Micros
from jobrunner.errors import UsageError
from jobrunner.storage import Revocation

from .command import TASK_OR_RUN, command
from .documents import Document
from .moments import duration, moment
from .pausing import user
from .runs import one_run
from .screen import say
from .session import Session
from .words import absolute, rfc3339


@command("revoke")
@click.argument("target", metavar="[RUN|TASK]", type=TASK_OR_RUN, required=False)
@click.option("--once", is_flag=True, help="Only the next run that would start.")
@click.option("--for", "time", metavar="DURATION", help="The mark ends by itself after this time: 2h.")
@click.option("--until", metavar="TIME", help="The mark ends then: 'tomorrow 08:00'.")
@click.pass_obj
def revoke_command(
    session: Session, *, target: str | None, once: bool, time: str | None, until: str | None
) -> int:
    """Cancel what would start: a RUN, or all runs of a TASK or a pipeline. Without a name: list the marks.

    What is running goes on. `jobrunner restore` takes the mark away again.
    """
    if target is None:
        return _list(session)
    mark = Revocation(
        target=_target(session, target),
        since=session.now(),
        until=_until(session, time, until),
        once=once,
        by=user(session),
    )
    session.storage().revoke(mark)
    screen = session.screen(session.zone())
    if session.json:
        screen.json(_document(mark))
    else:
        screen.line(f"revoked {_named(mark)}: jobrunner restore {_name(mark.target)}")
    return 0


@command("restore")
@click.argument("target", metavar="RUN|TASK", type=TASK_OR_RUN)
@click.pass_obj
def restore_command(session: Session, *, target: str) -> int:
    """Take the mark of a RUN or a TASK away: what has not been cancelled by it runs."""
    mark = _target(session, target)
    found = session.storage().restore(mark)
    if session.json:
        session.screen().json({"target": mark, "restored": found})
    elif found:
        session.screen().line(f"restored {_name(mark)}")
    else:
        say(f"{_name(mark)} was not revoked")
    return 0


def _target(session: Session, target: str) -> str:
    if session.entry_or_none(target) is not None:
        return f"task:{target}"
    return f"run:{one_run(session, target).id}"


def _until(session: Session, time: str | None, until: str | None) -> Micros | None:
    now = session.now()
    if time is not None and until is not None:
        raise UsageError("--for and --until exclude each other", help="give one of them")
    if time is not None:
        return now + duration(time, "--for")
    if until is None:
        return None
    end = moment(until, "--until", now=now, zone=session.zone())
    if end <= now:
        raise UsageError(f"--until: {absolute(end, session.zone())} is over", help="give a time to come")
    return end


def _list(session: Session) -> int:
    marks = session.storage().revocations(session.now()) if session.exists() else []
    screen = session.screen(session.zone())
    if session.json:
        screen.json([_document(mark) for mark in marks])
        return 0
    for mark in marks:
        tail = f" until {absolute(mark.until, session.zone())}" if mark.until is not None else ""
        screen.line(f"{_name(mark.target)}: revoked by {mark.by or 'somebody'}{tail}{_once(mark)}")
    if not marks:
        screen.line("nothing is revoked")
    return 0


def _document(mark: Revocation) -> Document:
    return {
        "target": mark.target,
        "since": rfc3339(mark.since),
        "until": rfc3339(mark.until),
        "once": mark.once,
        "by": mark.by,
    }


def _name(target: str) -> str:
    return target.partition(":")[2]


def _named(mark: Revocation) -> str:
    return _name(mark.target) + _once(mark)


def _once(mark: Revocation) -> str:
    return ", the next run only" if mark.once else ""
