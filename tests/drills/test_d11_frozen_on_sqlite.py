"""D11: supervisors are frozen while they work, then go on. On SQLite the OS lock keeps everybody else out."""

from __future__ import annotations

import signal

import pytest

from jobrunner.model import State
from tests.drills.checker import MARKS, check, client, enqueue, finished, marks
from tests.live import Project, wait_until

FILE = """
pools: {default: {slots: 2}}
tasks:
  work: {call: "marked:work", max_crashes: 1000}
"""


@pytest.mark.drill
def test_a_frozen_owner_keeps_its_storage_and_what_it_completes_late_counts_once(
    project: Project, full_drills: bool
) -> None:
    # rules 31 and 33: no lease, so no late completion has to be refused, and nobody works beside it
    freezes = 30 if full_drills else 3
    project.write(MARKS, "marked.py")
    project.write(FILE)
    owner = project.start()
    other = project.start(ready=False)
    other.wait_for("standing-by")
    ids: list[str] = []
    for _ in range(freezes):
        with client(project) as storage:
            begun = enqueue(storage, "work", [{"seconds": 0.05}] * 4)
        ids += begun
        wait_until(lambda seen=begun: is_begun(project, seen), lambda: "nothing has begun")  # type: ignore[misc]
        owner.process.send_signal(signal.SIGSTOP)
        wait_until(lambda seen=begun: is_ended(project, seen), lambda: "nothing has ended")  # type: ignore[misc]
        assert [each["event"] for each in other.events] == ["standing-by"]  # it sees no dead owner
        owner.process.send_signal(signal.SIGCONT)
    with client(project) as storage:
        final = finished(storage, ids)
    verdict = check(ids, final, marks(project))
    print(f"{freezes} frozen owners, {len(ids)} runs, {len(verdict.lost)} lost, {verdict.repeated} repeated")
    assert (verdict.lost, verdict.unexpected, verdict.after_success) == (set(), set(), set())
    assert verdict.repeated == 0
    assert {run.state for run in final} == {State.SUCCEEDED}


@pytest.mark.drill
def test_who_stands_by_takes_over_from_an_owner_that_is_killed_while_frozen(project: Project) -> None:
    # rules 31 and 32
    project.write(MARKS, "marked.py")
    project.write(FILE)
    owner = project.start()
    other = project.start(ready=False)
    other.wait_for("standing-by")
    with client(project) as storage:
        ids = enqueue(storage, "work", [{"seconds": 0.5}] * 4)
        wait_until(lambda: is_begun(project, ids), lambda: "nothing has begun")
        owner.process.send_signal(signal.SIGSTOP)
        owner.kill()
        other.wait_for("ready")
        final = finished(storage, ids)
    verdict = check(ids, final, marks(project))
    assert (verdict.lost, verdict.unexpected, verdict.after_success) == (set(), set(), set())
    assert verdict.repeated <= 4


def is_begun(project: Project, run_ids: list[str]) -> bool:
    return any(mark.run_id in run_ids for mark in marks(project))


def is_ended(project: Project, run_ids: list[str]) -> bool:
    return any(mark.what == "end" and mark.run_id in run_ids for mark in marks(project))
