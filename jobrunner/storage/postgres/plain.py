"""Adding runs that neither wait for others nor take a key over: one message to the server, and its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...durations import Micros
from ...model import NewRun, State
from . import control, rows
from .arrays import columns, literal
from .database import Database
from .statement import Statement
from .waits import answers

_KINDS = [kind for _, kind in rows.NEW]
_VALUES = [f"${place}" for place in range(1, len(_KINDS) + 1)]
_TASK, _MARK, _NOW = (f"${len(_KINDS) + place}" for place in (1, 2, 3))
_CLOCK = f"coalesce({_NOW}, (extract(epoch from clock_timestamp()) * 1000000)::bigint)"


# One run, by what is published about one task: what most enqueues are. No row: it was not added, for whatever
# reason, which the other then tells. It costs the server a quarter less than that.
_ONE = Statement(
    name="jobrunner_add_one",
    kinds=(*_KINDS, "text", "text", "bigint"),
    text=f"""
    insert into runs ({rows.NAMES})
    select {", ".join(_VALUES)}
    where {_MARK} = coalesce(({control.mark_of(_TASK, _CLOCK)}), '')
    on conflict do nothing
    returning id
    """,
)

# One statement has one view of things: what is published is what the runs are added by.
_MANY = Statement(
    name="jobrunner_add",
    kinds=(*(f"{kind}[]" for kind in [*_KINDS, "text", "text"]), "bigint"),
    text=f"""
    with seen as materialized (
        select not exists (
            select 1 from unnest({_TASK}, {_MARK}) as known (name, mark)
            where mark <> coalesce(({control.mark_of("known.name", _CLOCK)}), '')) as holds
    ), added as (
        insert into runs ({rows.NAMES})
        select {rows.NAMES}
        from unnest({", ".join(_VALUES)}) with ordinality as new ({rows.NAMES}, place), seen
        where holds
        order by place
        on conflict do nothing
        returning id
    )
    select holds, array(select id from added) from seen
    """,  # noqa: S608 - columns
)


def is_plain(runs: Sequence[NewRun]) -> bool:
    """Whether their rows are all there is to it: no edges, no key that changes hands, no steps of a root."""
    return not any(
        run.replaces or run.after or run.pipeline is not None or run.state is State.WAITING for run in runs
    )


def add(
    database: Database, runs: Sequence[NewRun], marks: Mapping[str, str], given: Micros
) -> list[bool] | None:
    """Add them if what the marks stand for is published; `given` counts where the server's clock does not."""
    if len(runs) == len(marks) == 1:
        ((task, mark),) = marks.items()
        if database.in_one_step(_ONE, [*rows.values(runs[0]), task, mark], given):
            return [True]
    values = [*columns([rows.values(run) for run in runs]), literal(marks), literal(marks.values())]
    holds, ids = database.in_one_step(_MANY, values, given) or (False, ())
    return answers(runs, set(ids)) if holds else None
