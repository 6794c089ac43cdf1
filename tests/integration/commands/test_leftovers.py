"""What a dead supervisor left is found, ended and seen gone before its runs go on (rules 15 and 32)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner.execution.environment import OWNER, RUN_ID
from jobrunner.execution.family import mark_of, process, processes
from jobrunner.execution.journal import Journal, Spawn
from jobrunner.execution.leftovers import Leftovers, end_leftovers
from jobrunner.machine import boot_id
from tests.integration.commands import dying
from tests.integration.commands.slots import is_running

NOTHING = Leftovers(0, set(), set())


class Dying:
    """A supervisor that will be killed."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder = folder
        self.owner = owner
        self._process = subprocess.Popen(
            [sys.executable, str(dying.__file__), str(folder), owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(dying.__file__).parents[3])},
        )

    def start(self, run_id: str, command: str, **task: Any) -> int:
        """Start a command; its pid."""
        self.tell(run_id, command, **task)
        return int(self.hear("started"))

    def tell(self, run_id: str, command: str, **task: Any) -> None:
        assert self._process.stdin is not None
        line = json.dumps({"run_id": run_id, "command": command, "task": task})
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self, word: str) -> str:
        assert self._process.stdout is not None
        said, _, rest = self._process.stdout.readline().strip().partition(" ")
        assert said == word
        return rest

    def ended(self) -> str:
        """How a command ended, whose start may have been told before."""
        assert self._process.stdout is not None
        said = ""
        while not said.startswith("ended "):
            said = self._process.stdout.readline().strip()
        return said.removeprefix("ended ")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        for each in processes().values():
            if mark_of(each.pid).owner == self.owner:
                os.kill(each.pid, signal.SIGKILL)


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[Dying]:
    made = Dying(tmp_path, f"owner-{tmp_path.name}")
    try:
        yield made
    finally:
        made.close()


def recovered(dead: Dying, *owners: str) -> Leftovers:
    """What the next supervisor finds in the same folder."""
    with Journal.opened(str(dead.folder)) as journal:
        return end_leftovers(journal, set(owners or [dead.owner]))


def wait_for_file(path: Path) -> str:
    """The text of a file that a command is about to write."""
    for _ in range(6000):
        if path.exists() and (text := path.read_text()):
            return text
        subprocess.run(["sleep", "0.01"], check=True)
    raise AssertionError(f"{path} was never written")


def test_the_commands_of_a_killed_supervisor_are_ended(dead: Dying) -> None:
    pids = [dead.start(f"run-{each}", "sleep 600 & sleep 600") for each in range(3)]
    dead.kill()
    assert all(map(is_running, pids))
    found = recovered(dead)
    assert not any(map(is_running, pids))
    assert (found.alive, found.begun) == (set(), {"run-0", "run-1", "run-2"})
    assert found.processes >= 6
    assert [each for each in processes() if mark_of(each).owner == dead.owner] == []


def test_who_ignores_term_is_killed(dead: Dying) -> None:
    pid = dead.start("run-1", "trap '' TERM; echo > on; while :; do sleep 0.1; done", cwd=str(dead.folder))
    wait_for_file(dead.folder / "on")
    dead.kill()
    assert recovered(dead).alive == set()
    assert not is_running(pid)


def test_escapees_are_found_by_their_mark(dead: Dying) -> None:
    command = "setsid sh -c 'echo $$ > pid; exec sleep 600' & sleep 600"
    dead.start("run-1", command, cwd=str(dead.folder))
    pid = int(wait_for_file(dead.folder / "pid"))
    dead.kill()
    recovered(dead)
    assert not is_running(pid)


def test_without_a_journal_the_marks_are_enough(dead: Dying) -> None:
    pid = dead.start("run-1", "exec sleep 600")
    dead.kill()
    for path in (dead.folder / "journal").iterdir():
        path.unlink()
    found = recovered(dead)
    assert not is_running(pid)
    assert (found.processes, found.alive, found.begun) == (1, set(), set())


def test_a_command_that_cleared_its_environment_is_found_by_the_journal(dead: Dying) -> None:
    pid = dead.start("run-1", "exec env -i /bin/sh -c 'echo > on; exec /bin/sleep 600'", cwd=str(dead.folder))
    wait_for_file(dead.folder / "on")
    dead.kill()
    assert recovered(dead).processes == 1
    assert not is_running(pid)


def test_children_that_may_be_kept_survive_their_supervisor(dead: Dying) -> None:
    command = "setsid sh -c 'echo $$ > pid; exec sleep 600' & while ! test -s pid; do sleep 0.01; done"
    dead.tell("run-1", command, cwd=str(dead.folder), leftovers="keep")
    assert dead.ended() == "ok"
    other = dead.start("run-2", "sleep 600", leftovers="keep")
    dead.kill()
    recovered(dead)
    assert is_running(int((dead.folder / "pid").read_text()))
    assert not is_running(other)


def test_a_living_supervisor_of_the_same_folder_is_left_alone(dead: Dying) -> None:
    pid = dead.start("run-1", "exec sleep 600")
    assert recovered(dead, "somebody-else") == NOTHING
    assert is_running(pid)


def test_a_run_that_ended_before_its_supervisor_died_is_known_as_begun(dead: Dying) -> None:
    dead.tell("run-1", "true")
    assert dead.ended() == "ok"
    dead.kill()
    assert recovered(dead) == Leftovers(0, set(), {"run-1"})


def test_journals_go_when_their_owners_have_no_open_run(dead: Dying) -> None:
    dead.start("run-1", "exec sleep 600")
    dead.kill()
    journals = dead.folder / "journal"
    assert recovered(dead).begun == {"run-1"}
    assert recovered(dead).begun == {"run-1"}  # killed before it could write: the next one asks again
    assert len(list(journals.iterdir())) == 1
    assert recovered(dead, "somebody-else") == NOTHING
    assert list(journals.iterdir()) == []


def test_leftovers_of_a_run_that_is_already_final_are_ended_too(dead: Dying) -> None:
    pid = dead.start("run-1", "exec sleep 600")
    dead.kill()
    assert recovered(dead, "owner-with-open-runs").processes == 1
    assert not is_running(pid)


# --- pids that belong to somebody else by now -----------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else, leader of its own session."""
    made = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        yield made
    finally:
        made.kill()
        made.wait()


def write_journal(folder: Path, *lines: list[object]) -> None:
    (folder / "journal").mkdir()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "journal" / "1-dead").write_text(text)


def ended(folder: Path, *owners: str) -> Leftovers:
    with Journal.opened(str(folder)) as journal:
        return end_leftovers(journal, set(owners))


def test_a_pid_that_was_used_anew_is_not_touched(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    found = process(stranger.pid)
    assert found is not None
    write_journal(tmp_path, ["boot", boot_id()], ["began", "run-1", found.pid, found.start - 1, "owner"])
    assert ended(tmp_path, "owner") == Leftovers(0, set(), {"run-1"})
    assert stranger.poll() is None


def test_a_journal_of_an_earlier_boot_names_nobody(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    found = process(stranger.pid)
    assert found is not None
    write_journal(tmp_path, ["boot", "an-earlier-one"], ["began", "run-1", found.pid, found.start, "owner"])
    assert ended(tmp_path, "owner") == Leftovers(0, set(), {"run-1"})
    assert stranger.poll() is None


def test_the_same_process_is_ended(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    found = process(stranger.pid)
    assert found is not None
    write_journal(tmp_path, ["boot", boot_id()], ["began", "run-1", found.pid, found.start, "owner"])
    assert ended(tmp_path, "owner") == Leftovers(1, set(), {"run-1"})
    assert stranger.wait(60) == -signal.SIGTERM


def test_this_process_is_never_ended_whatever_it_is_marked_with(tmp_path: Path) -> None:
    script = (
        "import sys; from jobrunner.execution.journal import Journal\n"
        "from jobrunner.execution.leftovers import end_leftovers\n"
        "with Journal.opened(sys.argv[1]) as journal: print(end_leftovers(journal, {'owner'}).processes)"
    )
    env = {**os.environ, OWNER: "owner", RUN_ID: "run-1", "PYTHONPATH": str(Path(dying.__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=env, capture_output=True, check=True
    )
    assert done.stdout == b"0\n"


# --- the journal itself ---------------------------------------------------------------------------------


def test_lines_that_were_cut_short_are_passed_over(tmp_path: Path) -> None:
    write_journal(tmp_path, ["boot", boot_id()], ["began", "run-1", 1, 1, "owner"])
    path = tmp_path / "journal" / "1-dead"
    path.write_bytes(path.read_bytes() + b'["began","run-2",\n\xff\xfe\nnull\n{}\n["began"]\n["over"')
    assert ended(tmp_path, "owner").begun == {"run-1"}


def test_a_long_journal_is_written_anew_without_what_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.execution.journal.LONGEST", 2000)
    with Journal.opened(str(tmp_path)) as journal:
        journal.began(Spawn("lasting", 99, 1, "owner"))
        for each in range(500):
            journal.began(Spawn(f"run-{each}", each, 1, "owner"))
            journal.over(f"run-{each}", each)
        [path] = (tmp_path / "journal").iterdir()
        lines = path.read_text().splitlines()
        assert len(lines) < 100
        assert ["began", "lasting", 99, 1, "owner"] in [json.loads(line) for line in lines]
        assert json.loads(lines[0])[0] == "boot"
        assert ended(tmp_path, "owner") == NOTHING  # it is held: its supervisor lives


def test_an_orderly_end_leaves_no_journal(tmp_path: Path) -> None:
    with Journal.opened(str(tmp_path)) as journal:
        journal.began(Spawn("run", 99, 1, "owner"))
        journal.over("run", 99)
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_full_disk_costs_lines_but_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with Journal.opened(str(tmp_path)) as journal:
        journal.began(Spawn("first", 1, 1, "owner"))
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:5]))
        journal.began(Spawn("torn", 2, 1, "owner"))
        monkeypatch.undo()
        journal.began(Spawn("last", 3, 1, "owner"))
        [path] = (tmp_path / "journal").iterdir()
        copy = path.read_bytes()
    (tmp_path / "journal" / "1-dead").write_bytes(copy)
    path.unlink()
    assert ended(tmp_path, "owner").begun == {"first", "last"}


def test_a_folder_that_cannot_be_written_costs_the_journal_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    with Journal.opened(str(tmp_path / "in-the-way")) as journal:
        journal.began(Spawn("run", 99, 1, "owner"))
        journal.over("run", 99)
        assert end_leftovers(journal, {"owner"}) == NOTHING
