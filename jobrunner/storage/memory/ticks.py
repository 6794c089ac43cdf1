"""Ticks of a memory storage: the watermark, and the overlap judged with it. Whoever calls holds the lock."""

from __future__ import annotations

from collections.abc import Sequence

from ...durations import Micros
from ...model import Condition, NewRun, Reason, Run, State
from .. import Tick, Verdict
from ..overlap import Standing, behind, is_in_the_way, is_superseded, naming
from . import waits
from .house import House, Watermark


def tick_all(house: House, ticks: Sequence[Tick]) -> list[Verdict]:
    """Account for ticks, in this order: a later one sees the runs of those before it."""
    return [_tick(house, tick) for tick in ticks]


def _tick(house: House, tick: Tick) -> Verdict:
    known = house.watermarks.get(tick.schedule)
    if known is not None and known.at != tick.expected:
        return Verdict(known.at, accounted=False)
    house.watermarks[tick.schedule] = Watermark(tick.tick, tick.next_at)
    holder = None if tick.run is None else _enter(house, tick, tick.run)
    return Verdict(tick.tick, accounted=True, holder=holder)


def _enter(house: House, tick: Tick, run: NewRun) -> str | None:
    """Add the tick's run, or what stands for it; the id of a run in its way."""
    now = run.created_at
    standing = [_standing(house, house.rows[seq].run) for seq in sorted(house.live[run.task])]
    holders = [each for each in standing if is_in_the_way(each, now)]
    first = holders[0].id if holders else None
    if tick.overlap in ("queue", "replace"):
        if run.id not in house.ids:
            _add(house, behind(tick, _give_way(house, tick, standing, holders, now)), now)
        return first
    if tick.refused is not None and first is not None:
        _add(house, [naming(tick.refused, first)], now)
        return first
    _add(house, [run, *tick.members], now)
    return None


def _give_way(
    house: House, tick: Tick, standing: Sequence[Standing], holders: Sequence[Standing], now: Micros
) -> list[str]:
    """End what gives way to the tick; the ids of the runs that it has to wait for."""
    gone = [each for each in standing if is_superseded(each)]
    if tick.overlap == "replace":
        gone += holders
    for each in gone:
        waits.cancel(house, each.id, now, Reason.SUPERSEDED.value)
    waits.resolve_all(house, now)
    return [each.id for each in holders if house.rows[house.ids[each.id]].run.state not in _OVER]


_OVER = frozenset(state for state in State if state.is_final)


def _add(house: House, runs: Sequence[NewRun], now: Micros) -> None:
    """Add the runs of a tick, which no unique key refuses."""
    first = runs[0]
    if first.unique in house.keys:
        first = first._replace(unique=None)
    waits.add_all(house, [first, *runs[1:]], now)
    waits.resolve_all(house, now)


def _standing(house: House, run: Run) -> Standing:
    is_root = run.join is not None and run.pipeline is None
    seqs = house.pipelines.get(run.id, ()) if is_root else (run.seq,)
    is_behind = any(_waits_behind(house, seq) for seq in seqs)
    return Standing(run.id, run.state, run.trigger, run.tick, run.due_at, is_root, is_behind)


def _waits_behind(house: House, seq: int) -> bool:
    row = house.rows[seq]
    waits_itself = row.run.state is State.WAITING and row.run.join is None
    return waits_itself and any(edge.condition == Condition.FINAL for edge in row.edges)
