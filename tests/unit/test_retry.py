"""Delays before retries, and which failures are retried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.durations import MINUTE, SECOND
from jobrunner.model import Ending
from jobrunner.plan import Retries
from jobrunner.retry import is_retriable, retry_delay
from tests.builders import an_end


def test_delays_double_up_to_ten_minutes_unless_said_otherwise() -> None:
    # rule 12: 10 s, backoff 2, at most 10 minutes
    delays = [retry_delay(Retries(jitter=0), failures, 0.5) for failures in range(1, 9)]
    assert [delay // SECOND for delay in delays] == [10, 20, 40, 80, 160, 320, 600, 600]


@given(failures=st.integers(1, 5_000), chance=st.floats(0, 1, exclude_max=True))
def test_a_delay_stays_within_the_jitter_of_its_cap(failures: int, chance: float) -> None:
    # rule 12: 10 % jitter
    assert 9 * SECOND <= retry_delay(Retries(), failures, chance) <= 11 * MINUTE


@pytest.mark.parametrize(
    ("rule", "retried"),
    [
        (Retries(), True),
        (Retries(on=(75,)), True),
        (Retries(on=(1,)), False),
        (Retries(not_on=(75,)), False),
        (Retries(on=(75,), not_on=(75,)), False),
    ],
)
def test_exit_codes_are_admitted_by_on_and_not_on(rule: Retries, retried: bool) -> None:
    assert is_retriable(rule, an_end(Ending.EXIT, exit_code=75)) is retried


def test_an_exception_is_admitted_by_its_name_or_that_of_a_base() -> None:
    ended = an_end(
        Ending.EXCEPTION, exception="ConnectionResetError", exceptions=("ConnectionResetError", "OSError")
    )
    assert is_retriable(Retries(on=("OSError",)), ended)
    assert not is_retriable(Retries(not_on=("OSError",)), ended)
    assert not is_retriable(Retries(on=("ValueError",)), ended)


def test_a_timeout_can_be_named() -> None:
    assert not is_retriable(Retries(not_on=("timeout",)), an_end(Ending.TIMEOUT))
