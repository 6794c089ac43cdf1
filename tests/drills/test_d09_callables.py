"""D9: the zoo of callables. Each has its exact outcome, and every neighbour succeeds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobrunner.execution import Call
from jobrunner.model import Ending
from jobrunner.plan import PoolKind
from tests.integration.workers.stand import Stand

ANIMALS: list[tuple[str, list[object], str]] = [
    ("leave", [3], "exit 3"),
    ("leave", [0], "exit 0"),
    ("leave", ["words"], "exit 1"),
    ("leave_process", [3], "exit 3"),
    ("leave_process", [0], "exit 0"),
    ("segfault", [], "crashed"),
    ("abort", [], "crashed"),
    ("kill_self", [9], "crashed"),
    ("recurse", [], "exception RecursionError"),
    ("exhaust", [], "exception MemoryError"),
    ("fail", [], "exception ValueError"),
    ("interrupt", [], "exception KeyboardInterrupt"),
    ("strange_init", [], "exception StrangeInit"),
    ("strange_str", [], "exception StrangeStr"),
    ("strange_base", [], "exception StrangeBase"),
    ("strange_kind", [], "exception Hidden"),
    ("cyclic", [], "exception Cyclic"),
    ("group", [], "exception ExceptionGroup"),
    ("half_a_character", [], "exception ValueError"),
    ("unstorable", [], "result not storable"),
    ("not_a_number", [], "result not storable"),
    ("contains_itself", [], "result not storable"),
    ("enormous", [], "result not storable"),
    ("strange_value", [], "result not storable"),
    ("add", [1], "bad arguments"),
    ("ask_again", [], "retry asked"),
    ("give_up", [], "cancelled"),
    ("change_folder", [], "ok"),
    ("change_umask", [], "ok"),
    ("change_signals", [], "ok"),
    ("set_alarm", [], "ok"),
    ("change_environment", [], "ok"),
    ("replace_environment", [], "ok"),
    ("clear_environment", [], "ok"),
    ("change_recursion", [], "ok"),
    ("close_descriptors", [], "ok"),
    ("close_streams", [], "ok"),
    ("replace_streams", [], "ok"),
    ("leave_threads", [], "ok"),
    ("leave_a_child", [], "ok"),
    ("shout", [], "ok"),
]


HARMS_ITS_NEIGHBOURS = frozenset({"leave_process", "segfault", "abort", "kill_self"})
OF_A_PROCESS = frozenset(
    {"change_folder", "change_umask", "change_signals", "set_alarm", "close_descriptors", "replace_streams"}
)
"""What belongs to a whole process, and is put back where a worker executes one call at a time."""


@pytest.mark.drill
def test_each_callable_has_its_outcome_and_harms_no_neighbour(tmp_path: Path, full_drills: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rounds = 20 if full_drills else 1
    with Stand(tmp_path) as stand:
        animals = [(stand.call(name, *args), outcome) for name, args, outcome in ANIMALS * rounds]
        neighbours = [stand.call("add", n, n) for n in range(2 * len(animals))]
        todo: list[Call] = [*(call for call, _ in animals), *neighbours]
        chance.shuffle(todo)
        stand.run(*todo)
        found = [(call.task.name, stand.over[call.seq].outcome) for call, _ in animals]
        assert found == [(call.task.name, outcome) for call, outcome in animals]
        for number, call in enumerate(neighbours):
            ended = stand.over[call.seq]
            assert (ended.ending, ended.result) == (Ending.OK, str(2 * number))


@pytest.mark.drill
@pytest.mark.parametrize("kind", [PoolKind.THREAD, PoolKind.GREENLET, PoolKind.ASYNC])
def test_the_kinds_with_calls_side_by_side_tell_the_same_outcomes(
    tmp_path: Path, full_drills: bool, kind: PoolKind
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rounds = 20 if full_drills else 1
    wild = [each for each in ANIMALS * rounds if each[0] not in HARMS_ITS_NEIGHBOURS | OF_A_PROCESS]
    with Stand(tmp_path, slots=8, kind=kind) as stand:
        animals = [(stand.call(name, *args), outcome) for name, args, outcome in wild]
        neighbours = [stand.call("times", 0.01) for _ in range(2 * len(animals))]
        todo: list[Call] = [*(call for call, _ in animals), *neighbours]
        chance.shuffle(todo)
        stand.run(*todo)
        found = [(call.task.name, stand.over[call.seq].outcome) for call, _ in animals]
        assert found == [(call.task.name, outcome) for call, outcome in animals]
        assert {stand.over[call.seq].ending for call in neighbours} == {Ending.OK}
