"""D21: the soak, for half a minute here and for ten minutes in the full form; `make soak` takes an hour."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.drills.soak import Soak


@pytest.mark.drill
def test_work_and_faults_side_by_side_lose_nothing_and_leave_nothing(
    tmp_path: Path, full_drills: bool
) -> None:
    # I1, I7, I8; a memory slope needs the hour of `make soak`
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    soak = Soak(tmp_path, 600 if full_drills else 25, random.Random(seed))
    soak.run()
    print(*soak.report(), sep="\n")
    assert soak.restless.supervisor_kills + soak.restless.stops > 0
    assert soak.steady.worker_kills > 0
    if full_drills:
        assert "descriptors grow" not in soak.faults()
