"""Workers are replaced by count, age and memory, and no call waits for the start of the next one."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from jobrunner.codec import decode
from jobrunner.durations import MILLISECOND
from jobrunner.model import Ending
from jobrunner.plan import PoolKind
from tests.integration.workers.stand import Stand
from tests.integration.workers.test_ends import _is_alive

every_kind = pytest.mark.parametrize("kind", list(PoolKind)[:4])


def stand_of(folder: Path, kind: PoolKind = PoolKind.PROCESS, slots: int = 1, **options: object) -> Stand:
    return Stand(folder, slots=slots, kind=kind, **options)  # type: ignore[arg-type]


@every_kind
def test_a_worker_executes_at_most_so_many_calls(tmp_path: Path, kind: PoolKind) -> None:
    with stand_of(tmp_path, kind, slots=2, max_calls=7) as stand:
        ends = stand.run(*[stand.call("nothing") for _ in range(60)])
        assert {ended.ending for ended in ends} == {Ending.OK}
        counts = Counter(ended.pid for ended in ends)
        assert max(counts.values()) <= 7
        assert len(counts) >= 9


@every_kind
def test_the_successor_is_there_while_the_last_call_executes(tmp_path: Path, kind: PoolKind) -> None:
    with stand_of(tmp_path, kind, max_calls=1) as stand:
        calls = [stand.call("times", 1.0) for _ in range(3)]
        stand.pool.start(calls[:1])
        stand.until(lambda: stand.pool.workers() == 2, "for the successor")
        assert calls[0].seq not in stand.over, "it was started before the old one had ended"
        assert stand.pool.room() == 0, "two workers make no second slot"
        ends = [*stand.wait_for(calls[0]), *stand.run(*calls[1:])]
        spans = [decode(ended.result or "") for ended in ends]
        assert all(isinstance(each, tuple) for each in spans)
        assert all(one[1] <= other[0] for one, other in pairwise(spans)), "one at a time"  # type: ignore[index]
        pids = [ended.pid for ended in ends]
        assert len(set(pids)) == 3
        stand.until(
            lambda: not any(_is_alive(pid) for pid in pids[:2] if pid), "for the old workers to leave"
        )


@every_kind
def test_a_worker_is_replaced_at_its_age(tmp_path: Path, kind: PoolKind) -> None:
    with stand_of(tmp_path, kind, max_age=300 * MILLISECOND) as stand:
        first = stand.one("nothing").pid
        stand.until(lambda: stand.one("sleep", 0.01).pid != first, "for another worker")
        assert first is not None
        stand.until(lambda: not _is_alive(first), "for the old worker to leave")


@every_kind
def test_a_worker_is_replaced_above_its_memory(tmp_path: Path, kind: PoolKind) -> None:
    with stand_of(tmp_path, kind, max_memory=150 * 2**20) as stand:
        small = stand.one("nothing").pid
        assert stand.one("nothing").pid == small
        large = decode(stand.one("hoard", 200).result or "")
        assert large == small
        stand.until(lambda: stand.one("sleep", 0.01).pid != large, "for another worker")


def test_an_idle_worker_of_age_leaves_without_a_successor(tmp_path: Path) -> None:
    with stand_of(tmp_path, max_age=300 * MILLISECOND) as stand:
        stand.one("nothing")
        stand.pool._rest()
        stand.until(lambda: stand.pool.workers() == 0, "for the worker to leave")


# ---- hooks of the pool ---------------------------------------------------------------------------


@every_kind
def test_the_startup_hook_is_called_once_in_each_worker(tmp_path: Path, kind: PoolKind) -> None:
    with stand_of(tmp_path, kind, on_startup="zoo:start_up", max_calls=2) as stand:
        ends = stand.run(*[stand.call("started") for _ in range(4)])
        assert [decode(ended.result or "") for ended in ends] == [[1, "yes"]] * 4
        assert len({ended.pid for ended in ends}) == 2


@pytest.mark.parametrize("kind", [PoolKind.PROCESS, PoolKind.THREAD, PoolKind.ASYNC])
def test_a_hook_may_be_an_async_def(tmp_path: Path, kind: PoolKind) -> None:
    with stand_of(tmp_path, kind, on_startup="zoo:start_up_async") as stand:
        assert decode(stand.one("started").result or "") == [1, None]


@every_kind
def test_a_startup_hook_that_fails_keeps_the_worker_from_starting(tmp_path: Path, kind: PoolKind) -> None:
    with stand_of(tmp_path, kind, on_startup="zoo:fail_without_arguments") as stand:
        assert "there is no 'fail_without_arguments'" in stand.waits("nothing")


@every_kind
def test_the_shutdown_hook_is_called_at_an_orderly_end(tmp_path: Path, kind: PoolKind) -> None:
    path = tmp_path / "ended"
    with stand_of(tmp_path, kind, on_shutdown="zoo:shut_down", env={"SHUT_DOWN": str(path)}) as stand:
        pid = stand.one("nothing").pid
        stand.pool.retire()
        stand.until(lambda: stand.pool.workers() == 0, "for the worker to leave")
        assert path.read_text() == f"{pid}\n"
