"""Where the runs of one JobRunner are executed in the caller: its plan and its storage, made late."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..execution import calling
from ..hooks import Hooks
from ..model import Run
from ..plan import Plan
from ..plan import Task as Definition
from ..storage import Storage
from .clocks import MovableClock
from .inline import Inline

if TYPE_CHECKING:
    from ..config.declared import Declared
    from .task import Task

Tasks = Mapping[str, "Task[..., Any]"]


class Bench:
    """Executes in the caller what a JobRunner enqueues; follows the tasks that are declared meanwhile."""

    def __init__(
        self,
        tasks: Tasks,
        file: str | None,
        hooks: Hooks,
        clock: MovableClock,
        *,
        at_once: bool = True,
        passes_time: bool = True,
        ticks: bool = False,
    ) -> None:
        self.clock = clock
        self._tasks = tasks
        self._file = file
        self._hooks = hooks
        self._at_once = at_once
        self._passes_time = passes_time
        self._ticks = ticks
        self._known = 0
        self._inline: Inline | None = None

    @property
    def storage(self) -> Storage:
        return self._ready().storage

    def added(self) -> None:
        """Something was enqueued. A task that enqueues goes on first: what it enqueued comes after it."""
        inline = self._ready()
        if self._at_once and not inline.is_executing:
            inline.run_until_idle()

    def changed(self) -> None:
        """Something was cancelled: receivers in this process hear of it."""
        self._ready().tell()

    def wait(self, run_id: str, timeout: float | None) -> Run:
        return self._ready().wait(run_id, timeout)

    def locks(self) -> Inline:
        """What gives locks to the run that is executing."""
        return self._ready()

    def run_until_idle(self) -> int:
        return self._ready().run_until_idle()

    def let_pass(self, time: int) -> int:
        return self._ready().let_pass(time)

    def close(self) -> None:
        """Forget all runs."""
        if self._inline is not None:
            self._ending()
            self._inline = None

    def _ready(self) -> Inline:
        if self._inline is None:
            self._inline = self._made()
            self._ending = weakref.finalize(self, self._inline.close)  # once, at the latest when all ends
        elif self._known != len(self._tasks):
            self._known = len(self._tasks)
            self._inline.adopt(self._plan())
        return self._inline

    def _made(self) -> Inline:
        from ..storage.memory import MemoryStorage

        self._known = len(self._tasks)
        return Inline(
            self._plan(),
            MemoryStorage(),
            self.clock,
            self._find,
            self._hooks,
            passes_time=self._passes_time,
            ticks=self._ticks,
        )

    def _plan(self) -> Plan:
        from ..config.target import plan_here

        declared = [_declared(task) for task in self._tasks.values()]
        return plan_here(self._file, declared, folder=os.getcwd(), environ=os.environ)

    def _find(self, definition: Definition) -> Callable[..., object]:
        task = self._tasks.get(definition.name)
        if task is not None and task.function is not None:
            return task.function
        if definition.call is None:
            raise ValueError("a command: only Python functions are executed in the caller")
        return calling.find(definition.call)


def _declared(task: Task[..., Any]) -> Declared:
    """A task of this process as the configuration reads it; one inside a function is fine here."""
    from ..config.declared import Declared
    from .declarations import describe

    found = describe(task)
    call = found["call"] if "<" not in str(found["call"]) else "immediate:task"
    options: Any = found["options"]
    parameters: Any = found["parameters"]
    return Declared(
        name=task.name,
        call=str(call),
        options={**options, "call": call},
        parameters=parameters,
        file=str(found["file"] or "immediate"),
        line=int(str(found["line"])),
    )
