"""`jobrunner notify --test`, and what `status` says of notifications that do not arrive."""

from __future__ import annotations

import json

from tests.live import Project
from tests.notify.servers import HERE, hook, mail_server


def test_a_test_goes_to_everybody_once_and_says_so(project: Project) -> None:
    with mail_server() as server, hook() as told:
        project.write(f"""
mail: {{smtp: "{HERE}:{server.port}"}}
defaults: {{notify: {{mail: ops@example.com, webhook: "{told.url}"}}}}
tasks:
  a: {{command: "true"}}
  b: {{command: "true"}}
  c: {{command: "true", notify: {{command: "cat > told.json"}}}}
  d: {{command: "true", notify: null}}
pipelines:
  p: {{steps: [a], notify: {{command: "cat > whole.json"}}}}
""")
        done = project.jobrunner("notify", "--test")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "✓ a: mail ops@example.com",
            "✓ a: webhook 127.0.0.1",
            "✓ c: command cat > told.json",
            "✓ p: command cat > whole.json",
        ]
        [mail] = server.mails.items
        assert mail["Subject"].endswith("a sends a test")
        assert [each["occasion"] for each in told.documents.items] == ["test"]
        assert json.loads((project.folder / "told.json").read_text())["task"] == "c"
        assert json.loads((project.folder / "whole.json").read_text())["task"] == "p"


def test_what_does_not_arrive_is_exit_code_1(project: Project) -> None:
    with hook(lambda: 404) as told:
        project.write(f"""
tasks:
  a: {{command: "true", notify: {{webhook: "{told.url}"}}}}
  b: {{command: "true", notify: {{command: "echo no such pager >&2; exit 3"}}}}
""")
        done = project.jobrunner("notify", "--test", "a")
        assert done.stdout == "✗ a: webhook 127.0.0.1: 404 Not Found\n"
        assert done.returncode == 1
        [answer] = project.answer("notify", "--test", "b", exit_code=1)
    assert (answer["task"], answer["channel"]) == ("b", "command")
    assert answer["error"] == "exit 3: no such pager"


def test_a_file_that_tells_nobody_is_told_how_to(project: Project) -> None:
    project.write('tasks:\n  a: {command: "true"}\n')
    done = project.jobrunner("notify", "--test")
    assert done.returncode == 4
    assert done.stderr == (
        "error: no task has notify: nobody is to be told\nhelp: notify: {mail: ops@example.com}\n"
    )
    assert project.jobrunner("notify", "--test", "z").returncode == 4


def test_without_test_nothing_is_sent(project: Project) -> None:
    assert project.jobrunner("notify").returncode == 2
