"""`jobrunner prune`: retention now, without waiting for the supervisor's own."""

from __future__ import annotations

import click

from jobrunner.output import remove
from jobrunner.place import output_root
from jobrunner.plan import Retention

from .command import command
from .session import Session
from .words import plural

BATCH = 1000  # runs removed by one write; claims go on between two


@command("prune")
@click.pass_obj
def prune_command(session: Session) -> int:
    """Remove finished runs, results and output that are past the retention of the file."""
    retention, removed = _retention(session), 0
    if session.exists():
        storage, root = session.storage(), output_root(session.url())
        while True:
            run_ids = storage.prune(retention, session.now(), limit=BATCH)
            remove(root, run_ids)
            removed += len(run_ids)
            if len(run_ids) < BATCH:
                break
    if session.json:
        session.screen().json({"removed": removed})
    else:
        session.screen().line(f"removed {plural(removed, 'run')}")
    return 0


def _retention(session: Session) -> Retention:
    """The file's; the default for a storage that is named without a file."""
    if not session.has_file():
        return Retention()
    from .files import plan_of

    return plan_of(session).retention
