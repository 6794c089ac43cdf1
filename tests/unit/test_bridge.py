"""The bridge when the storage says no: all who add at one moment are answered by one try, and one more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from jobrunner.bridge import Bridge
from jobrunner.errors import PayloadError, StorageUnavailable
from jobrunner.storage.messages import call_text
from jobrunner.testing.desk import a_run
from tests.stage import Stage

LOCKED = StorageUnavailable("somebody holds a lock")


@dataclass
class Asker:
    """A worker that waits for its answer."""

    texts: list[str] = field(default_factory=list)
    is_wanted: bool = True

    def send(self, text: str) -> None:
        self.texts.append(text)


class Asking(Stage):
    """A bridge on a storage that fails when told."""

    def __init__(self) -> None:
        super().__init__()
        self.bridge = Bridge(
            loop=self.loop,
            service=self.service,
            storage=self.storage,
            slots_of=lambda _lock: 1,
            on_change=lambda: None,
        )
        self.askers = [Asker() for _ in range(8)]

    def all_add(self) -> list[dict[str, object]]:
        """Each asks at the same moment; the answers."""
        self.service.hold()
        for asker in self.askers:
            self.bridge.ask(None, call_text("add", [a_run()]), asker)
        self.service.let_go()
        self.turns()
        return [json.loads(asker.texts[0]) for asker in self.askers]


@pytest.fixture
def scene() -> Iterator[Asking]:
    scene = Asking()
    yield scene
    scene.close()


def test_adds_of_one_moment_are_one_write(scene: Asking) -> None:
    assert scene.all_add() == [{"answer": [True]}] * 8
    assert scene.faulty.calls.count("add_if") == 1


def test_a_storage_that_cannot_is_asked_twice_not_for_each(scene: Asking) -> None:
    """Each try may wait for a lock for seconds, on the thread that everything else needs."""
    scene.faulty.fails("add_if", LOCKED, times=100)
    assert {answer["message"] for answer in scene.all_add()} == {str(LOCKED)}
    assert scene.faulty.calls.count("add_if") == 2


def test_an_answer_that_was_lost_is_asked_for_again(scene: Asking) -> None:
    scene.faulty.fails("add_if", LOCKED)
    assert scene.all_add() == [{"answer": [True]}] * 8


def test_what_may_have_been_added_before_a_definition_changed_is_not_made_anew(scene: Asking) -> None:
    """The answer of the first try was lost: to be told that nothing was added would add all of it twice."""
    scene.faulty.fails("add_if", LOCKED)
    scene.bridge.ask(None, call_text("add_if", [a_run()], {"resize": "another by now"}), scene.askers[0])
    scene.turns()
    assert json.loads(scene.askers[0].texts[0])["error"] == "StorageUnavailable"


def test_one_bad_row_is_refused_alone(scene: Asking) -> None:
    scene.faulty.fails("add_if", PayloadError("no such value"), times=2)  # of all, and of the first alone
    answers = scene.all_add()
    assert answers[0]["error"] == "PayloadError"
    assert answers[1:] == [{"answer": [True]}] * 7


def test_who_goes_by_what_is_published_no_longer_is_told_alone(scene: Asking) -> None:
    mark = scene.storage.published("resize").mark
    marks = [{"resize": mark}, {"resize": "another"}, {}, {"resize": mark}]
    scene.service.hold()
    for asker, each in zip(scene.askers, marks, strict=False):
        scene.bridge.ask(None, call_text("add_if", [a_run()], each), asker)
    scene.service.let_go()
    scene.turns()
    answers = [json.loads(asker.texts[0])["answer"] for asker in scene.askers[:4]]
    assert answers == [[True], None, [True], [True]]


def test_adds_by_the_same_definition_are_one_write(scene: Asking) -> None:
    mark = scene.storage.published("resize").mark
    scene.service.hold()
    for asker in scene.askers:
        scene.bridge.ask(None, call_text("add_if", [a_run()], {"resize": mark}), asker)
    scene.service.let_go()
    scene.turns()
    assert [json.loads(asker.texts[0]) for asker in scene.askers] == [{"answer": [True]}] * 8
    assert scene.faulty.calls.count("add_if") == 1
