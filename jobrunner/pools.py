"""The executors of a supervisor, one for each pool of the plan in force."""

from __future__ import annotations

from collections.abc import Mapping

from .execution import Executor, Loop, Sink
from .execution.commands import CommandExecutor
from .execution.journal import Journal
from .execution.pool import ProcessPool
from .execution.shared import SharedPool
from .plan import Plan, Pool, PoolKind


class Pools:
    """Makes executors, counts what they do, and ends them."""

    def __init__(self, *, loop: Loop, sink: Sink, output_root: str, journal: Journal) -> None:
        self._loop = loop
        self._sink = sink
        self._output_root = output_root
        self._journal = journal
        self._executors: dict[str, Executor] = {}

    def adopt(self, plan: Plan) -> Mapping[str, Executor]:
        """The executors for this plan, by pool."""
        self._executors = {name: self._executor(pool, plan) for name, pool in plan.pools.items()}
        return self._executors

    def _executor(self, pool: Pool, plan: Plan) -> Executor:
        if pool.kind is PoolKind.COMMAND:
            return CommandExecutor(pool, self._loop, self._sink, self._output_root, self._journal)
        made = ProcessPool if pool.kind is PoolKind.PROCESS else SharedPool
        return made(pool, self._loop, self._sink, output_root=self._output_root, pythonpath=plan.pythonpath)

    def workers(self) -> int:
        """How many worker processes are alive."""
        return sum(each.workers() for each in self._executors.values())

    def busy(self) -> dict[str, int]:
        """How many attempts execute in each pool."""
        return {name: each.busy() for name, each in self._executors.items()}

    def recall(self) -> None:
        """Every call that has not begun comes back."""
        for each in self._executors.values():
            each.recall()

    def close(self) -> None:
        """End every process of every pool now."""
        for each in self._executors.values():
            each.close()
