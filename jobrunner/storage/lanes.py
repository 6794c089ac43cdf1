"""Which waiting runs a claim takes: pure rules that every storage shares.

A pool's plain runs wait in the pool's lane; the runs of a task that is limited, paused or unknown wait in
a lane of their own. So a claim reads only the heads of lanes that are open, however much waits elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ..durations import Micros
from ..model import Claim, Reason, paused_lane, pool_lane, task_lane
from . import Rate, Rules, TaskRule

MOST_STRANGERS = 5_000  # runs that one claim sends from a lane to another
MOST_PASSED = 100_000  # places of a lane that one claim looks at, to find what stands behind strangers
MOST_REFUSED = 100  # runs that one claim refuses for a busy lock
MOST_STARTS = 2**31  # of a task without a rate

POOL, TASK, PAUSED = pool_lane(""), task_lane(""), paused_lane("")


class OpenLane(NamedTuple):
    """A lane to read from."""

    name: str
    pool: str  # whose slots its runs take; "" for a lane that only has to be emptied
    limit: int  # most runs of use
    is_full: bool = False  # the limit is a lock's or a rate's: behind it nothing can be claimed for now


@dataclass(frozen=True, slots=True)
class Others:
    """Whose runs wait in a lane where they do not belong: left out when the lane is read on."""

    tasks: frozenset[str] = frozenset()
    pipelines: frozenset[str] = frozenset()  # paused: their steps, of whatever task

    def and_of(self, claim: Claim, home: str) -> Others:
        """These, and those whose run this stranger is."""
        if home.startswith(PAUSED):
            return replace(self, pipelines=self.pipelines | {home[len(PAUSED) :]})
        return replace(self, tasks=self.tasks | {claim.task})


NOBODY = Others()


class Effort(NamedTuple):
    """How far a claim goes in one lane."""

    strangers: int  # most runs that it sends from there to another
    looks: int  # each leaves out the strangers that were met before


THOROUGH = Effort(MOST_STRANGERS, 8)
GLANCE = Effort(1, 1)  # whether there is anything to write at all


class Chosen(NamedTuple):
    """A run to be claimed, and the lock that it takes."""

    claim: Claim
    lock: str | None


@dataclass(slots=True)
class Choice:
    """What a claim does."""

    claims: list[Chosen] = field(default_factory=list)
    strangers: list[tuple[int, str]] = field(default_factory=list)  # (seq, lane): to be moved there
    revoked: list[str] = field(default_factory=list)  # ids of runs, or of their pipelines, to be cancelled
    marks: list[str] = field(default_factory=list)  # targets of revocations that are used up by that
    starts: dict[str, int] = field(default_factory=dict)  # task with a rate -> starts
    more: bool = False  # the same claim, asked again at once, would find something to do
    reopens: Micros | None = None  # when a rate's next window begins, for runs that wait for it
    limited: tuple[str, ...] = ()  # the tasks of those runs

    def __bool__(self) -> bool:
        return bool(self.claims or self.strangers or self.revoked)

    def take_in(self, other: Choice) -> None:
        """Add what was chosen of another pool."""
        self.claims += other.claims
        self.revoked += other.revoked
        self.marks += other.marks
        self.starts.update(other.starts)
        self.more |= other.more


class Pools:
    """The pools that the tasks of the rules in force use; counted once for each plan."""

    def __init__(self) -> None:
        self._rules: Rules | None = None
        self._used: frozenset[str] = frozenset()

    def used(self, rules: Rules) -> frozenset[str]:
        if rules is not self._rules:
            self._rules, self._used = rules, frozenset(rule.pool for rule in rules.tasks.values())
        return self._used


class Held(NamedTuple):
    """What the storage knows at the moment of a claim."""

    paused: Collection[str] = ()  # targets
    revoked: Mapping[str, bool] = {}  # target -> whether its first run uses the mark up
    locks: Mapping[str, int] = {}  # lock -> holders
    starts: Mapping[str, int] = {}  # task with a rate -> starts in the window of this moment


class Floor:
    """The rules, and what is held, at the moment of a claim."""

    def __init__(self, rules: Rules, used_pools: Collection[str], held: Held, now: Micros) -> None:
        self._rules = rules.tasks
        self._used_pools = used_pools
        self._paused = held.paused
        self._marks = dict(held.revoked)
        self._locks = dict(held.locks)
        self._starts = dict(held.starts)
        self._now = now
        self._revoked: set[str] = set()  # what this claim cancels
        self.reopens: Micros | None = None  # when a rate's next window begins, for runs that wait for it
        self.limited: set[str] = set()  # the tasks of those runs

    # --- lanes --------------------------------------------------------------------------------------

    def open_lanes(self, lanes: Iterable[str], want: Mapping[str, int]) -> list[OpenLane]:
        """The lanes that this claim reads."""
        if "all" in self._paused:
            return []
        opened = (self._open(lane, want) for lane in lanes)
        return [lane for lane in opened if lane is not None]

    def _open(self, lane: str, want: Mapping[str, int]) -> OpenLane | None:
        if lane.startswith(POOL):
            return self._open_pool(lane, lane[len(POOL) :], want)
        if lane.startswith(PAUSED):
            return None if task_lane(lane[len(PAUSED) :]) in self._paused else OpenLane(lane, "", 0)
        rule = self._rules.get(lane[len(TASK) :])
        if rule is None or lane in self._paused or pool_lane(rule.pool) in self._paused:
            return None
        room = want.get(rule.pool, 0)
        limit = self._limit(lane[len(TASK) :], rule, room)
        return OpenLane(lane, rule.pool, limit, limit < room) if limit > 0 else None

    def _open_pool(self, lane: str, pool: str, want: Mapping[str, int]) -> OpenLane | None:
        if lane in self._paused:
            return None
        if want.get(pool, 0) > 0:
            return OpenLane(lane, pool, want[pool])
        # A pool that no task uses any more: its runs find their way by their tasks' lanes.
        return None if pool in self._used_pools else OpenLane(lane, "", 0)

    def _limit(self, task: str, rule: TaskRule, room: int) -> int:
        if room <= 0:
            return room
        left = self._left(task, rule)
        if left <= 0:
            self._note_window(task, rule.rate)
            return 0
        if rule.lock is not None:
            room = min(room, self.free(rule)) if rule.on_busy == "wait" else room + MOST_REFUSED
        return min(room, left)

    def lane_of(self, lane: str, claim: Claim) -> str:
        """Where this run belongs: here, or (a stranger) in another lane."""
        if claim.pipeline_name is not None and task_lane(claim.pipeline_name) in self._paused:
            return paused_lane(claim.pipeline_name)
        own = task_lane(claim.task)
        rule = self._rules.get(claim.task)
        return lane if rule is not None and rule.lane == lane and own not in self._paused else own

    # --- limits -------------------------------------------------------------------------------------

    def free(self, rule: TaskRule) -> int:
        """How many more runs may hold the rule's lock."""
        return rule.lock_slots - self._locks.get(rule.lock or "", 0)

    def _left(self, task: str, rule: TaskRule) -> int:
        """How many more runs may start in this window."""
        if rule.rate is None:
            return MOST_STARTS
        return rule.rate.limit - self._starts.get(task, 0)

    def _note_window(self, task: str, rate: Rate | None) -> None:
        if rate is not None:
            self.limited.add(task)
            begins = window_of(rate, self._now) + rate.window
            self.reopens = begins if self.reopens is None else min(self.reopens, begins)

    def look_at_windows(self, lanes: Iterable[str]) -> None:
        """Note the next window of tasks whose runs were left behind because their rate is used up."""
        for lane in lanes:
            task = lane[len(TASK) :]
            rule = self._rules[task]
            if self._left(task, rule) <= 0:
                self._note_window(task, rule.rate)

    def _mark_of(self, claim: Claim) -> tuple[str, str] | None:
        """The revocation that this run meets, and what it cancels: the run, or its pipeline."""
        for target, run_id in _targets(claim):
            if target in self._marks:
                return target, run_id
        return None

    # --- the choice ---------------------------------------------------------------------------------

    def choose(self, heads: list[Claim], room: int) -> Choice:
        """The best of one pool's heads: by priority, then due time, then order of enqueue (semantics 18)."""
        heads.sort(key=_rank)
        choice = Choice()
        refused = 0
        for claim in heads:
            if self._revokes(claim, choice):
                continue
            rule = self._rules[claim.task]
            if self._left(claim.task, rule) <= 0:
                self._note_window(claim.task, rule.rate)
            elif rule.lock is not None and self.free(rule) <= 0:
                refused += self._refuse(claim, rule, choice) if refused < MOST_REFUSED else 0
            elif room <= 0:
                choice.more = True
            else:
                room -= 1
                self._take(claim, rule, choice)
        return choice

    def _revokes(self, claim: Claim, choice: Choice) -> bool:
        if claim.pipeline in self._revoked:
            return True
        found = self._mark_of(claim) if self._marks else None
        if found is None:
            return False
        target, run_id = found
        self._revoked.add(run_id)
        choice.revoked.append(run_id)
        if self._marks[target]:
            del self._marks[target]
            choice.marks.append(target)
        choice.more = True
        return True

    def _refuse(self, claim: Claim, rule: TaskRule, choice: Choice) -> bool:
        if rule.on_busy != "wait":
            choice.claims.append(Chosen(claim._replace(refused=Reason.LOCK_BUSY.value), None))
        return rule.on_busy != "wait"

    def _take(self, claim: Claim, rule: TaskRule, choice: Choice) -> None:
        if rule.lock is not None:
            self._locks[rule.lock] = self._locks.get(rule.lock, 0) + 1
        if rule.rate is not None:
            self._starts[claim.task] = self._starts.get(claim.task, 0) + 1
            choice.starts[claim.task] = choice.starts.get(claim.task, 0) + 1
        choice.claims.append(Chosen(claim, rule.lock))


Waiting = Callable[[OpenLane, Others], Iterator[Claim]]  # reads a lane without others, as far as it is asked


def choose(
    floor: Floor,
    lanes: Iterable[str],
    want: Mapping[str, int],
    waiting: Waiting,
    effort: Effort = THOROUGH,
) -> Choice:
    """What a claim does; `waiting` reads a lane, best first."""
    choice = Choice()
    by_pool: dict[str, list[Claim]] = {}
    full = []
    for lane in floor.open_lanes(lanes, want):
        reading = _Reading(lane, floor, effort)
        has_more = reading.through(waiting)
        by_pool.setdefault(lane.pool, []).extend(reading.heads.values())
        choice.strangers += reading.strangers
        choice.more |= has_more and not lane.is_full
        full += [lane.name] if has_more and lane.is_full else []
    for pool, heads in by_pool.items():
        choice.take_in(floor.choose(heads, want.get(pool, 0)))
    floor.look_at_windows(full)
    choice.more |= bool(choice.strangers)  # they may be claimed from where they are sent
    choice.reopens, choice.limited = floor.reopens, tuple(sorted(floor.limited))
    return choice


class _Reading:
    """A lane, read for one claim: its first runs, and the strangers among them."""

    def __init__(self, lane: OpenLane, floor: Floor, effort: Effort) -> None:
        self.heads: dict[int, Claim] = {}
        self.strangers: list[tuple[int, str]] = []
        self._lane, self._floor, self._effort = lane, floor, effort
        self._others = NOBODY
        self._homes: dict[tuple[str, str | None], str] = {}

    def through(self, waiting: Waiting) -> bool:
        """Read; True when the lane was left before its end.

        However many strangers stand in front, who stands behind them is found in the same claim (unless its
        effort is one look): the lane is read once more, without them.
        """
        has_more = self._look(waiting(self._lane, NOBODY))
        for _ in range(self._effort.looks - 1):
            if not has_more or len(self.heads) >= self._lane.limit:
                break
            has_more = self._look(waiting(self._lane, self._others))
        return has_more or len(self.strangers) >= self._effort.strangers

    def _look(self, waiting: Iterator[Claim]) -> bool:
        """True when it ended before the lane did."""
        met = 0
        for claim in waiting:
            if claim.seq in self.heads:
                continue
            home = self._home_of(claim)
            if home != self._lane.name:
                self._send(claim, home)
                met += 1
                if met == self._effort.strangers:
                    return True
            elif len(self.heads) >= self._lane.limit:
                return True
            else:
                self.heads[claim.seq] = claim
        return False

    def _home_of(self, claim: Claim) -> str:
        key = claim.task, claim.pipeline_name
        if key not in self._homes:
            self._homes[key] = home = self._floor.lane_of(self._lane.name, claim)
            if home != self._lane.name:
                self._others = self._others.and_of(claim, home)
        return self._homes[key]

    def _send(self, claim: Claim, home: str) -> None:
        if len(self.strangers) < self._effort.strangers:
            self.strangers.append((claim.seq, home))


def rated(rules: Rules, lanes: Iterable[str]) -> dict[str, Rate]:
    """The rates of the tasks that wait in lanes of their own."""
    found = {}
    for lane in lanes:
        rule = rules.tasks.get(lane[len(TASK) :]) if lane.startswith(TASK) else None
        if rule is not None and rule.rate is not None:
            found[lane[len(TASK) :]] = rule.rate
    return found


def earliest(first: Micros | None, second: Micros | None) -> Micros | None:
    """The earlier of two moments, of which there may be none."""
    return min((at for at in (first, second) if at is not None), default=None)


def window_of(rate: Rate, now: Micros) -> Micros:
    """The beginning of the window of this moment."""
    return now - now % rate.window


def _targets(claim: Claim) -> list[tuple[str, str]]:
    own = [(f"run:{claim.id}", claim.id), (task_lane(claim.task), claim.id)]
    if claim.pipeline is None:
        return own
    whole = [f"run:{claim.pipeline}"]
    if claim.pipeline_name is not None:
        whole.append(task_lane(claim.pipeline_name))
    return [*((target, claim.pipeline) for target in whole), *own]


def _rank(claim: Claim) -> tuple[int, int, int]:
    return -claim.priority, claim.due_at, claim.seq
