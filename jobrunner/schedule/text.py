"""The strict grammar of a cron expression: five fields of text become validated sets, or an error.

Every extension is resolved here, so that nothing behind this module ever interprets text.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from .errors import ScheduleError
from .fields import ALL_DAYS, ALL_WEEKDAYS, Fields
from .spread import spread

NICKNAMES: Final[Mapping[str, str]] = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "midnight": "0 0 * * *",
    "weekly": "0 0 * * 0",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What one field may hold: `low` to `high`, `size` different values, and names for some."""

    word: str
    low: int
    high: int
    size: int
    unit: str
    hash_high: int
    names: Mapping[str, int] = field(default_factory=dict)


SECOND: Final = Kind(word="second", low=0, high=59, size=60, unit="s", hash_high=59)
MINUTE: Final = Kind(word="minute", low=0, high=59, size=60, unit="m", hash_high=59)
HOUR: Final = Kind(word="hour", low=0, high=23, size=24, unit="h", hash_high=23)
DAY: Final = Kind(word="day of month", low=1, high=31, size=31, unit="d", hash_high=28)  # 28: in every month
MONTH: Final = Kind(
    word="month",
    low=1,
    high=12,
    size=12,
    unit="",
    hash_high=12,
    names={name: number for number, name in enumerate(_MONTHS, 1)},
)
WEEKDAY: Final = Kind(
    word="day of week",
    low=0,
    high=7,  # 0 and 7 are Sunday
    size=7,
    unit="",
    hash_high=6,
    names={name: number for number, name in enumerate(_WEEKDAYS)},
)

_FLAGS: Final = re.ASCII | re.IGNORECASE
_VALUE: Final = r"[0-9]{1,9}|[a-z]{3}"
_TERM: Final = re.compile(
    rf"(?:(?P<star>\*)|(?P<hash>h)(?:\((?P<from>[0-9]{{1,9}})-(?P<to>[0-9]{{1,9}})\))?"
    rf"|(?P<low>{_VALUE})(?:-(?P<high>{_VALUE}))?)(?:/(?P<step>[0-9]{{1,9}}))?",
    _FLAGS,
)
_LAST: Final = re.compile(r"l(?:-(?P<back>[0-9]{1,9}))?", _FLAGS)
_NEAREST: Final = re.compile(r"(?P<day>[0-9]{1,9})w", _FLAGS)
_NTH: Final = re.compile(rf"(?P<low>{_VALUE})(?:-(?P<high>{_VALUE}))?#(?P<number>[0-9]{{1,9}})", _FLAGS)
_LAST_WEEKDAY: Final = re.compile(r"(?:l(?P<after>[0-7]|[a-z]{3})|(?P<before>[0-7]|[a-z]{3})l)", _FLAGS)

_known: Final[dict[tuple[str, str], int]] = {}  # the sets of `*` and of numbers: most fields are one of these


@dataclass(slots=True)
class Days:
    """What the two day fields gather beyond their plain sets."""

    before_last: set[int] = field(default_factory=set)
    nearest: set[int] = field(default_factory=set)
    last_workday: bool = False
    nth: set[tuple[int, int]] = field(default_factory=set)

    @property
    def special(self) -> bool:
        """A form that needs the other day field free; a bare `L` does not."""
        return bool(self.nearest or self.last_workday or self.nth or self.before_last - {0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A cron expression that was accepted: its canonical text, its resolved text, its sets."""

    text: str
    """As written, with single blanks."""
    resolved: str
    """Lower case, with every `H` replaced by the numbers it stands for: what identifies the schedule."""
    fields: Fields
    uneven: tuple[tuple[str, str], ...]
    """(field word, term) of steps whose last gap is shorter than the others."""


# ---- the expression --------------------------------------------------------------------------------------


def parse_expression(
    text: str, *, name: str = "", seconds: str | None = None, both_days: bool = False
) -> Expression:
    """Reads five fields, or a nickname with or without `@`; `name` is what `H` is drawn from.

    `seconds` is a sixth field given apart; `both_days` asks for both day fields whatever their text.
    Raises ScheduleError with what, got, wanted and the next step.
    """
    given = _split(text)
    words = _split(NICKNAMES.get(given[0].lower().removeprefix("@"), "")) if len(given) == 1 else given
    if len(words or given) != 5:
        raise _not_five(text, given)
    reader = _Reader(name)
    fields = reader.fields(words, seconds, both_days=both_days)
    resolved = " ".join(reader.resolved)
    shown = " ".join(given) if seconds is None else f"{' '.join(given)} seconds {seconds.strip()}"
    return Expression(text=shown, resolved=resolved, fields=fields, uneven=tuple(reader.uneven))


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[ \t\r\n]+", text) if word]


def _not_five(text: str, words: list[str]) -> ScheduleError:
    if len(words) == 6:
        return _six_fields(text, words)
    if len(words) == 1:
        return _unknown_word(words[0])
    return ScheduleError(
        f"got {len(words)} fields in {text!r}, expected five: minute hour day-of-month month day-of-week",
        help='such as "30 2 * * *" for 02:30 every day',
        token=text,
    )


def _six_fields(text: str, words: list[str]) -> ScheduleError:
    first, last = " ".join(words[1:]), " ".join(words[:5])
    return ScheduleError(
        f"got six fields in {text!r}, expected five: minute hour day-of-month month day-of-week",
        help=(
            f'if seconds come first, write {{cron: "{first}", seconds: "{words[0]}"}}; '
            f'if the year comes last, write "{last}" (years are not supported)'
        ),
        token=text,
    )


def _unknown_word(word: str) -> ScheduleError:
    known = [*NICKNAMES, "reboot"]
    near = difflib.get_close_matches(word.lower().removeprefix("@"), known, n=1, cutoff=0.6)
    every = re.fullmatch(r"@?every[_-]?(minute|hour|day)", word.lower(), re.ASCII)
    choices = f'known are {", ".join(known)}, "every 90s" and five cron fields'
    help_text = f"did you mean {near[0]!r}?" if near else choices
    if every:
        help_text = f'write "every 1{every[1][0]}"'
    return ScheduleError(
        f"not a schedule: got {word!r}, expected five cron fields, a nickname or an interval",
        help=help_text,
        token=word,
    )


# ---- its fields ------------------------------------------------------------------------------------------


class _Reader:
    """Reads the fields one by one and notes what the warnings will need."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._days = Days()
        self.resolved: list[str] = []
        self.uneven: list[tuple[str, str]] = []

    def fields(self, words: list[str], seconds: str | None, *, both_days: bool) -> Fields:
        """The sets of five words and the seconds given apart."""
        minute, hour, day, month, weekday = words
        minutes, hours = self._field(MINUTE, minute), self._field(HOUR, hour)
        days, months = self._field(DAY, day), self._field(MONTH, month)
        weekdays = self._field(WEEKDAY, weekday)
        self._refuse_special_beside_restricted(day, weekday)
        return Fields(
            minutes=minutes,
            hours=hours,
            days=days,
            months=months,
            weekdays=weekdays,
            seconds=1 if seconds is None else self._field(SECOND, _seconds_text(seconds)),
            before_last=frozenset(self._days.before_last),
            nearest=frozenset(self._days.nearest),
            last_workday=self._days.last_workday,
            nth=frozenset(self._days.nth),
            both_days=both_days or day[0] in "*?" or weekday[0] in "*?",  # cron's star rule
            wildcard=minute[0] == "*" or hour[0] == "*",
        )

    def _refuse_special_beside_restricted(self, day: str, weekday: str) -> None:
        """`15W`, `5#3` and their like have no agreed meaning beside a second restriction."""
        special, other = (weekday, day) if self._days.nth else (day, weekday)
        if self._days.special and other not in ("*", "?"):
            raise ScheduleError(
                f"{special!r} needs the other day field free: got {other!r} beside it, expected '*'",
                help="programs disagree on whether both must match: write two schedules",
                token=other,
            )

    def _field(self, kind: Kind, text: str) -> int:
        if text == "?":
            return self._free(kind, text)
        terms = text.split(",")
        if "*" in terms and len(terms) > 1:
            raise ScheduleError(
                f"{kind.word}: got '*' inside the list {text!r}, expected '*' alone or a list without it",
                help=f"'*' already means every {kind.word}; drop the rest, or drop the '*'",
                token=text,
            )
        masks, resolved = zip(*(self._term(kind, term) for term in terms), strict=True)
        self.resolved.append(",".join(resolved))
        return _union(masks)

    def _free(self, kind: Kind, text: str) -> int:
        if kind not in (DAY, WEEKDAY):
            raise ScheduleError(
                f"{kind.word}: got {text!r}, expected it in a day field only", help="write '*'", token=text
            )
        self.resolved.append("*")
        return ALL_DAYS if kind is DAY else ALL_WEEKDAYS

    def _term(self, kind: Kind, term: str) -> tuple[int, str]:
        """The set of one member of a list, and its text with `H` resolved."""
        known = _known.get((kind.word, term))
        if known is not None:
            return known, term
        if (kind is DAY and self._special_day(term)) or (kind is WEEKDAY and self._special_weekday(term)):
            return 0, term.lower()
        match = _TERM.fullmatch(term)
        if match is None:
            raise _bad_term(kind, term)
        if match["hash"]:
            term = self._hashed(kind, match)
            match = _TERM.fullmatch(term)
            assert match is not None
        values = _values(kind, match)
        self._note_uneven(kind, match, values)
        mask = _union(1 << value % 7 if kind is WEEKDAY else 1 << value for value in values)
        if term == "*" or (term.isdigit() and len(term) < 3):
            _known[kind.word, term] = mask
        return mask, term.lower()

    def _hashed(self, kind: Kind, match: re.Match[str]) -> str:
        """The plain term that `H`, `H(0-15)`, `H/15` or `H(0-29)/10` stands for under this name."""
        low, high = kind.low, kind.hash_high
        if match["from"]:
            low, high = _number(kind, match["from"]), _number(kind, match["to"])
            if low > high:
                raise ScheduleError(
                    f"{kind.word}: got {match[0]!r}, expected H(low-high) with low up to high",
                    token=match[0],
                )
        salt = f"{self._name}\n{kind.word}"
        if match["step"] is None:
            return str(low + spread(salt, high - low))
        step = _step(kind, match)
        first = low + spread(salt, min(step, high - low + 1) - 1)
        return f"{first}-{high}/{step}"

    def _special_day(self, term: str) -> bool:
        if term.lower() == "lw":
            self._days.last_workday = True
        elif last := _LAST.fullmatch(term):
            self._days.before_last.add(_back(last))
        elif nearest := _NEAREST.fullmatch(term):
            self._days.nearest.add(_number(DAY, nearest["day"]))
        else:
            return False
        return True

    def _special_weekday(self, term: str) -> bool:
        if nth := _NTH.fullmatch(term):
            number = int(nth["number"])
            if not 1 <= number <= 5:
                raise ScheduleError(
                    f"day of week: got number {number} in {term!r}, expected 1 to 5",
                    help="'5#3' is the month's third Friday",
                    token=term,
                )
            self._days.nth.update((value % 7, number) for value in _range(WEEKDAY, nth["low"], nth["high"]))
            return True
        last = _LAST_WEEKDAY.fullmatch(term)
        if last is None:
            return False
        self._days.nth.add((_number(WEEKDAY, last["after"] or last["before"]) % 7, 0))
        return True

    def _note_uneven(self, kind: Kind, match: re.Match[str], values: list[int]) -> None:
        """Steps over the whole field whose way back to the first value is not a step."""
        if match["step"] is None or match["high"] or len(values) < 2:
            return
        if values[0] + kind.size - values[-1] != int(match["step"]):
            self.uneven.append((kind.word, match[0]))


def _seconds_text(given: object) -> str:
    text = str(given).strip()
    if not text or isinstance(given, bool) or len(_split(text)) != 1:
        raise ScheduleError(
            f"seconds: got {given!r}, expected one cron field such as */10 or 0,30", token=str(given)
        )
    return text


def _union(masks: Iterable[int]) -> int:
    total = 0
    for mask in masks:
        total |= mask
    return total


# ---- members of a list -----------------------------------------------------------------------------------


def _values(kind: Kind, match: re.Match[str]) -> list[int]:
    step = _step(kind, match)
    if match["star"]:
        return list(range(kind.low, kind.low + kind.size, step))
    if match["high"] is None and match["step"]:  # 5/15 is 5-59/15
        first = _number(kind, match["low"])
        return list(range(first, max(first, kind.low + kind.size - 1) + 1, step))
    return _range(kind, match["low"], match["high"])[::step]


def _range(kind: Kind, low_text: str, high_text: str | None) -> list[int]:
    """The values from low to high in order, around the end of the field when high is below low."""
    low = _number(kind, low_text)
    if high_text is None:
        return [low]
    high = _number(kind, high_text)
    if low <= high:
        return list(range(low, high + 1))
    span = (high - low) % kind.size
    return [kind.low + (low - kind.low + step) % kind.size for step in range(span + 1)]


def _step(kind: Kind, match: re.Match[str]) -> int:
    if match["step"] is None:
        return 1
    step = int(match["step"])
    if step == 0:
        raise ScheduleError(
            f"{kind.word}: got step 0 in {match[0]!r}, expected 1 to {kind.size}", token=match[0]
        )
    if step > kind.size:
        raise ScheduleError(
            f"{kind.word}: step {step} in {match[0]!r} is larger than the field, expected 1 to {kind.size}",
            help=f"for a steady interval write: every {step}{kind.unit}" if kind.unit else "",
            token=match[0],
        )
    return step


def _number(kind: Kind, text: str) -> int:
    if not text.isdigit():
        number = kind.names.get(text.lower())
        if number is None:
            raise _bad_name(kind, text)
        return number
    number = int(text)
    if not kind.low <= number <= kind.high:
        raise ScheduleError(
            f"{kind.word}: {number} is out of range, expected {kind.low} to {kind.high}", token=text
        )
    return number


def _back(match: re.Match[str]) -> int:
    if match["back"] is None:
        return 0
    days = int(match["back"])
    if not 1 <= days <= 30:
        raise ScheduleError(
            f"day of month: got {match[0]!r}, expected L-1 to L-30",
            help="L-3 is three days before the month's last one",
            token=match[0],
        )
    return days


def _bad_name(kind: Kind, text: str) -> ScheduleError:
    near = difflib.get_close_matches(text.lower(), kind.names, n=1, cutoff=0.5)
    wanted = "a name of three letters or a number" if kind.names else "a number"
    return ScheduleError(
        f"{kind.word}: got {text!r}, expected {wanted}",
        help=f"did you mean {near[0]!r}?" if near else f"numbers run from {kind.low} to {kind.high}",
        token=text,
    )


def _bad_term(kind: Kind, term: str) -> ScheduleError:
    return ScheduleError(
        f"{kind.word}: got {term!r}, expected '*', a number, a range (1-5), a step (*/15) or a list (1,3)",
        help=_term_help(kind, term.lower()),
        token=term,
    )


def _term_help(kind: Kind, term: str) -> str:
    if re.match(r"r\b|r\(|r/", term):
        return "R is drawn anew at every load: write H, which is as even and stays the same"
    if "~" in term:
        return f"a random value is drawn anew at every load: write H({term.replace('~', '-')})"
    if term[:3] in kind.names and term.isalpha():
        return f"names have three letters: write {term[:3]!r}"
    if kind is WEEKDAY and term == "l":
        return "the last Friday of the month is 5L; the last day of the month is L in the day-of-month field"
    if kind is WEEKDAY and "w" in term:
        return "W belongs into the day-of-month field; Monday to Friday is 1-5"
    return f"numbers run from {kind.low} to {kind.high}"
