"""`jobrunner show`: a task's settings and where each comes from, or one run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import click

from jobrunner.catalogue import Entry
from jobrunner.durations import DAY, HOUR, MINUTE, SECOND, WEEK, Micros
from jobrunner.errors import AmbiguousRun, NotFound
from jobrunner.model import Run
from jobrunner.storage import RunFilter

from .command import TASK_OR_RUN, command
from .documents import Document, run_document
from .runs import one_run, show_run, write_runs
from .screen import Cell, Screen
from .session import Session
from .status import Look, look_at
from .words import one_line, rfc3339

if TYPE_CHECKING:
    from jobrunner.config.effective import Setting

DURATIONS: Final = frozenset(
    {"timeout", "kill_after", "expires", "catch_up_window", "jitter", "delay", "max_delay", "keep"}
)
SHARES: Final = frozenset({"retries"})  # keys whose own `jitter` is a share and no duration
UNITS: Final = ((WEEK, "w"), (DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"))
LAST_RUNS: Final = 5


@command("show")
@click.argument("target", metavar="TASK|RUN", type=TASK_OR_RUN)
@click.pass_obj
def show_command(session: Session, *, target: str) -> int:
    """Show the settings of a TASK in force and where each comes from, or a RUN with its attempts."""
    past = [] if _is_known(session, target) or _is_in_file(session, target) else _past(session, target)
    if past:
        _show_past(session, target, past)
        return 0
    run = None if _is_known(session, target) else _run(session, target)
    if run is not None:
        show_run(session, run)
    else:
        _show_task(session, target)
    return 0


def _past(session: Session, task: str) -> list[Run]:
    """The last runs of a task that is no more."""
    return session.storage().runs(RunFilter(tasks=(task,), limit=LAST_RUNS)) if session.exists() else []


def _show_past(session: Session, task: str, runs: list[Run]) -> None:
    screen = session.screen(session.zone())
    if session.json:
        last = run_document(runs[0], None)
        screen.json({"name": task, "file": None, "settings": [], "next_at": None, "last_run": last})
        return
    screen.line(f"{task} is not in the file any more. Its last runs; jobrunner why {task} tells more:")
    write_runs(screen, runs)


def _is_known(session: Session, target: str) -> bool:
    return session.entry_or_none(target) is not None


def _run(session: Session, target: str) -> Run | None:
    """The run of this id; None when the target can only be a task of the file."""
    if not session.exists():
        return None
    try:
        return one_run(session, target)
    except AmbiguousRun:
        raise
    except NotFound:
        if not _is_in_file(session, target):
            raise
        return None


def _is_in_file(session: Session, target: str) -> bool:
    from .files import plan_of

    plan = plan_of(session) if session.has_file() else None
    return plan is not None and (target in plan.tasks or target in plan.pipelines)


# ---- a task ----------------------------------------------------------------------------------------------


def _show_task(session: Session, task: str) -> None:
    settings = _settings(session, task)
    look = look_at(session.storage(), session.now(), task=task) if session.exists() else None
    screen = session.screen(session.zone())
    if session.json:
        screen.json(_document(session, task, settings, look))
        return
    rows = [_row(each) for each in settings if each.value is not None]
    screen.line(screen.paint(task, "bold"))
    screen.table(("KEY", "VALUE", "FROM"), rows)
    if look is not None:
        _write_runs(screen, session, look, task)


def _settings(session: Session, task: str) -> list[Setting]:
    """What the file says; a storage that is named without a file only knows what was published."""
    known = session.entry_or_none(task)
    if not session.has_file() or (known is not None and known.kind == "pipeline"):
        return _published(known or session.entry(task))
    from jobrunner.config.effective import effective

    return effective(session.config_file(), task, environ=session.environ)


def _published(entry: Entry) -> list[Setting]:
    from jobrunner.config.effective import Setting

    values: Mapping[str, object] = {
        "description": entry.description,
        "args": list(entry.args),
        "kwargs": dict(entry.kwargs),
        "schedule": entry.schedule,
        "steps": _steps(entry),
        "timeout": entry.timeout,
        "unique": entry.unique,
        "pool": entry.pool or None,
        "priority": entry.priority,
        "expires": entry.expires,
        "enabled": entry.enabled,
    }
    return [Setting(key=key, value=value, origin="published") for key, value in values.items()]


def _steps(entry: Entry) -> object:
    """The steps of a pipeline, as a file would name them."""
    if entry.composition is None:
        return None
    from jobrunner.composition import from_text, outline

    return outline(from_text(entry.composition).steps)


def _row(setting: Setting) -> list[Cell]:
    said = setting.origin != "default"
    return [
        Cell(setting.key, "bold" if said else None),
        Cell(one_line(shown(setting.key, setting.value))),
        Cell(setting.origin, None if said else "dim"),
    ]


def shown(key: str, value: object) -> str:
    """A value as it would be typed: durations with their unit, texts as they are, the rest as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(_readable(key, value, as_text=True), ensure_ascii=False).strip('"')


def _readable(key: str, value: object, *, as_text: bool) -> object:
    if key in DURATIONS and isinstance(value, int) and not isinstance(value, bool):
        return _typed(value) if as_text else value / SECOND
    if isinstance(value, Mapping):
        inside = {name: (name, each) for name, each in value.items()}
        if key in SHARES:
            inside["jitter"] = ("share", value.get("jitter"))
        return {name: _readable(inner, each, as_text=as_text) for name, (inner, each) in inside.items()}
    return value


def _typed(duration: Micros) -> str:
    """`1h30m`, as a file writes it."""
    parts, rest = [], duration
    for size, unit in UNITS:
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join([*parts, *([f"{rest / 1000:g}ms"] if rest else [])]) or "0s"


def _document(session: Session, task: str, settings: list[Setting], look: Look | None) -> Document:
    entry = look.entry(task) if look else None
    last = look.overview.tasks[0].last if look and look.overview.tasks else None
    return {
        "name": task,
        "file": session.config_file() if session.has_file() else None,
        "settings": [
            {"key": s.key, "value": _readable(s.key, s.value, as_text=False), "origin": s.origin}
            for s in settings
        ],
        "schedule_text": entry.schedule_text if entry else None,
        "next_at": rfc3339(look.next_at(entry)) if look and entry else None,
        "last_run": run_document(last, entry) if last else None,
    }


def _write_runs(screen: Screen, session: Session, look: Look, task: str) -> None:
    entry = look.entry(task)
    at = look.next_at(entry) if entry else None
    if entry is not None and at is not None:
        screen.line(f"\n{one_line(entry.schedule_text)}; next: {screen.coming(at)}")
    runs = session.storage().runs(RunFilter(tasks=(task,), limit=LAST_RUNS))
    if runs:
        screen.line()
        write_runs(screen, runs)
