"""What clients tell the supervisors: pauses, revocations; and what those tell them: the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from ...catalogue import Catalogue
from ...model import Reason, State
from ...plain import from_plain, to_plain
from .. import AWAY, Pause, Revocation
from ..published import NOTHING, Published
from ..published import published as of_text
from . import waits
from .arrays import columns, literal
from .database import Connection, Turn

# --- pauses and revocations -------------------------------------------------------------------------


def pause(connection: Connection, pause: Pause) -> None:
    connection.execute(
        "insert into pauses (target, since, until, by, reason) values (%s, %s, %s, %s, %s)"
        " on conflict (target) do update"
        " set since = excluded.since, until = excluded.until, by = excluded.by, reason = excluded.reason",
        pause,
    )
    move_version(connection)


def resume(connection: Connection, target: str) -> bool:
    found = connection.execute("delete from pauses where target = %s", (target,)).rowcount > 0
    if found:
        move_version(connection)
    return found


def pauses(turn: Turn) -> list[Pause]:
    rows = turn.connection.execute(
        "select target, since, until, by, reason from pauses"
        " where until is null or until > %s order by target",
        (turn.now,),
    ).fetchall()
    return [Pause._make(row) for row in rows]


def revoke(connection: Connection, mark: Revocation) -> None:
    connection.execute(
        "insert into revocations (target, since, until, once, by) values (%s, %s, %s, %s, %s)"
        " on conflict (target) do update"
        " set since = excluded.since, until = excluded.until, once = excluded.once, by = excluded.by",
        mark,
    )


def restore(connection: Connection, target: str) -> bool:
    return connection.execute("delete from revocations where target = %s", (target,)).rowcount > 0


def revocations(turn: Turn) -> list[Revocation]:
    rows = turn.connection.execute(
        "select target, since, until, once, by from revocations"
        " where until is null or until > %s order by target",
        (turn.now,),
    ).fetchall()
    return [Revocation._make(row) for row in rows]


def move_version(connection: Connection) -> None:
    """Let dispatchers see that something changed which they go by."""
    connection.execute("update facts set number = number + 1 where name = 'control version'")


# --- the catalogue ----------------------------------------------------------------------------------


def _current(now: str) -> str:
    """Supervisors that live now, and who published last, lives he or not."""
    return f"""
        (owner in (select id from supervisors where left_at is null and not lost and lease_until > {now})
            or published_no = (select max(published_no) from catalogues))
    """  # noqa: S608 - a name


def mark_of(task: str, now: str) -> str:
    """The query for the mark of what is published about a task: both are words of the statement around it."""
    return f"""
        select encode(sha256(convert_to(entry, 'UTF8')), 'hex')
        from entries join catalogues using (owner)
        where task = {task} and {_current(now)}
        order by published_no desc
        limit 1
    """  # noqa: S608 - names


_CURRENT = _current("%(now)s")

# A supervisor is away that is gone, and in whose place nobody works on its machine for the same file.
_FORGET_CATALOGUES = f"""
    delete from catalogues
    where not {_CURRENT} and owner not in (
        select away.id from supervisors away
        where away.heartbeat_at > %(since)s and not exists (
            select 1 from supervisors other
            where other.left_at is null and not other.lost
                and other.host = away.host and other.config = away.config and other.id <> away.id))
"""  # noqa: S608 - conditions

_PUBLISH = """
    insert into catalogues (owner, head, kept) values (%s, %s, %s::text[])
    on conflict (owner) do update
    set head = excluded.head, kept = excluded.kept, published_no = default
"""

_LIVE = literal(state.value for state in State if not state.is_final)

# Each task that was ever seen, one step for each, and whether a run of it is not final.
_LIVE_TASKS = """
    with recursive known (task) as (
        select min(task) from runs
        union all
        select (select min(task) from runs where task > known.task) from known
        where known.task is not null
    )
    select task from known
    where task is not null and exists (
        select 1 from unnest(%s::text[]) as live (state)
        where exists (select 1 from runs where runs.task = known.task and runs.state = live.state offset 0)
        offset 0)
"""

_REMOVED = """
    select r.id from runs r
    where r.task = any(%s::text[]) and r.state = any(%s::text[])
        and (r.state = 'retrying' or r.tick is not null and r.state in ('scheduled', 'queued')
            or r.tick is not null and r.state = 'waiting' and not exists (
                select 1 from runs m where m.pipeline = r.id and m.claim_no > 0 offset 0))
    order by r.seq
"""


def publish(turn: Turn, owner: str, published: Catalogue, keep: Sequence[str]) -> None:
    """Replace the owner's catalogue: one row per task, so that a client reads only the one it needs."""
    before = catalogue(turn)
    _write(turn.connection, owner, published, keep)
    _forget_the_dead(turn)
    if catalogue(turn) != before:
        move_version(turn.connection)
    _forget_schedules(turn.connection, owner)
    _cancel_removed(turn)


def _write(connection: Connection, owner: str, published: Catalogue, keep: Sequence[str]) -> None:
    entries = [(name, json.dumps(to_plain(entry))) for name, entry in published.tasks.items()]
    connection.execute(_PUBLISH, (owner, json.dumps(_plain_head(published)), literal(keep)))
    connection.execute("delete from entries where owner = %s", (owner,))
    rows = [(owner, place, name, text) for place, (name, text) in enumerate(entries)]
    if rows:
        connection.execute(
            "insert into entries (owner, place, task, entry)"
            " select * from unnest(%s::text[], %s::bigint[], %s::text[], %s::text[])",
            columns(rows),
        )


def _plain_head(catalogue: Catalogue) -> dict[str, object]:
    plain = to_plain(catalogue)
    assert isinstance(plain, dict)
    return {name: value for name, value in plain.items() if name != "tasks"}


def _forget_the_dead(turn: Turn) -> None:
    """What those who live have published counts, and what those have whose machine is away."""
    turn.connection.execute(_FORGET_CATALOGUES, {"now": turn.now, "since": turn.now - AWAY})
    turn.connection.execute("delete from entries where owner not in (select owner from catalogues)")


def _forget_schedules(connection: Connection, owner: str) -> None:
    """Remove the watermarks of schedules that nobody has any more."""
    connection.execute(
        """
        delete from schedules
        where key not in (select unnest(kept) from catalogues)
            and key not in (
                select json_array_elements_text(coalesce(head::json -> 'schedules', '[]')) from catalogues
                where owner <> %s)
        """,
        (owner,),
    )


def _cancel_removed(turn: Turn) -> None:
    """Cancel retries, and ticks that have not begun, of tasks that are no more (semantics 20)."""
    connection = turn.connection
    live = {task for (task,) in connection.execute(_LIVE_TASKS, (_LIVE,)).fetchall()}
    known = {task for (task,) in connection.execute("select task from entries").fetchall()}
    if not live - known:
        return
    rows = connection.execute(_REMOVED, (literal(sorted(live - known)), _LIVE)).fetchall()
    done = waits.cancel(connection, [run_id for (run_id,) in rows], turn.now, Reason.REMOVED.value)
    waits.resolve_all(connection, done.ended, done.born, turn.now)


def task_names(turn: Turn) -> list[str]:
    """The tasks of the catalogue, in its order."""
    found = catalogue(turn)
    return [] if found is None else list(found.tasks)


def catalogue(turn: Turn) -> Catalogue | None:
    """What the supervisors that live know, the newest word first; or the last word of all."""
    heads = turn.connection.execute(
        f"select owner, head from catalogues where {_CURRENT} order by published_no desc",  # noqa: S608
        {"now": turn.now},
    ).fetchall()
    if not heads:
        return None
    owners = [owner for owner, _ in heads]
    rows = turn.connection.execute(
        "select owner, task, entry from entries where owner = any(%s::text[]) order by place",
        (literal(owners),),
    ).fetchall()
    tasks: dict[str, object] = {}
    for owner in owners:
        for _, task, text in (row for row in rows if row[0] == owner):
            tasks.setdefault(task, json.loads(text))
    found: Catalogue = from_plain(
        Catalogue, {**_merged([json.loads(head) for _, head in heads]), "tasks": tasks}
    )
    return found


def _merged(heads: Sequence[dict[str, object]]) -> dict[str, object]:
    """The newest head, with the pools and the schedules of all."""
    pools = {str(pool): pool for head in reversed(heads) for pool in _listed(head, "pools")}
    schedules = dict.fromkeys(key for head in heads for key in _listed(head, "schedules"))
    merged = dict(heads[0])
    if pools:
        merged["pools"] = list(pools.values())
    if schedules:
        merged["schedules"] = list(schedules)
    return merged


def _listed(head: dict[str, object], name: str) -> Iterable[object]:
    listed = head.get(name, ())
    return listed if isinstance(listed, list) else ()


_ENTRY = f"""
    select entry, encode(sha256(convert_to(entry, 'UTF8')), 'hex')
    from entries join catalogues using (owner)
    where task = %(task)s and {_CURRENT}
    order by published_no desc
    limit 1
"""  # noqa: S608 - a condition


def published(turn: Turn, task: str) -> Published:
    """What is published about a task."""
    row = turn.connection.execute(_ENTRY, {"task": task, "now": turn.now}).fetchone()
    return NOTHING if row is None else of_text(row[0])._replace(mark=row[1])


def are_current(turn: Turn, marks: Mapping[str, str]) -> bool:
    """Whether what is published is what these marks (task -> mark) stand for."""
    return all(published(turn, task).mark == mark for task, mark in marks.items())
