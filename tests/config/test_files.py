"""The files of a configuration: what they may be, whose they are, and how they belong together."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from jobrunner.config.problems import Findings
from jobrunner.config.reading import LARGEST, intruders
from jobrunner.plan import Plan


def compiled(path: Path, **environ: str) -> Compiled:
    return compile_file(str(path), environ={"HOME": "/home/ana", **environ})


def plan_of(path: Path, **environ: str) -> Plan:
    found = compiled(path, **environ)
    assert found.plan is not None, found.rendered
    return found.plan


def codes(found: Compiled) -> list[str]:
    assert found.plan is None or not found.errors
    return [problem.code for problem in found.problems]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# ---- what a file may be ----------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = compiled(tmp_path / "nothing.yaml")
    assert codes(found) == ["file-missing"]
    assert found.rendered.startswith(f"{tmp_path}/nothing.yaml: error: there is no file")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    found = compiled(tmp_path)
    assert codes(found) == ["file-not-regular"]
    assert "is a folder" in found.rendered


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "jobs.yaml")
    found = compiled(tmp_path / "jobs.yaml")
    assert codes(found) == ["file-not-regular"]
    assert "is a named pipe" in found.rendered


def test_a_device_is_refused() -> None:
    assert codes(compiled(Path("/dev/zero"))) == ["file-not-regular"]


def test_a_file_of_another_encoding_is_refused_where_it_differs(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_bytes("tasks: {}\n# déjà\n".encode("latin1"))
    problem = compiled(file).problems[0]
    assert (problem.code, problem.line, problem.column) == ("file-not-utf8", 2, 4)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_bytes(b"\xef\xbb\xbftasks: {}\n")
    assert plan_of(file).tasks == {}


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    with file.open("wb") as stream:
        stream.truncate(LARGEST + 1)
    assert codes(compiled(file)) == ["file-too-large"]


def test_links_are_followed_and_paths_count_from_the_link(tmp_path: Path) -> None:
    write(tmp_path / "..data/jobs.yaml", "tasks: {a: {command: date}}")
    (tmp_path / "jobs.yaml").symlink_to("..data/jobs.yaml")
    plan = plan_of(tmp_path / "jobs.yaml")
    assert (plan.file, plan.tasks["a"].cwd) == (str(tmp_path / "jobs.yaml"), str(tmp_path))


def test_a_bomb_is_refused_without_being_written_out(tmp_path: Path) -> None:
    levels = "".join(
        f"x-{b}: &{b} {{" + ", ".join(f"k{i}: *{a}" for i in range(8)) + "}\n"
        for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    bomb = f"x-a: &a {{k: v}}\n{levels}tasks: {{<<: *j}}\n"
    assert codes(compiled(write(tmp_path / "jobs.yaml", bomb))) == ["alias-bomb"]


# ---- whose they are (S5) ---------------------------------------------------------------------------------


def complaints(path: Path) -> list[str]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [message for message, _ in intruders(descriptor, str(path), path.name)]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o755, 0o400])
def test_a_file_that_nobody_else_can_write_is_fine(mode: int, tmp_path: Path) -> None:
    file = write(tmp_path / "jobs.yaml", "tasks: {}")
    file.chmod(mode)
    assert complaints(file) == []


@pytest.mark.parametrize("mode", [0o602, 0o606, 0o666, 0o777, 0o642])
def test_a_file_that_others_can_write_is_not(mode: int, tmp_path: Path) -> None:
    file = write(tmp_path / "jobs.yaml", "tasks: {}")
    file.chmod(mode)
    assert complaints(file) == ["jobs.yaml can be written by other users"]
    found = compiled(file)
    wanted = "error" if os.geteuid() == 0 else "warning"
    assert [(each.severity, each.code) for each in found.problems] == [(wanted, "file-writable-by-others")]


def test_a_folder_above_that_others_can_write_is_not_unless_it_is_sticky(tmp_path: Path) -> None:
    file = write(tmp_path / "above/folder/jobs.yaml", "tasks: {}")
    (tmp_path / "above").chmod(0o777)
    assert complaints(file) == [f"jobs.yaml lies below {tmp_path}/above, which other users can write"]
    (tmp_path / "above").chmod(0o777 | stat.S_ISVTX)
    assert complaints(file) == []


def test_the_folder_of_a_link_counts_like_that_of_its_target(tmp_path: Path) -> None:
    write(tmp_path / "target/jobs.yaml", "tasks: {}")
    (tmp_path / "link").mkdir(mode=0o755)
    (tmp_path / "link/jobs.yaml").symlink_to("../target/jobs.yaml")
    assert complaints(tmp_path / "link/jobs.yaml") == []
    for folder in ("link", "target"):
        (tmp_path / folder).chmod(0o777)
        assert len(complaints(tmp_path / "link/jobs.yaml")) == 1
        (tmp_path / folder).chmod(0o755)


def test_an_included_file_that_others_can_write_is_not_taken_either(tmp_path: Path) -> None:
    write(tmp_path / "more.yaml", "tasks: {b: {command: x}}").chmod(0o666)
    found = compiled(write(tmp_path / "jobs.yaml", "include: more.yaml\ntasks: {a: {command: x}}"))
    assert [each.code for each in found.problems] == ["file-writable-by-others"]


@pytest.mark.parametrize(("user", "severity"), [(0, "error"), (1000, "warning")])
def test_for_root_it_is_an_error_and_for_others_a_warning(
    user: int, severity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "jobs.yaml", "tasks: {a: {command: date}}")
    file.chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert [(each.severity, each.code) for each in compiled(file).problems] == [
        (severity, "file-writable-by-others")
    ]


# ---- include ---------------------------------------------------------------------------------------------


def test_included_tasks_join_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "jobs.d/20-b.yaml", "tasks: {b: {command: date}}")
    write(
        tmp_path / "jobs.d/10-a.yaml", "tasks: {a: {command: date, cwd: x, lock: l}}\nlocks: {l: {slots: 2}}"
    )
    write(tmp_path / "jobs.d/notes.txt", "no yaml: [")
    text = "include: jobs.d/*.yaml\ndefaults: {timeout: 1s}\nenv: {A: 1}\ntasks: {main: {command: date}}"
    plan = plan_of(write(tmp_path / "jobs.yaml", text))
    assert list(plan.tasks) == ["main", "a", "b"]
    assert (plan.tasks["b"].timeout, plan.tasks["b"].env) == (1_000_000, {"A": "1"})
    assert (plan.tasks["b"].cwd, plan.tasks["a"].cwd) == (str(tmp_path), str(tmp_path / "jobs.d/x"))
    assert plan.locks == {"l": 2}


def test_a_task_that_two_files_declare_is_an_error_with_both_places(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", "tasks:\n  a: {command: date}\n")
    found = compiled(write(tmp_path / "jobs.yaml", "include: [b.yaml]\ntasks:\n\n  a: {command: date}\n"))
    problem = found.problems[0]
    assert (problem.code, problem.file, problem.line) == ("duplicate-task", f"{tmp_path}/b.yaml", 2)
    assert f"first in {tmp_path}/jobs.yaml on line 4" in problem.message


def test_files_that_include_each_other_are_told_so(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", "include: c.yaml")
    write(tmp_path / "c.yaml", "include: jobs.yaml")
    found = compiled(write(tmp_path / "jobs.yaml", "include: [b.yaml]\ntasks: {}"))
    assert codes(found) == ["include-cycle"]
    assert "jobs.yaml -> b.yaml -> c.yaml -> jobs.yaml" in found.rendered


def test_problems_of_all_files_are_reported_in_the_order_of_the_files(tmp_path: Path) -> None:
    write(tmp_path / "b.yaml", "tasks: {b: {comand: x}}\ntimezone: UTC\n")
    write(tmp_path / "a.yaml", "tasks: {a: {timeout: x, command: date}}")
    found = compiled(write(tmp_path / "jobs.yaml", "include: [b.yaml, a.yaml]\ntasks: {m: {command: [}}"))
    assert codes(found) == ["yaml-syntax"]
    found = compiled(write(tmp_path / "jobs.yaml", "include: [b.yaml, a.yaml]\ntasks: {m: {call: x}}"))
    places = [(Path(each.file).name, each.line, each.code) for each in found.problems]
    assert places == [
        ("jobs.yaml", 2, "bad-value"),
        ("b.yaml", 1, "unknown-key"),
        ("b.yaml", 2, "unknown-key"),
        ("a.yaml", 1, "not-a-duration"),
    ]


# ---- env files -------------------------------------------------------------------------------------------


def test_the_order_of_the_environment(tmp_path: Path) -> None:
    write(tmp_path / "file.env", "A=file.env\nB=file.env\nC=file.env\nD=file.env\n")
    write(tmp_path / "task.env", "C=task.env\nD=task.env\n")
    text = "env_file: [file.env]\nenv: {B: env, C: env, D: env}\n"
    text += "tasks: {a: {command: x, env_file: [task.env, -none.env], env: {D: task}}}\n"
    plan = plan_of(write(tmp_path / "jobs.yaml", text))
    assert plan.tasks["a"].env == {"A": "file.env", "B": "env", "C": "task.env", "D": "task"}


def test_variables_come_from_the_environment_and_then_from_the_env_file(tmp_path: Path) -> None:
    write(tmp_path / ".env", "HOURS=3\nWHO=file\n")
    text = "env_file: .env\ntasks: {a: {command: x, timeout: '${HOURS}h', description: '${WHO}'}}"
    task = plan_of(write(tmp_path / "jobs.yaml", text), WHO="environment").tasks["a"]
    assert (task.timeout, task.description) == (3 * 3600 * 1_000_000, "environment")


def test_a_line_that_is_no_variable_is_shown_in_its_file(tmp_path: Path) -> None:
    write(tmp_path / ".env", "A=1\nthis is not one\n")
    found = compiled(write(tmp_path / "jobs.yaml", "env_file: .env\ntasks: {}"))
    assert [(each.file, each.line, each.code) for each in found.problems] == [(".env", 2, "env-file-line")]
    assert " 2 | this is not one" in found.rendered


LINES = [
    ("A=b", "b"),
    ("export A=b", "b"),
    ("  A = b  # c", "b"),
    ("A=b#c", "b#c"),
    ("A=", ""),
    ("A=# c", ""),
    ("A='b # $c'", "b # $c"),
    ('A="b\\n\\"c\\" \\\\" # d', 'b\n"c" \\'),
    ("A=$HOME ${X}", "$HOME ${X}"),
]


@pytest.mark.parametrize(("line", "value"), LINES, ids=[line for line, _ in LINES])
def test_a_line_of_an_env_file_may_be(line: str, value: str) -> None:
    from jobrunner.config.environment import parse_environment

    findings = Findings()
    assert parse_environment(f"# comment\n\n{line}\r\n", ".env", findings) == {"A": value}
    assert not findings.failed


# ---- what is remembered of them --------------------------------------------------------------------------


def test_the_hash_follows_everything_that_was_read(tmp_path: Path) -> None:
    file = write(
        tmp_path / "jobs.yaml", "include: b.yaml\nenv_file: .env\ntasks: {a: {command: x, cwd: '${D:-/}'}}"
    )
    write(tmp_path / "b.yaml", "tasks: {}")
    write(tmp_path / ".env", "A=1")
    first = plan_of(file).hash
    assert plan_of(file, UNUSED="1").hash == first
    hashes = {first, plan_of(file, D="/tmp").hash}
    for name, text in [("b.yaml", "tasks: {} #"), (".env", "A=2"), ("jobs.yaml", "tasks: {}")]:
        write(tmp_path / name, text)
        hashes.add(plan_of(file).hash)
    assert len(hashes) == 5


def test_everything_that_was_read_or_looked_for_is_watched(tmp_path: Path) -> None:
    write(tmp_path / "jobs.d/b.yaml", "tasks: {b: {command: x, env_file: [b.env]}}")
    write(tmp_path / "jobs.d/b.env", "")
    file = write(tmp_path / "jobs.yaml", "include: jobs.d/*.yaml\nenv_file: -.env\ntasks: {}")
    watched = {os.path.relpath(path, tmp_path) for path in plan_of(file).watched}
    assert watched == {"jobs.yaml", "jobs.d/*.yaml", "jobs.d/b.yaml", "jobs.d/b.env", ".env"}
