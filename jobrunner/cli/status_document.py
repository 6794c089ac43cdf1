"""The JSON document of `jobrunner status`."""

from __future__ import annotations

from jobrunner.catalogue import Entry
from jobrunner.model import Run, State
from jobrunner.storage import Pause, Supervisor, TaskSummary

from .documents import Document, run_document
from .status import Look
from .words import rfc3339


def status_document(look: Look, *, failing: bool = False) -> Document:
    """`status --json`."""
    summaries = [each for each in look.overview.tasks if not failing or look.is_failing(each)]
    return {
        "running": bool(look.alive),
        "supervisors": [supervisor_document(each) for each in look.supervisors],
        "backend": look.url,
        "size": look.overview.size,
        "counts": {state.value: look.overview.counts.get(state, 0) for state in State},
        "day": _day(look),
        "tasks": [_task_document(look, each) for each in summaries],
        "pools": _pool_documents(look),
        "pauses": [pause_document(each) for each in look.pauses],
    }


def empty_document(url: str) -> Document:
    return {
        "running": False,
        "supervisors": [],
        "backend": url,
        "size": 0,
        "counts": {state.value: 0 for state in State},
        "day": {"ok": 0, "failed": 0, "retried": 0},
        "tasks": [],
        "pools": [],
        "pauses": [],
    }


def _day(look: Look) -> Document:
    day = look.overview.day
    return {"ok": day.ok, "failed": day.failed, "retried": day.retried}


def supervisor_document(supervisor: Supervisor) -> Document:
    owner, status = supervisor.owner, supervisor.status
    return {
        "id": owner.id,
        "host": owner.host,
        "pid": owner.pid,
        "alive": supervisor.alive,
        "started_at": rfc3339(owner.started_at),
        "heartbeat_at": rfc3339(supervisor.heartbeat_at),
        "left_at": rfc3339(supervisor.left_at),
        "config": owner.config,
        "config_hash": status.config_hash,
        "config_loaded_at": rfc3339(status.config_loaded_at),
        "config_error": status.config_error,
        "draining": status.draining,
        "trouble": status.trouble,
        "stalled": status.stalled or {},
        "workers": status.workers,
        "notifications": {"waiting": status.untold, "error": status.untold_because},
    }


def pause_document(pause: Pause) -> Document:
    return {
        "target": pause.target,
        "since": rfc3339(pause.since),
        "until": rfc3339(pause.until),
        "by": pause.by,
        "reason": pause.reason,
    }


def _task_document(look: Look, summary: TaskSummary) -> Document:
    entry = look.entry(summary.task) or Entry(name=summary.task, kind="unknown", pool="", lane="")
    pause = look.pause_of(entry)
    return {
        "name": summary.task,
        "kind": entry.kind,
        "enabled": entry.enabled,
        "paused": pause is not None,
        "schedule": entry.schedule or None,
        "schedule_text": entry.schedule_text or None,
        "next_at": rfc3339(look.next_at(entry)),
        "running": summary.running,
        "queued": summary.queued,
        "last_run": _last(summary.last, entry),
        "blocked": entry.blocked,
        "recent": [state.value for state, _ in summary.recent],
    }


def _last(run: Run | None, entry: Entry) -> Document | None:
    return None if run is None else run_document(run, entry)


def _pool_documents(look: Look) -> list[Document]:
    pools = look.catalogue.pools if look.catalogue else ()
    busy: dict[str, int] = {}
    for each in look.alive:
        for name, slots in each.status.busy.items():
            busy[name] = busy.get(name, 0) + slots
    return [
        {"name": pool.name, "kind": pool.kind, "slots": pool.slots, "busy": busy.get(pool.name, 0)}
        for pool in pools
    ]
