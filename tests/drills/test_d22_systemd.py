"""D22: a real systemd, as process 1 of a machine of its own, has the shipped unit in its hands."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

import pytest

from jobrunner.durations import SECOND
from tests.drills.checker import CLOCK
from tests.live import wait_until
from tests.machine import ROOT, Machine, booted, why_not

UNIT = "jobrunner.service"
FILE = """
backend: sqlite:////var/lib/jobrunner/jobs.db
shutdown_timeout: 3s
defaults: {max_crashes: 1000}
tasks:
  tick: {command: [/bin/true], schedule: every 1s}
  fails: {command: "echo no >&2; exit 3"}
  long: {command: "exec sleep 1000", kill_after: 1s}
  escapes: {command: "setsid -f setsid -f sleep 1001; trap '' TERM; sleep 1000", kill_after: 1s}
  call: {call: "os:getpid"}
  eight:
    command: |
      until test -e /var/lib/jobrunner/go; do sleep 0.1; done
      sleep 1; echo $JOBRUNNER_RUN_ID >> /var/lib/jobrunner/done
  confined:
    command: |
      touch /srv/reports/written 2>/dev/null; echo "writes elsewhere: $?"
      grep -q "NoNewPrivs:.0" /proc/self/status; echo "gains privileges: $?"
      test -e /proc/1; echo "sees others: $?"
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    reason = why_not()
    if reason and os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"a real systemd is expected here, and does not run: {reason}")
    if reason:
        pytest.skip(f"no real systemd: {reason}")
    with booted(tmp_path_factory.mktemp("systemd")) as machine:
        machine.install()
        for folder in ("jobrunner.service", "jobrunner@.service"):
            machine.write(f"/etc/systemd/system/{folder}", (ROOT / "systemd" / folder).read_text())
        machine.do("install", "-d", "-o", "jobrunner", "/srv/reports")
        yield machine


@pytest.fixture
def in_full(full_drills: bool) -> None:
    """What only `make drills` takes the time for."""
    if not full_drills:
        pytest.skip("in the full form alone: make drills")


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The service, running; stopped again at the end."""
    machine.write("/etc/jobrunner/jobs.yaml", FILE)
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "start", UNIT)
    yield machine
    machine.run("systemctl", "stop", UNIT)
    machine.run("systemctl", "reset-failed", UNIT)
    machine.run("rm", "-rf", "/var/lib/jobrunner", "/etc/systemd/system/jobrunner.service.d")


def drop_in(machine: Machine, text: str) -> None:
    """Change the unit as an administrator does, and restart it."""
    machine.write("/etc/systemd/system/jobrunner.service.d/drill.conf", text)
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "restart", UNIT)


def shorten_watchdog(machine: Machine) -> None:
    drop_in(machine, "[Service]\nWatchdogSec=2\n")


def goes_on(machine: Machine, before: int, *, running: int = 1) -> None:
    """The service is another process, and runs what the one before it ran."""
    wait_until(lambda: machine.show(UNIT, "ActiveState") == "active", lambda: machine.journal("-u", UNIT))
    assert main_pid(machine) != before
    words = f"{running} running"
    wait_until(lambda: status_of(machine).startswith(words), lambda: machine.journal("-u", UNIT))


def status_of(machine: Machine) -> str:
    return machine.show(UNIT, "StatusText")


def main_pid(machine: Machine) -> int:
    """As seen from outside."""
    inside = int(machine.show(UNIT, "MainPID"))
    pid = machine.outside(inside)
    assert pid is not None, machine.journal()
    return pid


def survivors(machine: Machine) -> str:
    """What runs of the service's user."""
    return machine.run("ps", "-u", "jobrunner", "-o", "pid,args", "--no-headers").stdout


@pytest.mark.drill
def test_the_start_is_over_when_the_service_is_ready(machine: Machine, full_drills: bool) -> None:
    # rule 30; D22: READY within 2 s
    machine.write("/etc/jobrunner/jobs.yaml", FILE)
    machine.do("systemctl", "start", UNIT)  # a first start makes the storage
    machine.do("systemctl", "stop", UNIT)
    before = CLOCK.monotonic()
    machine.do("systemctl", "start", UNIT)
    took = (CLOCK.monotonic() - before) / SECOND
    print(f"READY {took:.2f} s after systemctl start, to hold: 2 s")
    assert machine.show(UNIT, "ActiveState") == "active"
    assert "next: tick at " in status_of(machine)
    assert machine.jobrunner("status").returncode == 0
    machine.do("systemctl", "stop", UNIT)
    assert machine.show(UNIT, "Result") == "success"
    if full_drills:  # a figure to hold on a machine that does nothing else
        assert took <= 2


@pytest.mark.drill
def test_status_follows_what_runs(service: Machine) -> None:
    # rule 30
    service.jobrunner("enqueue", "long")
    wait_until(lambda: status_of(service).startswith("1 running"), lambda: status_of(service))


@pytest.mark.drill
def test_the_journal_knows_how_serious_a_line_is(service: Machine) -> None:
    service.jobrunner("enqueue", "fails", "--wait")

    def errors() -> str:
        return service.journal("-u", UNIT, "-p", "err")

    wait_until(lambda: "fails failed (exit 3)" in errors(), lambda: service.journal())
    assert "running jobs.yaml" not in errors()
    assert "<3>" not in service.journal("-u", UNIT)


@pytest.mark.drill
def test_callables_and_commands_run_in_the_hardened_unit(service: Machine) -> None:
    done = service.jobrunner("enqueue", "call", "--wait")
    assert done.returncode == 0, (done, service.journal())
    said = service.jobrunner("enqueue", "confined", "--wait").stdout
    assert said.split("\n") == ["writes elsewhere: 1", "gains privileges: 1", "sees others: 1", ""]


@pytest.mark.drill
def test_a_reload_takes_the_new_file_and_ends_when_it_is_in_force(service: Machine) -> None:
    # rules 24 to 26, 30
    before = main_pid(service)
    service.write("/etc/jobrunner/jobs.yaml", FILE + "  added: {command: [/bin/true]}\n")
    service.do("systemctl", "reload", UNIT)
    assert service.jobrunner("enqueue", "added", "--wait").returncode == 0
    assert (main_pid(service), service.show(UNIT, "ActiveState")) == (before, "active")


@pytest.mark.drill
def test_a_reload_of_a_broken_file_fails_is_loud_and_hurts_nothing(service: Machine) -> None:
    # rule 25
    before = main_pid(service)
    service.write("/etc/jobrunner/jobs.yaml", FILE + "  broken: {comand: x}\n")
    assert service.run("systemctl", "reload", UNIT).returncode != 0
    wait_until(lambda: "the file was not taken" in status_of(service), lambda: status_of(service))
    assert (main_pid(service), service.show(UNIT, "ActiveState")) == (before, "active")
    assert service.jobrunner("enqueue", "call", "--wait").returncode == 0
    service.write("/etc/jobrunner/jobs.yaml", FILE)
    service.do("systemctl", "reload", UNIT)
    wait_until(lambda: "the file was not taken" not in status_of(service), lambda: status_of(service))


@pytest.mark.drill
def test_a_service_that_hangs_is_ended_by_its_watchdog_and_starts_anew(service: Machine) -> None:
    # D22
    shorten_watchdog(service)
    before = main_pid(service)
    service.jobrunner("enqueue", "long")
    wait_until(lambda: status_of(service).startswith("1 running"), lambda: status_of(service))
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: service.show(UNIT, "NRestarts") == "1", lambda: service.journal("-u", UNIT))
    assert "Watchdog timeout" in service.journal("-u", UNIT)
    goes_on(service, before)


@pytest.mark.drill
def test_a_killed_service_starts_anew_and_its_runs_go_on(service: Machine, full_drills: bool) -> None:
    # rule 32; D22
    service.jobrunner("enqueue", "long")
    wait_until(lambda: status_of(service).startswith("1 running"), lambda: status_of(service))
    for _ in range(10 if full_drills else 1):
        before = main_pid(service)
        os.kill(before, signal.SIGKILL)
        goes_on(service, before)


@pytest.mark.drill
def test_a_stop_leaves_nothing_behind_not_even_an_escapee(service: Machine) -> None:
    # rules 14 and 29, I7
    service.jobrunner("enqueue", "escapes")
    wait_until(lambda: "sleep 1001" in survivors(service), lambda: service.journal("-u", UNIT))
    service.do("systemctl", "stop", UNIT)
    assert survivors(service) == ""
    assert service.show(UNIT, "Result") == "success"
    said = service.journal("-u", UNIT)
    assert "1 runs interrupted, they go on at the next start" in said
    assert "timed out" not in said, "systemd had to end it"


@pytest.mark.drill
@pytest.mark.usefixtures("in_full")
def test_a_stop_may_take_longer_than_the_unit_says(service: Machine) -> None:
    # rule 30: EXTEND_TIMEOUT_USEC while draining
    drop_in(service, "[Service]\nTimeoutStopSec=1\n")
    service.jobrunner("enqueue", "long")
    wait_until(lambda: status_of(service).startswith("1 running"), lambda: status_of(service))
    service.do("systemctl", "stop", UNIT)  # shutdown_timeout is 3 s
    assert service.show(UNIT, "Result") == "success"
    assert "1 runs interrupted, they go on at the next start" in service.journal("-u", UNIT)


@pytest.mark.drill
@pytest.mark.usefixtures("in_full")
def test_a_restart_in_the_middle_of_eight_busy_slots_loses_nothing(service: Machine) -> None:
    # rule 29
    ids = {service.jobrunner("enqueue", "eight").stdout.strip() for _ in range(8)}
    wait_until(lambda: status_of(service).startswith("8 running"), lambda: status_of(service))
    service.path("/var/lib/jobrunner/go").touch()  # a second from now they end
    service.do("systemctl", "restart", UNIT)
    done = service.path("/var/lib/jobrunner/done")
    wait_until(lambda: ids <= set(done.read_text().split()), lambda: service.journal("-u", UNIT))
    assert sorted(done.read_text().split()) == sorted(ids), "none ran twice"
    print(f"{longest_pause(service):.1f} s without scheduling, over a restart with 8 busy slots")


def longest_pause(machine: Machine) -> float:
    """Seconds between two ticks' rows, at most; a tick is due each second."""
    runs = json.loads(machine.jobrunner("history", "tick", "-n", "60", "--json").stdout)
    rows = sorted(datetime.fromisoformat(run["created_at"]) for run in runs)
    return max((after - before).total_seconds() for before, after in pairwise(rows)) - 1


@pytest.mark.drill
def test_an_invalid_file_is_not_started_again_and_again(machine: Machine) -> None:
    machine.write("/etc/jobrunner/jobs.yaml", "tasks: {broken: {comand: x}}\n")
    assert machine.run("systemctl", "start", UNIT).returncode != 0
    wait_until(lambda: machine.show(UNIT, "ActiveState") == "failed", lambda: machine.journal("-u", UNIT))
    assert (machine.show(UNIT, "ExecMainStatus"), machine.show(UNIT, "NRestarts")) == ("5", "0")
    assert "did you mean 'command'" in machine.journal("-u", UNIT)
    machine.do("systemctl", "reset-failed", UNIT)


@pytest.mark.drill
@pytest.mark.usefixtures("in_full")
def test_several_files_are_several_services_each_with_its_own_storage(machine: Machine) -> None:
    for name in ("shop", "mail"):
        backend = f"sqlite:////var/lib/jobrunner/{name}/jobs.db"
        machine.write(
            f"/etc/jobrunner/{name}.yaml", FILE.replace("sqlite:////var/lib/jobrunner/jobs.db", backend)
        )
    machine.do("systemctl", "start", "jobrunner@shop", "jobrunner@mail")
    assert {machine.show(f"jobrunner@{name}", "ActiveState") for name in ("shop", "mail")} == {"active"}
    made = {machine.path(f"/var/lib/jobrunner/{name}/jobs.db").exists() for name in ("shop", "mail")}
    assert made == {True}
    told = machine.run("/opt/jobrunner/bin/jobrunner", "-c", "/etc/jobrunner/shop.yaml", "doctor").stdout
    assert "jobrunner@shop.service is active" in told
    assert "jobrunner@mail.service is active" in told
    machine.do("systemctl", "stop", "jobrunner@shop", "jobrunner@mail")
    assert survivors(machine) == ""


@pytest.mark.drill
@pytest.mark.usefixtures("in_full")
def test_the_relaxed_profile_lets_tasks_write_and_gain_privileges(service: Machine) -> None:
    relaxed = (ROOT / "systemd/drop-ins/relaxed.conf").read_text()
    drop_in(service, relaxed)
    said = service.jobrunner("enqueue", "confined", "--wait").stdout
    assert said.split("\n") == ["writes elsewhere: 0", "gains privileges: 0", "sees others: 0", ""]
