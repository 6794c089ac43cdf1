"""Reads of single runs and of lists of them, fast however long the history is."""

from __future__ import annotations

import re
import sqlite3

from ...durations import Micros
from ...errors import AmbiguousRun, NotFound
from ...model import FINAL, Run, State, Trigger
from .. import RunFilter
from .rows import RUN, read_run, read_runs, run_of

_BY_ID = f"select {RUN} from runs where id = ?"  # noqa: S608 - columns
_SPAN = """
    select min(seq), max(seq) from runs indexed by runs_created
    where created_at >= ? and created_at < ?
"""
_ENDLESS: Micros = 2**62
WALK = 20_000  # runs looked at, newest first, before an index is asked
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
        rows += connection.execute("select seq from runs where id glob ? limit 2", (f"*{part}",)).fetchall()
    return list({seq for (seq,) in rows})


def runs(connection: sqlite3.Connection, which: RunFilter) -> list[Run]:
    """The newest runs that fit, by order of enqueue."""
    is_narrow = which.pipeline is not None or which.unique is not None
    found = [] if is_narrow else _among_newest(connection, which)
    if len(found) < which.limit:
        found = _among_all(connection, which)
    return read_runs(connection, found)


def _among_newest(connection: sqlite3.Connection, which: RunFilter) -> list[int]:
    """What a short walk back from the newest run finds: mostly enough, however long the history is."""
    newest = connection.execute("select max(seq) from runs").fetchone()[0] or 0
    conditions, values = _conditions(which)
    for name, chosen in (("task", which.tasks), ("state", [state.value for state in which.states])):
        if chosen:
            conditions.append(f"{name} in ({_marks(len(chosen))})")
            values += chosen
    where = " and ".join(["seq > ?", *conditions])
    return _seqs(connection, f"runs not indexed where {where}", [newest - WALK, *values], which.limit)


def _among_all(connection: sqlite3.Connection, which: RunFilter) -> list[int]:
    conditions, values = _conditions(which)
    if which.since is not None or which.until is not None:
        conditions.append("seq between ? and ?")
        values += _span(connection, which)
    if which.states:
        conditions.append(f"state in ({_marks(len(which.states))})")
        values += [state.value for state in which.states]
    found: set[int] = set()
    for source, source_values in _sources(which):
        where = " and ".join([source, *conditions])
        found.update(_seqs(connection, where, [*source_values, *values], which.limit))
    return sorted(found, reverse=True)[: which.limit]


def _span(connection: sqlite3.Connection, which: RunFilter) -> tuple[int, int]:
    """The first and the last run created in that time: clocks are set back, so order alone does not tell."""
    since = -_ENDLESS if which.since is None else which.since
    until = _ENDLESS if which.until is None else which.until
    row = connection.execute(_SPAN, (since, until)).fetchone()
    return (0, -1) if row[0] is None else row


def _seqs(connection: sqlite3.Connection, source: str, values: list[object], limit: int) -> list[int]:
    text = f"select seq from {source} order by seq desc limit ?"  # noqa: S608 - only words of this module
    return [seq for (seq,) in connection.execute(text, (*values, limit)).fetchall()]


def _conditions(which: RunFilter) -> tuple[list[str], list[object]]:
    """What no index is of help with."""
    texts: list[str] = []
    values: list[object] = []
    if which.pipeline is not None:
        texts.append("(pipeline = ? or id = ?)")
        values += (which.pipeline, which.pipeline)
    if which.unique is not None:
        texts.append("unique_key = ? and unique_key is not null and finished_at is null")
        values.append(which.unique)
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
    if which.pipeline is not None:
        return [
            (
                "runs indexed by runs_of_pipeline where pipeline = ? and pipeline is not null",
                (which.pipeline,),
            ),
            ("runs where id = ?", (which.pipeline,)),
        ]
    if which.unique is not None:
        held = "unique_key = ? and unique_key is not null and finished_at is null"
        return [(f"runs indexed by runs_unique where {held}", (which.unique,))]
    if which.states and _UNSUCCESSFUL.issuperset(which.states):
        return [unsuccessful for state in which.states for unsuccessful in _unsuccessful(state, which.tasks)]
    if which.triggers and not _USUAL.intersection(which.triggers):
        held = "trigger <> 'schedule' and trigger <> 'enqueue' and trigger = ?"
        if which.tasks:
            held += f" and task in ({_marks(len(which.tasks))})"
        return [(f"runs indexed by runs_of_trigger where {held}", (t, *which.tasks)) for t in which.triggers]
    if which.tasks:
        return [("runs indexed by runs_of_task where task = ?", (task,)) for task in which.tasks]
    if which.states:
        return [(source_of(state), ()) for state in which.states]
    return [("runs where seq > 0", ())]


_USUAL = frozenset({Trigger.SCHEDULE.value, Trigger.ENQUEUE.value})
_UNSUCCESSFUL = FINAL - {State.SUCCEEDED}


def _unsuccessful(state: State, tasks: tuple[str, ...]) -> list[tuple[str, tuple[object, ...]]]:
    """Runs that came to such an end, in order of enqueue; the task is in the index too."""
    held = "finished_at is not null and state <> 'succeeded'"
    source = f"runs indexed by runs_unsuccessful where {held} and state = '{state.value}'"
    return [(f"{source} and task = ?", (task,)) for task in tasks] if tasks else [(source, ())]


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
