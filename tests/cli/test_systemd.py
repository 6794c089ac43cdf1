"""`jobrunner systemd` and the units in the folder of this name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobrunner.cli.units import Unit, shipped
from tests.cli.desk import Desk

ROOT = Path(__file__).parents[2]
FILE = """
shutdown_timeout: 2m
tasks:
  any: {command: "true", kill_after: 1m}
"""
MOST_EXPOSED = 25  # tenths: D22 wants 2.5 at most

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def lines_of(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line and not line.startswith("#")]


def exposure(unit: Path) -> float:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", unit],
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done
    assert (done.returncode == 0) == (float(found[1]) * 10 <= MOST_EXPOSED)
    return float(found[1])


@pytest.mark.parametrize("name", list(shipped()))
def test_the_units_shipped_are_the_ones_printed(name: str) -> None:
    assert (ROOT / "systemd" / name).read_text() == shipped()[name]


@needs_systemd
@pytest.mark.parametrize("name", ["jobrunner.service", "jobrunner@.service"])
def test_the_hardened_units_are_hardly_exposed(tmp_path: Path, name: str) -> None:
    unit = tmp_path / name.replace("@", "@shop")
    unit.write_text(shipped()[name])
    score = exposure(unit)
    print(f"{name}: {score}, to hold: {MOST_EXPOSED / 10}")
    assert score <= MOST_EXPOSED / 10


@needs_systemd
def test_systemd_finds_nothing_wrong_with_a_printed_unit(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text(FILE)
    for options in ([], ["--relaxed"]):
        unit = desk.folder / "jobrunner.service"
        unit.write_text(desk("systemd", *options).out)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
        complaints = [line for line in done.stderr.splitlines() if "jobrunner.service" in line]
        assert (done.returncode, complaints) == (0, []), done


def test_a_printed_unit_has_absolute_paths_and_time_for_the_files_own_limits(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text(FILE)
    lines = lines_of(desk("systemd").out)
    program = Path(sys.executable).parent / "jobrunner"
    assert f"ExecStart={program} run {desk.folder}/jobs.yaml" in lines
    assert f"ExecReload={program} -c {desk.folder}/jobs.yaml reload" in lines
    assert f"ReadWritePaths={desk.folder}/.jobrunner" in lines
    assert {"Type=notify", "RestartPreventExitStatus=5", "NoNewPrivileges=yes"} <= set(lines)
    # rule 29: shutdown_timeout, the largest kill_after, and 2 s
    patience = next(int(line.partition("=")[2]) for line in lines if line.startswith("TimeoutStopSec="))
    assert patience >= 120 + 60 + 2


def test_the_commands_are_exact_and_stand_in_the_unit(desk: Desk) -> None:
    (desk.folder / "shop.yaml").write_text(FILE)
    document = desk("systemd", "--relaxed", "-c", "shop.yaml", "--json").document
    assert document["name"] == "jobrunner-shop"
    assert "sudo systemctl enable --now jobrunner-shop" in document["commands"]
    made = next(each for each in document["commands"] if "tee" in each)
    assert (
        f"-c {desk.folder}/shop.yaml systemd --relaxed | sudo tee /etc/systemd/system/jobrunner-shop.service"
        in made
    )
    assert all(f"#   {each}" in document["unit"] for each in document["commands"])


def test_a_unit_of_a_user_is_installed_without_root(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text(FILE)
    document = desk("systemd", "--user", "--json").document
    assert "WantedBy=default.target" in document["unit"]
    assert "User=" not in document["unit"]
    assert not any("sudo" in each for each in document["commands"])


def test_a_file_with_an_error_gets_no_unit(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text("tasks: {x: {comand: y}}\n")
    answer = desk("systemd")
    assert (answer.code, answer.out) == (5, "")


def test_tasks_of_other_users_are_warned_of(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text("tasks: {x: {command: y, user: nobody}}\n")
    answer = desk("systemd")
    assert "--relaxed --as root" in answer.err


def test_what_systemd_would_expand_is_escaped() -> None:
    unit = Unit(
        program=("/opt/a b/50%/$x",), file='/etc/"q"\\.yaml', state="/srv/100% sure", user="me"
    ).text()
    assert 'ExecStart="/opt/a b/50%%/$$x" run "/etc/\\"q\\"\\\\.yaml"' in unit
    assert 'ReadWritePaths="/srv/100%% sure"' in unit


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("/srv/app/.jobrunner", {"ProtectHome=yes", "PrivateTmp=yes"}),
        ("/home/ana/.jobrunner", {"ProtectHome=read-only", "PrivateTmp=yes"}),
        ("/tmp/app/.jobrunner", {"ProtectHome=yes", "PrivateTmp=no"}),
    ],
)
def test_the_hardened_profile_leaves_what_the_service_itself_needs(place: str, wanted: set[str]) -> None:
    unit = Unit(program=("/opt/jobrunner",), file="/etc/jobs.yaml", state=place, user="me")
    assert wanted <= set(lines_of(unit.text()))
