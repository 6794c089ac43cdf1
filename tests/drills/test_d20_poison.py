"""D20: rows that no enqueuer of ours has written. All are quarantined and visible; good ones go on."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing

import pytest

from jobrunner.model import Run, State
from tests.drills.checker import client, enqueue, finished
from tests.live import PATIENCE, Project

FILE = """
pools: {default: {slots: 2}, commands: {slots: 2}}
tasks:
  call: {call: "strict:work", args: [1], retries: 3, on_failure: [tell]}
  shell: {command: "true", retries: 3}
  tell: {command: "true"}
"""
POISONS: tuple[tuple[str, object], ...] = (
    ("payload", ""),
    ("payload", "{"),
    ("payload", "[]"),
    ("payload", "null"),
    ("payload", '{"args":[1],"kwargs"'),
    ("payload", '{"args":{},"kwargs":[]}'),
    ("payload", '{"args":[{"$newer":[9]}],"kwargs":{}}'),  # a tag of a version to come
    ("payload", '{"args":[' + "[" * 100_000 + "]" * 100_000 + '],"kwargs":{}}'),
    ("payload", "\x00\x01\x02"),
    ("payload", "cos\nsystem\n(S'touch poisoned'\ntR."),  # a pickle is never loaded (S1)
    ("payload", '{"args":[' + "9" * 5000 + '],"kwargs":{}}'),
    ("options", "{"),
    ("options", '{"timeout":"soon"}'),
    ("options", '{"retries":-1}'),
    ("options", '{"env":{"A":1}}'),
)


@pytest.mark.drill
def test_poisoned_rows_are_quarantined_and_good_ones_succeed(project: Project, full_drills: bool) -> None:
    # I9, S1
    bad, good = (1_000, 5_000) if full_drills else (2 * len(POISONS), 100)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    project.write("def work(value):\n    return value\n", "strict.py")
    project.write(FILE)
    supervisor = project.start("--log-level", "error", ready=False)
    supervisor.wait_for_ready()
    assert project.jobrunner("pause", "--all").returncode == 0
    with client(project) as storage:
        kept = [(chance.choice(("call", "shell")), False) for _ in range(good)]
        order = [*kept, *((("call", "shell")[number % 2], True) for number in range(bad))]
        chance.shuffle(order)
        poisoned: dict[str, tuple[str, object]] = {}
        healthy: list[str] = []
        for number, (task, is_bad) in enumerate(order):
            [run_id] = enqueue(storage, task, [{}])
            if is_bad:
                poisoned[run_id] = POISONS[number % len(POISONS)]
            else:
                healthy.append(run_id)
    write_all(project, poisoned)
    assert project.jobrunner("resume", "--all").returncode == 0
    with client(project) as storage:
        ends = finished(storage, healthy)
        wrong = finished(storage, list(poisoned))
    assert {run.state for run in ends} == {State.SUCCEEDED}
    odd = [run for run in wrong if not is_told(run)]
    quarantined = sum(run.state is State.FAILED for run in wrong)
    print(
        f"{len(wrong)} poisoned rows, {quarantined} quarantined, {len(odd)} not told; {len(ends)} succeeded"
    )
    assert odd == [], odd[:3]
    assert quarantined == len(wrong)
    assert {run.attempt for run in wrong} <= {0, 1}  # never retried
    assert not (project.folder / "poisoned").exists()
    assert supervisor.process.poll() is None


def write_all(project: Project, poisoned: dict[str, tuple[str, object]]) -> None:
    with closing(sqlite3.connect(project.folder / ".jobrunner/jobs.db", timeout=PATIENCE)) as database:
        for run_id, (column, value) in poisoned.items():
            database.execute(f"update runs set {column} = ? where id = ?", (value, run_id))
        database.commit()


def is_told(run: Run) -> bool:
    """Whether the row says what was wrong with it, and still holds what somebody wrote."""
    return run.state is State.FAILED and run.outcome == "bad arguments" and bool(run.error)
