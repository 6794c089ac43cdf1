"""`jobrunner migrate-storage`: what one storage holds, moved into another."""

from __future__ import annotations

import os
import shutil
from contextlib import closing

import click

from jobrunner.errors import UsageError
from jobrunner.ids import new_id
from jobrunner.machine import hostname, pid_space, process_start
from jobrunner.migration import Moved, Mover
from jobrunner.place import output_root, shown
from jobrunner.storage import OwnerInfo, open_storage

from .command import command
from .session import Session
from .words import plural


@command("migrate-storage")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.pass_obj
def migrate_storage_command(session: Session, *, source: str, target: str) -> int:
    """Move every run, with its history, from one storage into another; none is lost.

    FROM and TO are URLs as `backend:` takes them. FROM stays as it is. Stop the supervisors of both first;
    write TO into the file afterwards. An interrupted move is started again by the same command.
    """
    _demand_lasting(source, target)
    with closing(open_storage(source, create=False)) as old, closing(open_storage(target)) as new:
        moved = Mover(old, new, owner=_owner(session), now=session.now).move()
    _copy_output(output_root(source), output_root(target))
    _tell(session, moved, target)
    return 0


def _demand_lasting(source: str, target: str) -> None:
    for url in (source, target):
        if url.startswith("memory:"):
            raise UsageError(
                f"nothing can be moved from or to {url}: it ends with its process",
                help="name another storage",
            )
    if source == target:
        raise UsageError("FROM and TO are the same storage", help="name two")


def _owner(session: Session) -> OwnerInfo:
    now, pid = session.now(), os.getpid()
    start = process_start(pid) or 0
    return OwnerInfo(new_id(now), hostname(), pid, start, pid_space(), now, "migrate-storage", "")


def _copy_output(source: str, target: str) -> None:
    """What runs have printed lies beside a storage, on this machine."""
    if os.path.isdir(source) and os.path.abspath(source) != os.path.abspath(target):
        os.makedirs(target, mode=0o700, exist_ok=True)
        shutil.copytree(source, target, dirs_exist_ok=True)


def _tell(session: Session, moved: Moved, target: str) -> None:
    screen = session.screen()
    if session.json:
        screen.json(moved._asdict())
        return
    screen.line(f"moved {plural(moved.finished, 'finished run')} and {moved.waiting} that wait")
    screen.line(f"  next: write `backend: {shown(target)}` into the file, and start the supervisor")
