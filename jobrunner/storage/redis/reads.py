"""Finding and listing runs: by the narrowest index, in steps that never hold the server up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...durations import Micros
from ...errors import AmbiguousRun, NotFound
from ...model import FINAL, Run, State
from .. import DayStats, Overview, RunFilter, TaskSummary
from .rows import run_of, runs_of
from .server import Server

_ENDLESS: Micros = 2**53
_ID_TEXT = re.compile(r"[0-9a-f-]{1,36}")
MOST_CREATED = 5_000  # runs of a span of time that are looked at one by one
BLOCK = 200  # rows read at a time


def find(server: Server, run_id: str) -> Run:
    """The run with this id, or with this unique beginning or ending."""
    seqs = server.call("find", {"part": run_id}) if _ID_TEXT.fullmatch(run_id) else []
    runs = rows(server, seqs) if len(seqs) == 1 else []
    if runs:
        return runs[0]
    if not seqs or len(seqs) == 1:
        raise NotFound(f"there is no run {run_id!r}", help="jobrunner history lists the runs")
    raise AmbiguousRun(f"the run id {run_id!r} fits more than one run", help="give more of its characters")


def rows(server: Server, seqs: Sequence[str]) -> list[Run]:
    """The runs with these numbers, as far as they are there."""
    return runs_of(server.call("rows", {"seqs": list(seqs)})) if seqs else []


def runs(server: Server, which: RunFilter) -> list[Run]:
    """The newest runs that fit, by order of enqueue."""
    if which.limit <= 0:
        return []
    few = _few(server, which)
    if few is None:
        found = [run for where in _indexes(which) for run in _walk(server, which, where)]
    else:
        found = list(_fitting(server, which, few))
    return sorted(found, key=lambda run: -run.seq)[: which.limit]


def _few(server: Server, which: RunFilter) -> list[str] | None:
    """The runs among which all that fit are, when an index gives few of them."""
    if which.unique is not None:
        holder = server.call("holder", {"key": which.unique})
        return [] if holder is None else [holder]
    if which.pipeline is not None:
        return list(server.call("pipeline", {"id": which.pipeline}))
    if which.since is None and which.until is None:
        return None
    return server.call("created", {**_span(which), "most": MOST_CREATED})  # type: ignore[no-any-return]


def _span(which: RunFilter) -> dict[str, object]:
    since = -_ENDLESS if which.since is None else which.since
    return {"since": since, "until": _ENDLESS if which.until is None else which.until}


def _fitting(server: Server, which: RunFilter, seqs: list[str]) -> Iterator[Run]:
    """Those that fit, the newest first, as far as they are asked for."""
    newest, left = sorted(seqs, key=int, reverse=True), which.limit
    for start in range(0, len(newest), BLOCK):
        for run in rows(server, newest[start : start + BLOCK]):
            if left > 0 and fits(run, which):
                left -= 1
                yield run
        if left == 0:
            return


def fits(run: Run, which: RunFilter) -> bool:
    """Whether the filter lets a run through."""
    return (
        (which.pipeline is None or which.pipeline in (run.id, run.pipeline))
        and (which.unique is None or (run.unique == which.unique and run.state not in FINAL))
        and (not which.tasks or run.task in which.tasks)
        and (not which.states or run.state in which.states)
        and (not which.triggers or run.trigger in which.triggers)
        and (which.since is None or run.created_at >= which.since)
        and (which.until is None or run.created_at < which.until)
    )


def _indexes(which: RunFilter) -> list[dict[str, str]]:
    """The narrowest indexes, and states, that hold every run that fits."""
    states = [state.value for state in which.states or State]
    if which.tasks:
        return [{"index": f"task:{task}:{state}"} for task in which.tasks for state in states]
    return [{"state": state} for state in states] if which.states else [{"index": "runs"}]


def _walk(server: Server, which: RunFilter, where: Mapping[str, str]) -> Iterator[Run]:
    """The newest runs of an index, or in a state, that fit."""
    left, before = which.limit, str(_ENDLESS)
    triggers = dict.fromkeys(which.triggers, True)
    while before and left > 0:
        request = {**where, "before": before, "limit": left, **_span(which)}
        text, before = server.call("walk", request | ({"triggers": triggers} if triggers else {}))
        found = runs_of(text)
        left -= len(found)
        yield from found


# --- overview ---------------------------------------------------------------------------------------


def overview(server: Server, now: Mapping[str, object], tasks: Sequence[str], recent: int) -> Overview:
    states = [state.value for state in State]
    request = {"tasks": list(tasks), "states": states, "recent": recent}
    found = json.loads(server.call("overview", {**now, **request}))
    oldest = found.get("oldest")
    return Overview(
        counts={state: found["counts"][state.value] for state in State},
        oldest_queued=None if oldest is None else int(oldest),
        day=DayStats(ok=found["ok"], failed=found["failed"], retried=found["retried"]),
        size=server.used_memory(),
        tasks=tuple(_summary(task, found["tasks"][task], recent) for task in tasks),
    )


def _summary(task: str, found: Mapping[str, Any], recent: int) -> TaskSummary:
    def run(name: str) -> Run | None:
        return run_of(found[name]) if name in found else None

    ended: list[list[Any]] = found.get("recent") or []
    took = [
        int(end) - int(start) for _, state, _, start, end in ended if state == "succeeded" and start and end
    ]
    return TaskSummary(
        task=task,
        queued=found["queued"],
        running=found["running"],
        waiting_retry=run("retrying"),
        current=run("current"),
        last=run("last"),
        recent=tuple(
            (State(state), int(failures or 0)) for _, state, failures, *_ in reversed(ended[:recent])
        ),
        typical=_median(took),
    )


def _median(times: list[Micros]) -> Micros | None:
    """As `statistics.median`, whose import every client would feel."""
    if not times:
        return None
    ordered, middle = sorted(times), len(times) // 2
    return round((ordered[middle] + ordered[~middle]) / 2)
