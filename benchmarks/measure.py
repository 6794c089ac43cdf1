"""What a benchmark is made of: contests between entrants, measured in turns, and their results as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Attempt = Callable[[Path], float]  # one repetition in a new, empty folder; the figure in the contest's unit


class Missing(Exception):
    """This entrant cannot take part here; the text says why, and stands in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """Somebody who takes part: `attempt` gives one figure."""

    name: str
    settings: str  # durability first: what a crash or a power cut may lose
    attempt: Attempt
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the target asks of our figure: a bound of its own, or a ratio to the figure of one peer."""

    text: str
    bound: float | None = None
    ratio: float | None = None
    peer: str = ""  # "" with a ratio: the best of the peers


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
    is_ours: bool
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
    ratio: float | None  # ours to the goal's peer; None without a ratio in the goal
    is_reached: bool | None  # None: it could not be told here
    note: str = ""


@dataclass(slots=True)
class Tally:
    """The repetitions so far of one entrant."""

    entrant: Entrant
    values: list[float] = field(default_factory=list)
    missing: str = ""

    def attempt(self, folder: Path) -> None:
        if self.missing:
            return
        try:
            self.values.append(self.entrant.attempt(folder))
        except Missing as reason:
            self.missing = str(reason)

    def figures(self) -> Figures:
        each = self.entrant
        values = () if self.missing else tuple(self.values)
        return Figures(
            name=each.name, settings=each.settings, is_ours=each.is_ours, values=values, missing=self.missing
        )


def hold(contest: Contest, new_folder: Callable[[], Path]) -> Outcome:
    """Let the entrants take turns, so that what else the machine does meets all of them alike."""
    tallies = [Tally(entrant) for entrant in contest.entrants]
    for _ in range(contest.repeat):
        for tally in tallies:
            tally.attempt(new_folder())
    return outcome(contest, tuple(tally.figures() for tally in tallies))


def outcome(contest: Contest, figures: tuple[Figures, ...]) -> Outcome:
    ours = next((each for each in figures if each.is_ours and each.values), None)
    ratio = _ratio(contest, ours, figures)
    return Outcome(
        target=contest.target,
        name=contest.name,
        unit=contest.unit,
        goal=contest.goal.text,
        more_is_better=contest.more_is_better,
        figures=figures,
        wanted=contest.goal.bound if contest.goal.ratio is None else contest.goal.ratio,
        ratio=ratio,
        is_reached=_is_reached(contest, ours, ratio),
        note=contest.note,
    )


def _ratio(contest: Contest, ours: Figures | None, figures: Sequence[Figures]) -> float | None:
    if ours is None or contest.goal.ratio is None:
        return None
    peers = [each.median for each in figures if each.values and not each.is_ours]
    named = [each.median for each in figures if each.values and each.name == contest.goal.peer]
    if not (named or (peers and not contest.goal.peer)):
        return None
    other = named[0] if named else (max(peers) if contest.more_is_better else min(peers))
    return ours.median / other if other else None


def _is_reached(contest: Contest, ours: Figures | None, ratio: float | None) -> bool | None:
    goal = contest.goal
    found = ratio if goal.ratio is not None else None if ours is None else ours.median
    wanted = goal.ratio if goal.ratio is not None else goal.bound
    if found is None or wanted is None:
        return None
    return found >= wanted if contest.more_is_better else found <= wanted


# --- on disk --------------------------------------------------------------------------------------


def save(path: Path, machine: Mapping[str, str], outcomes: Sequence[Outcome]) -> None:
    """Write the results of one run."""
    plain = {"machine": dict(machine), "outcomes": [asdict(each) for each in outcomes]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain, indent=1) + "\n")


def load(path: Path) -> tuple[dict[str, str], list[Outcome]]:
    """The results that `save` wrote."""
    plain = json.loads(path.read_text())
    return plain["machine"], [_outcome_of(each) for each in plain["outcomes"]]


def _outcome_of(plain: dict[str, object]) -> Outcome:
    rows = plain.pop("figures")
    assert isinstance(rows, list)
    figures = tuple(Figures(**{**each, "values": tuple(each["values"])}) for each in rows)
    return Outcome(**{**plain, "figures": figures})  # type: ignore[arg-type]
