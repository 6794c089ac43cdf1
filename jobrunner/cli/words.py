"""Times, counts and stored text in the words that a person reads. Pure: values in, text out."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Final

from jobrunner.durations import DAY, HOUR, MINUTE, SECOND, Micros, from_micros
from jobrunner.model import Run, State
from jobrunner.storage import COUNT_LIMIT

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SYMBOLS: Final = {
    State.SUCCEEDED: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "■",
    State.EXPIRED: "⌛",
    State.SKIPPED: "-",
    State.RUNNING: "●",
    State.QUEUED: "…",
    State.RETRYING: "↻",
    State.SCHEDULED: "◷",
    State.WAITING: "◌",
}
COLOURS: Final = {
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.CANCELLED: "yellow",
    State.EXPIRED: "yellow",
    State.RUNNING: "cyan",
    State.RETRYING: "yellow",
}


def local(instant: Micros, zone: tzinfo | None) -> datetime:
    """The datetime of an instant in a zone; None is the machine's."""
    return from_micros(instant).astimezone(zone)


def absolute(instant: Micros, zone: tzinfo | None) -> str:
    """`2026-11-23T08:05:00+01:00`, to the second."""
    return local(instant, zone).isoformat(timespec="seconds")


def rfc3339(instant: Micros | None) -> str | None:
    """An instant as the JSON documents write it: UTC, with microseconds where there are some."""
    return None if instant is None else from_micros(instant).isoformat().replace("+00:00", "Z")


def coarse(duration: Micros) -> str:
    """The largest unit alone: `12 s`, `7 min`, `5 h`, `2 d`."""
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if duration >= size:
            return f"{duration // size} {unit}"
    return f"{max(0, duration) // SECOND} s"


def how_long(duration: Micros) -> str:
    """`3 days` and `1 day` where days are meant to be read, else as `coarse`."""
    days = duration // DAY
    return coarse(duration) if days < 1 else f"{days} day{'s' if days > 1 else ''}"


def ago(instant: Micros, now: Micros, zone: tzinfo | None) -> str:
    """`12 s ago`, `5 h ago`, and the day for what is older than two days: `Sun 15 Nov`."""
    if now - instant < 2 * DAY:
        return f"{coarse(now - instant)} ago"
    return day(instant, now, zone)


def day(instant: Micros, now: Micros, zone: tzinfo | None) -> str:
    """`Sun 15 Nov`, with the year when it is another one."""
    moment = local(instant, zone)
    year = f" {moment.year}" if moment.year != local(now, zone).year else ""
    return f"{WEEKDAYS[moment.weekday()]} {moment.day} {MONTHS[moment.month]}{year}"


def ahead(instant: Micros, now: Micros, zone: tzinfo | None) -> str:
    """`in 48 s`, `08:15 (in 7 min)`, `Tue 02:30 (in 18 h)`, `Sun 6 Dec 04:00 (in 13 d)`."""
    rest = instant - now
    if rest < MINUTE:
        return "now" if rest < SECOND else f"in {coarse(rest)}"
    moment = local(instant, zone)
    clock = f"{moment:%H:%M}"
    if moment.date() != local(now, zone).date():
        near = rest < 6 * DAY
        clock = f"{WEEKDAYS[moment.weekday()] if near else day(instant, now, zone)} {clock}"
    return f"{clock} (in {coarse(rest)})"


def count(number: int) -> str:
    """Exact up to the limit of counting, then `10,000+`."""
    return f"{COUNT_LIMIT:,}+" if number > COUNT_LIMIT else f"{number:,}" if number > 9999 else str(number)


def plural(number: int, word: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count(number)} {word}{'' if number == 1 else 's'}"


def standing(run: Run) -> str:
    """How a run stands, in words: its reason or outcome when it is final, else its state."""
    if not run.state.is_final:
        is_pipeline = run.state is State.WAITING and run.join is not None and run.pipeline is None
        return State.RUNNING.value if is_pipeline else run.state.value
    if run.state is State.SUCCEEDED:
        return "ok" if run.outcome in (None, "ok") else str(run.outcome)
    if run.state is State.FAILED:
        return run.reason or run.outcome or "failed"
    same = run.reason in (None, run.state.value)
    return run.state.value if same else f"{run.state.value}: {run.reason}"


def one_line(text: str) -> str:
    """Stored text on one line: every control character, line ends too, is escaped."""
    return text if text.isprintable() else "".join(map(_visible, text))


def gist(text: str) -> str:
    """The first and the last line of stored text, which say what failed and why; a trace lies between."""
    lines = text.strip().splitlines() or [""]
    return one_line(lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}")


def several_lines(text: str) -> str:
    """Stored text for a terminal: lines and tabs stay, every other control character is escaped."""
    plain = text.replace("\n", "").replace("\t", "").isprintable()
    return text if plain else "".join(c if c in "\n\t" else _visible(c) for c in text)


def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def last_lines(text: str, most: int) -> list[str]:
    """The last lines of a text, without empty ones at its end."""
    return text.rstrip().splitlines()[-most:]
