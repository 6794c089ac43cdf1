"""A gap in which the task was paused for a part of the time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.breaks import Break, are_over, due_between_breaks
from jobrunner.durations import HOUR, MINUTE, SECOND, Micros
from jobrunner.model import Reason
from jobrunner.plan import CatchUp
from jobrunner.policy import Decision, Due, TickPolicy, due_ticks
from tests.builders import NOON
from tests.unit.test_policy import Every

DOWN, PAUSED = Reason.MISSED_DOWN, Reason.PAUSED
HOURLY = Every(HOUR)


USUAL = TickPolicy()


def decided(now: Micros, *breaks: Break, policy: TickPolicy = USUAL) -> list[Due]:
    return due_between_breaks(HOURLY, NOON, now, policy, DOWN, breaks)


def told(rows: list[Due]) -> list[tuple[Micros, Reason | None, int]]:
    """The hour of each row, its reason, and how many ticks a run stands for."""
    return [((row.tick - NOON) // HOUR, row.reason, row.missed) for row in rows]


def test_what_fell_into_a_pause_that_is_over_is_not_caught_up() -> None:
    # rule 10: resuming catches up nothing; rule 9: the rest of the gap is
    rows = decided(NOON + 5 * HOUR, Break(NOON + 2 * HOUR, NOON + 4 * HOUR))
    assert told(rows) == [(1, DOWN, 0), (2, PAUSED, 0), (3, PAUSED, 0), (4, DOWN, 0), (5, DOWN, 3)]


def test_when_all_of_it_was_paused_nothing_runs() -> None:
    rows = decided(NOON + 2 * HOUR + MINUTE, Break(NOON, NOON + 2 * HOUR + SECOND))
    assert told(rows) == [(1, PAUSED, 0), (2, PAUSED, 0)]


def test_what_was_missed_before_a_pause_that_lasts_is_not_said_to_have_been_paused() -> None:
    # and it is not caught up either: nothing of a paused task begins
    rows = decided(NOON + 3 * HOUR, Break(NOON + 2 * HOUR, None))
    assert told(rows) == [(1, DOWN, 0), (2, PAUSED, 0), (3, PAUSED, 0)]


def test_a_pause_after_the_gap_or_before_it_changes_nothing() -> None:
    plain = due_ticks(HOURLY, NOON, NOON + 3 * HOUR, TickPolicy(), DOWN)
    for other in (Break(NOON - HOUR, NOON), Break(NOON + 4 * HOUR, None)):
        assert decided(NOON + 3 * HOUR, other) == plain


def test_a_task_that_is_disabled_is_not_said_to_have_been_paused() -> None:
    policy = TickPolicy(refused=Reason.DISABLED)
    rows = decided(NOON + 2 * HOUR, Break(NOON, None), policy=policy)
    assert {row.reason for row in rows} == {Reason.DISABLED}


@given(
    period=st.integers(1, 5000).map(lambda n: n * SECOND),
    gap=st.integers(0, 400 * HOUR),
    catch_up=st.sampled_from(CatchUp),
    side_by_side=st.booleans(),
    breaks=st.lists(
        st.tuples(st.integers(-HOUR, 400 * HOUR), st.one_of(st.none(), st.integers(0, 100 * HOUR))),
        max_size=4,
    ),
)
def test_every_tick_has_one_row_and_those_in_a_pause_have_that_reason(
    period: Micros,
    gap: Micros,
    catch_up: CatchUp,
    side_by_side: bool,
    breaks: list[tuple[Micros, Micros | None]],
) -> None:
    # rules 6 and 10
    schedule, policy = Every(period), TickPolicy(catch_up=catch_up, side_by_side=side_by_side)
    held = [Break(NOON + at, None if size is None else NOON + at + size) for at, size in breaks]
    rows = due_between_breaks(schedule, NOON, NOON + gap, policy, DOWN, held)
    after = NOON
    for row in rows:
        assert (row.first or row.tick) == schedule.next_us(after), "the ticks of the rows follow one another"
        assert schedule.count_us(after, row.tick) == row.size
        is_held = any(each.holds(row.tick) for each in held)
        assert (row.reason is PAUSED) is is_held
        assert row.decision is Decision.SKIP or not is_held
        after = row.tick
    assert schedule.count_us(after, NOON + gap) == 0


@pytest.mark.parametrize("since", [NOON + HOUR, NOON + HOUR + 1])
def test_a_pause_begins_with_its_first_instant(since: Micros) -> None:
    row, *_ = decided(NOON + HOUR + MINUTE, Break(since, None))
    assert (row.reason is PAUSED) is (since == NOON + HOUR)


@given(
    gap=st.integers(0, 5 * HOUR),
    breaks=st.lists(st.tuples(st.integers(-5 * HOUR, HOUR), st.integers(0, 5 * HOUR)), max_size=3),
)
def test_breaks_that_are_over_decide_nothing(gap: Micros, breaks: list[tuple[Micros, Micros]]) -> None:
    past = [Break(NOON + at, NOON + at + size) for at, size in breaks]
    if are_over(past, NOON):
        assert decided(NOON + gap, *past) == decided(NOON + gap)


def test_a_break_is_over_when_it_has_ended() -> None:
    assert are_over([], NOON)
    assert are_over([Break(NOON - HOUR, NOON)], NOON)
    assert not are_over([Break(NOON - HOUR, NOON), Break(NOON - HOUR, None)], NOON)
    assert not are_over([Break(NOON - HOUR, NOON + 1)], NOON)
