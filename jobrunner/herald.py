r"""The herald's turn: notices that come due are looked up in the storage, and what came true is sent.

    foreseen --look--> not so: dropped
                 \---> not yet: looked up again
                  \--> it came true --> letters --> delivered, or tried again later, less and less often

Nothing here waits, and no run waits for it. In a storm the first ones are told one by one, and the others by
the last of them, with their number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from .durations import HOUR, MINUTE, SECOND, Micros
from .events import AttemptEnded, Event, HousekeepingFailed, NoticeLost, Notified, NotNotified, RunRefused
from .loop import EventLoop, LoopTimer
from .model import Claim, NewRun, Run, Settle, State
from .notify import Key, Notice, Occasion
from .notify.courier import Answers, Courier
from .notify.letters import Letter
from .notify.look import Look, Tail, last_failed
from .notify.measure import Kind, Measure, kind_of
from .notify.occasions import ENDED, Judgement, of_end, of_tick, of_whole
from .notify.spool import Left, Spool
from .notify.whole import is_step
from .plan import Notify, Plan
from .roots import Roots
from .service import Service
from .storage import Storage

DELAYS: Sequence[Micros] = (
    *(10 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR),
)
"""Between two tries; after the last one a notice is given up."""
AT_ONCE: Micros = SECOND // 10  # so long the row is given to be written
FOLDED: Micros = 10 * SECOND  # between two looks at whether the one that stands for others may be told
FEW = 100  # notices in one look
STEPS = 8  # of a pipeline, the latest that are remembered
EACH: Micros = SECOND // 50  # with thousands under way, so many are looked at in a second
BAG = 20  # notices whose letters go to one process
BUSY: Micros = 5 * SECOND  # a storage that does not answer is asked again


@dataclass(slots=True)
class Waiting:
    """A notice and when it is looked at, by the monotonic clock."""

    notice: Notice
    at: Micros
    let_through: bool = False  # it is told by itself
    is_on_its_way: bool = False  # its letters are with the process that sends them, or lie before it


class Found(NamedTuple):
    """What a look has shown: a notice, whether it came true, and what it owes."""

    waiting: Waiting
    judgement: Judgement
    letters: tuple[Letter, ...] = ()


class Herald:
    """Tells people; a subscriber to the supervisor's events."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        owner: str,
        plan: Plan,
        spool: Spool,
        tail: Tail,
        emit: Callable[[Event], None],
        courier: Courier | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._loop = loop
        self._owner = owner
        self._spool = spool
        self._tail = tail
        self._emit = emit
        self._environ = environ
        self._courier = courier or Courier(loop)
        self._waiting: dict[Key, Waiting] = {}
        self._measure = Measure()
        self._folded: dict[Kind, Waiting] = {}  # the one of each kind that stands for others
        self._bag: list[Found] = []  # what is to be sent next
        self._failing: set[str] | None = None  # None: not known yet, any task may be
        self._storage: Storage | None = None
        self._service: Service | None = None
        self._timer: LoopTimer | None = None
        self._is_looking = self._is_sending = False
        self._then: Callable[[], None] | None = None  # what to do once all is told
        self._roots = Roots(loop, self._telling_pipelines, self._under_way)
        self.trouble: str | None = None  # why the latest letter was not delivered; None: it was
        self.adopt_plan(plan)

    def adopt_plan(self, plan: Plan) -> None:
        """Use this plan from now on."""
        self._plan = plan
        if self._storage is not None and self._service is not None:
            self._roots.watch(self._storage, self._service)

    def begin(self, storage: Storage, service: Service) -> None:
        """Work with this storage; take over what dead supervisors have left."""
        self._storage, self._service = storage, service
        service.ask(lambda: self._past(storage), self._take_past, self._past_failed)
        self._sleep()

    @property
    def waiting(self) -> int:
        """Notices that are not delivered, and were tried at least once."""
        return sum(each.notice.tries > 0 for each in self._waiting.values())

    # --- what may have to be told -------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """Look at an event: the end of a run, before its row is written."""
        if type(event) is AttemptEnded or type(event) is RunRefused:
            self._ended(event.claim.task, event.settle)
            if event.claim.pipeline is not None:
                self._foresee(self._of_step(event.claim, event.settle))

    def before_ticks(self, runs: Iterable[NewRun]) -> None:
        """These ticks are about to be written."""
        for run in runs:
            notify = self._notify_of(run.task)
            if notify is not None:
                self._foresee(self._notice(each, run.task, run.id) for each in of_tick(notify))

    def leaves(self, run: NewRun) -> None:
        """Another supervisor has accounted for this tick: it tells of it."""
        for occasion in (Occasion.MISSED, Occasion.LATE):
            waiting = self._waiting.get((occasion, run.id))
            if waiting is not None:
                self._forget(waiting)

    def before_recovery(self, ends: Iterable[tuple[Run, Settle]]) -> None:
        """These runs of dead supervisors, with their ends, are about to be written; on any thread."""
        notices: list[Notice] = []
        for run, settle in ends:
            notices += [*self._of_end(run.task, settle), *self._of_step(run, settle)]
        for notice in notices:
            self._keep(notice)
        self._loop.hand_over(lambda: self._foresee(notices))

    def _ended(self, task: str, settle: Settle) -> None:
        if self._notify_of(task) is None:
            return
        self._foresee(self._of_end(task, settle))
        if self._failing is not None and settle.state in ENDED:
            change = self._failing.add if settle.state is State.FAILED else self._failing.discard
            change(task)

    def _of_step(self, step: Claim | Run, settle: Settle) -> list[Notice]:
        """With a step of a pipeline the whole may end."""
        if step.pipeline is None or not settle.state.is_final or not is_step(step.step):
            return []
        found = self._of_whole(step.pipeline_name or "", step.pipeline)
        return [replace(each, steps=(settle.id,)) for each in found]

    def _of_whole(self, pipeline: str, root: str) -> list[Notice]:
        notify = self._notify_of(pipeline)
        return [] if notify is None else [self._notice(each, pipeline, root) for each in of_whole(notify)]

    def _under_way(self, roots: list[Run]) -> None:
        """These pipelines are not over; most of them are known."""
        found = [notice for root in roots for notice in self._of_whole(root.task, root.id)]
        self._foresee(notice for notice in found if notice.key not in self._waiting)

    def _telling_pipelines(self) -> list[str]:
        return [each.name for each in self._plan.pipelines.values() if each.notify is not None]

    def _of_end(self, task: str, settle: Settle) -> list[Notice]:
        notify = self._notify_of(task)
        if notify is None:
            return []
        failing = self._failing is None or task in self._failing
        found = of_end(settle.state, notify, failing=failing)
        return [self._notice(each, task, settle.id, settle.claim_no) for each in found]

    def _notify_of(self, task: str) -> Notify | None:
        known = self._plan.tasks.get(task) or self._plan.pipelines.get(task)
        return None if known is None else known.notify

    def _notice(self, occasion: Occasion, task: str, run_id: str, claim_no: int = 0) -> Notice:
        now = self._loop.now()
        return Notice(
            occasion=occasion, task=task, run_id=run_id, owner=self._owner, born_at=now, claim_no=claim_no
        )

    def _foresee(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            self._take(notice)

    def _take(self, notice: Notice) -> None:
        at, known = self._loop.monotonic() + AT_ONCE, self._waiting.get(notice.key)
        if known is not None and notice.steps:
            self._learn(known, notice, at)
            waiting = known
        else:
            waiting = self._waiting[notice.key] = Waiting(notice, at)
            self._keep(notice)
        if not self._is_looking and (self._timer is None or self._timer.when > waiting.at):
            self._wake_at(waiting.at)

    def _learn(self, known: Waiting, notice: Notice, at: Micros) -> None:
        """One more step of a pipeline is over: look soon; where others work too, which one is remembered."""
        if not known.let_through:
            known.at = min(known.at, at)
        if self._is_shared():
            known.notice = replace(known.notice, steps=(*known.notice.steps, *notice.steps)[-STEPS:])
            self._keep(known.notice)

    def _is_shared(self) -> bool:
        return self._storage is not None and self._storage.lease is not None

    def _keep(self, notice: Notice) -> None:
        try:
            self._spool.write(notice)
        except OSError as error:  # told all the same, unless this process dies before
            self._emit(HousekeepingFailed(f"a notification could not be written down: {error}"))

    def _forget(self, waiting: Waiting) -> None:
        notice = waiting.notice
        if self._waiting.get(notice.key) is waiting:
            del self._waiting[notice.key]
        if self._folded.get(kind_of(notice)) is waiting:
            del self._folded[kind_of(notice)]
        if waiting.let_through:
            self._measure.over(notice)
        self._spool.remove(notice)

    # --- what others left ---------------------------------------------------------------------------

    def _past(self, storage: Storage) -> tuple[Left, set[str]]:
        """Notices of dead supervisors, and the tasks that are failing; on the service."""
        now = self._loop.now()
        alive = {each.owner.id for each in storage.supervisors(now) if each.alive}
        left = self._spool.left_by_others({*alive, self._owner})
        asking = [t.name for t in self._plan.tasks.values() if t.notify and Occasion.RECOVERY in t.notify.on]
        failing = {name for name in asking if last_failed(storage, name)}
        return left, failing

    def _take_past(self, found: tuple[Left, set[str]]) -> None:
        left, failing = found
        self._failing = None if self._is_shared() else failing  # others may have failed: it is looked up
        for each in left.damaged:
            self._emit(NoticeLost(*each))
        for notice in left.notices:
            if notice.key in self._waiting and not notice.steps:
                self._spool.remove(notice)  # it is known by now
            else:
                self._take(notice)
        if self._storage is not None and self._service is not None:
            self._roots.watch(self._storage, self._service)

    def _past_failed(self, _error: Exception) -> None:
        """The dispatcher says so, too; until then every success may be a recovery."""
        self._loop.after(BUSY, self._ask_past)

    def _ask_past(self) -> None:
        if self._storage is not None and self._service is not None:
            self.begin(self._storage, self._service)

    # --- the turn -----------------------------------------------------------------------------------

    def _sleep(self) -> None:
        """Until the first notice is due."""
        dates = [each.at for each in self._waiting.values() if not each.is_on_its_way]
        if not self._is_looking:
            self._wake_at(min(dates, default=None))
        if self._then is not None and not self._is_owing():
            self._done()

    def _wake_at(self, at: Micros | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None and self._storage is not None:
            self._timer = self._loop.after(at - self._loop.monotonic(), self._turn)

    def _turn(self) -> None:
        self._timer = None
        storage, service, now = self._storage, self._service, self._loop.monotonic()
        due = [w for w in self._waiting.values() if w.at <= now and not w.is_on_its_way][:FEW]
        if self._is_looking or not due or storage is None or service is None:
            self._sleep()
            return
        self._is_looking = True
        look = Look(
            storage=storage,
            plan=self._plan,
            owner=self._owner,
            now=self._loop.now(),
            tail=self._tail,
            environ=self._environ,
        )
        service.ask(
            lambda: [Found(each, *look.at(each.notice)) for each in due], self._looked, self._look_failed
        )

    def _looked(self, found: list[Found]) -> None:
        self._is_looking = False
        for each in found:
            if self._waiting.get(each.waiting.notice.key) is not each.waiting:
                continue  # forgotten meanwhile
            if each.judgement.wait is not None:
                wait = max(each.judgement.wait, len(self._waiting) * EACH)
                each.waiting.at = self._loop.monotonic() + wait
            elif not each.letters:
                self._forget(each.waiting)
            elif self._may_be_told(each.waiting):
                each.waiting.is_on_its_way = True
                self._bag.append(each)
        self._send()
        self._sleep()

    def _may_be_told(self, waiting: Waiting) -> bool:
        if waiting.let_through:
            return True
        waiting.let_through = self._measure.lets_through(waiting.notice, self._loop.monotonic())
        if not waiting.let_through:
            self._fold(waiting)
        return waiting.let_through

    def _fold(self, waiting: Waiting) -> None:
        """The latest one of a storm stands for those before it, until its kind may be told of again."""
        kind, notice = kind_of(waiting.notice), waiting.notice
        before = self._folded.get(kind)
        if before is not None and before is not waiting:
            waiting.notice = replace(notice, more=notice.more + before.notice.more + 1)
            self._keep(waiting.notice)
            self._forget(before)
        self._folded[kind] = waiting
        waiting.at = self._loop.monotonic() + FOLDED

    def _look_failed(self, _error: Exception) -> None:
        """The storage does not answer: the dispatcher says so, and notices wait."""
        self._is_looking = False
        later = self._loop.monotonic() + BUSY
        for each in self._waiting.values():
            each.at = max(each.at, later)
        self._sleep()

    # --- sending ------------------------------------------------------------------------------------

    def _send(self) -> None:
        if self._is_sending or not self._bag:
            return
        owed, self._bag = self._bag[:BAG], self._bag[BAG:]
        sent = [letter for each in owed for letter in each.letters]
        self._is_sending = True
        try:
            self._courier.send(sent, lambda answers: self._sent(owed, answers))
        except OSError as error:
            self._sent(owed, [str(error)] * len(sent))

    def _sent(self, owed: list[Found], answers: Answers) -> None:
        self._is_sending = False
        rest = list(answers)
        self.trouble = next((error for error in rest if error is not None), None)
        for each in owed:
            mine, rest = rest[: len(each.letters)], rest[len(each.letters) :]
            each.waiting.is_on_its_way = False
            self._settle(each.waiting, each.letters, mine)
        self._send()
        self._sleep()

    def _settle(self, waiting: Waiting, sent: tuple[Letter, ...], errors: Answers) -> None:
        notice = waiting.notice
        arrived = [letter.channel for letter, error in zip(sent, errors, strict=True) if error is None]
        failed = [error for error in errors if error is not None]
        done = (*notice.done, *arrived)
        if not failed:
            self._emit(Notified(notice.task, notice.run_id, notice.occasion.value, done, notice.more))
            self._forget(waiting)
            return
        delay = DELAYS[notice.tries] if notice.tries < len(DELAYS) else None
        message = "; ".join(dict.fromkeys(failed))
        self._emit(NotNotified(notice.task, notice.run_id, notice.occasion.value, message, delay))
        if delay is None:
            self._forget(waiting)
            return
        waiting.notice = replace(notice, tries=notice.tries + 1, done=done)
        waiting.at = self._loop.monotonic() + delay
        self._keep(waiting.notice)

    # --- the end ------------------------------------------------------------------------------------

    def wind_up(self, then: Callable[[], None], patience: Micros) -> None:
        """Call back when what is known now is told, or could not be, or this time is over."""
        if self._then is None:
            self._then = then
            self._loop.after(patience, self._done)
            self._sleep()

    def _is_owing(self) -> bool:
        """Whether something waits for its first try now: a later look is the next supervisor's."""
        if self._storage is None:
            return False
        soon = self._loop.monotonic() + 2 * SECOND
        return any(
            each.is_on_its_way or (each.notice.tries == 0 and each.at <= soon)
            for each in self._waiting.values()
        )

    def _done(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def close(self) -> None:
        """End a process that is still sending; what is not delivered stays for the next supervisor."""
        self._courier.close()
        self._spool.close()
