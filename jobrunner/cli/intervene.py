"""`jobrunner cancel` and `jobrunner retry`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import click

from jobrunner.catalogue import Entry
from jobrunner.client import retried
from jobrunner.durations import Micros
from jobrunner.errors import NotFound, UsageError
from jobrunner.ids import new_id, short_id
from jobrunner.model import FINAL, NewRun, Run, State
from jobrunner.storage import RunFilter

from .command import TASK_OR_RUN, command
from .runs import runs_meant, with_entries
from .screen import say
from .session import Session
from .words import plural

MOST_STEPS: Final = 100_000  # rows of one pipeline
MOST: Final = 10_000  # runs touched by one command; said when there are more
LIVE: Final = tuple(state for state in State if state not in FINAL)
NOT_BEGUN: Final = tuple(state for state in LIVE if state is not State.RUNNING)
UNSUCCESSFUL: Final = (State.FAILED, State.CANCELLED, State.EXPIRED)


@command("cancel")
@click.argument("target", metavar="[RUN|TASK]", type=TASK_OR_RUN, required=False)
@click.option("--queued", is_flag=True, help="Everything that has not begun (of TASK, when one is named).")
@click.pass_obj
def cancel_command(session: Session, *, target: str | None, queued: bool) -> int:
    """Cancel one RUN, all live runs of a TASK, or all that wait.

    A running command or callable is ended by TERM, then by KILL, by its supervisor.
    """
    runs = [run for run in _to_cancel(session, target, queued=queued) if not run.state.is_final]
    storage = session.storage() if runs else None
    done = storage.cancel([run.id for run in runs], session.now()) if storage else []
    cancelled = [run for run, is_done in zip(runs, done, strict=True) if is_done]
    running = [run for run in cancelled if _is_ending(session, run)]
    _report_cancelled(session, cancelled, running, target)
    return 0


def _is_ending(session: Session, run: Run) -> bool:
    """Whether its supervisor has to end it, or (a pipeline) a step of it."""
    if run.join is None:
        return run.state is State.RUNNING
    return not session.storage().run(run.id).state.is_final


def _to_cancel(session: Session, target: str | None, *, queued: bool) -> list[Run]:
    if target is None and not queued:
        raise UsageError("cancel what?", help="name a run or a task, or say --queued")
    if target is not None:
        runs = runs_meant(session, target, states=NOT_BEGUN if queued else LIVE, limit=MOST)
    else:
        runs = session.storage().runs(RunFilter(states=NOT_BEGUN, limit=MOST)) if session.exists() else []
    return [run for run in runs if not queued or _has_not_begun(session, run)]


def _has_not_begun(session: Session, run: Run) -> bool:
    """A pipeline has begun with its first step; a step that waits is not taken out of one that has."""
    if run.pipeline is not None:
        return False
    steps = session.storage().runs(RunFilter(pipeline=run.id, limit=MOST)) if run.join is not None else []
    return not any(step.claim_no for step in steps)


def _report_cancelled(session: Session, cancelled: list[Run], running: list[Run], target: str | None) -> None:
    screen = session.screen()
    if session.json:
        at_once = [run.id for run in cancelled if run not in running]
        screen.json({"cancelled": at_once, "ending": [run.id for run in running]})
        return
    for run in cancelled:
        screen.line(run.id)
    if not cancelled:
        say(f"nothing to cancel{f': {target} has no live run' if target else ''}")
    if running:
        them = "it" if len(running) == 1 else "them"
        say(f"{plural(len(running), 'run')} running: the supervisor ends {them} now")


@command("retry")
@click.argument("target", metavar="[RUN|TASK]", type=TASK_OR_RUN, required=False)
@click.option(
    "--failed", is_flag=True, help="All failed runs that were not retried yet (of TASK, when named)."
)
@click.pass_obj
def retry_command(session: Session, *, target: str | None, failed: bool) -> int:
    """Run a final RUN again, or the latest unsuccessful run of a TASK: a new run, with the same arguments.

    A pipeline goes on from its failed steps: what has succeeded keeps its result. So does it for one of its
    steps.
    """
    runs = _roots(session, _to_retry(session, target, failed=failed))
    now = session.now()
    new = [_rows(session, run, entry, now) for run, entry in with_entries(session, runs)]
    added = _added(session, new)
    done = [pair for pair, is_new in zip(zip(runs, new, strict=True), added, strict=True) if is_new]
    for run, is_new in zip(runs, added, strict=True):
        if not is_new:
            say(f"{run.task}: run {short_id(run.id)} is not done again: another run holds its unique key")
    if done or not runs:
        _report_retried(session, [run for run, _ in done], [rows[0] for _, rows in done])
    return 0 if done or not runs else 1


def _added(session: Session, new: Sequence[Sequence[NewRun]]) -> list[bool]:
    """Add the rows of these retries; whether each of them was: its key may be held by another run."""
    if not new:
        return []
    answers = iter(session.storage().add([row for rows in new for row in rows]))
    return [all([next(answers) for _ in rows][:1]) for rows in new]


def _roots(session: Session, runs: list[Run]) -> list[Run]:
    """The runs, with the pipeline in the place of its steps."""
    ids = dict.fromkeys(run.pipeline or run.id for run in runs)
    known = {run.id: run for run in runs}
    return [known.get(run_id) or session.storage().run(run_id) for run_id in ids]


def _rows(session: Session, run: Run, entry: Entry | None, now: Micros) -> Sequence[NewRun]:
    """The rows of a retry."""
    storage = session.storage()
    old = storage.runs(RunFilter(pipeline=run.id, limit=MOST_STEPS)) if run.join is not None else []
    return retried(entry, run, old, storage.entry, run_id=new_id(now), now=now)


def _to_retry(session: Session, target: str | None, *, failed: bool) -> list[Run]:
    if failed:
        return _failed(session, target)
    if target is None:
        raise UsageError("retry what?", help="name a run or a task, or say --failed")
    runs = runs_meant(session, target, states=UNSUCCESSFUL, limit=1)
    if not runs:
        raise NotFound(f"{target} has no unsuccessful run", help=f"jobrunner history {target}")
    return runs


def _failed(session: Session, target: str | None) -> list[Run]:
    """Failed runs, oldest first, without those that a later run repeats already."""
    if not session.exists():
        return []
    tasks = () if target is None else (session.entry(target).name,)
    storage = session.storage()
    repeats = storage.runs(RunFilter(tasks=tasks, triggers=("retry",), limit=MOST))
    repeated = {json.loads(run.detail).get("retry_of") for run in repeats if run.detail}
    failed = storage.runs(RunFilter(tasks=tasks, states=(State.FAILED,), limit=MOST))
    return [run for run in reversed(failed) if run.id not in repeated]


def _report_retried(session: Session, runs: list[Run], new: list[NewRun]) -> None:
    screen = session.screen()
    if session.json:
        pairs = zip(new, runs, strict=True)
        screen.json([{"id": each.id, "task": each.task, "retry_of": run.id} for each, run in pairs])
        return
    for each, run in zip(new, runs, strict=True):
        screen.line(each.id)
        say(f"{each.task}: run {short_id(run.id)} again as {short_id(each.id)}")
    if not runs:
        say("nothing to retry: no failed run is left")
    elif not session.is_supervised():
        say(f"warning: no supervisor is running. Start one: {session.start_command()}")
