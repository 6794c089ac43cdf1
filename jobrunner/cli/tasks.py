"""`jobrunner list`: the tasks, as they were published or as the file says."""

from __future__ import annotations

import click

from jobrunner.catalogue import Catalogue, Entry, catalogue_of
from jobrunner.durations import SECOND
from jobrunner.errors import NotFound

from .command import command
from .documents import Document, as_json
from .screen import Cell
from .session import Session, zone_named
from .words import one_line, rfc3339


@command("list")
@click.pass_obj
def list_command(session: Session) -> int:
    """List the tasks: those that a supervisor has published, else those of the file."""
    catalogue = _catalogue(session)
    screen = session.screen(zone_named(catalogue.timezone))
    if session.json:
        screen.json(catalogue_document(session, catalogue))
        return 0
    rows = [_row(entry) for entry in catalogue.tasks.values()]
    if rows:
        screen.table(("TASK", "SCHEDULE", "KIND", "POOL", "DESCRIPTION"), rows)
    else:
        screen.line("no tasks")
    return 0


def _catalogue(session: Session) -> Catalogue:
    published = session.published()
    if published is not None:
        return published
    if not session.has_file():
        raise NotFound(
            f"nothing is known on {session.place()} yet", help=f"start it: {session.start_command()}"
        )
    from .files import plan_of

    return catalogue_of(plan_of(session))


def _row(entry: Entry) -> list[Cell]:
    state = f"blocked: {entry.blocked}" if entry.blocked else "" if entry.enabled else "disabled"
    words = " · ".join(each for each in (state, entry.description) if each)
    return [
        Cell(entry.name, "bold"),
        Cell(one_line(entry.schedule_text or "on demand")),
        Cell(entry.kind),
        Cell(entry.pool),
        Cell(one_line(words), "red" if entry.blocked else "dim" if not entry.enabled else None),
    ]


def catalogue_document(session: Session, catalogue: Catalogue) -> Document:
    """`list --json`."""
    ticks = session.storage().next_ticks() if session.exists() else {}
    return {
        "file": catalogue.file,
        "config_hash": catalogue.hash,
        "timezone": catalogue.timezone,
        "tasks": [
            {
                **_entry_document(entry),
                "next_at": rfc3339(
                    min((at for key in entry.schedules if (at := ticks.get(key))), default=None)
                ),
            }
            for entry in catalogue.tasks.values()
        ],
        "pools": [{"name": p.name, "kind": p.kind, "slots": p.slots} for p in catalogue.pools],
    }


def _entry_document(entry: Entry) -> Document:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "description": entry.description,
        "enabled": entry.enabled,
        "schedule": entry.schedule or None,
        "schedule_text": entry.schedule_text or None,
        "pool": entry.pool,
        "priority": entry.priority,
        "expires": None if entry.expires is None else entry.expires / SECOND,
        "args": as_json(entry.args),
        "kwargs": as_json(entry.kwargs),
        "parameters": None if entry.parameters is None else list(entry.parameters),
        "max_attempts": entry.max_attempts,
        "blocked": entry.blocked,
    }
