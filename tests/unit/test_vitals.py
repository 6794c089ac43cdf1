"""What a service may run out of, and what it does then (I8, I11)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobrunner.durations import SECOND
from jobrunner.events import Event, Shortage, ShortageOver
from jobrunner.loop import EventLoop
from jobrunner.vitals import BEAT, MOST_FLOOR, Reading, Vitals, floor_of, measure, shortages
from tests.builders import a_run, a_task
from tests.stage import HandClock, Stage

GIB = 1024**3
PLENTY = Reading(free=GIB, room=10 * GIB, descriptors=20, most_descriptors=1024, memory=0, most_memory=GIB)


def kinds(reading: Reading, before: tuple[str, ...] = ()) -> list[str]:
    return [each.kind for each in shortages(reading, before)]


def test_with_enough_of_everything_nothing_is_short() -> None:
    assert shortages(PLENTY) == []


@pytest.mark.parametrize(
    ("reading", "kind", "holds"),
    [
        (PLENTY._replace(free=MOST_FLOOR - 1), "disk", True),
        (PLENTY._replace(free=0), "disk", True),
        (PLENTY._replace(free=-4096), "disk", True),  # more is used than is for everybody
        (PLENTY._replace(descriptors=70, most_descriptors=90), "descriptors", True),  # of few, a quarter
        (PLENTY._replace(descriptors=961), "descriptors", True),
        (PLENTY._replace(memory=GIB), "memory", False),
    ],
)
def test_what_is_nearly_used_up_is_short(reading: Reading, kind: str, *, holds: bool) -> None:
    (found,) = shortages(reading)
    assert (found.kind, found.holds) == (kind, holds)


def test_a_small_disk_has_a_small_floor() -> None:
    assert floor_of(20 * 1024**2) == 1024**2
    assert floor_of(10 * GIB) == MOST_FLOOR


def test_a_shortage_lasts_until_there_is_clearly_enough() -> None:
    edge = PLENTY._replace(free=MOST_FLOOR + 1)
    assert (kinds(edge), kinds(edge, ("disk",))) == ([], ["disk"])
    assert kinds(PLENTY._replace(free=MOST_FLOOR * 5 // 4), ("disk",)) == []


def test_what_nothing_limits_is_never_short() -> None:
    assert shortages(Reading(descriptors=10**6, memory=10**12)) == []


def test_this_process_can_be_measured(tmp_path: Path) -> None:
    reading = measure(str(tmp_path))
    assert reading.room > 0
    assert reading.descriptors > 2


def test_a_folder_that_is_not_there_limits_nothing(tmp_path: Path) -> None:
    assert measure(str(tmp_path / "none")).free is None


@dataclass
class Watched:
    """Vitals on a loop with a hand-moved clock."""

    reading: Reading = PLENTY
    events: list[Event] = field(default_factory=list)
    troubles: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = HandClock()
        self.loop = EventLoop(self.clock)
        self.vitals = Vitals(
            loop=self.loop,
            emit=self.events.append,
            look=lambda: self.reading,
            on_change=self.troubles.append,
        )
        self.vitals.start()

    def beats(self, reading: Reading) -> None:
        self.reading = reading
        self.clock.passes(BEAT)
        self.loop.turn(0)


def test_a_shortage_is_said_once_and_its_end_too() -> None:
    watched = Watched()
    for _ in range(3):
        watched.beats(PLENTY._replace(free=0))
    watched.beats(PLENTY)
    watched.loop.close()
    assert [type(each) for each in watched.events] == [Shortage, ShortageOver]
    trouble, after = watched.troubles
    assert trouble is not None
    assert "free on its disk" in trouble
    assert after is None


def test_while_claims_are_held_back_ends_are_recorded_and_nothing_is_idle() -> None:
    stage = Stage(a_task(name="long"))
    try:
        first, second = a_run(task="long"), a_run(task="long")
        stage.add(first)
        stage.dispatcher.hold()
        stage.add(second)
        stage.passes(10 * SECOND)
        assert [call.run_id for call in stage.executor.started] == [first.id]
        assert not stage.dispatcher.is_idle, "--drain must not take this for an empty queue"
        stage.dispatcher.let_go()
        stage.turns()
        assert [call.run_id for call in stage.executor.started] == [first.id, second.id]
    finally:
        stage.close()


def test_few_descriptors_are_enough_again_when_nothing_runs() -> None:
    # invariant I11: a limit of 90 must not hold claims for ever
    idle = PLENTY._replace(descriptors=23, most_descriptors=90)
    assert not shortages(idle, before=["descriptors"])
