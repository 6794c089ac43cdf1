"""D10: hard timeouts. Each ends, as `timeout`, within timeout + kill_after + 0.5 s; nothing of it is left."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from jobrunner.durations import MILLISECOND, SECOND, Micros
from jobrunner.model import Ending
from tests.integration.workers.stand import Stand

TIMEOUT: Micros = 200 * MILLISECOND
KILL_AFTER: Micros = 300 * MILLISECOND
FIGURE: Micros = SECOND // 2
KINDS = [("sleep", [3600]), ("spin", []), ("stubborn", []), ("hold_the_gil", []), ("asleep", [3600])]


# rule 14
@pytest.mark.drill
def test_every_hard_timeout_ends_its_call(tmp_path: Path, full_drills: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kinds = KINDS * (20 if full_drills else 1)
    chance.shuffle(kinds)
    with Stand(tmp_path) as stand:
        stand.run(*[stand.call("nothing") for _ in range(50)])
        calls = [
            stand.call(stand.task(name, kill_after=KILL_AFTER), *args, timeout=TIMEOUT)
            for name, args in kinds
        ]
        neighbours = [stand.call("nothing") for _ in range(len(calls))]
        todo = [*calls, *neighbours]
        chance.shuffle(todo)
        stand.run(*todo)
        ends = [stand.over[call.seq] for call in calls]
        assert {ended.ending for ended in ends} == {Ending.TIMEOUT}
        assert {stand.over[call.seq].ending for call in neighbours} == {Ending.OK}
        took = [ended.ended_at - (ended.started_at or 0) for ended in ends]
        assert min(took) >= TIMEOUT
        print(f"longest: {max(took) / SECOND:.3f} s of {(TIMEOUT + KILL_AFTER) / SECOND} s + 0.5 s")
        if full_drills:  # a figure to hold on a machine that does nothing else
            assert max(took) <= TIMEOUT + KILL_AFTER + FIGURE
        pids = {ended.pid for ended in ends}
        assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
