"""Ticks of one write are cut into parts in which none meets what another has added."""

from __future__ import annotations

from jobrunner.durations import Micros
from jobrunner.model import State
from jobrunner.storage import Tick
from jobrunner.storage.stretches import stretches
from tests.builders import NOON, a_run


def a_tick(task: str, *, at: Micros = NOON, overlap: str = "skip", allows: bool = False) -> Tick:
    run = a_run(task, tick=at)
    refused = None if allows else run._replace(state=State.SKIPPED)
    return Tick(f"{task}|{at}", at - 1, at, None, run, refused, overlap=overlap)


def is_plain(tick: Tick) -> bool:
    return tick.overlap == "skip"


def parts(*ticks: Tick) -> list[list[str]]:
    cut = list(stretches(ticks, is_plain))
    assert [tick for part in cut for tick in part] == list(ticks)
    return [[tick.run.task for tick in part if tick.run] for part in cut]


def test_ticks_of_different_tasks_go_together() -> None:
    assert parts(a_tick("a"), a_tick("b"), a_tick("c")) == [["a", "b", "c"]]


def test_a_tick_that_one_of_its_own_task_may_refuse_comes_after_it() -> None:
    assert parts(a_tick("a"), a_tick("b"), a_tick("a"), a_tick("c")) == [["a", "b"], ["a", "c"]]


def test_ticks_that_may_run_beside_one_another_go_together() -> None:
    assert parts(a_tick("a", allows=True), a_tick("a", allows=True)) == [["a", "a"]]


def test_a_tick_that_is_not_plain_stands_alone() -> None:
    ticks = a_tick("a"), a_tick("b", overlap="queue"), a_tick("c"), a_tick("d")
    assert parts(*ticks) == [["a"], ["b"], ["c", "d"]]


def test_a_tick_that_adds_nothing_goes_with_any() -> None:
    none = a_tick("x")._replace(run=None)
    assert parts(a_tick("a"), none, none, a_tick("b")) == [["a", "b"]]
    assert parts() == []
