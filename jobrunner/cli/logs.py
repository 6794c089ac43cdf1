"""`jobrunner logs`: captured output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

import click

from jobrunner.durations import Micros
from jobrunner.errors import NotFound, UsageError
from jobrunner.ids import short_id
from jobrunner.machine import hostname
from jobrunner.model import Run, State
from jobrunner.output import Stream
from jobrunner.storage import RunFilter

from .command import TASK_OR_RUN, command
from .follow import Follower, JsonWriter, TextWriter, Writer, root_of
from .moments import past
from .runs import runs_meant
from .screen import say
from .session import Session

LOOK_SECONDS: Final = 0.2
LATEST: Final = 50  # looked at for one that has begun
MOST_RUNS: Final = 1000


@command("logs")
@click.argument("targets", metavar="TASK|RUN...", type=TASK_OR_RUN, nargs=-1, required=True)
@click.option("-f", "--follow", is_flag=True, help="Go on: until a RUN is final, with a TASK until Ctrl-C.")
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt; else of the latest one.")
@click.option("--failed", is_flag=True, help="Of the latest run that failed.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Stderr alone.")
@click.option("--since", metavar="TIME", help="Of all runs since then: 1h, 'today 02:30'.")
@click.pass_obj
def logs_command(
    session: Session,
    *,
    targets: Sequence[str],
    follow: bool,
    attempt: int | None,
    failed: bool,
    only_stderr: bool,
    since: str | None,
) -> int:
    """Show what the latest run of a TASK, or a RUN, wrote: bytes exact in a pipe, escaped on a terminal.

    With several runs each line begins with its task and run. --json: always JSON Lines.
    """
    start = None
    if since is not None:
        start = past(since, "--since", now=session.now(), zone=session.zone())
    states = (State.FAILED,) if failed else ()
    tasks = _tasks(session, targets) if follow else ()
    last = _newest(session, tasks)  # first: what comes from here on is followed
    runs = [run for target in targets for run in _runs(session, target, states, start, follow=follow)]
    writer: Writer = (
        JsonWriter(sys.stdout)
        if session.json
        else TextWriter(sys.stdout, prefixed=max(len(runs), len(targets)) > 1)
    )
    with ExitStack() as stack:
        view = _View(session, writer, stack, attempt=attempt, only_stderr=only_stderr)
        if follow:
            _follow(view, runs, tasks=tasks, last=last)
        else:
            for run in runs:
                view.show(run)
                _say_nothing(run, view)
    return 0


def _runs(
    session: Session, target: str, states: tuple[State, ...], since: Micros | None, *, follow: bool
) -> list[Run]:
    """Oldest first. Of a task: the latest run that has begun, or all of them since a moment.

    Raises NotFound when there is none, unless a task is followed: its first run may come.
    """
    runs = runs_meant(session, target, states=states, limit=LATEST if since is None else MOST_RUNS)
    if since is not None:
        runs = [run for run in runs if run.created_at >= since]
    else:
        runs = [run for run in runs if run.attempt][:1] or runs[:1]
    if not runs and not (follow and _tasks(session, (target,))):
        failed = " failed" if states else ""
        raise NotFound(f"{target} has no{failed} run", help=f"jobrunner history {target}")
    return runs[::-1]


def _newest(session: Session, tasks: tuple[str, ...]) -> int:
    """The number of the newest run of these tasks; 0: there is none."""
    found = session.storage().runs(RunFilter(tasks=tasks, limit=1)) if tasks else []
    return max((run.seq for run in found), default=0)


def _tasks(session: Session, targets: Sequence[str]) -> tuple[str, ...]:
    """Those of the targets that are tasks: their later runs are followed too."""
    return tuple(target for target in targets if session.storage().entry(target) is not None)


@dataclass(slots=True)
class _View:
    """What has been shown of which run."""

    session: Session
    writer: Writer
    stack: ExitStack
    attempt: int | None
    only_stderr: bool
    said: set[str] = field(default_factory=set)
    _followers: dict[str, Follower] = field(default_factory=dict)

    def show(self, run: Run) -> None:
        """Write what is new of this run."""
        for attempt, record in self._follower(run).new_records(run):
            if not self.only_stderr or record.stream is Stream.STDERR:
                self.said.add(run.id)
                self.writer.write(run, attempt, record)

    def _follower(self, run: Run) -> Follower:
        if run.id not in self._followers:
            made = Follower(root_of(self.session), run.id, attempt=self.attempt)
            self._followers[run.id] = self.stack.enter_context(made)
        return self._followers[run.id]


def _say_nothing(run: Run, view: _View) -> None:
    if run.id in view.said:
        return
    if not run.attempt:
        say(f"run {short_id(run.id)} of {run.task} has not begun: {run.state.value}")
    elif view.attempt is not None and view.attempt > run.attempt:
        raise UsageError(
            f"run {short_id(run.id)} has had {run.attempt} attempts", help="--attempt 1 is the first"
        )
    else:
        _demand_output(run)
        say(f"run {short_id(run.id)} of {run.task} wrote nothing{' to stderr' if view.only_stderr else ''}")


def _demand_output(run: Run) -> None:
    """Raises NotFound when it has written something, and that lies elsewhere."""
    elsewhere = run.host not in (None, hostname())
    if elsewhere and (run.output is not None or not run.state.is_final):
        raise NotFound(
            f"what run {short_id(run.id)} of {run.task} wrote lies on {run.host}, which ran it",
            help=f"on {run.host}: jobrunner logs {short_id(run.id)}",
        )


def _follow(view: _View, runs: list[Run], *, tasks: tuple[str, ...], last: int) -> None:
    from threading import Event

    storage, pause = view.session.storage(), Event()
    live = runs
    if not runs:
        say(f"waiting for a run of {', '.join(tasks)}")
    last = max([last, *(run.seq for run in runs)])
    while live or tasks:
        live = [storage.run(run.id) for run in live]
        for run in live:
            view.show(run)
        live = [run for run in live if not run.state.is_final]
        newer = [run for run in storage.runs(RunFilter(tasks=tasks)) if run.seq > last] if tasks else []
        live += reversed(newer)
        last = max([last, *(run.seq for run in newer)])
        if live or tasks:
            pause.wait(LOOK_SECONDS)
