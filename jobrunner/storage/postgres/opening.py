"""How a schema is made, refused, and brought up to date: safe when several begin at once."""

from __future__ import annotations

from ...errors import StorageMissing, StorageRefused
from . import schema
from .database import Connection, Database, Turn

_NAME = "schema version"


def prepare(database: Database, *, create: bool) -> None:
    """Make the tables, or bring them up to date; `create=False` makes none where there are none.

    Raises StorageRefused for the tables of another program or of a newer jobrunner, and for older ones while
    a supervisor works on them.
    """
    with database.reading() as turn:
        version = _version(turn.connection, database)
    if version == schema.VERSION:
        return
    if version is None and not create:
        raise StorageMissing(
            f"there are no tables of jobrunner in schema {database.address.namespace}"
            f" of {database.address.url}",
            help="start the supervisor once (jobrunner run FILE), or look at the URL",
        )
    with database.writing() as turn:
        _migrate(turn, database)


def _version(connection: Connection, database: Database) -> int | None:
    """The version of the tables; None: there are none. Raises StorageRefused for what is not ours."""
    namespace = database.address.namespace
    names = {
        name
        for (name,) in connection.execute(
            "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = %s and c.relkind in ('r', 'p')",
            (namespace,),
        ).fetchall()
    }
    if not names:
        return None
    row = None
    if {"facts", "runs"} <= names:
        row = connection.execute("select number from facts where name = %s", (_NAME,)).fetchone()
    if row is None:
        raise StorageRefused(
            f"schema {namespace} of {database.address.url} holds the tables of another program",
            help="choose another one: ?namespace=NAME",
        )
    if row[0] > schema.VERSION:
        raise StorageRefused(
            f"schema {namespace} of {database.address.url} was made by a newer jobrunner"
            f" (version {row[0]}, this one knows {schema.VERSION})",
            help="upgrade jobrunner here too",
        )
    return int(row[0])


def _migrate(turn: Turn, database: Database) -> None:
    """Take every step that this schema has not taken yet, all in one transaction."""
    connection = turn.connection
    version = _version(connection, database)  # asked again: somebody may have been faster
    if version is None:
        connection.execute(f"create schema if not exists {database.address.schema}")
    elif version < schema.VERSION:
        _demand_nobody(turn, database)
    for step in schema.STEPS[version or 0 :]:
        for statement in step:
            connection.execute(statement)
    connection.execute(
        "insert into facts (name, number) values (%s, %s)"
        " on conflict (name) do update set number = excluded.number",
        (_NAME, schema.VERSION),
    )


def _demand_nobody(turn: Turn, database: Database) -> None:
    """A supervisor of the older version would go on with tables that it does not know."""
    alive = turn.connection.execute(
        "select host from supervisors where left_at is null and not lost and lease_until > %s", (turn.now,)
    ).fetchone()
    if alive is not None:
        raise StorageRefused(
            f"{database.address.url} is in use by a supervisor of an older jobrunner on {alive[0]}",
            help="restart that supervisor first",
        )
