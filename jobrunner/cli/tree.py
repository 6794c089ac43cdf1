"""The runs of a pipeline as a tree: `show RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from jobrunner.durations import format_duration
from jobrunner.model import Run, State, Trigger

from .runs import shown_id
from .screen import Cell, Screen
from .words import COLOURS, SYMBOLS, one_line, standing

MOST: Final = 100_000  # rows of one pipeline
HEADER: Final = ("", "STEP", "TASK", "RESULT", "TOOK", "TRIES", "RUN")


def write_tree(screen: Screen, members: Sequence[Run]) -> None:
    """One line for each row of a pipeline below its root, as deep as it stands."""
    screen.table(HEADER, [_row(screen, run) for run in in_order(members)], lead=1)


def in_order(members: Sequence[Run]) -> list[Run]:
    """By place: members behind the block that stands for them, handlers behind the members."""
    return sorted(members, key=lambda run: [_rank(part) for part in (run.step or "").split(".")])


def _rank(part: str) -> tuple[int, int, str]:
    return (0, int(part), "") if part.isdigit() else (1, 0, part)


def progress(members: Sequence[Run]) -> tuple[int, int]:
    """How many of the steps known so far are over, and how many there are."""
    steps = [run for run in members if run.join is None and run.trigger is Trigger.PIPELINE]
    return sum(run.state.is_final for run in steps), len(steps)


def _row(screen: Screen, run: Run) -> list[Cell]:
    colour = COLOURS.get(run.state)
    step = run.step or ""
    called = " (on failure)" if "f" in step else " (on success)" if "s" in step else ""
    return [
        Cell(SYMBOLS[run.state], colour),
        Cell("  " * step.count(".") + step),
        Cell(run.task + called, "bold"),
        Cell(one_line(standing(run)), colour),
        Cell(_took(run)),
        Cell(str(run.attempt) if run.attempt else ""),
        Cell(shown_id(screen, run.id)),
    ]


def _took(run: Run) -> str:
    if run.join is not None or run.started_at is None or run.finished_at is None:
        return ""
    return format_duration(max(0, run.finished_at - run.started_at))


def is_open_root(run: Run) -> bool:
    """Whether it is a pipeline that is not over: shown as running."""
    return run.state is State.WAITING and run.join is not None and run.pipeline is None
