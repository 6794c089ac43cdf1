"""Ticks of one write, cut into parts that a storage may write at once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from . import Tick, Verdict


def stretches(ticks: Sequence[Tick], is_plain: Callable[[Tick], bool]) -> Iterator[list[Tick]]:
    """In their order; a tick that may meet what one before it has added begins another part.

    Plain is a tick that adds one row, which nobody else's tick can meet. One that is not stands alone.
    """
    part: list[Tick] = []
    tasks: set[str] = set()
    for tick in ticks:
        task = None if tick.run is None else tick.run.task
        is_alone = not is_plain(tick)
        if part and (is_alone or (tick.refused is not None and task in tasks)):
            yield part
            part, tasks = [], set()
        part.append(tick)
        if task is not None:
            tasks.add(task)
        if is_alone:
            yield part
            part, tasks = [], set()
    if part:
        yield part


def accounted(ticks: Sequence[Tick], verdicts: Sequence[Verdict]) -> list[Tick]:
    """These ticks; one whose watermark was not where it was expected adds nothing."""
    return [
        tick if verdict.accounted else tick._replace(run=None)
        for tick, verdict in zip(ticks, verdicts, strict=True)
    ]


def with_holders(verdicts: Sequence[Verdict], holders: Sequence[str | None]) -> list[Verdict]:
    """The verdicts with the ids of the runs that were in the way."""
    return [
        verdict if holder is None else verdict._replace(holder=holder)
        for verdict, holder in zip(verdicts, holders, strict=True)
    ]
