"""Reads of single runs and of lists of them, fast however long the history is."""

from __future__ import annotations

import re
import sqlite3

from ...errors import AmbiguousRun, NotFound
from ...model import FINAL, Run, State
from .. import RunFilter
from .rows import RUN, read_run, read_runs, run_of

_BY_ID = f"select {RUN} from runs where id = ?"  # noqa: S608 - columns
_ID_TEXT = re.compile(r"[0-9a-f-]{1,36}")


def find(connection: sqlite3.Connection, run_id: str) -> Run:
    """The run with this id, or with this unique beginning or ending."""
    row = connection.execute(_BY_ID, (run_id,)).fetchone() if run_id.isascii() else None
    if row is not None:
        return run_of(connection, row)
    found = _candidates(connection, run_id)
    run = read_run(connection, found[0]) if len(found) == 1 else None
    if run is not None:
        return run
    if not found:
        raise NotFound(f"there is no run {run_id!r}", help="jobrunner history lists the runs")
    raise AmbiguousRun(f"the run id {run_id!r} fits more than one run", help="give more of its characters")


def _candidates(connection: sqlite3.Connection, part: str) -> list[int]:
    """At most two runs whose id begins or ends so; the index of ids is read, not the rows."""
    if not part or _ID_TEXT.fullmatch(part) is None:
        return []
    rows = connection.execute(
        "select seq from runs where id >= ? and id < ? limit 2", (part, part + "g")
    ).fetchall()
    if len(rows) < 2:
        rows += connection.execute(
            "select seq from runs where substr(id, ?) = ? limit 2", (-len(part), part)
        ).fetchall()
    return list({seq for (seq,) in rows})


def runs(connection: sqlite3.Connection, which: RunFilter) -> list[Run]:
    """The newest runs that fit, by order of enqueue."""
    conditions, values = _conditions(which)
    found: set[int] = set()
    for source, source_values in _sources(which):
        rows = connection.execute(
            f"select seq from {' and '.join([source, *conditions])} order by seq desc limit ?",  # noqa: S608
            (*source_values, *values, which.limit),
        ).fetchall()
        found.update(seq for (seq,) in rows)
    return read_runs(connection, sorted(found, reverse=True)[: which.limit])


def _conditions(which: RunFilter) -> tuple[list[str], list[object]]:
    """What each run must fulfil, beside the source it comes from."""
    texts: list[str] = []
    values: list[object] = []
    if which.tasks and which.states:
        texts.append(f"state in ({_marks(len(which.states))})")
        values += [state.value for state in which.states]
    if which.triggers:
        texts.append(f"trigger in ({_marks(len(which.triggers))})")
        values += which.triggers
    for text, moment in (("created_at >= ?", which.since), ("created_at < ?", which.until)):
        if moment is not None:
            texts.append(text)
            values.append(moment)
    return texts, values


def _sources(which: RunFilter) -> list[tuple[str, tuple[object, ...]]]:
    """The narrowest sets that an index gives and that hold every run that fits."""
    if which.tasks:
        return [(half, (task,)) for task in which.tasks for half in _OF_TASK]
    if which.states:
        return [(source_of(state), ()) for state in which.states]
    return [("runs where seq > 0", ())]


_OF_TASK = (
    "runs indexed by runs_live where task = ? and finished_at is null",
    "runs indexed by runs_done_by_task where task = ? and finished_at is not null",
)
_INDEXES = {State.QUEUED: "runs_to_claim", State.RUNNING: "runs_running", State.WAITING: "runs_waiting"}


def source_of(state: State) -> str:
    """All runs in a state, with the index that holds them named: the planner would at times read all runs."""
    if state in FINAL:
        return f"runs indexed by runs_done where state = '{state.value}' and finished_at is not null"
    if state in (State.SCHEDULED, State.RETRYING):
        held = "state in ('scheduled', 'retrying')"
        return f"runs indexed by runs_due where {held} and state = '{state.value}'"
    return f"runs indexed by {_INDEXES[state]} where state = '{state.value}'"


def _marks(count: int) -> str:
    return ", ".join("?" * count)
