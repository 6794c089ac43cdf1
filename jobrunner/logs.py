"""The words of the log: one canonical line per attempt, in text, JSON or the journal's form."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import singledispatch
from pathlib import PurePath
from typing import TextIO
from zoneinfo import ZoneInfo

from .clock import Clock
from .durations import SECOND, Micros, format_duration, from_micros
from .events import (
    AttemptEnded,
    Event,
    GoingOn,
    HousekeepingFailed,
    Hurrying,
    Late,
    LeaseEnded,
    LeaseLate,
    MapGrown,
    NoticeLost,
    Notified,
    NotNotified,
    NoWorkers,
    OwnerVoided,
    RateReached,
    Ready,
    ReceiverFailed,
    ReceiverSaid,
    Recovered,
    Reloaded,
    Reloading,
    ReloadRefused,
    RunBegan,
    RunRefused,
    RunsRemoved,
    Shortage,
    ShortageOver,
    StandingBy,
    Stopped,
    Stopping,
    StorageBack,
    StorageTrouble,
    TaskBlocked,
    TaskFree,
    TickRefused,
    TicksAdded,
    WorkersAgain,
)
from .ids import short_id
from .model import Ending, Reason, State
from .redact import redactor_of


class Level(IntEnum):
    """Severity; the values are syslog's (RFC 5424), which the journal reads from a `<N>` prefix."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


@dataclass(frozen=True, slots=True)
class Line:
    """One line to be written."""

    level: Level
    event: str
    words: str
    fields: Mapping[str, object]


FORMATS = ("auto", "text", "json", "journal")
LEVELS = {level.name.lower(): level for level in Level}
_QUIET = frozenset({RunBegan, MapGrown, RateReached, TicksAdded})  # only a debug log has them
_MOST_NAMES = 20  # of tasks in one line
_SYMBOLS = {
    State.SUCCEEDED: "✓",
    State.FAILED: "✗",
    State.RETRYING: "↻",
    State.QUEUED: "↻",
    State.CANCELLED: "■",
    State.SKIPPED: "-",
}


class Log:
    """Writes events to a stream. `emit` never raises for a stream that is gone: work matters more."""

    def __init__(
        self,
        stream: TextIO,
        clock: Clock,
        *,
        form: str = "auto",
        level: Level = Level.INFO,
        zone: str = "UTC",
        secrets: tuple[str, ...] = (),
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._form = _own_form(stream) if form == "auto" else form
        self._level = level
        self._zone = ZoneInfo(zone)
        self._secrets = secrets
        self._redactor = redactor_of(secrets)
        self._is_gone = False  # the reader: nobody is left to be told

    def hide(self, secrets: tuple[str, ...]) -> None:
        """No line from now on holds one of these, nor of those before: runs of an older plan may go on."""
        self._secrets = tuple(dict.fromkeys((*self._secrets, *secrets)))
        self._redactor = redactor_of(self._secrets)

    def emit(self, event: Event) -> None:
        if type(event) is Reloaded:
            self._zone = ZoneInfo(event.timezone)
        if self._is_gone or self._level < _calm(event):
            return  # the hot path: no words for a line that nobody reads
        for each in _singly(event):
            line = words(each)
            if line.level <= self._level:
                self._write(line)

    def _write(self, line: Line) -> None:
        try:
            self._stream.write(self._redactor.text(self._text(line)) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._is_gone = True

    def _text(self, line: Line) -> str:
        if self._form == "json":
            head = {"time": self._time().isoformat(), "level": line.level.name.lower(), "event": line.event}
            return json.dumps({**head, **line.fields, "message": line.words}, ensure_ascii=False, default=str)
        if self._form == "journal":
            return f"<{int(line.level)}>{line.words}"
        return f"{self._time():%H:%M:%S} {line.words}"

    def _time(self) -> datetime:
        return from_micros(self._clock.now(), self._zone)


def _own_form(stream: TextIO) -> str:
    """The journal's form when systemd reads this very stream, else text."""
    journal = os.environ.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return "text"
    return "journal" if journal == f"{found.st_dev}:{found.st_ino}" else "text"


def _singly(event: Event) -> Iterable[Event]:
    """Ticks come by the hundred, and each has its line; the steps of a pipeline have none of their own."""
    if type(event) is not TicksAdded:
        return (event,)
    return [TicksAdded((run,)) for run in event.runs if run.pipeline is None]


def _calm(event: Event) -> Level:
    """The level from which on this event has words, as far as that is known without making them."""
    if type(event) in _QUIET:
        return Level.DEBUG
    if type(event) is AttemptEnded or type(event) is RunRefused:
        return _severity(event.settle.state)
    return Level.ERROR


def stderr_log(clock: Clock, *, form: str, level: str, zone: str, secrets: tuple[str, ...] = ()) -> Log:
    """The log of a supervisor: stderr is talk."""
    return Log(sys.stderr, clock, form=form, level=LEVELS[level], zone=zone, secrets=secrets)


# --- words ------------------------------------------------------------------------------------------


@singledispatch
def words(event: object) -> Line:
    """The line for an event."""
    raise NotImplementedError(type(event).__name__)


@words.register
def _(event: Ready) -> Line:
    text = (
        f"● running {PurePath(event.file).name} · {event.tasks} tasks, {event.schedules} scheduled"
        f" · times in {event.timezone} · storage {event.storage} · pid {event.pid}"
    )
    if event.silence is not None:
        text += f" · nobody was here for up to {format_duration(event.silence)} before"
    silence = None if event.silence is None else event.silence / 1_000_000
    fields = {"file": event.file, "tasks": event.tasks, "pid": event.pid, "silence": silence}
    return Line(Level.INFO, "ready", text, fields)


@words.register
def _(event: StandingBy) -> Line:
    text = f"○ standing by: another supervisor works on {event.storage}; taking over when it is gone"
    return Line(Level.WARNING, "standing-by", text, {"storage": event.storage})


@words.register
def _(event: Recovered) -> Line:
    text = (
        f"↻ recovered from an unplanned end: {event.requeued} runs queued again, {event.failed} failed,"
        f" {event.ended_processes} leftover processes ended"
    )
    if event.left:
        text += f"; {event.left} runs wait for processes that cannot be ended"
    fields = {"requeued": event.requeued, "failed": event.failed, "left": event.left}
    return Line(Level.WARNING, "recovered", text, fields)


@words.register
def _(event: RunBegan) -> Line:
    again = f", attempt {event.attempt}" if event.attempt > 1 else ""
    text = f"▶ {event.task} started ({_shown(event.trigger)}{again}) · run {_short(event.run_id)}"
    return Line(
        Level.DEBUG, "started", text, {"task": event.task, "run": event.run_id, "attempt": event.attempt}
    )


@words.register
def _(event: AttemptEnded) -> Line:
    settle = event.settle
    fields = {
        "task": event.claim.task,
        "run": settle.id,
        "attempt": event.claim.attempt,
        "state": settle.state.value,
        "outcome": _shown(event.ended.outcome),
        "reason": settle.reason,
        "exit_code": settle.exit_code,
        "duration": _seconds(event),
        "trigger": event.claim.trigger,
    }
    return Line(_severity(settle.state), "attempt", _attempt_words(event), fields)


@words.register
def _(event: RunRefused) -> Line:
    settle = event.settle
    symbol, state = _SYMBOLS.get(settle.state, "·"), settle.state.value
    text = f"{symbol} {event.task} {state}: {settle.reason} · run {_short(settle.id)}"
    fields = {"task": event.task, "run": settle.id, "state": state, "reason": settle.reason}
    return Line(_severity(settle.state), "refused", text, fields)


@words.register
def _(event: TickRefused) -> Line:
    text = f"- {event.run.task} skipped: {event.reason}"
    count = _folded(event)
    if count > 1:
        text = f"- {event.run.task}: {count} ticks skipped: {event.reason}"
    fields = {"task": event.run.task, "tick": event.run.tick, "reason": event.reason, "count": count}
    return Line(_refusal_level(event.reason), "skipped", text, fields)


@words.register
def _(event: TicksAdded) -> Line:
    run = event.runs[0]
    text = f"· {run.task} enqueued by its schedule · run {short_id(run.id)}"
    return Line(Level.DEBUG, "tick", text, {"task": run.task, "run": run.id, "tick": run.tick})


@words.register
def _(event: MapGrown) -> Line:
    count = len(event.settle.follow)
    text = f"· a map has grown to {count} runs · run {short_id(event.settle.id)}"
    return Line(Level.DEBUG, "grown", text, {"run": event.settle.id, "count": count})


@words.register
def _(event: RateReached) -> Line:
    names = ", ".join(event.tasks[:_MOST_NAMES])
    text = f"· runs wait for the next window of their rate: {names}"
    return Line(Level.DEBUG, "rate", text, {"tasks": list(event.tasks)})


@words.register
def _(event: StorageTrouble) -> Line:
    hint = f" ({event.help})" if event.help else ""
    text = f"✗ trouble with the storage: {_shown(event.message, 1000)}{hint}"
    if event.retry_in:
        text += f"; next try in {format_duration(event.retry_in)}"
    return Line(Level.ERROR, "storage-trouble", text, {"error": event.message})


@words.register
def _(event: HousekeepingFailed) -> Line:
    text = f"✗ housekeeping failed, and is done again later: {_shown(event.message, 1000)}"
    return Line(Level.ERROR, "housekeeping-failed", text, {"error": event.message})


@words.register
def _(event: ReceiverSaid) -> Line:
    text = f"  a receiver of signals: {_shown(event.text, 1000)}"
    return Line(Level.INFO, "receiver-said", text, {"text": event.text})


@words.register
def _(event: ReceiverFailed) -> Line:
    text = f"✗ a receiver of signals failed: {_shown(event.error, 1000)}"
    return Line(Level.ERROR, "receiver-failed", text, {"error": event.error})


@words.register
def _(event: StorageBack) -> Line:
    text = f"✓ the storage works again after {format_duration(event.after)}"
    return Line(Level.WARNING, "storage-back", text, {"after": event.after / 1_000_000})


@words.register
def _(event: Shortage) -> Line:
    what = "nothing is claimed until there is more" if event.holds else "tasks may be ended for it"
    return Line(Level.ERROR, "shortage", f"✗ {event.words}: {what}", {"kind": event.kind})


@words.register
def _(event: ShortageOver) -> Line:
    return Line(Level.WARNING, "shortage-over", f"✓ enough {event.kind} again", {"kind": event.kind})


@words.register
def _(event: NoWorkers) -> Line:
    text = f"✗ workers of pool {event.pool!r} do not start; its runs wait: {_shown(event.why, 2000)}"
    return Line(Level.ERROR, "no-workers", text, {"pool": event.pool, "error": event.why})


@words.register
def _(event: WorkersAgain) -> Line:
    text = f"✓ workers of pool {event.pool!r} start again"
    return Line(Level.WARNING, "workers-again", text, {"pool": event.pool})


@words.register
def _(event: LeaseLate) -> Line:
    text = (
        f"✗ the lease was not renewed for {format_duration(event.age // SECOND * SECOND)}: nothing new is"
        f" started; what runs is ended in {format_duration(event.left)}"
    )
    return Line(Level.WARNING, "lease-late", text, {"age": event.age / 1_000_000})


@words.register
def _(event: LeaseEnded) -> Line:
    text = f"✗ the lease runs out: {event.running} running are ended, before others may take them over"
    return Line(Level.ERROR, "lease-ended", text, {"running": event.running})


@words.register
def _(event: OwnerVoided) -> Line:
    text = (
        "✗ the storage does not know this supervisor any more: another one has declared it dead, or its data"
        f" was lost; {event.running} running are ended"
    )
    return Line(Level.ERROR, "owner-voided", text, {"running": event.running})


@words.register
def _(event: GoingOn) -> Line:
    text = "↻ the lease is over: this supervisor goes on under a new id"
    if event.unwritten:
        text += f"; the ends of {event.unwritten} runs wait to be written"
    return Line(Level.WARNING, "going-on", text, {"unwritten": event.unwritten})


@words.register
def _(event: Late) -> Line:
    run = _short(event.task_run)
    text = f"✗ a late completion of run {run} was refused: it is not this supervisor's any more"
    return Line(Level.WARNING, "late", text, {"run": event.task_run})


@words.register
def _(event: Notified) -> Line:
    more = f", {event.more} more of this kind" if event.more else ""
    text = f"✉ {event.task}: told of {event.occasion} by {' and '.join(event.channels)}{more}"
    fields = {"task": event.task, "run": event.run_id, "occasion": event.occasion, "channels": event.channels}
    return Line(Level.INFO, "notified", f"{text} · run {_short(event.run_id)}", fields)


@words.register
def _(event: NoticeLost) -> Line:
    why = f"{_shown(event.file, 300)} cannot be read: {_shown(event.error, 300)}"
    text = f"✗ a notification is lost, its file {why}"
    fields = {"file": event.file, "error": event.error, "content": event.content}
    return Line(Level.ERROR, "notice-lost", text, fields)


@words.register
def _(event: NotNotified) -> Line:
    after = "given up" if event.retry_in is None else f"next try in {format_duration(event.retry_in)}"
    text = f"✗ {event.task}: nobody could be told of {event.occasion}: {_shown(event.message, 1000)}; {after}"
    fields = {
        "task": event.task,
        "run": event.run_id,
        "occasion": event.occasion,
        "error": event.message,
        "given_up": event.retry_in is None,
    }
    return Line(Level.ERROR, "not-notified", f"{text} · run {_short(event.run_id)}", fields)


@words.register
def _(event: Reloading) -> Line:
    return Line(Level.DEBUG, "reloading", f"↻ reading the file again: {event.by}", {"by": event.by})


@words.register
def _(event: Reloaded) -> Line:
    news = event.news
    parts = [f"+ {name}" for name in news.added]
    parts += [f"~ {name}" for name in (*news.changed, *news.settings)]
    parts += [f"- {name}" for name in news.removed]
    told = ", ".join(parts[:_MOST_NAMES]) + (
        f" and {len(parts) - _MOST_NAMES} more" * (len(parts) > _MOST_NAMES)
    )
    text = f"↻ reloaded {PurePath(event.file).name} ({event.by}): {told or 'nothing has changed'}"
    if event.fresh:
        text += "; fresh workers"
    fields = {"by": event.by, "added": news.added, "changed": news.changed, "removed": news.removed}
    return Line(Level.INFO, "reloaded", text, {**fields, "settings": news.settings, "fresh": event.fresh})


@words.register
def _(event: ReloadRefused) -> Line:
    first = next((line for line in event.problems.splitlines() if line.strip()), "")
    text = f"✗ not reloaded, the configuration before it stays in force: {_shown(first, 1000)}"
    level = Level.DEBUG if event.again else Level.ERROR
    return Line(level, "reload-refused", text, {"file": event.file, "problems": event.problems})


@words.register
def _(event: TaskBlocked) -> Line:
    text = f"✗ {event.task} is blocked: {_shown(event.why, 1000)}"
    return Line(Level.ERROR, "task-blocked", text, {"task": event.task, "why": event.why})


@words.register
def _(event: TaskFree) -> Line:
    return Line(Level.WARNING, "task-free", f"✓ {event.task} is not blocked any more", {"task": event.task})


@words.register
def _(event: RunsRemoved) -> Line:
    text = f"- {event.count} ticks and retries of removed tasks were cancelled"
    return Line(Level.WARNING, "runs-removed", text, {"count": event.count})


@words.register
def _(event: Stopping) -> Line:
    text = f"■ stopping: {event.running} running, waiting up to {format_duration(event.patience)}"
    return Line(Level.INFO, "stopping", text, {"running": event.running})


@words.register
def _(event: Hurrying) -> Line:
    text = f"■ stopping now: {event.running} running are ended"
    return Line(Level.WARNING, "hurrying", text, {"running": event.running})


@words.register
def _(event: Stopped) -> Line:
    parts = []
    if event.interrupted:
        parts.append(f"{event.interrupted} runs interrupted, they go on at the next start")
    if event.unwritten:
        parts.append(f"the ends of {event.unwritten} runs were not written, the next start recovers them")
    if event.stuck:
        parts.append(f"{event.stuck} queued runs cannot run here (unknown or paused task)")
    text = "○ stopped" + (f": {'; '.join(parts)}" if parts else "")
    fields = {"interrupted": event.interrupted, "unwritten": event.unwritten, "stuck": event.stuck}
    return Line(Level.WARNING if event.unwritten else Level.INFO, "stopped", text, fields)


def _severity(state: State) -> Level:
    if state is State.FAILED:
        return Level.ERROR
    return Level.INFO if state in (State.SUCCEEDED, State.SKIPPED) else Level.WARNING


def _attempt_words(event: AttemptEnded) -> str:
    settle = event.settle
    return (
        f"{_SYMBOLS.get(settle.state, '·')} {event.claim.task} {_what_became(event)}{_took(event)}"
        f"{_what_is_next(event)} · run {_short(settle.id)}{_said(event)}"
    )


def _what_became(event: AttemptEnded) -> str:
    settle, outcome = event.settle, _shown(event.ended.outcome)
    if settle.state is State.SUCCEEDED:
        return "succeeded" if event.claim.attempt == 1 else f"succeeded at attempt {event.claim.attempt}"
    if settle.state is State.RETRYING and event.ended.ending is Ending.RETRY_ASKED:
        return f"{outcome} at attempt {event.claim.attempt}"
    if settle.state is State.RETRYING:
        return f"failed ({outcome}) at attempt {event.claim.attempt}"
    if settle.state is State.QUEUED:
        return outcome
    return f"{settle.state.value} ({settle.reason or outcome})"


def _what_is_next(event: AttemptEnded) -> str:
    settle = event.settle
    if settle.state is State.RETRYING:
        return f"; next try in {format_duration(max(0, settle.due_at - settle.ended_at))}"
    return "; queued again" if settle.state is State.QUEUED else ""


def _took(event: AttemptEnded) -> str:
    started = event.ended.started_at
    return "" if started is None else f" in {format_duration(max(0, event.ended.ended_at - started))}"


def _said(event: AttemptEnded) -> str:
    """The first line of the error, or of what a command said."""
    text = event.ended.error if event.settle.state is not State.SUCCEEDED else _spoken(event.ended.result)
    line = (text or "").strip().splitlines()
    return f" · {_shown(line[0])}" if line else ""


def _spoken(result: str | None) -> str | None:
    if not result or len(result) >= 4096 or not result.startswith('"'):
        return None
    try:
        return str(json.loads(result))
    except ValueError:  # a worker may have been made to say anything
        return None


def _shown(text: str, most: int = 100) -> str:
    """Captured text is hostile: control characters are escaped, and it is cut."""
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: most + 1])
    return safe if len(safe) <= most else safe[: most - 1] + "…"


def _short(run_id: str) -> str:
    return _shown(short_id(run_id))


def _seconds(event: AttemptEnded) -> float | None:
    started: Micros | None = event.ended.started_at
    return None if started is None else (event.ended.ended_at - started) / 1_000_000


def _refusal_level(reason: str) -> Level:
    """What a person has switched off is no news at each of its ticks; its rows are there all the same."""
    return Level.DEBUG if reason in (Reason.DISABLED, Reason.PAUSED) else Level.INFO


def _folded(event: TickRefused) -> int:
    detail = json.loads(event.run.detail) if event.run.detail else {}
    return int(detail.get("count", 1))
