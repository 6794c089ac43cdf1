"""A JobRunner inside tasks: its calls travel to the supervisor, whatever the storage and the kind of pool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.live import Project, wait_until

FILE = """
backend: BACKEND
modules: [work]
pools:
  default: {slots: 2}
  parents: {kind: KIND, slots: 4}
tasks:
  start: {call: "work:start", pool: parents, schedule: "every 1s", overlap: skip}
"""
WORK = """
import json, os, sys
from pathlib import Path
from jobrunner import JobRunner, current_run
from jobrunner.errors import NotFound, ResultTimeout, TaskFailed

HERE = Path(__file__).parent
jobs = JobRunner(HERE / "jobs.yaml")

@jobs.task
def add(a, b):
    return a + b

@jobs.task
def fails():
    raise ValueError("no such colour")

@jobs.task
def napping(seconds):
    import time
    time.sleep(seconds)
    return "rested"

def facts():
    found = {}
    child = add(1, 2)
    found["sum"] = child.get(timeout=50)
    found["state"] = str(child.state)
    found["many"] = [each.get(timeout=50) for each in add.map([(n, n) for n in range(20)])]
    try:
        fails().get(timeout=50)
    except TaskFailed as error:
        found["failed"] = error.outcome
    try:
        jobs.enqueue("ad", 1)
    except NotFound as error:
        found["unknown"] = [str(error), error.help]
    nap = napping(3600)
    try:
        nap.get(timeout=0.2)
    except ResultTimeout:
        found["late"] = True
    found["cancelled"] = [nap.cancel(), str(nap.wait(timeout=50))]
    later = add.schedule((3, 4), delay=3600)
    found["scheduled"] = [str(later.state), later.cancel(), str(later.state)]
    found["runs"] = sorted({run.task for run in jobs.runs(limit=500)})
    found["counts"] = jobs.counts()["succeeded"] >= 21
    found["run"] = current_run().task
    jobs.pause("napping")
    found["resumed"] = [jobs.resume("napping"), jobs.resume("napping")]
    files = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    found["opened"] = [path for path in files if "jobs.db" in path or str(HERE / "queue") in path]
    found["sqlite3"] = "sqlite3" in sys.modules
    return found

def start():
    if not (HERE / "found").exists():
        (HERE / "found.new").write_text(json.dumps(facts()))
        (HERE / "found.new").rename(HERE / "found")
"""


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("sqlite:///jobs.db", "process"),
        ("memory://", "process"),
        ("sqlite:///jobs.db", "thread"),
        ("memory://", "greenlet"),
        ("sqlite:///jobs.db", "async"),
        ("file:///queue", "thread"),
    ],
)
def test_a_task_uses_its_job_runner_as_a_client_does(project: Project, backend: str, kind: str) -> None:
    project.write(FILE.replace("BACKEND", backend).replace("KIND", kind))
    project.write(WORK, "work.py")
    project.start()
    answer = project.folder / "found"
    wait_until(answer.exists, project.logs)
    found = json.loads(answer.read_text())
    assert found == {
        "sum": 3,
        "state": "succeeded",
        "many": [2 * n for n in range(20)],
        "failed": "exception ValueError",
        "unknown": ["no task 'ad'", "did you mean 'add'?"],
        "late": True,
        "cancelled": [True, "cancelled"],
        "scheduled": ["scheduled", True, "cancelled"],
        "runs": ["add", "fails", "napping", "start"],
        "counts": True,
        "run": "start",
        "resumed": [True, False],
        "opened": [],
        "sqlite3": False,
    }


ASYNC = """
import asyncio
from pathlib import Path
from jobrunner import JobRunner

jobs = JobRunner(Path(__file__).with_name("jobs.yaml"))

@jobs.task(pool="loop")
async def tree(depth):
    if depth == 0:
        return 1
    children = [await jobs.aenqueue("tree", depth - 1) for _ in range(2)]
    return sum(await asyncio.gather(*[child.aget(timeout=50) for child in children]))
"""


def test_coroutines_wait_for_their_children_in_the_same_pool(project: Project) -> None:
    project.write("modules: [work]\npools: {loop: {kind: async, slots: 40}}\ntasks: {}\n")
    project.write(ASYNC, "work.py")
    project.start()
    run = project.answer("enqueue", "tree", "--args", "[4]", "--wait")["id"]
    assert project.answer("show", run)["result"] == 16


NESTED = """
from pathlib import Path
from jobrunner import JobRunner

jobs = JobRunner(Path(__file__).with_name("jobs.yaml"))

@jobs.task(pool="single")
def chain(depth):
    return 0 if depth == 0 else 1 + chain(depth - 1).get(timeout=50)

@jobs.task(pool="single")
async def achain(depth):
    if depth == 0:
        return 0
    below = await jobs.aenqueue("achain", depth - 1)
    return 1 + await below.aget(timeout=50)
"""


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        *(("process", "chain"), ("thread", "chain"), ("greenlet", "chain"), ("async", "chain")),
        *(("async", "achain"), ("thread", "achain"), ("process", "achain")),
    ],
)
def test_a_run_that_waits_for_another_leaves_its_only_slot_to_it(
    project: Project, kind: str, task: str
) -> None:
    project.write(f"modules: [work]\npools: {{single: {{kind: {kind}, slots: 1}}}}\ntasks: {{}}\n")
    project.write(NESTED, "work.py")
    project.start()
    run = project.answer("enqueue", task, "--args", "[3]", "--wait")["id"]
    assert project.answer("show", run)["result"] == 3


LOCKS = """
import os, time
from pathlib import Path
from jobrunner.context import asking
from jobrunner.storage.remote import RemoteStorage

def storage():
    return RemoteStorage(asking())

def hold(path):
    got = storage().acquire("database", 30)
    Path(path).write_text("held")
    while not Path(path + ".go").exists():
        time.sleep(0.01)
    return got  # never given back: the attempt is over

def tries(seconds):
    got = storage().acquire("database", seconds)
    return [got, storage().release("database"), storage().release("database")]
"""


def test_an_extra_lock_is_the_runs_own_and_ends_with_its_attempt(project: Project) -> None:
    # rule 17
    project.write(
        "locks: {database: {slots: 1}}\npools: {io: {kind: thread, slots: 4}}\n"
        'tasks:\n  hold: {call: "work:hold", pool: io}\n  tries: {call: "work:tries", pool: io}\n'
    )
    project.write(LOCKS, "work.py")
    project.start()
    held = project.folder / "held"
    holder = project.answer("enqueue", "hold", "--args", json.dumps([str(held)]))["id"]
    wait_until(held.exists, project.logs)
    busy = project.answer("enqueue", "tries", "--args", "[0.2]", "--wait")["id"]
    assert project.answer("show", busy)["result"] == [False, False, False]
    waiting = project.answer("enqueue", "tries", "--args", "[50]")["id"]
    Path(f"{held}.go").touch()
    assert project.answer("enqueue", "tries", "--args", "[50]", "--wait", exit_code=0)
    wait_until(lambda: project.answer("show", waiting)["state"] == "succeeded", project.logs)
    assert project.answer("show", holder)["result"] is True
    assert project.answer("show", waiting)["result"] == [True, True, False]
