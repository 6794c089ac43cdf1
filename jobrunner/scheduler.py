"""The scheduler's turn: which ticks are due, and one row for each of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from . import birth
from .breaks import Break, are_over, due_between_breaks
from .durations import SECOND, Micros
from .errors import OwnerLost
from .events import Emit, TickRefused, TicksAdded
from .loop import EventLoop, LoopTimer
from .model import NewRun, Reason
from .plan import Overlap, Pipeline, Task
from .policy import Decision, Due, TickPolicy, is_in_time
from .service import Service
from .storage import Pause, Storage, Tick, Verdict
from .ticking import Write, arranged, overlap_of
from .timetable import Agenda, Timetable
from .trouble import Trouble

FIRST_PAUSE: Micros = SECOND  # after a storage fault; doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Micros = 5 * SECOND  # so that ticks go on within 15 s of the storage's return (I11)
MOST_PER_TURN = 500  # ticks in one write: bounds the length of a transaction
MOST_IN_FLIGHT = 2  # writes: the second one is prepared while the storage is busy with the first
AHEAD = 20  # ticks that are worked out before their moment, in one turn of the loop
LONGEST_SLEEP: Micros = 60 * SECOND  # the wall clock may be stepped meanwhile; the beat finds it sooner


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
        self._agenda = Agenda()
        self._moved: dict[int, Timetable] = {}  # by place: those whose next tick nobody has looked at
        self._reboots: set[str] = set()  # keys of those that are not known to have fired in this boot
        self._is_looking_ahead = False
        self._timer: LoopTimer | None = None
        self._in_flight = 0  # writes
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
        self._agenda = Agenda(tables)
        self._moved = {table.place: table for table in self._agenda}
        self._reboots = {table.rule.key for table in self._agenda if table.schedule.kind == "reboot"}
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
        """The keys of the `reboot` schedules that are not known to have fired in this boot."""
        return set(self._reboots)

    def stop(self) -> None:
        """No tick is accounted for any more: those to come are the next supervisor's."""
        self._stopped = True
        self._set_timer(None)

    @property
    def is_quiet(self) -> bool:
        """Whether no tick is due or being written."""
        moment = self._agenda.moment()
        return not self._in_flight and (moment is None or moment > self._loop.now())

    def next_tick(self) -> tuple[str, Micros] | None:
        """The task and instant of the next tick."""
        table = self._agenda.first()
        return None if table is None or table.next_at is None else (table.task.name, table.next_at)

    def jumped(self, reason: Reason) -> None:
        """The wall clock moved otherwise than by passing: misses from here on have this reason."""
        self._jump = reason
        self._loop.soon(self.turn)

    # --- the turn -----------------------------------------------------------------------------------

    def turn(self) -> None:
        """Write what is due, then sleep until the next tick."""
        if self._stopped or self._held or self._in_flight == MOST_IN_FLIGHT:
            return
        self._look_at_clock()  # what a step or a suspend has made late must not be called anything else
        now = self._loop.now()
        writes = self._due(now)
        if writes:
            self._write(writes)
            self._go_on(now)
            return
        if not self._in_flight:
            self._jump = None
        self._sleep(now)
        self._look_ahead_soon()

    def _go_on(self, now: Micros) -> None:
        """With what is due too, while the storage writes."""
        moment = self._agenda.moment()
        if moment is not None and moment <= now:
            self._loop.soon(self.turn)

    def _due(self, now: Micros) -> list[Write]:
        writes: list[Write] = []
        for table in self._agenda.due(now):
            writes += self._writes(table, now)
            if len(writes) >= MOST_PER_TURN:
                break
        return arranged(writes, now)

    def _sleep(self, now: Micros) -> None:
        moment = self._agenda.moment()
        # At least one microsecond: a timer that fires early by rounding must not spin.
        self._set_timer(None if moment is None else min(max(1, moment - now), LONGEST_SLEEP))

    def _look_ahead_soon(self) -> None:
        """Work out next ticks while there is time: at their moment they are only written."""
        if self._moved and not self._is_looking_ahead:
            self._is_looking_ahead = True
            self._loop.soon(self._look_ahead)

    def _look_ahead(self) -> None:
        self._is_looking_ahead = False
        if self._in_flight or self._held or self._stopped:
            return
        for _ in range(min(AHEAD, len(self._moved))):
            self._moved.popitem()[1].look_ahead()
        self._look_ahead_soon()

    def _set_timer(self, delay: Micros | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay is None else self._loop.after(delay, self.turn, is_exact=True)

    # --- rows ---------------------------------------------------------------------------------------

    def _writes(self, table: Timetable, now: Micros) -> list[Write]:
        writes, expected = [], table.watermark
        for each in self._due_of(table, now):
            writes.append(self._row(table, each, expected, now))
            expected = each.tick
        return writes

    def _due_of(self, table: Timetable, now: Micros) -> list[Due]:
        pauses, refused = self._pauses_of(table.task), _refusal(table.task)
        breaks = [Break(pause.since, pause.until) for pause in pauses] if pauses else []
        table.look_ahead()
        ahead = table.ahead
        if ahead is None:
            return _reboot(now, refused, breaks)
        is_free = refused is None and are_over(breaks, table.watermark)
        if is_free and is_in_time(ahead.tick, ahead.following, now):
            return [Due(ahead.tick, Decision.RUN)]
        policy, because = _policy(table.task, refused), self._hindrance(table)
        return due_between_breaks(table.schedule, table.watermark, now, policy, because, breaks)

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
        task, ahead = table.task, table.ahead_of(due.tick)
        delay = random.randint(0, task.jitter) if task.jitter else 0  # noqa: S311 - spreads load
        run = birth.of_tick(
            table.entry,
            schedule=table.rule.key,
            tick=due.tick,
            now=now,
            due_at=due.tick + delay,
            payload=table.payload,
            missed=due.missed if due.decision is Decision.CATCH_UP else 0,
            run_id=ahead.run_id,
        )
        if due.decision is Decision.SKIP and due.reason is not None:
            run = birth.not_run(run, due.reason, detail=due.detail | self._told(task, due))
            return Write(table, Tick(table.rule.key, expected, due.tick, ahead.following, run), due.reason)
        refused, overlap = overlap_of(task, run)
        tick = Tick(table.rule.key, expected, due.tick, ahead.following, run, refused, overlap=overlap)
        return Write(table, tick, None)

    # --- writing ------------------------------------------------------------------------------------

    def _write(self, writes: list[Write]) -> None:
        self._in_flight += 1
        ticks = [each.tick for each in writes]
        self._before([tick.run for tick in ticks if tick.run is not None])
        self._service.ask(
            partial(self._storage.tick, ticks), partial(self._written, writes), partial(self._failed, writes)
        )
        self._on_added()  # whoever claims them is then asked for behind the write, at once

    def _written(self, writes: list[Write], verdicts: list[Verdict]) -> None:
        self._in_flight -= 1
        self._recovered()
        added: list[NewRun] = []
        for write, verdict in zip(writes, verdicts, strict=True):
            added += self._added(write, verdict)
        if added:
            self._emit(TicksAdded(tuple(added)))
        for table in _tables(writes):
            table.is_unsure = False
            table.move_on()
            self._put_back(table)
        self.turn()

    def _added(self, write: Write, verdict: Verdict) -> Sequence[NewRun]:
        """What this write has added for the executors; what it was refused for is told."""
        # The storage's word holds even when it is an earlier one (a restored backup): a watermark that is
        # only known here would be expected in vain for ever.
        write.table.watermark = verdict.watermark
        run, refused = write.tick.run, write.tick.refused
        if run is None:
            return ()
        if not verdict.accounted:
            if not write.table.is_unsure:  # else an answer that was lost may have been its own
                self._elsewhere(run)
        elif write.refused is not None:
            self._emit(TickRefused(run, write.refused.value))
        elif verdict.holder is not None and refused is not None:
            self._emit(TickRefused(refused, Reason.OVERLAP.value))
        else:
            return (run, *write.tick.members)
        return ()

    def _put_back(self, table: Timetable) -> None:
        self._agenda.add(table)
        if table.next_at is None:
            self._reboots.discard(table.rule.key)
        else:
            self._moved[table.place] = table

    def _failed(self, writes: list[Write], error: Exception) -> None:
        """Whether the ticks were written is not known: the watermarks will tell when they are tried again."""
        self._in_flight -= 1
        if isinstance(error, OwnerLost):
            self._on_lost()
            return
        self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
        self._trouble.met("tick", error, self._pause)
        for table in _tables(writes):
            table.is_unsure = True
            self._put_back(table)
        if not self._stopped and not self._held:
            self._set_timer(self._pause)

    def _recovered(self) -> None:
        self._pause = 0
        self._trouble.over("tick")


def _refusal(task: Task | Pipeline) -> Reason | None:
    if not task.enabled:
        return Reason.DISABLED
    return None if task.blocked is None else Reason.BLOCKED


def _policy(task: Task | Pipeline, refused: Reason | None) -> TickPolicy:
    return TickPolicy(
        catch_up=task.catch_up,
        window=task.catch_up_window,
        limit=task.catch_up_limit,
        side_by_side=task.overlap is Overlap.ALLOW,
        refused=refused,
    )


def _reboot(now: Micros, refused: Reason | None, breaks: Sequence[Break]) -> list[Due]:
    """Its tick is the start itself."""
    if refused is None and any(each.holds(now) for each in breaks):
        refused = Reason.PAUSED
    return [Due(now, Decision.SKIP if refused else Decision.RUN, refused)]


def _tables(writes: Sequence[Write]) -> Iterable[Timetable]:
    """Each once: a gap has several writes."""
    return {id(write.table): write.table for write in writes}.values()
