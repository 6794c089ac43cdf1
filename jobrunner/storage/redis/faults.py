"""What Redis says when it cannot do something, as the errors of the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis.exceptions as said

from ...errors import StorageError, StorageRefused, StorageUnavailable

# By the first word of the answer: what it means, whether it may work later, and the next step.
_ANSWERS: dict[str, tuple[str, bool, str]] = {
    "LOADING": ("it still loads its data", True, "it goes on by itself"),
    "OOM": ("it has no memory left (`maxmemory`)", True, "runs still finish; give it more memory, or prune"),
    "MISCONF": ("it cannot write to its disk", True, "look at the log of the server: mostly a full disk"),
    "BUSY": ("it is busy with a long script", True, "redis-cli SCRIPT KILL ends a script that only reads"),
    "MASTERDOWN": ("it is a replica whose master is down", True, "it goes on by itself"),
    "CLUSTERDOWN": ("its cluster is down", True, "look at CLUSTER INFO"),
    "TRYAGAIN": ("its cluster is moving keys", True, "it goes on by itself"),
    "NOREPLICAS": ("it has too few replicas", True, "look at min-replicas-to-write"),
    "READONLY": ("it is a read-only replica", False, "write the URL of the master"),
    "NOAUTH": (
        "it wants a password",
        False,
        "write redis://:PASSWORD@HOST, redis://USER:PASSWORD@HOST, or unix:///PATH?password=PASSWORD",
    ),
    "WRONGPASS": ("it refused user name and password", False, "look at the URL, and at ACL LIST"),
    "NOPERM": (
        "this user may not do that",
        False,
        "the user needs ~{NAMESPACE}:* &{NAMESPACE}:* +@all -@dangerous +info",
    ),
    "MOVED": ("the keys are on another node of its cluster", False, "write the URL of that node"),
}


# redis-py takes the first word off some answers, and raises a class of its own.
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (said.OutOfMemoryError, "OOM"),
    (said.ReadOnlyError, "READONLY"),
    (said.NoPermissionError, "NOPERM"),
    (said.MasterDownError, "MASTERDOWN"),
    (said.ClusterDownError, "CLUSTERDOWN"),
    (said.TryAgainError, "TRYAGAIN"),
    (said.AskError, "MOVED"),
)


def refusal(address: str, error: Exception) -> StorageError:
    """The contract's error for what redis-py raised."""
    text = str(error)
    first = _first_word(text)
    if isinstance(error, said.BusyLoadingError):
        first = "LOADING"
    elif isinstance(error, said.AuthenticationError):
        first = "NOAUTH" if "without any password" not in text and "required" in text else "WRONGPASS"
    else:
        first = next((word for kind, word in _KINDS if isinstance(error, kind)), first)
    if first in _ANSWERS:
        meaning, passes, help_ = _ANSWERS[first]
        kind = StorageUnavailable if passes else StorageRefused
        return kind(f"Redis at {address}: {meaning}", help=help_)
    if "DB index is out of range" in text:
        return StorageRefused(
            f"Redis at {address} has no database of that number", help="take 0, and ?namespace=NAME"
        )
    if isinstance(error, said.TimeoutError):
        return StorageUnavailable(
            f"Redis at {address} does not answer", help="look at the server, the network"
        )
    if isinstance(error, said.ConnectionError | OSError):
        return StorageUnavailable(
            f"Redis at {address} cannot be reached: {_cause(error)}", help="is it running? is the URL right?"
        )
    return StorageRefused(f"Redis at {address} refused a call: {text[:300]!a}", help="look at its log")


def _first_word(text: str) -> str:
    """The word that says what is wrong; Redis 6 hides it in what it says about the script."""
    inner = re.search(r"-([A-Z]+) ", text) if "user_script" in text else None
    return inner[1] if inner else text.partition(" ")[0].rstrip(":")


def _cause(error: Exception) -> str:
    cause = error.__cause__ or error.__context__ or error
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return str(text).rstrip(".")[:200]


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise the contract's errors in the place of redis-py's."""
    try:
        yield
    except (said.RedisError, OSError) as error:
        raise refusal(address, error) from error
