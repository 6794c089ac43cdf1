"""What an enqueue stands for when it was refused, or when its answer was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from jobrunner import JobRunner
from jobrunner.app.adding import InStorage, standing
from jobrunner.durations import SECOND
from jobrunner.errors import NotFound, StorageUnavailable, WrongArguments
from jobrunner.model import NewRun, State
from jobrunner.storage import RunFilter, Storage
from jobrunner.storage.memory import MemoryStorage
from jobrunner.testing.desk import NOON, Desk, a_catalogue, a_pipeline, a_run


def test_an_add_whose_answer_was_lost_is_the_callers_own_run() -> None:
    memory = MemoryStorage()
    place, run = InStorage(memory), a_run(unique="resize:1")
    memory.add([run])
    (found,) = standing(place, [run], place.add([run]))
    assert found == (run.id, False)
    memory.cancel([run.id], NOON)  # it is over by the time the answer is asked for again
    (found,) = standing(place, [run], place.add([run]))
    assert found == (run.id, False)
    memory.close()


def test_a_pipeline_whose_key_gets_free_is_added_whole() -> None:
    memory = MemoryStorage()
    holder = a_run(unique="resize:1")
    memory.add([holder])
    steps = [a_run(), a_run()]
    family = a_pipeline(*steps, unique="resize:1")
    place = InStorage(memory)
    refused = place.add(family)
    memory.cancel([holder.id], NOON)
    assert refused == [False] * 3
    assert standing(place, family, refused)[0] == (family[0].id, True)
    assert {run.id for run in memory.runs(RunFilter(pipeline=family[0].id))} == {run.id for run in family}
    memory.close()


def test_the_steps_of_a_pipeline_that_was_refused_are_not_new() -> None:
    memory = MemoryStorage()
    holder = a_run(unique="resize:1")
    memory.add([holder])
    family = a_pipeline(a_run(), a_run(), unique="resize:1")
    place = InStorage(memory)
    found = standing(place, family, place.add(family))
    assert (found[0].id, [each.is_new for each in found]) == (holder.id, [False] * 3)
    memory.close()


def test_a_key_that_changes_hands_all_the_time_is_given_up() -> None:
    class Restless:
        def add(self, runs: Sequence[NewRun]) -> list[bool]:
            return [False] * len(runs)

        def holder(self, unique: str) -> str | None:
            return None

        def has(self, run_id: str) -> bool:
            return False

    with pytest.raises(StorageUnavailable, match="changes hands"):
        standing(Restless(), [a_run(unique="resize:1")], [False])


def test_an_enqueue_that_is_repeated_after_its_run_is_over_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = JobRunner(backend="memory://repeated")

    @jobs.task(name="add")
    def add(a: int, b: int) -> int:
        return a + b

    storage: Any = jobs.storage
    real = storage.add_if

    def loses_its_answer(runs: Sequence[NewRun], marks: Mapping[str, str]) -> list[bool]:
        real(runs, marks)
        storage.cancel([runs[0].id], NOON + SECOND)
        return list(real(runs, marks))

    monkeypatch.setattr(storage, "add_if", loses_its_answer)
    handle = jobs.enqueue(jobs["add"].options(unique_key="k"), 1, 2)
    assert cast(Storage, storage).run(handle.id).state is State.CANCELLED
    jobs.close()


# --- definitions ------------------------------------------------------------------------------------------


class Published:
    """A JobRunner beside a supervisor that publishes; the calls of the storage are noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.jobs = JobRunner(backend=f"memory://{id(self)}")
        self.storage = cast(Storage, self.jobs.storage)
        self.desk = Desk(self.storage)
        self.calls: list[str] = []
        for name in ("add", "add_if", "entry", "published", "catalogue"):
            monkeypatch.setattr(self.storage, name, self._noting(name, getattr(self.storage, name)))

    def _noting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            self.calls.append(name)
            return real(*given)

        return call

    def publish(self, **changes: Any) -> None:
        known = a_catalogue("resize", "mail")
        tasks = {name: replace(entry, args=(), **changes) for name, entry in known.tasks.items()}
        self.storage.publish(self.desk.owner, replace(known, tasks=tasks), keep=[], now=NOON)

    def calls_of(self, act: Callable[[], object]) -> list[str]:
        self.calls.clear()
        act()
        return list(self.calls)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    scene = Published(monkeypatch)
    scene.publish()
    yield scene
    scene.jobs.close()


def test_an_enqueue_of_a_task_that_was_enqueued_before_is_one_call(published: Published) -> None:
    jobs = published.jobs
    assert published.calls_of(lambda: jobs.enqueue("resize")) == ["published", "add_if"]
    assert published.calls_of(lambda: jobs.enqueue("resize")) == ["add_if"]
    both: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("resize", (), {}),
        ("mail", (), {}),
        ("resize", (), {}),
    ]
    assert published.calls_of(lambda: jobs.enqueue_many(both)) == ["published", "add_if"]
    assert published.calls_of(lambda: jobs.enqueue_many(both)) == ["add_if"]
    assert published.calls_of(lambda: jobs.enqueue(jobs["mail"].s().then(jobs["resize"]))) == ["add_if"]


def test_an_enqueue_goes_by_what_is_published_when_it_is_made(published: Published) -> None:
    published.jobs.enqueue("resize")
    published.publish(priority=7)
    assert published.storage.run(published.jobs.enqueue("resize").id).priority == 7
    assert published.calls_of(lambda: published.jobs.enqueue("resize")) == ["add_if"]


def test_arguments_are_wrong_only_by_what_is_published_now(published: Published) -> None:
    published.publish(parameters=("image",))
    published.jobs.enqueue("resize", image=1)
    published.publish(parameters=("image", "size"))
    published.jobs.enqueue("resize", image=1, size=2)
    published.publish(parameters=("image",))
    with pytest.raises(WrongArguments):
        published.jobs.enqueue("resize", image=1, size=2)
    assert len(published.storage.runs(RunFilter())) == 2


def test_a_task_that_is_no_more_is_not_enqueued_by_what_it_was(published: Published) -> None:
    published.jobs.enqueue("resize")
    published.storage.publish(published.desk.owner, a_catalogue("mail"), keep=[], now=NOON)
    with pytest.raises(NotFound):
        published.jobs.enqueue("resize")
    assert len(published.storage.runs(RunFilter())) == 1


def test_a_definition_that_changes_all_the_time_is_given_up(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published.storage, "add_if", lambda *_: None)
    with pytest.raises(StorageUnavailable, match="changes all the time"):
        published.jobs.enqueue("resize")
