"""How much is told one by one: what comes after that in a storm is counted, and told as one."""

from __future__ import annotations

from collections import Counter, defaultdict

from ..durations import MINUTE, Micros
from . import Notice, Occasion

Kind = tuple[str, Occasion]  # task, occasion

ONE_BY_ONE = 10  # of a kind in a minute, and of a kind that cannot be delivered


def kind_of(notice: Notice) -> Kind:
    return notice.task, notice.occasion


class Measure:
    """The notices of each kind that were let through; instants are of a monotonic clock."""

    def __init__(self) -> None:
        self._let_through: defaultdict[Kind, list[Micros]] = defaultdict(list)
        self._open: Counter[Kind] = Counter()

    def lets_through(self, notice: Notice, now: Micros) -> bool:
        """Whether this one is told by itself; if so, it counts."""
        kind = kind_of(notice)
        recent = self._let_through[kind] = [at for at in self._let_through[kind] if at > now - MINUTE]
        if len(recent) >= ONE_BY_ONE or self._open[kind] >= ONE_BY_ONE:
            return False
        recent.append(now)
        self._open[kind] += 1
        return True

    def over(self, notice: Notice) -> None:
        """One that was let through is delivered, or given up."""
        self._open[kind_of(notice)] -= 1
