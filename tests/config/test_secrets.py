"""`secrets`: values that are redacted in all that is kept and shown; what cannot be kept is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from jobrunner.config.effective import effective

ENVIRON = {"DB_PASSWORD": "open sesame", "HOOK": "s3cr3t-token", "PATH": "/usr/bin:/bin"}


def compiled(folder: Path, text: str) -> Compiled:
    file = folder / "jobs.yaml"
    file.write_text(text)
    return compile_file(str(file), environ=ENVIRON)


def test_a_secret_is_known_wherever_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "keys.env").write_text("API_KEY=abcdefgh\n")
    found = compiled(
        tmp_path,
        """
secrets: [DB_PASSWORD, API_KEY, TOKEN, POOL_KEY]
pools: {io: {kind: process, env: {POOL_KEY: in-the-pool}}}
tasks:
  a: {command: date, env_file: keys.env}
  b: {command: date, env: {TOKEN: a-token-of-b}}
""",
    )
    assert found.problems == ()
    plan = found.plan
    assert plan is not None
    assert set(plan.secrets) == {"open sesame", "abcdefgh", "a-token-of-b", "in-the-pool"}
    assert set(plan.tasks["a"].secrets) == {"open sesame", "abcdefgh", "in-the-pool"}


@pytest.mark.parametrize(
    "key",
    [
        "args: ['${DB_PASSWORD}']",
        "kwargs: {password: '${DB_PASSWORD}'}",
        "description: log in with ${DB_PASSWORD}",
        "schedule: {every: 1h, kwargs: {url: 'http://u:${DB_PASSWORD}@h'}}",
    ],
)
def test_a_secret_that_would_lie_in_the_storage_is_an_error(key: str, tmp_path: Path) -> None:
    found = compiled(tmp_path, f"secrets: DB_PASSWORD\ntasks:\n  a:\n    command: date\n    {key}\n")
    [problem] = found.errors
    assert (problem.line, problem.code) == (5, "secret-stored")
    assert "by env or env_file" in problem.help


def test_a_secret_among_the_arguments_of_a_step_is_an_error(tmp_path: Path) -> None:
    text = "secrets: DB_PASSWORD\ntasks: {a: {command: date}}\npipelines:\n  p:\n    steps:\n"
    found = compiled(tmp_path, f"{text}      - {{task: a, kwargs: {{p: '${{DB_PASSWORD}}'}}}}\n")
    assert [(each.line, each.code) for each in found.errors] == [(4, "secret-stored")]


def test_a_secret_is_in_no_message(tmp_path: Path) -> None:
    text = "secrets: DB_PASSWORD\ntasks:\n  a: {command: date, timeout: '${DB_PASSWORD}'}\n"
    found = compiled(tmp_path, text)
    assert (
        "timeout: got '***'" in found.rendered.replace("not a duration: ", "got ") or "***" in found.rendered
    )
    assert "sesame" not in found.rendered + str(found.problems)


def test_a_name_without_a_value_and_a_short_value_are_warnings(tmp_path: Path) -> None:
    found = compiled(tmp_path, "secrets: [DB_PASWORD, PIN]\nenv: {PIN: '1234'}\ntasks: {}\n")
    assert [each.code for each in found.warnings] == ["secret-unset", "secret-too-short"]


def test_show_has_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "secrets: [DB_PASSWORD, HOOK]\ntasks:\n  a:\n    command: date\n    env: {URL: 'db://u:${DB_PASSWORD}@h'}\n"
        "    notify: {command: [page, x], webhook: 'https://h/${HOOK}'}\n"
    )
    settings = {each.key: each.value for each in effective(str(file), "a", environ=ENVIRON)}
    assert settings["env"] == {"URL": "db://u:***@h"}
    assert settings["notify"]["webhook"] == "https://h/***"  # type: ignore[index]
    assert "sesame" not in str(settings)
