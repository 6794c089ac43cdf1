"""What the rows of a pipeline's steps say of the whole of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from ..durations import Micros
from ..model import FINAL, Run, State


class Whole(NamedTuple):
    """A pipeline, as its steps have it."""

    began: Micros | None = None  # when the first of them began
    last: Run | None = None  # the step whose attempt ended last, at the end of the whole
    culprit: Run | None = None  # the first step that failed


def is_root(run: Run) -> bool:
    """Whether this row stands for a whole pipeline."""
    return run.join is not None and run.pipeline is None


def whole_of(root: Run, rows: Iterable[Run]) -> Whole:
    """What these rows of the pipeline say; handlers are not counted, nor what stands for others."""
    steps = [each for each in rows if each.join is None and is_step(each.step)]
    over = [each for each in steps if each.state in FINAL and each.claim_no > 0]
    in_time = [each for each in over if (each.finished_at or 0) <= (root.finished_at or 0)] or over
    failed = [each for each in steps if each.state in (State.FAILED, State.EXPIRED)]
    return Whole(
        began=min((each.started_at for each in steps if each.started_at is not None), default=None),
        last=max(in_time, key=_ended, default=None),
        culprit=min(failed, key=_ended, default=None),
    )


def tells(whole: Whole, mine: Collection[str], *, is_oldest: bool) -> bool:
    """Whether a supervisor that has ended the steps `mine` is the one that tells of the end of the whole.

    Each that works on the storage answers this from the same rows: the one that ended the last step tells; of
    a pipeline without any attempt, the oldest.
    """
    return is_oldest if whole.last is None else whole.last.id in mine


def is_step(place: str | None) -> bool:
    """Whether this is the place of a step, and not of a handler (`2.f1`): the whole ends with its steps."""
    return (place or "").replace(".", "").isdigit()


def _ended(run: Run) -> tuple[Micros, int]:
    return run.finished_at or 0, run.seq
