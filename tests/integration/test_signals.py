"""Signals and hooks through a real supervisor: who hears what, where, and in which order."""

from __future__ import annotations

from jobrunner import JobRunner
from tests.live import PATIENCE, Project, wait_until

FILE = """
modules: [work]
pools: {side: {kind: thread, slots: 4}}
tasks:
  quiet: {call: "other:quiet"}
"""
WORK = """
import os, sys, time
from pathlib import Path
from jobrunner import JobRunner

HERE = Path(__file__).parent
jobs = JobRunner(HERE / "jobs.yaml")

def note(text):
    with open(HERE / "heard", "a") as file:
        file.write(text + "\\n")

@jobs.signal()
def everything(notice):
    note(f"{notice.task}: {notice.signal} {notice.attempt} {notice.outcome}")

@jobs.signal("complete")
def after_the_write(notice):
    note(f"{notice.task}: stored {jobs.handle(notice.run_id).result()!r}")
    note(f"{notice.task}: in the worker of the task {os.environ.get('JOBRUNNER_TASK') == notice.task}")

@jobs.signal("error")
def broken(notice):
    raise RuntimeError("a receiver that fails")

@jobs.task
def good():
    return "value"

@jobs.task(retries={"max": 1, "delay": "100ms"})
def bad():
    raise ValueError("no")

@jobs.task(timeout="300ms", kill_after="1s")
def slow():
    time.sleep(3600)

@jobs.task(on_success=["good"])
def before():
    return None

@jobs.task(pool="side")
def beside():
    return None

@jobs.task(rate_limit="1/1h")
def limited():
    return None

@jobs.task(max_crashes=2)
def crashes():
    os.kill(os.getpid(), 9)

@jobs.task(lock={"name": "door", "on_busy": "skip"})
def refused():
    return None

@jobs.task(lock="door", pool="side")
def holds():
    return refused().wait(timeout=50)

@jobs.task
def stays():
    (HERE / "stays").touch()
    while not (HERE / "go").exists():
        time.sleep(0.01)
"""
OTHER = """
from pathlib import Path
from jobrunner import JobRunner

jobs = JobRunner(Path(__file__).with_name("jobs.yaml"))

@jobs.signal("complete")
def heard(notice):
    with open(Path(__file__).with_name("other"), "a") as file:
        file.write(notice.task + "\\n")

def quiet():
    return None
"""


def heard(project: Project, task: str, last: str, times: int = 1) -> list[str]:
    """What was heard of a task, once the last of it was: first in its workers, then in the listener.

    The two are processes of their own: each has its order, and together they have none.
    """
    path = project.folder / "heard"

    def lines() -> list[str]:
        text = path.read_text() if path.exists() else ""
        return [line.partition(": ")[2] for line in text.splitlines() if line.startswith(f"{task}: ")]

    wait_until(lambda: lines().count(last) >= times, lambda: f"{lines()}\n{project.logs()}")
    found = lines()
    return sorted(found, key=lambda line: not line.startswith("executing"))


def started(project: Project, more: str = "") -> Project:
    written(project, more).start()
    return project


def written(project: Project, more: str = "") -> Project:
    project.write(FILE + more)
    project.write(WORK, "work.py")
    project.write(OTHER, "other.py")
    return project


def test_a_success_is_heard_after_its_result_is_stored(project: Project) -> None:
    # rule 21
    started(project).jobrunner("enqueue", "good", "--wait")
    assert heard(project, "good", "in the worker of the task False") == [
        "executing 1 None",
        "complete 1 ok",
        "stored 'value'",
        "in the worker of the task False",
    ]


def test_each_failed_attempt_is_heard_and_what_comes_of_it(project: Project) -> None:
    started(project).jobrunner("enqueue", "bad", "--wait")
    assert heard(project, "bad", "error 2 exception ValueError") == [
        "executing 1 None",
        "executing 2 None",
        "error 1 exception ValueError",
        "retrying 1 exception ValueError",
        "error 2 exception ValueError",
    ]
    text = project.logs()
    wait_until(lambda: "a receiver that fails" in project.logs(), lambda: text)


def test_a_timeout_is_heard_as_one_and_a_callback_as_enqueued(project: Project) -> None:
    started(project).jobrunner("enqueue", "slow", "--wait")
    assert heard(project, "slow", "timeout 1 timeout") == ["executing 1 None", "timeout 1 timeout"]
    project.jobrunner("enqueue", "before", "--wait")
    assert heard(project, "good", "complete 1 ok")[:2] == ["executing 1 None", "enqueued 0 None"]


def test_the_kinds_of_workers_are_heard_alike(project: Project) -> None:
    started(project).jobrunner("enqueue", "beside", "--wait")
    assert heard(project, "beside", "complete 1 ok")[:2] == ["executing 1 None", "complete 1 ok"]


def test_a_module_that_a_worker_imports_brings_its_receivers(project: Project) -> None:
    started(project).jobrunner("enqueue", "quiet", "--wait")
    other = project.folder / "other"
    wait_until(other.exists, project.logs)
    project.jobrunner("enqueue", "good", "--wait")
    wait_until(lambda: "good" in other.read_text().split(), project.logs)


def test_runs_that_end_while_they_wait_are_heard(project: Project) -> None:
    started(project).jobrunner("pause", "good")
    run = project.answer("enqueue", "good")["id"]
    project.jobrunner("cancel", run)
    assert heard(project, "good", "cancelled 0 None") == ["cancelled 0 None"]
    brief = project.answer("enqueue", "good", "--expires", "1s")["id"]
    wait_until(lambda: project.answer("show", brief)["state"] == "expired", project.logs)
    assert heard(project, "good", "expired 0 None") == ["cancelled 0 None", "expired 0 None"]
    with JobRunner(project.file) as jobs:
        jobs["bad"].revoke(once=True)
        jobs.enqueue("bad")
    assert heard(project, "bad", "revoked 0 None") == ["revoked 0 None"]


def test_runs_that_are_held_back_or_refused_are_heard(project: Project) -> None:
    # rules 17 and 18
    started(project)
    with JobRunner(project.file) as jobs:
        jobs.enqueue_many([("limited", [], {})] * 3)
        jobs.enqueue("holds")
    heard(project, "limited", "executing 1 None")
    lines = heard(project, "limited", "rate_limited 0 None", times=2)
    assert lines.count("executing 1 None") == 1
    assert heard(project, "refused", "locked 0 None") == ["enqueued 0 None", "locked 0 None"]
    assert heard(project, "limited", "rate_limited 0 None").count("rate_limited 0 None") == 2


def test_ticks_are_heard_and_pipelines_to_their_end(project: Project) -> None:
    # rules 6 and 35
    pipelines = 'pipelines:\n  line: {steps: [good, bad, good], schedule: "every 1s", overlap: skip}\n'
    started(project, pipelines)
    lines = heard(project, "line", "error 0 None")
    assert lines[0] == "enqueued 0 None"
    assert set(lines) - {"skipped 0 None"} == {"enqueued 0 None", "error 0 None"}  # skipped: overlap
    lines = heard(project, "good", "skipped 0 None")  # upstream failed
    assert {"enqueued 0 None", "executing 1 None", "complete 1 ok"} <= set(lines)


def test_a_worker_killed_by_a_signal_is_heard_as_an_interruption(project: Project) -> None:
    # rule 15
    started(project)
    with JobRunner(project.file) as jobs:
        jobs.enqueue("crashes")
    assert heard(project, "crashes", "error 2 crashed") == [
        *("executing 1 None", "executing 2 None"),
        *("interrupted 1 crashed", "interrupted 2 crashed", "error 2 crashed"),
    ]


def test_what_a_dead_supervisor_ran_is_heard_from_the_next_one(project: Project) -> None:
    # rule 32
    supervisor = written(project).start()
    with JobRunner(project.file) as jobs:
        handle = jobs.enqueue("stays")
        wait_until(lambda: handle.record().started_at is not None, project.logs)
    supervisor.kill()
    project.start()
    heard(project, "stays", "interrupted 1 interrupted")
    (project.folder / "go").touch()
    lines = heard(project, "stays", "complete 2 ok")
    ends = [line for line in lines if line.startswith(("interrupted", "complete"))]
    assert ends == ["interrupted 1 interrupted", "complete 2 ok"]


HOOKED = """
from pathlib import Path
from jobrunner import JobRunner, current_run
import os

HERE = Path(__file__).parent
jobs = JobRunner(HERE / "jobs.yaml")

def note(text):
    with open(HERE / "hooks", "a") as file:
        file.write(f"{text} {os.getpid()}\\n")

@jobs.on_startup
def up():
    note("up")

@jobs.on_shutdown
def down():
    note("down")

@jobs.signal("complete")
def done(notice):
    note("told")

def pool_down():
    note("pool")

@jobs.task
def plain(): note("plain")

@jobs.task(pool="threads")
def threaded(): note("threads")

@jobs.task(pool="greenlets")
def green(): note("greenlets")

@jobs.task(pool="loop")
async def later(): note("loop")
"""


def test_workers_of_every_kind_and_the_listener_are_told_of_the_end_of_the_service(project: Project) -> None:
    # rule 29
    ends = 'on_shutdown: "hooked:pool_down"'
    project.write(
        "modules: [hooked]\npools:\n"
        f"  default: {{slots: 1, {ends}}}\n"
        f"  threads: {{kind: thread, slots: 2, {ends}}}\n"
        f"  greenlets: {{kind: greenlet, slots: 2, {ends}}}\n"
        f"  loop: {{kind: async, slots: 2, {ends}}}\n"
    )
    project.write(HOOKED, "hooked.py")
    supervisor = project.start()
    with JobRunner(project.file) as jobs:
        names = ("plain", "threaded", "green", "later")
        jobs.enqueue_many([(name, [], {}) for name in names]).wait(timeout=PATIENCE)

    def lines() -> list[list[str]]:
        return [line.split() for line in (project.folder / "hooks").read_text().splitlines()]

    wait_until(lambda: [word for word, _ in lines()].count("told") == 4, project.logs)
    assert supervisor.stop() == 0
    for task in ("plain", "threads", "greenlets", "loop"):
        pid = next(pid for word, pid in lines() if word == task)
        assert [word for word, of in lines() if of == pid] == ["up", task, "down", "pool"]
    listener = next(pid for word, pid in lines() if word == "told")
    assert [word for word, of in lines() if of == listener] == ["up", *["told"] * 4, "down"]


def test_an_orderly_end_lets_the_receivers_hear_what_waits(project: Project) -> None:
    project.write(FILE)
    project.write(WORK, "work.py")
    project.write(OTHER, "other.py")
    assert project.jobrunner("enqueue", "good", "--force").returncode == 0
    done = project.jobrunner("run", "jobs.yaml", "--drain")
    assert done.returncode == 0, done
    assert "good: complete 1 ok" in (project.folder / "heard").read_text().splitlines()
