"""Notifications arrive: a real supervisor, real servers on the loopback, a real sendmail-like command."""

from __future__ import annotations

import json
import os
import signal
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from tests.live import PATIENCE, Project, wait_until

from .servers import HERE, hook, mail_server

SENDMAIL = """\
#!/bin/sh
echo "$*" >> "$(dirname "$0")/arguments"
cat >> "$(dirname "$0")/mails"
"""


def test_a_failed_run_is_mailed_with_the_end_of_its_output(project: Project) -> None:
    with mail_server() as server:
        project.write(f"""
mail: {{smtp: "{HERE}:{server.port}", sender: jobs@example.com}}
tasks:
  backup:
    command: echo "first line"; echo "no space left on dévice" >&2; exit 3
    schedule: reboot
    notify: {{mail: [ops@example.com, dev@example.com]}}
""")
        supervisor = project.start()
        [mail] = server.mails.wait()
        assert mail["Subject"].endswith("backup failed: exit 3")
        assert (mail["From"], mail["To"]) == ("jobs@example.com", "ops@example.com, dev@example.com")
        assert mail["Auto-Submitted"] == "auto-generated"
        body = mail.get_content()
        assert "output, its end:\n  first line\n  no space left on dévice\n" in body.replace("\r\n", "\n")
        supervisor.wait_for("notified", task="backup", occasion="failure")


def test_a_failure_is_told_after_the_last_retry_and_the_recovery_once(project: Project) -> None:
    # "failure = final failure; recovery = first success after one"
    with hook() as told:
        project.write(f"""
tasks:
  flaky:
    command: test -e good
    retries: {{max: 2, delay: 50ms}}
    notify: {{on: [failure, recovery], webhook: "{told.url}"}}
""")
        project.start()
        project.jobrunner("enqueue", "flaky", "--wait")
        [failure] = told.documents.wait()
        assert (failure["occasion"], failure["run"]["attempt"]) == ("failure", 3)
        (project.folder / "good").touch()
        for _ in range(3):
            assert project.jobrunner("enqueue", "flaky", "--wait").returncode == 0
        (project.folder / "good").unlink()
        project.jobrunner("enqueue", "flaky", "--wait")
        occasions = [each["occasion"] for each in told.documents.wait(3)]
    assert occasions == ["failure", "recovery", "failure"]


def test_the_recovery_from_a_failure_of_before_a_restart_is_told(project: Project) -> None:
    with hook() as told:
        project.write(f"""
tasks:
  flaky: {{command: test -e good, notify: {{webhook: "{told.url}"}}}}
""")
        first = project.start()
        project.jobrunner("enqueue", "flaky", "--wait")
        told.documents.wait()
        first.stop()
        (project.folder / "good").touch()
        project.start()
        project.jobrunner("enqueue", "flaky", "--wait")
        assert told.documents.wait(2)[1]["text"].startswith("flaky works again")


def test_successes_are_told_to_a_command_as_json_on_stdin(project: Project) -> None:
    project.write("""
env: {GREETING: hello}
tasks:
  report:
    command: echo done
    notify:
      on: [success]
      command: cat > told.$GREETING.json
""")
    supervisor = project.start()
    project.jobrunner("enqueue", "report", "--wait")
    supervisor.wait_for("notified", occasion="success")
    told = json.loads((project.folder / "told.hello.json").read_text())
    assert (told["task"], told["run"]["state"], told["output_tail"]) == ("report", "succeeded", "done\n")
    assert told["run"]["exit_code"] == 0


def test_the_end_of_a_pipeline_is_told_once_with_the_step_that_failed(project: Project) -> None:
    project.write("""
pipelines:
  nightly:
    steps: [extract, load]
    notify: {on: [failure, recovery, success], command: cat >> told}
tasks:
  extract: {command: echo extracted}
  load: {command: echo loading; test -e good}
""")
    supervisor = project.start()
    assert project.jobrunner("enqueue", "nightly", "--wait").returncode == 1
    supervisor.wait_for("notified", occasion="failure")
    (project.folder / "good").touch()
    assert project.jobrunner("enqueue", "nightly", "--wait").returncode == 0
    for occasion in ("recovery", "success"):
        supervisor.wait_for("notified", occasion=occasion)
    told = [json.loads(line) for line in (project.folder / "told").read_text().splitlines()]
    assert told[0]["text"] == "nightly failed: load, exit 1"
    assert told[0]["output_tail"] == "loading\n"
    assert sorted(each["occasion"] for each in told[1:]) == ["recovery", "success"]
    assert {each["task"] for each in told} == {"nightly"}


def test_mail_goes_by_a_sendmail_where_no_server_is_named(project: Project) -> None:
    program = project.write(SENDMAIL, "sendmail.sh")
    program.chmod(0o755)
    project.write(f"""
mail: {{sendmail: "{program}", sender: jobs@example.com}}
tasks:
  bad: {{command: exit 1, schedule: reboot, notify: {{mail: ops@example.com}}}}
""")
    project.start().wait_for("notified")
    assert (project.folder / "arguments").read_text() == "-i -f jobs@example.com -- ops@example.com\n"
    assert "bad failed: exit 1" in (project.folder / "mails").read_text()


@pytest.mark.parametrize("how", ["starttls", "implicit"])
def test_a_login_goes_over_an_encrypted_connection(
    how: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HERE).configure_cert(context)
    known = project.folder / "authority.pem"
    authority.cert_pem.write_to_path(str(known))
    monkeypatch.setenv("SSL_CERT_FILE", str(known))
    project.write("open sesame\n", "password")
    with mail_server(tls=context, implicit=how == "implicit", login=True) as server:
        project.write(f"""
mail: {{smtp: "{HERE}:{server.port}", tls: {how}, user: jobs, password_file: password}}
tasks:
  bad: {{command: exit 1, schedule: reboot, notify: {{mail: ops@example.com}}}}
""")
        project.start().wait_for("notified")
        assert (server.logins, server.encrypted) == (["jobs"], [True])


def test_a_certificate_that_nobody_knows_gets_no_mail(project: Project) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(HERE).configure_cert(context)
    with mail_server(tls=context, implicit=True) as server:
        project.write(f"""
mail: {{smtp: "{HERE}:{server.port}", tls: implicit}}
tasks:
  bad: {{command: exit 1, schedule: reboot, notify: {{mail: ops@example.com}}}}
""")
        failed = project.start().wait_for("not-notified")
        assert "certificate" in failed["error"].lower()
        assert server.mails.items == []


def test_a_tick_that_did_not_run_is_told(project: Project) -> None:
    with hook() as told:
        project.write(f"""
tasks:
  slow:
    command: sleep 2.5
    schedule: every 1s
    notify: {{on: [missed], webhook: "{told.url}"}}
""")
        project.start()
        [missed] = told.documents.wait()
    assert (missed["occasion"], missed["run"]["reason"]) == ("missed", "overlap")


# ---- when nobody answers ---------------------------------------------------------------------------------


def test_a_webhook_that_fails_is_seen_in_log_and_status_and_delays_no_run(project: Project) -> None:
    with hook(lambda: 503) as told:
        project.write(f"""
tasks:
  bad: {{command: exit 1, schedule: reboot, notify: {{webhook: "{told.url}"}}}}
  good: {{command: "true"}}
""")
        supervisor = project.start()
        failed = supervisor.wait_for("not-notified", task="bad")
        assert failed["error"] == f"webhook {HERE}: 503 Service Unavailable"
        assert "secret-path" not in supervisor.log()
        assert project.jobrunner("enqueue", "good", "--wait").returncode == 0

        def shown() -> bool:
            [found] = project.answer("status")["supervisors"]
            return bool(found["notifications"] == {"waiting": 1, "error": failed["error"]})

        wait_until(shown, lambda: project.jobrunner("status", "--json").stdout)
        assert "✗ 1 notification not delivered: webhook 127.0.0.1: 503" in project.jobrunner("status").stdout
        history = project.answer("history", "bad")
    assert [(run["state"], run["attempt"]) for run in history] == [("failed", 1)]


def test_a_redirection_is_not_followed(project: Project) -> None:
    with hook(lambda: 302) as told:
        project.write(f"""
tasks:
  bad: {{command: exit 1, schedule: reboot, notify: {{webhook: "{told.url}"}}}}
""")
        project.start().wait_for("not-notified", error=f"webhook {HERE}: 302 Found")
    assert [each["text"] for each in told.documents.items] == ["bad failed: exit 1"]


def test_a_channel_that_was_told_is_not_told_again_for_the_sake_of_another(project: Project) -> None:
    project.write("""
tasks:
  bad:
    command: exit 1
    schedule: reboot
    notify: {command: "echo x >> told", webhook: "http://127.0.0.1:9/nobody"}
""")
    first = project.start()
    first.wait_for("not-notified")
    first.stop()
    project.start().wait_for("not-notified")
    assert (project.folder / "told").read_text() == "x\n"


def test_a_webhook_that_never_answers_holds_up_neither_runs_nor_a_stop(project: Project) -> None:
    never = threading.Event()
    with hook(lambda: int(never.wait(PATIENCE)) + 200) as told:
        project.write(f"""
tasks:
  bad: {{command: exit 1, schedule: reboot, notify: {{webhook: "{told.url}"}}}}
  good: {{command: "true"}}
""")
        supervisor = project.start()
        told.documents.wait()
        for _ in range(3):
            assert project.jobrunner("enqueue", "good", "--wait").returncode == 0
        assert supervisor.insist() == 0
        never.set()
    assert len(list((project.folder / ".jobrunner" / "notices").iterdir())) == 1


# ---- ends of supervisors ---------------------------------------------------------------------------------


def test_a_run_that_fails_during_a_stop_is_told_before_the_end(project: Project) -> None:
    # rule 29: completions in this phase are recorded, and what follows from them is done
    with hook() as told:
        project.write(f"""
tasks:
  bad:
    command: touch began; while test ! -e go; do sleep 0.05; done; exit 4
    schedule: reboot
    notify: {{webhook: "{told.url}"}}
""")
        supervisor = project.start()
        wait_until((project.folder / "began").exists, supervisor.log)
        os.kill(supervisor.pid, signal.SIGTERM)
        supervisor.wait_for("stopping")
        (project.folder / "go").touch()
        assert supervisor.wait() == 0
        assert [each["run"]["exit_code"] for each in told.documents.items] == [4]
    assert not (project.folder / ".jobrunner" / "notices").exists()


def test_once_tells_before_it_ends(project: Project) -> None:
    with hook() as told:
        project.write(f"""
tasks:
  bad: {{command: exit 4, schedule: reboot, notify: {{webhook: "{told.url}"}}}}
""")
        assert project.start("--once", ready=False).wait() == 0
        assert len(told.documents.items) == 1


def test_what_a_killed_supervisor_had_not_delivered_its_successor_tells(project: Project) -> None:
    held = threading.Event()
    with hook(lambda: int(held.wait(PATIENCE)) + 199) as told:
        project.write(f"""
tasks:
  bad: {{command: exit 5, schedule: reboot, notify: {{webhook: "{told.url}"}}}}
""")
        first = project.start()
        told.documents.wait()
        first.kill()
        held.set()
        project.start().wait_for("notified", task="bad")
        again = told.documents.wait(2)
    assert {each["run"]["id"] for each in again} == {again[0]["run"]["id"]}


def test_a_run_that_recovery_fails_is_told(project: Project, tmp_path: Path) -> None:
    with hook() as told:
        project.write(f"""
tasks:
  once:
    command: touch began; sleep 1000
    schedule: reboot
    on_interrupt: fail
    notify: {{webhook: "{told.url}"}}
""")
        first = project.start()
        wait_until((tmp_path / "began").exists, first.log)
        first.kill()
        project.start()
        [document] = told.documents.wait()
    assert document["text"] == "once failed: interrupted"
