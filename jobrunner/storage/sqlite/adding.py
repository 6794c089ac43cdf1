"""Adding runs, with group commit: threads that add at the same time share one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence

from ...errors import PayloadError
from ...model import NewRun
from .database import Database
from .faults import is_poison
from .rows import INSERT, insert, new_row
from .schema import LARGE


class _Batch:
    """What one caller adds, and what became of it."""

    def __init__(self, runs: Sequence[NewRun]) -> None:
        self.runs = runs
        self.added: list[bool] | None = None
        self.error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        return self.added is not None or self.error is not None


class Adder:
    """Whoever gets the connection first writes for all who wait for it: one fsync for many."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[_Batch] = []
        self._waiting_lock = threading.Lock()

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        """Add these runs; returns when they are on disk. Raises PayloadError for what cannot be stored."""
        mine = _Batch(runs)
        with self._waiting_lock:
            self._waiting.append(mine)
        with self._database.lock:
            if not mine.is_over:
                self._write()
        if mine.error is not None:
            raise mine.error
        return mine.added or []

    def _write(self) -> None:
        with self._waiting_lock:
            batches, self._waiting = self._waiting, []
        try:
            with self._database.writing() as connection:
                answers = [_add(connection, batch.runs) for batch in batches]
        except BaseException as error:
            for batch in batches:
                batch.error = error
            return
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, list):
                batch.added = answer
            else:
                batch.error = answer


def _add(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> list[bool] | PayloadError:
    """Add one caller's runs, all or none; its bad row is not the others' trouble."""
    connection.execute("savepoint batch")
    try:
        added = _add_at_once(connection, runs) or _add_each(connection, runs)
    except Exception as error:
        if not is_poison(error):
            raise
        connection.execute("rollback to batch")
        return PayloadError(f"a run cannot be stored: {str(error)!a}", help="look at its arguments")
    finally:
        if connection.in_transaction:
            connection.execute("release batch")
    return added


def _add_at_once(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> list[bool] | None:
    """The fast way; None (and nothing is written) when it is not as simple as that."""
    if len(runs) == 1 or any(len(run.payload) > LARGE or not run.payload for run in runs):
        return None
    if connection.executemany(INSERT, map(new_row, runs)).rowcount == len(runs):
        return [True] * len(runs)
    connection.execute("rollback to batch")
    return None


def _add_each(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> list[bool]:
    return [insert(connection, run) for run in runs]
