"""The status page: header, summary, one line per task; and the page of one task."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from jobrunner.catalogue import Entry
from jobrunner.durations import SECOND, Micros, format_duration, format_size
from jobrunner.ids import short_id
from jobrunner.model import Run, State
from jobrunner.place import storage_file
from jobrunner.storage import Pause, RunFilter, Supervisor, TaskSummary
from jobrunner.storage.silence import silence_before

from .screen import Cell, Screen
from .session import Session
from .words import (
    COLOURS,
    SYMBOLS,
    absolute,
    coarse,
    count,
    gist,
    how_long,
    local,
    one_line,
    plural,
    standing,
)

if TYPE_CHECKING:
    from .status import Look

HEADER: Final = ("", "TASK", "SCHEDULE", "LAST RUN", "TOOK", "LAST 20", "NEXT")
LAST_RUNS: Final = 5
LAST_LINES: Final = 10
_RETRIED: Final = "↻"


def write_status(screen: Screen, session: Session, look: Look, *, failing: bool) -> None:
    """The whole page; when nobody is alive, only how to change that."""
    if not look.alive:
        write_stopped(screen, session, look)
        return
    for supervisor in look.alive:
        silence = silence_before(supervisor.owner.id, supervisor.owner.started_at, look.supervisors)
        screen.line(_running(screen, supervisor, silence))
        if supervisor.status.untold:
            screen.line(f"  {_untold(screen, supervisor)}")
    screen.line(f"  storage   {_storage(look)}")
    screen.line(f"  {_summary(screen, look)}")
    shown = [each for each in look.overview.tasks if not failing or look.is_failing(each)]
    if shown:
        screen.line()
        screen.table(HEADER, [_row(screen, look, each) for each in shown], lead=1)
    elif failing:
        screen.line("\n  no task is failing")


def _untold(screen: Screen, supervisor: Supervisor) -> str:
    """Who was to be told of something, and could not be."""
    said = plural(supervisor.status.untold, "notification")
    why = supervisor.status.untold_because
    return screen.paint(f"✗ {said} not delivered: {one_line(why or 'tried again later')}", "red")


def write_stopped(screen: Screen, session: Session, look: Look) -> None:
    """Nobody there: since when, and what to type."""
    where = storage_file(look.url) or look.url
    head = screen.paint("○ stopped", "yellow")
    last = look.supervisors[0] if look.supervisors else None
    if last is None:
        screen.line(f"{head}   no supervisor has reported on {where} yet")
    else:
        gone = last.left_at or last.heartbeat_at
        since = f"for {_silence(look.now - gone)}" if screen.tty else f"since {absolute(gone, screen.zone)}"
        owner = f"last: pid {last.owner.pid} on {last.owner.host}"
        screen.line(f"{head}   no supervisor has reported on {where} {since} ({owner})")
    waiting = look.overview.counts.get(State.QUEUED, 0)
    if waiting:
        screen.line(f"  {plural(waiting, 'run')} queued: {'it waits' if waiting == 1 else 'they wait'}")
    screen.line(f"  start it: {session.start_command()}")


def _silence(duration: Micros) -> str:
    return format_duration(duration // SECOND * SECOND) if duration >= SECOND else "less than 1 s"


# ---- header ----------------------------------------------------------------------------------------------


def _running(screen: Screen, supervisor: Supervisor, silence: Micros | None) -> str:
    owner, status = supervisor.owner, supervisor.status
    head = screen.paint("● running", "green")
    if status.draining:
        head = screen.paint("● stopping", "yellow")
    busy = sum(status.busy.values())
    file = os.path.basename(owner.config) or "(no file)"
    before = "" if silence is None else f" after {_silence(silence)} without one"
    parts = [
        f"{file} (loaded {_loaded(screen, status.config_loaded_at)})",
        f"pid {owner.pid} on {owner.host}",
        (
            f"up {how_long(screen.now - owner.started_at)}"
            if screen.tty
            else f"up since {absolute(owner.started_at, screen.zone)}"
        )
        + before,
        f"{plural(status.workers, 'worker')}, {busy} busy",
    ]
    wrong = _config_error(screen, status.config_error) + _trouble(screen, status.trouble)
    wrong += "".join(_stalled(screen, pool, why) for pool, why in (status.stalled or {}).items())
    return f"{head}   {' · '.join(parts)}{wrong}"


def _trouble(screen: Screen, trouble: str | None) -> str:
    return f"\n  {screen.paint('✗ nothing is claimed', 'red')}: {one_line(trouble)}" if trouble else ""


def _stalled(screen: Screen, pool: str, why: str) -> str:
    words = screen.paint(f"✗ no worker of pool {pool!r} starts, its runs wait", "red")
    return f"\n  {words}: {gist(why)}"


def _config_error(screen: Screen, error: str | None) -> str:
    if not error:
        return ""
    words = screen.paint("✗ the file was not taken, the configuration before it is in force", "red")
    return f"\n  {words}: {one_line(error)}"


def _loaded(screen: Screen, at: Micros) -> str:
    if not screen.tty:
        return absolute(at, screen.zone)
    return f"{local(at, screen.zone):%H:%M}, {coarse(screen.now - at)} ago"


def _storage(look: Look) -> str:
    scheme = look.url.partition(":")[0]
    where = storage_file(look.url)
    queued = look.overview.counts.get(State.QUEUED, 0)
    oldest = look.overview.oldest_queued
    age = f" (oldest {coarse(look.now - oldest)})" if queued and oldest is not None else ""
    parts = [
        f"{scheme} {where}" if where else look.url,
        format_size(look.overview.size),
        f"{count(queued)} queued{age}",
    ]
    return " · ".join(parts)


def _summary(screen: Screen, look: Look) -> str:
    failing = sum(look.is_failing(each) for each in look.overview.tasks)
    day = look.overview.day
    parts = [
        screen.paint(f"✗ {failing} failing", "red") if failing else screen.paint("✓ none failing", "green"),
        *([screen.paint(f"{len(look.pauses)} paused", "yellow")] if look.pauses else []),
        f"24 h: {count(day.ok)} ok, {count(day.failed)} failed, {count(day.retried)} retried",
    ]
    return " · ".join(parts)


# ---- one line per task -----------------------------------------------------------------------------------


def _row(screen: Screen, look: Look, summary: TaskSummary) -> list[Cell]:
    entry = look.entry(summary.task)
    pause = look.pause_of(entry) if entry else None
    symbol, colour = _mark(summary, paused=pause is not None)
    return [
        Cell(symbol, colour),
        Cell(summary.task, "bold"),
        Cell(one_line(_schedule(entry))),
        _last_run(screen, summary),
        Cell(_took(summary)),
        Cell("".join(_beat(state, failures) for state, failures in summary.recent)),
        Cell(one_line(_next(screen, look, summary, entry, pause))),
    ]


def _mark(summary: TaskSummary, *, paused: bool) -> tuple[str, str | None]:
    if paused:
        return "‖", "yellow"
    if summary.current is not None:
        return SYMBOLS[State.RUNNING], "cyan"
    if summary.last is None:
        return "", None
    return SYMBOLS[summary.last.state], COLOURS.get(summary.last.state)


def _schedule(entry: Entry | None) -> str:
    if entry is None:
        return "unknown task"
    return entry.schedule_text or "on demand"


def _last_run(screen: Screen, summary: TaskSummary) -> Cell:
    if summary.current is not None:
        return Cell(f"● running {_so_far(screen, summary.current, summary.typical)}", "cyan")
    run = summary.last
    if run is None or run.finished_at is None:
        return Cell("never")
    when = screen.past(run.finished_at)
    words = "" if run.state is State.SUCCEEDED else f"{one_line(standing(run))}, "
    return Cell(f"{SYMBOLS[run.state]} {words}{when}", COLOURS.get(run.state))


def _so_far(screen: Screen, run: Run, typical: Micros | None) -> str:
    if run.started_at is None:
        return "(starting)"
    if not screen.tty:
        return f"since {absolute(run.started_at, screen.zone)}"
    usual = f" (~{coarse(typical).replace(' ', '')})" if typical is not None and typical >= SECOND else ""
    return f"{coarse(screen.now - run.started_at)}{usual}"


def _took(summary: TaskSummary) -> str:
    run = summary.last
    if summary.current is not None or run is None or run.started_at is None or run.finished_at is None:
        return "—"
    return format_duration(max(0, run.finished_at - run.started_at))


def _beat(state: State, failures: int) -> str:
    return _RETRIED if state is State.SUCCEEDED and failures else SYMBOLS[state]


def _next(screen: Screen, look: Look, summary: TaskSummary, entry: Entry | None, pause: Pause | None) -> str:
    if pause is not None:
        return _paused(screen, pause)
    if entry is not None and entry.blocked:
        return f"blocked: {entry.blocked}"
    if entry is not None and not entry.enabled:
        return "disabled"
    if summary.waiting_retry is not None:
        return _retry(screen, summary.waiting_retry, entry)
    if summary.queued:
        return f"{count(summary.queued)} queued"
    at = look.next_at(entry) if entry else None
    return "" if at is None else screen.coming(at)


def _paused(screen: Screen, pause: Pause) -> str:
    what = "" if pause.target.startswith("task:") else f" ({pause.target.replace(':', ' ')})"
    by = f" by {pause.by}" if pause.by else ""
    until = f", until {_clock(screen, pause.until)}" if pause.until is not None else ""
    reason = f": {pause.reason}" if pause.reason else ""
    return f"paused{what}{by}, {screen.past(pause.since)}{until}{reason}"


def _clock(screen: Screen, at: Micros) -> str:
    return screen.coming(at)


def _retry(screen: Screen, run: Run, entry: Entry | None) -> str:
    most = f"/{entry.max_attempts - 1}" if entry and entry.max_attempts > 1 else ""
    return f"retry {max(1, run.failures)}{most} {_in(screen, run.due_at)}"


def _in(screen: Screen, at: Micros) -> str:
    if not screen.tty:
        return f"at {absolute(at, screen.zone)}"
    return f"in {coarse(at - screen.now)}" if at > screen.now else "now"


# ---- the page of one task --------------------------------------------------------------------------------


def write_task(screen: Screen, session: Session, look: Look, task: str) -> None:
    """What one task does, how its last runs ended, and what the latest one said."""
    entry = look.entry(task)
    summary = next((each for each in look.overview.tasks if each.task == task), None)
    if not look.alive:
        write_stopped(screen, session, look)
        screen.line()
    if summary is not None:
        screen.table(HEADER, [_row(screen, look, summary)], lead=1)
    if entry is not None and entry.description:
        screen.line(f"\n{one_line(entry.description)}")
    runs = session.storage().runs(RunFilter(tasks=(task,), limit=LAST_RUNS))
    if runs:
        from .runs import write_runs

        screen.line()
        write_runs(screen, runs)
        _write_output(screen, session, runs)


def _write_output(screen: Screen, session: Session, runs: list[Run]) -> None:
    from .follow import last_output

    run = next((each for each in runs if each.attempt), None)
    said = last_output(session, run, LAST_LINES) if run else []
    if run is None or not said:
        return
    screen.line(f"\nlast output (run {short_id(run.id)}):")
    for line in said:
        screen.line(f"  {screen.text(line)}")
