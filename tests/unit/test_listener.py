"""The listener: notices are heard in their order, some at a time, and what was not heard is heard again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from jobrunner import listener
from jobrunner.codec import decode_arguments
from jobrunner.execution import Backing, Call
from jobrunner.hooks import Notice, Signal
from jobrunner.listener import LONG, MOST_AT_ONCE, Listener
from jobrunner.loop import EventLoop
from jobrunner.model import Ended, Ending
from jobrunner.plan import Plan
from jobrunner.service import Service
from jobrunner.storage.memory import MemoryStorage
from tests.stage import HandClock

PLAN = Plan(
    file="jobs.yaml", hash="1", backend="memory://", timezone="UTC", receivers={"work": ("complete", "error")}
)


class Worker:
    """In the place of the pool: it takes one call, and says nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        self.calls: list[Call] = []

    def room(self) -> int:
        return 5

    def start(self, calls: list[Call]) -> None:
        self.calls += calls

    def close(self) -> None: ...


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(listener, "ProcessPool", Worker)
    loop = EventLoop(HandClock())
    made = Listener(
        loop=loop,
        service=Service(loop),
        storage=MemoryStorage(),
        emit=lambda event: None,
        plan=PLAN,
        owner="me",
        output_root="",
        backing=Backing("memory://", cast(Any, None)),
    )
    yield made
    loop.close()


def notices(count: int, error: str | None = None) -> list[Notice]:
    return [
        Notice(signal=Signal.COMPLETE, task="add", run_id=str(number), at=0, error=error)
        for number in range(count)
    ]


def heard(call: Call) -> list[str]:
    return [each["run_id"] for each in cast(Any, decode_arguments(call.payload)[0][1])]


def test_notices_are_heard_in_order_and_one_call_at_a_time(ear: Listener) -> None:
    ear._tell(notices(2 * MOST_AT_ONCE))
    worker = cast(Any, ear._pool)
    assert [len(heard(call)) for call in worker.calls] == [MOST_AT_ONCE]
    ear.ended(worker.calls[0], Ended(Ending.RECALLED))  # it had not begun
    ear.ended(worker.calls[1], Ended(Ending.CRASHED, error="killed"))  # at most once
    assert [heard(call) for call in worker.calls] == [
        *[[str(number) for number in range(MOST_AT_ONCE)]] * 2,
        [str(number) for number in range(MOST_AT_ONCE, 2 * MOST_AT_ONCE)],
    ]


def test_a_call_with_long_errors_carries_few_of_them(ear: Listener) -> None:
    ear._tell(notices(5, "\U0001f600" * 9 * LONG))
    assert [heard(call) for call in cast(Any, ear._pool).calls] == [["0"]]
    assert ear._told[0].error is not None
