"""The supervisor's event loop: descriptors, timers, signals, and calls handed over by other threads."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import cast

from .clock import Clock
from .durations import Micros

Callback = Callable[[], None]
Watch = tuple[Callback | None, Callback | None]  # what reads, what writes
_SECOND = 1_000_000
_FEW_TIMERS = 64
_FD_SETSIZE = 1024  # descriptors that select(2) knows: a client may have more open before it has a loop


class LoopTimer:
    """One call in the future; `cancel` forgets it."""

    __slots__ = ("callback", "is_exact", "order", "when")

    def __init__(self, when: Micros, order: int, callback: Callback, *, is_exact: bool) -> None:
        self.when = when
        self.is_exact = is_exact
        self.order = order
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None

    def __lt__(self, other: LoopTimer) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class EventLoop:
    """One thread's loop. An exception of a callback ends `run`: nothing is swallowed here."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        # Without `selectors`: what it does beside the system call costs more than the system call.
        self._epoll = select.epoll()
        self._watches: dict[int, Watch] = {}  # by descriptor
        self._timers: list[LoopTimer] = []
        self._most_timers = _FEW_TIMERS  # so many, and the cancelled ones among them are thrown out
        self._order = itertools.count()
        self._soon: deque[Callback] = deque()
        self._handed: deque[Callback] = deque()  # by other threads
        self._running = False
        self._old_handlers: dict[int, object] = {}
        self._signal_calls: dict[int, Callback] = {}
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._bell_lock = threading.Lock()  # no other file must get the number while somebody rings
        self._signal_out, self._signal_in = socket.socketpair()
        self._signal_out.setblocking(False)
        self._signal_in.setblocking(False)
        self.watch(self._bell, read=self._take_handed)
        self.watch(self._signal_out.fileno(), read=self._take_signals)

    # --- what executors and the supervisor use ------------------------------------------------------

    def now(self) -> Micros:
        return self.clock.now()

    def monotonic(self) -> Micros:
        return self.clock.monotonic()

    def watch(self, fd: int, *, read: Callback | None, write: Callback | None = None) -> None:
        """Call back while `fd` is ready; replaces an earlier watch of it."""
        events = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
        if fd in self._watches:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watches[fd] = (read, write)

    def unwatch(self, fd: int) -> None:
        """Stop watching; does nothing when it is not watched."""
        if self._watches.pop(fd, None) is not None:
            try:  # noqa: SIM105 - `suppress` costs as much as the system call
                self._epoll.unregister(fd)
            except OSError:  # it was closed before
                pass

    def after(self, delay: Micros, callback: Callback, *, is_exact: bool = False) -> LoopTimer:
        """Call back once, `delay` microseconds of monotonic time from now; or up to a millisecond later.

        So much later are those that are not `is_exact`: what is due at about the same time wakes us once.
        """
        when = self.clock.monotonic() + max(0, delay)
        timer = LoopTimer(when, next(self._order), callback, is_exact=is_exact)
        heapq.heappush(self._timers, timer)
        if len(self._timers) > self._most_timers:
            self._forget_cancelled()
        return timer

    def soon(self, callback: Callback) -> None:
        """Call back in the next turn."""
        self._soon.append(callback)

    def hand_over(self, callback: Callback) -> None:
        """Call back on this loop's thread; the one method that any thread may call.

        What comes after `close` is dropped: from a thread that hung, and was left behind.
        """
        with self._bell_lock:
            if self._bell >= 0:
                self._handed.append(callback)
                os.eventfd_write(self._bell, 1)

    def on_signal(self, number: int, callback: Callback) -> None:
        """Call back, on the loop, for each delivery of this signal. The loop must live in the main thread."""
        self._signal_calls[number] = callback
        signal.set_wakeup_fd(self._signal_in.fileno(), warn_on_full_buffer=False)
        self._old_handlers.setdefault(number, signal.signal(number, _noted))

    @property
    def has_work(self) -> bool:
        """Whether a turn would call something at this moment; descriptors of others do not count."""
        return bool(self._soon or self._handed) or self.rest() == 0

    def rest(self) -> Micros | None:
        """How long until the next timer is due; None: there is none."""
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        return max(0, self._timers[0].when - self.clock.monotonic()) if self._timers else None

    def run(self) -> None:
        """Serve until `stop`."""
        self._running = True
        while self._running:
            self.turn()

    def stop(self) -> None:
        """Let `run` return after the present turn."""
        self._running = False

    def turn(self, longest: Micros | None = None) -> None:
        """One turn: wait for something (at most `longest`), then call whatever is due."""
        found = self._epoll.poll(self._wait(self._patience(longest)), len(self._watches))
        for fd, events, watch in [(fd, events, self._watches.get(fd)) for fd, events in found]:
            self._call_ready(fd, events, watch)
        self._call_timers()
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def close(self) -> None:
        """Give back signals and descriptors."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, cast("signal.Handlers", handler))
        if self._old_handlers:
            signal.set_wakeup_fd(-1)
        self._epoll.close()
        with self._bell_lock:
            os.close(self._bell)
            self._bell = -1
        self._signal_in.close()
        self._signal_out.close()

    # --- inside ------------------------------------------------------------------------------------

    def _wait(self, patience: float | None) -> float | None:
        """Wait for an exact timer; gives how long epoll is to wait, which rounds up to milliseconds."""
        is_exact = bool(self._timers) and self._timers[0].is_exact
        if not patience or not is_exact or self._epoll.fileno() >= _FD_SETSIZE:
            return patience
        select.select((self._epoll,), (), (), patience)
        return 0

    def _patience(self, longest: Micros | None) -> float | None:
        if self._soon:  # what others hand over rings the bell: a look at it here would spin until it rings
            return 0
        waits = [each for each in (longest, self.rest()) if each is not None]
        return min(waits) / _SECOND if waits else None

    def _forget_cancelled(self) -> None:
        """A timeout of an hour that was cancelled after a second must not lie here for an hour."""
        self._timers[:] = [timer for timer in self._timers if timer.callback is not None]
        heapq.heapify(self._timers)
        self._most_timers = max(_FEW_TIMERS, 2 * len(self._timers))

    def _call_ready(self, fd: int, events: int, watch: Watch | None) -> None:
        # An earlier callback of this turn may have unwatched the descriptor, or closed it and watched
        # another file under its number: only the watch that was found ready is called.
        if watch is None or self._watches.get(fd) is not watch:
            return
        read, write = watch
        if read and events & ~select.EPOLLOUT:  # an end or an error is for both
            read()
        if write and events & ~select.EPOLLIN and fd in self._watches:
            write()

    def _call_timers(self) -> None:
        now = self.clock.monotonic()
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                callback, timer.callback = timer.callback, None
                callback()

    def _take_handed(self) -> None:
        os.eventfd_read(self._bell)
        for _ in range(len(self._handed)):
            self._handed.popleft()()

    def _take_signals(self) -> None:
        for number in self._signal_out.recv(4096):
            if number in self._signal_calls:
                self._signal_calls[number]()


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The Python-level handler: the number already lies in the wake-up socket."""
