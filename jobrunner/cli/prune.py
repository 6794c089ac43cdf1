"""`jobrunner prune`: retention now, without waiting for the supervisor's own."""

from __future__ import annotations

import click

from jobrunner.output import remove
from jobrunner.place import output_root
from jobrunner.plan import Plan
from jobrunner.retention import SHARES, sweep_output

from .command import command
from .session import Session
from .words import plural

BATCH = 1000  # runs removed by one write; claims go on between two


@command("prune")
@click.pass_obj
def prune_command(session: Session) -> int:
    """Remove finished runs, results and output that are past the retention of the file."""
    plan = _plan(session)
    runs, outputs = (_prune_runs(session, plan), _prune_output(session, plan)) if session.exists() else (0, 0)
    if session.json:
        session.screen().json({"removed": runs, "outputs": outputs})
    else:
        session.screen().line(f"removed {plural(runs, 'run')}, and the output of {outputs} more")
    return 0


def _prune_runs(session: Session, plan: Plan) -> int:
    storage, root, removed = session.storage(), output_root(session.url()), 0
    while True:
        run_ids = storage.prune(plan.retention, session.now(), limit=BATCH)
        remove(root, run_ids)
        removed += len(run_ids)
        if len(run_ids) < BATCH:
            return removed


def _prune_output(session: Session, plan: Plan) -> int:
    storage, root, now = session.storage(), output_root(session.url()), session.now()
    return sum(sweep_output(root, share, plan, storage, now) for share in range(SHARES))


def _plan(session: Session) -> Plan:
    """The file's; one of defaults for a storage that is named without a file."""
    if not session.has_file():
        return Plan(file="", hash="", backend=session.url(), timezone="UTC")
    from .files import plan_of

    return plan_of(session)
