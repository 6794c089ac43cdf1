"""The lines between the supervisor and a worker: heads in tab-separated fields, one JSON text last.

A payload or a result is the last field of its line and goes through the supervisor as it is, neither
decoded nor encoded again: JSON text holds no raw newline but as white space, which `inert` removes.

    supervisor -> worker                                     worker -> supervisor
    W  {"version", "supervisor", "pythonpath"}               H  version            alive
    D  number {definition}           before its first use    L  call               begun: imports its callable
    C  call ... payload              execute                 S  call started       begun
    F  as C: the worker holds no other call; S comes before it begins, without fail
    T  call why                      end it by force         K  call started took result     succeeded
    P  call                          is it executing?        E  call started took {...}      anything else
    A                                output taken: go on     X  call started took {...}      ended by force
    R                                give back what waits    B  call               given back, had not begun
    N  question answer               what was asked for      M  question call ...  asks the storage; without a
                                                                                    text: wants no answer now
    Q                                leave                   P  call               it is: its end will be held
                                                             G  module [signal...]  has receivers for these
                                                             Z                      begins no other call

`k`, `e` and `x` are K, E and X of a call that has written output: the worker waits for `A` before the
next call, so that what lies in its pipes belongs to this call alone.

A worker starts its calls in the order in which they came; the first unanswered one is the one executing.

A worker that executes several calls at once (`workshop.py`) reports the start of each, sends what calls write
as lines, and says where a call was when its end was asked of it; it knows no `F`, `A`, `k`, `e`, `x`:

                                                             O  call stream base64   written by the call
                                                             P  call "..."           its end was asked of it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..durations import Micros
from ..plan import Pool, Task
from . import Call
from .environment import cause_variables

VERSION: Final = "2"
WAITS: Final = '["wait",'  # so begins the question of a call that waits for another run


def inert(text: str) -> str:
    """JSON text without raw tabs and newlines, whoever wrote it: a line can never end inside it."""
    return text.replace("\n", " ").replace("\t", " ")


def line(kind: str, *fields: object) -> bytes:
    """One line; the fields are known to be free of tabs and newlines."""
    return ("\t".join((kind, *map(str, fields))) + "\n").encode()


def packed(value: object) -> str:
    """A value of this program as one JSON field."""
    return json.dumps(value, separators=(",", ":"))


def definition_line(number: int, task: Task, owner: str) -> str:
    """What a worker must know of a task; sent once."""
    plain = {
        "name": task.name,
        "call": task.call,
        "env": dict(task.env),
        "cwd": task.cwd,
        "store_result": task.store_result,
        "owner": owner,
    }
    return f"D\t{number}\t{packed(plain)}\n"


def call_line(kind: str, number: int, definition: int, call: Call) -> str:
    """A call, as `C` or `F`; its run's id is `is_sendable`."""
    _, _, run_id, attempt, _, payload, trigger, tick, missed, due_at, timeout, _, cause, env = call
    if "\n" in payload or "\t" in payload:
        payload = inert(payload)
    extra = "" if cause is None and not env else _extra(cause, dict(env))
    return (
        f"{kind}\t{number}\t{definition}\t{run_id}\t{attempt}\t{trigger}\t{'' if tick is None else tick}"
        f"\t{missed}\t{due_at}\t{'' if timeout is None else timeout}\t{extra}\t{payload}\n"
    )


def _extra(cause: str | None, env: dict[str, str]) -> str:
    told = {} if cause is None else cause_variables(cause)
    return packed({"cause": cause, "env": {**env, **told}})


_CALL_TABS: Final = 11


def is_sendable(call: Call) -> bool:
    """Whether the texts in a call's head can stand in a line; rows of a storage may hold anything."""
    return call.run_id.isprintable() and call.trigger.isprintable()


class Order(NamedTuple):
    """A call as its worker reads it."""

    reports: bool  # its start, by itself
    number: int
    definition: int
    run_id: str
    attempt: str
    trigger: str
    tick: Micros | None
    missed: str
    due_at: Micros
    timeout: Micros | None
    extra: str  # JSON {"cause": text or null, "env": {...}}, or nothing
    payload: str


def order_of(text: str) -> Order:
    """The call of a C line."""
    fields = text.split("\t", _CALL_TABS)
    kind, number, definition, run_id, attempt, trigger, tick, missed, due_at, timeout, extra, payload = fields
    return Order(
        kind == "F",
        int(number),
        int(definition),
        run_id,
        attempt,
        trigger,
        int(tick) if tick else None,
        missed,
        int(due_at),
        int(timeout) if timeout else None,
        extra,
        payload,
    )


def welcome_line(
    supervisor: int, pythonpath: tuple[str, ...], added: str | None, *, pool: Pool, url: str
) -> bytes:
    """The first line to a worker. `added` is what PYTHONPATH was given for its start alone."""
    plain: Mapping[str, object] = {
        "version": VERSION,
        "supervisor": supervisor,
        "pythonpath": list(pythonpath),
        "added": added,
        "kind": pool.kind.value,
        "slots": pool.slots,
        "url": url,
        "on_startup": pool.on_startup,
        "on_shutdown": pool.on_shutdown,
    }
    return line("W", packed(plain))
