"""Reads of single runs and of lists of them, fast however long the history is."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ...durations import Micros
from ...errors import AmbiguousRun, NotFound
from ...model import Run, State
from .. import RunFilter
from .arrays import literal
from .database import Connection
from .rows import RUN, read_run, read_runs, run_of

_BY_ID = f"select {RUN} from runs where id = %s"  # noqa: S608 - columns
_ID_TEXT = re.compile(r"[0-9a-f-]{1,36}")

WALK = 20_000  # runs looked at, newest first, before an index is asked
_ENDLESS: Micros = 2**62
_SPAN = """
    select min(seq), max(seq)
    from (select seq from runs where created_at >= %s and created_at < %s offset 0) few
"""

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


def holder(connection: Connection, unique: str) -> str | None:
    """The id of the unfinished run that holds this key."""
    row = connection.execute(
        "select id from runs where unique_key = %s and unique_key is not null and finished_at is null",
        (unique,),
    ).fetchone()
    return None if row is None else str(row[0])


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
    found: list[int] = []
    if _is_vague(which):
        found = _among_newest(connection, which)
    if len(found) < which.limit:
        found = _among_all(connection, which)
    return read_runs(connection, found)


def _is_vague(which: RunFilter) -> bool:
    """Whether an index alone does not lead to what is asked for."""
    if which.pipeline is not None or which.unique is not None:
        return False
    return bool(which.triggers) or which.since is not None or which.until is not None


def _among_newest(connection: Connection, which: RunFilter) -> list[int]:
    """What a short walk back from the newest run finds: mostly enough, however long the history is."""
    where, values = _conditions(which)
    values |= {"walk": WALK, "limit": which.limit}
    return _seqs(
        connection,
        "select seq from runs where seq > (select max(seq) from runs) - %(walk)s"  # noqa: S608 - our words
        f" and {where} order by seq desc limit %(limit)s",
        values,
    )


def _among_all(connection: Connection, which: RunFilter) -> list[int]:
    where, values = _conditions(which)
    values |= {"limit": which.limit, "states": literal(each.value for each in which.states or State)}
    if which.since is not None or which.until is not None:
        where += " and seq between %(first)s and %(last)s"
        values |= _span(connection, which)
    return _seqs(connection, _text(which).format(conditions=where), values)


def _text(which: RunFilter) -> str:
    if which.pipeline is not None:
        return _OF_PIPELINE
    if which.unique is not None:
        return _OF_ALL
    if which.tasks:
        return _OF_TASKS
    return _OF_STATES if which.states else _OF_ALL


# Each task and state has its place in an index, in which the newest come first.
_STATES = "unnest(%(states)s::text[]) as chosen (state)"
_TASKS = "unnest(%(tasks)s::text[]) as named (task)"
_OF_EACH = """
    select found.seq from {sources}
    cross join lateral (
        select seq from runs where {joined} and {{conditions}} order by seq desc limit %(limit)s) found
    order by found.seq desc limit %(limit)s
"""
_OF_TASKS = _OF_EACH.format(
    sources=f"{_TASKS} cross join {_STATES}", joined="task = named.task and state = chosen.state"
)
_OF_STATES = _OF_EACH.format(sources=_STATES, joined="state = chosen.state")
_OF_PIPELINE = """
    select found.seq from (
        select seq from runs where id = %(pipeline)s and {conditions}
        union all
        select seq from runs where pipeline = %(pipeline)s and {conditions}
    ) found
    order by found.seq desc limit %(limit)s
"""
_OF_ALL = "select seq from runs where {conditions} order by seq desc limit %(limit)s"


def _conditions(which: RunFilter) -> tuple[str, dict[str, object]]:
    texts = {
        "unique_key = %(unique)s and unique_key is not null and finished_at is null": which.unique
        is not None,
        "task = any(%(tasks)s::text[])": bool(which.tasks),
        "state = any(%(states)s::text[])": bool(which.states),
        "trigger = any(%(triggers)s::text[])": bool(which.triggers),
        "created_at >= %(since)s": which.since is not None,
        "created_at < %(until)s": which.until is not None,
    }
    values: dict[str, object] = {
        "pipeline": which.pipeline,
        "unique": which.unique,
        "tasks": literal(which.tasks),
        "states": literal(state.value for state in which.states),
        "triggers": literal(which.triggers),
        "since": which.since,
        "until": which.until,
    }
    return " and ".join(["seq > 0", *(text for text, is_asked in texts.items() if is_asked)]), values


def _span(connection: Connection, which: RunFilter) -> dict[str, object]:
    """The first and the last run created in that time: clocks are set back, so order alone does not tell."""
    since = -_ENDLESS if which.since is None else which.since
    until = _ENDLESS if which.until is None else which.until
    row = connection.execute(_SPAN, (since, until)).fetchone()
    first, last = row or (None, None)
    return {"first": first or 0, "last": last or -1}


def _seqs(connection: Connection, text: str, values: Mapping[str, object]) -> list[int]:
    return [seq for (seq,) in connection.execute(text, values).fetchall()]
