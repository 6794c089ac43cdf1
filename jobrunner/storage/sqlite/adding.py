"""Adding runs, with group commit: threads that add at the same time share one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence

from ...errors import PayloadError
from ...model import NewRun
from .control import published
from .database import Database
from .faults import is_poison
from .rows import INSERT, insert_plain, is_plain, new_row
from .upkeep import Upkeep
from .waits import Changes, add_all, resolve_all

NO_MARKS: Mapping[str, str] = {}


class Batch:
    """What one caller adds, and what became of it."""

    def __init__(self, runs: Sequence[NewRun], marks: Mapping[str, str]) -> None:
        self.runs = runs
        self.marks = marks
        self.added: list[bool] | None = None
        self.error: BaseException | None = None
        self.is_over = False
        self._turn = threading.Lock()
        self._turn.acquire()

    def wait(self) -> None:
        """Wait until it is over, or until it is this caller's turn to write."""
        self._turn.acquire()

    def wake(self) -> None:
        """End its wait."""
        self._turn.release()


class Adder:
    """One caller writes for all who came while the one before was writing: one sync of the disk for many."""

    def __init__(self, database: Database, upkeep: Upkeep, written: Callable[[], None]) -> None:
        self._database = database
        self._upkeep = upkeep
        self._written = written  # called after every commit
        self._mutex = threading.Lock()
        self._waiting: list[Batch] = []
        self._is_writing = False
        self._heir: Batch | None = None  # who was told to write next

    def add(self, runs: Sequence[NewRun], marks: Mapping[str, str] = NO_MARKS) -> list[bool] | None:
        """Add these runs; returns when they are on disk. Raises PayloadError for what cannot be stored.

        None, and nothing is added: what is published is not what the marks stand for.
        """
        mine = Batch(runs, marks)
        with self._mutex:
            self._waiting.append(mine)
            is_first, self._is_writing = not self._is_writing, True
        if not is_first:
            self._wait(mine)
        if not mine.is_over:
            self._write_all()
        if mine.error is not None:
            raise mine.error
        return mine.added

    def _wait(self, mine: Batch) -> None:
        try:
            mine.wait()
        except BaseException:  # a signal: the others must not wait for this caller's turn
            with self._mutex:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                if self._heir is mine and not mine.is_over:
                    self._pass_on()
            raise

    def _write_all(self) -> None:
        with self._mutex:
            batches, self._waiting, self._heir = self._waiting, [], None
        try:
            self._write(batches)
        finally:
            with self._mutex:
                self._pass_on()
            for batch in batches:
                batch.wake()

    def _pass_on(self) -> None:
        """Let the first of those who wait write next."""
        self._heir = self._waiting[0] if self._waiting else None
        self._is_writing = self._heir is not None
        if self._heir is not None:
            self._heir.wake()

    def _write(self, batches: list[Batch]) -> None:
        try:
            with self._upkeep.around_write(), self._database.writing() as connection:
                if len(batches) == 1:
                    _add_alone(connection, batches[0])
                elif not _add_together(connection, batches):
                    for batch in batches:
                        _add_beside(connection, batch)
        except BaseException as error:
            for batch in batches:
                batch.error = error
            return
        finally:
            for batch in batches:
                batch.is_over = True
        self._written()


def _add_alone(connection: sqlite3.Connection, batch: Batch) -> None:
    """Add one caller's runs in a transaction of their own."""
    try:
        batch.added = _add(connection, batch)
    except Exception as error:
        if not is_poison(error):
            raise
        raise _not_storable(error) from error


def _add_together(connection: sqlite3.Connection, batches: list[Batch]) -> bool:
    """Add plain runs of several callers like those of one; False, and nothing is written: they are not that.

    Each statement gives the interpreter's lock away, and waits for it among those who come meanwhile.
    """
    runs = [run for batch in batches for run in batch.runs]
    marks = {task: mark for batch in batches for task, mark in batch.marks.items()}
    if not all(marks[task] == mark for batch in batches for task, mark in batch.marks.items()):
        return False
    try:
        if not _are_published(connection, marks) or _add_at_once(connection, runs) is None:
            return False
    except Exception as error:
        if not is_poison(error):
            raise
        return False
    for batch in batches:
        batch.added = [True] * len(batch.runs)
    return True


def _add_beside(connection: sqlite3.Connection, batch: Batch) -> None:
    """Add one caller's runs beside those of others: its bad row is not their trouble."""
    connection.execute("savepoint batch")
    try:
        batch.added = _add(connection, batch)
    except Exception as error:
        if not is_poison(error):
            raise
        connection.execute("rollback to batch")
        batch.error = _not_storable(error)
    finally:
        if connection.in_transaction:
            connection.execute("release batch")


def _not_storable(error: Exception) -> PayloadError:
    return PayloadError(f"a run cannot be stored: {str(error)!a}", help="look at its arguments")


def _add(connection: sqlite3.Connection, batch: Batch) -> list[bool] | None:
    """Add one caller's runs, all or none; None when what he goes by is no longer published."""
    if not _are_published(connection, batch.marks):
        return None
    return _add_at_once(connection, batch.runs) or _add_each(connection, batch.runs)


def _are_published(connection: sqlite3.Connection, marks: Mapping[str, str]) -> bool:
    return all(published(connection, task).mark == mark for task, mark in marks.items())


def _add_at_once(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> list[bool] | None:
    """The fast way; None (and nothing is written) when it is not as simple as that."""
    if not all(map(is_plain, runs)):
        return None
    if len(runs) == 1:
        return [True] if connection.execute(INSERT, new_row(runs[0])).rowcount else None
    connection.execute("savepoint at_once")
    try:
        if insert_plain(connection, runs) == len(runs):
            return [True] * len(runs)
        connection.execute("rollback to at_once")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback to at_once")
        raise
    finally:
        if connection.in_transaction:
            connection.execute("release at_once")
    return None


def _add_each(connection: sqlite3.Connection, runs: Sequence[NewRun]) -> list[bool]:
    now = max((run.created_at for run in runs), default=0)
    changes = Changes()
    added = add_all(connection, runs, now, changes)
    resolve_all(connection, changes, now)
    return added
