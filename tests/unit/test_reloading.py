"""The parts of a reload: what is watched, what has changed, which executors stay, what a hold holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobrunner import fingerprint as prints
from jobrunner.config.imports import Verdict
from jobrunner.config.looked import judged
from jobrunner.difference import difference
from jobrunner.durations import SECOND
from jobrunner.execution.journal import Journal
from jobrunner.loop import EventLoop
from jobrunner.model import Ended
from jobrunner.plan import Plan, Pool, PoolKind, Retention
from jobrunner.pools import LOOK, Pools
from jobrunner.reloader import carried_over
from tests.builders import UNASKED, a_task
from tests.stage import HandClock

PLAN = Plan(file="/jobs.yaml", hash="1", backend="memory://", timezone="UTC")


# --- what has changed -----------------------------------------------------------------------------------


def test_an_unchanged_plan_has_no_difference_wherever_its_lines_are() -> None:
    plan = replace(PLAN, tasks={"a": a_task("a", line=3)})
    moved = replace(PLAN, hash="2", tasks={"a": a_task("a", line=9, blocked="no module")})
    assert not difference(plan, moved)


def test_a_difference_names_tasks_and_settings() -> None:
    old = replace(PLAN, tasks={"a": a_task("a"), "b": a_task("b")}, locks={"db": 1})
    new = replace(
        PLAN,
        tasks={"b": a_task("b", priority=3), "c": a_task("c")},
        retention=Retention(max_runs=5),
        pools={"default": Pool(name="default", slots=9)},
    )
    assert difference(old, new)._asdict() == {
        "added": ("c",),
        "changed": ("b",),
        "removed": ("a",),
        "settings": ("retention", "pools.commands", "pools.default", "locks.db"),
    }


def test_what_is_known_of_a_callable_is_kept_until_it_is_looked_at_again() -> None:
    # rule 25: a blocked task stays blocked until it loads
    known = a_task("a", command=None, call="m:f", blocked="no module", parameters=("x",), required=("x",))
    old = replace(PLAN, tasks={"a": known, "b": known})
    fresh = a_task("a", command=None, call="m:f")
    new = replace(PLAN, tasks={"a": replace(fresh, priority=2), "b": replace(fresh, call="m:g")})
    tasks = carried_over(old, new).tasks
    assert (tasks["a"].blocked, tasks["a"].required, tasks["a"].priority) == ("no module", ("x",), 2)
    assert tasks["b"].blocked is None


# --- what is watched ------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    # rule 24: a content hash decides
    file = tmp_path / "jobs.yaml"
    file.write_text("one")
    before = prints.fingerprint([str(file)])
    assert before == prints.combined({str(file): prints.digest(b"one")})
    os.utime(file, (1, 1))
    assert prints.fingerprint([str(file)]) == before
    file.write_text("two")
    os.utime(file, (1, 1))  # the same size and time
    changed = prints.fingerprint([str(file)])
    assert changed != before
    file.unlink()
    assert prints.fingerprint([str(file)]) not in (before, changed)


def test_a_pattern_stands_for_the_files_that_are_there(tmp_path: Path) -> None:
    pattern = str(tmp_path / "*.yaml")
    before = prints.fingerprint([pattern])
    (tmp_path / "a.yaml").write_text("a")
    after = prints.fingerprint([pattern])
    assert after != before
    assert after == prints.fingerprint([pattern, str(tmp_path / "a.yaml")])


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    nothing = prints.fingerprint([])
    assert prints.fingerprint([str(tmp_path), str(tmp_path / "pipe"), "/dev/zero"]) == nothing


def test_the_folders_of_all_links_on_the_way_are_watched(tmp_path: Path) -> None:
    # a ConfigMap: jobs.yaml -> ..data/jobs.yaml, ..data -> ..2026
    mount, releases = tmp_path / "mount", tmp_path / "releases"
    (mount / "..2026").mkdir(parents=True)
    (mount / "..2026/jobs.yaml").touch()
    (mount / "..data").symlink_to("..2026")
    (mount / "jobs.yaml").symlink_to("..data/jobs.yaml")
    releases.mkdir()
    (releases / "current").symlink_to(mount)
    watched = prints.folders_of([str(releases / "current/jobs.yaml")])
    assert {str(releases), str(mount), str(mount / "..2026")} <= set(watched)


def test_of_a_missing_folder_the_nearest_one_is_watched(tmp_path: Path) -> None:
    assert prints.folders_of([str(tmp_path / "not/yet/*.yaml")]) == [str(tmp_path)]
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert prints.folders_of([str(loop / "jobs.yaml")])  # ends, and names something that is there


# --- executors ------------------------------------------------------------------------------------------


class Nobody:
    def started(self, *_: object) -> None: ...

    def ended(self, _call: object, _ended: Ended) -> None: ...


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop(HandClock())
    yield made
    made.close()


def test_only_changed_pools_get_new_executors(loop: EventLoop, tmp_path: Path) -> None:
    # rules 26 and 27
    with Journal.opened(str(tmp_path)) as journal:
        pools = Pools(
            loop=loop,
            sink=Nobody(),
            output_root=str(tmp_path),
            journal=journal,
            backing=UNASKED,
        )
        first = pools.adopt(PLAN)
        assert pools.adopt(replace(PLAN, timezone="Europe/Paris")) == first
        fresh = pools.adopt(PLAN, fresh=True)
        assert fresh["commands"] is first["commands"]  # commands hold no code
        assert fresh["default"] is not first["default"]
        other = replace(PLAN, pythonpath=("/srv",), pools={**PLAN.pools, "commands": a_command_pool(1)})
        third = pools.adopt(other)
        assert all(third[name] is not fresh[name] for name in third)
        assert (first["commands"].room(), first["default"].room()) == (0, 0)
        pools.close()


def test_a_pool_that_is_gone_drains_and_is_forgotten(loop: EventLoop, tmp_path: Path) -> None:
    # I8
    with Journal.opened(str(tmp_path)) as journal:
        pools = Pools(
            loop=loop,
            sink=Nobody(),
            output_root=str(tmp_path),
            journal=journal,
            backing=UNASKED,
        )
        for number in range(100):
            pools.adopt(replace(PLAN, pools={f"p{number}": a_command_pool(1)}))
        assert len(pools._draining) == 99
        clock = loop.clock
        assert isinstance(clock, HandClock)
        clock.passes(LOOK + SECOND)
        loop.turn(0)
        assert pools._draining == []
        assert pools.busy() == {"p99": 0}
        pools.close()


def a_command_pool(slots: int) -> Pool:
    return Pool(name="commands", kind=PoolKind.COMMAND, slots=slots)


# --- callables ------------------------------------------------------------------------------------------


def test_a_task_that_says_the_same_stays_the_very_same() -> None:
    # executors know tasks by their identity: an edit elsewhere must not make them learn anew, nor grow (I8)
    known = a_task("a", command=None, call="m:f", parameters=("x",), required=("x",), line=3)
    old = replace(PLAN, tasks={"a": known, "b": a_task("b", line=9)})
    new = replace(
        PLAN, tasks={"a": a_task("a", command=None, call="m:f", line=4), "b": a_task("b", priority=1)}
    )
    tasks = carried_over(old, new).tasks
    assert tasks["a"] is known
    assert tasks["b"].priority == 1
    found = judged(old, [Verdict(task="a", parameters=("x",), required=("x",))])
    assert found.tasks["a"] is known
    assert found == old


def test_what_was_found_out_is_in_the_plan() -> None:
    call = a_task("a", command=None, call="m:f")
    plan = replace(PLAN, tasks={"a": call, "b": a_task("b")})
    tasks = judged(plan, [Verdict(task="a", message="there is no module 'm'", help="install it")]).tasks
    assert tasks["a"].blocked == "there is no module 'm' (install it)"
    assert tasks["b"] is plan.tasks["b"]
