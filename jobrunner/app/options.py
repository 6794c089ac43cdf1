"""Options: those of a task, as its decorator takes them, and those of one call."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any, Final, Literal, TypeAlias, TypedDict

from ..durations import Micros
from ..errors import UsageError
from ..model import Options
from ..plain import to_plain
from .crontab import Crontab
from .moments import Duration, duration, instant, text_of

ScheduleSource: TypeAlias = "str | Mapping[str, object] | Crontab"
"""A schedule: cron text, "every 90s", `crontab(...)`, or a mapping as in jobs.yaml."""

_RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)


class TaskOptions(TypedDict, total=False):
    """What `@task` takes: the keys of jobs.yaml, and `retry_delay` and `retry_backoff` beside `retries`."""

    name: str
    description: str
    retries: int | Mapping[str, object]
    retry_delay: Duration
    retry_backoff: float
    timeout: Duration
    kill_after: Duration
    expires: Duration
    priority: int
    lock: str | Mapping[str, object]
    rate_limit: str
    unique: str | Mapping[str, object]
    pool: str
    on_interrupt: Literal["requeue", "fail"]
    max_crashes: int
    on_success: str | Sequence[str]
    on_failure: str | Sequence[str]
    notify: Mapping[str, object]
    env: Mapping[str, str]
    cwd: str
    output: Mapping[str, object]
    enabled: bool
    store_result: bool
    args: Sequence[object]
    kwargs: Mapping[str, object]
    timezone: str
    overlap: Literal["skip", "queue", "replace", "allow"]
    catch_up: Literal["none", "one", "all"]
    catch_up_window: Duration
    catch_up_limit: int
    jitter: Duration


class CallOptions(TypedDict, total=False):
    """What `schedule` and `options` take: they hold for one call, over what the task says."""

    delay: Duration | None
    eta: datetime | None
    priority: int | None
    retries: int | None
    retry_delay: Duration | None
    timeout: Duration | None
    expires: Duration | datetime | None
    id: str | None
    unique_key: str | None
    on_conflict: Literal["refuse", "replace"]
    connection: Any


_DURATIONS: Final = ("timeout", "kill_after", "expires", "catch_up_window", "jitter")
_RETRY: Final = {"retry_delay": "delay", "retry_backoff": "backoff"}


def declared(options: Mapping[str, Any], schedule: ScheduleSource | None) -> dict[str, object]:
    """The options of a decorator as the keys of jobs.yaml. Raises TypeError for an unknown one."""
    _check_known(options, TaskOptions.__annotations__, "@task")
    raw: dict[str, object] = {key: value for key, value in options.items() if value is not None}
    raw.pop("name", None)
    for key in _DURATIONS:
        if key in raw:
            raw[key] = text_of(options[key])
    _merge_retries(raw)
    if schedule is not None:
        raw["schedule"] = [schedule.schedule if isinstance(schedule, Crontab) else schedule]
    for key in ("on_success", "on_failure"):
        if isinstance(raw.get(key), str):
            raw[key] = [raw[key]]
    return raw


def _merge_retries(raw: dict[str, object]) -> None:
    given = {inner: raw.pop(key) for key, inner in _RETRY.items() if key in raw}
    if "delay" in given:
        given["delay"] = text_of(given["delay"])  # type: ignore[arg-type]
    if not given:
        return
    retries = raw.get("retries", 0)
    raw["retries"] = {**retries, **given} if isinstance(retries, Mapping) else {"max": retries, **given}


def _check_known(given: Mapping[str, object], known: Mapping[str, object], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{where} got an unknown option {key!r}{hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The options of one call; None: as the task says."""

    delay: Micros | None = None
    eta: datetime | None = None
    priority: int | None = None
    retries: int | None = None
    retry_delay: Micros | None = None
    timeout: Micros | None = None
    expires: Micros | datetime | None = None
    run_id: str | None = None
    unique_key: str | None = None
    replaces: bool = False
    connection: Any = None  # of the caller, in whose transaction the run is added

    def with_options(self, given: Mapping[str, Any]) -> Terms:
        """The same with these over them. Raises TypeError (unknown) and UsageError (a wrong value)."""
        _check_known(given, CallOptions.__annotations__, "schedule")
        changes: dict[str, Any] = {}
        for key, value in given.items():
            changes.update(_term(key, value))
        both = replace(self, **changes)
        if both.delay is not None and both.eta is not None:
            raise UsageError("delay and eta exclude each other", help="give one of them")
        return both

    def due_at(self, now: Micros, zone: tzinfo | None) -> Micros:
        """When the run is due: in the past means now."""
        if self.eta is not None:
            return max(now, instant(self.eta, zone))
        return now + (self.delay or 0)

    def patience(self, due_at: Micros, zone: tzinfo | None) -> Micros | None:
        """How long after it is due the run may wait to be started."""
        if isinstance(self.expires, datetime):
            return max(0, instant(self.expires, zone) - due_at)
        return self.expires

    def of_step(self, patience: Micros | None) -> Terms:
        """What of them is a step's own, when they are of a call that becomes a pipeline by its handlers."""
        return Terms(
            priority=self.priority,
            retries=self.retries,
            retry_delay=self.retry_delay,
            timeout=self.timeout,
            expires=patience,
        )

    def demand_whole(self) -> None:
        """Raise UsageError for what a pipeline as a whole cannot have."""
        for name, value in (("retries", self.retries), ("retry_delay", self.retry_delay)):
            if value is not None:
                raise UsageError(
                    f"{name} cannot be given to a pipeline: its steps are what is tried again",
                    help="give it to them, and retry() the pipeline from what has failed",
                )

    @property
    def needs_zone(self) -> bool:
        """Whether a naive moment has to be read in the zone of the file."""
        return _is_naive(self.eta) or _is_naive(self.expires)

    def stored(self) -> str | None:
        """What the run's row keeps of them: JSON of model.Options; None: nothing."""
        if self.timeout is self.retries is self.retry_delay is None:
            return None
        options = Options(timeout=self.timeout, retries=self.retries, retry_delay=self.retry_delay)
        plain = to_plain(options)
        return json.dumps(plain, separators=(",", ":")) if plain else None


NO_TERMS: Final = Terms()


def _is_naive(moment: object) -> bool:
    return isinstance(moment, datetime) and moment.tzinfo is None


def _term(key: str, value: Any) -> dict[str, Any]:
    """One option as fields of Terms."""
    if key == "id":
        return {"run_id": _run_id(value)}
    if key == "on_conflict":
        return {"replaces": _replaces(value)}
    if value is None or key in ("unique_key", "connection") or isinstance(value, datetime):
        return {key: value}
    if key == "eta":
        raise UsageError(
            f"eta: got {value!r:.100}, expected a datetime",
            help='a time from now is a delay: delay="5m"; a text is read by datetime.fromisoformat',
        )
    if key in ("priority", "retries"):
        return {key: _whole(key, value)}
    return {key: duration(value, key)}


def _run_id(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and _RUN_ID.fullmatch(value)):
        raise UsageError(
            f"id: got {value!r}, expected a text that can be a run's id",
            help="letters, digits, '_', '.' and '-', at most 100, the first a letter or a digit",
        )
    return value


def _replaces(value: Any) -> bool:
    if value not in ("refuse", "replace"):
        raise UsageError(f"on_conflict: got {value!r}, expected 'refuse' or 'replace'")
    return bool(value == "replace")


def _whole(key: str, value: Any) -> int:
    lowest = 0 if key == "retries" else -1_000_000
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= 1_000_000:
        raise UsageError(f"{key}: got {value!r}, expected a whole number from {lowest:,} to 1,000,000")
    return value
