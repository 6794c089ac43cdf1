"""Runs of tasks that no catalogue has any more (semantics 20)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from ...durations import Micros
from ...model import Reason, State
from .overview import live_tasks
from .waits import Changes, Holder, cancel, has_begun, resolve_all

# What is not over, by state; a tick that was interrupted is claimed again no more either.
_LEFT = """
    select seq, id, state, joins from runs indexed by runs_live
    where task = ? and state = 'retrying' and finished_at is null
    union all
    select seq, id, state, joins from runs indexed by runs_live
    where task = ? and state in ('waiting', 'scheduled', 'queued') and finished_at is null
        and tick is not null
    order by seq
"""


def cancel_removed(connection: sqlite3.Connection, tasks: Collection[str], now: Micros) -> None:
    """Cancel retries, and ticks that do not run, of tasks that are no more."""
    gone = [task for task in live_tasks(connection) if task not in tasks]
    changes = Changes()
    for task in gone:
        for row in map(Holder._make, connection.execute(_LEFT, (task, task)).fetchall()):
            if row.state == State.RETRYING or not has_begun(connection, row):
                cancel(connection, row.id, now, Reason.REMOVED.value, changes)
    resolve_all(connection, changes, now)
