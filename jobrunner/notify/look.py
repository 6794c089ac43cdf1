"""Asks the storage whether what was foreseen came true, and what is owed then; on the storage's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ..durations import Micros
from ..errors import NotFound
from ..model import Run, State
from ..plan import Plan
from ..storage import RunFilter, Storage
from . import Notice, Occasion
from .letters import Letter, letters, post_of
from .occasions import DROP, ENDED, Judgement, ended_before, judge, judge_whole
from .whole import Whole, is_root, tells, whole_of

MOST_BEFORE = 20  # runs among which the one before is looked for
MOST_STEPS = 10_000  # rows of a pipeline that are read

Tail = Callable[[str, int], str]


class Seen(NamedTuple):
    """Whether a notice came true, and what it owes."""

    judgement: Judgement
    letters: tuple[Letter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the storage."""

    storage: Storage
    plan: Plan
    owner: str  # of the supervisor that looks
    now: Micros
    tail: Tail
    environ: Mapping[str, str]

    def at(self, notice: Notice) -> Seen:
        """Whether this notice came true. Raises StorageError."""
        known = self.plan.tasks.get(notice.task) or self.plan.pipelines.get(notice.task)
        post = None if known is None else post_of(self.plan, known, self.environ)
        if post is None:
            return Seen(DROP)
        run = _run(self.storage, notice.run_id)
        whole = None if run is None or not is_root(run) else self._whole(notice, run)
        judgement = self._judged(notice, run, whole)
        if not judgement.tell or run is None:
            return Seen(judgement)
        heard = run if whole is None else whole.culprit  # whose output is told
        tail = self.tail(heard.id, heard.attempt) if heard is not None and heard.attempt else ""
        culprit = None if whole is None else whole.culprit
        return Seen(judgement, letters(notice, run, tail, post, self.now, culprit=culprit))

    def _judged(self, notice: Notice, run: Run | None, whole: Whole | None) -> Judgement:
        before = _before(self.storage, run) if run and notice.occasion is Occasion.RECOVERY else None
        if run is not None and whole is not None:
            is_mine = self._tells(notice, run, whole)
            return judge_whole(notice, run, whole, before, now=self.now, tells=is_mine)
        return judge(notice, run, before, now=self.now, mine=notice.owner == self.owner)

    def _whole(self, notice: Notice, root: Run) -> Whole:
        """What its steps say, as far as it matters already."""
        if not root.state.is_final and notice.occasion is not Occasion.LATE:
            return Whole()
        return whole_of(root, self.storage.runs(RunFilter(pipeline=root.id, limit=MOST_STEPS)))

    def _tells(self, notice: Notice, root: Run, whole: Whole) -> bool:
        """Whether its end is this supervisor's to tell: always, unless several work on the storage."""
        if self.storage.lease is None or not root.state.is_final:
            return True
        living = [each.owner for each in self.storage.supervisors(self.now) if each.alive]
        oldest = min(living, key=lambda owner: (owner.started_at, owner.id), default=None)
        return tells(whole, notice.steps, is_oldest=oldest is None or oldest.id == self.owner)


def last_failed(storage: Storage, task: str) -> bool:
    """Whether the run of this task that ended last has failed."""
    ended = _latest(storage, task)
    last = max(ended, key=lambda run: run.finished_at or 0, default=None)
    return last is not None and last.state is State.FAILED


def _run(storage: Storage, run_id: str) -> Run | None:
    try:
        return storage.run(run_id)
    except NotFound:
        return None


def _before(storage: Storage, run: Run) -> Run | None:
    return ended_before(run, _latest(storage, run.task))


def _latest(storage: Storage, task: str) -> list[Run]:
    return storage.runs(RunFilter(tasks=(task,), states=ENDED, limit=MOST_BEFORE))
