"""Supervisors: who works here, who did, and what the dead ones left running."""

from __future__ import annotations

import json
import sqlite3

from ...durations import Micros
from ...errors import OwnerLost
from ...model import Run
from .. import OwnerInfo, OwnerStatus, Supervisor
from .rows import RUN, run_of

KEPT = 20  # supervisors remembered, for `status` to name the last ones

_INFO = "id, host, pid, process_start, boot_id, started_at, config, config_hash"
_ENTER = f"""
    insert or replace into supervisors ({_INFO}, status, heartbeat_at)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608 - columns
_FOREIGN = f"""
    select {RUN}
    from runs indexed by runs_running
    where state = 'running' and owner <> ?
    order by seq
"""  # noqa: S608 - columns
_INFOS = f"select {_INFO} from supervisors"  # noqa: S608
_ALL = f"""
    select {_INFO}, status, heartbeat_at, left_at, lost
    from supervisors
    order by started_at desc, id
"""  # noqa: S608


def enter(connection: sqlite3.Connection, owner: OwnerInfo, status: OwnerStatus) -> None:
    """Write the new owner; every other one that has not left is dead, since the lock was free."""
    connection.execute("update supervisors set lost = 1 where left_at is null and id <> ?", (owner.id,))
    connection.execute(_ENTER, (*owner, _status_text(status), owner.started_at))
    connection.execute(
        """
        delete from supervisors
        where id not in (select id from supervisors order by started_at desc limit ?)
            and (left_at is not null or lost = 1)
            and id not in (select owner from runs where state = 'running')
        """,
        (KEPT,),
    )


_IN_FORCE = """
    select left_at, lost, exists (select 1 from edges indexed by edges_open where done = 0)
    from supervisors
    where id = ?
"""


def demand_in_force(connection: sqlite3.Connection, owner: str) -> bool:
    """Raise OwnerLost unless this owner entered, has not left, and was not declared dead.

    By the way it tells whether anything waits for anything, which most turns need not look into then.
    """
    row = connection.execute(_IN_FORCE, (owner,)).fetchone()
    if row is None or row[:2] != (None, 0):
        raise OwnerLost(
            f"supervisor {owner} is no longer the owner of this storage",
            help="it must end what it runs; the next start recovers it",
        )
    return bool(row[2])


def heartbeat(connection: sqlite3.Connection, owner: str, status: OwnerStatus, now: Micros) -> None:
    demand_in_force(connection, owner)
    connection.execute(
        "update supervisors set status = ?, heartbeat_at = ? where id = ?", (_status_text(status), now, owner)
    )


def leave(connection: sqlite3.Connection, owner: str, now: Micros) -> None:
    connection.execute(
        "update supervisors set left_at = ? where id = ? and left_at is null and lost = 0", (now, owner)
    )


def orphans(connection: sqlite3.Connection, owner: str) -> list[tuple[Run, OwnerInfo]]:
    """What runs under another owner: with the lock in this one's hands, all those are dead."""
    rows = connection.execute(_FOREIGN, (owner,)).fetchall()
    infos = {row[0]: OwnerInfo._make(row) for row in connection.execute(_INFOS).fetchall()}
    runs = [run_of(connection, row) for row in rows]
    return [(run, infos.get(run.owner or "") or _unknown(run)) for run in runs]


def _unknown(run: Run) -> OwnerInfo:
    """An owner of whom nothing but its id is known."""
    return OwnerInfo(run.owner or "", run.host or "", 0, 0, "", 0, "", "")


def supervisors(connection: sqlite3.Connection, *, is_held: bool) -> list[Supervisor]:
    """The supervisors known here: the one alive first (the lock is held), then the newest."""
    rows = connection.execute(_ALL).fetchall()
    found = [_supervisor(row, is_held) for row in rows]
    return sorted(found, key=lambda each: not each.alive)


def _supervisor(row: tuple[object, ...], is_held: bool) -> Supervisor:
    status, heartbeat_at, left_at, lost = row[8:]
    return Supervisor(
        owner=OwnerInfo._make(row[:8]),
        status=OwnerStatus(**json.loads(str(status))),
        heartbeat_at=int(str(heartbeat_at)),
        left_at=None if left_at is None else int(str(left_at)),
        alive=is_held and left_at is None and not lost,
    )


def _status_text(status: OwnerStatus) -> str:
    return json.dumps(status._asdict())
