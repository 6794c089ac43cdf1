"""Hooks of a process: what is called, in which order, and what a failing one may not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jobrunner import hooks
from jobrunner.clock import SystemClock
from jobrunner.context import CancelRun, CurrentRun, TaskTimeout
from jobrunner.hooks import Hooks, Notice, Signal

RUN = CurrentRun(
    id="run-1",
    task="add",
    attempt=1,
    trigger="enqueue",
    missed=0,
    tick=None,
    due_at=0,
    cause=None,
    deadline=None,
    clock=SystemClock(),
    ending=lambda: None,
)


@pytest.fixture
def mine() -> Iterator[Hooks]:
    """Hooks that are this process' own for the length of a test."""
    made = Hooks()
    hooks.register(made)
    yield made
    hooks.forget(made)


def notice(signal: Signal) -> Notice:
    return Notice(signal=signal, task="add", run_id="run-1", at=0)


def raising(error: BaseException) -> Callable[..., object]:
    def hook(*_arguments: object) -> None:
        raise error

    return hook


def test_startup_hooks_are_called_once_however_late_they_come(mine: Hooks) -> None:
    said: list[str] = []
    mine.startup.append(lambda: said.append("first"))
    hooks.start()
    mine.startup.append(lambda: said.append("second"))
    hooks.start()
    hooks.start()
    assert said == ["first", "second"]


def test_shutdown_hooks_are_called_in_the_opposite_order(mine: Hooks) -> None:
    said: list[str] = []
    mine.shutdown += [lambda: said.append("first"), lambda: said.append("second")]
    hooks.stop()
    assert said == ["second", "first"]


def test_a_hook_that_fails_is_reported_and_the_others_are_called(
    mine: Hooks, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[object] = []
    mine.before += [raising(ValueError("no")), lambda run: said.append(run.id)]
    mine.after += [raising(ValueError("no")), lambda _run, result, error: said.append((result, error))]
    hooks.enter(RUN)
    hooks.leave(RUN, 3, None)
    assert said == ["run-1", (3, None)]
    assert capsys.readouterr().err.count("ValueError: no") == 2


@pytest.mark.parametrize("error", [CancelRun("no use"), TaskTimeout()])
def test_a_hook_may_cancel_the_run_and_may_not_hold_up_its_end(mine: Hooks, error: BaseException) -> None:
    mine.before.append(raising(error))
    with pytest.raises(type(error)):
        hooks.enter(RUN)


def test_a_receiver_hears_the_signals_it_waits_for(mine: Hooks) -> None:
    heard: list[Signal] = []
    everything: list[Signal] = []
    mine.listen(lambda told: heard.append(told.signal), [Signal.ERROR, Signal.COMPLETE])
    mine.listen(lambda told: everything.append(told.signal))
    for signal in Signal:
        hooks.send(notice(signal))
    assert heard == [Signal.COMPLETE, Signal.ERROR]
    assert everything == list(Signal)


def test_a_receiver_that_fails_does_not_keep_the_others_from_hearing(
    mine: Hooks, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[Signal] = []
    mine.listen(raising(ValueError("deaf")))
    mine.listen(lambda told: heard.append(told.signal))
    hooks.send(notice(Signal.ERROR))
    assert heard == [Signal.ERROR]
    assert "ValueError: deaf" in capsys.readouterr().err


def test_a_receiver_is_disconnected_for_one_signal_or_wholly(mine: Hooks) -> None:
    heard: list[Signal] = []

    def receiver(told: Notice) -> None:
        heard.append(told.signal)

    mine.listen(receiver, [Signal.ERROR, Signal.COMPLETE])
    assert hooks.signals() == {Signal.ERROR, Signal.COMPLETE}
    assert mine.disconnect(receiver, [Signal.ERROR])
    assert not mine.disconnect(receiver, [Signal.ERROR])
    assert hooks.signals() == {Signal.COMPLETE}
    assert mine.disconnect(receiver)
    assert not mine.disconnect(receiver)
    hooks.send(notice(Signal.COMPLETE))
    assert (heard, hooks.signals()) == ([], frozenset())
