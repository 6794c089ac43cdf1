"""Waiting for the end of a run, and the answer that it gives."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from jobrunner.catalogue import Entry
from jobrunner.durations import SECOND, Micros, format_duration
from jobrunner.errors import ResultTimeout
from jobrunner.ids import short_id
from jobrunner.model import Run, State
from jobrunner.storage import Storage

from .documents import result_text, run_document
from .screen import is_terminal, say
from .session import Session
from .words import several_lines, standing

_LOOK: Final[Micros] = SECOND // 5  # between two looks at a run that somebody is watching
_DIED: Final = 128  # a shell's code for a death by signal is 128 + its number


def wait_for_result(
    session: Session,
    run_id: str,
    entry: Entry | None,
    *,
    patience: Micros | None,
    exit_status: bool,
    logs: bool,
) -> int:
    """Wait, print the result on stdout, and give the exit code. Raises ResultTimeout."""
    try:
        run = _wait(session, run_id, patience, logs=logs)
    except KeyboardInterrupt:
        say(f"\nno longer waiting; the run goes on: jobrunner show {short_id(run_id)}")
        raise
    if session.json:
        session.screen().json(run_document(run, entry))
    if not run.state.is_final:
        raise ResultTimeout(
            f"run {short_id(run_id)} of {run.task} is still {run.state.value} after"
            f" {format_duration(patience or 0)}",
            help=f"it goes on: jobrunner show {short_id(run_id)}",
        )
    if not session.json:
        _print_result(run)
    return _exit_code(run, exit_status=exit_status)


def _wait(session: Session, run_id: str, patience: Micros | None, *, logs: bool) -> Run:
    storage = session.storage()
    if not logs and not is_terminal(sys.stderr):
        return storage.wait(run_id, None if patience is None else patience / SECOND)
    return _watch(session, storage, run_id, patience, logs=logs)


def _watch(session: Session, storage: Storage, run_id: str, patience: Micros | None, *, logs: bool) -> Run:
    start = session.clock.monotonic()
    line = _LiveLine(on=is_terminal(sys.stderr) and not logs)
    with ExitStack() as stack:
        show = _shower(session, run_id, stack) if logs else None
        while True:
            waited = session.clock.monotonic() - start
            rest = _LOOK if patience is None else min(_LOOK, max(0, patience - waited))
            run = storage.wait(run_id, rest / SECOND)
            if show is not None:
                show(run)
            if run.state.is_final or (patience is not None and waited + rest >= patience):
                line.clear()
                return run
            line.show(f"{run.task} {run.state.value}, {format_duration(waited // SECOND * SECOND)}")


def _shower(session: Session, run_id: str, stack: ExitStack) -> Callable[[Run], None]:
    """Shows on stderr what the run wrote since the last call."""
    from .follow import Follower, TextWriter, root_of

    follower = stack.enter_context(Follower(root_of(session), run_id))
    writer = TextWriter(sys.stderr)

    def show(run: Run) -> None:
        for attempt, record in follower.new_records(run):
            writer.write(run, attempt, record)

    return show


class _LiveLine:
    """One line on a terminal that is written again and again."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def show(self, text: str) -> None:
        if self._on:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._on:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _print_result(run: Run) -> None:
    text = result_text(run)
    if text is not None and run.state is State.SUCCEEDED:
        shown = several_lines(text) if is_terminal(sys.stdout) else text
        sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
    if run.state is not State.SUCCEEDED:
        say(f"error: run {short_id(run.id)} of {run.task}: {run.state.value}, {standing(run)}")
        error = (run.error or "").rstrip()
        if error not in ("", run.outcome):
            say(several_lines(error) if is_terminal(sys.stderr) else error)


def _exit_code(run: Run, *, exit_status: bool) -> int:
    if exit_status and run.exit_code is not None:
        return run.exit_code
    if exit_status and run.signal is not None:
        return _DIED + _number_of(run.signal)
    return 0 if run.state is State.SUCCEEDED else 1


def _number_of(name: str) -> int:
    import signal

    found = signal.Signals.__members__.get(name)
    return 0 if found is None else int(found)
