"""`jobrunner import-crontab` as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import jobrunner as jobrunner_package
from jobrunner.cli import main
from tests.cli.desk import Desk, Terminal
from tests.crontab.imports import CRONTABS, FOLDER
from tests.live import clean_environment

PATIENCE = 120.0  # seconds; a year of ticks on a busy machine
SMALL = """\
# mine
MAILTO=ana@example.org
30 2 * * * /opt/backup.sh
1 2 3 four
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Europe/Paris")
    return Desk(tmp_path)


@pytest.mark.parametrize("name", CRONTABS)
def test_crontab_l_becomes_a_file_that_passes_check(name: str, tmp_path: Path) -> None:
    """As a person types it: `crontab -l` is played by `cat`."""
    jobrunner = f"{sys.executable} -m jobrunner"
    crontab = f"cat {FOLDER}/{name}.crontab"
    typed = f"{crontab} | {jobrunner} import-crontab - > jobs.yaml && {jobrunner} check jobs.yaml"
    here = {"TZ": "America/New_York", "PYTHONPATH": str(Path(jobrunner_package.__file__).parents[1])}
    done = subprocess.run(
        ["sh", "-c", typed],
        cwd=tmp_path,
        env=clean_environment(tmp_path) | here,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in done.stdout
    assert "a year compared with cron" in done.stderr
    assert "all at DST" in done.stderr or "at DST" in done.stderr or "no difference" in done.stderr


def test_the_file_is_the_answer_and_the_report_is_talk(desk: Desk) -> None:
    answer = desk("import-crontab", "-", "--user", "nobody-here", stdin=SMALL)
    assert answer.code == 0
    assert answer.out == (
        "env:  # as cron sets it\n"
        "  PATH: /usr/bin:/bin\n"
        "  HOME: /home/nobody-here\n"
        "  SHELL: /bin/sh\n"
        "  MAILTO: ana@example.org\n"
        "  LOGNAME: nobody-here\n"
        "\n"
        "defaults:  # cron's ways; strike one out and jobrunner's own holds\n"
        "  overlap: allow\n"
        "  catch_up: none\n"
        "  leftovers: keep\n"
        "  on_interrupt: fail\n"
        "  cwd: /home/nobody-here\n"
        "  notify: {on: [failure, recovery], mail: ana@example.org}\n"
        "\n"
        "tasks:\n"
        "  # mine\n"
        "  # note: cron runs this as nobody-here, whom this machine does not know: disabled;"
        " give it user: nobody-here before you enable it\n"
        "  backup:\n"
        "    command: /opt/backup.sh\n"
        '    schedule: "30 2 * * *"\n'
        "    enabled: false\n"
        "\n"
        "  # not imported, line 4: cron refuses this line:"
        " it is neither a variable nor five fields and a command\n"
        "  #     1 2 3 four\n"
    )
    assert "line 3: task backup: 30 2 * * * /opt/backup.sh\n" in answer.err
    assert "line 4: left as a comment: 1 2 3 four\n" in answer.err
    assert answer.err.endswith(
        "1 task (1 of them disabled), 1 line not imported, 1 comment kept\n"
        "a year compared with cron, 366 ticks: no difference\n"
    )


def test_json_is_one_document(desk: Desk) -> None:
    answer = desk("import-crontab", "--json", "-o", "jobs.yaml", stdin=SMALL + "0,30 2 * * * x\n")
    assert answer.code == 0
    document = answer.document
    assert [task["name"] for task in document["tasks"]] == ["backup", "x"]
    assert [(line["line"], line["task"]) for line in document["lines"]] == [
        (1, None),
        (2, None),
        (3, "backup"),
        (4, None),
        (5, "x"),
    ]
    assert document["lines"][3]["text"] == "1 2 3 four"
    assert document["lines"][3]["notes"][0].startswith("not imported")
    first, second = document["equivalence"]
    assert (first["task"], first["timezone"], first["differences"]) == ("backup", "Europe/Paris", [])
    assert second["differences"] == [
        {
            "at": "2027-03-28T03:00:00+02:00",
            "cron": 2,
            "jobrunner": 1,
            "text": "cron starts it 2 times at once, jobrunner once",
        }
    ]
    assert (desk.folder / "jobs.yaml").exists()
    assert "yaml" not in document


def test_json_without_a_file_holds_the_text(desk: Desk) -> None:
    assert desk("import-crontab", "--json", stdin="@daily x\n").document["yaml"].startswith("env:")


def test_a_file_that_is_there_is_left_alone(desk: Desk) -> None:
    (desk.folder / "jobs.yaml").write_text("mine")
    answer = desk("import-crontab", "-o", "jobs.yaml", stdin=SMALL)
    assert (answer.code, answer.out) == (1, "")
    assert "is there already" in answer.err
    assert (desk.folder / "jobs.yaml").read_text() == "mine"


def test_a_user_column_is_read_when_asked_for(desk: Desk) -> None:
    (desk.folder / "tab").write_text("@daily nobody-here x\n")
    answer = desk("import-crontab", "tab", "--system", "--user", "nobody-here", "--json")
    (task,) = answer.document["tasks"]
    assert (task["command"], task["enabled"]) == ("x", False)


def test_the_crontab_of_another_user_never_runs_as_the_importer(desk: Desk) -> None:
    answer = desk("import-crontab", "-", "--user", "daemon", stdin="0 1 * * * id -un\n")
    kept = "user: daemon" if os.geteuid() == 0 else "enabled: false"
    assert f"    {kept}\n" in answer.out


def test_what_is_not_utf_8_is_read_as_latin_1_and_said(desk: Desk) -> None:
    (desk.folder / "tab").write_bytes(b"@daily echo gr\xfc\xdfe\n")
    answer = desk("import-crontab", "tab")
    assert "command: echo grüße" in answer.out.replace('"', "")
    assert "not UTF-8" in answer.err


@pytest.mark.parametrize(
    ("file", "code", "said"),
    [
        ("nothing-here", 1, "cannot read nothing-here"),
        (".", 2, "is a folder"),
        ("/etc/anacrontab", 2, "an anacrontab has another form"),
    ],
)
def test_a_mistake_has_its_exit_code_and_its_help(desk: Desk, file: str, code: int, said: str) -> None:
    answer = desk("import-crontab", file)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err


def test_a_terminal_on_stdin_is_told_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    assert main(["import-crontab"]) == 2
    assert "crontab -l | jobrunner import-crontab -" in capsys.readouterr().err
