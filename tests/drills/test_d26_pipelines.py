"""D26: a supervisor is killed at random moments while pipelines go on; each ends right, and once (35)."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from typing import Any

import pytest

from jobrunner import JobRunner, chain, group
from jobrunner.app.pipeline import Chain
from jobrunner.model import State
from jobrunner.storage import RunFilter
from tests.drills.checker import client
from tests.live import PATIENCE, Project

MODULE = """
import time
def numbers(): time.sleep(0.02); return [1, 2, 3]
def double(n): time.sleep(0.02); return n * 2
def total(found): time.sleep(0.02); return sum(found)
"""

FILE = """
tasks:
  numbers: {call: "shop:numbers", max_crashes: 1000}
  double: {call: "shop:double", max_crashes: 1000}
  total: {call: "shop:total", max_crashes: 1000}
  echo: {command: "sleep 0.02; cat", result: json, max_crashes: 1000}
  say: {command: 'sleep 0.02; echo "$1"', max_crashes: 1000}
  bad: {command: "sleep 0.02; exit 3", max_crashes: 1000}
  page: {command: "true", max_crashes: 1000}
pipelines:
  inner: {steps: [double, echo, double]}
  report:
    steps:
      - numbers
      - map: {task: inner, over: input}
      - parallel: [total, [total, double], {task: bad, on_failure: [page]}]
        on_member_failure: continue
      - map: {task: say, over: ["1", "2"]}
"""


def written(jobs: JobRunner) -> Chain[Any]:
    """The pipeline `report` in Python."""
    members = [
        jobs["total"].s(),
        jobs["total"].s().then(jobs["double"]),
        jobs["bad"].s().error(jobs["page"]),
    ]
    block = group(members, on_member_failure="continue")
    said = group([jobs["say"].s(text).without_input() for text in ("1", "2")])
    return chain(jobs["numbers"].s(), jobs["inner"].each(), block, said)


def started(project: Project, number: int) -> str:
    """The id of one more pipeline: by the command line, by the API, or written in Python."""
    if number % 3 == 0:
        return str(project.answer("enqueue", "report")["id"])
    with JobRunner(project.file) as jobs:
        return (jobs["report"]() if number % 3 == 1 else jobs.enqueue(written(jobs))).id


@pytest.mark.drill
def test_pipelines_end_right_however_often_their_supervisor_is_killed(
    project: Project, full_drills: bool
) -> None:
    kills = 50 if full_drills else 3
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    project.write(MODULE, "shop.py")
    project.write(FILE)
    supervisor = project.start()
    roots = []
    for number in range(kills):
        roots.append(started(project, number))
        threading.Event().wait(chance.uniform(0.0, 0.6))  # the moment of death, nothing is waited for
        supervisor.kill()
        supervisor = project.start(ready=chance.random() < 0.8)  # else the next death may come at the start
    supervisor.wait_for("ready")
    with client(project) as storage:
        for root in roots:
            run = storage.wait(root, 5 * PATIENCE)
            assert run.state is State.SUCCEEDED, run
            rows = [each for each in storage.runs(RunFilter(pipeline=root, limit=1000)) if each.id != root]
            assert Counter(each.step for each in rows).most_common(1)[0][1] == 1
            results = {each.step: each.result for each in rows}
            assert json.loads(results["2"] or "") == [4, 8, 12]
            assert json.loads(results["3.1"] or "") == 24
            assert json.loads(results["3.2"] or "") == 48
            assert json.loads(results["3"] or "")[2]["$failure"]["reason"] == "exit 3"
            page = storage.wait(next(each.id for each in rows if each.step == "3.3.f1"), PATIENCE)
            assert page.state is State.SUCCEEDED
            assert len(rows) == 4 + 3 * 4 + 5 + 1 + 2
