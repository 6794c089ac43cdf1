"""A stage for the loops: a clock moved by hand, a storage that fails when told, executors that only note."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from jobrunner.catalogue import catalogue_of
from jobrunner.clock import SystemClock
from jobrunner.dispatcher import Dispatcher
from jobrunner.durations import HOUR, Micros
from jobrunner.events import Event
from jobrunner.execution import Call, Sink
from jobrunner.loop import EventLoop
from jobrunner.model import Ended, Ending, NewRun, Run
from jobrunner.plan import Plan, Task
from jobrunner.service import Service
from jobrunner.storage import OwnerInfo, OwnerStatus, RunFilter, Storage
from jobrunner.storage.memory import MemoryStorage
from jobrunner.trouble import Trouble
from tests.builders import NOON, a_pool

T = TypeVar("T")
ME = "me"
TURNS = 200  # more than any test needs; a loop that is never quiet would take them all


@dataclass
class HandClock:
    """A clock that stands still until somebody moves it."""

    wall: Micros = NOON
    awake: Micros = 1_000_000
    asleep: Micros = 0

    def now(self) -> Micros:
        return self.wall

    def monotonic(self) -> Micros:
        return self.awake

    def boottime(self) -> Micros:
        return self.awake + self.asleep

    def passes(self, time: Micros) -> None:
        self.wall += time
        self.awake += time

    def suspends(self, time: Micros) -> None:
        self.wall += time
        self.asleep += time

    def steps(self, time: Micros) -> None:
        self.wall += time


class AnHourAgo(SystemClock):
    """The clock of this machine after somebody has set it back."""

    def now(self) -> Micros:
        return super().now() - HOUR


class FaultyStorage:
    """Passes every call through to a real storage, but fails when it was told to: before, or after it."""

    def __init__(self, real: Storage) -> None:
        self._real = real
        self._before: defaultdict[str, list[Exception]] = defaultdict(list)
        self._after: defaultdict[str, list[Exception]] = defaultdict(list)
        self.calls: list[str] = []

    def fails(self, name: str, error: Exception, *, times: int = 1) -> None:
        """The next calls of this method do nothing, and raise."""
        self._before[name] += [error] * times

    def loses_answer(self, name: str, error: Exception) -> None:
        """The next call of this method is done, and raises all the same."""
        self._after[name].append(error)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return self._faulty(name, real) if callable(real) else real

    def _faulty(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self._before[name]:
                raise self._before[name].pop()
            answer = real(*args, **kwargs)
            if self._after[name]:
                raise self._after[name].pop()
            return answer

        return call


class Aside(Service):
    """A service without a thread: what is asked is done at once, or (held) when it is let go."""

    def __init__(self, loop: EventLoop) -> None:
        super().__init__(loop)
        self._loop = loop
        self._held: list[Callable[[], None]] | None = None

    def hold(self) -> None:
        self._held = []

    @property
    def held(self) -> list[Callable[[], None]]:
        """What was asked for, and is not done yet."""
        return self._held or []

    def let_go(self) -> None:
        held, self._held = self._held or [], None
        for each in held:
            each()

    def ask(
        self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]
    ) -> None:
        self._now_or_later(lambda: self._do(work, then, failed))

    def watch(
        self, work: Callable[[], bool], then: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        self._now_or_later(lambda: self._look(work, then, failed))

    def _now_or_later(self, work: Callable[[], None]) -> None:
        if self._held is None:
            work()
        else:
            self._held.append(work)


@dataclass
class Recorder:
    """An executor that notes its calls; a test says when they begin and how they end."""

    sink: Sink | None = None
    slots: int = 8
    at_once: Ended | None = None  # reported inside `start`
    calls: list[Call] = field(default_factory=list)
    started: list[Call] = field(default_factory=list)  # all, in order
    ends: list[tuple[Call, Ending]] = field(default_factory=list)
    most: int = 0

    def room(self) -> int:
        return max(0, self.slots - len(self.calls))

    def busy(self) -> int:
        return len(self.calls)

    def workers(self) -> int:
        return 0

    def start(self, calls: list[Call]) -> None:
        for call in calls:
            self.calls.append(call)
            self.started.append(call)
            self.most = max(self.most, len(self.calls))
            if self.at_once is not None:
                self.finish(call, self.at_once)

    def begin(self, call: Call, at: Micros = NOON) -> None:
        assert self.sink is not None
        self.sink.started(call, at, 4711)

    def finish(self, call: Call, ended: Ended) -> None:
        assert self.sink is not None
        self.calls.remove(call)
        self.sink.ended(call, ended)

    def end(self, call: Call, ending: Ending, *, grace: Micros | None = None) -> None:
        if call in self.calls:
            self.ends.append((call, ending))

    def recall(self) -> None: ...

    def retire(self) -> None: ...

    def close(self) -> None: ...


def an_owner(owner: str = ME) -> OwnerInfo:
    return OwnerInfo(owner, "web1", 1, 1, "boot", NOON, "/jobs.yaml", "hash")


STATUS = OwnerStatus("hash", NOON, None, False, 0, {})


class Stage:
    """A dispatcher on a loop with a hand-moved clock, a memory storage that may fail, and recorders."""

    def __init__(self, *tasks: Task, slots: int = 8, **plan: Any) -> None:
        self.clock = HandClock()
        self.loop = EventLoop(self.clock)
        self.memory = MemoryStorage()
        self.faulty = FaultyStorage(self.memory)
        self.storage = cast(Storage, self.faulty)
        self.service = Aside(self.loop)
        self.events: list[Event] = []
        self.quiet = self.lost = self.controls = 0
        self.executor = Recorder(slots=slots)
        self.plan = Plan(
            file="/jobs.yaml",
            hash="hash",
            backend="memory://",
            timezone="UTC",
            pools={"commands": a_pool(slots=slots)},
            tasks={task.name: task for task in tasks},
            **plan,
        )
        assert self.memory.enter(an_owner(), STATUS)
        self.memory.publish(ME, catalogue_of(self.plan), keep=(), now=NOON)
        self.trouble = Trouble(self.loop, self.events.append)
        self.dispatcher = Dispatcher(
            plan=self.plan,
            owner=ME,
            loop=self.loop,
            storage=self.storage,
            service=self.service,
            emit=self.events.append,
            trouble=self.trouble,
            tail=lambda _run, _attempt: "the end of it",
            on_control=self._controlled,
            on_quiet=self._quieted,
            on_lost=self._lose,
        )
        self.executor.sink = self.dispatcher
        self.dispatcher.serve({"commands": self.executor})

    def _controlled(self) -> None:
        self.controls += 1

    def _quieted(self) -> None:
        self.quiet += 1

    def _lose(self) -> None:
        self.lost += 1

    def turns(self, count: int = TURNS) -> None:
        """Let the loop do what can be done at this moment."""
        for _ in range(count):
            self.loop.turn(0)

    def passes(self, time: Micros) -> None:
        self.clock.passes(time)
        self.turns()

    def add(self, *runs: NewRun) -> None:
        """Add runs as a client does, and let the dispatcher claim them."""
        assert all(self.memory.add(runs))
        self.dispatcher.wake()
        self.turns()

    def run(self, run: NewRun) -> Run:
        return self.memory.run(run.id)

    def runs_of(self, task: str) -> list[Run]:
        return self.memory.runs(RunFilter(tasks=(task,), limit=1000))

    def told(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def close(self) -> None:
        self.memory.close()
        self.loop.close()


def counts(events: list[Event]) -> Mapping[str, int]:
    """How often each kind of event was emitted."""
    found: defaultdict[str, int] = defaultdict(int)
    for event in events:
        found[type(event).__name__] += 1
    return found


def processes_of_run(run_id: str) -> set[int]:
    """The living processes whose environment names this run."""
    mark = f"JOBRUNNER_RUN_ID={run_id}".encode()
    return {int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _bytes(path)}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended, or is not ours
        return b""
