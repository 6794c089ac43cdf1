"""This machine and its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner import machine


def test_a_boot_has_an_id_that_stays() -> None:
    assert machine.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_this_process_is_alive_since_its_start() -> None:
    start = machine.process_start(os.getpid())
    assert start is not None
    assert start > 0
    assert machine.is_alive(os.getpid(), start)


def test_a_pid_that_was_used_anew_is_somebody_else() -> None:
    start = machine.process_start(os.getpid())
    assert start is not None
    assert not machine.is_alive(os.getpid(), start + 1)


def test_a_process_that_ended_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = machine.process_start(child.pid)
    assert start is not None
    assert machine.is_alive(child.pid, start)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped: a zombie
    assert not machine.is_alive(child.pid, start)
    child.communicate()
    assert machine.process_start(child.pid) is None
    assert not machine.is_alive(child.pid, start)
    assert machine.process_name(child.pid) == ""


def test_a_name_may_hold_spaces_and_parentheses(tmp_path: Path) -> None:
    odd = tmp_path / "a ) (b 1 2"
    odd.symlink_to("/bin/cat")
    with subprocess.Popen([odd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"x\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"x\n"  # it has begun: its name is its own
        assert machine.process_name(child.pid) == "a ) (b 1 2"
        assert (machine.process_start(child.pid) or 0) > 0
        child.stdin.close()


def test_a_machine_has_a_name() -> None:
    assert machine.hostname()


def test_a_kernel_that_tells_no_boot_id_is_bearable(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_args: object, **_named: object) -> str:
        raise FileNotFoundError

    machine.boot_id.cache_clear()
    monkeypatch.setattr(machine, "_text", missing)
    assert machine.boot_id() == ""
    machine.boot_id.cache_clear()
