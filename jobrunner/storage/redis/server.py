"""The server: its connections, what it must be, and one call of the script."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ResponseError
from redis.retry import Retry

from ...errors import StorageRefused, UsageError
from .address import Address
from .faults import translated
from .line import Line
from .scripts import script

OLDEST = (6, 2)
FORMAT = 2  # of the keys and of what lies under them; `format` says it, once a supervisor has been there
LARGE = 1024 * 1024  # bytes of a call that may take the server long: thousands of runs at once
LARGE_TIMEOUT = 60.0  # seconds
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 8.0  # seconds: a black hole is noticed, and left, within 15 s


class Server:
    """A Redis server and one namespace in it. May be used from several threads."""

    def __init__(self, address: Address) -> None:
        self.shown = address.url
        self.prefix = f"{{{address.namespace}}}:"  # one hash tag: in a cluster all keys lie on one node
        self.pool = _pool(address)
        self.client: Any = redis.Redis(connection_pool=self.pool)
        self.own_writes = 0
        self._lines: list[Line] = []  # that nobody uses at this moment
        self._process = os.getpid()

    def check(self) -> None:
        """Raise StorageRefused unless this server can hold runs safely."""
        with translated(self.shown):
            info = _facts(self._asked(b"INFO"))
        _demand_version(self.shown, info.get("redis_version", "0"))
        _demand_no_eviction(self.shown, info.get("maxmemory_policy", "noeviction"))
        if info.get("role") == "slave" and info.get("slave_read_only", "1") == "1":
            raise StorageRefused(
                f"Redis at {self.shown}: it is a read-only replica", help="write the URL of the master"
            )
        with translated(self.shown):
            form = self._asked(b"GET", f"{self.prefix}format".encode())
        _demand_format(self.shown, int(form or FORMAT))

    def call(self, operation: str, request: dict[str, object], *, beside: bytes = b"") -> Any:
        """Do one operation of the script, with what goes beside its request.

        Raises the contract's errors, UnicodeEncodeError for bad text.
        """
        text = json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()
        patience = ANSWER_TIMEOUT if len(text) + len(beside) < LARGE else LARGE_TIMEOUT
        rest = b"1", self.prefix.encode(), operation.encode(), text, beside
        known = script(operation)
        with translated(self.shown):
            try:
                dirty, answer = self._asked(b"EVALSHA", known.sha.encode(), *rest, patience=patience)
            except NoScriptError:
                dirty, answer = self._asked(b"EVAL", known.text.encode(), *rest, patience=patience)
        self.own_writes += dirty
        return answer

    def _asked(self, *words: bytes, patience: float = ANSWER_TIMEOUT) -> Any:
        line = self._free_line()
        try:
            answer = line.ask(words, patience)
        except ResponseError:
            self._lines.append(line)
            raise
        except BaseException:
            line.close()
            raise
        self._lines.append(line)
        return answer

    def _free_line(self) -> Line:
        if self._process != os.getpid():  # those of before a fork are the parent's
            self._lines, self._process = [], os.getpid()
        while True:
            try:
                line = self._lines.pop()
            except IndexError:
                return Line(self.pool)
            if not line.is_over():
                return line
            line.close()

    def used_memory(self) -> int:
        """Bytes that the server uses, for whatever."""
        with translated(self.shown):
            return int(self.client.info("memory").get("used_memory", 0))

    def close(self) -> None:
        self.pool.disconnect()
        while self._lines:
            self._lines.pop().close()


def _pool(address: Address) -> redis.ConnectionPool:
    try:
        pool = redis.ConnectionPool.from_url(
            address.server,
            decode_responses=True,
            protocol=2,
            # Nothing is sent twice behind our back: a claim whose answer was lost is looked up, not repeated.
            retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            **({} if address.server.startswith("unix:") else {"socket_keepalive": True}),
        )
        pool.connection_class(
            **pool.connection_kwargs
        )  # connects to nobody yet; finds options that nobody knows
        return pool
    except (ValueError, TypeError) as error:
        option = re.search(r"unexpected keyword argument '(.*)'", str(error))
        raise UsageError(
            f"got {address.url!r}: {f'{option[1]!r} is no option of it' if option else error}",
            help="write redis://HOST:6379/0, rediss://..., or unix:///run/redis.sock",
        ) from error


def _facts(info: str) -> dict[str, str]:
    """What INFO tells, by name."""
    pairs = (line.partition(":") for line in info.splitlines())
    return {name: value for name, _, value in pairs}


def _demand_version(shown: str, version: str) -> None:
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise StorageRefused(
            f"Redis at {shown} is version {version}: too old", help="version 6.2 or newer, or Valkey"
        )


def _demand_format(shown: str, form: int) -> None:
    if form > FORMAT:
        raise StorageRefused(
            f"{shown} was made by a newer jobrunner (format {form}, this one knows {FORMAT})",
            help="upgrade jobrunner here too",
        )


def _demand_no_eviction(shown: str, policy: str) -> None:
    if policy != "noeviction":
        raise StorageRefused(
            f"Redis at {shown} has maxmemory-policy {policy}: it would throw queued runs away",
            help="redis-cli CONFIG SET maxmemory-policy noeviction (and the same in its configuration)",
        )
