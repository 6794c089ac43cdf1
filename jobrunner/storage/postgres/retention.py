"""Retention: finished runs and results that are old or too many go, in small batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...durations import Micros
from ...model import FINAL
from . import waits
from .arrays import literal
from .database import Connection

if TYPE_CHECKING:
    from ...plan import Retention

_STATES = sorted(state.value for state in FINAL)

# What a prune may begin with: a run that belongs to no pipeline that is there, all of whose own members
# are final.
_WHOLE = """
    (r.pipeline is null or not exists (select 1 from runs root where root.id = r.pipeline offset 0))
    and (r.joins is null or r.pipeline is not null or not exists (
        select 1 from runs m where m.pipeline = r.id and m.finished_at is null offset 0))
"""

# The oldest finished runs: one short walk along the index for each final state.
_OLDEST = " union all ".join(
    f"(select finished_at, seq, id, joins is not null and pipeline is null as is_root from runs r"  # noqa: S608
    f" where state = '{state}' and finished_at is not null and finished_at < %(before)s and {_WHOLE}"
    f" order by finished_at, seq limit %(limit)s)"
    for state in _STATES
)

_COUNT = "select count(*) from (select 1 from runs where finished_at is not null limit %s) few"

_MEMBERS = "select pipeline, seq, id from runs where pipeline = any(%s::text[]) order by seq"

_RESULTS = """
    select finished_at, seq, id from runs
    where state = 'succeeded' and finished_at is not null
        and (finished_at, seq) > (%s, %s) and finished_at < %s
    order by finished_at, seq
    limit %s
"""

_REMOVE_RESULTS = """
    update runs set result = null
    where seq = any(%s::bigint[]) and result is not null and not exists (
        select 1 from runs root where root.id = runs.pipeline and root.finished_at is null offset 0)
"""

# The members of a pipeline end before it does; their results were needed until then.
_REMOVE_THEIRS = """
    update runs set result = null
    where pipeline = any(%s::text[]) and pipeline is not null and result is not null
"""

_ENDLESS: Micros = 2**62


def remove_runs(connection: Connection, retention: Retention, now: Micros, limit: int) -> list[str]:
    """Remove runs past their age, then the oldest of those that are too many; their ids, oldest first."""
    gone = _oldest(connection, now - retention.history, limit)
    if len(gone) < limit:
        row = connection.execute(_COUNT, (retention.max_runs + limit + len(gone),)).fetchone()
        excess = min(limit, (row[0] if row else 0) - retention.max_runs)
        if excess > len(gone):
            gone = _oldest(connection, _ENDLESS, excess)
    if gone:
        waits.remove(connection, [seq for seq, _ in gone])
    return [run_id for _, run_id in gone]


def _oldest(connection: Connection, before: Micros, limit: int) -> list[tuple[int, str]]:
    """(seq, id) of the oldest, each pipeline whole: so many, and no more than its rest beyond that."""
    rows = connection.execute(
        f"select seq, id, is_root from ({_OLDEST}) done order by finished_at, seq limit %(limit)s",  # noqa: S608
        {"before": before, "limit": limit},
    ).fetchall()
    roots = [run_id for _, run_id, is_root in rows if is_root]
    members: dict[str, list[tuple[int, str]]] = {}
    for root, seq, run_id in connection.execute(_MEMBERS, (literal(roots),)).fetchall() if roots else []:
        members.setdefault(root, []).append((seq, run_id))
    gone: list[tuple[int, str]] = []
    for seq, run_id, _ in rows:
        if len(gone) < limit:
            gone += [(seq, run_id), *members.get(run_id, [])]
    return gone


def remove_results(connection: Connection, before: Micros, limit: int) -> None:
    """Remove results of runs that finished before; how far this got is noted, so that none is seen twice."""
    row = connection.execute("select number, text from facts where name = 'results removed'").fetchone()
    after = (row[0], int(row[1])) if row else (-1, 0)
    old = connection.execute(_RESULTS, (*after, before, limit)).fetchall()
    if not old:
        return
    connection.execute(_REMOVE_RESULTS, (literal(seq for _, seq, _ in old),))
    connection.execute(_REMOVE_THEIRS, (literal(run_id for _, _, run_id in old),))
    connection.execute(
        "insert into facts (name, number, text) values ('results removed', %s, %s)"
        " on conflict (name) do update set number = excluded.number, text = excluded.text",
        (old[-1][0], str(old[-1][1])),
    )
