"""The dispatcher's turn: completions go in, claims come out, in one exchange with the storage.

    executors --ended/started--> [pending] --exchange--> storage
    executors <------start------ [claims ] <--answer----

One exchange is under way at a time; whatever ends meanwhile rides in the next one. That is what makes
batches under load and keeps a single run fast when idle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from . import composition, lifecycle, steps
from .catalogue import Entry, entries_of, lane_of
from .durations import SECOND, Micros
from .errors import JobRunnerError, OwnerLost
from .events import AttemptEnded, Emit, Late, MapGrown, RateReached, RunBegan, RunRefused
from .execution import Call, Executor
from .loop import EventLoop, LoopTimer
from .model import (
    Cause,
    Claim,
    Ended,
    Ending,
    NewRun,
    Reason,
    Settle,
    Started,
    State,
)
from .plan import Plan, Task
from .redact import redacted
from .service import Service
from .storage import Exchange, ExchangeRequest, Rate, Rules, Storage, TaskRule
from .trouble import Trouble

FIRST_PAUSE: Micros = SECOND // 10  # after a storage fault; doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Micros = 5 * SECOND  # so that work resumes within 15 s of the storage's return (I11)
MOST_PER_TURN = 1_000  # settles in one exchange: bounds the length of a transaction

Tail = Callable[[str, int], str]  # (run id, attempt) -> the end of its captured output


def rules_of(plan: Plan) -> Rules:
    """What claims must know about this plan's tasks; a blocked task is left out: nothing of it is claimed."""
    rules = {name: _rule_of(task, plan) for name, task in plan.tasks.items() if task.blocked is None}
    return Rules(tasks={**rules, **steps.rules_of(plan.pipelines)})


def _rule_of(task: Task, plan: Plan) -> TaskRule:
    limit = task.rate_limit
    rule = TaskRule(
        lane=lane_of(task), pool=task.pool, rate=None if limit is None else Rate(limit.limit, limit.window)
    )
    if task.lock is None:
        return rule
    slots = plan.locks.get(task.lock.name, 1)
    return rule._replace(lock=task.lock.name, lock_slots=slots, on_busy=task.lock.on_busy)


def _ignore(_settles: Sequence[Settle]) -> None:
    """Nobody waits for what is written."""


def _standing(settled: list[Settle], refused: list[Settle]) -> list[Settle]:
    """Those of these settles that the storage took."""
    if not refused:
        return settled
    late = {(settle.id, settle.claim_no) for settle in refused}
    return [settle for settle in settled if (settle.id, settle.claim_no) not in late]


@dataclass(slots=True)
class Going:
    """A claimed run that an executor has."""

    claim: Claim
    call: Call
    executor: Executor  # it stays there, whatever executor its pool has by the time it ends
    cancelled: bool = False


@dataclass(slots=True)
class Pending:
    """What the next exchange carries."""

    settled: list[Settle] = field(default_factory=list)
    started: dict[int, Started] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.settled or self.started)


class Dispatcher:
    """Moves runs between the storage and the executors; it is the executors' `Sink`."""

    def __init__(
        self,
        *,
        plan: Plan,
        owner: str,
        loop: EventLoop,
        storage: Storage,
        service: Service,
        emit: Emit,
        trouble: Trouble,
        tail: Tail,
        on_control: Callable[[], None],
        on_quiet: Callable[[], None],
        on_lost: Callable[[], None],
        on_written: Callable[[Sequence[Settle]], None] = _ignore,
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._storage = storage
        self._service = service
        self._emit = emit
        self._trouble = trouble
        self._tail = tail
        self._on_control = on_control
        self._on_written = on_written
        self._on_quiet = on_quiet
        self._on_lost = on_lost
        self._executors: dict[str, Executor] = {}
        # By run id: a server that was set back to an earlier state gives numbers and claims out again.
        self._going: dict[str, Going] = {}
        self._pending = Pending()
        self._in_flight: Pending | None = None
        self._asked = False  # a turn is wanted
        self._claiming = True
        self._held = False
        self._control_version = -1
        self._due_timer: LoopTimer | None = None
        self._pause: Micros = 0  # the last one after a storage fault; 0: all is well
        self._paused = False
        self._unsure = False  # an exchange ended without an answer: rows may be running that we do not know
        self._dry = False  # the last exchange asked for work and found none
        self.may_start: Callable[[], bool] = lambda: True  # a lease may forbid it
        self.interrupted = 0
        self.adopt_plan(plan)

    # --- the plan -----------------------------------------------------------------------------------

    def adopt_plan(self, plan: Plan) -> None:
        """Use this plan from now on; running attempts keep the definition they started with."""
        self._plan = plan
        self._rules = rules_of(plan)
        self._entries: dict[str, Entry] = entries_of(plan)

    def serve(self, executors: Mapping[str, Executor]) -> None:
        """Use these executors, by pool."""
        self._executors = dict(executors)

    # --- what others ask ----------------------------------------------------------------------------

    def wake(self) -> None:
        """Somebody added or changed something: take a turn soon."""
        self._dry = False
        self._ask()

    def doubt(self) -> None:
        """What the storage answered last may not stand: look what is running under this owner, then go on."""
        self._unsure = True
        self.wake()

    def stop_claiming(self) -> None:
        """Claim nothing more; completions are still recorded."""
        self._claiming = False

    def hold(self) -> None:
        """Claim nothing until `let_go`; what ends is recorded as ever."""
        self._held = True

    def let_go(self) -> None:
        """Claim again."""
        self._held = False
        self.wake()

    @property
    def running(self) -> int:
        """Attempts that executors have."""
        return len(self._going)

    @property
    def is_settled(self) -> bool:
        """Whether everything that ended has been written."""
        return not self._pending and self._in_flight is None

    @property
    def unwritten(self) -> int:
        """Runs whose end is not in the storage."""
        sent = len(self._in_flight.settled) if self._in_flight else 0
        return len(self._going) + len(self._pending.settled) + sent

    def unsettled(self) -> list[Settle]:
        """The ends that are not known to be in the storage."""
        sent = self._in_flight.settled if self._in_flight else []
        return [*sent, *self._pending.settled]

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, nothing waits to be written, and the storage had nothing to claim."""
        quiet = not self._going and self.is_settled and self._dry and not self._asked
        return quiet and not self._held

    def end_all(self, ending: Ending, *, grace: Micros | None = None) -> None:
        """End every attempt by force."""
        for going in list(self._going.values()):
            going.executor.end(going.call, ending, grace=grace)

    # --- what executors report (Sink) ---------------------------------------------------------------

    def started(self, call: Call, at: Micros, pid: int | None) -> None:
        """The attempt has begun: its mark rides in the next exchange, unless its end comes first."""
        self._pending.started[call.seq] = Started(call.seq, call.claim_no, self._owner, at, pid)
        self._emit(RunBegan(call.task.name, call.run_id, call.attempt, call.trigger))
        self._ask()

    def ended(self, call: Call, ended: Ended) -> None:
        """The attempt is over: its run's next row rides in the next exchange."""
        going = self._going.pop(call.run_id, None)
        if going is None:
            return
        if ended.ending is Ending.CANCELLED and going.cancelled:
            ended = ended._replace(retry=False)
        if call.task.secrets:
            ended = redacted(ended, call.task.secrets)
        self._pending.started.pop(call.seq, None)
        settle = self._settle(going.claim, call.task, ended)
        self._pending.settled.append(settle)
        if ended.ending is not Ending.RECALLED:
            self._emit(AttemptEnded(going.claim, ended, settle))
        if ended.ending is Ending.INTERRUPTED and settle.state is State.QUEUED:
            self.interrupted += 1
        self._dry = False
        self._ask()

    # --- the turn -----------------------------------------------------------------------------------

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            if self._in_flight is None and not self._paused:
                self._loop.soon(self._turn)

    def _turn(self) -> None:
        if self._in_flight is not None or self._paused:
            return
        self._asked = False
        self._in_flight, self._pending = self._cut()
        request = self._request(self._in_flight)
        if self._unsure:
            self._service.ask(lambda: self._look_back(request), self._looked_back, self._failed)
        else:
            self._service.ask(lambda: self._storage.exchange(request), self._answered, self._failed)

    def _cut(self) -> tuple[Pending, Pending]:
        """What goes now, and what waits for the next turn."""
        now = Pending(self._pending.settled[:MOST_PER_TURN], self._pending.started)
        rest = Pending(self._pending.settled[MOST_PER_TURN:])
        return now, rest

    def _request(self, pending: Pending) -> ExchangeRequest:
        return ExchangeRequest(
            owner=self._owner,
            now=self._loop.now(),
            settled=pending.settled,
            started=list(pending.started.values()),
            want=self._want(),
            rules=self._rules,
            control_version=self._control_version,
        )

    def _want(self) -> dict[str, int]:
        if self._unsure or self._held or not self._may_begin():
            return {}  # what an unanswered exchange may have claimed takes the room first
        want = {name: room for name, each in self._executors.items() if (room := each.room()) > 0}
        return {**want, **steps.WANT}

    def _answered(self, answer: Exchange) -> None:
        written, self._in_flight = self._in_flight, None
        self._recovered()
        if written is not None and written.settled:
            self._on_written(_standing(written.settled, answer.refused))
        for late in answer.refused:
            self._emit(Late(late.id))
        if answer.limited:
            self._emit(RateReached(answer.limited))
        self._start(answer.claimed)
        self._cancel(answer.cancels)
        moved = answer.control_version != self._control_version
        self._control_version = answer.control_version
        if moved:
            self._on_control()
        self._dry = not answer.claimed and not moved and not answer.more
        self._set_due_timer(answer)
        busy = bool(answer.claimed) or answer.more
        if moved or self._pending or (busy and self._claiming and self._has_room()):
            self._asked = True
        if self._asked:
            self._loop.soon(self._turn)
        elif not self._going:
            self._on_quiet()

    def _has_room(self) -> bool:
        return any(each.room() > 0 for each in self._executors.values())

    def _set_due_timer(self, answer: Exchange) -> None:
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None
        if answer.next_due is not None and self._claiming:
            self._due_timer = self._loop.after(answer.next_due - answer.now, self.wake)

    # --- trouble ------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> None:
        """The exchange has no answer: its writes may or may not stand. The same settles go again."""
        if isinstance(error, OwnerLost):
            self._on_lost()
            return
        sent, self._in_flight = self._in_flight, None
        if sent is not None:
            self._take_back(sent)
        self._unsure, self._dry = True, False
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._paused = True
        self._trouble.met("exchange", error, self._pause)
        self._loop.after(self._pause, self._try_again)

    def _take_back(self, sent: Pending) -> None:
        over = {settle.seq for settle in self._pending.settled}
        marks = {seq: mark for seq, mark in sent.started.items() if seq not in over}
        self._pending.settled[:0] = sent.settled
        self._pending.started = {**marks, **self._pending.started}

    def _try_again(self) -> None:
        self._paused = False
        self._turn()

    def _recovered(self) -> None:
        self._unsure, self._pause = False, 0
        self._trouble.over("exchange")

    def _look_back(self, request: ExchangeRequest) -> tuple[Exchange, list[Claim]]:
        """An exchange that claims nothing, then all that is running under this owner; on the service."""
        return self._storage.exchange(request), self._storage.claimed_by(self._owner)

    def _looked_back(self, found: tuple[Exchange, list[Claim]]) -> None:
        """Adopt what an unanswered exchange has claimed: running, and neither going here nor ended here."""
        answer, mine = found
        ended = {(settle.id, settle.claim_no) for settle in self._pending.settled}
        lost = [claim for claim in mine if (claim.id, claim.claim_no) not in ended]
        # A settle that queued its run again, which was then claimed anew, all in one unanswered exchange.
        again = {claim.id for claim in lost}
        answer = answer._replace(refused=[each for each in answer.refused if each.id not in again])
        self._adopt(lost)
        self._asked = True  # this turn has claimed nothing
        self._answered(answer)

    def _adopt(self, lost: list[Claim]) -> None:
        """Start these. Whether one was claimed with its lock or to be refused is not known: it goes back."""
        plain = []
        for claim in lost:
            if self._is_going(claim):
                continue
            task = self._plan.tasks.get(claim.task)
            if task is not None and task.lock is not None:
                self._put_back(claim, task)
            else:
                plain.append(claim)
        self._start(plain)

    # --- claims -------------------------------------------------------------------------------------

    def _start(self, claims: list[Claim]) -> None:
        batches: dict[str, list[Call]] = {}
        for claim in claims:
            self._admit(claim, batches)
        for pool, calls in batches.items():
            self._executors[pool].start(calls)

    def _is_going(self, claim: Claim) -> bool:
        """Whether an executor has this run, which a server that lost its last writes gives out again.

        What is going on goes on, once, and ends under the claim that the server knows.
        """
        going = self._going.get(claim.id)
        if going is not None:
            going.claim = claim._replace(pool=going.claim.pool)
        return going is not None

    def _admit(self, claim: Claim, batches: dict[str, list[Call]]) -> None:
        if self._is_going(claim):
            return
        task = self._plan.tasks.get(claim.task)
        if claim.refused is not None:
            self._refuse(claim, task)
        elif claim.pool == steps.POOL or claim.task in self._plan.pipelines:
            self._grow(claim)
        elif task is None or not self._may_begin() or task.pool not in self._executors:
            self._put_back(claim, task)
        else:
            claim = claim if claim.pool == task.pool else claim._replace(pool=task.pool)
            self._take(claim, task, batches)

    def _may_begin(self) -> bool:
        return self._claiming and self.may_start()

    def _take(self, claim: Claim, task: Task, batches: dict[str, list[Call]]) -> None:
        try:
            call = self._call(claim, task)
        except ValueError as error:
            self._quarantine(claim, task, str(error))
            return
        self._going[claim.id] = Going(claim, call, self._executors[task.pool])
        batches.setdefault(task.pool, []).append(call)

    def _grow(self, claim: Claim) -> None:
        """A map over its input: its members are known now. Or a run by the name of a pipeline."""
        entry, now = self._entries.get(claim.task), self._loop.now()
        try:
            if entry is None:
                settle = composition.grow(claim, self._owner, self._entries.get, now)
            else:
                settle = composition.unfold(claim, self._owner, entry, self._entries.get, now)
        except (ValueError, JobRunnerError) as error:
            self._quarantine(claim, None, str(error))
            return
        self._pending.settled.append(settle)
        self._emit(MapGrown(settle))

    def _put_back(self, claim: Claim, task: Task | None) -> None:
        """It was claimed, and is not started here: it waits again as if nothing had been."""
        back = Ended(Ending.RECALLED, ended_at=self._loop.now())
        self._pending.settled.append(self._settle(claim, task, back))

    def _quarantine(self, claim: Claim, task: Task | None, error: str) -> None:
        """No row that somebody else wrote may end the supervisor; it fails, for all to see."""
        now = self._loop.now()
        claim, ended = claim._replace(options=None), Ended(Ending.BAD_ARGUMENTS, ended_at=now, error=error)
        settle = self._settle(claim, task, ended)
        self._pending.settled.append(settle)
        self._emit(AttemptEnded(claim, ended, settle))

    def _call(self, claim: Claim, task: Task) -> Call:
        """The call that a claim asks for. Raises ValueError for a damaged row."""
        options = lifecycle.options_of(claim)
        step = steps.prepared(claim, task, self._tail)
        timeout = task.timeout if options is None or options.timeout is None else options.timeout
        return Call(  # by place: this is made for each run
            claim.seq,
            claim.claim_no,
            claim.id,
            claim.attempt,
            step.task,
            step.payload,
            claim.trigger,
            claim.tick,
            claim.missed,
            claim.due_at,
            timeout,
            self._owner,
            step.cause,
            step.env if options is None else (*step.env, *options.env.items()),
        )

    def _cancel(self, cancels: list[tuple[int, int]]) -> None:
        if not cancels:
            return
        wanted = set(cancels)
        for going in list(self._going.values()):
            if (going.claim.seq, going.claim.claim_no) in wanted and not going.cancelled:
                going.cancelled = True
                going.executor.end(going.call, Ending.CANCELLED)

    # --- settles ------------------------------------------------------------------------------------

    def _settle(self, claim: Claim, task: Task | None, ended: Ended) -> Settle:
        current = self._plan.tasks.get(claim.task)  # later attempts use the definition in force now
        if ended.ending is Ending.OK and (task is None or not task.on_success):
            return lifecycle.plain_success(claim, self._owner, ended)
        rule = lifecycle.terms(current, lifecycle.options_of(claim), lifecycle.policy_of(claim.policy))
        return lifecycle.settle(
            claim,
            self._owner,
            ended,
            rule,
            chance=random.random(),  # noqa: S311 - spreads retries, guards nothing
            callbacks=lambda state, why: self._callbacks(claim, task, ended, state, why),
        )

    def _refuse(self, claim: Claim, task: Task | None) -> None:
        """It was claimed only to say that its lock is busy (semantics 17)."""
        fails = task is not None and task.lock is not None and task.lock.on_busy == "fail"
        state, reason, now = State.FAILED if fails else State.SKIPPED, Reason.LOCK_BUSY, self._loop.now()
        settle = lifecycle.refuse(claim, self._owner, state, reason, now)
        if fails:
            ended = Ended(Ending.CANCELLED, ended_at=now)
            settle = settle._replace(follow=self._callbacks(claim, task, ended, state, reason.value))
        self._pending.settled.append(settle)
        self._emit(RunRefused(claim, settle))

    def _callbacks(
        self, claim: Claim, task: Task | None, ended: Ended, state: State, why: str
    ) -> tuple[NewRun, ...]:
        if task is None:
            return ()
        names = task.on_success if state is State.SUCCEEDED else task.on_failure
        if not names:
            return ()
        cause = Cause(
            task=claim.task,
            run_id=claim.id,
            state=state.value,
            reason=why,
            exit_code=ended.exit_code,
            output_tail=self._tail(claim.id, claim.attempt),
        )
        return composition.called(self._entries, names, cause, claim.created_at, self._loop.now())
