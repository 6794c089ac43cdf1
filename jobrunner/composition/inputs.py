"""What a claim of a step becomes: its arguments, its input, what it was called for, or what grows of it."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from ..birth import new_run
from ..catalogue import Entry
from ..durations import Micros
from ..lifecycle import unbegun
from ..model import Cause, Claim, Condition, Edge, Input, Join, NewRun, Reason, Settle, State, Trigger
from .result import as_json, items_of, with_input
from .spec import Map, from_text
from .weave import Before, Entries, Place, Weaver, begin

_EXIT: Final = re.compile(r": exit (\d{1,3})$", re.ASCII)
_DAMAGE = (ValueError, TypeError, AttributeError, KeyError)


class Composed(NamedTuple):
    """How an attempt of a step is called."""

    payload: str
    input: str | None = None  # JSON, for a command


def compose(claim: Claim, *, is_command: bool) -> Composed:
    """The call of a claimed run. Raises ValueError for a damaged row."""
    rule = _rule(claim)
    if not rule.get("input"):
        return Composed(claim.payload)
    result = next((each.result for each in claim.inputs if each.condition == Condition.OK), None)
    try:
        if is_command:
            return Composed(claim.payload, as_json(result))
        return Composed(with_input(claim.payload, rule.get("own", ()), result))
    except _DAMAGE as error:
        raise ValueError(f"the row is damaged: input {result!a:.200}") from error


def cause_of(claim: Claim, tail: str) -> Cause | None:
    """The end that a handler is called for; None for another run. `tail` is the end of its output."""
    if not _rule(claim).get("cause") or not claim.inputs:
        return None
    ended = claim.inputs[0]
    reason = ended.reason or ended.outcome or ended.state.value
    if ended.reason == Reason.UPSTREAM_FAILED and ended.error is not None:
        reason = ended.error  # of a block: which of its members, and why
    return Cause(
        task=ended.task,
        run_id=ended.run_id,
        state=ended.state.value,
        reason=reason,
        exit_code=ended.exit_code if ended.exit_code is not None else _exit_code(reason),
        output_tail=tail,
    )


def _exit_code(reason: str) -> int | None:
    """That of the member which a block names: `backup (RUN): exit 3`."""
    found = _EXIT.search(reason)
    return None if found is None else int(found[1])


def called_for(claim: Claim) -> Input | None:
    """The run whose end a handler is called for."""
    return claim.inputs[0] if claim.inputs and _rule(claim).get("cause") else None


def _rule(claim: Claim) -> dict[str, Any]:
    if claim.compose is None or not claim.compose.startswith("{"):
        return {}
    try:
        rule = json.loads(claim.compose)
    except ValueError as error:
        raise ValueError(f"the row is damaged: compose {claim.compose!a:.200}") from error
    return rule if isinstance(rule, dict) else {}


def grow(claim: Claim, owner: str, entries: Entries, now: Micros) -> Settle:
    """The settle that lets a claimed map grow: its members, and the map waiting for them.

    Raises PayloadError for an input that is no list, NotFound for a task that nobody knows any more.
    """
    node: Map = from_text(claim.compose or "")
    result = next((each.result for each in claim.inputs if each.condition == Condition.OK), None)
    items = [] if node.over is not None else items_of(result)
    members = _members(claim, node, items, entries, now)
    edges = tuple(Edge(run.id, Condition.FINAL.value) for run in members if _parent(run.step) == claim.step)
    join = (Join.LIST_ANY if node.goes_on else Join.LIST).value
    return _standing(claim, owner, now, members, join, edges)


def unfold(claim: Claim, owner: str, entry: Entry, entries: Entries, now: Micros) -> Settle:
    """The settle that makes a pipeline of a claimed run that was enqueued under its name before it was known.

    Raises what `weave.begin` raises.
    """
    run = new_run(
        entry,
        run_id=claim.id,
        trigger=Trigger(claim.trigger),
        now=now,
        due_at=now,
        payload=claim.payload,
        priority=claim.priority,
    )
    root, *members = begin(run, entry, entries)
    return _standing(claim, owner, now, tuple(members), root.join or Join.LAST.value, root.after)


def _standing(
    claim: Claim, owner: str, now: Micros, members: tuple[NewRun, ...], join: str, edges: tuple[Edge, ...]
) -> Settle:
    """From now on the claimed row stands for these."""
    return unbegun(claim, owner, State.WAITING, now)._replace(follow=members, join=join, after=edges)


def _members(claim: Claim, node: Map, items: list[str], entries: Entries, now: Micros) -> tuple[NewRun, ...]:
    place = Place(claim.pipeline or claim.id, claim.pipeline_name or claim.task, now, now, claim.priority)
    weaver = Weaver(place, entries)
    weaver.members(node, items, claim.step or "", Before())
    return tuple(weaver.runs)


def _parent(step: str | None) -> str:
    """The place above; a handler (`2.f1`) is no member."""
    above, _, last = (step or "").rpartition(".")
    return above if last.isdigit() else "-"
