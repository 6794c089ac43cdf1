"""Processes that outlived the command, or the supervisor, that they belong to: found, ended, seen gone."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Final, NamedTuple, Protocol

from ..clock import SystemClock
from ..durations import MILLISECOND, SECOND, Micros
from ..machine import boot_id, is_alive
from .family import Mark, Process, living, mark_of, process, processes, relatives, send, wait_for_exit
from .journal import Journal, Past

_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)
_MOST_PIDS: Final = 65536  # bytes of one read of a list of children
_SURELY_ALL: Final = 2048  # bytes: a list that goes on is broken off where a page is full, not before

GRACE: Micros = SECOND // 2  # from TERM to KILL for what a dead supervisor left (recovery has 2 s in all)
PATIENCE: Micros = SECOND  # after KILL: what is alive then cannot be ended now
UNCLAIMED: Micros = 10 * SECOND  # a dead child that nobody collected so long was given to us by the kernel


def become_subreaper() -> None:
    """Let the kernel give the orphans of commands to this process instead of to init, so that they are found.

    Raises OSError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# --- orphans of commands --------------------------------------------------------------------------------


class Orphans:
    """Children of this process that it did not start: the kernel gave them to it when their parents died.

    When a command has ended, every process that it left has an ancestor among them, for children are handed
    on before an exit is told. So one look at a short list says that nothing is left, which is the usual case.
    """

    def __init__(self) -> None:
        self._origins: dict[int, tuple[int, str]] = {}  # pid: session and run, at first sight
        self._dead_since: dict[int, Micros] = {}
        try:
            self._children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a kernel without this list
            self._children = -1

    def close(self) -> None:
        if self._children >= 0:
            os.close(self._children)
            self._children = -1

    def of(self, session: int, run_id: str, own: Collection[int]) -> list[int]:
        """The living ones that belong to this command. `own`: the pids of commands that were started here."""
        origins = ((pid, self._origin(pid)) for pid in self._look(own))
        mine = [pid for pid, (found, run) in origins if found == session or run == run_id]
        return [pid for pid in mine if (each := process(pid)) is not None and not each.is_dead]

    def collect_dead(self, own: Collection[int], now: Micros) -> None:
        """Collect those that ended. Others collect what they started as soon as it ends, so: patience.

        By pid: waiting for any child would take the exit status of a command or a worker from its owner.
        """
        dead = [pid for pid in self._look(own) if (found := process(pid)) is not None and found.is_dead]
        self._dead_since = {pid: self._dead_since.get(pid, now) for pid in dead}
        for pid, since in self._dead_since.items():
            if now - since >= UNCLAIMED:
                with suppress(ChildProcessError):
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)

    def _look(self, own: Collection[int]) -> list[int]:
        others = [pid for pid in self._pids() if pid not in own]
        if self._origins:
            self._origins = {pid: self._origins[pid] for pid in others if pid in self._origins}
        return others

    def _pids(self) -> list[int]:
        if self._children < 0:
            return [each.pid for each in processes().values() if each.parent == os.getpid()]
        raw = part = os.pread(self._children, _MOST_PIDS, 0)
        while len(part) > _SURELY_ALL:  # the kernel gives a page at a time
            part = os.pread(self._children, _MOST_PIDS, len(raw))
            raw += part
        return [int(pid) for pid in raw.split()]

    def _origin(self, pid: int) -> tuple[int, str]:
        if pid not in self._origins:
            found = process(pid)
            self._origins[pid] = (0 if found is None else found.session, mark_of(pid).run_id)
        return self._origins[pid]


# --- what a dead supervisor left ------------------------------------------------------------------------


class Leftovers(NamedTuple):
    """What became of the leftovers of dead supervisors."""

    processes: int  # how many were ended
    alive: set[str]  # the ids of runs of which a process could not be ended
    begun: set[str]  # the ids of runs that a journal knows as started


def end_leftovers(journal: Journal, owners_dead: set[str], *, clock: Now | None = None) -> Leftovers:
    """End every process of these dead owners, TERM first, and see them gone; takes 1.5 s at most.

    They are found by the journals of dead supervisors (pid, start time and boot) and by the marks in their
    environment. Children that were left to live on, as `leftovers: keep` allows, are spared.
    """
    pasts = journal.past()
    search = _Search(pasts, owners_dead)
    ended, left = end_all(search.find, (TERM, KILL), clock or SystemClock())
    for past in pasts:
        if not past.owners & owners_dead and not any(_is_open(past, each) for each in left):
            journal.forget(past)
    begun = {run for past in pasts for run, owner in past.begun.items() if owner in owners_dead}
    return Leftovers(ended, {search.run_of(each) for each in left} - {""}, begun)


class Now(Protocol):
    """A clock, as far as it is needed here; the loop is one too."""

    def monotonic(self) -> Micros: ...


class Outcome(NamedTuple):
    """How many processes were ended, and which ones could not be."""

    ended: int
    left: list[Process]


class _Search:
    """Looks for what belongs to dead owners."""

    def __init__(self, pasts: list[Past], owners_dead: set[str]) -> None:
        here = boot_id()
        self.open = [spawn for past in pasts if past.boot == here for spawn in past.open.values()]
        self.owners = owners_dead | {spawn.owner for spawn in self.open}
        self.kept = {run for past in pasts for run in past.kept}

    def find(self) -> list[Process]:
        """Everything of theirs that lives."""
        if not self.owners:
            return []
        # A session is known by its leader: once that is gone, its number may be another session's.
        sessions = {spawn.pid for spawn in self.open if is_alive(spawn.pid, spawn.start)}
        return relatives(sessions, self._belongs)

    def run_of(self, each: Process) -> str:
        """The run that it belongs to; "" when nothing tells."""
        by_session = {spawn.pid: spawn.run_id for spawn in self.open}
        return mark_of(each.pid).run_id or by_session.get(each.session, "")

    def _belongs(self, mark: Mark) -> bool:
        return mark.owner in self.owners and mark.run_id not in self.kept


def _is_open(past: Past, each: Process) -> bool:
    return any(spawn.pid in (each.pid, each.session) for spawn in past.open.values())


class Phase(NamedTuple):
    """What is sent, and how long its effect is waited for."""

    signals: tuple[signal.Signals, ...]
    patience: Micros


TERM: Final = Phase((signal.SIGTERM, signal.SIGCONT), GRACE)  # a stopped process takes TERM when it goes on
KILL: Final = Phase((signal.SIGKILL,), PATIENCE)
_LOOK: Final = 50 * MILLISECOND


def end_all(find: Callable[[], list[Process]], phases: Iterable[Phase], clock: Now) -> Outcome:
    """End what `find` gives, and what it gives when that is gone; blocks."""
    family = find()
    met = set(family)
    for phase in phases:
        end = clock.monotonic() + phase.patience
        told: set[Process] = set()
        while family and clock.monotonic() < end:
            for each in set(family) - told:  # once: a second TERM may mean "at once" to a program
                send(each, *phase.signals)
            told.update(family)
            wait_for_exit(family, min(_LOOK, end - clock.monotonic()))
            family = list(living(family)) or find()
            met.update(family)
    return Outcome(len(met) - len(family), family)
