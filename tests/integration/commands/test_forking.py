"""How a command's process is started: what it gets, why it does not start, and what that costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.execution import forking, spawn
from jobrunner.execution.family import processes, start_between, start_of
from jobrunner.execution.forking import Launch, Streams, start
from jobrunner.plan import Limits
from tests.integration.commands.slots import Slots, a_call

ENVIRONMENT = {"PATH": os.defpath, "GREETING": "hullo"}


@pytest.fixture(params=[True, False], ids=["known", "by Popen"], autouse=True)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A Python whose inner call is known here, and one where it is not."""
    is_known: bool = request.param
    monkeypatch.setattr(forking, "_IS_KNOWN", is_known)
    return is_known


def wrote(*argv: str, cwd: str = "/", passed: tuple[int, ...] = (), is_leader: bool = True) -> str:
    """What a program writes to both streams until it ends well."""
    reader, writer = os.pipe()
    launch = Launch(list(argv), ENVIRONMENT, cwd, passed)
    try:
        pid = start(launch, Streams(stdout=writer, stderr=writer), is_leader=is_leader)
    finally:
        os.close(writer)
    with open(reader) as file:
        text = file.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text
    return text


def test_a_program_is_found_by_its_path_and_gets_its_folder_and_environment(tmp_path: Path) -> None:
    assert wrote("sh", "-c", "pwd; echo $GREETING >&2", cwd=str(tmp_path)) == f"{tmp_path}\nhullo\n"


@pytest.mark.parametrize("is_leader", [True, False])
def test_it_leads_a_session_when_it_is_to(is_leader: bool) -> None:
    pid, session = wrote(
        "sh", "-c", "read -r _ _ _ _ _ s _ < /proc/$$/stat; echo $$ $s", is_leader=is_leader
    ).split()
    assert (pid == session) is is_leader


def test_it_gets_the_descriptors_that_are_passed_and_no_others() -> None:
    theirs, other = (os.open(os.devnull, os.O_RDONLY) for _ in range(2))
    os.set_inheritable(other, True)
    found = wrote("/bin/ls", "/proc/self/fd", passed=(theirs,)).split()
    os.close(theirs)
    os.close(other)
    assert len(found) == len({"0", "1", "2", str(theirs), "the folder"})
    assert {"0", "1", "2", str(theirs)} < set(found)


def test_signals_that_python_ignores_have_their_default_again() -> None:
    (ignored,) = (
        line for line in wrote("/bin/cat", "/proc/self/status").splitlines() if line.startswith("SigIgn")
    )
    assert int(ignored.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_what_could_not_be_started_is_named() -> None:
    with pytest.raises(FileNotFoundError) as program:
        wrote("/no/such/program")
    with pytest.raises(FileNotFoundError) as folder:
        wrote("true", cwd="/no/such/folder")
    with pytest.raises(PermissionError) as unfit:
        wrote("/etc/passwd")
    named = [each.value.filename for each in (program, folder, unfit)]
    assert named == ["/no/such/program", "/no/such/folder", "/etc/passwd"]


def test_a_text_that_no_program_can_be_given_is_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        wrote("true", "a\0b")


def test_what_could_not_be_started_leaves_no_process_and_no_descriptor() -> None:
    before, others = os.listdir("/proc/self/fd"), children()  # a server that other tests share, for one
    with pytest.raises(FileNotFoundError):
        wrote("/no/such/program")
    assert children() == others
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1  # the reader of this test


def children() -> set[int]:
    """The pids of all children of this process, ended ones that nobody has collected included."""
    return {each.pid for each in processes().values() if each.parent == os.getpid()}


WITHOUT_STREAMS = """\
import os
from jobrunner.execution import forking
forking._IS_KNOWN = {is_known}
for fd in (0, 1, 2):
    os.close(fd)
nothing = os.open("/dev/null", os.O_RDWR)
out = os.open({path!r}, os.O_WRONLY | os.O_CREAT)
launch = forking.Launch(["sh", "-c", "echo out; echo err >&2"], {{"PATH": os.defpath}}, "/")
os.waitpid(forking.start(launch, forking.Streams(nothing, out, out), is_leader=True), 0)
"""


def test_a_supervisor_without_streams_starts_commands_all_the_same(tmp_path: Path, python: bool) -> None:
    path = tmp_path / "out"
    text = WITHOUT_STREAMS.format(path=str(path), is_known=python)
    subprocess.run([sys.executable, "-c", text], check=True, close_fds=True)
    assert path.read_text() == "out\nerr\n"


# ---- what it costs ---------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {"timeout": 60 * SECOND}
LAUNCHED: dict[str, Any] = {"umask": 0o27, "nice": 1, "limits": Limits(nofile=100)}
SWITCHED: dict[str, Any] = {"user": "nobody", "group": "nogroup"}


@pytest.mark.parametrize("task", [PLAIN, LAUNCHED, SWITCHED], ids=["plain", "limits", "user"])
def test_a_command_is_started_by_vfork(
    slots: Slots, python: bool, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is what makes a start from a large process cheap; taken only without preexec_fn, user, group, groups.
    # Who is to be another user becomes it in the launcher.
    if not python:
        pytest.skip("Popen chooses for itself")
    if "user" in task and os.getuid() != 0:
        pytest.skip("needs root")
    given: list[tuple[Any, ...]] = []
    real = forking._fork_exec

    def noting(*args: Any) -> int:
        given.append(args)
        return real(*args)

    monkeypatch.setattr(forking, "_fork_exec", noting)
    assert slots.run(a_call("true", **task)).outcome == "ok"
    group, group_id, groups, user, umask, preexec, *may_vfork = given[0][16:]
    assert (group, group_id, groups, user, umask, preexec) == (-1, None, None, None, -1, None)
    assert may_vfork in ([True], [])


NOTED: list[list[str]] = []  # of the hook, which cannot be taken out again: the last list is under way
FILES = {"open", "os.mkdir", "os.listdir", "os.scandir", "os.rename", "os.remove"}


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event in FILES and NOTED:
        NOTED[-1].append(str(arguments[0]))


@cache
def _listen() -> None:
    sys.addaudithook(_note)


@contextmanager
def opened() -> Iterator[list[str]]:
    """The paths of what is opened or made meanwhile."""
    _listen()
    found: list[str] = []
    NOTED.append(found)
    yield found
    NOTED.clear()


def test_a_command_that_writes_nothing_opens_one_file(
    slots: Slots, python: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "start_between", lambda _before, _after: 1)  # no tick passes in between
    slots.run(a_call("true"))
    with opened() as found:
        assert slots.run(a_call("true")).outcome == "ok"
    assert found == [os.devnull]


def test_when_a_process_began_is_known_without_asking_for_it() -> None:
    clock, known = SystemClock(), 0
    for _ in range(40):
        before = clock.boottime()
        pid = start(Launch(["sleep", "600"], ENVIRONMENT, "/"), Streams(), is_leader=True)
        since = start_between(before, clock.boottime())
        assert since in (None, start_of(pid))
        known += since is not None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert known > 0


def test_a_start_with_a_tick_in_between_is_looked_up() -> None:
    tick = SECOND // os.sysconf("SC_CLK_TCK")
    assert start_between(7 * tick + 1, 8 * tick - 2) == 7
    assert start_between(7 * tick, 7 * tick + 5) is None  # rounded down: it may have been before
    assert start_between(7 * tick + 1, 8 * tick - 1) is None
    assert start_between(7 * tick + 1, 9 * tick) is None


def test_a_command_takes_few_calls(slots: Slots, python: bool) -> None:
    # The supervisor shares the processor with its commands: by `Popen` and `selectors` there were 280.
    if not python:
        pytest.skip("not the usual way")
    calls = [a_call(("/bin/true",)) for _ in range(10)]
    slots.run_all(calls[:5])
    counted: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, _: counted.update([event]) if event == "call" else None)
    slots.executor.start(calls[5:])
    while slots.executor.busy():
        slots.loop.turn()
    sys.setprofile(None)
    assert counted.total() / 5 < 140
