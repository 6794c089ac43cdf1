"""`jobrunner run` under a service manager: what it tells, and when (semantics 30)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ear import Ear
from tests.live import LiveSupervisor, clean_environment

FILE = r"""
shutdown_timeout: 1m
tasks:
  long: {command: "echo going; exec sleep 600", schedule: every 1s, kill_after: 1s}
  asks: {command: "echo \"[$NOTIFY_SOCKET]\" > asked", schedule: every 1s}
"""


@pytest.fixture
def ear(tmp_path: Path) -> Ear:
    return Ear(str(tmp_path / "notify"))


def test_a_service_tells_that_it_is_ready_that_it_lives_and_that_it_stops(tmp_path: Path, ear: Ear) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(FILE)
    manager = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    supervisor = LiveSupervisor(file, env={**clean_environment(tmp_path), **manager})
    try:
        supervisor.wait_for("ready")
        assert "next: " in ear.wait_for("READY")["STATUS"]
        ear.wait_for("WATCHDOG")
        supervisor.wait_for("attempt", task="asks")
        assert (tmp_path / "asked").read_text() == "[]\n", "no child is to speak for the service"
        supervisor.process.terminate()
        stopping = ear.wait_for("STOPPING")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) > 0
        assert stopping["STATUS"].startswith("stopping: 1 running may finish within")
        ear.wait_for("EXTEND_TIMEOUT_USEC", "30000000")
        assert supervisor.insist() == 0
    finally:
        supervisor.close()
        ear.close()
