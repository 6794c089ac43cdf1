"""Commands that are ended by force, and what they leave behind (rules 14 and 29)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobrunner.durations import MILLISECOND, SECOND
from jobrunner.execution import Call
from jobrunner.execution.leftovers import UNCLAIMED, Orphans
from jobrunner.model import Ending
from tests.integration.commands.slots import Slots, a_call, is_running, survivors

SOON = 200 * MILLISECOND

# Two forks and a session of its own between them: nothing that a process group would tell of it.
DAEMON = """
import os, signal, sys, time
heard, told = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if "deaf" in sys.argv:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        os.write(told, b"x")
        os.close(0)
        time.sleep(600)
    os._exit(0)
os.wait()
os.read(heard, 1)  # the daemon has spoken: what it says later, nobody hears
if "stay" in sys.argv:
    time.sleep(600)
"""


def a_daemon(*words: str, **task: Any) -> Call:
    return a_call((sys.executable, "-c", DAEMON, *words), **task)


def daemon_of(slots: Slots, call: Call) -> int:
    """The pid that the daemon has written."""
    slots.wait_for_output(call, b"\n")
    return int(slots.written(call))


# --- timeout --------------------------------------------------------------------------------------------


def test_a_timeout_ends_the_whole_group(slots: Slots) -> None:
    call = a_call("sleep 600 & sleep 601 | sleep 602", timeout=SOON)
    end = slots.run(call)
    assert (end.ending, end.signal, end.exit_code) == (Ending.TIMEOUT, "SIGTERM", None)
    assert end.error == "not done within its timeout of 200 ms"
    assert survivors(call) == []


def test_who_ignores_term_is_killed_after_its_grace(slots: Slots) -> None:
    call = a_call("trap '' TERM; echo on; sleep 600; sleep 600", timeout=SOON, kill_after=SOON)
    end = slots.run(call)
    assert (end.ending, end.signal) == (Ending.TIMEOUT, "SIGKILL")
    assert end.started_at is not None
    assert end.ended_at - end.started_at >= 2 * SOON
    assert survivors(call) == []


def test_who_heeds_term_may_use_its_grace(slots: Slots) -> None:
    command = "trap 'sleep 0.3; echo tidied; exit 7' TERM; while :; do sleep 0.01; done"
    call = a_call(command, timeout=SOON)
    end = slots.run(call)
    assert (end.ending, end.exit_code, end.signal) == (Ending.TIMEOUT, 7, None)
    assert slots.written(call) == b"tidied\n"


def test_a_child_that_outlives_its_shell_may_use_the_grace_too(slots: Slots) -> None:
    child = "trap 'sleep 0.3; echo tidied; exit' TERM; echo on; while :; do sleep 0.01; done"
    call = a_call(f'sh -c "{child}" & wait', timeout=SOON)
    end = slots.run(call)
    assert (end.ending, end.signal) == (Ending.TIMEOUT, "SIGTERM")
    assert slots.written(call) == b"on\ntidied\n"
    assert survivors(call) == []


def test_a_stopped_command_is_ended_by_its_timeout(slots: Slots) -> None:
    end = slots.run(a_call("kill -STOP $$; echo never", timeout=SOON))
    assert (end.ending, end.signal) == (Ending.TIMEOUT, "SIGTERM")


@pytest.mark.parametrize("words", [("stay",), ("stay", "deaf")])
def test_a_timeout_finds_who_escaped_into_a_session_of_its_own(slots: Slots, words: tuple[str, ...]) -> None:
    call = a_daemon(*words, timeout=3 * SECOND, kill_after=SOON)
    slots.executor.start([call])
    pid = daemon_of(slots, call)
    assert is_running(pid)
    slots.wait_until(lambda: call.run_id in slots.ends)
    assert slots.ends[call.run_id].ending is Ending.TIMEOUT
    assert not is_running(pid)


def test_a_timeout_finds_who_escaped_with_another_environment(slots: Slots) -> None:
    call = a_call("env -i setsid sh -c 'echo $$; exec sleep 600' & wait", timeout=SECOND)
    slots.executor.start([call])
    pid = daemon_of(slots, call)
    slots.wait_until(lambda: call.run_id in slots.ends)
    assert not is_running(pid)


def test_the_timeout_of_an_attempt_that_ended_means_nothing(slots: Slots) -> None:
    quick, slow = a_call("true", timeout=SOON), a_call("sleep 0.5")
    ends = slots.run_all([quick, slow])
    assert [end.outcome for end in ends] == ["ok", "ok"]


def test_an_exit_that_nobody_has_looked_at_yet_comes_before_a_forced_end(slots: Slots) -> None:
    call = a_call("exit 4")
    slots.executor.start([call])
    (pid,) = slots.executor._pids
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    slots.executor.end(call, Ending.CANCELLED)
    assert slots.ends[call.run_id].outcome == "exit 4"


# --- cancel, interrupt ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [Ending.CANCELLED, Ending.INTERRUPTED])
def test_an_end_by_force_is_reported_as_asked(slots: Slots, ending: Ending) -> None:
    call = a_call("echo on; sleep 600")
    slots.executor.start([call])
    slots.wait_for_output(call, b"on")
    slots.executor.end(call, ending)
    slots.wait_until(lambda: call.run_id in slots.ends)
    assert (slots.ends[call.run_id].ending, slots.ends[call.run_id].signal) == (ending, "SIGTERM")
    assert survivors(call) == []


def test_the_first_reason_holds_and_the_shortest_grace_wins(slots: Slots) -> None:
    call = a_call("trap '' TERM; echo on; while :; do sleep 0.05; done", kill_after=600 * SECOND)
    slots.executor.start([call])
    slots.wait_for_output(call, b"on")
    slots.executor.end(call, Ending.CANCELLED)
    slots.executor.end(call, Ending.INTERRUPTED, grace=SOON)
    slots.wait_until(lambda: call.run_id in slots.ends)
    assert (slots.ends[call.run_id].ending, slots.ends[call.run_id].signal) == (Ending.CANCELLED, "SIGKILL")


def test_ending_a_call_that_is_over_or_unknown_does_nothing(slots: Slots) -> None:
    call = a_call("true")
    slots.executor.end(call, Ending.CANCELLED)
    assert slots.run(call).outcome == "ok"
    slots.executor.end(call, Ending.CANCELLED)
    slots.executor.recall()
    assert slots.ends[call.run_id].outcome == "ok"


def test_a_retired_pool_finishes_what_it_has_and_takes_no_more(slots: Slots) -> None:
    call = a_call("sleep 0.2; echo done")
    slots.executor.start([call])
    slots.executor.retire()
    assert slots.executor.room() == 0
    slots.wait_until(lambda: call.run_id in slots.ends)
    assert slots.ends[call.run_id].result == '"done"'


def test_close_kills_everything_and_reports_nothing(slots: Slots) -> None:
    daemon, shell = a_daemon("stay", "deaf"), a_call("trap '' TERM; sleep 600 & sleep 600")
    slots.executor.start([daemon, shell])
    pid = daemon_of(slots, daemon)
    slots.executor.close()
    assert survivors(daemon, shell) == []
    assert not is_running(pid)
    assert slots.ends == {}
    assert slots.executor.busy() == 0


# --- leftovers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 3])
def test_background_children_end_with_their_command(slots: Slots, code: int) -> None:
    call = a_call(f"sleep 600 & setsid sleep 601 & exit {code}")
    assert slots.run(call).exit_code == code
    assert survivors(call) == []


def test_a_deaf_escapee_is_killed_before_the_end_is_reported(slots: Slots) -> None:
    call = a_daemon("deaf")
    end = slots.run(call)
    assert end.outcome == "ok"
    assert not is_running(daemon_of(slots, call))
    assert survivors(call) == []


def test_the_end_is_when_the_command_exited_not_when_its_leftovers_did(slots: Slots) -> None:
    call = a_call("(trap '' TERM; sleep 600) & sleep 0.1")
    end = slots.run(call)
    assert end.ended_at + SOON < slots.loop.now()  # the deaf one had half a second


def test_leftovers_that_may_be_kept_live_on(slots: Slots) -> None:
    call = a_daemon(leftovers="keep")
    assert slots.run(call).outcome == "ok"
    left = survivors(call)
    assert [each.pid for each in left] == [daemon_of(slots, call)]


@pytest.mark.parametrize("command", ["setsid sleep 600 & exit 3", "setsid sleep 600 & kill -9 $$"])
def test_leftovers_of_a_failure_are_ended_whatever_may_be_kept(slots: Slots, command: str) -> None:
    call = a_call(command, leftovers="keep")
    assert slots.run(call).ending in (Ending.EXIT, Ending.SIGNAL)
    assert survivors(call) == []


def test_the_children_of_a_neighbour_are_left_alone(slots: Slots) -> None:
    lasting = a_call("setsid sh -c 'echo on; exec sleep 0.7' & sleep 0.8; echo done")
    slots.executor.start([lasting])
    slots.wait_for_output(lasting, b"on")
    others = [a_call("setsid sleep 600 & true") for _ in range(5)]
    slots.run_all(others)
    assert survivors(*others) == []
    slots.wait_until(lambda: lasting.run_id in slots.ends)
    assert slots.ends[lasting.run_id].outcome == "ok"


def test_dead_orphans_are_collected_and_exit_codes_are_not_stolen(slots: Slots) -> None:
    calls = [a_call("for i in 1 2 3 4 5; do (setsid true &); done; exit 6") for _ in range(8)]
    assert {end.exit_code for end in slots.run_all(calls)} == {6}
    mine = subprocess.Popen(["sh", "-c", "exit 7"])  # somebody else's child
    slots.wait_until(lambda: mine.pid in dead_children())
    orphans = Orphans()
    orphans.collect_dead((), now=0)
    orphans.collect_dead((), now=UNCLAIMED - 1)
    assert mine.wait() == 7
    orphans.collect_dead((), now=UNCLAIMED)
    orphans.close()
    assert dead_children() == []


def dead_children() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if not is_running(int(pid))]


def test_the_journal_knows_what_runs_and_forgets_what_is_over(slots: Slots, tmp_path: Path) -> None:
    call = a_call("echo on; sleep 600")
    slots.executor.start([call])
    slots.wait_for_output(call, b"on")
    [path] = (tmp_path / "journal").iterdir()
    began = json.loads(path.read_text().splitlines()[-1])
    assert began[:2] == ["began", call.run_id]
    slots.wait_until(lambda: slots.begun.get(call.run_id) == began[2])
    slots.executor.end(call, Ending.CANCELLED)
    slots.wait_until(lambda: call.run_id in slots.ends)
    assert json.loads(path.read_text().splitlines()[-1]) == ["over", call.run_id, began[2]]
