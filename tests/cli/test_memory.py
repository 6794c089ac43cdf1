"""A storage in memory is nobody else's: a command says so instead of looking into an empty one."""

from __future__ import annotations

import pytest

from tests.live import Project


@pytest.mark.parametrize(
    "command", [("status",), ("history",), ("enqueue", "hello"), ("cancel", "hello"), ("logs", "hello")]
)
def test_a_command_says_that_memory_is_seen_by_its_own_process_alone(
    project: Project, command: tuple[str, ...]
) -> None:
    project.write("backend: memory://\ntasks:\n  hello: {command: 'echo hello'}\n")
    done = project.jobrunner(*command)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "memory:// lives in the process that opened it" in done.stderr
    assert "sqlite:///" in done.stderr
