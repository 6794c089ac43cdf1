"""Being process 1, as in a container: strangers are collected, exit codes stay right, SIGTERM works (F11)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.checker import children, client, command_line, enqueue
from tests.live import PATIENCE, LiveSupervisor, Project, wait_until

ORPHANS = 200
FILE = """
pools: {commands: {slots: 4}}
tasks:
  orphans:
    command: 'for i in 1 2 3 4 5 6 7 8 9 10; do (true & (true &)) & done; exit 7'
    success_codes: [7]
  sevens: {command: exit 7}
  long: {command: "exec sleep 1000", kill_after: 1s}
  call: {call: "os:getppid"}
shutdown_timeout: 1s
"""


def alone() -> list[str]:
    """What puts the next program into a pid namespace of its own; skips where that is not allowed."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--pid", "--fork", "--kill-child", "--mount-proc"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no pid namespace of its own here: {tried.stderr.strip()}")
    return command


@pytest.fixture
def first(project: Project) -> Iterator[LiveSupervisor]:
    """A supervisor that is process 1."""
    project.write(FILE)
    supervisor = project.start(prefix=alone())
    yield supervisor
    if supervisor.process.poll() is None:
        os.kill(process_one(supervisor), signal.SIGTERM)  # `unshare` itself takes no notice of it
        assert supervisor.wait() == 0
    supervisor.close()


def process_one(supervisor: LiveSupervisor) -> int:
    """Its pid, as seen from here."""
    (pid,) = children(supervisor.pid)
    return pid


def zombies(pid: int) -> list[int]:
    return [child for child in children(pid) if state_of(child) == "Z"]


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_it_is_process_one_and_runs_callables(project: Project, first: LiveSupervisor) -> None:
    done = project.jobrunner("enqueue", "call", "--wait")
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done


def test_strangers_are_collected_and_exit_codes_stay_right(project: Project, first: LiveSupervisor) -> None:
    with client(project) as storage:
        for task in ("orphans", "sevens"):
            enqueue(storage, task, [{}] * (ORPHANS // 10))
    wait_until(lambda: len(first.ended("sevens")) == ORPHANS // 10, first.log)
    wait_until(lambda: len(first.ended("orphans")) == ORPHANS // 10, first.log)
    assert {event["exit_code"] for event in first.ended("sevens")} == {7}
    assert {event["state"] for event in first.ended("orphans")} == {"succeeded"}
    pid = process_one(first)
    wait_until(lambda: zombies(pid) == [], lambda: f"zombies: {zombies(pid)}")


def test_a_stranger_that_comes_from_outside_is_collected_too(first: LiveSupervisor) -> None:
    pid = process_one(first)
    enter = ["nsenter", "--target", str(pid), "--pid", *([] if os.geteuid() == 0 else ["--user"])]
    inside = subprocess.run([*enter, "sh", "-c", "(sleep 0.2 & echo $!)"], capture_output=True, text=True)
    assert inside.returncode == 0, inside
    wait_until(lambda: not zombies(pid) and not sleepers(pid), lambda: f"left: {children(pid)}")


def sleepers(pid: int) -> list[int]:
    return [child for child in children(pid) if command_line(child).startswith(b"sleep")]


def test_sigterm_ends_it_in_order(project: Project, first: LiveSupervisor) -> None:
    project.jobrunner("enqueue", "long")
    wait_until(lambda: project.answer("status")["counts"]["running"] == 1, first.log)
    os.kill(process_one(first), signal.SIGTERM)
    assert first.process.wait(PATIENCE) == 0
    first.wait_for("stopped", interrupted=1)


def test_sigterm_ends_it_while_the_file_is_being_read(project: Project) -> None:
    """The kernel drops what process 1 has no handler for: a container would not stop before its KILL."""
    tasks = (f"  task-{number}: {{command: 'true', schedule: hourly}}\n" for number in range(5000))
    project.write("tasks:\n" + "".join(tasks))  # takes seconds to read
    supervisor = project.start(prefix=alone(), ready=False)
    wait_until(lambda: reads_file(supervisor), supervisor.log)
    os.kill(process_one(supervisor), signal.SIGTERM)
    assert supervisor.process.wait(PATIENCE) == 0


def reads_file(supervisor: LiveSupervisor) -> bool:
    """Whether the child that compiles the file is there."""
    lines = (command_line(child) for pid in children(supervisor.pid) for child in children(pid))
    return any(b"jobrunner.config" in line for line in lines)


def test_it_is_told_of_this_python(first: LiveSupervisor) -> None:
    assert Path(f"/proc/{process_one(first)}/exe").samefile(sys.executable)
