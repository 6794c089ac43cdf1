"""What a benchmark is made of: contests between entrants, measured in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

Attempt = Callable[[Path], float]  # one repetition in a new, empty folder; the figure in the contest's unit
R = TypeVar("R")


class Missing(Exception):
    """This entrant has no figure here; the text says why, and stands in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """Somebody who takes part: `attempt` gives one figure."""

    name: str
    settings: str  # durability first: what a crash or a power cut may lose
    attempt: Attempt
    is_ours: bool = False
    is_aside: bool = False  # shown, and not to be beaten: it keeps less, or it is ourselves once more


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the target asks of our figure: a bound of its own, or a ratio to the figure of one peer."""

    text: str
    bound: float | None = None
    ratio: float | None = None
    peer: str = ""  # "" with a ratio: the best of the peers
    is_ahead: bool = False  # and ahead of every peer that is not aside


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One line of the table: a target, or one side of it."""

    target: str  # P1 ... P11
    name: str
    unit: str
    goal: Goal
    entrants: Sequence[Entrant]
    more_is_better: bool = True
    repeat: int = 3
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one entrant reached: all its repetitions, or why there is none."""

    name: str
    settings: str
    is_ours: bool = False
    is_aside: bool = False
    values: tuple[float, ...] = ()
    missing: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a contest."""

    target: str
    name: str
    unit: str
    goal: str
    more_is_better: bool
    figures: tuple[Figures, ...]
    wanted: float | None  # the goal's ratio, or its bound
    peer: str  # whose figure the ratio is to
    ratio: float | None  # ours to the goal's peer; None without a ratio in the goal
    behind: tuple[str, ...]  # peers that are ahead of us, where the goal is to be ahead of them
    is_reached: bool | None  # None: it could not be told here
    note: str = ""
    held_at: str = ""  # date and time

    @property
    def ours(self) -> Figures | None:
        """Our figures, where there are some."""
        return next((each for each in self.figures if each.is_ours and each.values), None)


# --- holding a contest ----------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """The repetitions so far of one entrant."""

    entrant: Entrant
    values: list[float] = field(default_factory=list)
    missing: str = ""

    def attempt(self, folder: Path) -> None:
        """One repetition; an entrant that failed once is not asked again."""
        if self.missing:
            return
        try:
            self.values.append(self.entrant.attempt(folder))
        except Exception as error:  # whatever it is: the others go on
            self.missing = reason_of(error)

    def figures(self) -> Figures:
        each = self.entrant
        return Figures(
            name=each.name,
            settings=each.settings,
            is_ours=each.is_ours,
            is_aside=each.is_aside,
            values=() if self.missing else tuple(self.values),
            missing=self.missing,
        )


def reason_of(error: Exception) -> str:
    """Why there is no figure, in a line."""
    text = " ".join(str(error).split()) or "no reason given"
    return text if isinstance(error, Missing) else f"{type(error).__name__}: {text}"


def hold(contest: Contest, new_folder: Callable[[], Path]) -> Outcome:
    """Let the entrants take turns, so that what else the machine does meets all of them alike."""
    tallies = [Tally(entrant) for entrant in contest.entrants]
    for _ in range(contest.repeat):
        for tally in tallies:
            tally.attempt(new_folder())
    return outcome(contest, tuple(tally.figures() for tally in tallies))


class Shared(Generic[R]):
    """Repetitions that several contests look at: each is done once, by the contest that asks first."""

    def __init__(self, work: Callable[[Path], R]) -> None:
        self._work = work
        self._found: list[R | Exception] = []

    def figure(self, pick: Callable[[R], float]) -> Attempt:
        """An attempt that picks its figure of each repetition in turn."""
        turn = iter(range(1_000))
        return lambda folder: pick(self._repetition(next(turn), folder))

    def _repetition(self, number: int, folder: Path) -> R:
        if len(self._found) <= number:
            try:
                self._found.append(self._work(folder))
            except Exception as error:  # each contest is told why
                self._found.append(error)
        found = self._found[number]
        if isinstance(found, Exception):
            raise found
        return found


# --- the verdict ----------------------------------------------------------------------------------


def outcome(contest: Contest, figures: tuple[Figures, ...]) -> Outcome:
    """What the figures say about the goal."""
    ours = next((each for each in figures if each.is_ours and each.values), None)
    peer = _peer(contest, figures)
    ratio = ours.median / peer.median if ours and peer and peer.median else None
    behind = _behind(contest, ours, figures)
    goal = contest.goal
    return Outcome(
        target=contest.target,
        name=contest.name,
        unit=contest.unit,
        goal=goal.text,
        more_is_better=contest.more_is_better,
        figures=figures,
        wanted=goal.bound if goal.ratio is None else goal.ratio,
        peer=peer.name if peer else "",
        ratio=ratio,
        behind=behind,
        is_reached=_is_reached(contest, ours, ratio, behind),
        note=contest.note,
    )


def _peer(contest: Contest, figures: Sequence[Figures]) -> Figures | None:
    """Whose figure the goal's ratio is to: the one it names, else the best."""
    goal = contest.goal
    if goal.ratio is None:
        return None
    rivals = [each for each in figures if each.values and not each.is_ours]
    if goal.peer:
        return next((each for each in rivals if each.name == goal.peer), None)
    best = max if contest.more_is_better else min
    return best((each for each in rivals if not each.is_aside), key=lambda each: each.median, default=None)


def _behind(contest: Contest, ours: Figures | None, figures: Sequence[Figures]) -> tuple[str, ...]:
    """The peers whose figure is better than ours, where the goal is to be ahead."""
    if ours is None or not contest.goal.is_ahead:
        return ()
    rivals = [each for each in figures if each.values and not each.is_ours and not each.is_aside]
    sign = 1 if contest.more_is_better else -1
    return tuple(each.name for each in rivals if sign * each.median > sign * ours.median)


def _is_reached(
    contest: Contest, ours: Figures | None, ratio: float | None, behind: Sequence[str]
) -> bool | None:
    goal = contest.goal
    if ours is None:
        return False  # we take part everywhere
    if behind:
        return False
    found, wanted = (ours.median, goal.bound) if goal.ratio is None else (ratio, goal.ratio)
    if found is None or wanted is None:
        return None
    return found >= wanted if contest.more_is_better else found <= wanted
