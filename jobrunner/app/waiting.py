"""How coroutines wait for runs: inside a task for the supervisor's word, elsewhere in a few threads.

Such a thread waits as every blocking caller does, so what wakes those wakes a coroutine too. A coroutine
keeps its thread for a turn; while more of them wait than there are threads, the turns are short.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, cast

from ..model import Run
from ..storage import ClientStorage

THREADS: Final = 32
TURN: Final = 1.0  # seconds; what a cancelled wait may go on for, unseen
SHORT_TURN: Final = 0.05


class Awaiting(Protocol):
    """A storage that coroutines can wait at."""

    async def final(self, run_id: str, timeout: float | None) -> Run:
        """The run, once it is final or `timeout` seconds have passed."""
        ...


class Waiting:
    """The coroutines of one JobRunner that wait, from any event loop and in any process."""

    def __init__(self, storage: Callable[[], ClientStorage]) -> None:
        self._storage = storage
        self._process = 0
        self._threads: ThreadPoolExecutor | None = None
        self._waits: set[object] = set()

    async def final(self, run_id: str, timeout: float | None) -> Run:
        """The run, once it is final or `timeout` seconds have passed."""
        storage = self._storage()
        if hasattr(storage, "is_remote"):
            return await cast(Awaiting, storage).final(run_id, timeout)
        wait = object()
        self._waits.add(wait)
        try:
            return await self._in_turns(storage, run_id, timeout)
        finally:
            self._waits.discard(wait)

    async def _in_turns(self, storage: ClientStorage, run_id: str, timeout: float | None) -> Run:
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        while True:
            turn = TURN if len(self._waits) <= THREADS else SHORT_TURN
            left = turn if end is None else max(0.0, min(turn, end - loop.time()))
            run = await loop.run_in_executor(self._executor(), storage.wait, run_id, left)
            if run.state.is_final or (end is not None and loop.time() >= end):
                return run

    def _executor(self) -> ThreadPoolExecutor:
        """The threads of this process: a forked child has none of its parent's."""
        if self._threads is None or self._process != os.getpid():
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="jobrunner-wait")
            self._process = os.getpid()
        return self._threads
