"""What keeps the hot path quick, as structure: how often the storage is asked for many runs."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

import jobrunner
from jobrunner.execution import Call
from jobrunner.execution.holding import BUDGET, OVERHEAD, Definition
from jobrunner.model import State
from tests.builders import a_run, a_task, an_end
from tests.stage import Stage

RUNS = 1_000
ROOM = 100
MOST_CALLS = 28  # functions of the supervisor that a run passes through, from its claim to its end: 23
MOST_BYTES = 1_536  # that a claimed run takes in the dispatcher until it ends: 1 KB
OURS = str(jobrunner.__file__).removesuffix("__init__.py")
ASIDE = (f"{OURS}storage", f"{OURS}testing")


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


def calls_of(work: Callable[[], object]) -> int:
    """How many functions of the supervisor are entered meanwhile; those of the storage do not count."""
    count = 0

    def note(frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        name = frame.f_code.co_filename
        count += event == "call" and name.startswith(OURS) and not name.startswith(ASIDE)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_a_run_passes_through_few_functions(stage: Stage) -> None:
    stage.add(*(a_run() for _ in range(RUNS)))
    calls = calls_of(lambda: finish_all(stage))
    assert 0 < calls / RUNS <= MOST_CALLS


def test_one_slow_call_does_not_make_a_task_seem_slow() -> None:
    """It may have waited for a processor. The tenth one of a kind did not."""
    known = Definition(1, a_task(), "")
    known.learn(2)
    known.learn(BUDGET)
    assert known.cost < 3 * OVERHEAD
    for _ in range(20):
        known.learn(BUDGET)
    assert known.cost > BUDGET // 2


def test_a_claimed_run_takes_little_memory(stage: Stage) -> None:
    stage.executor.slots = 1
    stage.add(*(a_run() for _ in range(RUNS)))
    stage.executor.slots = RUNS
    tracemalloc.start()
    try:
        stage.turns()
        stage.dispatcher.wake()
        stage.turns()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(stage.executor.calls) == RUNS
    assert taken / RUNS <= MOST_BYTES
