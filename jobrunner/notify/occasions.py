"""Which occasions a run's end or a tick may be, and whether one came true: pure, values in, values out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ..durations import SECOND, Micros
from ..model import MISSED, Reason, Run, State
from ..plan import Notify, Occasion
from ..policy import LATE
from . import Notice
from .whole import Whole

UNWRITTEN: Micros = 60 * SECOND  # how long the row of a tick may take to be written
LOOK_AGAIN: Micros = SECOND
LOOK_AT_WHOLE: Micros = 5 * SECOND  # the end of each step is a reason to look at once
AFTER_EXPIRY: Micros = 2 * SECOND  # the storage ends late runs in its next turn
ENDED = (State.SUCCEEDED, State.FAILED)
NOT_WANTED_SO = MISSED | {Reason.OVERLAP, Reason.BLOCKED, Reason.LOCK_BUSY, Reason.EXPIRED}
"""Why a tick did not run against everybody's wish; pausing and disabling are somebody's wish."""

_OF_STATE: Mapping[State, tuple[Occasion, ...]] = {
    State.FAILED: (Occasion.FAILURE,),
    State.SUCCEEDED: (Occasion.RECOVERY, Occasion.SUCCESS),
    State.SKIPPED: (Occasion.MISSED,),
}


def of_end(state: State, notify: Notify, *, failing: bool) -> Iterable[Occasion]:
    """What the end of a run in this state may be told as. `failing`: its task may have failed before."""
    possible = set(_OF_STATE.get(state, ()))
    if not failing:
        possible.discard(Occasion.RECOVERY)
    return [each for each in notify.on if each in possible]


def of_whole(notify: Notify) -> Iterable[Occasion]:
    """What the end of a pipeline may be told as."""
    return [each for each in (Occasion.FAILURE, Occasion.RECOVERY, Occasion.SUCCESS) if each in notify.on]


def of_tick(notify: Notify) -> Iterable[Occasion]:
    """What a tick may be told as."""
    return [each for each in (Occasion.MISSED, Occasion.LATE) if each in notify.on]


class Judgement(NamedTuple):
    """Whether to tell; `wait`: look again after this time, None: it is settled."""

    tell: bool = False
    wait: Micros | None = None


TELL = Judgement(tell=True)
DROP = Judgement()


def judge(notice: Notice, run: Run | None, before: Run | None, *, now: Micros, mine: bool) -> Judgement:
    """Whether a notice came true.

    `before` is the run of the task that had ended before; `mine`: the supervisor that foresaw it is this one,
    so that the row may still be on its way.
    """
    if run is None:
        return Judgement(wait=LOOK_AGAIN) if mine and now - notice.born_at < UNWRITTEN else DROP
    if notice.occasion is Occasion.MISSED:
        return _missed(run, now)
    if notice.occasion is Occasion.LATE:
        return _late(run, now)
    if run.state in ENDED:
        return TELL if _came_true(notice.occasion, run, before) else DROP
    unwritten = mine and run.state is State.RUNNING and run.claim_no == notice.claim_no
    return Judgement(wait=LOOK_AGAIN) if unwritten else DROP


def judge_whole(
    notice: Notice, root: Run, whole: Whole, before: Run | None, *, now: Micros, tells: bool
) -> Judgement:
    """The same for a pipeline; `tells`: its end is this supervisor's to tell."""
    if notice.occasion is Occasion.MISSED:
        return _missed(root, now)
    if notice.occasion is Occasion.LATE:
        return _late_whole(root, whole.began, now)
    if not root.state.is_final:
        return Judgement(wait=LOOK_AT_WHOLE)
    return TELL if tells and _came_true(notice.occasion, root, before) else DROP


def _came_true(occasion: Occasion, run: Run, before: Run | None) -> bool:
    if occasion is Occasion.FAILURE:
        return run.state is State.FAILED
    if occasion is Occasion.RECOVERY:
        return run.state is State.SUCCEEDED and before is not None and before.state is State.FAILED
    return run.state is State.SUCCEEDED


def _missed(run: Run, now: Micros) -> Judgement:
    if run.state in (State.SKIPPED, State.EXPIRED):
        return TELL if run.reason in NOT_WANTED_SO else DROP
    waits = run.state in (State.QUEUED, State.SCHEDULED) and run.claim_no == 0
    if waits and run.expires_at is not None:
        return Judgement(wait=max(LOOK_AGAIN, run.expires_at + AFTER_EXPIRY - now))
    return DROP


def _late(run: Run, now: Micros) -> Judgement:
    if run.missed:
        return TELL
    if run.claim_no == 0 and not run.state.is_final:
        wait = run.due_at + LATE - now
        return Judgement(wait=wait) if wait > 0 else TELL
    began = run.started_at if run.attempt == 1 else None
    return TELL if began is not None and began - run.due_at > LATE else DROP


def _late_whole(root: Run, began: Micros | None, now: Micros) -> Judgement:
    if root.missed:
        return TELL
    if began is None and not root.state.is_final:
        wait = root.due_at + LATE - now
        return Judgement(wait=wait) if wait > 0 else TELL
    return TELL if began is not None and began - root.due_at > LATE else DROP


def ended_before(run: Run, others: Collection[Run]) -> Run | None:
    """The run of these that had ended when this one ended: the latest of them."""
    mine = (run.finished_at or 0, run.seq)
    earlier = [each for each in others if (each.finished_at or 0, each.seq) < mine and each.id != run.id]
    return max(earlier, key=lambda each: (each.finished_at or 0, each.seq), default=None)
