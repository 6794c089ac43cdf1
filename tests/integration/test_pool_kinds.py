"""Each kind of pool in a real supervisor, from the file to the history."""

from __future__ import annotations

from tests.live import Project

FILE = """
pools:
  processes: {kind: process, slots: 1}
  threads: {kind: thread, slots: 4, env: {WHERE: threads}}
  greenlets: {kind: greenlet, slots: 4}
  loop: {kind: async, slots: 4}
env: {WHO: shop}
tasks:
  processes: {call: "work:plain", pool: processes}
  threads: {call: "work:plain", pool: threads}
  greenlets: {call: "work:plain", pool: greenlets}
  loop: {call: "work:plain", pool: loop}
  awaited: {call: "work:awaited", pool: loop, timeout: 200ms}
"""
WORK = """
import asyncio, os, sys
from jobrunner import current_run

def plain():
    print("from", current_run().task)
    patched = "gevent.monkey" in sys.modules
    return [current_run().task, os.environ.get("WHO"), os.environ.get("WHERE"), os.getcwd(), patched]

async def awaited():
    await asyncio.sleep(3600)
"""


def test_a_task_runs_in_the_kind_of_pool_that_it_names(project: Project) -> None:
    project.write(FILE)
    project.write(WORK, "work.py")
    project.start()
    for name in ("processes", "threads", "greenlets", "loop"):
        run = project.answer("enqueue", name, "--wait")["id"]
        shown = project.answer("show", run)
        where = "threads" if name == "threads" else None
        assert shown["state"] == "succeeded"
        assert shown["result"] == [name, "shop", where, str(project.folder), name == "greenlets"]
        assert project.jobrunner("logs", run).stdout.endswith(f"from {name}\n")


def test_a_timeout_on_the_event_loop_is_recorded_as_one(project: Project) -> None:
    project.write(FILE)
    project.write(WORK, "work.py")
    project.start()
    assert project.jobrunner("enqueue", "awaited", "--wait").returncode == 1
    found = project.answer("history", "awaited")
    assert [(run["state"], run["outcome"]) for run in found] == [("failed", "timeout")]
