"""`jobrunner status`: is it running, what runs, what failed, what is next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import click

from jobrunner.catalogue import Catalogue, Entry
from jobrunner.durations import Micros
from jobrunner.errors import NoSupervisor
from jobrunner.model import State
from jobrunner.storage import Overview, Pause, Storage, Supervisor, TaskSummary
from jobrunner.storage.pausing import pause_of

from .command import TASK, command
from .session import Session, zone_named

NOBODY = NoSupervisor.exit_code
WATCH_SECONDS = 1.0


class Look(NamedTuple):
    """Everything that one look at the storage found."""

    url: str
    now: Micros
    supervisors: list[Supervisor]
    catalogue: Catalogue | None
    overview: Overview
    pauses: list[Pause]
    next_ticks: Mapping[str, Micros | None]

    @property
    def alive(self) -> list[Supervisor]:
        return [each for each in self.supervisors if each.alive]

    def entry(self, task: str) -> Entry | None:
        return self.catalogue.tasks.get(task) if self.catalogue else None

    def pause_of(self, entry: Entry) -> Pause | None:
        """The pause that holds a task back: its own, its pool's, or everybody's."""
        return pause_of(self.pauses, entry, self.now)

    def next_at(self, entry: Entry) -> Micros | None:
        known = (self.next_ticks.get(key) for key in entry.schedules)
        return min((at for at in known if at is not None), default=None)

    def is_failing(self, summary: TaskSummary) -> bool:
        """The latest run that came to an end by itself failed; a cancelled one since then changes nothing."""
        ended = (state for state, _ in reversed(summary.recent) if state in (State.SUCCEEDED, State.FAILED))
        return next(ended, None) is State.FAILED


def look_at(storage: Storage, now: Micros, *, task: str | None = None) -> Look:
    """One look; with a task, at this one alone."""
    return Look(
        url=storage.url,
        now=now,
        supervisors=storage.supervisors(now),
        catalogue=storage.catalogue(),
        overview=storage.overview(now, tasks=None if task is None else (task,)),
        pauses=storage.pauses(now),
        next_ticks=storage.next_ticks(),
    )


@command("status")
@click.argument("task", type=TASK, required=False)
@click.option("--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@click.option("--failing", is_flag=True, help="Only tasks whose last run failed.")
@click.pass_obj
def status_command(session: Session, *, task: str | None, watch: bool, failing: bool) -> int:
    """Show the supervisor, the queue and every task, or one TASK with its last output.

    Exit code 3: no supervisor is alive.
    """
    if watch:
        return _watch(session, task, failing=failing)
    return _show(session, task, failing=failing)


def _show(session: Session, task: str | None, *, failing: bool, watch: bool = False) -> int:
    if not session.exists():
        return _nothing_yet(session, watch=watch)
    look = look_at(session.storage(), session.now(), task=task)
    if task is not None and look.entry(task) is None and not _has_runs(look, task):
        from jobrunner.client import unknown_task

        raise unknown_task(task, look.catalogue.tasks if look.catalogue else ())
    if session.json:
        from .status_document import status_document

        session.screen().json(status_document(look, failing=failing), one_line=watch)
    else:
        _write(session, look, task, failing=failing)
    return 0 if look.alive else NOBODY


def _write(session: Session, look: Look, task: str | None, *, failing: bool) -> None:
    from .overview import write_status, write_task

    zone = zone_named(look.catalogue.timezone) if look.catalogue else None
    screen = session.screen(zone)
    if task is not None:
        write_task(screen, session, look, task)
    else:
        write_status(screen, session, look, failing=failing)


def _has_runs(look: Look, task: str) -> bool:
    return any(
        each.task == task and (each.last or each.queued or each.running) for each in look.overview.tasks
    )


def _watch(session: Session, task: str | None, *, failing: bool) -> int:
    from threading import Event

    screen, pause = session.screen(), Event()
    while True:
        if screen.tty and not session.json:
            screen.stream.write("\x1b[H\x1b[2J")
        _show(session, task, failing=failing, watch=True)
        screen.stream.flush()
        pause.wait(WATCH_SECONDS)


def _nothing_yet(session: Session, *, watch: bool) -> int:
    """No storage: no supervisor has ever run here."""
    screen = session.screen()
    if session.json:
        from .status_document import empty_document

        screen.json(empty_document(session.place_url()), one_line=watch)
        return NOBODY
    screen.line(f"{screen.paint('○ stopped', 'yellow')}   no supervisor has run on {session.place()} yet")
    screen.line(f"  start it: {session.start_command()}")
    return NOBODY
