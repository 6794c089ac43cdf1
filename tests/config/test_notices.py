"""`notify` and `mail`: what is told by nobody, to nobody, or for all to read, is an error at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobrunner.config.compile import compile_file
from jobrunner.plan import Mail, Notify, Occasion

TASK = "tasks:\n  a:\n    command: date\n"


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    file = folder / "jobs.yaml"
    file.write_text(text)
    found = compile_file(str(file), environ={"PATH": "/usr/bin:/bin", **environ}, importing=True)
    return [f"{each.line}: {each.code}: {each.message}" for each in found.problems]


def mail_of(folder: Path, text: str) -> Mail:
    file = folder / "jobs.yaml"
    file.write_text(f"mail: {text}\n{TASK}")
    plan = compile_file(str(file), environ={}).plan
    assert plan is not None
    return plan.mail


@pytest.mark.parametrize(
    ("notify", "problem"),
    [
        ("{on: [failure]}", "missing-key: notify: no channel is given"),
        ("{mail: 'a b'}", "bad-value: notify.mail: got 'a b', expected an address"),
        ("{mail: -oQ/tmp}", "bad-value: notify.mail: got '-oQ/tmp', expected an address"),
        ("{mail: 'a@b.c, d@e.f'}", "bad-value: notify.mail: got 'a@b.c, d@e.f', expected an address"),
        (
            "{webhook: file:///x}",
            "bad-value: notify.webhook: got 'file:///x', expected a URL",
        ),
        ("{on: [failing], mail: root}", "bad-value: notify.on: got 'failing', expected one of failure"),
        ("{on: test, mail: root}", "bad-value: notify.on: got 'test', expected one of failure"),
        ("{mial: root}", "unknown-key: unknown key 'mial' in notify of task 'a'"),
    ],
)
def test_a_notify_that_tells_nobody_is_an_error(notify: str, problem: str, tmp_path: Path) -> None:
    found = problems(tmp_path, f"{TASK}    notify: {notify}\n")
    assert any(problem in each for each in found), found


@pytest.mark.parametrize(
    ("mail", "problem"),
    [
        (
            "{smtp: mx, user: me}",
            "missing-key: mail: got 'user', expected 'password_file' beside it",
        ),
        ("{user: me}", "key-does-not-fit: 'user' is for smtp, and mail goes by sendmail"),
        (
            "{smtp: mx.example.com, user: me, password_file: p}",
            "not-encrypted: mail: the password would go to another machine without encryption",
        ),
        ("{smtp: 'mx:99999'}", "bad-value: mail.smtp: got 'mx:99999', expected HOST or HOST:PORT"),
        ("{pasword_file: p}", "unknown-key: unknown key 'pasword_file' in mail"),
    ],
)
def test_a_mail_that_cannot_go_or_that_all_could_read_is_an_error(
    mail: str, problem: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, f"mail: {mail}\n{TASK}")
    assert any(problem in each for each in found), found


@pytest.mark.parametrize(
    ("text", "host", "port", "tls"),
    [
        ("{smtp: mx}", "mx", 25, "none"),
        ("{smtp: 'mx:587'}", "mx", 587, "starttls"),
        ("{smtp: 'mx:465'}", "mx", 465, "implicit"),
        ("{smtp: 'mx:2525', tls: starttls}", "mx", 2525, "starttls"),
        ("{smtp: '[::1]:2525'}", "::1", 2525, "none"),
        ("{smtp: '[::1]'}", "::1", 25, "none"),
    ],
)
def test_the_port_says_how_the_connection_is_encrypted(
    text: str, host: str, port: int, tls: str, tmp_path: Path
) -> None:
    mail = mail_of(tmp_path, text)
    assert (mail.host, mail.port, mail.tls) == (host, port, tls)


def test_a_password_may_go_to_this_machine_itself(tmp_path: Path) -> None:
    mail = mail_of(tmp_path, "{smtp: localhost, user: me, password_file: secrets/p}")
    assert mail.password_file == str(tmp_path / "secrets" / "p")


def test_a_sendmail_that_is_not_there_is_a_warning_where_mail_is_wanted(tmp_path: Path) -> None:
    mail = f"mail: {{sendmail: {tmp_path}/none}}\n"
    assert problems(tmp_path, mail + TASK) == []
    [warning] = problems(tmp_path, f"{mail}{TASK}    notify: {{mail: root}}\n")
    assert warning == f"5: no-sendmail: mail goes by {tmp_path}/none, which is not there"


PIPELINE = f"{TASK}pipelines:\n  p:\n    steps: [a]\n"


def test_a_pipeline_tells_as_a_task_does(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    notify = "{on: [success, late], mail: root, command: 'page ${X}'}"
    file.write_text(f"env: {{WHO: ops}}\n{PIPELINE}    notify: {notify}\n")
    plan = compile_file(str(file), environ={}).plan
    assert plan is not None
    pipeline = plan.pipelines["p"]
    assert pipeline.notify == Notify(
        on=(Occasion.SUCCESS, Occasion.LATE), mail=("root",), command="page ${X}"
    )
    assert dict(pipeline.env) == {"WHO": "ops"}


@pytest.mark.parametrize(
    ("notify", "problem"),
    [
        ("{on: [failure]}", "missing-key: notify: no channel is given"),
        ("{mial: root}", "unknown-key: unknown key 'mial' in notify of pipeline 'p'"),
        ("{mail: 'a b'}", "bad-value: notify.mail: got 'a b', expected an address"),
    ],
)
def test_a_notify_of_a_pipeline_that_tells_nobody_is_an_error(
    notify: str, problem: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, f"{PIPELINE}    notify: {notify}\n")
    assert any(problem in each for each in found), found


def test_a_pipeline_whose_mail_cannot_leave_is_a_warning(tmp_path: Path) -> None:
    text = f"mail: {{sendmail: /no/such/sendmail}}\n{PIPELINE}    notify: {{mail: root}}\n"
    assert any("no-sendmail" in each for each in problems(tmp_path, text))
