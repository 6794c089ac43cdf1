"""Reads of single runs and of lists of them, fast however long the history is."""

from __future__ import annotations

import re

from ...errors import AmbiguousRun, NotFound
from ...model import FINAL, Run, State
from .. import RunFilter
from .database import Connection
from .rows import RUN, read_run, read_runs, run_of

_BY_ID = f"select {RUN} from runs where id = %s"  # noqa: S608 - columns
_ID_TEXT = re.compile(r"[0-9a-f-]{1,36}")

# Ids are hexadecimal: what begins with PART lies between PART and PART + "g".
_BEGINNING = "select seq from runs where id >= %s and id < %s limit 2"
_ENDING = """
    select seq from runs
    where reverse(id) collate "C" >= %s and reverse(id) collate "C" < %s
    limit 2
"""


def find(connection: Connection, run_id: str) -> Run:
    """The run with this id, or with this unique beginning or ending."""
    row = None
    if run_id.isascii() and "\0" not in run_id:
        row = connection.execute(_BY_ID, (run_id,)).fetchone()
    if row is not None:
        return run_of(row)
    found = _candidates(connection, run_id)
    run = read_run(connection, found[0]) if len(found) == 1 else None
    if run is not None:
        return run
    if not found:
        raise NotFound(f"there is no run {run_id!r}", help="jobrunner history lists the runs")
    raise AmbiguousRun(f"the run id {run_id!r} fits more than one run", help="give more of its characters")


def _candidates(connection: Connection, part: str) -> list[int]:
    """At most two runs whose id begins or ends so; an index is read each time."""
    if _ID_TEXT.fullmatch(part) is None:
        return []
    tail = part[::-1]
    rows = connection.execute(_BEGINNING, (part, part + "g")).fetchall()
    rows += connection.execute(_ENDING, (tail, tail + "g")).fetchall()
    return list({seq for (seq,) in rows})


def runs(connection: Connection, which: RunFilter) -> list[Run]:
    """The newest runs that fit, by order of enqueue."""
    conditions, values = _conditions(which)
    found: set[int] = set()
    for source, source_values in _sources(which):
        where = " and ".join([source, *conditions])
        text = f"select seq from runs where {where} order by seq desc limit %s"  # noqa: S608 - our words
        rows = connection.execute(text, (*source_values, *values, which.limit)).fetchall()
        found.update(seq for (seq,) in rows)
    return read_runs(connection, sorted(found, reverse=True)[: which.limit])


def _conditions(which: RunFilter) -> tuple[list[str], list[object]]:
    """What no index is of help with."""
    texts: list[str] = []
    values: list[object] = []
    if which.triggers:
        texts.append("trigger = any(%s::text[])")
        values.append(list(which.triggers))
    if which.tasks and (which.states or which.pipeline or which.unique):
        texts.append("task = any(%s::text[])")
        values.append(list(which.tasks))
    if which.states:
        texts.append("state = any(%s::text[])")
        values.append([state.value for state in which.states])
    for text, moment in (("created_at >= %s", which.since), ("created_at < %s", which.until)):
        if moment is not None:
            texts.append(text)
            values.append(moment)
    return texts, values


def _sources(which: RunFilter) -> list[tuple[str, tuple[object, ...]]]:
    """The narrowest sets that an index gives and that hold every run that fits."""
    if which.pipeline is not None:
        return [("id = %s", (which.pipeline,)), ("pipeline = %s", (which.pipeline,))]
    if which.unique is not None:
        return [("unique_key = %s and unique_key is not null and finished_at is null", (which.unique,))]
    if which.tasks:
        return [("task = %s", (task,)) for task in which.tasks]
    if which.states:
        return [(source_of(state), ()) for state in which.states]
    return [("seq > 0", ())]


def source_of(state: State) -> str:
    """All runs in a state, in the words of the index that holds them."""
    if state in FINAL:
        return f"state = '{state.value}' and finished_at is not null"
    if state in (State.SCHEDULED, State.RETRYING):
        return f"state in ('scheduled', 'retrying') and state = '{state.value}'"
    if state is State.WAITING:
        return "state = 'waiting' and finished_at is null"
    return f"state = '{state.value}'"
