"""The behaviours that a task queue is held to, through real workers: see `stories`."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.app import stories
from tests.live import Project, wait_until
from tests.postgres_server import Server
from tests.servers import a_redis

FILE = """
backend: {backend}
modules: [stories]
pools:
  default: {{kind: {kind}, slots: 4}}
  stage: {{slots: 4}}
  single: {{slots: 1}}
tasks:
  opening:
    call: stories:open_the_show
    pool: stage
    {schedule}
  later: {{pool: {coroutines}}}
"""


class House(NamedTuple):
    """Where the stories are told."""

    backend: str
    kind: str
    inside: bool  # by a task, not by a client

    def __str__(self) -> str:
        return f"{self.backend}-{self.kind}{'-inside' if self.inside else ''}"


HOUSES = [
    House("sqlite", "process", inside=False),
    House("sqlite", "thread", inside=False),
    House("sqlite", "greenlet", inside=False),
    House("sqlite", "async", inside=False),
    House("memory", "process", inside=True),
    House("memory", "thread", inside=True),
    House("memory", "greenlet", inside=True),
    House("memory", "async", inside=True),
    House("file", "process", inside=True),
    House("postgres", "process", inside=False),
    House("postgres", "process", inside=True),
    House("redis", "process", inside=False),
    House("redis", "thread", inside=True),
]

WANTED: dict[str, Any] = {
    "a_call_gives_its_result_again_and_again": [3, 3, True, "succeeded"],
    "none_is_a_result": [None, "succeeded", True],
    "map_keeps_its_order": [[0, 2, 4, 6, 8, 10, 12, 14, 16, 18], list(range(10))],
    "a_coroutine_is_a_task_too": 2,
    "a_task_knows_its_run": ["who", "enqueue", 1, True],
    "a_fib_pipeline": [[8, 5], [[2, 1], [3, 2], [5, 3], [8, 5]]],
    "partial_sums": [15, [3, 6, 10, 15]],
    "a_chord": 72,
    "nested_chords": [["a", "b"], [["c", "d"], ["e", "f"]], ["g", "h"]],
    "an_empty_chord": [[], []],
    "a_chord_whose_members_end_in_every_way": [1, "failed", "expired", "cancelled", 2, None, "failed", 3],
    "a_failed_member_fails_its_chord": [
        "TaskFailed",
        "upstream failed",
        {"1": "failed", "1.1": "succeeded", "1.2": "failed", "2": "skipped"},
    ],
    "a_chain_stops_at_a_failure": ["TaskFailed", ["succeeded", "failed", "skipped"]],
    "each_item_of_a_result": 36,
    "a_failure_has_its_error_and_each_attempt": [
        ["TaskFailed", "exception ValueError", "ValueError: no such colour", None],
        ["exception ValueError", "exception ValueError"],
    ],
    "retries_end_with_a_success": [3, ["exception ConnectionError", "exception ConnectionError", "ok"]],
    "a_retry_that_was_asked_for_costs_none": [4, 0],
    "a_task_cancels_its_run": [["RunCancelled", 3], ["RunCancelled", 1], ["RunCancelled", 4]],
    "a_result_that_cannot_be_stored": ["TaskFailed", "result not storable"],
    "wrong_arguments_are_refused_here": ["WrongArguments"] * 3,
    "an_unknown_task_is_refused_here": ["no task 'ad'", "did you mean 'add'?"],
    "reserved_names_are_plain_arguments": {
        "priority": 9,
        "delay": 1,
        "id": "x",
        "task": "y",
        "self": 1,
        "timeout": 2,
    },
    "expired_and_cancelled_runs_say_so": ["RunExpired", "RunCancelled"],
    "revoked_runs_say_so": ["RunCancelled", 2],
    "a_revocation_that_is_used_once": ["RunCancelled", "no error", "no error"],
    "a_run_moves_to_another_time": [5, "cancelled", "superseded"],
    "a_unique_key_is_held_until_its_run_has_ended": [True, False, True, True, 3],
    "a_debounced_call_runs_once_with_the_latest_arguments": [2, ["cancelled", "cancelled"]],
    "a_paused_task_waits": {"a": 1},
    "priorities_go_first_and_equals_in_order": [100, 120, 10, 12, 0, 2],
    "a_task_waits_for_a_chord_of_its_own": 12,
    "a_task_holds_a_lock_for_a_block": ["waits", "TaskFailed", 5],
    "a_task_that_leaves_its_process": ["TaskFailed", "exit 3"],
    "counts_and_lists_agree": [True, True, {"a": "counted"}],
}


@pytest.fixture(params=HOUSES, ids=str)
def told(request: pytest.FixtureRequest, project: Project) -> dict[str, Any]:
    """What each story gave; all of them are told in one house, one after the other."""
    house: House = request.param
    if house.kind == "greenlet":
        pytest.importorskip("gevent")
    backend = _backend_of(house, request)
    schedule = "schedule: reboot" if house.inside else ""
    coroutines = "stage" if house.kind == "greenlet" else "default"  # greenlets run no coroutine
    project.write(FILE.format(backend=backend, kind=house.kind, schedule=schedule, coroutines=coroutines))
    shutil.copy(Path(stories.__file__), project.folder / "stories.py")
    project.start()
    return _from_inside(project) if house.inside else _from_outside(project)


@pytest.fixture
def own_redis_url(tmp_path: Path) -> Iterator[str]:
    with a_redis(tmp_path / "redis") as server:
        yield server.url


def _backend_of(house: House, request: pytest.FixtureRequest) -> str:
    if house.backend == "postgres":
        server: Server = request.getfixturevalue("postgres_server")
        return server.url(namespace=f"test_{os.urandom(6).hex()}")
    if house.backend == "redis":
        return str(request.getfixturevalue("own_redis_url"))
    return {"memory": "memory://", "sqlite": "sqlite:///jobs.db", "file": "file:///queue"}[house.backend]


def _from_inside(project: Project) -> dict[str, Any]:
    """Told by the task `opening`, which a start of the supervisor runs."""
    file = project.folder / "told.jsonl"

    def lines() -> list[str]:
        return file.read_text().splitlines() if file.exists() else []

    wait_until(lambda: len(lines()) == len(WANTED), lambda: f"{lines()[-1:]}\n{project.logs()}", 120)
    documents = [json.loads(line) for line in lines()]
    return {each["story"]: each.get("gave", each.get("error")) for each in documents}


def _from_outside(project: Project) -> dict[str, Any]:
    """Told by this process, a client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        patch.syspath_prepend(str(project.folder))
        sys.modules.pop("stories", None)
        module = importlib.import_module("stories")
        try:
            return {name: json.loads(json.dumps(tell())) for name, tell in module.STORIES.items()}
        finally:
            module.jobs.close()
            sys.modules.pop("stories", None)


def test_a_story_ends_as_it_should(told: dict[str, Any]) -> None:
    assert {name: end for name, end in told.items() if end != WANTED[name]} == {}
    assert list(told) == list(WANTED)
