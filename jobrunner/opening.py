"""The first steps of a supervisor: its storage is opened and entered, waited for when it does not answer."""

from __future__ import annotations

from collections.abc import Callable

from .durations import SECOND, Micros
from .errors import OwnerLost, StorageError, StorageUnavailable
from .events import Emit, StandingBy
from .loop import EventLoop
from .storage import OwnerInfo, OwnerStatus, Storage, open_storage
from .trouble import Trouble

STANDBY_LOOK: Micros = SECOND // 4
START_PAUSE: Micros = SECOND  # between two tries to open a storage that does not answer
_ASKER = "start"


class Opening:
    """Everything before the loop runs by itself; a signal ends each wait.

    A first start ends with what a person has to look at. One that goes on in the place of a former
    incarnation outlives that too: it was working, and is to work again as soon as it can.
    """

    def __init__(
        self,
        *,
        loop: EventLoop,
        emit: Emit,
        trouble: Trouble,
        is_over: Callable[[], bool],
        outlives_refusals: bool = False,
    ) -> None:
        self._loop = loop
        self._emit = emit
        self._trouble = trouble
        self._is_over = is_over
        self._outlived = StorageError if outlives_refusals else StorageUnavailable
        self.has_stood_by = False

    def entered(
        self, url: str, owner: Callable[[], OwnerInfo], status: Callable[[], OwnerStatus]
    ) -> Storage | None:
        """The storage, as its owner (waited for when it may answer later); None when a signal came first."""
        while not self._is_over():
            try:
                storage = open_storage(url)
            except StorageError as error:
                self._wait_out(error)
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
        """Do this; as long as the storage cannot, try again."""
        while not self._is_over():
            try:
                ask()
            except StorageError as error:
                self._wait_out(error)
            else:
                self._trouble.over(_ASKER)
                return

    def _enter(
        self, storage: Storage, owner: Callable[[], OwnerInfo], status: Callable[[], OwnerStatus]
    ) -> bool:
        while not self._is_over():
            try:
                if storage.enter(owner(), status()):
                    self._trouble.over(_ASKER)
                    return True
            except StorageError as error:
                self._wait_out(error)
                continue
            self._trouble.over(_ASKER)
            if not self.has_stood_by:
                self._emit(StandingBy(storage.url))
                self.has_stood_by = True
            self._pause(STANDBY_LOOK)
        return False

    def _wait_out(self, error: StorageError) -> None:
        """Pause before the next try. Raises the error when trying again would be in vain."""
        if isinstance(error, OwnerLost) or not isinstance(error, self._outlived):
            raise error
        self._trouble.met(_ASKER, error, START_PAUSE)
        self._pause(START_PAUSE)

    def _pause(self, time: Micros) -> None:
        """Let signals in while waiting."""
        end = self._loop.monotonic() + time
        while not self._is_over() and (rest := end - self._loop.monotonic()) > 0:
            self._loop.turn(rest)
