"""Reload: all or nothing, loud, and without hurting what runs (semantics 24 to 28)."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from jobrunner.control import ask, control_path
from jobrunner.model import State
from jobrunner.storage import RunFilter
from tests.drills.checker import children, client, command_line
from tests.live import PATIENCE, Event, LiveSupervisor, Project, wait_until

TASKS = """
tasks:
  kept: {command: echo kept, schedule: hourly}
  greet: {command: echo hello}
"""


def reload(project: Project, *options: str, exit_code: int = 0) -> Any:
    return project.answer("reload", *options, exit_code=exit_code)


def reload_at_once(supervisor: LiveSupervisor, project: Project) -> Mapping[str, Any]:
    """The same without a process of its own."""
    path = control_path(str(project.folder / ".jobrunner"), supervisor.pid)
    return ask(path, {"ask": "reload"}, patience=PATIENCE)


def blind(supervisor: LiveSupervisor) -> None:
    """Stop the process that watches the files: only who asks gets a reload now."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(supervisor.pid)}
    [watching] = [pid for pid, line in lines.items() if b"jobrunner.watch" in line]
    os.kill(watching, signal.SIGSTOP)


def write_anew(project: Project, text: str, name: str = "jobs.yaml") -> None:
    """As most editors do: another file takes the place of the old one."""
    project.write(text, f"{name}.new").rename(project.folder / name)


def state_of(project: Project, run_id: str) -> State:
    with client(project) as storage:
        return storage.run(run_id).state


def supervisor_of(project: Project) -> Any:
    return project.answer("status")["supervisors"][0]


def tasks_of(project: Project, *options: str) -> list[Any]:
    found: list[Any] = project.answer("list", *options)["tasks"]
    return found


# --- what asks for it (24) ------------------------------------------------------------------------------


def test_a_change_on_disk_is_in_force_by_itself(project: Project) -> None:
    # rule 24
    project.write(TASKS)
    supervisor = project.start()
    write_anew(project, TASKS.replace("greet", "welcome"))
    event = supervisor.wait_for("reloaded", by="a change on disk")
    assert (event["added"], event["removed"]) == (["welcome"], ["greet"])
    assert project.answer("enqueue", "welcome")["task"] == "welcome"


def test_includes_and_env_files_are_watched_too(project: Project) -> None:
    # rule 24
    project.write("TEXT=one\n", ".env")
    (project.folder / "jobs.d").mkdir()
    project.write("include: [jobs.d/*.yaml]\nenv_file: [.env]\ntasks:\n  say: {command: echo $TEXT}\n")
    supervisor = project.start()
    project.write("tasks:\n  more: {command: 'true'}\n", "jobs.d/more.yaml")
    assert supervisor.wait_for_number(1, "reloaded")["added"] == ["more"]
    project.write("TEXT=two\n", ".env")
    assert "say" in supervisor.wait_for_number(2, "reloaded")["changed"]
    (project.folder / "jobs.d/more.yaml").unlink()
    assert supervisor.wait_for_number(3, "reloaded")["removed"] == ["more"]


def test_a_hangup_reloads_and_a_storm_of_them_is_few_reloads(project: Project) -> None:
    # rule 24; a hundred in a moment are one wish each time it is looked at
    project.write(TASKS)
    supervisor = project.start()
    for _ in range(100):
        supervisor.process.send_signal(signal.SIGHUP)
    supervisor.wait_for("reloaded", by="SIGHUP")
    reload(project)
    told = [each["by"] for each in supervisor.events if each["event"] == "reloaded"]
    assert told.count("SIGHUP") <= 2
    assert told[-1] in ("jobrunner reload", "SIGHUP")  # one that came in meanwhile was served with it


def test_a_hangup_while_it_stops_changes_nothing(project: Project) -> None:
    close_gates(project)
    project.write("shutdown_timeout: 60s\ntasks:\n  wait: {command: sh wait.sh gate}\n")
    supervisor = project.start("--log-level", "debug")
    run_id = project.answer("enqueue", "wait")["id"]
    supervisor.wait_for("started", run=run_id)
    supervisor.process.send_signal(signal.SIGTERM)
    supervisor.wait_for("stopping")
    supervisor.process.send_signal(signal.SIGHUP)
    refused = project.answer("reload", exit_code=1)
    assert refused["verdict"] == "refused"
    open_gate(project)
    assert supervisor.wait() == 0
    assert state_of(project, run_id) is State.SUCCEEDED


def test_reload_shows_the_difference(project: Project) -> None:
    project.write(TASKS)
    blind(project.start())
    changed = "timezone: Europe/Paris\n" + TASKS.replace("hello", "good day") + "  new: {command: 'true'}\n"
    write_anew(project, changed.replace("kept:", "held:"))
    shown = project.jobrunner("reload", "--dry-run")
    assert shown.returncode == 0, shown
    lines = ["+ held", "+ new", "~ greet", "- kept", "~ timezone (a setting of the file)"]
    assert shown.stdout.splitlines() == [*lines, "not applied: --dry-run"]
    answer = reload(project)
    assert (answer["added"], answer["removed"]) == (["held", "new"], ["kept"])
    assert (answer["changed"], answer["settings"]) == (["greet"], ["timezone"])
    assert supervisor_of(project)["config_hash"] == answer["config_hash"]
    write_anew(project, f"# a comment more\n{changed.replace('kept:', 'held:')}")
    nothing, before = project.jobrunner("reload").stdout.splitlines()
    assert nothing == "nothing has changed: tasks and settings are what they were; workers start anew"
    assert before.startswith("the change before is in force since 20")
    assert before.endswith("(jobrunner reload): + held, + new, ~ greet, - kept, ~ timezone")


def test_a_dry_run_changes_nothing(project: Project) -> None:
    project.write(TASKS)
    link = project.folder / "jobs.yaml"
    project.start()
    before = supervisor_of(project)["config_hash"]
    answer = reload(project, "--dry-run")
    assert (answer["verdict"], answer["applied"]) == ("unchanged", False)
    assert supervisor_of(project)["config_hash"] == before
    assert link.exists()


def test_nobody_to_ask_is_an_exit_code_of_its_own(project: Project) -> None:
    project.write(TASKS)
    done = project.jobrunner("reload")
    assert done.returncode == 3
    assert "no supervisor" in done.stderr
    project.start().stop()
    assert project.jobrunner("reload").returncode == 3


# --- all or nothing, and loud (25, 28) -------------------------------------------------------------------


def test_a_file_with_an_error_changes_nothing_and_is_loud(project: Project) -> None:
    # rule 25, invariant I10
    project.write(TASKS)
    supervisor = project.start()
    before = supervisor_of(project)
    write_anew(project, TASKS + "  broken: {comand: 'true'}\n  added: {command: 'true'}\n")
    assert "comand" in supervisor.wait_for("reload-refused")["problems"]
    answer = reload(project, exit_code=5)
    assert (answer["applied"], [each["code"] for each in answer["problems"]]) == (False, ["unknown-key"])
    done = project.jobrunner("reload")
    assert (done.returncode, "did you mean 'command'" in done.stderr) == (5, True)
    wait_until(lambda: "comand" in (supervisor_of(project)["config_error"] or ""), lambda: "not told")
    now = supervisor_of(project)
    assert now["config_hash"] == before["config_hash"]
    assert "the file was not taken" in project.jobrunner("status").stdout
    assert project.jobrunner("enqueue", "added").returncode == 4
    write_anew(project, TASKS)
    supervisor.wait_for("reloaded", by="a change on disk")
    wait_until(lambda: supervisor_of(project)["config_error"] is None, lambda: "the error stays")


def test_the_same_error_is_told_once(project: Project) -> None:
    project.write(TASKS)
    supervisor = project.start()
    write_anew(project, "tasks: []\n")
    supervisor.wait_for("reload-refused")
    write_anew(project, "tasks: []\n\n\n")  # another content, the same fault
    write_anew(project, TASKS + "  more: {command: 'true'}\n")
    supervisor.wait_for("reloaded")
    assert [each["event"] for each in supervisor.events].count("reload-refused") == 1


def test_what_mends_a_broken_include_is_noticed(project: Project) -> None:
    # rule 24: what a refused file names is watched as well
    project.write(TASKS)
    supervisor = project.start()
    write_anew(project, "include: [more.yaml]\n" + TASKS)
    supervisor.wait_for("reload-refused")
    project.write("tasks:\n  more: {command: 'true'}\n", "more.yaml")
    assert supervisor.wait_for("reloaded")["added"] == ["more"]


def test_a_file_that_is_gone_or_empty_removes_nothing(project: Project) -> None:
    # F83: to remove every task, write tasks: {}
    project.write(TASKS)
    supervisor = project.start()
    project.file.unlink()
    supervisor.wait_for("reload-refused")
    project.file.touch()
    supervisor.wait_for_number(2, "reload-refused")
    assert {each["name"] for each in tasks_of(project, "--backend", url(project))} == {"kept", "greet"}
    write_anew(project, "tasks: {}\n")
    assert supervisor.wait_for("reloaded")["removed"] == ["kept", "greet"]


def test_another_backend_needs_a_restart(project: Project) -> None:
    # rule 28
    project.write(TASKS)
    supervisor = project.start()
    write_anew(project, "backend: sqlite:///other.db\n" + TASKS.replace("greet", "welcome"))
    assert "needs a restart" in supervisor.wait_for("reload-refused")["problems"]
    assert supervisor.process.poll() is None

    def told() -> bool:
        [shown] = project.answer("status", "--backend", url(project))["supervisors"]
        return "needs a restart" in (shown["config_error"] or "")

    wait_until(told, lambda: "status does not say it")
    answer = project.answer("reload", "--backend", url(project), exit_code=1)
    assert [each["code"] for each in answer["problems"]] == ["needs-restart"]


def url(project: Project) -> str:
    return f"sqlite:///{project.folder}/.jobrunner/jobs.db"


# --- what runs is not hurt (26) --------------------------------------------------------------------------

GATE = """
tasks:
  good: {{command: 'echo begun {version}; sh wait.sh gate; echo {version}', retries: 3}}
  bad: {{command: 'sh wait.sh gate2; exit 1', retries: {{max: 3, delay: 10ms}}}}
  other: {{command: echo {version}}}
"""


def close_gates(project: Project) -> None:
    """From now on `sh wait.sh NAME` waits until the gate of this name is opened."""
    project.write('until [ -e "$1" ]; do sleep 0.05; done\n', "wait.sh")


def open_gate(project: Project, name: str = "gate") -> None:
    (project.folder / name).touch()


def test_a_run_survives_ten_reloads_and_the_removal_of_its_task(project: Project) -> None:
    # rules 12, 20 and 26
    close_gates(project)
    project.write(GATE.format(version=0))
    supervisor = project.start("--log-level", "debug")
    good, bad = (project.answer("enqueue", name)["id"] for name in ("good", "bad"))
    for run_id in (good, bad):
        supervisor.wait_for("started", run=run_id)
    blind(supervisor)
    for version in range(1, 11):
        write_anew(project, GATE.format(version=version))
        assert reload_at_once(supervisor, project)["changed"] == ["good", "other"]
    write_anew(project, "tasks:\n  other: {command: echo other}\n")
    assert reload_at_once(supervisor, project)["removed"] == ["good", "bad"]
    open_gate(project, "gate2")
    assert supervisor.wait_for("attempt", run=bad)["state"] == "failed"
    open_gate(project)
    supervisor.wait_for("attempt", run=good)
    wait_until(lambda: state_of(project, good).is_final, lambda: "its end was not written")
    with client(project) as storage:
        run = storage.run(good)
        assert (run.state, json.loads(run.result or "")) == (State.SUCCEEDED, "begun 0\n0")
        assert (storage.run(bad).state, storage.run(bad).attempt) == (State.FAILED, 1)
    assert [each["event"] for each in supervisor.events].count("attempt") == 2


def test_ticks_and_retries_of_a_removed_task_go_with_it_and_what_a_person_enqueued_waits(
    project: Project,
) -> None:
    # rule 20
    tasks = """
pools: {commands: {slots: 1}}
tasks:
  block: {command: sh wait.sh gate, priority: 9}
  tick: {command: 'true', schedule: every 1s, overlap: allow}
  fails: {command: exit 1, priority: 5, retries: {max: 3, delay: 1h}}
  asked: {command: echo asked}
"""
    close_gates(project)
    project.write(tasks)
    supervisor = project.start("--log-level", "debug")
    fails = project.answer("enqueue", "fails")["id"]
    supervisor.wait_for("attempt", run=fails)
    block = project.answer("enqueue", "block")["id"]
    supervisor.wait_for("started", run=block)
    asked = project.answer("enqueue", "asked")["id"]
    wait_until(lambda: bool(queued(project, "tick")), lambda: "no tick waits")
    write_anew(project, "tasks:\n  block: {command: sh wait.sh gate}\n")
    reload(project)
    with client(project) as storage:
        gone = storage.runs(RunFilter(tasks=("tick", "fails"), states=(State.CANCELLED,), limit=1000))
        assert {run.reason for run in gone} == {"removed"}
        assert {run.task for run in gone} == {"tick", "fails"}
        assert storage.run(asked).state is State.QUEUED
    assert not queued(project, "tick")
    write_anew(project, tasks)
    reload(project)
    open_gate(project)
    wait_until(lambda: state_of(project, asked) is State.SUCCEEDED, lambda: "it still waits")


def queued(project: Project, task: str) -> list[str]:
    with client(project) as storage:
        found = storage.runs(RunFilter(tasks=(task,), states=(State.QUEUED,), limit=1000))
        return [run.id for run in found]


def test_tasks_removed_while_nobody_was_there_lose_their_retries_at_the_start(project: Project) -> None:
    # rule 20
    project.write("tasks:\n  fails: {command: exit 1, retries: {max: 3, delay: 1h}}\n")
    supervisor = project.start()
    run_id = project.answer("enqueue", "fails")["id"]
    supervisor.wait_for("attempt", run=run_id)
    supervisor.stop()
    project.write(TASKS)
    project.start()
    with client(project) as storage:
        run = storage.run(run_id)
        assert (run.state, run.reason) == (State.CANCELLED, "removed")


def test_unchanged_schedules_do_not_move_and_a_new_one_fires_for_nothing_before(project: Project) -> None:
    # rules 11 and 26
    text = "tasks:\n  steady: {command: 'true', schedule: every 90s}\n"
    project.write(text)
    project.start()
    before = next_at(project, "steady")
    write_anew(project, text + "  new: {command: 'true', schedule: every 1h}\n")
    reload(project)
    now = next_at(project, "steady")
    assert now == before or now > before  # its tick may have come meanwhile; it never goes back
    with client(project) as storage:
        assert storage.runs(RunFilter(tasks=("new",))) == []


def next_at(project: Project, task: str) -> Any:
    return next(each["next_at"] for each in project.answer("status")["tasks"] if each["name"] == task)


def test_a_reboot_schedule_never_fires_at_a_reload(project: Project) -> None:
    # rule 11
    project.write(TASKS)
    project.start()
    write_anew(project, TASKS + "  boot: {command: 'true', schedule: reboot}\n  last: {command: 'true'}\n")
    reload(project)
    last = project.jobrunner("enqueue", "last", "--wait")
    assert last.returncode == 0, last
    with client(project) as storage:
        assert storage.runs(RunFilter(tasks=("boot",))) == []


def test_a_changed_pool_gets_new_slots_and_the_old_one_drains(project: Project) -> None:
    # rule 26
    close_gates(project)
    text = "pools: {{commands: {{slots: {slots}}}}}\ntasks:\n  wait: {{command: sh wait.sh gate}}\n"
    project.write(text.format(slots=1))
    supervisor = project.start("--log-level", "debug")
    first, second = (project.answer("enqueue", "wait")["id"] for _ in range(2))
    supervisor.wait_for("started", run=first)
    write_anew(project, text.format(slots=2))
    supervisor.wait_for("reloaded")
    supervisor.wait_for("started", run=second)
    [pool] = [each for each in project.answer("status")["pools"] if each["name"] == "commands"]
    assert pool["slots"] == 2
    open_gate(project)
    for run_id in (first, second):
        assert supervisor.wait_for("attempt", run=run_id)["state"] == "succeeded"


# --- code (25, 27) ---------------------------------------------------------------------------------------

CALLS = """
tasks:
  version: {call: "code:version"}
  takes: {call: "code:takes"}
"""


def code(project: Project, version: int) -> Path:
    text = f"def version():\n    return {version}\ndef takes(image, width=1):\n    return image\n"
    return project.write(text, "code.py")


def result(project: Project, *arguments: str) -> str:
    done = project.jobrunner("enqueue", *arguments, "--wait")
    assert done.returncode == 0, done
    return done.stdout.strip()


def test_new_code_is_used_after_a_reload(project: Project) -> None:
    # rule 27
    code(project, 1)
    project.write(CALLS)
    supervisor = project.start()
    assert result(project, "version") == "1"
    code(project, 20)
    for count, options in enumerate((("--code",), ()), 1):
        assert reload(project, *options)["applied"]
        assert supervisor.wait_for_number(count, "reloaded")["fresh"]
        assert result(project, "version") == "20"


def wait_for_catalogue(project: Project, task: str, key: str, wanted: object) -> None:
    def found() -> bool:
        return any(each["name"] == task and each[key] == wanted for each in tasks_of(project))

    wait_until(found, lambda: f"{key} of {task} is not {wanted}: {project.answer('list')}")


def test_arguments_are_checked_at_the_enqueue(project: Project) -> None:
    code(project, 1)
    project.write(CALLS)
    project.start()
    wait_for_catalogue(project, "takes", "parameters", ["image", "width"])
    assert result(project, "takes", "--args", "image=sea") == "sea"
    for wrong in ('{"imag": 1}', "[1, 2, 3]", "{}"):
        done = project.jobrunner("enqueue", "takes", "--args", wrong)
        assert (done.returncode, "takes" in done.stderr) == (2, True), done


IMPORTS = """
tasks:
  good: {call: "good:work"}
  fails: {call: "fails:work", schedule: every 1s}
  leaves: {call: "leaves:work"}
  lacks: {call: "good:wrok"}
"""


def test_a_task_whose_module_does_not_load_is_blocked_alone_until_it_does(project: Project) -> None:
    # rule 25
    project.write("def work():\n    return 'done'\n", "good.py")
    project.write("raise ValueError('no licence')\n", "fails.py")
    project.write("import os\nos._exit(3)\n", "leaves.py")
    project.write("tasks:\n  good: {call: 'good:work'}\n")
    supervisor = project.start()
    write_anew(project, IMPORTS)
    said = {
        name: supervisor.wait_for("task-blocked", task=name)["why"] for name in ("fails", "leaves", "lacks")
    }
    assert "ValueError: no licence" in said["fails"]
    assert "exit code 3" in said["leaves"]
    assert "did you mean good:work" in said["lacks"]
    assert result(project, "good") == "done"
    listed = {each["name"]: each["blocked"] for each in project.answer("status")["tasks"]}
    assert listed["good"] is None
    assert "no licence" in listed["fails"]
    waits = project.answer("enqueue", "leaves")["id"]
    supervisor.wait_for("skipped", task="fails", reason="blocked")
    assert state_of(project, waits) is State.QUEUED
    for name in ("fails", "leaves"):
        project.write("def work():\n    return 'at last'\n", f"{name}.py")
    reload(project)
    free: list[Event] = [supervisor.wait_for("task-free", task=name) for name in ("fails", "leaves")]
    assert len(free) == 2
    wait_until(lambda: state_of(project, waits) is State.SUCCEEDED, lambda: "it still waits")


def test_a_module_is_imported_in_the_environment_of_its_task(project: Project) -> None:
    project.write("import os\nSETTING = os.environ['SETTING']\ndef work():\n    return SETTING\n", "mod.py")
    project.write("env: {SETTING: here}\ntasks:\n  work: {call: 'mod:work'}\n")
    project.start()
    wait_for_catalogue(project, "work", "parameters", [])
    assert result(project, "work") == "here"


def test_a_reload_of_the_one_who_stood_by_is_done_at_the_takeover(project: Project) -> None:
    # rules 24 and 31: what the file said hours ago is not what it says now
    project.write(TASKS)
    first = project.start()
    second = project.start(ready=False)
    second.wait_for("standing-by")
    project.write(TASKS.replace("greet", "welcome"))
    first.wait_for("reloaded")
    first.stop()
    second.wait_for("ready")
    assert {each["name"] for each in tasks_of(project)} == {"kept", "welcome"}
    assert [each["event"] for each in second.events].count("reloaded") == 0


def test_new_code_needs_no_file_that_is_right(project: Project) -> None:
    # rule 27: `--code` does not read the file, and says nothing about it
    code(project, 1)
    project.write(CALLS)
    supervisor = project.start()
    assert result(project, "version") == "1"
    code(project, 2)
    write_anew(project, "tasks: []\n")
    supervisor.wait_for("reload-refused")
    assert reload(project, "--code")["applied"]
    assert supervisor_of(project)["config_error"]
    assert result(project, "version") == "2"


def test_the_control_socket_only_knows_what_it_knows(project: Project) -> None:
    project.write(TASKS)
    supervisor = project.start()
    path = control_path(str(project.folder / ".jobrunner"), supervisor.pid)
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert ask(path, {"ask": "run", "command": "id"}, patience=PATIENCE)["verdict"] == "refused"
    for nonsense in (b"\n", b"[]\n", b"\xff" * 100_000):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            link.connect(path)
            with suppress(BrokenPipeError, ConnectionResetError):
                link.sendall(nonsense)
                assert link.recv(1) == b""
    supervisor.stop()
    assert not Path(path).exists()


def test_a_jobrunner_in_a_files_place_is_watched_and_reloaded(project: Project) -> None:
    # rule 24: its module is the file
    head = "from jobrunner import JobRunner\njobs = JobRunner(backend='sqlite:///jobs.db')\n"
    add = "@jobs.task()\ndef add(a, b):\n    return a + b\n"
    project.write(head + add, "demo.py")
    with closing(LiveSupervisor(project.folder / "demo:jobs")) as supervisor:
        supervisor.wait_for("ready")
        write_anew(project, head + add + add.replace("add", "mul").replace("+", "*"), "demo.py")
        assert supervisor.wait_for("reloaded")["added"] == ["mul"]


def test_a_file_that_nobody_could_read_is_read_again(project: Project) -> None:
    # rule 24, invariants I9 and I11: without a person, and without a word against the file
    project.write("tasks: {first: {command: 'true'}}")
    supervisor = project.start("--log-level", "debug")
    project.write("tasks: {second: {command: 'true'}}")
    supervisor.wait_for("reloaded")
    (clerk,) = [pid for pid in children(supervisor.pid) if b"stay" in command_line(pid).split(b"\0")]
    os.kill(clerk, signal.SIGSTOP)
    project.write("tasks: {third: {command: 'true'}}")
    supervisor.wait_for_number(2, "reloading")
    os.kill(clerk, signal.SIGKILL)
    assert "it is read again soon" in supervisor.wait_for("reload-refused")["problems"]
    supervisor.wait_for("reloaded", added=["third"])
    assert "not taken" not in project.jobrunner("status").stdout


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_comes_too_early_is_ignored(project: Project, number: signal.Signals) -> None:
    project.write("tasks: {first: {command: 'true'}}")
    supervisor = project.start(ready=False)
    wait_until(lambda: bool(children(supervisor.pid)), supervisor.log)  # it reads the file
    os.kill(supervisor.pid, number)
    supervisor.wait_for("ready")
    assert supervisor.stop() == 0
