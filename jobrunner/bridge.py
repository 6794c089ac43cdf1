"""What tasks ask of the storage, answered by the supervisor: the storage never sees a worker.

Everything is done on the storage thread, adds that come together in one write. Who waits for a run, or for a
lock, occupies neither the loop nor that thread: it is looked at again after each exchange that wrote
something, and now and then as a net, since others write too.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .durations import SECOND, Micros
from .errors import StorageUnavailable, UsageError
from .execution import Call, Reply
from .loop import EventLoop, LoopTimer
from .model import NewRun
from .service import Service
from .storage import Storage
from .storage.messages import ACQUIRE, RELEASE, Asked, answer_text, asked, error_text

NET: Final[Micros] = SECOND // 4  # between two looks for what nobody here has written
MOST_LOOKS: Final = 200  # of those that wait, in one look
_WRITES: Final = frozenset({"cancel", "pause", "resume", "revoke", "restore"})

Answer = Callable[[], str | None]  # on the storage thread; None: not yet


@dataclass(slots=True, eq=False)
class Waiter:
    """Somebody who waits for something: a run's end, a lock."""

    reply: Reply
    look: Answer
    last: Callable[[], str]  # the answer when its time is over, on the storage thread
    timer: LoopTimer | None = None
    is_looked_at: bool = False
    is_late: bool = False


@dataclass(slots=True, eq=False)
class Adding:
    """Runs to be added for somebody."""

    runs: list[NewRun]
    marks: Mapping[str, str]  # of what is published about their tasks, as far as it matters
    reply: Reply
    text: str = field(default="")


class Bridge:
    """Answers what workers ask; an executor's `Ask`."""

    def __init__(
        self,
        *,
        loop: EventLoop,
        service: Service,
        storage: Storage,
        slots_of: Callable[[str], int],
        on_change: Callable[[], None],
    ) -> None:
        """`slots_of` a lock; `on_change`: something was written that may be there to be claimed."""
        self._loop = loop
        self._service = service
        self._storage = storage
        self._slots_of = slots_of
        self._on_change = on_change
        self._adding: deque[Adding] = deque()
        self._is_adding = False  # what comes now goes with those that are to be added soon
        self._waiters: dict[int, Waiter] = {}
        self._numbers = itertools.count(1)
        self._net: LoopTimer | None = None

    def ask(self, call: Call | None, text: str, reply: Reply) -> None:
        """Answer this, now or later. `call`: the one that asks; None: no call of that worker."""
        try:
            question = asked(text)
        except (ValueError, TypeError, KeyError, LookupError) as error:
            reply.send(error_text(UsageError(f"not a call that a task can make: {error}")))
            return
        if question.name in ("add", "add_if"):
            self._add(question.kwargs["runs"], question.kwargs.get("marks", {}), reply)
        elif question.name == "wait":
            self._wait(question.kwargs["run_id"], question.kwargs["timeout"], reply)
        elif question.name in (ACQUIRE, RELEASE):
            self._lock(question, call, reply)
        else:
            self._do(question, reply)

    def written(self) -> None:
        """An exchange has ended runs, and given back their locks: look whether somebody waited for it."""
        if self._waiters:
            self._look()

    # ---- one call --------------------------------------------------------------------------------

    def _do(self, question: Asked, reply: Reply) -> None:
        def work() -> str:
            return answer_text(getattr(self._storage, question.name)(**question.kwargs))

        done = self._changed if question.name in _WRITES else _answer
        self._service.ask(work, lambda text: done(reply, text), lambda error: reply.send(error_text(error)))

    def _changed(self, reply: Reply, text: str) -> None:
        """Answer, and let those look who may be concerned by what was written."""
        reply.send(text)
        self._on_change()
        self.written()

    # ---- adds ------------------------------------------------------------------------------------

    def _add(self, runs: list[NewRun], marks: Mapping[str, str], reply: Reply) -> None:
        self._adding.append(Adding(list(runs), marks, reply))
        if not self._is_adding:
            self._is_adding = True
            self._service.ask(self._add_all, self._added, self._not_added)

    def _add_all(self) -> list[Adding]:
        """Everything that has come until now, in one write: on the storage thread."""
        self._is_adding = False  # first: what comes from here on is asked for anew
        adding = []
        while self._adding:
            adding.append(self._adding.popleft())
        try:
            self._add_together(adding)
        except StorageUnavailable as error:  # it is so for all of them, and each try may take seconds
            for each in adding:
                each.text = error_text(error)
        except Exception:  # perhaps one of them alone is to blame
            for each in adding:
                each.text = self._added_alone(each)
        return adding

    def _add_together(self, adding: list[Adding]) -> None:
        runs = [run for each in adding for run in each.runs]
        marks = {task: mark for each in adding for task, mark in each.marks.items()}
        agreed = all(marks[task] == mark for each in adding for task, mark in each.marks.items())
        added = self._added_at_once(runs, marks) if agreed else None
        if added is None:  # some go by what is published no longer: each is told about his own
            for each in adding:
                each.text = self._added_alone(each)
            return
        rest = iter(added)
        for each in adding:
            each.text = answer_text(list(itertools.islice(rest, len(each.runs))))

    def _added_at_once(self, runs: list[NewRun], marks: Mapping[str, str]) -> list[bool] | None:
        try:
            return self._storage.add_if(runs, marks)
        except StorageUnavailable:  # a connection that was lost is made anew
            added = self._storage.add_if(runs, marks)
            if added is None:  # the first try may have added them, by what was published then
                raise
            return added

    def _added_alone(self, adding: Adding) -> str:
        try:
            return answer_text(self._storage.add_if(adding.runs, adding.marks))
        except Exception as error:
            return error_text(error)

    def _added(self, adding: list[Adding]) -> None:
        for each in adding:
            each.reply.send(each.text)
        self._on_change()

    def _not_added(self, error: Exception) -> None:
        raise error

    # ---- those that wait -------------------------------------------------------------------------

    def _wait(self, run_id: str, timeout: float | None, reply: Reply) -> None:
        def look() -> str | None:
            run = self._storage.run(run_id)
            return answer_text(run) if run.state.is_final else None

        self._await(Waiter(reply, look, lambda: answer_text(self._storage.run(run_id))), timeout)
        if timeout != 0:
            self._on_change()  # it leaves its slot: what it waits for may need one

    def _lock(self, question: Asked, call: Call | None, reply: Reply) -> None:
        if call is None:
            reply.send(error_text(UsageError("a lock is held by a run, and no run is executing here")))
            return
        name, owner, seq, claim_no = question.args[0], call.owner, call.seq, call.claim_no
        if question.name == RELEASE:
            self._service.ask(
                lambda: answer_text(self._storage.release(owner, seq, claim_no, name)),
                lambda text: self._changed(reply, text),
                lambda error: reply.send(error_text(error)),
            )
            return

        def look() -> str | None:
            slots = self._slots_of(name)
            return answer_text(True) if self._storage.acquire(owner, seq, claim_no, name, slots) else None

        self._await(Waiter(reply, look, lambda: answer_text(False)), question.args[1])

    def _await(self, waiter: Waiter, timeout: float | None) -> None:
        number = next(self._numbers)
        self._waiters[number] = waiter
        if timeout is not None:
            waiter.timer = self._loop.after(round(timeout * SECOND), lambda: self._late(number))
        self._look_at([number])
        if self._net is None:
            self._net = self._loop.after(NET, self._look_again)

    def _late(self, number: int) -> None:
        waiter = self._waiters.get(number)
        if waiter is not None:
            waiter.is_late = True
            self._look_at([number])

    def _look_again(self) -> None:
        self._net = self._loop.after(NET, self._look_again) if self._waiters else None
        self._look()

    def _look(self) -> None:
        for number in [number for number, each in self._waiters.items() if not each.reply.is_wanted]:
            self._forget(number)
        self._look_at(list(self._waiters)[:MOST_LOOKS])

    def _look_at(self, numbers: list[int]) -> None:
        """Look on the storage thread; one that is looked at already is not looked at twice at a time."""
        waiters = {number: self._waiters[number] for number in numbers}
        fresh = {number: waiter for number, waiter in waiters.items() if not waiter.is_looked_at}
        if not fresh:
            return
        for waiter in fresh.values():
            waiter.is_looked_at = True
        self._service.ask(
            lambda: {number: _found(waiter) for number, waiter in fresh.items()},
            lambda found: self._looked(fresh, found),
            lambda _error: self._looked(fresh, {}),
        )

    def _looked(self, fresh: dict[int, Waiter], found: dict[int, str | None]) -> None:
        for number, waiter in fresh.items():
            waiter.is_looked_at = False
            text = found.get(number)
            if number not in self._waiters:
                continue
            self._waiters[number] = self._waiters.pop(number)  # behind the others, when not all are looked at
            if text is not None:
                waiter.reply.send(text)
                self._forget(number)
            elif waiter.is_late:
                self._look_at([number])  # its time was over while it was looked at

    def _forget(self, number: int) -> None:
        waiter = self._waiters.pop(number)
        if waiter.timer is not None:
            waiter.timer.cancel()


def _answer(reply: Reply, text: str) -> None:
    reply.send(text)


def _found(waiter: Waiter) -> str | None:
    try:
        answer = waiter.look()
        return waiter.last() if answer is None and waiter.is_late else answer
    except Exception as error:
        return error_text(error)
