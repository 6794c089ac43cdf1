"""JobRunner: the door of the Python API. It declares tasks, enqueues runs, and asks what became of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from .. import client
from ..catalogue import Entry
from ..clock import Clock, SystemClock
from ..durations import Micros, to_micros
from ..errors import UsageError
from ..hooks import Notice, Signal
from ..ids import new_id
from ..model import NewRun, Reason, Run, State
from ..storage import COUNT_LIMIT, ClientStorage, Pause, Revocation, RunFilter
from .births import Occasion, born, own_entry, rescheduled, woven
from .handle import RunGroup, RunHandle
from .hooking import Hooking
from .moments import instant
from .opening import Opening, absolute_backend, url_of
from .options import CallOptions, ScheduleSource, TaskOptions, Terms, declared
from .pipeline import Node, Step, node_of
from .records import RunRecord
from .task import Task

if TYPE_CHECKING:
    from .bench import Bench
    from .clocks import MovableClock

P = ParamSpec("P")
R = TypeVar("R")
FilePath = str | os.PathLike[str]
Arguments = tuple[Sequence[Any] | None, Mapping[str, Any]]


class Declaring(Protocol):
    """What `@jobs.task(...)` gives: it makes a task of a function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class JobRunner(Hooking):
    """Tasks, runs and results on one storage; from any thread, and after a fork too.

    `file` names a jobs.yaml, from the present folder; `backend` the URL of a storage. With neither the file
    is looked for as the command line does. Nothing is opened before the first call. Inside a task, all
    calls go by way of the supervisor. `immediate=True` executes every call at once, in the caller, on a
    storage in memory: for tests.
    """

    def __init__(
        self, file: FilePath | None = None, *, backend: str | None = None, immediate: bool = False
    ) -> None:
        if file is not None and backend is not None:
            raise UsageError("a file says itself where its storage lies", help="give file or backend")
        self.file = None if file is None else os.path.abspath(file)
        self.backend = None if backend is None else absolute_backend(backend)
        self._clock: Clock = SystemClock()
        self._bench: Bench | None = None
        self._tasks: dict[str, Task[..., Any]] = {}
        super().__init__()
        self._opening = Opening(lambda: url_of(self.file, self.backend))
        self.immediate = immediate

    def __repr__(self) -> str:
        return f"JobRunner({self.file or self.backend or ''})"

    @property
    def immediate(self) -> bool:
        """Whether calls are executed at once, in the caller, on an empty storage in memory; may be set.

        What is enqueued for later, and a retry with a delay, is executed when somebody waits for it: that
        takes no time. What the storage of the file or backend holds is not touched.
        """
        return self._bench is not None

    @immediate.setter
    def immediate(self, on: bool) -> None:
        if on == self.immediate:
            return
        if on:
            self._sit_down()
        else:
            self._get_up()

    def close(self) -> None:
        """Close the storage; the next call opens it again."""
        if self._bench is not None:
            self._bench.close()
        self._opening.close()

    def __enter__(self) -> JobRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- declaring

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, **options: Unpack[TaskOptions]) -> Declaring: ...
    def task(self, *function: Any, **options: Any) -> Any:
        """Make a task of a function, sync or `async def`; the options are the keys of jobs.yaml.

        The task is called like the function unless `name` says otherwise. Raises UsageError when the name
        is taken, TypeError for an unknown option.
        """
        said = declared(options, None)
        make = self._declaring(options.get("name"), said)
        return make(*function) if function else make

    def periodic_task(self, schedule: ScheduleSource, /, **options: Unpack[TaskOptions]) -> Declaring:
        """Make a task of a function, and run it by a schedule.

        `schedule` is cron text, "every 90s", `crontab(minute=0)`, or a mapping as in jobs.yaml.
        """
        return cast(Declaring, self._declaring(options.get("name"), declared(options, schedule)))

    def _declaring(self, name: str | None, said: dict[str, object]) -> Callable[[Any], Task[..., Any]]:
        def declare(function: Any) -> Task[..., Any]:
            plain: Any = function.function if isinstance(function, Task) else function
            task: Task[..., Any] = Task(self, name or plain.__name__, function=plain, options=said)
            return self._declared(task)

        return declare

    def _declared(self, task: Task[..., Any]) -> Task[..., Any]:
        client.forced_entry(task.name)  # refuses what cannot be a task's name
        known = self._tasks.get(task.name)
        if known is not None and not _is_same(known.function, task.function):
            raise UsageError(
                f"there are two tasks {task.name!r}: {_place(known.function)} and {_place(task.function)}",
                help="give one of them another name: @jobs.task(name=...)",
            )
        self._tasks[task.name] = task
        return task

    @property
    def tasks(self) -> Mapping[str, Task[..., Any]]:
        """The tasks that were declared here, by name."""
        return MappingProxyType(self._tasks)

    def __getitem__(self, name: str) -> Task[..., Any]:
        """A task by its name, declared here or not: with everything that a declared one has."""
        return self._tasks.get(name) or Task(self, name)

    # ---- enqueueing

    @overload
    def enqueue(self, what: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]: ...
    @overload
    def enqueue(self, what: Node[R], /) -> RunHandle[R]: ...
    @overload
    def enqueue(self, what: str, /, *args: Any, **kwargs: Any) -> RunHandle[Any]: ...
    def enqueue(self, what: Any, /, *args: Any, **kwargs: Any) -> RunHandle[Any]:
        """Enqueue a run of a task, or by the name of a task or pipeline, with these arguments; or a pipeline.

        Raises NotFound for a task that nobody has published, WrongArguments (a TypeError) for arguments that
        do not fit, PayloadError (a TypeError) for what cannot be stored, StorageError.
        """
        if isinstance(what, Node):
            return self._enqueue_node(node_of(what, args, kwargs))
        task = self[what] if isinstance(what, str) else what
        return self._enqueue(task, args or None, kwargs, task.terms)

    @overload
    async def aenqueue(self, what: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]: ...
    @overload
    async def aenqueue(self, what: Node[R], /) -> RunHandle[R]: ...
    @overload
    async def aenqueue(self, what: str, /, *args: Any, **kwargs: Any) -> RunHandle[Any]: ...
    async def aenqueue(self, what: Any, /, *args: Any, **kwargs: Any) -> RunHandle[Any]:
        """`enqueue` for coroutines."""
        import asyncio

        return await asyncio.to_thread(self.enqueue, what, *args, **kwargs)

    def enqueue_many(
        self, calls: Iterable[tuple[str | Task[..., Any], Sequence[Any], Mapping[str, Any]]]
    ) -> RunGroup[Any]:
        """Enqueue many runs in one write: (task or its name, args, kwargs) each. All of them, or none."""
        found = [
            (self[task] if isinstance(task, str) else task, args, kwargs) for task, args, kwargs in calls
        ]
        return self._enqueue_each(found)

    def _enqueue(
        self, task: Task[..., Any], args: Sequence[Any] | None, kwargs: Mapping[str, Any], terms: Terms
    ) -> RunHandle[Any]:
        entry, occasion = self._entry(task), self._occasion(terms)
        return self._add(self._rows(born(task, entry, args, kwargs, terms, occasion), entry))[0]

    def _enqueue_node(self, node: Node[Any]) -> RunHandle[Any]:
        if isinstance(node, Step) and not node.handlers:
            return self._enqueue(node.task, node.args or None, node.kwargs, node.terms)
        entries = self._entries({step.task.name: step.task for step in node.tasks()})
        return self._add(woven(node, entries, self._occasion(node.terms)))[0]

    def _rows(self, run: NewRun, entry: Entry) -> tuple[NewRun, ...]:
        """The run itself; of a pipeline that was named, its root and its steps."""
        if entry.composition is None:
            return (run,)
        from ..composition import begin

        return begin(run, entry, self._entries({}))

    def _entries(self, tasks: Mapping[str, Task[..., Any]]) -> Callable[[str], Entry | None]:
        """What is known of tasks, by name; each is looked up once."""
        found: dict[str, Entry | None] = {}

        def entry(name: str) -> Entry | None:
            if name not in found:
                task = tasks.get(name) or self._tasks.get(name)
                is_ours = task is not None and task.function is not None
                found[name] = self._entry(task) if is_ours and task else self.storage.entry(name)
            return found[name]

        return entry

    def _enqueue_each(
        self, calls: Sequence[tuple[Task[..., Any], Sequence[Any], Mapping[str, Any]]]
    ) -> RunGroup[Any]:
        entries: dict[str, Entry] = {}
        runs = []
        for task, args, kwargs in calls:
            if task.name not in entries:
                entries[task.name] = self._entry(task)
            occasion = self._occasion(task.terms)
            runs.append(born(task, entries[task.name], args, kwargs, task.terms, occasion))
        return RunGroup(self, self._add(runs))

    def _entry(self, task: Task[..., Any]) -> Entry:
        """What is published about the task; of a declared one that is not, what its decorator says."""
        found = self.storage.entry(task.name)
        if found is not None:
            return found
        if task.function is not None:
            return own_entry(task)
        catalogue = self.storage.catalogue()
        known = {*self._tasks, *(() if catalogue is None else catalogue.tasks)}
        raise client.unknown_task(task.name, known)

    def _occasion(self, terms: Terms) -> Occasion:
        return Occasion(now=self.clock.now(), zone=self._zone() if terms.needs_zone else None)

    def _zone(self) -> tzinfo | None:
        """The zone of the published file; None, this machine's, when it is not known."""
        from zoneinfo import ZoneInfo

        catalogue = self.storage.catalogue()
        return None if catalogue is None else ZoneInfo(catalogue.timezone)

    def _add(self, runs: Sequence[NewRun]) -> list[RunHandle[Any]]:
        added = self.storage.add(runs)
        if self.hooks.signals & {Signal.ENQUEUED, Signal.SCHEDULED}:
            self._tell(run for run, is_new in zip(runs, added, strict=True) if is_new)
        if self._bench is not None:
            self._bench.added()
        return [self._handle(run, is_new=new) for run, new in zip(runs, added, strict=True)]

    def _handle(self, run: NewRun, *, is_new: bool) -> RunHandle[Any]:
        """A handle on what an enqueue made, or on the run that was there already."""
        if is_new or run.unique is None:
            return RunHandle(self, run.id, run.task, is_new=is_new)
        for holder in self.storage.runs(RunFilter(unique=run.unique, limit=1)):
            return RunHandle(self, holder.id, holder.task, is_new=False)
        return self._add([run])[0]  # it has ended in between: the key is free

    def _tell(self, runs: Iterable[NewRun]) -> None:
        for run in runs:
            signal = Signal.SCHEDULED if run.state is State.SCHEDULED else Signal.ENQUEUED
            if run.state in (State.SCHEDULED, State.QUEUED):
                self.hooks.send(Notice(signal=signal, task=run.task, run_id=run.id, at=self.clock.now()))

    # ---- runs

    def run(self, run_id: str) -> RunRecord:
        """A run as it is now, by its id or a unique beginning or ending. Raises NotFound, AmbiguousRun."""
        return RunRecord(self.storage.run(run_id))

    def handle(self, run_id: str) -> RunHandle[Any]:
        """A handle on a run, by the same."""
        run = self.storage.run(run_id)
        return RunHandle(self, run.id, run.task)

    def runs(
        self,
        *,
        state: str | Iterable[str] = (),
        task: str | Iterable[str] = (),
        trigger: str | Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
    ) -> list[RunRecord]:
        """Runs, newest first: of these states, tasks and triggers, created from `since` until `until`."""
        which = RunFilter(
            tasks=_texts(task),
            states=tuple(_state(each) for each in _texts(state)),
            triggers=_texts(trigger),
            since=self._instant(since),
            until=self._instant(until),
            limit=limit,
        )
        return [RunRecord(run) for run in self.storage.runs(which)]

    def counts(self) -> dict[str, int]:
        """How many runs are in each state; exact up to 10,000, one more means more."""
        found = self.storage.overview(self.clock.now(), tasks=()).counts
        return {state.value: found.get(state, 0) for state in State}

    def cancel(self, run_id: str) -> bool:
        """End a run: at once when it is not running, else by its supervisor. False: it was final already."""
        return self._cancel_all([self.storage.run(run_id).id])[0]

    def retry(self, run_id: str) -> RunHandle[Any]:
        """Run a final run once more, with its arguments and options. UsageError: it is not final."""
        run, now = self.storage.run(run_id), self.clock.now()
        again = client.retry(self.storage.entry(run.task), run, run_id=new_id(now), now=now)
        return self._add([again])[0]

    # ---- pauses

    def pause(
        self,
        task: str | None = None,
        *,
        pool: str | None = None,
        until: datetime | None = None,
        reason: str = "",
    ) -> None:
        """Start no runs of a task, of a pool, or (neither is named) at all; until `until`, or `resume`.

        Enqueues wait meanwhile, and ticks are recorded as skipped. Raises NotFound for an unknown task.
        """
        target = self._target(task, pool)
        pause = Pause(
            target=target, since=self.clock.now(), until=self._instant(until), by=_user(), reason=reason
        )
        self.storage.pause(pause)

    def resume(self, task: str | None = None, *, pool: str | None = None) -> bool:
        """End that pause; False when there was none."""
        return self.storage.resume(self._target(task, pool))

    def _target(self, task: str | None, pool: str | None) -> str:
        if task is not None and pool is not None:
            raise UsageError("a task or a pool, not both", help="make two calls")
        if task is not None:
            return f"task:{self._entry(self[task]).name}"
        return "all" if pool is None else f"pool:{pool}"

    # ---- marks

    def _revoke(self, target: str, *, once: bool = False, until: datetime | None = None) -> None:
        end, now = self._instant(until), self.clock.now()
        self.storage.revoke(Revocation(target=target, since=now, until=end, once=once, by=_user()))

    def _restore(self, target: str) -> bool:
        return self.storage.restore(target)

    def _is_revoked(self, target: str) -> bool:
        return any(each.target == target for each in self.storage.revocations(self.clock.now()))

    # ---- inside

    @property
    def storage(self) -> ClientStorage:
        """The storage behind it, open."""
        return self._opening.storage() if self._bench is None else self._bench.storage

    @property
    def clock(self) -> Clock:
        return self._clock if self._bench is None else self._bench.clock

    @clock.setter
    def clock(self, clock: Clock) -> None:
        self._clock = clock

    def _sit_down(self, clock: MovableClock | None = None, *, by_hand: bool = False) -> None:
        """Execute in this process from now on: at once, or (`by_hand`) when a test says so."""
        from .bench import Bench
        from .clocks import ShiftedClock

        self._get_up()
        self._bench = Bench(
            self._tasks,
            self.file,
            self.hooks,
            clock or ShiftedClock(),
            at_once=not by_hand,
            passes_time=not by_hand,
            ticks=by_hand,
        )

    def _get_up(self) -> None:
        bench, self._bench = self._bench, None
        if bench is not None:
            bench.close()

    def _instant(self, moment: datetime | None) -> Micros | None:
        if moment is None:
            return None
        return to_micros(moment) if moment.tzinfo else instant(moment, self._zone())

    def _wait(self, run_id: str, timeout: float | None) -> Run:
        if self._bench is not None:
            return self._bench.wait(run_id, timeout)
        return self.storage.wait(run_id, timeout)

    def _steps(self, root: str) -> list[RunRecord]:
        found = self.storage.runs(RunFilter(pipeline=root, limit=COUNT_LIMIT))
        return sorted((RunRecord(run) for run in found if run.step), key=_place_of)

    def _cancel_all(self, run_ids: Sequence[str]) -> list[bool]:
        return self.storage.cancel(run_ids, self.clock.now())

    def _reschedule(self, run: Run, options: CallOptions) -> RunHandle[Any]:
        """The copy goes in before the run is taken back: a crash between the two loses neither."""
        if run.state not in (State.SCHEDULED, State.QUEUED, State.RETRYING):
            raise UsageError(
                f"run {run.id} of {run.task} is {run.state.value}: only one that waits can be rescheduled",
                help="retry() runs a final one again",
            )
        terms = Terms().with_options(options)
        occasion = self._occasion(terms)
        handle = self._add([rescheduled(run, self._entry(self[run.task]), terms, occasion)])[0]
        self.storage.cancel([run.id], occasion.now, reason=Reason.SUPERSEDED.value)
        return handle


def _is_same(one: Callable[..., Any] | None, other: Callable[..., Any] | None) -> bool:
    """Whether this is the same function, perhaps of a module that was imported again."""
    return _place(one) == _place(other)


def _place(function: Callable[..., Any] | None) -> str:
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"


def _texts(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        known = ", ".join(each.value for each in State)
        raise UsageError(f"there is no state {name!r}", help=f"states: {known}") from None


def _place_of(record: RunRecord) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else 0, part) for part in (record.step or "").split(".")]


def _user() -> str:
    """Who asks: behind sudo, the person and not root."""
    import getpass

    for name in ("SUDO_USER", "LOGNAME", "USER"):
        if os.environ.get(name):
            return os.environ[name]
    return getpass.getuser()
