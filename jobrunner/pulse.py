"""The supervisor's pulse: systemd hears from the loop itself that it is ready, what it does, that it lives.

    starting --Ready--> ready --Stopping--> stopping         states of sd_notify(3), told when they change
        |                 |                     |
        +-- EXTEND_TIMEOUT at each beat         +-- EXTEND_TIMEOUT at each beat
                          +-- WATCHDOG at each beat, STATUS when its words have changed

It beats on the event loop: a loop that hangs is a service that hangs, and its watchdog starts it anew. A
storage that hangs is not, since running work goes on meanwhile. Under no service manager nothing beats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from .durations import SECOND, Micros, format_duration, from_micros
from .events import (
    Event,
    Hurrying,
    NoWorkers,
    Ready,
    Reloaded,
    Reloading,
    ReloadRefused,
    Shortage,
    ShortageOver,
    StandingBy,
    Stopping,
    StorageBack,
    StorageTrouble,
    WorkersAgain,
)
from .loop import EventLoop
from .storage import OwnerStatus
from .systemd import Notifier

BEAT: Final[Micros] = 2 * SECOND  # how old STATUS may be
PATIENCE: Final[Micros] = 30 * SECOND  # asked for at each beat of a start or an end

Upcoming = Callable[[], tuple[str, Micros] | None]  # the task and instant of the next tick


class Sight(NamedTuple):
    """What is to be seen of a supervisor at one moment."""

    status: OwnerStatus
    upcoming: tuple[str, Micros] | None
    zone: str


class Pulse:
    """Tells a service manager of the events that concern it, and beats while the loop turns."""

    def __init__(self, loop: EventLoop, notifier: Notifier, look: Callable[[], Sight]) -> None:
        self._loop = loop
        self._notifier = notifier
        self._look = look
        self._unsent: dict[str, object] = {}
        self._words = ""  # the last STATUS told
        self._is_ready = False
        self._trouble = ""
        self._until: Micros | None = None  # of an end: when what runs is ended by force (monotonic)
        self._every = min(BEAT, (notifier.watchdog or BEAT * 2) // 2)

    def start(self) -> None:
        """Beat from now on, if anybody listens."""
        if self._notifier.is_heard:
            self._loop.after(self._every, self._beat)

    def hear(self, event: Event) -> None:
        """Pass on what concerns a service manager."""
        if not self._notifier.is_heard:
            return
        match event:
            case Ready():
                self._is_ready, self._trouble = True, ""
                self._tell(READY=1)
            case Reloading() | Reloaded() | ReloadRefused():
                self._reload(is_over=type(event) is not Reloading)
            case Stopping(patience=patience):
                self._until = self._loop.monotonic() + patience
                self._tell(STOPPING=1, EXTEND_TIMEOUT_USEC=PATIENCE)
            case Hurrying():
                self._until = self._loop.monotonic()
                self._tell()
            case Shortage() | ShortageOver() | NoWorkers() | WorkersAgain():
                self._tell()
            case StandingBy() | StorageTrouble() | StorageBack():
                self._trouble = _trouble(event)
                self._tell()

    def _reload(self, *, is_over: bool) -> None:
        """A reload has begun, or is over; STATUS says so when the file was refused."""
        if is_over:
            self._tell(READY=1)
        else:
            self._tell(RELOADING=1, MONOTONIC_USEC=self._loop.monotonic())

    def close(self) -> None:
        """Give the descriptor back."""
        self._notifier.close()

    def _beat(self) -> None:
        is_passing = not self._is_ready or self._until is not None
        extension = {"EXTEND_TIMEOUT_USEC": PATIENCE} if is_passing else {}
        alive = {"WATCHDOG": 1} if self._notifier.watchdog else {}
        self._tell(**extension, **alive)
        self._loop.after(self._every, self._beat)

    def _tell(self, **states: object) -> None:
        """Send these with the words of the moment, when those are new; what is not taken is sent again."""
        if not self._notifier.is_heard:
            return
        words = self._say()
        news = {"STATUS": words} if words != self._words else {}
        self._unsent = {**self._unsent, **states, **news}
        self._words = words
        if self._unsent and self._notifier.tell(self._unsent):
            self._unsent = {}

    def _say(self) -> str:
        if self._until is not None:
            return _ending(self._look().status, self._until - self._loop.monotonic())
        if not self._is_ready:
            return self._trouble or "starting"
        return _working(self._look(), self._trouble)


def _trouble(event: StandingBy | StorageTrouble | StorageBack) -> str:
    match event:
        case StandingBy():
            return f"standing by: another supervisor works on {event.storage}"
        case StorageTrouble():
            return f"trouble with the storage: {event.message}"
    return ""


def _working(sight: Sight, trouble: str) -> str:
    """For `systemctl status`: what is wrong comes first."""
    wrong = [trouble] if trouble else []
    if sight.status.trouble:
        wrong.append(f"nothing is claimed: {sight.status.trouble}")
    if sight.status.stalled:
        wrong.append(f"no worker starts in pool {', '.join(sight.status.stalled)}")
    if sight.status.config_error:
        wrong.append(f"the file was not taken, the configuration before it is in force: {_first(sight)}")
    busy = sum(sight.status.busy.values())
    return " · ".join([*wrong, f"{busy} running", _next(sight)])


def _first(sight: Sight) -> str:
    return (sight.status.config_error or "").partition("\n")[0]


def _next(sight: Sight) -> str:
    if sight.upcoming is None:
        return "nothing scheduled"
    task, at = sight.upcoming
    return f"next: {task} at {from_micros(at, ZoneInfo(sight.zone)):%a %Y-%m-%d %H:%M:%S %Z}"


def _ending(status: OwnerStatus, left: Micros) -> str:
    busy = sum(status.busy.values())
    if left < SECOND or not busy:
        return f"stopping: {busy} running are ended" if busy else "stopping"
    return f"stopping: {busy} running may finish within {format_duration(left // SECOND * SECOND)}"
