"""How long captured output is kept: by the file's retention, or a task's own `output: {keep: ...}`."""

from __future__ import annotations

from .durations import Micros
from .errors import NotFound
from .output import SHARES, sweep
from .plan import Plan
from .storage import Storage

__all__ = ["SHARES", "sweep_output"]


def sweep_output(root: str, share: int, plan: Plan, storage: Storage, now: Micros) -> int:
    """Remove what is past its time from one of SHARES shares; gives how many runs lost their output."""
    keeps = {name: task.output.keep for name, task in plan.tasks.items() if task.output.keep is not None}
    usual = plan.retention.output
    shortest = min((usual, *keeps.values()))

    def limit_of(run_id: str) -> Micros:
        keep = usual if not keeps else keeps.get(_task_of(run_id, storage), usual)
        return now - keep

    return sweep(root, share, now - shortest, limit_of)


def _task_of(run_id: str, storage: Storage) -> str:
    try:
        return storage.run(run_id).task
    except NotFound:
        return ""
