"""Supervisors: who works here, who did, and what the dead ones left running."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ...durations import SECOND, Micros
from ...errors import OwnerLost
from ...machine import is_alive, pid_space
from ...model import Run
from .. import OwnerInfo, OwnerStatus, Supervisor
from .arrays import literal
from .database import Connection, Turn
from .rows import RUN, run_of

LEASE: Micros = 30 * SECOND
KEPT = 20  # supervisors remembered, for `status` to name the last ones

_INFO = "id, host, pid, process_start, boot_id, started_at, config, config_hash"
_ENTER = f"""
    insert into supervisors ({_INFO}, status, heartbeat_at, lease_until)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (id) do nothing
"""  # noqa: S608 - columns
_FORGET = """
    delete from supervisors
    where id not in (select id from supervisors order by started_at desc limit %s)
        and id not in (select owner from runs where state = 'running')
        and (left_at is not null or lost)
"""
_OTHERS = f"""
    select {_INFO}, lease_until from supervisors
    where left_at is null and not lost and id <> %s
"""  # noqa: S608 - columns
_LIVING = (
    "select status from supervisors where left_at is null and not lost and id <> %s and lease_until > %s"
)
_FOREIGN = f"""
    select {RUN}
    from runs
    where state = 'running' and owner <> all(%s::text[])
"""  # noqa: S608 - columns
_INFOS = f"select {_INFO} from supervisors"  # noqa: S608
_ALL = f"""
    select {_INFO}, status, heartbeat_at, left_at, lost, lease_until
    from supervisors
    order by started_at desc, id
"""  # noqa: S608


def enter(turn: Turn, owner: OwnerInfo, status: OwnerStatus) -> bool:
    """Write the new owner, beside those who live; False when one of them keeps it out.

    Entering again after an unknown outcome is the same.
    """
    if _is_taken(turn, owner.id, alone=status.alone):
        return False
    turn.connection.execute(_ENTER, (*owner, _status_text(status), owner.started_at, turn.now + LEASE))
    demand_in_force(turn.connection, owner.id)
    turn.connection.execute(_FORGET, (KEPT,))
    return True


def _is_taken(turn: Turn, owner: str, *, alone: bool) -> bool:
    """Whether somebody who lives keeps this one out: one of the two is to be alone."""
    living = turn.connection.execute(_LIVING, (owner, turn.now)).fetchall()
    return any(alone or OwnerStatus(**json.loads(status)).alone for (status,) in living)


def demand_in_force(connection: Connection, owner: str) -> None:
    """Raises OwnerLost unless it entered, has not left, and was not declared dead."""
    row = connection.execute(
        "select 1 from supervisors where id = %s and left_at is null and not lost", (owner,)
    ).fetchone()
    if row is None:
        raise lost(owner)


def lost(owner: str) -> OwnerLost:
    """What is raised for an owner that is not in force."""
    return OwnerLost(
        f"supervisor {owner} is no longer the owner of this storage",
        help="it must end what it runs; it goes on under a new id",
    )


def heartbeat(turn: Turn, owner: str, status: OwnerStatus, given: Micros) -> None:
    """Renew the lease. One that has run out is still in force as long as nobody has voided it."""
    renewed = turn.connection.execute(
        "update supervisors set status = %s, heartbeat_at = %s, lease_until = %s"
        " where id = %s and left_at is null and not lost",
        (_status_text(status), given, turn.now + LEASE, owner),
    ).rowcount
    if not renewed:
        demand_in_force(turn.connection, owner)


def leave(turn: Turn, owner: str, given: Micros) -> None:
    turn.connection.execute(
        "update supervisors set left_at = %s where id = %s and left_at is null and not lost", (given, owner)
    )


def dead(turn: Turn, owner: str) -> list[str]:
    """The owners in force whose lease has run out, or whose process is gone from this very machine."""
    rows = turn.connection.execute(_OTHERS, (owner,)).fetchall()
    return [row[0] for row in rows if row[-1] <= turn.now or is_provably_dead(OwnerInfo._make(row[:-1]))]


def void(connection: Connection, owners: Sequence[str]) -> None:
    """Whatever they still write is refused by the fence."""
    connection.execute("update supervisors set lost = true where id = any(%s::text[])", (literal(owners),))


def is_provably_dead(owner: OwnerInfo) -> bool:
    """Whether this very machine says that the process is gone."""
    return owner.boot_id == pid_space() != "" and not is_alive(owner.pid, owner.process_start)


def orphans(connection: Connection, owner: str) -> list[tuple[Run, OwnerInfo]]:
    """What runs under owners that have left, were voided, or are not known."""
    in_force = connection.execute("select id from supervisors where left_at is null and not lost").fetchall()
    alive = {owner, *(each for (each,) in in_force)}
    rows = connection.execute(_FOREIGN, (literal(alive),)).fetchall()
    runs = sorted(map(run_of, rows), key=lambda run: run.seq)
    infos = {row[0]: OwnerInfo._make(row) for row in connection.execute(_INFOS).fetchall()} if runs else {}
    return [(run, infos.get(run.owner or "") or _unknown(run)) for run in runs]


def _unknown(run: Run) -> OwnerInfo:
    """An owner of whom nothing but its id is known."""
    return OwnerInfo(run.owner or "", run.host or "", 0, 0, "", 0, "", "")


def supervisors(turn: Turn) -> list[Supervisor]:
    """The supervisors known here: those alive first, then the newest."""
    rows = turn.connection.execute(_ALL).fetchall()
    found = [_supervisor(row, turn.now) for row in rows]
    return sorted(found, key=lambda each: not each.alive)


def _supervisor(row: Sequence[object], now: Micros) -> Supervisor:
    status, heartbeat_at, left_at, lost, lease_until = row[8:]
    return Supervisor(
        owner=OwnerInfo._make(row[:8]),
        status=OwnerStatus(**json.loads(str(status))),
        heartbeat_at=int(str(heartbeat_at)),
        left_at=None if left_at is None else int(str(left_at)),
        alive=left_at is None and not lost and int(str(lease_until)) > now,
    )


def _status_text(status: OwnerStatus) -> str:
    return json.dumps(status._asdict())
