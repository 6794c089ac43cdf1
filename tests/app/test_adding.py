"""What an enqueue stands for when it was refused, or when its answer was lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from jobrunner import JobRunner
from jobrunner.app.adding import InStorage, standing
from jobrunner.durations import SECOND
from jobrunner.errors import StorageUnavailable
from jobrunner.model import NewRun, State
from jobrunner.storage import RunFilter, Storage
from jobrunner.storage.memory import MemoryStorage
from jobrunner.testing.desk import NOON, a_pipeline, a_run


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
    real = storage.add

    def loses_its_answer(runs: Sequence[NewRun]) -> list[bool]:
        real(runs)
        storage.cancel([runs[0].id], NOON + SECOND)
        return list(real(runs))

    monkeypatch.setattr(storage, "add", loses_its_answer)
    handle = jobs.enqueue(jobs["add"].options(unique_key="k"), 1, 2)
    assert cast(Storage, storage).run(handle.id).state is State.CANCELLED
    jobs.close()
