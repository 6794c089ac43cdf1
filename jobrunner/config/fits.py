"""Whether a task fits the pool that it names: what the pool's kind cannot do for it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Final

from ..plan import Pool, PoolKind
from .draft import Draft
from .problems import Findings, Place

SHARED: Final = (PoolKind.THREAD, PoolKind.GREENLET, PoolKind.ASYNC)  # one process for all their calls
INSTALL_GEVENT: Final = "pip install 'jobrunner[gevent]'"
_OF_A_PROCESS: Final = ("cwd", "env", "env_file")


def check_pool(pool: Pool, place: Place, findings: Findings) -> None:
    """Whether the pool can work at all; what another interpreter has is seen when its worker starts."""
    if pool.kind is PoolKind.GREENLET and pool.python is None and find_spec("gevent") is None:
        message = f"pool {pool.name!r} is of kind greenlet, which needs gevent, and gevent is not installed"
        findings.error(place, "missing-package", message, hint=INSTALL_GEVENT)


def check_fit(draft: Draft, pool: Pool, pools: Iterable[Pool], findings: Findings) -> None:
    """Whether the pool executes such tasks, and whether it can keep what the task says."""
    is_call = draft.own.call is not None
    if not (is_call or draft.own.command):
        return  # that is reported already
    if (pool.kind is PoolKind.COMMAND) == is_call:
        _wrong_kind(draft, pool, pools, findings, is_call=is_call)
    elif pool.kind in SHARED:
        _check_shared(draft, pool, findings)


def _wrong_kind(
    draft: Draft, pool: Pool, pools: Iterable[Pool], findings: Findings, *, is_call: bool
) -> None:
    place = draft.place("pool") if draft.get("pool") else draft.named_at
    what, plural = ("a call", "calls") if is_call else ("a command", "commands")
    message = f"task {draft.name!r} is {what}, and pool {pool.name!r} is of kind {pool.kind}"
    fitting = sorted(each.name for each in pools if (each.kind is PoolKind.COMMAND) != is_call)
    findings.error(place, "pool-kind", message, hint=f"pools for {plural}: {', '.join(fitting)}")


def _check_shared(draft: Draft, pool: Pool, findings: Findings) -> None:
    for key in _OF_A_PROCESS:
        if draft.raw.get(key) is not None:
            message = f"{key!r} is for commands and pools of kind process, and pool {pool.name!r} is of kind"
            hint = "give the task a pool of kind process, or set env for the whole pool"
            place = draft.part.document.place(["tasks", draft.name, key], key=True)
            findings.consequence(place, "key-does-not-fit", f"{message} {pool.kind}", hint=hint)
    if pool.kind is PoolKind.THREAD and draft.get("timeout") is not None:
        message = f"a timeout is soft in pool {pool.name!r}: a thread that waits or computes in C goes on"
        hint = "a pool of kind process can end it"
        findings.warning(draft.place("timeout"), "soft-timeout", message, hint=hint)
