"""The scheduler's turn: each tick has one row, whatever the storage answers and the clock does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import pytest

from jobrunner.durations import HOUR, MINUTE, SECOND, Micros
from jobrunner.errors import OwnerLost, StorageUnavailable
from jobrunner.events import Event, StorageBack, StorageTrouble, TickRefused
from jobrunner.janitor import ClockWatch
from jobrunner.loop import EventLoop
from jobrunner.model import Reason, Run, State, pool_lane
from jobrunner.plan import CatchUp, Overlap, Plan, ScheduleRule, Task
from jobrunner.scheduler import Scheduler
from jobrunner.storage import Pause, RunFilter, Storage
from jobrunner.storage.memory import MemoryStorage
from jobrunner.ticking import SPREAD
from jobrunner.timetable import timetables
from jobrunner.trouble import Trouble
from tests.builders import NOON, a_run, a_task
from tests.stage import Aside, FaultyStorage, HandClock

TROUBLE = StorageUnavailable("the disk is gone")
PAUSE = Pause(target="task:beat", since=NOON, until=None, by="ana", reason="the disk is changed")


def every(period: str, name: str = "beat", *, key: str = "", **changes: Any) -> Task:
    rule = ScheduleRule(
        key=key or f"{name}|{period}", source=period, timezone="UTC", text=period, words=period
    )
    return a_task(name, schedules=(rule,), **changes)


@dataclass
class Desk:
    """One scheduler on a memory storage, with a clock moved by hand."""

    tasks: tuple[Task, ...]
    memory: MemoryStorage
    clock: HandClock
    boot: str = "boot-1"
    events: list[Event] = field(default_factory=list)
    paused: dict[str, Pause] = field(default_factory=dict)
    added: int = 0
    lost: int = 0
    elsewhere: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = EventLoop(self.clock)
        self.faulty = FaultyStorage(self.memory)
        self.service = Aside(self.loop)
        self.watch = ClockWatch(self.clock)
        self.scheduler = Scheduler(
            loop=self.loop,
            storage=cast(Storage, self.faulty),
            service=self.service,
            emit=self.events.append,
            trouble=Trouble(self.loop, self.events.append),
            pauses_of=lambda task: [self.paused[task.name]] if task.name in self.paused else [],
            look_at_clock=self._look,
            on_added=self._on_added,
            on_lost=self._on_lost,
            elsewhere=lambda run: self.elsewhere.append(run.task),
        )

    def _look(self) -> None:
        reason = self.watch.look()
        if reason is not None:
            self.scheduler.jumped(reason)

    def _on_added(self) -> None:
        self.added += 1

    def _on_lost(self) -> None:
        self.lost += 1

    @property
    def plan(self) -> Plan:
        tasks = {task.name: task for task in self.tasks}
        return Plan(file="", hash="", backend="", timezone="UTC", tasks=tasks)

    def start(self) -> None:
        self.scheduler.start(timetables(self.plan, self.memory, self.boot, self.clock.now()))
        self.turns()

    def turns(self) -> None:
        for _ in range(100):
            self.loop.turn(0)

    def passes(self, time: Micros, steps: int = 1) -> None:
        for _ in range(steps):
            self.clock.passes(time // steps)
            self.turns()

    def rows(self) -> list[Run]:
        """Oldest first."""
        return list(reversed(self.memory.runs(RunFilter(limit=10_000))))

    def told(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)


@pytest.fixture
def opened() -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(*tasks: Task, after: Desk | None = None, boot: str = "boot-1") -> Desk:
        memory = after.memory if after else MemoryStorage()
        clock = after.clock if after else HandClock()
        made.append(Desk(tasks, memory, clock, boot))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.loop.close()
        each.memory.close()


Opened = Callable[..., Desk]


def test_each_tick_is_written_when_it_comes_and_nothing_is_asked_between(opened: Opened) -> None:
    # rules 6, 7 and 11: nothing before the first deployment
    desk = opened(every("every 1m"))
    assert desk.rows() == []
    desk.passes(3 * MINUTE, steps=180)
    assert [run.tick for run in desk.rows()] == [NOON + MINUTE, NOON + 2 * MINUTE, NOON + 3 * MINUTE]
    assert desk.faulty.calls.count("tick") == 3


def test_at_its_moment_a_tick_is_only_written(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    # what its schedule has to say, and what its id is, was worked out before
    desk = opened(*(every("every 1m", f"beat-{number}") for number in range(50)))
    desk.passes(MINUTE)
    for name in ("jobrunner.schedule.Schedule.next_us", "jobrunner.birth.tick_id"):
        monkeypatch.setattr(name, _unasked)
    desk.clock.passes(MINUTE)
    desk.loop.turn(0)
    assert len(desk.memory.runs(RunFilter(limit=200))) == 100


def _unasked(*_: object) -> NoReturn:
    raise AssertionError("asked at the moment itself")


def test_while_the_storage_writes_the_next_ticks_are_prepared(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.scheduler.MOST_PER_TURN", 2)
    desk = opened(*(every("every 1m", f"beat-{number}") for number in range(7)))
    desk.service.hold()
    desk.passes(MINUTE)
    assert not desk.scheduler.is_quiet
    assert desk.faulty.calls.count("tick") == 0
    assert len(desk.service.held) == 2
    desk.service.let_go()
    desk.turns()
    assert desk.faulty.calls.count("tick") == 4
    assert sorted(run.task for run in desk.rows()) == [f"beat-{number}" for number in range(7)]
    assert desk.scheduler.is_quiet


def test_of_two_writes_under_way_one_that_fails_is_done_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I6, and nobody says that another has written what may have been its own
    monkeypatch.setattr("jobrunner.scheduler.MOST_PER_TURN", 1)
    desk = opened(every("every 1m", "a"), every("every 1m", "b"))
    desk.service.hold()
    desk.passes(MINUTE)
    desk.faulty.loses_answer("tick", TROUBLE)
    desk.service.let_go()
    desk.turns()
    desk.passes(10 * SECOND, steps=10)
    assert [run.task for run in desk.rows()] == ["a", "b"]
    assert (desk.faulty.calls.count("tick"), desk.elsewhere) == (3, [])
    assert desk.scheduler.is_quiet


def test_a_tick_whose_answer_is_lost_has_one_row(opened: Opened) -> None:
    # I6
    desk = opened(every("every 1m"))
    desk.faulty.loses_answer("tick", TROUBLE)
    desk.passes(MINUTE)
    desk.passes(10 * SECOND, steps=10)
    assert [run.tick for run in desk.rows()] == [NOON + MINUTE]
    assert desk.scheduler.is_quiet
    assert desk.added == 2  # once for each try


def test_whoever_claims_is_told_while_ticks_are_being_written(opened: Opened) -> None:
    # So its question waits behind the write, and no tick waits for two turns of the loop.
    desk = opened(every("every 1m"))
    desk.service.hold()
    desk.passes(MINUTE)
    assert (desk.added, desk.rows()) == (1, [])
    desk.service.let_go()
    desk.turns()
    assert (desk.added, len(desk.rows())) == (1, 1)


def test_a_tick_is_waited_for_exactly(opened: Opened) -> None:
    desk = opened(every("every 1m"))
    assert [timer.is_exact for timer in desk.loop._timers if timer.callback == desk.scheduler.turn] == [True]


def test_after_a_lost_answer_nobody_says_that_another_has_written_it(opened: Opened) -> None:
    desk = opened(every("every 1m"))
    desk.faulty.loses_answer("tick", TROUBLE)
    desk.passes(MINUTE)
    desk.passes(10 * SECOND)
    assert (len(desk.rows()), desk.elsewhere) == (1, [])


def test_a_storage_fault_of_minutes_is_told_and_its_ticks_are_accounted_for(opened: Opened) -> None:
    # rule 34: ticks go on within 15 s of the storage's return
    desk = opened(every("every 1m", catch_up=CatchUp.NONE))
    desk.faulty.fails("tick", TROUBLE, times=60)
    desk.passes(10 * MINUTE, steps=600)
    assert 55 <= desk.told(StorageTrouble) <= 60
    assert desk.told(StorageBack) == 1
    assert [run.tick for run in desk.rows()] == [NOON + n * MINUTE for n in range(1, 11)]


def test_an_error_of_any_kind_is_told(opened: Opened) -> None:
    desk = opened(every("every 1m"))
    desk.faulty.fails("tick", RuntimeError("a mistake of ours"))
    desk.passes(MINUTE)
    assert desk.told(StorageTrouble) == 1
    desk.passes(2 * SECOND, steps=2)
    assert len(desk.rows()) == 1


def test_a_lost_owner_writes_no_tick(opened: Opened) -> None:
    desk = opened(every("every 1m"))
    desk.faulty.fails("tick", OwnerLost("voided"))
    desk.passes(MINUTE)
    assert (desk.lost, desk.rows()) == (1, [])


def test_a_tick_that_another_scheduler_wrote_is_not_written_again(opened: Opened) -> None:
    # I6: one run per (schedule, tick) over any number of supervisors
    first = opened(every("every 1m"))
    second = opened(every("every 1m"), after=first)
    first.clock.passes(MINUTE)
    for desk in (first, second):
        desk.turns()
    assert [run.tick for run in first.rows()] == [NOON + MINUTE]
    assert (first.elsewhere, second.elsewhere) == ([], ["beat"])


def test_a_watermark_set_back_in_the_storage_is_believed(opened: Opened) -> None:
    # a restored backup: what is only known in memory would be expected for ever, in a busy loop
    desk = opened(every("every 1m"))
    desk.passes(2 * MINUTE, steps=2)
    desk.memory._house.watermarks["beat|every 1m"].at = NOON
    desk.passes(MINUTE)
    assert desk.faulty.calls.count("tick") <= 5
    desk.passes(MINUTE)
    assert {run.tick for run in desk.rows()} >= {NOON + 3 * MINUTE, NOON + 4 * MINUTE}


def test_misses_after_a_restart_are_the_supervisors(opened: Opened) -> None:
    # rules 9 and 10
    desk = opened(every("every 1h"))
    desk.scheduler.stop()
    desk.clock.passes(3 * HOUR + 2 * MINUTE)
    again = opened(every("every 1h"), after=desk)
    assert [run.reason for run in again.rows()] == [Reason.MISSED_DOWN.value] * 2 + [None]
    assert again.rows()[-1].missed == 3


@pytest.mark.parametrize(
    ("move", "reason"),
    [(HandClock.suspends, Reason.MISSED_SUSPENDED), (HandClock.steps, Reason.MISSED_CLOCK)],
)
def test_misses_while_it_runs_name_their_cause(
    opened: Opened, move: Callable[[HandClock, Micros], None], reason: Reason
) -> None:
    # rule 5: whoever notices first, the beat or the timer of a tick
    desk = opened(every("every 1h", catch_up=CatchUp.NONE), every("every 1s", "second"))
    move(desk.clock, 3 * HOUR + 2 * MINUTE)
    desk.passes(SECOND)
    assert {run.reason for run in desk.rows() if run.task == "beat"} == {reason.value}


def test_a_short_suspend_is_noticed_and_its_ticks_run(opened: Opened) -> None:
    # rule 5: up to 60 s late is just late
    desk = opened(every("every 1m"))
    desk.clock.suspends(90 * SECOND)
    desk._look()  # the beat
    desk.turns()
    assert [(run.tick, run.state) for run in desk.rows()] == [(NOON + MINUTE, State.QUEUED)]


def test_a_step_back_repeats_no_tick(opened: Opened) -> None:
    # rule 5
    desk = opened(every("every 1m"))
    desk.passes(2 * MINUTE, steps=2)
    desk.clock.steps(-10 * MINUTE)
    desk.passes(15 * MINUTE, steps=15)
    ticks = [run.tick or 0 for run in desk.rows()]
    assert ticks == sorted(set(ticks))
    assert ticks[:3] == [NOON + MINUTE, NOON + 2 * MINUTE, NOON + 3 * MINUTE]


def test_catch_up_runs_are_spread_by_priority(opened: Opened) -> None:
    # rule 9, and rule 19: they expire after their own due time
    names = ["low", "high", "middle"]
    tasks = [
        every("every 1h", name, priority=priority, expires=MINUTE)
        for name, priority in zip(names, (0, 9, 5), strict=True)
    ]
    desk = opened(*tasks)
    desk.scheduler.stop()
    desk.clock.passes(HOUR + 2 * MINUTE)
    now = desk.clock.now()
    rows = sorted(opened(*tasks, after=desk).rows(), key=lambda run: run.due_at)
    assert [run.task for run in rows] == ["high", "middle", "low"]
    assert [run.due_at - now for run in rows] == [0, SPREAD // 3, SPREAD * 2 // 3]
    assert [(run.expires_at or 0) - run.due_at for run in rows] == [MINUTE] * 3
    assert [run.state for run in rows] == [State.QUEUED, State.SCHEDULED, State.SCHEDULED]


def test_all_missed_ticks_wait_for_one_another_oldest_first(opened: Opened) -> None:
    # rule 9: oldest first, one behind the other, exempt from overlap
    first = opened(every("every 1h", catch_up=CatchUp.ALL, expires=MINUTE))
    first.memory.add([a_run("beat")])
    first.scheduler.stop()
    first.clock.passes(5 * HOUR)
    rows = opened(every("every 1h", catch_up=CatchUp.ALL, expires=MINUTE), after=first).rows()[1:]
    assert [row.tick for row in rows] == [NOON + hour * HOUR for hour in range(1, 6)]
    assert [row.missed for row in rows] == [1] * 5
    assert [row.state for row in rows] == [State.QUEUED, *[State.WAITING] * 4]
    first.memory.cancel([rows[0].id], first.clock.now())
    states = [first.memory.run(row.id).state for row in rows]
    assert states == [State.CANCELLED, State.QUEUED, *[State.WAITING] * 3]
    # rule 19: patience counts from the moment a run becomes due
    assert first.memory.run(rows[1].id).expires_at == first.clock.now() + MINUTE


def test_all_missed_ticks_of_several_schedules_are_one_line(opened: Opened) -> None:
    rules = tuple(
        ScheduleRule(key=each, source=each, timezone="UTC", text=each, words=each)
        for each in ("every 1h", "every 2h")
    )
    task = a_task("beat", schedules=rules, catch_up=CatchUp.ALL)
    first = opened(task)
    first.scheduler.stop()
    first.clock.passes(4 * HOUR)
    rows = opened(task, after=first).rows()
    assert sorted({row.tick or 0 for row in rows}) == [NOON + hour * HOUR for hour in range(1, 5)]
    assert len(rows) == 4
    assert sum(row.state is State.QUEUED for row in rows) == 1


@pytest.mark.parametrize("overlap", [Overlap.QUEUE, Overlap.REPLACE])
def test_overlap_is_told_to_the_storage(opened: Opened, overlap: Overlap) -> None:
    # rule 8
    desk = opened(every("every 1m", overlap=overlap))
    desk.memory.add([a_run("beat")])
    desk.passes(2 * MINUTE, steps=2)
    by_hand, first, second = desk.rows()
    if overlap is Overlap.QUEUE:
        assert (by_hand.state, first.state, second.state) == (State.QUEUED, State.CANCELLED, State.WAITING)
        assert first.reason == Reason.SUPERSEDED
    else:
        assert (by_hand.state, first.state, second.state) == (State.CANCELLED, State.CANCELLED, State.QUEUED)
        assert (by_hand.reason, first.reason) == (Reason.SUPERSEDED, Reason.SUPERSEDED)


def test_a_tick_that_does_not_run_replaces_nothing(opened: Opened) -> None:
    desk = opened(every("every 1m", overlap=Overlap.REPLACE))
    desk.memory.add([a_run("beat")])
    desk.paused["beat"] = PAUSE
    desk.passes(MINUTE)
    by_hand, skipped = desk.rows()
    assert (by_hand.state, skipped.state) == (State.QUEUED, State.SKIPPED)


def test_reboot_fires_once_per_boot(opened: Opened) -> None:
    # rule 11
    desk = opened(every("reboot"))
    assert len(desk.rows()) == 1
    desk.passes(MINUTE)
    assert len(opened(every("reboot"), after=desk).rows()) == 1
    assert len(opened(every("reboot"), after=desk, boot="boot-2").rows()) == 2


def test_a_reboot_run_whose_answer_is_lost_is_one(opened: Opened) -> None:
    memory, clock = MemoryStorage(), HandClock()
    desk = Desk((every("reboot"),), memory, clock)
    desk.faulty.loses_answer("tick", TROUBLE)
    desk.start()
    desk.passes(10 * SECOND, steps=10)
    assert len(desk.rows()) == 1
    assert desk.scheduler.is_quiet
    desk.loop.close()
    memory.close()


def test_a_start_that_could_not_be_written_is_not_lost_by_a_reload_meanwhile() -> None:
    # rule 11: a reload takes over the `reboot` schedules that have not fired, those under way too
    memory, clock = MemoryStorage(), HandClock()
    desk = Desk((every("reboot"),), memory, clock)
    desk.service.hold()
    desk.faulty.fails("tick", TROUBLE)
    desk.start()
    desk.scheduler.hold()
    waiting = desk.scheduler.reboots()
    desk.service.let_go()
    desk.turns()
    for reboots in (waiting, waiting):  # the second time it has fired
        desk.scheduler.start(timetables(desk.plan, memory, desk.boot, clock.now(), reboots=reboots))
        desk.turns()
    assert [run.state for run in desk.rows()] == [State.QUEUED]
    assert desk.scheduler.reboots() == set()
    desk.loop.close()
    memory.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"enabled": False}, "disabled"), ({"blocked": "no module x"}, "blocked"), ({}, "paused")],
)
def test_the_ticks_of_a_task_that_does_not_run_have_their_rows(
    opened: Opened, changes: dict[str, Any], reason: str
) -> None:
    # rule 10
    desk = opened(every("every 1m", **changes))
    desk.paused["beat"] = PAUSE
    desk.passes(2 * MINUTE, steps=2)
    assert [(run.state, run.reason) for run in desk.rows()] == [(State.SKIPPED, reason)] * 2
    told = {"paused": {"pause": PAUSE._asdict()}, "blocked": {"why": "no module x"}}.get(reason)
    assert [json.loads(run.detail or "null") for run in desk.rows()] == [told] * 2
    assert desk.told(TickRefused) == 2


def test_two_schedules_that_name_one_instant_are_one_tick(opened: Opened) -> None:
    # rule 7
    rules = tuple(
        ScheduleRule(key=text, source=text, timezone="UTC", text=text, words=text)
        for text in ("every 1m", "* * * * *")
    )
    desk = opened(a_task("beat", schedules=rules))
    desk.passes(MINUTE)
    assert len(desk.rows()) == 1
    assert desk.scheduler.is_quiet


def test_an_earlier_run_makes_a_tick_skip_and_is_named(opened: Opened) -> None:
    # rule 8
    desk = opened(every("every 1m"))
    by_hand = a_run("beat", lane=pool_lane("commands"))
    assert all(desk.memory.add([by_hand]))
    desk.passes(MINUTE)
    [_, skipped] = desk.rows()
    assert (skipped.state, skipped.reason) == (State.SKIPPED, "overlap")
    assert by_hand.id in (skipped.detail or "")


def test_jitter_delays_the_run_and_its_expiry_but_not_its_tick(opened: Opened) -> None:
    # rules 7 and 19
    desk = opened(every("every 1m", jitter=30 * SECOND, expires=10 * SECOND))
    desk.passes(MINUTE)
    [run] = desk.rows()
    assert run.tick == NOON + MINUTE
    assert 0 <= run.due_at - NOON - MINUTE <= 30 * SECOND
    assert run.expires_at == run.due_at + 10 * SECOND


def test_after_a_stop_no_tick_is_written(opened: Opened) -> None:
    # rule 29
    desk = opened(every("every 1m"))
    desk.service.hold()
    desk.passes(MINUTE)
    desk.scheduler.stop()
    desk.service.let_go()
    desk.passes(5 * MINUTE, steps=5)
    assert len(desk.rows()) == 1


def test_a_failed_write_after_a_stop_sets_no_timer(opened: Opened) -> None:
    desk = opened(every("every 1m"))
    desk.faulty.fails("tick", TROUBLE)
    desk.service.hold()
    desk.passes(MINUTE)
    desk.scheduler.stop()
    desk.service.let_go()
    desk.passes(5 * MINUTE, steps=5)
    assert desk.rows() == []


def test_after_a_short_outage_no_tick_is_said_to_overlap(opened: Opened) -> None:
    # rules 5, 8 and 10: what nobody was there for is missed, in one row, and the latest runs for all
    desk = opened(every("every 1s", overlap=Overlap.SKIP))
    desk.passes(SECOND)
    desk.memory.cancel([desk.rows()[0].id], desk.clock.now())
    desk.scheduler.stop()
    desk.clock.passes(45 * SECOND)
    _, fold, run = opened(every("every 1s"), after=desk).rows()
    assert (fold.state, fold.reason) == (State.SKIPPED, Reason.MISSED_DOWN)
    assert json.loads(fold.detail or "")["count"] == 44
    assert (run.state, run.tick, run.missed) == (State.QUEUED, desk.clock.now(), 45)


@pytest.mark.parametrize("outage", [3 * SECOND, 3 * MINUTE])
def test_a_supervisor_that_was_held_up_is_not_said_to_have_been_down(opened: Opened, outage: Micros) -> None:
    # rule 5: a storage that did not answer, a process that was stopped: it was there
    desk = opened(every("every 1s"), every("every 2m", "seldom"))
    desk.passes(SECOND)
    desk.memory.cancel([desk.rows()[0].id], desk.clock.now())
    desk.clock.passes(outage)
    desk.turns()
    missed = {run.reason for run in desk.rows() if run.task == "beat" and run.state is State.SKIPPED}
    assert missed == {Reason.MISSED_HELD_UP}
    [run] = [run for run in desk.rows() if run.task == "beat" and not run.state.is_final]
    assert (run.tick, run.missed) == (desk.clock.now(), outage // SECOND)


def test_a_holder_that_began_before_an_outage_is_named_for_the_latest_tick(opened: Opened) -> None:
    # rule 8: the others are missed
    desk = opened(every("every 1s"))
    desk.passes(SECOND)
    desk.clock.passes(3 * SECOND)
    desk.turns()
    first, *missed, last = desk.rows()
    assert [run.reason for run in missed] == [Reason.MISSED_HELD_UP] * 2
    assert (last.reason, json.loads(last.detail or "")) == ("overlap", {"holder": first.id})


def test_what_fell_into_a_pause_that_ended_while_nobody_was_there_is_paused(opened: Opened) -> None:
    # rule 10: resuming catches up nothing, whenever a supervisor comes to it
    desk = opened(every("every 1h"))
    desk.scheduler.stop()
    over = Pause(target="task:beat", since=NOON, until=NOON + 3 * HOUR, by="ana", reason="")
    desk.clock.passes(4 * HOUR + MINUTE)
    again = Desk((every("every 1h"),), desk.memory, desk.clock, paused={"beat": over})
    again.start()
    told = [(run.reason, run.missed) for run in again.rows()]
    assert told == [("paused", 0), ("paused", 0), ("missed (supervisor down)", 0), (None, 2)]
    assert json.loads(again.rows()[0].detail or "")["pause"]["by"] == "ana"
    again.loop.close()


def test_of_two_schedules_with_other_arguments_the_first_of_the_file_goes_first_each_time(
    opened: Opened,
) -> None:
    # rules 7 and 8
    rules = tuple(
        ScheduleRule(key=name, source="every 1m", timezone="UTC", text="every 1m", words="", args=(name,))
        for name in ("b", "a")
    )
    desk = opened(a_task("beat", schedules=rules))
    for _ in range(6):
        desk.passes(MINUTE)
        desk.memory.cancel([run.id for run in desk.rows() if not run.state.is_final], desk.clock.now())
    told = [(json.loads(run.payload)["args"], run.state) for run in desk.rows()]
    assert told == [(["b"], State.CANCELLED), (["a"], State.SKIPPED)] * 6
