"""The storage as a task sees it: every call travels over its worker's socket to the supervisor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..catalogue import Catalogue, Entry
from ..context import Asking
from ..durations import Micros
from ..model import Attempt, Edge, NewRun, Run
from . import Overview, Pause, Revocation, RunFilter, Supervisor
from .messages import ACQUIRE, RELEASE, answer_of, call_text
from .published import Published


class RemoteStorage:
    """The half of the contract that clients use. Raises what the storage raises."""

    is_remote: Final = True  # it can give the run that asks one more lock

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.url = asking.url

    def _ask(self, name: str, *args: object, **kwargs: object) -> Any:
        return answer_of(name, self._asking.ask(call_text(name, *args, **kwargs)))

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        return list(self._ask("add", runs))

    def add_if(self, runs: Sequence[NewRun], marks: Mapping[str, str]) -> list[bool] | None:
        found: list[bool] | None = self._ask("add_if", runs, marks)
        return found

    def cancel(self, run_ids: Sequence[str], now: Micros, *, reason: str = "cancelled") -> list[bool]:
        return list(self._ask("cancel", run_ids, now, reason=reason))

    def pause(self, pause: Pause) -> None:
        self._ask("pause", pause)

    def resume(self, target: str) -> bool:
        return bool(self._ask("resume", target))

    def pauses(self, now: Micros) -> list[Pause]:
        return list(self._ask("pauses", now))

    def revoke(self, revocation: Revocation) -> None:
        self._ask("revoke", revocation)

    def restore(self, target: str) -> bool:
        return bool(self._ask("restore", target))

    def revocations(self, now: Micros) -> list[Revocation]:
        return list(self._ask("revocations", now))

    def run(self, run_id: str) -> Run:
        found: Run = self._ask("run", run_id)
        return found

    def runs(self, which: RunFilter) -> list[Run]:
        return list(self._ask("runs", which))

    def attempts(self, run_id: str) -> list[Attempt]:
        return list(self._ask("attempts", run_id))

    def edges(self, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
        return dict(self._ask("edges", run_ids))

    def wait(self, run_id: str, timeout: float | None) -> Run:
        """Other calls of the worker go on meanwhile, where there are some."""
        found: Run = self._ask("wait", run_id, timeout)
        return found

    async def final(self, run_id: str, timeout: float | None) -> Run:
        """`wait` for a coroutine of the task: the others of its event loop go on."""
        text = await self._asking.aask(call_text("wait", run_id, timeout))
        found: Run = answer_of("wait", text)
        return found

    def overview(self, now: Micros, *, tasks: Sequence[str] | None = None, recent: int = 20) -> Overview:
        found: Overview = self._ask("overview", now, tasks=tasks, recent=recent)
        return found

    def catalogue(self) -> Catalogue | None:
        found: Catalogue | None = self._ask("catalogue")
        return found

    def entry(self, task: str) -> Entry | None:
        found: Entry | None = self._ask("entry", task)
        return found

    def published(self, task: str) -> Published:
        found: Published = self._ask("published", task)
        return found

    def next_ticks(self) -> dict[str, Micros | None]:
        return dict(self._ask("next_ticks"))

    def supervisors(self, now: Micros) -> list[Supervisor]:
        return list(self._ask("supervisors", now))

    def close(self) -> None:
        """Nothing: the socket is the worker's."""

    # ---- of the run that asks --------------------------------------------------------------------

    def acquire(self, lock: str, timeout: float | None) -> bool:
        """Give the run that executes here one more lock, waiting for it at most `timeout` seconds.

        It ends with the attempt. False: it was not free in time. Raises UsageError outside of a run.
        """
        return bool(self._ask(ACQUIRE, lock, timeout))

    def release(self, lock: str) -> bool:
        """Take that lock away again; False when the run did not hold it."""
        return bool(self._ask(RELEASE, lock))
