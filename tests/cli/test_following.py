"""Commands that go on until they are interrupted: `status --watch` and `logs -f`."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.ids import new_id
from jobrunner.output import OutputFile, Stream
from jobrunner.place import output_root
from tests.builders import NOON, a_run, a_task
from tests.cli.desk import Desk, Stage
from tests.live import COMMAND, PATIENCE, Project, clean_environment

Open = Callable[..., Stage]

CLOCK = SystemClock()
JOBS = "tasks:\n  hello: {command: echo hello}\n"
REDRAWN = b"\x1b[H\x1b[2J"


class Reader:
    """Reads a descriptor for as long as a test has patience."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = CLOCK.monotonic() + round(PATIENCE * SECOND)
        self.seen = b""

    def until(self, text: bytes, times: int = 1) -> None:
        """Read on until this text has come so many times."""
        while self.seen.count(text) < times:
            left = (self._end - CLOCK.monotonic()) / SECOND
            ready, _, _ = select.select([self._fd], [], [], max(0.0, left))
            assert ready, f"no {text!r} in {self.seen!r}"
            read = os.read(self._fd, 65536)
            assert read, f"it ended without {text!r}: {self.seen!r}"
            self.seen += read


def reader(stream: IO[str] | None) -> Reader:
    assert stream is not None
    return Reader(stream.fileno())


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Ctrl-C; the exit code and stderr."""
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    return process.returncode, err


@contextmanager
def on_a_terminal(project: Project, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Reader]]:
    """A command whose stdout is a terminal, and what is seen there."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=project.folder,
        env={**clean_environment(project.folder), "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    try:
        with process:
            yield process, Reader(ours)
            process.kill()
    finally:
        process.kill()
        os.close(ours)


# ---- status --watch --------------------------------------------------------------------------------------


def test_watch_draws_the_screen_again_until_it_is_interrupted(project: Project) -> None:
    project.write(JOBS)
    project.jobrunner("enqueue", "--force", "hello")
    with on_a_terminal(project, "status", "--watch") as (process, screen):
        screen.until(REDRAWN, times=3)
        code, err = interrupted(process)
    assert "○ stopped".encode() in screen.seen
    assert b"1 run queued: it waits" in screen.seen
    assert (code, err) == (130, "")


def test_watch_as_json_gives_a_line_for_each_look(project: Project) -> None:
    project.write(JOBS)
    with project.client("status", "--watch", "--json") as process:
        answers = reader(process.stdout)
        answers.until(b"\n")  # there is no storage yet: it waits for one
        project.jobrunner("enqueue", "--force", "hello")
        answers.until(b'"queued": 1')
        answers.until(b"\n", times=answers.seen.count(b"\n") + 1)
        assert interrupted(process) == (130, "")
    documents = [json.loads(line) for line in answers.seen.splitlines()]
    assert [each["running"] for each in documents] == [False] * len(documents)
    assert set(documents[0]) == set(documents[-1])
    assert (documents[0]["counts"]["queued"], documents[-1]["counts"]["queued"]) == (0, 1)


# ---- logs -f ---------------------------------------------------------------------------------------------


@pytest.fixture
def theatre(stage: Open) -> Stage:
    return stage(a_task("backup"))


def runs_and_writes(desk: Desk, theatre: Stage, text: bytes) -> str:
    """A whole run, whose output is there before its end, as it is in life."""
    (claim,) = theatre.begun(a_run("backup", id=new_id(NOON)))
    file = OutputFile(output_root(desk.url), claim.id, 1, max_size=100_000)
    file.write(Stream.STDOUT, text)
    file.close()
    theatre.ended(claim)
    return claim.id


@contextmanager
def following(desk: Desk, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Reader]]:
    with Project(desk.folder).client("--backend", desk.url, "logs", "-f", *arguments) as process:
        yield process, reader(process.stdout)


def test_a_followed_task_is_followed_into_its_next_runs(desk: Desk, theatre: Stage) -> None:
    runs_and_writes(desk, theatre, b"first\n")
    with following(desk, "backup") as (process, output):
        output.until(b"first\n")
        runs_and_writes(desk, theatre, b"second\n")
        output.until(b"second\n")
        assert interrupted(process) == (130, "")
    assert output.seen == b"first\nsecond\n"


def test_a_task_that_has_not_run_yet_is_waited_for(desk: Desk, theatre: Stage) -> None:
    with following(desk, "backup", "--json") as (process, output):
        reader(process.stderr).until(b"waiting for a run of backup\n")
        run = runs_and_writes(desk, theatre, b"at last\n")
        output.until(b"\n")
        assert interrupted(process) == (130, "")
    line: Any = json.loads(output.seen)
    assert line == {"run": run, "attempt": 1, "stream": "stdout", "text": "at last\n"}
