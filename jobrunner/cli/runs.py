"""Runs as tables and pages, and `jobrunner history`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import click

from jobrunner.catalogue import Entry
from jobrunner.client import nearest
from jobrunner.durations import format_duration
from jobrunner.errors import AmbiguousRun, NotFound
from jobrunner.ids import short_id
from jobrunner.model import Attempt, Run, State, Trigger
from jobrunner.storage import RunFilter

from .command import TASK, command
from .documents import arguments_of, max_attempts, result_text, run_document
from .moments import past
from .screen import Cell, Screen
from .session import Session
from .words import COLOURS, SYMBOLS, last_lines, one_line, standing

HEADER: Final = ("", "RUN", "TASK", "RESULT", "TRIGGER", "WHEN", "TOOK", "TRIES")
ERROR_LINES: Final = 20


@command("history")
@click.argument("task", type=TASK, required=False)
@click.option("--since", metavar="TIME", help="Enqueued at or after: 7d, 2h, 2026-11-23, 'today 02:30'.")
@click.option("--until", metavar="TIME", help="Enqueued before.")
@click.option("--state", "states", multiple=True, type=click.Choice([each.value for each in State]))
@click.option("--trigger", "triggers", multiple=True, type=click.Choice([each.value for each in Trigger]))
@click.option(
    "-n", "limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many at most."
)
@click.pass_obj
def history_command(
    session: Session,
    *,
    task: str | None,
    since: str | None,
    until: str | None,
    states: Sequence[str],
    triggers: Sequence[str],
    limit: int,
) -> int:
    """List runs, newest first: all, or those of one TASK."""
    zone, now = session.zone(), session.now()
    which = RunFilter(
        tasks=() if task is None else (task,),
        states=tuple(State(each) for each in states),
        triggers=tuple(triggers),
        since=None if since is None else past(since, "--since", now=now, zone=zone),
        until=None if until is None else past(until, "--until", now=now, zone=zone),
        limit=limit,
    )
    runs = session.storage().runs(which) if session.exists() else []
    if task is not None and not runs:
        session.entry(task)  # raises NotFound for a task that nobody knows
    screen = session.screen(zone)
    if session.json:
        screen.json([run_document(run, entry) for run, entry in with_entries(session, runs)])
    elif runs:
        write_runs(screen, runs)
    else:
        screen.line("no runs")
    return 0


def with_entries(session: Session, runs: Sequence[Run]) -> list[tuple[Run, Entry | None]]:
    """Each run with its task's entry, every entry read once."""
    known: dict[str, Entry | None] = {}
    for run in runs:
        if run.task not in known:
            known[run.task] = session.storage().entry(run.task)
    return [(run, known[run.task]) for run in runs]


# ---- tables ----------------------------------------------------------------------------------------------


def write_runs(screen: Screen, runs: Sequence[Run]) -> None:
    """One line per run."""
    screen.table(HEADER, [_row(screen, run) for run in runs], lead=1)


def _row(screen: Screen, run: Run) -> list[Cell]:
    colour = COLOURS.get(run.state)
    return [
        Cell(SYMBOLS[run.state], colour),
        Cell(shown_id(screen, run.id)),
        Cell(run.task, "bold"),
        Cell(one_line(standing(run)) + _folded(run), colour),
        Cell(run.trigger.value),
        Cell(_when(screen, run)),
        Cell(_took(run)),
        Cell(str(run.attempt) if run.attempt else ""),
    ]


def shown_id(screen: Screen, run_id: str) -> str:
    """The ending that tells runs apart on a terminal, the whole id in a pipe."""
    return short_id(run_id) if screen.tty else run_id


def _folded(run: Run) -> str:
    count = json.loads(run.detail).get("count", 1) if run.detail else 1
    return f" x {count}" if count > 1 else ""


def _when(screen: Screen, run: Run) -> str:
    if run.state in (State.SCHEDULED, State.RETRYING):
        return screen.coming(run.due_at)
    if run.state is State.SKIPPED:
        return screen.past(run.tick or run.due_at)
    return screen.past(run.finished_at or run.started_at or run.due_at)


def _took(run: Run) -> str:
    if run.started_at is None or run.finished_at is None:
        return "—"
    return format_duration(max(0, run.finished_at - run.started_at))


# ---- the page of one run ---------------------------------------------------------------------------------


def show_run(session: Session, run: Run) -> None:
    """`show RUN`: all that its row says, and its attempts."""
    entry, attempts = session.storage().entry(run.task), session.storage().attempts(run.id)
    screen = session.screen(session.zone())
    members = _members(session, run)
    if session.json:
        document = run_document(run, entry, attempts)
        if run.join is not None:
            document["steps"] = [run_document(each, known) for each, known in with_entries(session, members)]
        screen.json(document)
        return
    screen.facts(_facts(screen, run, entry, members))
    if members:
        from .tree import write_tree

        screen.line()
        write_tree(screen, members)
    if len(attempts) > 1:
        screen.line()
        screen.table(
            ("TRY", "OUTCOME", "STARTED", "TOOK", "PID"), [_attempt_row(screen, a) for a in attempts]
        )
    if run.error and run.join is not None:
        screen.line(screen.text(f"\nfailed: {run.error}"))
    elif run.error:
        screen.line()
        screen.line(screen.text("\n".join(last_lines(run.error, ERROR_LINES) if screen.tty else [run.error])))


def _members(session: Session, run: Run) -> list[Run]:
    """What belongs to a pipeline, in the order of its steps; nothing for another run."""
    if run.join is None or run.pipeline is not None:
        return []
    from .tree import MOST, in_order

    rows = session.storage().runs(RunFilter(pipeline=run.id, limit=MOST))
    return in_order([each for each in rows if each.id != run.id])


def _steps(members: Sequence[Run]) -> str:
    if not members:
        return ""
    from .tree import progress

    done, known = progress(members)
    return f"{done}/{known} over"


def _facts(screen: Screen, run: Run, entry: Entry | None, members: Sequence[Run]) -> dict[str, str]:
    most = max_attempts(run, entry)
    args, kwargs = arguments_of(run)
    facts = {
        "run": run.id,
        "task": run.task,
        "state": screen.paint(f"{SYMBOLS[run.state]} {run.state.value}", COLOURS.get(run.state)),
        "result": "" if run.state.value == standing(run) else one_line(standing(run)) + _folded(run),
        "steps": _steps(members),
        "pipeline": ""
        if run.pipeline is None
        else f"step {run.step} of {run.pipeline_name} ({run.pipeline})",
        "unique": "" if run.unique is None else run.unique.partition(":")[2],
        "trigger": run.trigger.value,
        "tick": "" if run.tick is None else screen.past(run.tick),
        "enqueued": screen.past(run.created_at),
        "due": screen.coming(run.due_at) if run.due_at > screen.now else screen.past(run.due_at),
        "started": "" if run.started_at is None else screen.past(run.started_at),
        "finished": "" if run.finished_at is None else screen.past(run.finished_at),
        "took": "" if _took(run) == "—" else _took(run),
        "attempt": _attempts(run, most),
        "arguments": _arguments(args, kwargs),
        "priority": str(run.priority),
        "pool": run.pool,
        "where": f"pid {run.pid} on {run.host}" if run.pid is not None else "",
        "value": screen.text(result_text(run) or "").rstrip("\n"),
        "detail": _detail(run),
    }
    return {name: value for name, value in facts.items() if value}


def _attempts(run: Run, most: int | None) -> str:
    if run.join is not None:
        return ""
    return f"{run.attempt} of {most}" if most and run.attempt <= most else str(run.attempt)


def _arguments(args: object, kwargs: object) -> str:
    shown = [json.dumps(each, ensure_ascii=False) for each in (args, kwargs) if each]
    return one_line(" ".join(shown))


def _detail(run: Run) -> str:
    detail = json.loads(run.detail) if run.detail else {}
    if "retry_of" in detail:
        return f"repeats run {detail['retry_of']}"
    if "kept" in detail:
        return f"kept from run {detail['kept']}"
    if "holder" in detail:
        return f"run {detail['holder']} was in its way"
    told = [f"stands for {detail['count']} ticks"] if "count" in detail else []
    if "pause" in detail:
        pause = detail["pause"]
        told.append(f"paused by {pause['by'] or 'somebody'}: {pause['reason'] or 'no reason given'}")
    return "; ".join([*told, *([str(detail["why"])] if "why" in detail else [])])


def _attempt_row(screen: Screen, attempt: Attempt) -> list[Cell]:
    took = "—"
    if attempt.started_at is not None and attempt.ended_at is not None:
        took = format_duration(max(0, attempt.ended_at - attempt.started_at))
    return [
        Cell(str(attempt.number)),
        Cell(one_line(attempt.outcome or "running"), "green" if attempt.outcome == "ok" else None),
        Cell("" if attempt.started_at is None else screen.past(attempt.started_at)),
        Cell(took),
        Cell("" if attempt.pid is None else str(attempt.pid)),
    ]


# ---- which runs are meant --------------------------------------------------------------------------------


def runs_meant(session: Session, target: str, *, states: tuple[State, ...], limit: int) -> list[Run]:
    """The run with this id, or else the latest runs of this task in these states.

    Raises NotFound when neither is there.
    """
    if not session.exists():
        raise NotFound(f"no runs on {session.place()} yet", help=f"start it: {session.start_command()}")
    storage = session.storage()
    if storage.entry(target) is not None:
        return storage.runs(RunFilter(tasks=(target,), states=states, limit=limit))
    found = storage.runs(RunFilter(tasks=(target,), states=states, limit=limit))
    return found or [one_run(session, target)]


def one_run(session: Session, target: str) -> Run:
    """The run of this id. Raises AmbiguousRun, or NotFound with the nearest names of tasks."""
    try:
        return session.storage().run(target)
    except AmbiguousRun:
        raise
    except NotFound:
        catalogue = session.published()
        near = nearest(target, catalogue.tasks if catalogue else ())
        raise NotFound(
            f"no task or run {target!r}", help=near or "jobrunner list, jobrunner history"
        ) from None
