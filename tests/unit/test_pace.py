"""What keeps the hot path quick, as structure: how often the storage is asked for many runs."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from jobrunner.execution import Call
from jobrunner.model import State
from tests.builders import a_run, a_task, an_end
from tests.stage import Stage

RUNS = 1_000
ROOM = 100


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage(a_task(), slots=ROOM)
    yield made
    made.close()


def finish_all(stage: Stage) -> list[int]:
    """End all that runs, turn by turn; how many runs went with each exchange."""
    batches: list[int] = []
    while batch := list(stage.executor.calls):
        for call in batch:
            stage.executor.finish(call, an_end(result="1"))
        batches.append(len(batch))
        stage.turns()
    return batches


def test_under_load_one_exchange_settles_a_batch_and_claims_the_next(stage: Stage) -> None:
    before = stage.faulty.calls.count("exchange")
    stage.add(*(a_run() for _ in range(RUNS)))
    batches = finish_all(stage)
    exchanges = stage.faulty.calls.count("exchange") - before
    assert batches == [ROOM] * (RUNS // ROOM)
    assert exchanges <= RUNS // ROOM + 2  # the first claim; a look that finds nothing more
    assert set(stage.faulty.calls) == {"exchange"}


def test_a_dispatcher_remembers_nothing_of_runs_that_have_ended(stage: Stage) -> None:
    runs = [a_run() for _ in range(RUNS)]
    stage.add(*runs)
    finish_all(stage)
    assert stage.run(runs[-1]).state is State.SUCCEEDED
    ended = {run.id for run in runs}
    stage.executor.started.clear()  # what the stage itself and its events remember
    stage.events.clear()
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, Call) and each.run_id in ended]
    assert kept == []
