"""`jobrunner logs`: captured output, as it was written or as it is safe to show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from jobrunner.durations import HOUR
from jobrunner.model import State
from jobrunner.output import OutputFile, Stream
from jobrunner.place import output_root
from tests.builders import NOON, a_run, a_task
from tests.cli.desk import Desk, Stage

Open = Callable[..., Stage]


@pytest.fixture
def theatre(stage: Open) -> Stage:
    return stage(a_task("backup"), a_task("report"))


def wrote(desk: Desk, run: str, *pieces: tuple[Stream, bytes], attempt: int = 1, most: int = 100_000) -> None:
    file = OutputFile(output_root(desk.url), run, attempt, max_size=most)
    for stream, data in pieces:
        file.write(stream, data)
    file.close()


def lines(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def test_both_streams_are_shown_in_the_order_in_which_they_came(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("backup")
    wrote(desk, run, (Stream.STDOUT, b"one\n"), (Stream.STDERR, b"two\n"), (Stream.STDOUT, b"three\n"))
    assert desk("logs", "backup").out == "one\ntwo\nthree\n"
    assert desk("logs", run[-8:], "--stderr").out == "two\n"
    assert lines(desk("logs", "backup", "--json").out) == [
        {"run": run, "attempt": 1, "stream": "stdout", "text": "one\n"},
        {"run": run, "attempt": 1, "stream": "stderr", "text": "two\n"},
        {"run": run, "attempt": 1, "stream": "stdout", "text": "three\n"},
    ]


def test_in_a_pipe_every_byte_is_exact(desk: Desk, theatre: Stage) -> None:  # rule 23
    raw = bytes(range(256)) * 3
    wrote(desk, theatre.has_run("backup"), (Stream.STDOUT, raw))
    done = subprocess.run(
        [sys.executable, "-m", "jobrunner", "--backend", desk.url, "logs", "backup"],
        capture_output=True,
        check=True,
        cwd=desk.folder,
        env={**os.environ, "HOME": str(desk.folder)},
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (raw, b"")


def test_on_a_terminal_output_cannot_speak_to_it(desk: Desk, theatre: Stage) -> None:  # guarantee S9
    run = theatre.has_run("backup")
    wrote(desk, run, (Stream.STDOUT, b"\x1b]0;gone\x07\x1b[2J\r\nna"), (Stream.STDOUT, "ï✓".encode()))
    assert desk("logs", "backup", tty=True).out == "\\x1b]0;gone\\x07\\x1b[2J\nnaï✓"


def test_a_character_cut_in_two_is_put_together(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("backup")
    wrote(desk, run, (Stream.STDOUT, "✓".encode()[:1]), (Stream.STDOUT, "✓".encode()[1:]))
    assert desk("logs", "backup", tty=True).out == "✓"


def test_what_was_dropped_is_marked(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("backup")
    wrote(desk, run, (Stream.STDOUT, b"x" * 50_000), most=4096)
    assert "bytes dropped ...]" in desk("logs", "backup").out
    assert "gap" in {each["stream"] for each in lines(desk("logs", "backup", "--json").out)}


def test_the_latest_attempt_is_shown_unless_another_one_is_asked_for(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("backup", State.RETRYING, "exit 1", due_at=NOON)
    (again,) = theatre.exchange()
    theatre.ended(again, failures=1)
    wrote(desk, run, (Stream.STDOUT, b"first\n"), attempt=1)
    wrote(desk, run, (Stream.STDOUT, b"second\n"), attempt=2)
    assert desk("logs", "backup").out == "second\n"
    assert desk("logs", "backup", "--attempt", "1").out == "first\n"
    assert desk("logs", "backup", "--attempt", "3").code == 2


def test_a_task_means_its_latest_run_that_has_begun(desk: Desk, theatre: Stage) -> None:
    wrote(desk, theatre.has_run("backup"), (Stream.STDOUT, b"begun\n"))
    theatre.storage.add([a_run("backup")])
    assert desk("logs", "backup").out == "begun\n"


def test_failed_means_the_latest_run_that_failed(desk: Desk, theatre: Stage) -> None:
    wrote(desk, theatre.has_run("backup", State.FAILED, "exit 1"), (Stream.STDERR, b"no space\n"))
    theatre.has_run("backup")
    assert desk("logs", "backup", "--failed").out == "no space\n"
    assert desk("logs", "report", "--failed").code == 4


def test_several_runs_are_told_apart_by_their_prefix(desk: Desk, theatre: Stage) -> None:
    backup, report = theatre.has_run("backup"), theatre.has_run("report")
    wrote(desk, backup, (Stream.STDOUT, b"one\ntw"), (Stream.STDOUT, b"o"))
    wrote(desk, report, (Stream.STDOUT, b"three\n"))
    answer = desk("logs", "backup", "report")
    assert answer.out == (
        f"backup/{backup[-8:]} | one\nbackup/{backup[-8:]} | two\nreport/{report[-8:]} | three\n"
    )


def test_since_shows_all_runs_since_then_oldest_first(desk: Desk, theatre: Stage) -> None:
    wrote(desk, theatre.has_run("backup"), (Stream.STDOUT, b"one\n"))
    wrote(desk, theatre.has_run("backup"), (Stream.STDOUT, b"two\n"))
    desk.clock.at += HOUR
    assert [line.partition("| ")[2] for line in desk("logs", "backup", "--since", "2h").out.splitlines()] == [
        "one",
        "two",
    ]
    assert desk("logs", "backup", "--since", "1m").code == 4


def test_silence_is_said_on_stderr(desk: Desk, theatre: Stage) -> None:
    theatre.has_run("backup")
    answer = desk("logs", "backup")
    assert (answer.code, answer.out) == (0, "")
    assert "wrote nothing" in answer.err
    theatre.storage.add([a_run("report")])
    assert "has not begun: queued" in desk("logs", "report").err


def test_output_that_lies_on_another_machine_is_not_called_silence(
    desk: Desk, theatre: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = theatre.storage.run(theatre.has_run("backup"))
    away = found._replace(output='{"stdout": 5, "stderr": 0, "dropped": 0}', host="db2")
    monkeypatch.setattr(type(theatre.storage), "runs", lambda _self, _which: [away])
    answer = desk("logs", "backup")
    assert (answer.code, answer.out) == (4, "")
    assert "lies on db2, which ran it" in answer.err


def test_following_a_final_run_ends(desk: Desk, theatre: Stage) -> None:
    run = theatre.has_run("backup")
    wrote(desk, run, (Stream.STDOUT, b"all\n"))
    assert desk("logs", "-f", run).out == "all\n"
