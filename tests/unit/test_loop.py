"""The event loop: descriptors, timers, signals and calls from other threads."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND, Micros
from jobrunner.loop import EventLoop
from jobrunner.service import running


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop(SystemClock())
    loop.after(30 * SECOND, lambda: pytest.fail("the loop was never stopped"))
    yield loop
    loop.close()


class HeldClock(SystemClock):
    """Its monotonic time stands still until it is let go: timers are set at one and the same moment."""

    def __init__(self) -> None:
        self.held_at: Micros | None = super().monotonic()

    def monotonic(self) -> Micros:
        return super().monotonic() if self.held_at is None else self.held_at


def test_timers_are_called_in_the_order_of_their_time() -> None:
    clock, heard = HeldClock(), list[str]()
    loop = EventLoop(clock)
    loop.after(2_000, lambda: heard.append("second"))
    loop.after(1_000, lambda: heard.append("first"))
    loop.after(3_000, loop.stop)
    clock.held_at = None
    loop.run()
    loop.close()
    assert heard == ["first", "second"]


def test_a_cancelled_timer_is_not_called(loop: EventLoop) -> None:
    loop.after(1, lambda: pytest.fail("cancelled")).cancel()
    loop.after(2_000, loop.stop)
    loop.run()


def test_a_readable_descriptor_is_called_back_until_it_is_unwatched(loop: EventLoop) -> None:
    reader, writer = os.pipe()
    calls: list[int] = []

    def read() -> None:
        calls.append(reader)
        if len(calls) == 3:
            loop.unwatch(reader)
            loop.after(5_000, loop.stop)

    loop.watch(reader, read=read)
    os.write(writer, b"x")
    loop.run()
    os.close(reader)
    os.close(writer)
    assert len(calls) == 3


def test_a_descriptor_unwatched_in_the_same_turn_is_not_called(loop: EventLoop) -> None:
    pairs = [os.pipe(), os.pipe()]
    called: list[int] = []

    def first_one_wins(mine: int, other: int) -> None:
        called.append(mine)
        loop.unwatch(mine)
        loop.unwatch(other)
        loop.after(1_000, loop.stop)

    (a, a_in), (b, b_in) = pairs
    loop.watch(a, read=lambda: first_one_wins(a, b))
    loop.watch(b, read=lambda: first_one_wins(b, a))
    os.write(a_in, b"x")
    os.write(b_in, b"x")
    loop.run()
    for fd in (a, a_in, b, b_in):
        os.close(fd)
    assert len(called) == 1


def test_a_tick_is_waited_for_to_the_microsecond(monkeypatch: pytest.MonkeyPatch) -> None:
    # epoll rounds up to milliseconds: half a one of lateness for each tick. Of others it makes one wake-up.
    waited: list[float] = []
    monkeypatch.setattr(select, "select", lambda *given: waited.append(given[3]))
    loop = EventLoop(HeldClock())
    loop.after(1_234_567, lambda: None, is_exact=True)
    loop.turn()
    loop.after(10, lambda: None)
    loop.turn()
    loop.close()
    assert waited == [1.234567]


def test_a_loop_that_select_does_not_know_waits_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.loop._FD_SETSIZE", 0)  # as when a client has a thousand files open
    monkeypatch.setattr(select, "select", lambda *_: pytest.fail("it would be a ValueError"))
    loop = EventLoop(SystemClock())
    loop.after(100, loop.stop, is_exact=True)
    loop.run()
    loop.close()


def test_a_watch_calls_the_kernel_and_nothing_else(loop: EventLoop) -> None:
    # `selectors` has fifty calls of its own for it, which each command would pay.
    called: list[str] = []
    ours, theirs = os.pipe()
    os.write(theirs, b"x")
    sys.setprofile(
        lambda frame, event, _: called.append(frame.f_code.co_filename) if event == "call" else None
    )
    loop.watch(ours, read=lambda: None)
    loop.turn()
    loop.unwatch(ours)
    sys.setprofile(None)
    os.close(ours)
    os.close(theirs)
    assert {Path(each).name for each in called} <= {"loop.py", "clock.py", Path(__file__).name}


def test_a_descriptor_that_was_closed_can_still_be_unwatched(loop: EventLoop) -> None:
    ours, theirs = os.pipe()
    loop.watch(ours, read=lambda: None)
    os.close(ours)
    os.close(theirs)
    loop.unwatch(ours)


def test_a_signal_reaches_its_callback_on_the_loop(loop: EventLoop) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    loop.on_signal(signal.SIGUSR1, loop.stop)
    loop.soon(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    loop.run()
    assert signal.getsignal(signal.SIGUSR1) is not before


def test_another_thread_hands_a_call_over(loop: EventLoop) -> None:
    where: list[int] = []

    def call() -> None:
        where.append(threading.get_ident())
        loop.stop()

    thread = threading.Thread(target=lambda: loop.hand_over(call))
    loop.soon(thread.start)
    loop.run()
    thread.join()
    assert where == [threading.get_ident()]


def test_a_service_does_its_work_aside_and_answers_on_the_loop(loop: EventLoop) -> None:
    here = threading.get_ident()
    answers: list[tuple[int, int]] = []

    def answered(there: int) -> None:
        answers.append((there, threading.get_ident()))
        loop.stop()

    with running(loop, "test") as service:
        service.ask(threading.get_ident, answered, lambda error: pytest.fail(str(error)))
        loop.run()
    [(there, answered_at)] = answers
    assert there != here
    assert answered_at == here


def test_an_error_of_a_service_is_handed_to_whoever_asked(loop: EventLoop) -> None:
    errors: list[Exception] = []

    def failed(error: Exception) -> None:
        errors.append(error)
        loop.stop()

    with running(loop, "test") as service:
        service.ask(lambda: 1 // 0, lambda _answer: pytest.fail("no answer"), failed)
        loop.run()
    assert [type(error) for error in errors] == [ZeroDivisionError]
