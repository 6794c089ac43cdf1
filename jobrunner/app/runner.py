"""JobRunner: the door of the Python API. It declares tasks, enqueues runs, and asks what became of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from .. import client
from ..catalogue import Entry
from ..clock import Clock, SystemClock
from ..codec import LIMIT
from ..context import run_here
from ..durations import SECOND, parse_size
from ..errors import NotFound, UsageError
from ..hooks import Signal
from ..model import NewRun, Reason, Run, State
from ..notices import births
from ..place import shown
from ..storage import ClientStorage
from .adding import Definitions, InStorage, InTransaction, Making, Place, connection_of, standing
from .births import Entries, Occasion, born, own_entry, rescheduled, woven
from .handle import RunGroup, RunHandle
from .hooking import Hooking
from .looking import Looking
from .moments import Duration, duration
from .opening import Opening, absolute_backend, url_of
from .options import CallOptions, ScheduleSource, TaskOptions, Terms, declared
from .pipeline import Node, Step, node_of
from .task import Task

if TYPE_CHECKING:
    from .bench import Bench
    from .clocks import MovableClock
    from .locking import Locks
    from .waiting import Waiting

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


class JobRunner(Hooking, Looking):
    """Tasks, runs and results on one storage; from any thread, and after a fork too.

    `file` names a jobs.yaml, from the present folder; `backend` the URL of a storage. With neither the file
    is looked for as the command line does. Nothing is opened before the first call. Inside a task, all
    calls go by way of the supervisor. `immediate=True` executes every call at once, in the caller, on a
    storage in memory: for tests. `max_arguments` bounds what a call's arguments take as text ("4MiB").
    """

    def __init__(
        self,
        file: FilePath | None = None,
        *,
        backend: str | None = None,
        immediate: bool = False,
        max_arguments: int | str = LIMIT,
    ) -> None:
        if file is not None and backend is not None:
            raise UsageError("a file says itself where its storage lies", help="give file or backend")
        self.file = None if file is None else os.path.abspath(file)
        self._max_arguments = parse_size(max_arguments)
        self.backend = None if backend is None else absolute_backend(backend)
        self._clock: Clock = SystemClock()
        self._bench: Bench | None = None
        self._coroutines: Waiting | None = None
        self._tasks: dict[str, Task[..., Any]] = {}
        self._definitions = Definitions()
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
        if not isinstance(what, str | Task):
            raise UsageError(f"enqueue: got {what!r:.100}, expected a task, its name, or a pipeline")
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
        listed = list(calls)
        for each in listed:
            if not (isinstance(each, tuple) and len(each) == 3):
                raise UsageError(
                    f"enqueue_many: got {each!r:.100}, expected (task or its name, args, kwargs)"
                )
        named = cache(self.__getitem__)
        return self._enqueue_each(
            [(named(task) if isinstance(task, str) else task, args, kwargs) for task, args, kwargs in listed]
        )

    def _enqueue(
        self, task: Task[..., Any], args: Sequence[Any] | None, kwargs: Mapping[str, Any], terms: Terms
    ) -> RunHandle[Any]:
        occasion = self._occasion(terms)

        def make(published: Entries) -> Sequence[NewRun]:
            entry = self._entry(task, published)
            return self._rows(born(task, entry, args, kwargs, terms, occasion), entry, terms, published)

        return self._add(make, connection=terms.connection)[0]

    def _enqueue_node(self, node: Node[Any]) -> RunHandle[Any]:
        if isinstance(node, Step) and not node.handlers:
            return self._enqueue(node.task, node.args or None, node.kwargs, node.terms)
        occasion = self._occasion(node.terms)

        def make(published: Entries) -> Sequence[NewRun]:
            entries = self._entries({step.task.name: step.task for step in node.tasks()}, published)
            return woven(node, entries, occasion)

        try:
            return self._add(make, connection=node.terms.connection)[0]
        except RecursionError:
            raise UsageError(
                "the pipeline is nested too deep", help="make it a chain, or pipelines"
            ) from None

    def _rows(self, run: NewRun, entry: Entry, terms: Terms, published: Entries) -> tuple[NewRun, ...]:
        """The run itself; of a pipeline that was named, its root and its steps."""
        if entry.composition is None:
            return (run,)
        from ..composition import begin

        timeout = entry.timeout if terms.timeout is None else terms.timeout
        return begin(run, replace(entry, timeout=timeout), self._entries({}, published))

    def _entries(self, tasks: Mapping[str, Task[..., Any]], published: Entries) -> Entries:
        """What is known of tasks, by name."""

        def entry(name: str) -> Entry | None:
            task = tasks.get(name) or self._tasks.get(name)
            is_ours = task is not None and task.function is not None
            return self._entry(task, published) if is_ours and task else published(name)

        return entry

    def _enqueue_each(
        self, calls: Sequence[tuple[Task[..., Any], Sequence[Any], Mapping[str, Any]]]
    ) -> RunGroup[Any]:
        each_terms = [task.terms for task in {id(task): task for task, _, _ in calls}.values()]
        if len(calls) > 1 and any(terms.run_id is not None for terms in each_terms):
            raise UsageError("id: an id is that of one run", help="enqueue that one by itself")
        occasion = self._occasion(*each_terms)

        def make(published: Entries) -> Sequence[NewRun]:
            entries: dict[str, Entry] = {}
            rows: list[NewRun] = []
            for task, args, kwargs in calls:
                entry = entries.get(task.name) or entries.setdefault(task.name, self._entry(task, published))
                run = born(task, entry, args, kwargs, task.terms, occasion)
                rows.extend(self._rows(run, entry, task.terms, published))
            return rows

        return RunGroup(self, self._add(make, connection=connection_of(each_terms)))

    def _entry(self, task: Task[..., Any], published: Entries) -> Entry:
        """What is published about the task; of a declared one that is not, what its decorator says."""
        found = published(task.name)
        if found is not None:
            return found
        if task.function is not None:
            return own_entry(task)
        catalogue = self.storage.catalogue()
        if catalogue is None:
            raise NotFound(
                f"nobody knows of {task.name} yet: no supervisor has run on {shown(self.storage.url)}",
                help=f"start it: jobrunner run {self.file or 'MODULE:JOBS'}",
            )
        raise client.unknown_task(task.name, {*self._tasks, *catalogue.tasks})

    def _demand_task(self, name: str) -> None:
        self._entry(self[name], self.storage.entry)

    def _occasion(self, *terms: Terms) -> Occasion:
        zone = self._zone() if any(each.needs_zone for each in terms) else None
        return Occasion(now=self.clock.now(), zone=zone, limit=self._max_arguments)

    def _add(self, make: Making, *, connection: Any = None) -> list[RunHandle[Any]]:
        """Make runs and add them (those of a caller's transaction are there once that is committed).

        A handle on each that is no step of another.
        """
        if connection is None:
            place: Place = InStorage(self.storage)
            runs, answers = self._definitions.add(self.storage, make)
        else:
            place = InTransaction(self.storage, connection)
            runs = make(cache(self.storage.entry))
            answers = place.add(runs)
        added = list(zip(runs, standing(place, runs, answers), strict=True))
        if connection is None:
            self._added([run for run, each in added if each.is_new])
        return [
            RunHandle(self, each.id, run.task, is_new=each.is_new)
            for run, each in added
            if run.pipeline is None
        ]

    def _added(self, runs: Sequence[NewRun]) -> None:
        if self.hooks.receivers and self.hooks.signals & {Signal.ENQUEUED, Signal.SCHEDULED}:
            for notice in births(runs):
                self.hooks.send(notice)
        if self._bench is not None:
            self._bench.added()

    # ---- inside a task

    def lock(self, name: str, *, timeout: Duration | None = None) -> AbstractContextManager[None]:
        """Hold one more lock inside a task: `with jobs.lock("database", timeout=5): ...`.

        It is held by the run, like the task's own lock: it ends with the attempt, however that ends. Its
        slots are those of the file. Raises LockBusy when it is not free in time (None: waits for ever),
        UsageError outside of a task.
        """
        from .locking import held

        return held(self._locks(), name, None if timeout is None else duration(timeout, "timeout") / SECOND)

    def _locks(self) -> Locks:
        if run_here() is None:
            raise UsageError(
                "jobs.lock() was called where no run is executing: a lock is held by a run",
                help="call it inside a task that jobrunner executes",
            )
        if self._bench is not None:
            return self._bench.locks()
        found: Any = self.storage
        if not hasattr(found, "is_remote"):
            raise UsageError("jobs.lock() is for tasks that a worker executes", help="see locks in jobs.yaml")
        return cast("Locks", found)

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

    def _wait(self, run_id: str, timeout: float | None) -> Run:
        if self._bench is not None:
            return self._bench.wait(run_id, timeout)
        return self.storage.wait(run_id, timeout)

    async def _await(self, run_id: str, timeout: float | None) -> Run:
        if self._bench is None:
            return await self._waiting().final(run_id, timeout)
        import asyncio

        return await asyncio.to_thread(self._bench.wait, run_id, timeout)  # waiting makes its time pass

    def _waiting(self) -> Waiting:
        if self._coroutines is None:
            from .waiting import Waiting

            self._coroutines = Waiting(self._opening.storage)
        return self._coroutines

    def _changed(self) -> None:
        if self._bench is not None:
            self._bench.changed()

    def _reschedule(self, run: Run, options: CallOptions) -> RunHandle[Any]:
        """The copy goes in before the run is taken back: a crash between the two loses neither."""
        if run.join is not None or run.pipeline is not None:
            raise UsageError(
                f"run {run.id} of {run.task} is {'a pipeline' if run.pipeline is None else 'a step of one'}: "
                "it cannot be rescheduled",
                help="cancel() the pipeline, and enqueue it with other options",
            )
        if run.state not in (State.SCHEDULED, State.QUEUED, State.RETRYING):
            raise UsageError(
                f"run {run.id} of {run.task} is {run.state.value}: only one that waits can be rescheduled",
                help="retry() runs a final one again",
            )
        terms = Terms().with_options(options)
        occasion = self._occasion(terms)
        entry = self._entry(self[run.task], self.storage.entry)
        handle = self._add(lambda _: [rescheduled(run, entry, terms, occasion)])[0]
        self.storage.cancel([run.id], occasion.now, reason=Reason.SUPERSEDED.value)
        return handle


def _is_same(one: Callable[..., Any] | None, other: Callable[..., Any] | None) -> bool:
    """Whether this is the same function, perhaps of a module that was imported again."""
    return _place(one) == _place(other)


def _place(function: Callable[..., Any] | None) -> str:
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
