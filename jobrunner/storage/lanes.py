"""Which waiting runs a claim takes: pure rules that every storage shares.

A pool's plain runs wait in the pool's lane; the runs of a task that is limited, paused or unknown wait in
a lane of their own. So a claim reads only the heads of lanes that are open, however much waits elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..model import Claim, Reason, pool_lane, task_lane
from . import Rules, TaskRule

MOST_STRANGERS = 500  # runs that one claim sends from a pool's lane to their tasks' lanes
MOST_REFUSED = 100  # runs that one claim refuses for a busy lock

POOL, TASK = pool_lane(""), task_lane("")


class OpenLane(NamedTuple):
    """A lane to read from."""

    name: str
    pool: str  # whose slots its runs take; "" for a lane that only has to be emptied
    limit: int  # most runs of use
    is_locked: bool = False  # the limit is a lock's: behind it nothing can be claimed before the lock is free


class Chosen(NamedTuple):
    """A run to be claimed, and the lock that it takes."""

    claim: Claim
    lock: str | None


@dataclass(slots=True)
class Choice:
    """What a claim does."""

    claims: list[Chosen] = field(default_factory=list)
    strangers: list[Claim] = field(default_factory=list)  # to be moved to their tasks' lanes
    more: bool = False  # the same claim, asked again at once, would find something to do

    def __bool__(self) -> bool:
        return bool(self.claims or self.strangers)


class Pools:
    """The pools that the tasks of the rules in force use; counted once for each plan."""

    def __init__(self) -> None:
        self._rules: Rules | None = None
        self._used: frozenset[str] = frozenset()

    def used(self, rules: Rules) -> frozenset[str]:
        if rules is not self._rules:
            self._rules, self._used = rules, frozenset(rule.pool for rule in rules.tasks.values())
        return self._used


class Floor:
    """The rules, the pauses and the free locks at the moment of a claim."""

    def __init__(
        self, rules: Rules, used_pools: Collection[str], paused: Collection[str], held: Mapping[str, int]
    ) -> None:
        self._rules = rules.tasks
        self._used_pools = used_pools
        self._paused = paused
        self._held = held
        self._taken: dict[str, int] = {}

    def open_lanes(self, lanes: Iterable[str], want: Mapping[str, int]) -> list[OpenLane]:
        """The lanes that this claim reads."""
        if "all" in self._paused:
            return []
        opened = (self._open(lane, want) for lane in lanes)
        return [lane for lane in opened if lane is not None]

    def _open(self, lane: str, want: Mapping[str, int]) -> OpenLane | None:
        if lane.startswith(POOL):
            return self._open_pool(lane, lane[len(POOL) :], want)
        rule = self._rules.get(lane[len(TASK) :])
        if rule is None or lane in self._paused or pool_lane(rule.pool) in self._paused:
            return None
        room = want.get(rule.pool, 0)
        limit = self._limit(rule, room)
        return OpenLane(lane, rule.pool, limit, limit < room) if limit > 0 else None

    def _open_pool(self, lane: str, pool: str, want: Mapping[str, int]) -> OpenLane | None:
        if lane in self._paused:
            return None
        if want.get(pool, 0) > 0:
            return OpenLane(lane, pool, want[pool])
        # A pool that no task uses any more: its runs find their way by their tasks' lanes.
        return None if pool in self._used_pools else OpenLane(lane, "", 0)

    def _limit(self, rule: TaskRule, room: int) -> int:
        if rule.lock is None or room <= 0:
            return room
        return min(room, self.free(rule)) if rule.on_busy == "wait" else room + MOST_REFUSED

    def belongs(self, lane: str, task: str) -> bool:
        """Whether a run of this task waits in the right lane; a stranger in a pool's lane does not."""
        if lane.startswith(TASK):
            return True
        rule = self._rules.get(task)
        return rule is not None and rule.lane == lane and task_lane(task) not in self._paused

    def free(self, rule: TaskRule) -> int:
        """How many more runs may hold the rule's lock."""
        lock = rule.lock or ""
        return rule.lock_slots - self._held.get(lock, 0) - self._taken.get(lock, 0)

    def choose(self, heads: list[Claim], room: int) -> Choice:
        """The best of one pool's heads: by priority, then due time, then order of enqueue (semantics 18)."""
        heads.sort(key=_rank)
        choice = Choice()
        refused = 0
        for claim in heads:
            rule = self._rules[claim.task]
            if rule.lock is not None and self.free(rule) <= 0:
                if rule.on_busy != "wait" and refused < MOST_REFUSED:
                    choice.claims.append(Chosen(claim._replace(refused=Reason.LOCK_BUSY.value), None))
                    refused += 1
                continue
            if room <= 0:
                choice.more = True
                continue
            room -= 1
            self._take(rule)
            choice.claims.append(Chosen(claim, rule.lock))
        return choice

    def _take(self, rule: TaskRule) -> None:
        if rule.lock is not None:
            self._taken[rule.lock] = self._taken.get(rule.lock, 0) + 1


def _rank(claim: Claim) -> tuple[int, int, int]:
    return -claim.priority, claim.due_at, claim.seq
