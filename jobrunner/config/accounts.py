"""As whom and within which bounds commands may run here: looked at when the file is read, not at night."""

from __future__ import annotations

import grp
import os
import pwd
import resource
from dataclasses import dataclass, field
from typing import Final

from ..durations import SECOND, format_size
from ..execution.identity import UnknownAccount, group_of, is_another, user_of
from ..execution.launch import RESOURCES
from .draft import Draft
from .kinds import suggestion
from .problems import Findings, Place

_AS_ROOT: Final = "run jobrunner as root, or as that user itself, or remove the key"


@dataclass(slots=True)
class Accounts:
    """Checks `user`, `group`, `nice` and `limits` of tasks; each user and group is looked up once."""

    _known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def check(self, draft: Draft, findings: Findings) -> None:
        """Report what the process that reads this could not give to the task."""
        users = [key for key in ("user", "group") if self._is_known(draft, key, findings)]
        if draft.own.call is not None:
            self._check_call(draft, users, findings)
            return
        if os.geteuid() != 0:
            for key in users:
                _check_own(draft, key, findings)
            _check_nice(draft, findings)
            _check_limits(draft, findings)

    def _is_known(self, draft: Draft, key: str, findings: Findings) -> bool:
        """Whether the key names a user or group; an unknown one is reported."""
        name = draft.get(key)
        if name is None:
            return False
        known = self._known.get((key, name))
        if known is None:
            known = self._known[key, name] = _exists(key, name)
        if not known:
            hint = suggestion(name, _names(key), what=f"{key}s")
            findings.error(draft.place(key), f"unknown-{key}", f"unknown {key} {name!r}", hint=hint)
        return known

    def _check_call(self, draft: Draft, keys: list[str], findings: Findings) -> None:
        """A call cannot follow what `defaults` say: it would run with more rights than they seem to give."""
        for key in keys:
            if draft.origin(key) == "defaults" and _is_another(draft, key):
                name = draft.get(key)
                message = f"task {draft.name!r} is a call: it cannot run as {key} {name!r}, as defaults say"
                hint = f"write {key}: null in the task, if it may run as jobrunner itself"
                findings.error(draft.named_at, f"{key}-of-a-call", message, hint=hint)


def _exists(key: str, name: str) -> bool:
    try:
        user_of(name) if key == "user" else group_of(name)
    except UnknownAccount:
        return False
    return True


def _names(key: str) -> list[str]:
    return [each.pw_name for each in pwd.getpwall()] if key == "user" else [g.gr_name for g in grp.getgrall()]


def _is_another(draft: Draft, key: str) -> bool:
    name = draft.get(key)
    return is_another(name, None) if key == "user" else is_another(None, name)


def _check_own(draft: Draft, key: str, findings: Findings) -> None:
    if _is_another(draft, key):
        name = draft.get(key)
        message = f"{key}: got {name!r}, but only root can run commands as another {key}; this is {_self()}"
        findings.error(draft.place(key), "needs-root", message, hint=_AS_ROOT)


def _self() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name!r}"
    except KeyError:
        return f"user {os.geteuid()}"


def _check_nice(draft: Draft, findings: Findings) -> None:
    nice, own = draft.get("nice"), os.getpriority(os.PRIO_PROCESS, 0)
    allowed = min(own, 20 - resource.getrlimit(resource.RLIMIT_NICE)[0])
    if nice is not None and nice < allowed:
        message = f"nice: got {nice}, but only root can go below {allowed}"
        findings.error(draft.place("nice"), "needs-root", message, hint=f"write {allowed} or more")


def _check_limits(draft: Draft, findings: Findings) -> None:
    limits = draft.get("limits")
    for key, number in RESOURCES.items() if limits is not None else ():
        wanted, most = getattr(limits, key), resource.getrlimit(number)[1]
        if wanted is None or most == resource.RLIM_INFINITY:
            continue
        if (wanted // SECOND if key == "cpu" else wanted) > most:
            message = f"limits.{key}: got more than the hard limit of this process, {_shown(key, most)}"
            hint = "write less; only root can raise a hard limit"
            findings.error(_place(draft, key), "above-hard-limit", message, hint=hint)


def _place(draft: Draft, key: str) -> Place:
    return draft.place("limits", key)


def _shown(key: str, value: int) -> str:
    if key == "cpu":
        return f"{value}s"
    return format_size(value) if key in ("memory", "fsize", "core") else str(value)
