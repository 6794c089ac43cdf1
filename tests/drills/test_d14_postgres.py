"""D14 on PostgreSQL: two and four supervisors side by side, one of them killed in the middle."""

from __future__ import annotations

import pytest

from tests.drills.side_by_side import side_by_side
from tests.live import Project


@pytest.mark.drill
@pytest.mark.parametrize("supervisors", [2, 4])
def test_supervisors_side_by_side_do_each_run_and_each_tick_once(
    project: Project, postgres_url: str, full_drills: bool, supervisors: int
) -> None:  # rules 7, 15, 31, 32
    if full_drills:
        side_by_side(project, postgres_url, supervisors=supervisors, schedules=50, ticks=1_000, runs=10_000)
    else:
        side_by_side(project, postgres_url, supervisors=supervisors, schedules=10, ticks=40, runs=400)
