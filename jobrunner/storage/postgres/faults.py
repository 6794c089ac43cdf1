"""What PostgreSQL's errors mean for a person: later, or never as it is; and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg

from ...errors import PayloadError, StorageError, StorageRefused, StorageUnavailable
from ...model import NewRun

READ_ONLY = "25006"
_DEADLOCK = ("40001", "40P01")
_LOCKED = "55P03"
_TIMEOUT = "57014"
_FULL = "53100"
_NO_TABLE = ("42P01", "3F000")

# What a single row can be guilty of: no such value, against a promise, too long for an index.
_POISON_CLASSES = ("22", "23", "54")
# The server cannot now: connection, resources, intervention, system; and a transaction left open too long.
_PASSING_CLASSES = ("08", "53", "57", "58")
_PASSING = (*_DEADLOCK, "25P03", "25P04")
_FORBIDDEN_CLASSES = ("28", "42501")
_DAMAGED = ("XX001", "XX002")

# A connection that was not made has no SQLSTATE, only words.
_WRONG_LOGIN = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist"
    r"|is not permitted to log in|certificate|permission denied for database"
)
_NO_DATABASE = re.compile(r'database "(.*)" does not exist')
_WRONG_URL = re.compile(
    r"invalid (?:connection option|URI|port|sslmode|integer value|percent-encoded|.* value)|missing \"=\""
    r"|unexpected character|could not parse|forbidden value|extra key"
)
_WRONG_SSL = re.compile(r"does not support SSL|SSL .* required")


def is_poison(error: Exception) -> bool:
    """Whether the row, and not the storage, is to blame."""
    if isinstance(error, OverflowError | UnicodeError | TypeError | ValueError):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        return isinstance(error, psycopg.DataError)
    return error.sqlstate.startswith(_POISON_CLASSES)


def not_storable(error: Exception, runs: Sequence[NewRun]) -> PayloadError:
    """What cannot be stored, and where it stands."""
    where = next((place for run in runs if (place := _bad_place(run))), "a run")
    return PayloadError(f"{where} cannot be stored: {_words(error)!a}", help="look at its arguments")


def _bad_place(run: NewRun) -> str:
    """The field of a run that no text or 64-bit integer of PostgreSQL can hold; "" when there is none."""
    for name, value in zip(run._fields, run, strict=True):
        if isinstance(value, str) and ("\0" in value or not _is_whole(value)):
            return f"{name} of a run of {run.task!a}"
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return f"{name} of a run of {run.task!a}"
    return ""


def _is_whole(text: str) -> bool:
    """Whether it has no half characters (lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _words(error: Exception) -> str:
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    return str(error)


def not_connected(error: psycopg.Error, url: str) -> StorageError:
    """Why no connection was made to what the URL (without its password) names."""
    words = " ".join(str(error).split()) or "no answer"
    if _WRONG_LOGIN.search(words):
        return StorageRefused(f"{url} lets nobody in: {words}", help="look at user and password of the URL")
    if found := _NO_DATABASE.search(words):
        return StorageRefused(f"{url}: {words}", help=f"make it: createdb {found[1]}; or correct the URL")
    if _WRONG_URL.search(words):
        return StorageRefused(f"{url}: {words}", help="correct the URL of the storage")
    if _WRONG_SSL.search(words):
        return StorageRefused(f"{url}: {words}", help="look at sslmode in the URL, and at the server's ssl")
    return StorageUnavailable(
        f"cannot reach {url}: {words}", help="look whether the server runs, and at host and port of the URL"
    )


def translated(error: psycopg.Error, url: str) -> StorageError:
    """The error of the project that says what happened to a statement."""
    state, words = error.sqlstate or "", _words(error)
    if not state:
        return StorageUnavailable(
            f"lost the connection to {url}: {' '.join(words.split())}", help="it is made anew by itself"
        )
    if state == READ_ONLY:
        return StorageRefused(
            f"{url} is read-only: {words}",
            help="it may be a standby: name the primary (several hosts: target_session_attrs=read-write)",
        )
    if state in (_LOCKED, _TIMEOUT):
        return StorageUnavailable(
            f"{url} does not let go of a lock: {words}",
            help="look for a long transaction: select pid, state, query from pg_stat_activity",
        )
    if state == _FULL:
        return StorageUnavailable(f"the disk of {url} is full", help="make room; work resumes by itself")
    return _by_class(state, words, url)


def _by_class(state: str, words: str, url: str) -> StorageError:
    if state.startswith(_PASSING_CLASSES) or state in _PASSING:
        return StorageUnavailable(f"{url} cannot answer now: {words}", help="work resumes by itself")
    if state in _NO_TABLE:
        return StorageRefused(f"the tables of {url} are gone: {words}", help="restore them, or start anew")
    if state in _DAMAGED:
        return StorageRefused(f"{url} is damaged: {words}", help="see the server's log; restore a backup")
    if state.startswith(_FORBIDDEN_CLASSES):
        return StorageRefused(
            f"{url} forbids it: {words}", help="the user of the URL must own the schema of the storage"
        )
    return StorageRefused(f"{url}: {words} ({state})", help="this should not happen: please report it")
