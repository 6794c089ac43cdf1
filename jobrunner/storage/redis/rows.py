"""Runs, settles and claims as the script takes and gives them: every value is text, `None` is left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import PayloadError
from ...model import FINAL, Attempt, Claim, Edge, Input, NewRun, Run, Settle, Started, State, Trigger
from .. import Rules, TaskRule
from ..fences import quarantined

_LARGEST = 2**63  # as in a database
_HIGHEST = 2**53  # what is compared is a double in Lua
_LEAST = -_HIGHEST
Row = Mapping[str, str]
_NOTHING = (None,) * 5

_BORN = tuple(
    name
    for name in NewRun._fields
    if name not in ("after", "replaces", "priority", "missed", "state", "trigger")
)
_NUMBERS = (
    *("seq", "missed", "due_at", "created_at", "started_at", "finished_at", "expires_at", "claim_no"),
    *("attempt", "failures", "crashes", "priority", "pid", "exit_code", "tick"),
)


def text_of(value: object) -> str:
    """The text of a value. Raises OverflowError for what no database could hold."""
    if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise OverflowError(f"{value} has more than 64 bits")
    return str(value)


def moment_of(value: int) -> int:
    """A number that the script compares. Raises OverflowError for what it could not tell apart."""
    if not -_HIGHEST < value < _HIGHEST:
        raise OverflowError(f"{value} has more than 53 bits")
    return value


def rank_of(priority: int) -> str:
    """A text that sorts as claims go: the highest priority first."""
    return f"{_LARGEST - priority:020d}"


# --- what goes in -----------------------------------------------------------------------------------


def is_plain(run: NewRun) -> bool:
    """Whether a run waits in its lane from the first, and is bound to nothing."""
    told = (run.unique, run.expires_at, run.pipeline, run.join, run.compose)
    return run.state is State.QUEUED and told == _NOTHING and not run.after and not run.replaces


def new_row(run: NewRun) -> dict[str, str]:
    """A run as it is added. Raises PayloadError for what cannot be stored."""
    try:
        return _new_row(run)
    except (UnicodeError, OverflowError) as error:
        raise PayloadError(f"a run cannot be stored: {str(error)!a}", help="look at its arguments") from error


def _new_row(run: NewRun) -> dict[str, str]:
    row = {name: text_of(value) for name in _BORN if (value := getattr(run, name)) is not None}
    for value in row.values():
        value.encode()
    moment_of(max(abs(run.due_at), abs(run.created_at), abs(run.expires_at or 0)))
    row |= {"state": run.state.value, "trigger": run.trigger.value, "claim_no": "0", "attempt": "0"}
    if run.priority:
        row |= {"priority": text_of(run.priority), "rank": rank_of(run.priority)}
    if run.missed:
        row["missed"] = text_of(run.missed)
    if run.replaces:
        row["replaces"] = "1"
    if run.state is State.WAITING:
        row["after"] = edges_text(run.after)
    elif run.state in FINAL:
        row["finished_at"] = text_of(run.created_at)
        if run.state is State.SUCCEEDED:
            row["outcome"] = "ok"
    return row


def edges_text(edges: Iterable[Edge]) -> str:
    return json.dumps([list(edge) for edge in edges], separators=(",", ":"))


_ENDED = (
    *("outcome", "attempt", "failures", "crashes", "due_at", "started_at", "reason", "result", "error"),
    *("exit_code", "signal", "pid", "output"),
)


def settle_rows(settles: Sequence[Settle], owner: str) -> tuple[list[object], bytes]:
    """The settles of an exchange; beside them, as lines, those in whose place a 0 stands."""
    lines = [_line(settle, owner) for settle in settles]
    try:
        beside = "".join(filter(None, lines)).encode()
    except UnicodeError:
        return [settle_row(settle) for settle in settles], b""
    return [0 if line else settle_row(settle) for settle, line in zip(settles, lines, strict=True)], beside


def _line(settle: Settle, asker: str) -> str | None:
    """The plainest end, which is the commonest: nothing to tell but a result and when it was."""
    seq, claim_no, owner, run_id, _, outcome = settle[:6]
    started_at, ended_at, reason, result, error, exit_code, signal, pid, output, follow = settle[10:20]
    if outcome != "ok" or owner != asker or follow or result == "" or started_at is None or pid is None:
        return None
    if (reason, error, exit_code, signal, output) != _NOTHING:
        return None
    if not (_LEAST < started_at < _HIGHEST and _LEAST < ended_at < _HIGHEST and _LEAST < pid < _HIGHEST):
        return None
    line = f"{seq}\n{claim_no}\n{run_id}\n{ended_at}\n{started_at}\n{pid}\n{result or ''}\n"
    return line if line.count("\n") == 7 else None


def settle_row(settle: Settle) -> list[object]:
    """A settle, or (a row that cannot be stored) its failure instead."""
    try:
        return _settle_row(settle)
    except (UnicodeError, OverflowError, PayloadError) as error:
        return _settle_row(quarantined(settle, error))


def _settle_row(settle: Settle) -> list[object]:
    if settle.outcome == "ok" and settle.pid is not None and not settle.follow:
        return _plain_success(settle)
    is_final = settle.state in FINAL
    values = {name: text_of(value) for name in _ENDED if (value := getattr(settle, name)) is not None}
    values["state"] = settle.state.value
    if is_final:
        values["finished_at"] = text_of(settle.ended_at)
    for value in values.values():
        value.encode()
    moment_of(max(abs(settle.due_at), abs(settle.ended_at)))
    grows = settle.state is State.WAITING
    return [
        str(settle.seq),
        str(settle.claim_no),
        settle.owner,
        settle.id,
        settle.state.value,
        str(settle.attempt),
        str(settle.failures),
        str(settle.crashes),
        str(settle.ended_at),
        values,
        _kept(settle, values) if settle.outcome is not None and not is_final else "",
        [new_row(run) for run in settle.follow],
        settle.join or "" if grows else "",
        edges_text(settle.after) if grows else "",
    ]


_SUCCESS = ("started_at", "reason", "error", "exit_code", "signal", "pid", "output")


def _plain_success(settle: Settle) -> list[object]:
    """The hot path; what the claim has written (attempt, failures, crashes) stands."""
    flat: list[str] = []
    for name in _SUCCESS:
        value = getattr(settle, name)
        if value is not None:
            flat += (name, text_of(value))
    "".join((settle.result or "", *flat)).encode()
    moment_of(abs(settle.ended_at))
    ended_at = text_of(settle.ended_at)
    result = False if settle.result is None else settle.result
    return [str(settle.seq), str(settle.claim_no), settle.owner, settle.id, ended_at, result, flat]


_ATTEMPT = ("outcome", "started_at", "exit_code", "signal", "pid", "output", "error")


def _kept(settle: Settle, values: Row) -> str:
    """The attempt that this settle ends; its host is the row's."""
    kept = {name: values[name] for name in _ATTEMPT if name in values}
    return json.dumps({**kept, "ended_at": str(settle.ended_at)}, ensure_ascii=False)


def started_row(mark: Started) -> list[str]:
    pid = "" if mark.pid is None else str(mark.pid)
    return [str(mark.seq), str(mark.claim_no), mark.owner, str(mark.started_at), pid]


def rule_list(rules: Rules) -> list[str]:
    """The rules of a plan as names and values of a hash: its tasks, and the pools that they use."""
    found: list[str] = []
    for task, rule in rules.tasks.items():
        found += (task, _rule_text(rule))
    for pool in sorted({rule.pool for rule in rules.tasks.values()}):
        found += (f"pool {pool}", "1")
    return found or ["pool ", "1"]  # an empty hash would not be there


def _rule_text(rule: TaskRule) -> str:
    plain: list[object] = [rule.lane, rule.pool, rule.lock or "", rule.lock_slots, rule.on_busy]
    return json.dumps([*plain, *(rule.rate or ())])


# --- what comes out ---------------------------------------------------------------------------------


def run_of(row: Row) -> Run:
    """A run from its row."""
    values: dict[str, Any] = dict.fromkeys(Run._fields)
    state = State(row["state"])
    values.update((name, row[name]) for name in Run._fields if name in row)
    for name in _NUMBERS:
        if values[name] is not None:
            values[name] = int(values[name])
    for name in ("missed", "priority", "failures", "crashes"):
        values[name] = values[name] or 0
    values["state"], values["trigger"] = state, Trigger(row["trigger"])
    values["outcome"] = values["outcome"] or ("ok" if state is State.SUCCEEDED else None)
    values["owner"] = values["owner"] if state is State.RUNNING else None
    values["cancel_requested"] = "cancel" in row
    return Run(**values)


def runs_of(text: str) -> list[Run]:
    return [run_of(row) for row in json.loads(text)]


def claim_of(values: Sequence[Any]) -> Claim:
    """A claim from the script's list (claims.lua: CLAIM)."""
    run_id, task, claim_no, attempt, failures, crashes, payload, priority, due_at, created_at = values[:10]
    trigger, pool, tick, missed = values[10:14]
    policy, options, cause, pipeline, pipeline_name, step, compose, seq, refused = (
        text or None for text in values[14:23]
    )
    numbers = map(int, (claim_no, attempt, failures, crashes))
    head = (int(seq or 0), run_id, task, *numbers, payload, int(priority), int(due_at), int(created_at))
    origin = (trigger, pool, int(tick) if tick else None, int(missed), policy, options, cause)
    inputs = tuple(_input_of(each) for each in values[23]) if len(values) > 23 else ()
    return Claim._make((*head, *origin, refused, pipeline, pipeline_name, step, compose, inputs))


_FIRST = 18  # values of a first claim, in the order of the fields (rows.lua: first_claim_of)
_UNBOUND = [None] * (len(Claim._fields) - _FIRST - 1) + [()]


def claims_of(text: str) -> list[Claim]:
    found = json.loads(text)
    return [Claim._make(each + _UNBOUND) if len(each) == _FIRST else claim_of(each) for each in found]


def _input_of(values: Sequence[Any]) -> Input:
    run_id, task, state, condition, *texts, exit_code, attempt = values
    result, reason, outcome, error = (None if text is False else text for text in texts)
    code = None if exit_code is False else int(exit_code)
    return Input(
        run_id, task, State(state), condition, result, reason, outcome, error, code, int(attempt or 0)
    )


def attempts_of(run: Run, flat: Sequence[str]) -> list[Attempt]:
    """The earlier attempts of a run, oldest first."""
    kept = dict(zip(flat[::2], flat[1::2], strict=True))
    numbers = sorted(int(name) for name in kept if name.isdigit())
    return [_attempt_of(run.id, number, kept) for number in numbers]


def _attempt_of(run_id: str, number: int, kept: Row) -> Attempt:
    values = json.loads(kept[str(number)])

    def number_of(name: str) -> int | None:
        return int(values[name]) if name in values else None

    return Attempt(
        run_id=run_id,
        number=number,
        outcome=values.get("outcome"),
        started_at=number_of("started_at"),
        ended_at=number_of("ended_at"),
        exit_code=number_of("exit_code"),
        signal=values.get("signal"),
        error=values.get("error"),
        host=kept.get(f"host {number}"),
        pid=number_of("pid"),
        output=values.get("output"),
    )


def edges_of(text: str) -> tuple[Edge, ...]:
    return tuple(Edge(run_id, condition) for run_id, condition in json.loads(text))
