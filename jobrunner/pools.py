"""The executors of a supervisor: one for each pool of the plan in force, and old ones that finish."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from .durations import SECOND, Micros
from .events import Emit, NoWorkers, WorkersAgain
from .execution import Backing, Executor, Loop, Sink, Timer
from .execution.commands import CommandExecutor
from .execution.journal import Journal
from .execution.pool import ProcessPool
from .execution.shared import SharedPool
from .plan import Plan, Pool, PoolKind

LOOK: Micros = SECOND  # between two looks whether an old executor has nothing left


class _Made(NamedTuple):
    """An executor, and what it was made of."""

    pool: Pool
    pythonpath: tuple[str, ...]
    executor: Executor


class Pools:
    """Makes executors, counts what they do, and ends them."""

    def __init__(
        self,
        *,
        loop: Loop,
        sink: Sink,
        output_root: str,
        journal: Journal,
        backing: Backing,
        emit: Emit = lambda _event: None,
        on_change: Callable[[], None] = lambda: None,
        wake: Callable[[], None] = lambda: None,
        patient: bool = True,
    ) -> None:
        """`on_change` is called when `stalled` says something else. `wake`, `patient`: for executors."""
        self._loop = loop
        self._sink = sink
        self._output_root = output_root
        self._journal = journal
        self._backing = backing
        self._emit = emit
        self._on_change = on_change
        self._wake = wake
        self._patient = patient
        self.stalled: Mapping[str, str] = {}  # pools whose workers do not start, and why: their runs wait
        self._made: dict[str, _Made] = {}
        self._draining: list[tuple[str, Executor]] = []
        self._looking: Timer | None = None

    def adopt(self, plan: Plan, *, fresh: bool = False) -> Mapping[str, Executor]:
        """The executors for this plan, by pool; those of pools that have changed drain (semantics 26).

        `fresh` replaces every worker, for new Python code (semantics 27).
        """
        before = self._made
        self._made = {name: self._kept_or_made(name, pool, plan, fresh) for name, pool in plan.pools.items()}
        for name, old in before.items():
            if name not in self._made or self._made[name] is not old:
                self._drain(name, old.executor)
        # A new executor has yet to find out.
        self.stalled = {n: why for n, why in self.stalled.items() if self._made.get(n) is before[n]}
        return {name: made.executor for name, made in self._made.items()}

    def _kept_or_made(self, name: str, pool: Pool, plan: Plan, fresh: bool) -> _Made:
        old = self._made.get(name)
        is_command = pool.kind is PoolKind.COMMAND
        is_new_code = not is_command and (fresh or old is None or old.pythonpath != plan.pythonpath)
        if old is not None and old.pool == pool and not is_new_code:
            return old
        return _Made(pool, plan.pythonpath, self._executor(pool, plan))

    def _executor(self, pool: Pool, plan: Plan) -> Executor:
        if pool.kind is PoolKind.COMMAND:
            return CommandExecutor(pool, self._loop, self._sink, self._output_root, self._journal)
        made = ProcessPool if pool.kind is PoolKind.PROCESS else SharedPool
        return made(
            pool,
            self._loop,
            self._sink,
            output_root=self._output_root,
            backing=self._backing,
            pythonpath=plan.pythonpath,
            tell=partial(self._told, pool.name),
            wake=self._wake,
            patient=self._patient,
        )

    # --- workers that do not start ------------------------------------------------------------------

    def _told(self, name: str, why: str | None) -> None:
        others = {pool: each for pool, each in self.stalled.items() if pool != name}
        if why is not None:
            self.stalled = {**others, name: why}
            self._emit(NoWorkers(name, why))
        elif name in self.stalled:
            self.stalled = others
            self._emit(WorkersAgain(name))
        self._on_change()

    # --- old ones -----------------------------------------------------------------------------------

    def _drain(self, name: str, executor: Executor) -> None:
        executor.retire()
        self._draining.append((name, executor))
        if self._looking is None:
            self._looking = self._loop.after(LOOK, self._look)

    def _look(self) -> None:
        over = [each for _, each in self._draining if not each.busy() and not each.workers()]
        for executor in over:
            executor.close()
        self._draining = [(name, each) for name, each in self._draining if each not in over]
        self._looking = self._loop.after(LOOK, self._look) if self._draining else None

    # --- all ----------------------------------------------------------------------------------------

    def _all(self) -> Iterator[tuple[str, Executor]]:
        yield from ((name, made.executor) for name, made in self._made.items())
        yield from self._draining

    def workers(self) -> int:
        """How many worker processes are alive."""
        return sum(each.workers() for _, each in self._all())

    def busy(self) -> dict[str, int]:
        """How many attempts execute in each pool, old executors included."""
        counts: dict[str, int] = {}
        for name, each in self._all():
            counts[name] = counts.get(name, 0) + each.busy()
        return counts

    def recall(self) -> None:
        """Every call that has not begun comes back."""
        for _, each in self._all():
            each.recall()

    def part(self) -> None:
        """Let every worker leave in order: nothing is to be executed any more."""
        for _, each in self._all():
            each.retire()

    def close(self) -> None:
        """End every process of every pool now."""
        if self._looking is not None:
            self._looking.cancel()
        for _, each in self._all():
            each.close()
