"""What a supervisor is made of beside its loops: timers, the janitor, recovery, the log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from jobrunner.durations import MINUTE, SECOND
from jobrunner.errors import OwnerLost, StorageUnavailable
from jobrunner.events import (
    AttemptEnded,
    Event,
    HousekeepingFailed,
    Ready,
    Recovered,
    RunBegan,
    Stopped,
    StorageTrouble,
    TicksAdded,
)
from jobrunner.janitor import BEAT, ClockWatch, Janitor, Orphan, recover, resolve
from jobrunner.lifecycle import settle, terms
from jobrunner.logs import Level, Log, words
from jobrunner.loop import EventLoop
from jobrunner.model import Ended, Ending, Reason, State
from jobrunner.plan import Plan, Retention, Retries
from jobrunner.storage import ExchangeRequest, Rules, Storage, TaskRule
from jobrunner.storage.memory import MemoryStorage
from jobrunner.supervisor import Supervisor
from jobrunner.until import Until
from tests.builders import NOON, a_claim, a_run, a_task, an_end
from tests.stage import ME, STATUS, Aside, FaultyStorage, HandClock, an_owner

TROUBLE = StorageUnavailable("the disk is full")


# --- the loop ---------------------------------------------------------------------------------------


def test_cancelled_timers_do_not_pile_up() -> None:
    # I8: a timeout of an hour, cancelled after a moment, for each of very many runs
    loop = EventLoop(HandClock())
    kept = [loop.after(MINUTE, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        loop.after(60 * MINUTE, lambda: None).cancel()
    assert len(loop._timers) < 200
    assert all(timer in loop._timers for timer in kept)
    loop.close()


def test_what_a_thread_hands_over_after_the_end_is_dropped() -> None:
    loop = EventLoop(HandClock())
    loop.close()
    loop.hand_over(lambda: pytest.fail("called"))


# --- the janitor ------------------------------------------------------------------------------------


class Housekeeping:
    """A janitor on a memory storage that may fail."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.loop = EventLoop(self.clock)
        self.memory = MemoryStorage()
        assert self.memory.enter(an_owner(), STATUS)
        self.faulty = FaultyStorage(self.memory)
        self.service = Aside(self.loop)
        self.events: list[Event] = []
        self.changes = self.losses = 0
        self.jumps: list[Reason] = []
        self.janitor = Janitor(
            owner=ME,
            loop=self.loop,
            storage=cast(Storage, self.faulty),
            service=self.service,
            emit=self.events.append,
            retention=Retention,
            status=lambda: STATUS,
            remove_output=lambda _ids: None,
            sweep_output=lambda _share, _now: None,
            on_change=self._changed,
            on_jump=self.jumps.append,
            on_lost=self._lost,
        )
        self.janitor.start()

    def _changed(self) -> None:
        self.changes += 1

    def _lost(self) -> None:
        self.losses += 1

    def beats(self, count: int) -> None:
        for _ in range(count):
            self.clock.passes(BEAT)
            for _ in range(5):
                self.loop.turn(0)


@pytest.fixture
def house() -> Iterator[Housekeeping]:
    made = Housekeeping()
    yield made
    made.loop.close()
    made.memory.close()


def test_a_write_of_somebody_else_is_noticed_without_a_wake_up(house: Housekeeping) -> None:
    house.beats(2)
    before = house.changes
    other = MemoryStorage()
    other._house = house.memory._house
    assert other.add([a_run()]) == [True]
    house.beats(1)
    assert house.changes == before + 1
    house.beats(3)
    assert house.changes == before + 1
    other._house = MemoryStorage()._house
    other.close()


def test_what_is_asked_of_a_hanging_storage_does_not_pile_up(house: Housekeeping) -> None:
    # I8
    house.beats(1)
    house.service.hold()
    house.beats(10_000)
    assert len(house.service._held or []) == 1
    house.service.let_go()
    house.beats(8)
    assert "heartbeat" in house.faulty.calls


def test_a_heartbeat_that_fails_is_told(house: Housekeeping) -> None:
    house.faulty.fails("heartbeat", TROUBLE)
    house.beats(8)
    assert house.events == [HousekeepingFailed("the disk is full")]


def test_a_look_that_fails_lets_the_dispatcher_find_out(house: Housekeeping) -> None:
    house.faulty.fails("changed", TROUBLE)
    house.beats(1)
    assert (house.changes, house.events) == (1, [])


@pytest.mark.parametrize("call", ["changed", "heartbeat", "prune"])
def test_a_lost_ownership_is_noticed_by_every_call(house: Housekeeping, call: str) -> None:
    house.faulty.fails(call, OwnerLost("voided"))
    house.beats(45)
    assert house.losses == 1


def test_the_clock_watch_tells_a_step_from_a_suspend() -> None:
    # rule 5
    clock = HandClock()
    watch = ClockWatch(clock)
    clock.passes(MINUTE)
    assert watch.look() is None
    clock.suspends(2 * SECOND)
    assert watch.look() is Reason.MISSED_SUSPENDED
    for step in (MINUTE, -MINUTE):
        clock.steps(step)
        assert watch.look() is Reason.MISSED_CLOCK
    clock.steps(SECOND // 2)  # time servers do this
    assert watch.look() is None


# --- recovery ---------------------------------------------------------------------------------------


def a_dead_owners_run(memory: MemoryStorage, **changes: Any) -> str:
    """A run that a supervisor claimed, which is dead now; the id of the run. `me` owns the storage."""
    assert memory.enter(an_owner("dead"), STATUS)
    run = a_run(**changes)
    assert memory.add([run]) == [True]
    rules = Rules(tasks={"backup": TaskRule(lane="pool:commands", pool="commands")})
    for version in (-1, 1):
        memory.exchange(ExchangeRequest("dead", NOON, [], [], {"commands": 1}, rules, version))
    assert memory.run(run.id).state is State.RUNNING
    assert memory.enter(an_owner(), STATUS)
    return run.id


def test_a_run_whose_process_cannot_be_ended_is_left_and_counted() -> None:
    # rule 32: leftover processes are ended before their run goes on
    memory = MemoryStorage()
    run_id = a_dead_owners_run(memory)
    done = recover(memory, ME, {}, NOON, end_leftovers=lambda _dead: (0, {run_id}, {run_id}))
    assert done is not None
    assert (done.requeued, done.failed, done.left) == (0, 0, 1)
    assert memory.run(run_id).state is State.RUNNING
    again = recover(memory, ME, {}, NOON, end_leftovers=lambda _dead: (1, set(), {run_id}))
    assert again is not None
    assert (again.requeued, again.left, memory.run(run_id).crashes) == (1, 0, 1)
    assert recover(memory, ME, {}, NOON, end_leftovers=lambda _dead: (0, set(), set())) is None
    memory.close()


@pytest.mark.parametrize(("begun", "attempt"), [(False, 0), (True, 1)])
def test_a_cancelled_orphan_has_an_attempt_only_if_it_had_begun(*, begun: bool, attempt: int) -> None:
    memory = MemoryStorage()
    run_id = a_dead_owners_run(memory)
    memory.cancel([run_id], NOON)
    [(run, owner)] = memory.orphans(ME)
    [row] = resolve([Orphan(run, owner)], (), {run_id} if begun else (), {}, NOON)
    assert memory.settle([row]) == [True]
    run = memory.run(run_id)
    assert (run.state, run.attempt, run.outcome) == (State.CANCELLED, attempt, "cancelled" if begun else None)
    memory.close()


def test_a_damaged_policy_does_not_keep_a_supervisor_from_starting() -> None:
    memory = MemoryStorage()
    run_id = a_dead_owners_run(memory, policy="{")
    recover(memory, ME, {}, NOON, end_leftovers=lambda _dead: (0, set(), {run_id}))
    assert memory.run(run_id).state is State.QUEUED
    memory.close()


# --- the log ----------------------------------------------------------------------------------------


def ended(end: Ended, **claim: Any) -> AttemptEnded:
    task = a_task(retries=Retries(max=1))
    made = a_claim(**claim)
    return AttemptEnded(made, end, settle(made, ME, end, terms(task, None, task.policy), chance=0.5))


def logged(event: Event, *, level: Level = Level.DEBUG, form: str = "text") -> str:
    stream = io.StringIO()
    Log(stream, HandClock(), form=form, level=level).emit(event)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["text", "journal", "json"])
def test_hostile_text_is_escaped_wherever_it_comes_from(form: str) -> None:
    # S9
    evil = "\x1b[31m\n<0>forged\x9b\u202e"
    events: list[Event] = [
        ended(an_end(Ending.EXCEPTION, exception=evil, error=evil)),
        ended(an_end(Ending.EXCEPTION, exception=evil, error=evil), failures=1),
        ended(an_end(result=json.dumps(evil))),
        ended(an_end(), id=evil),
        RunBegan("backup", evil, 1, evil),
        StorageTrouble(evil, "", SECOND),
        HousekeepingFailed(evil),
    ]
    for event in events:
        said = logged(event, form=form)
        text = json.loads(said)["message"] if form == "json" else said.rstrip("\n")
        assert text.isprintable(), text


def test_a_result_that_is_no_json_is_no_trouble() -> None:
    assert "succeeded" in logged(ended(an_end(result='"cut')))


def test_each_tick_of_a_write_has_its_line_and_steps_have_none() -> None:
    root, step = a_run("whole"), a_run("step", pipeline="x")
    lines = logged(TicksAdded((a_run("one"), root, step, a_run("two")))).splitlines()
    assert [line.split()[2] for line in lines] == ["one", "whole", "two"]
    assert logged(TicksAdded((root,)), level=Level.INFO) == ""


@pytest.mark.parametrize(
    ("level", "endings"),
    [
        (Level.INFO, {Ending.OK, Ending.TIMEOUT, Ending.BAD_ARGUMENTS}),
        (Level.WARNING, {Ending.TIMEOUT, Ending.BAD_ARGUMENTS}),
        (Level.ERROR, {Ending.BAD_ARGUMENTS}),
    ],
)
def test_each_level_tells_what_is_as_grave(level: Level, endings: set[Ending]) -> None:
    all_of_them = (Ending.OK, Ending.TIMEOUT, Ending.BAD_ARGUMENTS)
    assert {each for each in all_of_them if logged(ended(an_end(each)), level=level)} == endings


def test_the_hot_path_makes_no_words_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.logs.words", lambda _event: pytest.fail("words were made"))
    began = RunBegan("backup", "1", 1, "enqueue")
    assert logged(began, level=Level.INFO) == ""
    assert logged(began, level=Level.WARNING) == ""
    assert logged(ended(an_end()), level=Level.WARNING) == ""


def test_a_log_whose_reader_is_gone_is_silent() -> None:
    stream = io.StringIO()
    log = Log(stream, HandClock(), form="text")
    stream.close()
    log.emit(Stopped(0, 0, 0))
    log.emit(ended(an_end(Ending.BAD_ARGUMENTS)))


def test_a_retry_that_was_asked_for_is_not_called_a_failure() -> None:
    said = words(ended(an_end(Ending.RETRY_ASKED, delay=SECOND))).words
    assert "retry asked" in said
    assert "failed" not in said


def test_the_last_line_says_what_is_left() -> None:
    assert words(Stopped(0, 0, 0)).words == "○ stopped"
    line = words(replace(Stopped(2, 1, 0), unwritten=3))
    assert line.level is Level.WARNING
    assert line.words.count("; ") == 2


# --- the whole, in this process ---------------------------------------------------------------------


@dataclass
class Whole:
    """A supervisor on a memory storage that fails when told, without anything to run."""

    memory: MemoryStorage
    faulty: FaultyStorage
    supervisor: Supervisor
    events: list[Event]


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Whole]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("jobrunner.opening.START_PAUSE", SECOND // 100)
    monkeypatch.setattr("jobrunner.stopping.ASK_PAUSE", SECOND // 100)
    memory = MemoryStorage()
    faulty = FaultyStorage(memory)
    monkeypatch.setattr("jobrunner.opening.open_storage", lambda _url: faulty)
    plan = Plan(file="jobs.yaml", hash="1", backend="memory://", timezone="UTC")
    events: list[Event] = []
    yield Whole(memory, faulty, Supervisor(plan, emit=events.append, until=Until.ONCE), events)
    memory.close()


def told(whole: Whole, kind: type) -> int:
    return sum(isinstance(event, kind) for event in whole.events)


@pytest.mark.parametrize("call", ["enter", "orphans", "publish", "watermarks", "exchange", "runs", "pauses"])
@pytest.mark.parametrize("lost", [False, True])
def test_a_call_that_fails_once_keeps_no_supervisor_from_its_end(
    whole: Whole, call: str, *, lost: bool
) -> None:
    # rule 34: what is done once at a start, or once at an end, is done again
    fail = whole.faulty.loses_answer if lost else whole.faulty.fails
    fail(call, TROUBLE)
    whole.supervisor.run()
    assert whole.faulty.calls.count(call) >= 2
    assert (told(whole, Ready), told(whole, Stopped)) == (1, 1)


def test_a_storage_that_cannot_take_the_leave_ends_no_supervisor_badly(whole: Whole) -> None:
    whole.faulty.fails("leave", TROUBLE)
    whole.supervisor.run()
    assert told(whole, Stopped) == 1
    assert "close" in whole.faulty.calls


def test_a_lost_ownership_is_an_error_of_the_supervisor(whole: Whole) -> None:
    whole.faulty.fails("exchange", OwnerLost("voided"))
    with pytest.raises(OwnerLost):
        whole.supervisor.run()
    assert "leave" not in whole.faulty.calls
    assert told(whole, Stopped) == 1


def test_runs_that_wait_for_a_process_are_looked_at_again(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    # rule 32: what could not be ended at the start is not forgotten until the next one
    monkeypatch.setattr("jobrunner.recovery.LEFT_PAUSE", SECOND // 100)
    run_id = a_dead_owners_run(whole.memory)
    stubborn = [{run_id}, {run_id}]

    def end(_journal: object, _dead: set[str]) -> tuple[int, set[str], set[str]]:
        return 0, stubborn.pop() if stubborn else set(), {run_id}

    monkeypatch.setattr("jobrunner.recovery.end_leftovers", end)
    supervisor = whole.supervisor
    supervisor._stop.until = Until.SIGNAL

    def stop_when_resolved(event: Event) -> None:
        whole.events.append(event)
        if isinstance(event, Recovered) and not event.left:
            supervisor._loop.stop()

    supervisor._emit = stop_when_resolved
    supervisor.run()
    found = [event.left for event in whole.events if isinstance(event, Recovered)]
    assert found == [1, 0]
    assert whole.memory.run(run_id).state is State.QUEUED
