"""examples/jobs.yaml, run for real: what a newcomer sees within the first minute."""

from __future__ import annotations

import json
import shutil
import signal
from itertools import pairwise
from pathlib import Path

import pytest

from jobrunner.model import State
from tests.drills.checker import client, enqueue, finished
from tests.live import LiveSupervisor, Project

EXAMPLES = Path(__file__).parents[2] / "examples"
FIRST_MINUTE = 120.0  # seconds: a minute, and patience with a busy machine


@pytest.fixture
def example(project: Project) -> Project:
    """A copy of the example: nothing is written among the files of the repository."""
    shutil.copytree(
        EXAMPLES,
        project.folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".jobrunner", "__pycache__"),
    )
    return project


def succeeded(supervisor: LiveSupervisor, task: str) -> dict[str, object]:
    return supervisor.wait_for("attempt", task=task, state="succeeded", timeout=FIRST_MINUTE)


def test_check_finds_nothing_to_say(example: Project) -> None:
    done = example.jobrunner("check", "jobs.yaml", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


def test_within_a_minute_every_kind_of_task_has_run(example: Project) -> None:
    supervisor = example.start()
    work = example.folder / ".jobrunner/work"
    for task in ("disk-report", "orders-to-json", "check-ports", "write-log", "load-report"):
        succeeded(supervisor, task)
    assert len(json.loads((work / "orders.json").read_text())) == 7
    assert example.jobrunner("enqueue", "rotate-log", "--wait").returncode == 0
    assert (work / "app.log.1").exists()

    flaky = [supervisor.wait_for("attempt", task="flaky-download", attempt=n, timeout=120) for n in (1, 2, 3)]
    assert [each["state"] for each in flaky] == ["retrying", "retrying", "succeeded"]

    failed = supervisor.wait_for("attempt", task="copy-to-nowhere", timeout=FIRST_MINUTE)
    assert (failed["state"], failed["outcome"]) == ("failed", "exit 1")
    succeeded(supervisor, "alert")
    assert "copy-to-nowhere failed: exit 1" in (work / "alerts.log").read_text()

    succeeded(supervisor, "pack-standard")
    packed = [each["task"] for each in supervisor.events if str(each.get("task")).startswith("pack-")]
    assert packed[:3] == ["pack-express", "pack-fragile", "pack-standard"]  # rule 18

    assert supervisor.stop(signal.SIGINT) == 0  # rule 29


def test_the_locked_pair_is_never_running_at_once(example: Project) -> None:
    # rule 17
    example.start("--no-schedule")
    with client(example) as storage:
        ids = [run for task in ("write-log", "rotate-log") for run in enqueue(storage, task, [{}] * 2)]
        runs = finished(storage, ids)
    assert {run.state for run in runs} == {State.SUCCEEDED}
    spans = sorted((run.started_at or 0, run.finished_at or 0) for run in runs)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_an_on_demand_task_takes_arguments_and_prints_its_result(example: Project) -> None:
    example.start("--no-schedule")
    done = example.jobrunner("enqueue", "resize", "--args", '{"width": 800}', "--wait")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": ".jobrunner/work/logo-800.pgm", "width": 800, "height": 600}
    assert (example.folder / ".jobrunner/work/logo-800.pgm").stat().st_size > 800 * 600
