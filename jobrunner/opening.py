"""The first steps of a supervisor: its storage is opened and entered, waited for when it does not answer."""

from __future__ import annotations

from collections.abc import Callable

from .durations import SECOND, Micros
from .errors import StorageUnavailable
from .events import Emit, StandingBy, StorageTrouble
from .loop import EventLoop
from .storage import OwnerInfo, OwnerStatus, Storage, open_storage

STANDBY_LOOK: Micros = SECOND // 4
START_PAUSE: Micros = SECOND  # between two tries to open a storage that does not answer


class Opening:
    """Everything before the loop runs by itself; a signal ends each wait."""

    def __init__(self, *, loop: EventLoop, emit: Emit, is_over: Callable[[], bool]) -> None:
        self._loop = loop
        self._emit = emit
        self._is_over = is_over
        self.has_stood_by = False

    def entered(
        self, url: str, owner: Callable[[], OwnerInfo], status: Callable[[], OwnerStatus]
    ) -> Storage | None:
        """The storage, as its owner (waited for when it may answer later); None when a signal came first."""
        while not self._is_over():
            try:
                storage = open_storage(url)
            except StorageUnavailable as trouble:
                self._wait_out(trouble)
                continue
            entered = False
            try:
                entered = self._enter(storage, owner, status)
            finally:
                if not entered:
                    storage.close()
            if entered:
                return storage
        return None

    def until_answered(self, ask: Callable[[], None]) -> None:
        """Do this; while the storage does not answer, try again."""
        while not self._is_over():
            try:
                ask()
            except StorageUnavailable as trouble:
                self._wait_out(trouble)
            else:
                return

    def _enter(
        self, storage: Storage, owner: Callable[[], OwnerInfo], status: Callable[[], OwnerStatus]
    ) -> bool:
        while not self._is_over():
            try:
                if storage.enter(owner(), status()):
                    return True
            except StorageUnavailable as trouble:
                self._wait_out(trouble)
                continue
            if not self.has_stood_by:
                self._emit(StandingBy(storage.url))
                self.has_stood_by = True
            self._pause(STANDBY_LOOK)
        return False

    def _wait_out(self, trouble: StorageUnavailable) -> None:
        self._emit(StorageTrouble(str(trouble), trouble.help, START_PAUSE))
        self._pause(START_PAUSE)

    def _pause(self, time: Micros) -> None:
        """Let signals in while waiting."""
        end = self._loop.monotonic() + time
        while not self._is_over() and (rest := end - self._loop.monotonic()) > 0:
            self._loop.turn(rest)
