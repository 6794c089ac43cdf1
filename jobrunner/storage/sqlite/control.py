"""What clients tell the supervisor: pauses, revocations; and what it tells them: the catalogue."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from ...catalogue import Catalogue
from ...digest import sha256
from ...durations import Micros
from ...plain import from_plain, to_plain
from .. import Pause, Revocation
from ..published import Published
from ..published import published as of_text

# --- pauses, revocations ----------------------------------------------------------------------------


def pause(connection: sqlite3.Connection, pause: Pause) -> None:
    connection.execute(
        "insert or replace into pauses (target, since, until, by, reason) values (?, ?, ?, ?, ?)",
        (pause.target, pause.since, pause.until, pause.by, pause.reason),
    )
    move_version(connection)


def resume(connection: sqlite3.Connection, target: str) -> bool:
    found = connection.execute("delete from pauses where target = ?", (target,)).rowcount > 0
    if found:
        move_version(connection)
    return found


def pauses(connection: sqlite3.Connection, now: Micros) -> list[Pause]:
    rows = connection.execute(
        "select target, since, until, by, reason from pauses"
        " where until is null or until > ? order by target",
        (now,),
    ).fetchall()
    return [Pause(target=t, since=s, until=u, by=b, reason=r) for t, s, u, b, r in rows]


def revoke(connection: sqlite3.Connection, mark: Revocation) -> None:
    connection.execute(
        "insert or replace into revocations (target, since, until, once, by) values (?, ?, ?, ?, ?)", mark
    )


def restore(connection: sqlite3.Connection, target: str) -> bool:
    return connection.execute("delete from revocations where target = ?", (target,)).rowcount > 0


def revocations(connection: sqlite3.Connection, now: Micros) -> list[Revocation]:
    rows = connection.execute(
        "select target, since, until, once, by from revocations"
        " where until is null or until > ? order by target",
        (now,),
    ).fetchall()
    return [Revocation(target, since, until, bool(once), by) for target, since, until, once, by in rows]


def version(connection: sqlite3.Connection) -> int:
    """The control version: what dispatchers have seen or not."""
    number: int = connection.execute("select number from facts where name = 'control version'").fetchone()[0]
    return number


def move_version(connection: sqlite3.Connection) -> None:
    connection.execute("update facts set number = number + 1 where name = 'control version'")


# --- the catalogue ----------------------------------------------------------------------------------


def publish(connection: sqlite3.Connection, catalogue: Catalogue) -> None:
    """Replace the catalogue: one row per task, so that a client reads only the one it needs."""
    entries = [(name, json.dumps(to_plain(entry))) for name, entry in catalogue.tasks.items()]
    head = json.dumps({**_plain_head(catalogue), "entries": _digest(entries)})
    if _text(connection, "catalogue") == head:
        return
    connection.execute("delete from entries")
    connection.executemany("insert into entries (task, entry) values (?, ?)", entries)
    connection.execute("insert or replace into facts (name, text) values ('catalogue', ?)", (head,))
    move_version(connection)


def _plain_head(catalogue: Catalogue) -> dict[str, object]:
    plain = to_plain(catalogue)
    return (
        {name: value for name, value in plain.items() if name != "tasks"} if isinstance(plain, dict) else {}
    )


def _digest(entries: Sequence[tuple[str, str]]) -> str:
    return sha256(json.dumps(entries).encode()).hexdigest()


def _text(connection: sqlite3.Connection, name: str) -> str | None:
    row = connection.execute("select text from facts where name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def task_names(connection: sqlite3.Connection) -> list[str]:
    """The tasks of the catalogue, in its order."""
    return [name for (name,) in connection.execute("select task from entries order by place").fetchall()]


def catalogue(connection: sqlite3.Connection) -> Catalogue | None:
    head = _text(connection, "catalogue")
    if head is None:
        return None
    rows = connection.execute("select task, entry from entries order by place").fetchall()
    tasks = {name: json.loads(text) for name, text in rows}
    return from_plain(Catalogue, {**json.loads(head), "tasks": tasks})


def published(connection: sqlite3.Connection, task: str) -> Published:
    row = connection.execute("select entry from entries where task = ?", (task,)).fetchone()
    return of_text(None if row is None else row[0])
