"""JobRunner inside tasks: which storage it means there, wherever the task's folder is."""

from __future__ import annotations

from jobrunner import RunHandle
from tests.app.conftest import Import
from tests.live import Project

TASKS = """
import os
from jobrunner import JobRunner

jobs = JobRunner(backend="sqlite:///kept/jobs.db")


@jobs.task(cwd="elsewhere")
def outer(n):
    return [os.path.basename(os.getcwd()), type(jobs.storage).__name__, inner(n).get(timeout=60)]


@jobs.task
def inner(n):
    return n + 1
"""


def test_a_task_in_another_folder_means_the_same_storage(project: Project, import_here: Import) -> None:
    (project.folder / "elsewhere").mkdir()
    (project.folder / "kept").mkdir()
    project.write(TASKS, "demo.py")
    demo = import_here("demo")
    project.start(serve="demo:jobs")
    handle: RunHandle[list[object]] = demo.outer(1)
    assert handle.get(timeout=60) == ["elsewhere", "RemoteStorage", 2]
    assert not (project.folder / "elsewhere/kept").exists()
