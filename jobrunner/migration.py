"""Moving what one storage holds into another, by nothing but the contract: so between any two.

    catalogue, watermarks, marks -> finished runs -> runs that were tried -> runs that wait -> waiting steps

A run that has a past is added, claimed, and settled again as it was, attempt by attempt. Every step may be
taken again: whoever starts it anew goes on where it stopped. The source stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from . import janitor
from .durations import SECOND, Micros
from .errors import StorageError, StorageMissing, StorageRefused, UsageError
from .lifecycle import unbegun
from .model import FINAL, Attempt, Claim, NewRun, Run, Settle, State, pool_lane
from .storage import (
    Exchange,
    ExchangeRequest,
    OwnerInfo,
    OwnerStatus,
    Rules,
    RunFilter,
    Storage,
    TaskRule,
    Tick,
)

BATCH = 200  # runs moved in one write
EVERYTHING = 10_000_000
RENEW: Micros = 5 * SECOND  # between two heartbeats
POOL = ".moving"  # no file's: names of pools begin with a letter or a digit


class Moved(NamedTuple):
    """How many runs were moved; those that were there already count too."""

    finished: int
    waiting: int  # in the queue, for their time, for their retry, for others


class Mover:
    """Owner of both storages while it works."""

    def __init__(
        self, source: Storage, target: Storage, *, owner: OwnerInfo, now: Callable[[], Micros]
    ) -> None:
        self._source = source
        self._target = target
        self._owner = owner
        self._now = now
        self._renewed: Micros = 0
        self._version = -1
        self._rules = Rules(tasks={})
        self._held: list[Settle] = []  # of runs that are not final: written last
        self._status = OwnerStatus(owner.config_hash, owner.started_at, None, False, 0, {}, alone=True)

    def move(self) -> Moved:
        """Move everything. Raises StorageRefused while a supervisor lives on one of the two."""
        for storage in (self._source, self._target):
            self._enter(storage)
        try:
            moved = self._move()
            self._demand_nobody()
            return moved
        finally:
            for storage in (self._source, self._target):
                storage.leave(self._owner.id, self._now())

    def _move(self) -> Moved:
        self._take_over(self._source)
        self._put_back_half_moved()
        self._move_marks()
        finished = self._move_past(self._live(tuple(FINAL)))
        waiting = self._live((State.QUEUED, State.SCHEDULED, State.RETRYING))
        moved = self._move_past([run for run in waiting if run.attempt > 0])
        moved += self._move_fresh([run for run in waiting if run.attempt == 0])
        return Moved(finished, moved + self._move_waiting(self._live((State.WAITING,))))

    # --- owning -------------------------------------------------------------------------------------

    def _enter(self, storage: Storage) -> None:
        alive = [each.owner for each in storage.supervisors(self._now()) if each.alive]
        if any(each.id == self._owner.id for each in alive):
            raise UsageError("FROM and TO are the same storage", help="name two")
        if alive or not storage.enter(self._owner, self._status):
            who = f"pid {alive[0].pid} on {alive[0].host}" if alive else "a supervisor"
            raise StorageRefused(
                f"{who} works on {storage.url}", help="stop it first: what moves must stand still"
            )

    def _take_over(self, storage: Storage) -> None:
        """What ran when its supervisor died is queued again, or failed, by its own policy."""
        janitor.recover(
            storage, self._owner.id, {}, self._now(), end_leftovers=lambda _owners: (0, set(), set())
        )

    def _put_back_half_moved(self) -> None:
        """What an earlier move had claimed when it was interrupted."""
        orphans = self._target.orphans(self._owner.id)
        backs = [_back(janitor.claim_of(run), owner.id, self._now()) for run, owner in orphans]
        self._target.settle(backs)

    def _stay_alive(self) -> None:
        now = self._now()
        if now - self._renewed >= RENEW:
            self._renewed = now
            self._demand_nobody()
            for storage in (self._source, self._target):
                storage.heartbeat(self._owner.id, self._status, now)

    def _demand_nobody(self) -> None:
        """Where leases tell who lives: had this one's run out (the machine was suspended), others came in."""
        for storage in (self._source, self._target):
            for each in storage.supervisors(self._now()):
                if each.alive and each.owner.id != self._owner.id:
                    raise StorageRefused(
                        f"pid {each.owner.pid} on {each.owner.host} has begun to work on {storage.url}"
                        " meanwhile: some runs may be in both storages, and run twice",
                        help="stop it, look what it has run, and start the move again: it goes on",
                    )

    # --- what is no run -----------------------------------------------------------------------------

    def _move_marks(self) -> None:
        """Catalogue, watermarks, pauses and revocations."""
        now = self._now()
        nexts = self._source.next_ticks()
        marks = self._source.watermarks(nexts, now)
        catalogue = self._source.catalogue()
        if catalogue is None and not nexts and not self._source.runs(RunFilter(limit=1)):
            raise StorageMissing(f"there is nothing in {self._source.url}", help="look at the URL FROM")
        if catalogue is not None:
            self._target.publish(self._owner.id, catalogue, keep=list(marks), now=now)
        ticks = [Tick(key, at - 1, at, nexts[key], None) for key, at in marks.items()]
        self._target.tick(ticks)
        for pause in self._source.pauses(now):
            self._target.pause(pause)
        for mark in self._source.revocations(now):
            self._target.revoke(mark)

    # --- runs with a past ---------------------------------------------------------------------------

    def _live(self, states: Sequence[State]) -> list[Run]:
        """The runs in these states, by order of enqueue."""
        return list(reversed(self._source.runs(RunFilter(states=tuple(states), limit=EVERYTHING))))

    def _move_past(self, runs: Sequence[Run]) -> int:
        """Move runs that have a past: they are claimed and settled as often as they were tried."""
        for start in range(0, len(runs), BATCH):
            self._play(runs[start : start + BATCH])
        while self._held:  # in the end, for nothing may be claimed after them
            last, self._held = self._held[:BATCH], self._held[BATCH:]
            self._settle(last)
        return len(runs)

    def _play(self, runs: Sequence[Run]) -> None:
        self._stay_alive()
        self._rules = Rules(tasks={run.task: TaskRule(pool_lane(POOL), POOL) for run in runs})
        self._target.add([_past(run) for run in runs])
        stories = {run.id: self._story(run) for run in runs}
        while claims := self._claim():
            for claim in claims:  # one that an interrupted move has left belongs to another batch
                if claim.id not in stories:
                    stories[claim.id] = self._story(self._source.run(claim.id))
            settles = [_fitted(stories[claim.id], claim, self._owner.id) for claim in claims]
            self._settle([settle for settle in settles if not _goes_on(settle, stories)])
            self._held += [settle for settle in settles if _goes_on(settle, stories)]

    def _story(self, run: Run) -> list[Settle]:
        """The ends of its attempts, then what it is now."""
        if run.attempt <= 1 and run.state in FINAL:
            return [_last(run)]
        told = {each.number: each for each in self._source.attempts(run.id)}
        latest = told.get(run.attempt)
        ended_at = latest.ended_at if latest is not None else None
        earlier = [_tried(run, number, told.get(number)) for number in range(1, run.attempt)]
        return [*earlier, _last(run)._replace(ended_at=run.finished_at or ended_at or run.due_at)]

    def _claim(self) -> list[Claim]:
        """What waits in the mover's own lane; a turn that met another control version claims nothing."""
        for _ in range(2):
            answer = self._exchange((), {POOL: BATCH})
            if answer.claimed or answer.control_version == self._version:
                return answer.claimed
            self._version = answer.control_version
        return []

    def _settle(self, settles: Sequence[Settle]) -> None:
        if settles and self._exchange(settles, {}).refused:
            raise StorageError(f"{self._target.url} refused what was moved", help="start the move again")

    def _exchange(self, settles: Sequence[Settle], want: Mapping[str, int]) -> Exchange:
        request = ExchangeRequest(
            owner=self._owner.id,
            now=self._now(),
            settled=settles,
            started=(),
            want=want,
            rules=self._rules,
            control_version=self._version,
        )
        return self._target.exchange(request)

    # --- runs without a past ------------------------------------------------------------------------

    def _move_fresh(self, runs: Sequence[Run]) -> int:
        """Move runs that were never tried: they are added as they are."""
        for start in range(0, len(runs), BATCH):
            self._stay_alive()
            self._add([_new(run) for run in runs[start : start + BATCH]])
        return len(runs)

    def _move_waiting(self, runs: Sequence[Run]) -> int:
        """Move what waits for others, all at once: what it waits for is there, or comes with it."""
        edges = self._source.edges([run.id for run in runs])
        self._add([_new(run)._replace(after=edges.get(run.id, ())) for run in runs])
        for run in runs:
            if run.cancel_requested:
                self._target.cancel([run.id], self._now())
        return len(runs)

    def _add(self, news: Sequence[NewRun]) -> None:
        """Add runs; one whose key somebody holds there goes without it, for none may be lost."""
        if not news:
            return
        added = self._target.add(news)
        again = [new._replace(unique=None) for new, done in zip(news, added, strict=True) if not done]
        if again:
            self._target.add(again)


def _new(run: Run) -> NewRun:
    """The run as it was added once."""
    given = {name: getattr(run, name) for name in NewRun._fields if name in Run._fields}
    return NewRun(**{**given, "result": None})


def _past(run: Run) -> NewRun:
    """A run with a past, to be claimed at once by the mover alone."""
    unique = None if run.state in FINAL else run.unique
    return _new(run)._replace(
        state=State.QUEUED, lane=pool_lane(POOL), reason=None, expires_at=None, unique=unique
    )


def _last(run: Run) -> Settle:
    """What the run is now, as the end of its last attempt."""
    given = {name: getattr(run, name) for name in Settle._fields if name in Run._fields}
    return Settle(**{**given, "owner": "", "ended_at": run.finished_at or run.due_at, "join": None})


def _tried(run: Run, number: int, attempt: Attempt | None) -> Settle:
    """The end of an earlier attempt; of one of which nothing is known, only that it was."""
    base = _last(run)._replace(
        state=State.QUEUED,
        outcome=None,
        attempt=number,
        failures=0,
        crashes=0,
        reason=None,
        result=None,
        error=None,
        exit_code=None,
        signal=None,
        pid=None,
        output=None,
        started_at=None,
    )
    if attempt is None or attempt.outcome is None:
        return base
    return base._replace(
        outcome=attempt.outcome,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at or base.ended_at,
        error=attempt.error,
        exit_code=attempt.exit_code,
        signal=attempt.signal,
        pid=attempt.pid,
        output=attempt.output,
    )


def _fitted(story: Sequence[Settle], claim: Claim, owner: str) -> Settle:
    """The part of a run's story that this claim is about, under the claim's fence."""
    part = story[min(claim.attempt, len(story)) - 1]
    return part._replace(seq=claim.seq, claim_no=claim.claim_no, owner=owner)


def _goes_on(settle: Settle, stories: Mapping[str, Sequence[Settle]]) -> bool:
    """Whether this is how a run that is not final looks in the end."""
    last = stories[settle.id][-1]
    return last.state not in FINAL and settle.attempt == last.attempt


def _back(claim: Claim, owner: str, now: Micros) -> Settle:
    """What an interrupted move had claimed waits again."""
    return unbegun(claim, owner, State.QUEUED, now)
