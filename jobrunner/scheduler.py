"""The scheduler's turn: which ticks are due, and one row for each of them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from . import birth, composition
from .breaks import Break, due_between_breaks
from .catalogue import Entry, entries_of, scheduled
from .codec import encode_arguments
from .durations import SECOND, Micros
from .errors import OwnerLost
from .events import Emit, TickRefused, TicksAdded
from .loop import EventLoop, LoopTimer
from .model import Condition, Edge, NewRun, Reason, State
from .plan import CatchUp, Overlap, Pipeline, Plan, ScheduleRule, Task
from .policy import Decision, Due, TickPolicy
from .schedule import Schedule
from .service import Service
from .storage import Pause, Storage, Tick, Verdict
from .trouble import Trouble

SPREAD: Micros = 5 * SECOND  # catch-up runs start spread over this (semantics 9)
FIRST_PAUSE: Micros = SECOND  # after a storage fault; doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Micros = 5 * SECOND  # so that ticks go on within 15 s of the storage's return (I11)
MOST_PER_TURN = 500  # ticks in one write: bounds the length of a transaction
LONGEST_SLEEP: Micros = 60 * SECOND  # the wall clock may be stepped meanwhile; the beat finds it sooner


@dataclass(slots=True)
class Timetable:
    """One schedule of one task or pipeline, and how far its ticks are accounted for."""

    task: Task | Pipeline
    entry: Entry
    entries: Mapping[str, Entry]  # of all: a pipeline's steps are among them
    rule: ScheduleRule
    schedule: Schedule
    payload: str
    watermark: Micros
    next_at: Micros | None
    place: int = 0  # in the file: of two that are due at once the first one goes first, each time

    def __lt__(self, other: Timetable) -> bool:
        return (self.next_at or 0, self.place) < (other.next_at or 0, other.place)


@dataclass(slots=True)
class Write:
    """A tick about to be written, and the timetable it belongs to."""

    table: Timetable
    tick: Tick
    refused: Reason | None  # why it does not run, when that is known beforehand
    behind: str | None = None  # id of the catch-up run that goes before it


class Scheduler:
    """Accounts for every tick of every schedule; any number of schedulers may work on one storage."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        storage: Storage,
        service: Service,
        emit: Emit,
        trouble: Trouble,
        pauses_of: Callable[[Task | Pipeline], Sequence[Pause]],
        look_at_clock: Callable[[], object],
        on_added: Callable[[], None],
        on_lost: Callable[[], None],
        before: Callable[[list[NewRun]], None] = lambda _runs: None,
        elsewhere: Callable[[NewRun], None] = lambda _run: None,
    ) -> None:
        self._loop = loop
        self._storage = storage
        self._service = service
        self._emit = emit
        self._trouble = trouble
        self._pauses_of = pauses_of  # those that are over too
        self._look_at_clock = look_at_clock
        self._on_added = on_added
        self._on_lost = on_lost
        self._before = before  # sees each row of a tick before it is written
        self._elsewhere = elsewhere  # is told of one that another supervisor has accounted for
        self._heap: list[Timetable] = []
        self._timer: LoopTimer | None = None
        self._writing = False
        self._stopped = False
        self._held = False
        self._began: Micros | None = None  # nobody was there before; None: not yet
        self._jump: Reason | None = None  # of the wall clock, since the last turn that wrote nothing
        self._pause: Micros = 0  # the last one after a storage fault; 0: all is well

    # --- the plan -----------------------------------------------------------------------------------

    def start(self, tables: Iterable[Timetable]) -> None:
        """Follow these timetables from now on, and no others; ends a hold.

        What was missed before is decided in the first turn.
        """
        self._held = False
        self._trouble.over("tick")  # the storage has just given these
        self._began = self._loop.now() if self._began is None else self._began
        self._heap = [table for table in tables if table.next_at is not None]
        heapq.heapify(self._heap)
        self._loop.soon(self.turn)

    def hold(self) -> None:
        """Ask for no tick until `start` or `go_on`: other timetables are on their way."""
        self._held = True
        self._set_timer(None)

    def go_on(self) -> None:
        """Follow the timetables that there are."""
        self._held = False
        self._loop.soon(self.turn)

    def reboots(self) -> set[str]:
        """The keys of the `reboot` schedules that have not fired yet in this boot."""
        return {table.rule.key for table in self._heap if table.schedule.kind == "reboot"}

    def stop(self) -> None:
        """No tick is accounted for any more: those to come are the next supervisor's."""
        self._stopped = True
        self._set_timer(None)

    @property
    def is_quiet(self) -> bool:
        """Whether no tick is due or being written."""
        return not self._writing and (not self._heap or (self._heap[0].next_at or 0) > self._loop.now())

    def next_tick(self) -> tuple[str, Micros] | None:
        """The task and instant of the next tick."""
        table = self._heap[0] if self._heap else None
        return None if table is None or table.next_at is None else (table.task.name, table.next_at)

    def jumped(self, reason: Reason) -> None:
        """The wall clock moved otherwise than by passing: misses from here on have this reason."""
        self._jump = reason
        self._loop.soon(self.turn)

    # --- the turn -----------------------------------------------------------------------------------

    def turn(self) -> None:
        """Write what is due, then sleep until the next tick."""
        if self._stopped or self._held or self._writing:
            return
        self._look_at_clock()  # what a step or a suspend has made late must not be called anything else
        now = self._loop.now()
        writes = self._due(now)
        if writes:
            self._write(writes)
        else:
            self._jump = None
            self._sleep(now)

    def _due(self, now: Micros) -> list[Write]:
        writes: list[Write] = []
        while self._heap and (self._heap[0].next_at or 0) <= now and len(writes) < MOST_PER_TURN:
            writes.extend(self._writes(heapq.heappop(self._heap), now))
        return [_behind(_whole(write)) for write in _spread(_in_line(_once(writes)), now)]

    def _sleep(self, now: Micros) -> None:
        following = self.next_tick()
        if following is None:
            self._set_timer(None)
            return
        # At least one microsecond: a timer that fires early by rounding must not spin.
        self._set_timer(min(max(1, following[1] - now), LONGEST_SLEEP))

    def _set_timer(self, delay: Micros | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay is None else self._loop.after(delay, self.turn)

    # --- rows ---------------------------------------------------------------------------------------

    def _writes(self, table: Timetable, now: Micros) -> list[Write]:
        policy = TickPolicy(
            catch_up=table.task.catch_up,
            window=table.task.catch_up_window,
            limit=table.task.catch_up_limit,
            side_by_side=table.task.overlap is Overlap.ALLOW,
            refused=_refusal(table.task),
        )
        breaks = [Break(pause.since, pause.until) for pause in self._pauses_of(table.task)]
        if table.schedule.kind == "reboot":
            is_paused = any(each.holds(now) for each in breaks)
            refused = policy.refused or (Reason.PAUSED if is_paused else None)
            due = [Due(now, Decision.SKIP if refused else Decision.RUN, refused)]
        else:
            because = self._hindrance(table)
            due = due_between_breaks(table.schedule, table.watermark, now, policy, because, breaks)
        writes, expected = [], table.watermark
        for each in due:
            writes.append(self._row(table, each, expected, now))
            expected = each.tick
        return writes

    def _hindrance(self, table: Timetable) -> Reason:
        """What kept ticks that are due by now from being accounted for at their own moment (semantics 5)."""
        if self._jump is not None:
            return self._jump
        was_there = self._began is not None and (table.next_at or 0) > self._began
        return Reason.MISSED_HELD_UP if was_there else Reason.MISSED_DOWN

    def _told(self, task: Task | Pipeline, due: Due) -> dict[str, object]:
        """What the row of a tick that does not run says beside its reason, for whoever asks why."""
        if due.reason is Reason.PAUSED:
            pauses = self._pauses_of(task)
            held = [each._asdict() for each in pauses if Break(each.since, each.until).holds(due.tick)]
            return {"pause": held[0]} if held else {}
        return {"why": task.blocked} if due.reason is Reason.BLOCKED else {}

    def _row(self, table: Timetable, due: Due, expected: Micros, now: Micros) -> Write:
        task = table.task
        delay = random.randint(0, task.jitter) if task.jitter else 0  # noqa: S311 - spreads load
        run = birth.of_tick(
            table.entry,
            schedule=table.rule.key,
            tick=due.tick,
            now=now,
            due_at=due.tick + delay,
            payload=table.payload,
            missed=due.missed if due.decision is Decision.CATCH_UP else 0,
        )
        following = table.schedule.next_us(due.tick)
        if due.decision is Decision.SKIP and due.reason is not None:
            run = birth.not_run(run, due.reason, detail=due.detail | self._told(task, due))
            return Write(table, Tick(table.rule.key, expected, due.tick, following, run), due.reason)
        refused, overlap = _overlap(task, run)
        tick = Tick(table.rule.key, expected, due.tick, following, run, refused, overlap=overlap)
        return Write(table, tick, None)

    # --- writing ------------------------------------------------------------------------------------

    def _write(self, writes: list[Write]) -> None:
        self._writing = True
        ticks = [each.tick for each in writes]
        self._before([tick.run for tick in ticks if tick.run is not None])
        self._service.ask(
            partial(self._storage.tick, ticks), partial(self._written, writes), partial(self._failed, writes)
        )

    def _written(self, writes: list[Write], verdicts: list[Verdict]) -> None:
        self._writing = False
        is_sure = not self._pause  # else an answer that was lost may have been its own
        self._recovered()
        for write, verdict in zip(writes, verdicts, strict=True):
            self._note(write, verdict)
            if is_sure and not verdict.accounted and write.tick.run is not None:
                self._elsewhere(write.tick.run)
        self._put_back(writes)
        self._on_added()
        self.turn()

    def _note(self, write: Write, verdict: Verdict) -> None:
        # The storage's word holds even when it is an earlier one (a restored backup): a watermark that is
        # only known here would be expected in vain for ever.
        write.table.watermark = verdict.watermark
        if not verdict.accounted or write.tick.run is None:
            return
        if write.refused is not None:
            self._emit(TickRefused(write.tick.run, write.refused.value))
        elif verdict.holder is not None and write.tick.refused is not None:
            self._emit(TickRefused(write.tick.refused, Reason.OVERLAP.value))
        else:
            self._emit(TicksAdded((write.tick.run, *write.tick.members)))

    def _put_back(self, writes: list[Write]) -> None:
        for table in {id(write.table): write.table for write in writes}.values():
            table.next_at = _next_of(table)
            if table.next_at is not None:
                heapq.heappush(self._heap, table)

    def _failed(self, writes: list[Write], error: Exception) -> None:
        """Whether the ticks were written is not known: the watermarks will tell when they are tried again."""
        self._writing = False
        if isinstance(error, OwnerLost):
            self._on_lost()
            return
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._trouble.met("tick", error, self._pause)
        self._put_back(writes)
        if not self._stopped and not self._held:
            self._set_timer(self._pause)

    def _recovered(self) -> None:
        self._pause = 0
        self._trouble.over("tick")


def _refusal(task: Task | Pipeline) -> Reason | None:
    if not task.enabled:
        return Reason.DISABLED
    return None if task.blocked is None else Reason.BLOCKED


def _once(writes: list[Write]) -> list[Write]:
    """Two schedules of a task that name one instant with the same arguments are one tick (semantics 7).

    The second one only moves its watermark: both rows would have the same id.
    """
    seen: set[str] = set()
    kept: list[Write] = []
    for write in writes:
        run = write.tick.run
        if run is not None and run.id in seen:
            write = Write(write.table, write.tick._replace(run=None, refused=None), None)
        elif run is not None:
            seen.add(run.id)
        kept.append(write)
    return kept


def _whole(write: Write) -> Write:
    """The tick of a pipeline with all its known steps."""
    run, table = write.tick.run, write.table
    if run is None or run.state is State.SKIPPED:
        return write
    root, *members = composition.begin(run, table.entry, table.entries.get)
    write.tick = write.tick._replace(run=root, members=tuple(members))
    return write


def _overlap(task: Task | Pipeline, run: NewRun) -> tuple[NewRun | None, str]:
    """What the storage does when a run of the task is in the way of this one (semantics 8).

    The runs of `catch_up: all` are exempt: they wait for one another (semantics 9).
    """
    if run.missed and task.catch_up is CatchUp.ALL:
        return None, Overlap.SKIP.value
    if task.overlap is Overlap.SKIP:
        return birth.not_run(run, Reason.OVERLAP), Overlap.SKIP.value
    return None, (Overlap.SKIP if task.overlap is Overlap.ALLOW else task.overlap).value


def _in_line(writes: list[Write]) -> list[Write]:
    """With `catch_up: all` missed ticks of a task run one behind the other, oldest first (semantics 9)."""
    last: dict[str, str] = {}
    for write in sorted(writes, key=lambda write: write.tick.tick):
        run = write.tick.run
        if run is not None and run.missed and write.table.task.catch_up is CatchUp.ALL:
            write.behind = last.get(run.task)
            last[run.task] = run.id
    return sorted(writes, key=lambda write: write.tick.tick) if last else writes


def _behind(write: Write) -> Write:
    """It waits for the end of the run before it; of a pipeline those of its steps do that begin it."""
    run, members = write.tick.run, write.tick.members
    if run is None or write.behind is None:
        return write
    if members:
        members = tuple(each if each.after else _waiting(each, write.behind) for each in members)
        write.tick = write.tick._replace(members=members)
    else:
        write.tick = write.tick._replace(run=_waiting(run, write.behind))
    return write


def _waiting(run: NewRun, before: str) -> NewRun:
    """Due as soon as the run before it has ended: its patience counts from then on."""
    patience = None if run.expires_at is None else run.expires_at - run.due_at
    return run._replace(
        state=State.WAITING,
        due_at=run.created_at,
        expires_at=None if patience is None else run.created_at + patience,
        after=(Edge(before, Condition.FINAL),),
    )


def _spread(writes: list[Write], now: Micros) -> list[Write]:
    """Catch-up runs start over a few seconds, by priority, not all at once (semantics 9)."""
    late = [write for write in writes if write.tick.run and write.tick.run.missed and not write.behind]
    late.sort(key=lambda write: -(write.tick.run.priority if write.tick.run else 0))
    for place, write in enumerate(late):
        _put_off(write, now + SPREAD * place // len(late), now)
    return writes


def _put_off(write: Write, due_at: Micros, now: Micros) -> None:
    run = write.tick.run
    if run is None:
        return
    wait = None if run.expires_at is None else run.expires_at - run.due_at
    late: NewRun = run._replace(
        state=State.SCHEDULED if due_at > now else State.QUEUED,
        due_at=due_at,
        expires_at=None if wait is None else due_at + wait,
    )
    write.tick = write.tick._replace(run=late)


def _next_of(table: Timetable) -> Micros | None:
    """The next tick to account for. `reboot` has one a boot: none after a watermark was set."""
    if table.schedule.kind == "reboot":
        return None if table.watermark else 0
    return table.schedule.next_us(table.watermark)


def timetables(
    plan: Plan, storage: Storage, boot_id: str, now: Micros, *, reboots: Collection[str] | None = None
) -> list[Timetable]:
    """The timetables of a plan, with their watermarks from the storage.

    At a reload only those `reboots` are taken that were waiting already: it is no start (semantics 11).

    A schedule that was never seen before starts at `now` (semantics 11); `reboot` has a watermark of its
    own for each boot, which starts at 0: it fires at a supervisor's start unless this boot has its row.
    """
    entries = entries_of(plan)
    tables = [_timetable(each, rule, boot_id, entries) for each in scheduled(plan) for rule in each.schedules]
    for place, table in enumerate(tables):
        table.place = place
    if reboots is not None:
        tables = [each for each in tables if each.schedule.kind != "reboot" or each.rule.key in reboots]
    for reboot, start in ((False, now), (True, 0)):
        chosen = [table for table in tables if (table.schedule.kind == "reboot") is reboot]
        marks = storage.watermarks({t.rule.key: t.schedule.next_us(now) for t in chosen}, start)
        for table in chosen:
            table.watermark = marks[table.rule.key]
            table.next_at = _next_of(table)
    return tables


def _timetable(
    task: Task | Pipeline, rule: ScheduleRule, boot_id: str, entries: Mapping[str, Entry]
) -> Timetable:
    schedule = Schedule.parse(rule.source, rule.timezone, name=task.name)
    if schedule.kind == "reboot":
        rule = ScheduleRule(
            key=boot_key(rule.key, boot_id),
            source=rule.source,
            timezone=rule.timezone,
            text=rule.text,
            words=rule.words,
            args=rule.args,
            kwargs=rule.kwargs,
        )
    entry = entries[task.name]
    return Timetable(task, entry, entries, rule, schedule, _payload(task, rule), 0, None)


def boot_key(key: str, boot_id: str) -> str:
    """The key of a `reboot` schedule's watermark in this boot."""
    return f"{key}|boot {boot_id}"


def _payload(task: Task | Pipeline, rule: ScheduleRule) -> str:
    """A schedule's own args replace the task's, its kwargs are merged over them."""
    kwargs: Mapping[str, object] = {**task.kwargs, **(rule.kwargs or {})}
    return encode_arguments(task.args if rule.args is None else rule.args, kwargs)
