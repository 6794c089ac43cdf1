"""Handles on runs: what has become of them, their results, and what may still be done to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, cast, overload

from ..durations import SECOND
from ..errors import ResultTimeout
from ..model import Run, State
from .moments import Duration, duration
from .options import CallOptions
from .records import AttemptRecord, RunRecord, attempt_record, result_of

if TYPE_CHECKING:
    from .runner import JobRunner

R_co = TypeVar("R_co", covariant=True)

ROUND = 0.02  # seconds between two looks at the members of a group


class RunHandle(Generic[R_co]):
    """A run by its id. Nothing is cached: each question is answered by the storage."""

    __slots__ = ("_jobs", "id", "is_new", "task")

    def __init__(self, jobs: JobRunner, run_id: str, task: str, *, is_new: bool = True) -> None:
        self._jobs = jobs
        self.id = run_id
        self.task = task
        self.is_new = is_new  # False: the enqueue was refused, and this is the run that was there already

    def __repr__(self) -> str:
        return f"RunHandle(id={self.id!r}, task={self.task!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # ---- what it is

    def record(self) -> RunRecord:
        """The run as it is now. Raises NotFound when retention has removed it."""
        return RunRecord(self._run())

    @property
    def state(self) -> State:
        """Which of queued, running, retrying, succeeded, failed, ... it is now."""
        return self._run().state

    def is_ready(self) -> bool:
        """Whether it is final."""
        return self._run().state.is_final

    def attempts(self) -> list[AttemptRecord]:
        """All tries of it, oldest first, failed ones included."""
        return [attempt_record(each) for each in self._jobs.storage.attempts(self.id)]

    def steps(self) -> list[RunRecord]:
        """The runs of a pipeline, in the order of their places: "1", "2", "2.1", ..."""
        return self._jobs._steps(self.id)

    # ---- its result

    def get(self, timeout: Duration | None = None) -> R_co:
        """What it returned, waited for as long as `timeout`; None: for ever.

        Raises TaskFailed, RunCancelled, RunExpired or RunSkipped when it did not succeed, ResultTimeout
        when it is not final in time. The result stays where it is: it may be asked for again.
        """
        return cast(R_co, result_of(self._final(timeout)))

    def result(self) -> R_co:
        """The same without waiting: ResultTimeout when it is not final."""
        return self.get(0)

    def wait(self, timeout: Duration | None = None) -> State:
        """Wait until it is final, and give its state; ResultTimeout after `timeout`."""
        return self._final(timeout).state

    async def aget(self, timeout: Duration | None = None) -> R_co:
        """`get` for coroutines: other ones go on meanwhile."""
        return cast(R_co, result_of(await self._afinal(timeout)))

    # ---- what may be done to it

    def cancel(self) -> bool:
        """End it: at once when it is not running, else by its supervisor. False: it was final already."""
        return self._jobs.cancel(self.id)

    def retry(self) -> RunHandle[R_co]:
        """Run it once more as a new run, with the same arguments and options. UsageError: it is not final."""
        return cast("RunHandle[R_co]", self._jobs.retry(self.id))

    def reschedule(self, **options: Unpack[CallOptions]) -> RunHandle[R_co]:
        """Take it back, and enqueue a copy with other options (`delay`, `eta`, `priority`, ...).

        Raises UsageError when it has begun or is final.
        """
        return cast("RunHandle[R_co]", self._jobs._reschedule(self._run(), options))

    def revoke(self, *, until: datetime | None = None) -> bool:
        """Cancel it instead of starting it, should it be about to start: unless it is restored, or `until`
        comes before. False: it is final already."""
        if self._run().state.is_final:
            return False
        self._jobs._revoke(f"run:{self.id}", until=until)
        return True

    def restore(self) -> bool:
        """Take that back; False when it was not revoked."""
        return self._jobs._restore(f"run:{self.id}")

    def is_revoked(self) -> bool:
        """Whether it would be cancelled instead of being started now."""
        return self._jobs._is_revoked(f"run:{self.id}")

    # ---- inside

    def _run(self) -> Run:
        return self._jobs.storage.run(self.id)

    def _final(self, timeout: Duration | None) -> Run:
        patience = None if timeout is None else duration(timeout, "timeout") / SECOND
        run = self._jobs._wait(self.id, patience)
        return _demand_final(run, patience)

    async def _afinal(self, timeout: Duration | None) -> Run:
        patience = None if timeout is None else duration(timeout, "timeout") / SECOND
        return _demand_final(await self._jobs._await(self.id, patience), patience)


def _demand_final(run: Run, patience: float | None) -> Run:
    if run.state.is_final:
        return run
    waited = "" if not patience else f" after {patience:g} s"
    raise ResultTimeout(f"run {run.id} of {run.task} is {run.state.value}{waited}, and has no result yet")


class RunGroup(Sequence[RunHandle[R_co]], Generic[R_co]):
    """Several handles, in the order in which their runs were enqueued."""

    def __init__(self, jobs: JobRunner, handles: Sequence[RunHandle[R_co]]) -> None:
        self._jobs = jobs
        self._handles = tuple(handles)

    def __repr__(self) -> str:
        return f"RunGroup({len(self._handles)} runs)"

    def __len__(self) -> int:
        return len(self._handles)

    @overload
    def __getitem__(self, index: int) -> RunHandle[R_co]: ...
    @overload
    def __getitem__(self, index: slice) -> RunGroup[R_co]: ...
    def __getitem__(self, index: int | slice) -> RunHandle[R_co] | RunGroup[R_co]:
        if isinstance(index, slice):
            return RunGroup(self._jobs, self._handles[index])
        return self._handles[index]

    def __iter__(self) -> Iterator[RunHandle[R_co]]:
        return iter(self._handles)

    def get(self, timeout: Duration | None = None) -> list[R_co]:
        """The results of all, in order; `timeout` bounds the whole wait.

        Raises what `RunHandle.get` raises for the first one, in order, that has no result.
        """
        end = self._end(timeout)
        return [handle.get(self._left(end)) for handle in self._handles]

    async def aget(self, timeout: Duration | None = None) -> list[R_co]:
        """`get` for coroutines."""
        end = self._end(timeout)
        return [await handle.aget(self._left(end)) for handle in self._handles]

    def wait(self, timeout: Duration | None = None) -> list[State]:
        """Wait until all are final, and give their states; ResultTimeout after `timeout`."""
        end = self._end(timeout)
        return [handle.wait(self._left(end)) for handle in self._handles]

    def as_completed(self, timeout: Duration | None = None) -> Iterator[RunHandle[R_co]]:
        """Each handle as its run becomes final; ResultTimeout when `timeout` comes first."""
        end = self._end(timeout)
        waiting = list(self._handles)
        while waiting:
            ready = [handle for handle in waiting if handle.is_ready()]
            yield from ready
            waiting = [handle for handle in waiting if handle not in ready]
            if waiting and not ready:
                self._look_again(waiting, end)

    def is_ready(self) -> bool:
        """Whether all are final."""
        return all(handle.is_ready() for handle in self._handles)

    def cancel(self) -> int:
        """End all that are not final; how many those were."""
        return sum(self._jobs._cancel_all([handle.id for handle in self._handles]))

    def _look_again(self, waiting: Sequence[RunHandle[Any]], end: int | None) -> None:
        left = self._left(end)
        if left == 0:
            raise ResultTimeout(f"{len(waiting)} of {len(self)} runs are not final")
        self._jobs._wait(waiting[0].id, ROUND if left is None else min(ROUND, left))

    def _end(self, timeout: Duration | None) -> int | None:
        if timeout is None:
            return None
        return self._jobs.clock.monotonic() + duration(timeout, "timeout")

    def _left(self, end: int | None) -> float | None:
        return None if end is None else max(0, end - self._jobs.clock.monotonic()) / SECOND
