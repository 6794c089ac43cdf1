"""What due ticks become: in time, late, missed, folded, refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobrunner.durations import DAY, HOUR, MINUTE, SECOND, Micros
from jobrunner.model import Reason
from jobrunner.plan import CatchUp
from jobrunner.policy import LATE, Decision, Due, TickPolicy, due_ticks, is_in_time
from tests.builders import NOON


@dataclass(frozen=True)
class Every:
    """Ticks at the multiples of a period."""

    period: Micros

    def next_us(self, after: Micros) -> Micros | None:
        return (after // self.period + 1) * self.period

    def previous_us(self, before: Micros) -> Micros | None:
        return (before - 1) // self.period * self.period

    def count_us(self, after: Micros, until: Micros) -> int:
        return until // self.period - after // self.period


USUAL = TickPolicy()


def decided(period: Micros, watermark: Micros, now: Micros, policy: TickPolicy = USUAL) -> list[Due]:
    return due_ticks(Every(period), watermark, now, policy, Reason.MISSED_DOWN)


def test_a_tick_in_time_runs() -> None:
    assert decided(MINUTE, NOON - MINUTE, NOON) == [Due(NOON, Decision.RUN)]


@pytest.mark.parametrize("catch_up", CatchUp)
def test_up_to_a_minute_late_every_tick_runs(catch_up: CatchUp) -> None:
    # rule 5: up to 60 s late is just late, whatever the window says
    alone = TickPolicy(catch_up=catch_up, window=SECOND)
    assert decided(MINUTE, NOON - MINUTE, NOON + 59 * SECOND, alone) == [Due(NOON, Decision.RUN)]
    policy = TickPolicy(catch_up=catch_up, window=SECOND, side_by_side=True)
    rows = decided(10 * SECOND, NOON - 60 * SECOND, NOON, policy)
    assert rows == [Due(NOON - n * SECOND, Decision.RUN) for n in (50, 40, 30, 20, 10, 0)]


def test_of_several_late_ticks_that_may_not_overlap_the_latest_runs_for_all() -> None:
    # rules 5, 8 and 9: those before it did not run because nobody was there, not because of one another
    rows = decided(20 * SECOND, NOON - 60 * SECOND, NOON, TickPolicy(window=SECOND))
    assert rows == [
        Due(NOON - 40 * SECOND, Decision.SKIP, Reason.MISSED_DOWN),
        Due(NOON - 20 * SECOND, Decision.SKIP, Reason.MISSED_DOWN),
        Due(NOON, Decision.CATCH_UP, Reason.MISSED_DOWN, missed=3),
    ]


def test_of_several_late_ticks_that_nothing_catches_up_the_latest_runs_in_time() -> None:
    # rules 5 and 9: it is late, and no catch-up
    policy = TickPolicy(catch_up=CatchUp.NONE)
    rows = decided(20 * SECOND, NOON - 60 * SECOND, NOON, policy)
    assert rows[:2] == [Due(NOON - n * SECOND, Decision.SKIP, Reason.MISSED_DOWN) for n in (40, 20)]
    assert rows[2:] == [Due(NOON, Decision.RUN)]


def test_several_late_ticks_that_are_all_caught_up_run_in_line() -> None:
    # rules 5 and 9
    rows = decided(20 * SECOND, NOON - 60 * SECOND, NOON, TickPolicy(catch_up=CatchUp.ALL, window=SECOND))
    assert rows == [
        Due(NOON - n * SECOND, Decision.CATCH_UP, Reason.MISSED_DOWN, missed=1) for n in (40, 20, 0)
    ]


@pytest.mark.parametrize("refused", [None, Reason.PAUSED])
def test_more_than_ten_late_ticks_that_do_not_run_are_one_row(refused: Reason | None) -> None:
    # rule 10: folded however short the gap
    fold, *rest = decided(SECOND, NOON - 45 * SECOND, NOON, TickPolicy(refused=refused))
    size = 44 if refused is None else 45
    assert (fold.first, fold.size, fold.decision) == (NOON - 44 * SECOND, size, Decision.SKIP)
    assert fold.reason is (refused or Reason.MISSED_DOWN)
    assert [row.missed for row in rest] == ([45] if refused is None else [])


def test_nothing_is_due_twice() -> None:
    # rule 6: the next tick is computed from the last accounted-for one
    assert decided(MINUTE, NOON, NOON + 59 * SECOND) == []


def test_the_latest_missed_tick_stands_for_all() -> None:
    # rule 9: catch_up one; rule 10: up to ten misses have a row each
    rows = decided(HOUR, NOON - 3 * HOUR - 1, NOON + 30 * MINUTE)
    assert rows == [
        Due(NOON - 3 * HOUR, Decision.SKIP, Reason.MISSED_DOWN),
        Due(NOON - 2 * HOUR, Decision.SKIP, Reason.MISSED_DOWN),
        Due(NOON - HOUR, Decision.SKIP, Reason.MISSED_DOWN),
        Due(NOON, Decision.CATCH_UP, Reason.MISSED_DOWN, missed=4),
    ]


def test_more_than_ten_misses_are_folded_into_one_row() -> None:
    # rule 10
    fold, run = decided(MINUTE, NOON, NOON + 30 * MINUTE)
    assert (fold.first, fold.size, fold.decision) == (NOON + MINUTE, 29, Decision.SKIP)
    assert fold.detail == {"from": NOON + MINUTE, "to": fold.tick, "count": 29}
    assert (run.tick, run.decision, run.missed) == (NOON + 30 * MINUTE, Decision.CATCH_UP, 30)


def test_behind_a_miss_the_latest_tick_runs_for_all_were_it_only_just_late() -> None:
    # rule 9: one run, the latest; an older one would stand in its way
    rows = decided(3 * SECOND, NOON, NOON + 2 * MINUTE)
    assert [row.decision for row in rows] == [Decision.SKIP, Decision.CATCH_UP]
    assert (rows[-1].tick, rows[-1].missed) == (NOON + 2 * MINUTE, 40)


def test_behind_misses_that_nothing_catches_up_the_late_ticks_run() -> None:
    # rules 5 and 9: none records the misses; up to 60 s late is just late
    policy = TickPolicy(catch_up=CatchUp.NONE, side_by_side=True)
    rows = decided(MINUTE, NOON, NOON + 3 * MINUTE, policy)
    assert [row.decision for row in rows] == [Decision.SKIP, Decision.RUN, Decision.RUN]
    rows = decided(MINUTE, NOON, NOON + 3 * MINUTE, TickPolicy(catch_up=CatchUp.NONE))
    assert [row.decision for row in rows] == [Decision.SKIP, Decision.SKIP, Decision.RUN]


def test_without_catch_up_misses_are_only_recorded() -> None:
    # rule 9: none
    rows = decided(HOUR, NOON, NOON + 2 * HOUR + 2 * MINUTE, TickPolicy(catch_up=CatchUp.NONE))
    assert [row.decision for row in rows] == [Decision.SKIP, Decision.SKIP]


def test_what_is_older_than_the_window_is_not_caught_up() -> None:
    # rule 9: nothing older than catch_up_window
    rows = decided(DAY, NOON - 2 * DAY, NOON, TickPolicy(window=HOUR))
    assert {row.decision for row in rows} == {Decision.SKIP}


ALL = TickPolicy(catch_up=CatchUp.ALL, limit=3)


def test_all_missed_ticks_run_oldest_first() -> None:
    # rule 9: each stands for itself, those included that are only just late
    rows = decided(HOUR, NOON - 2 * HOUR - 1, NOON, ALL)
    assert rows == [
        Due(NOON - 2 * HOUR, Decision.CATCH_UP, Reason.MISSED_DOWN, missed=1),
        Due(NOON - HOUR, Decision.CATCH_UP, Reason.MISSED_DOWN, missed=1),
        Due(NOON, Decision.CATCH_UP, Reason.MISSED_DOWN, missed=1),
    ]


def test_of_all_missed_ticks_the_latest_run_up_to_the_limit() -> None:
    # rule 9: at most catch_up_limit; rule 10: the others are folded
    fold, *rows = decided(HOUR, NOON - 20 * HOUR, NOON, ALL)
    assert (fold.decision, fold.size, fold.tick) == (Decision.SKIP, 17, NOON - 3 * HOUR)
    assert [row.tick for row in rows] == [NOON - 2 * HOUR, NOON - HOUR, NOON]


def test_of_all_missed_ticks_none_runs_that_is_older_than_the_window() -> None:
    # rule 9
    policy = TickPolicy(catch_up=CatchUp.ALL, window=90 * MINUTE)
    rows = decided(HOUR, NOON - 3 * HOUR - 1, NOON, policy)
    assert [(row.tick, row.decision) for row in rows] == [
        (NOON - 3 * HOUR, Decision.SKIP),
        (NOON - 2 * HOUR, Decision.SKIP),
        (NOON - HOUR, Decision.CATCH_UP),
        (NOON, Decision.CATCH_UP),
    ]
    old = TickPolicy(catch_up=CatchUp.ALL, window=MINUTE)
    rows = decided(HOUR, NOON - 2 * HOUR - 1, NOON + 30 * MINUTE, old)
    assert [row.decision for row in rows] == [Decision.SKIP] * 3


def test_ticks_of_a_paused_task_are_final_as_skipped() -> None:
    # rule 10
    policy = TickPolicy(refused=Reason.PAUSED)
    rows = decided(HOUR, NOON - 2 * HOUR, NOON + SECOND, policy)
    assert [(row.decision, row.reason) for row in rows] == [(Decision.SKIP, Reason.PAUSED)] * 2


@given(
    period=st.integers(1, 400_000).map(lambda n: n * SECOND),
    gap=st.integers(0, 40 * DAY),
    catch_up=st.sampled_from(CatchUp),
    side_by_side=st.booleans(),
    window=st.integers(1, 2 * DAY),
    refused=st.sampled_from([None, Reason.PAUSED]),
)
@example(period=SECOND, gap=MINUTE, catch_up=CatchUp.ONE, side_by_side=False, window=DAY, refused=None)
def test_every_tick_is_accounted_for_exactly_once(
    period: Micros, gap: Micros, catch_up: CatchUp, side_by_side: bool, window: Micros, refused: Reason | None
) -> None:
    # rule 6 and the glossary: each tick has one row, its own or its gap's
    policy = TickPolicy(catch_up=catch_up, side_by_side=side_by_side, window=window, refused=refused)
    rows = decided(period, NOON, NOON + gap, policy)
    assert sum(row.size for row in rows) == Every(period).count_us(NOON, NOON + gap)
    ticks = [row.tick for row in rows]
    assert ticks == sorted(set(ticks))
    assert all(NOON < tick <= NOON + gap for tick in ticks)
    most = {CatchUp.NONE: 0, CatchUp.ONE: 1, CatchUp.ALL: 100}[catch_up]
    assert sum(row.decision is Decision.CATCH_UP for row in rows) <= most
    assert sum(row.decision is Decision.SKIP for row in rows) <= 10  # rule 10: more of them are one row
    if not side_by_side:  # rules 5 and 8: no two that stand in one another's way
        assert sum(row.decision is Decision.RUN for row in rows) <= 1


def test_a_month_of_missed_seconds_costs_one_decision() -> None:
    # rule 6: counted, not looped over
    calls = 0

    class Counting(Every):
        def next_us(self, after: Micros) -> Micros | None:
            nonlocal calls
            calls += 1
            return super().next_us(after)

    rows = due_ticks(Counting(SECOND), NOON, NOON + 30 * DAY, TickPolicy(), Reason.MISSED_DOWN)
    assert rows[1].missed == 30 * DAY // SECOND
    assert calls <= 64


@dataclass(frozen=True)
class AtTheEnd(Every):
    """Ticks that can be counted, but not all be named: the calendar ends."""

    knows_last: bool = True

    def next_us(self, after: Micros) -> Micros | None:
        return None

    def previous_us(self, before: Micros) -> Micros | None:
        return super().previous_us(before) if self.knows_last else None


def test_a_tick_that_cannot_be_named_has_no_row() -> None:
    for knows_last, catch_up in ((False, CatchUp.NONE), (True, CatchUp.NONE), (False, CatchUp.ONE)):
        policy, schedule = TickPolicy(catch_up=catch_up), AtTheEnd(HOUR, knows_last)
        assert due_ticks(schedule, NOON - 2 * HOUR, NOON + HOUR, policy, Reason.MISSED_DOWN) == []


@given(
    period=st.integers(1, 400).map(lambda n: n * SECOND),
    gap=st.integers(0, 10 * MINUTE),
    catch_up=st.sampled_from(CatchUp),
    side_by_side=st.booleans(),
)
@example(period=MINUTE, gap=2 * MINUTE, catch_up=CatchUp.ONE, side_by_side=False)
@example(period=HOUR, gap=MINUTE, catch_up=CatchUp.ALL, side_by_side=False)
def test_the_only_tick_in_time_runs_whatever_the_policy(
    period: Micros, gap: Micros, catch_up: CatchUp, side_by_side: bool
) -> None:
    # rule 5: what the scheduler decides without asking the policy is what the policy decides
    policy, tick = TickPolicy(catch_up=catch_up, side_by_side=side_by_side), Every(period).next_us(NOON) or 0
    if is_in_time(tick, tick + period, NOON + gap):
        assert decided(period, NOON, NOON + gap, policy) == [Due(tick, Decision.RUN)]


def test_a_tick_is_not_in_time_before_its_moment_nor_long_after_it_nor_with_another_one() -> None:
    assert is_in_time(NOON, None, NOON)
    assert is_in_time(NOON, NOON + HOUR, NOON + LATE)
    assert not is_in_time(NOON, None, NOON - 1)
    assert not is_in_time(NOON, NOON + HOUR, NOON + LATE + 1)
    assert not is_in_time(NOON, NOON + SECOND, NOON + SECOND)
