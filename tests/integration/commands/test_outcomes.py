"""How a command ends is what is reported of it (rules 13 and 16)."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from jobrunner.durations import SECOND
from jobrunner.execution import LASTS
from jobrunner.model import Ending
from jobrunner.output import Stream
from tests.integration.commands.slots import Slots, a_call, descriptors, survivors
from tests.stage import AnHourAgo


def test_every_exit_code_is_reported_as_it_is(slots: Slots) -> None:
    codes = [0, 1, 2, 3, 63, 64, 100, 125, 128, 129, 130, 137, 143, 254, 255]
    ends = slots.run_all([a_call(f"exit {code}") for code in codes])
    assert [end.exit_code for end in ends] == codes
    assert [end.outcome for end in ends] == ["ok", *(f"exit {code}" for code in codes[1:])]
    assert {end.signal for end in ends} == {None}


def test_success_codes_decide_what_success_is(slots: Slots) -> None:
    calls = [a_call(f"exit {code}", success_codes=(0, 24)) for code in (0, 24, 25)]
    assert [end.outcome for end in slots.run_all(calls)] == ["ok", "ok", "exit 25"]
    strict = slots.run(a_call("exit 0", success_codes=(7,)))
    assert (strict.outcome, strict.exit_code) == ("exit 0", 0)


SIGNALS = ("HUP", "INT", "QUIT", "ILL", "ABRT", "FPE", "KILL", "SEGV", "PIPE", "ALRM", "TERM", "USR1", "XCPU")


@pytest.mark.parametrize("name", SIGNALS)
def test_death_by_a_signal_names_the_signal(slots: Slots, name: str) -> None:
    number = signal.Signals[f"SIG{name}"].value
    end = slots.run(a_call(f"ulimit -c 0; kill -{number} $$; sleep 60"))
    assert (end.ending, end.signal, end.exit_code) == (Ending.SIGNAL, f"SIG{name}", None)
    assert end.outcome == f"signal SIG{name}"


def test_real_time_signals_have_names_too(slots: Slots) -> None:
    end = slots.run(a_call(f"kill -{signal.SIGRTMIN + 3} $$; sleep 60"))
    assert end.outcome == "signal SIGRTMIN+3"


def test_the_start_and_the_pid_of_a_command_that_lasts_are_reported_while_it_does(slots: Slots) -> None:
    calls = [a_call("sleep 600"), a_call("sleep 600")]
    before = slots.loop.now()
    slots.executor.start(calls)
    slots.wait_until(lambda: len(slots.begun) == 2)
    assert before <= min(slots.begun_at.values())
    assert max(slots.begun_at.values()) <= slots.loop.now() - LASTS


def test_a_start_is_reported_though_the_wall_clock_was_set_back_after_it(slots: Slots) -> None:
    # rule 5; the loop would wake fifty times a second until the hour is over
    slots.executor.start([a_call("sleep 600")])
    slots.loop.clock = AnHourAgo()
    slots.wait_until(lambda: len(slots.begun) == 1)


def test_the_end_of_a_short_command_tells_of_its_start(slots: Slots) -> None:
    # One write for it instead of two.
    call = a_call("echo $$")
    before = slots.loop.now()
    end = slots.run(call)
    assert end.result == f'"{end.pid}"'
    assert end.started_at is not None
    assert before <= end.started_at <= end.ended_at <= slots.loop.now()


def test_an_error_says_what_happened_and_the_last_words(slots: Slots) -> None:
    end = slots.run(a_call("echo out; echo first >&2; echo deep trouble >&2; exit 9"))
    assert end.error == "exit 9\nfirst\ndeep trouble"


def test_the_last_words_are_whole_lines_and_bounded(slots: Slots) -> None:
    end = slots.run(a_call("seq -f 'line %010g' 1 10000 >&2; exit 1"))
    assert end.error is not None
    assert len(end.error) < 2100
    lines = end.error.splitlines()
    assert (lines[0], lines[-1]) == ("exit 1", "line 0000010000")
    assert all(len(line) == len("line 0000010000") for line in lines[1:])


def test_a_shell_that_finds_no_command_says_where_it_looked(slots: Slots) -> None:
    end = slots.run(a_call("no-such-program", env={"PATH": "/bin:/usr/bin"}))
    assert end.outcome == "exit 127"
    assert end.error is not None
    assert "command not found; PATH=/bin:/usr/bin" in end.error


# --- could not start ------------------------------------------------------------------------------------


def test_a_program_that_is_not_there_could_not_start(slots: Slots) -> None:
    call = a_call(("no-such-program", "x"), env={"PATH": "/bin:/usr/bin"})
    end = slots.run(call)
    assert (end.outcome, end.exit_code, end.pid) == ("could not start", None, None)
    assert end.error == "cannot run no-such-program: no such program that may be run; PATH=/bin:/usr/bin"
    assert call.run_id not in slots.begun


def test_a_missing_folder_is_told_from_a_missing_program(slots: Slots) -> None:
    end = slots.run(a_call(("true",), cwd="/no/such/folder"))
    assert end.outcome == "could not start"
    assert end.error == "cannot run in the folder /no/such/folder: no such file or directory"


def test_a_file_that_is_not_executable_could_not_start(slots: Slots, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    end = slots.run(a_call((str(script),)))
    assert (end.outcome, end.error) == ("could not start", f"cannot run {script}: permission denied")


def test_a_script_whose_interpreter_is_missing_says_so(slots: Slots, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    end = slots.run(a_call((str(script),)))
    assert end.outcome == "could not start"
    assert end.error == f"cannot run {script}: the interpreter that its first line names does not exist"


def test_a_file_that_is_no_program_could_not_start(slots: Slots, tmp_path: Path) -> None:
    script = tmp_path / "data"
    script.write_text("just text\n")
    script.chmod(0o755)
    end = slots.run(a_call((str(script),)))
    assert end.outcome == "could not start"
    assert end.error is not None
    assert "neither a program nor a script" in end.error


def test_what_could_not_start_costs_its_neighbours_nothing(slots: Slots) -> None:
    ends = slots.run_all([a_call(("no-such-program",)), a_call("echo well"), a_call("true", cwd="/nowhere")])
    assert [end.outcome for end in ends] == ["could not start", "ok", "could not start"]
    assert slots.executor.room() == 8


def test_more_environment_than_the_system_takes_could_not_start(slots: Slots) -> None:
    end = slots.run(a_call(("true",), env={f"LARGE_{each}": "x" * 120_000 for each in range(60)}))
    assert end.outcome == "could not start"
    assert end.error == "cannot run true: its arguments and environment are larger than the system allows"


def test_running_out_of_descriptors_fails_attempts_and_nothing_else(slots: Slots) -> None:
    slots.run(a_call("true"))
    limits, used = resource.getrlimit(resource.RLIMIT_NOFILE), descriptors()
    outcomes = []
    for spare in range(16):
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, limits[1]))
        try:
            outcomes.append(slots.run(a_call("echo text; sleep 600 & exit 3", timeout=30 * SECOND)).outcome)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert (outcomes[0], outcomes[-1]) == ("could not start", "exit 3")
    assert set(outcomes) == {"could not start", "exit 3"}
    assert descriptors() == used


# --- pipes ----------------------------------------------------------------------------------------------


def test_the_end_is_the_exit_though_a_grandchild_holds_the_pipe(slots: Slots) -> None:
    call = a_call("sleep 600 & echo done", leftovers="keep")
    end = slots.run(call)
    assert (end.outcome, end.result) == ("ok", '"done"')
    [left] = survivors(call)
    assert left.session == end.pid


def test_a_command_that_closes_its_pipes_is_waited_for(slots: Slots) -> None:
    end = slots.run(a_call("exec >&- 2>&-; sleep 0.2; exit 5"))
    assert end.outcome == "exit 5"
    assert end.started_at is not None
    assert end.ended_at - end.started_at >= 200_000


def test_a_command_that_reads_stdin_gets_its_end(slots: Slots) -> None:
    end = slots.run(a_call("cat; echo end"))
    assert (end.outcome, end.result) == ("ok", '"end"')


def test_a_given_stdin_arrives_exactly(slots: Slots) -> None:
    text = "first\n\ttab 'quote' $HOME\x00nul äöü\n" + "x" * 300_000
    call = a_call("cat", stdin=text)
    assert slots.run(call).outcome == "ok"
    assert slots.written(call) == text.encode()


def test_a_given_stdin_cannot_be_written_to(slots: Slots) -> None:
    end = slots.run(a_call("echo more >&0", stdin="text"))
    assert end.ending is Ending.EXIT


def test_what_was_written_just_before_the_exit_is_captured(slots: Slots) -> None:
    calls = [a_call(f"seq 1 5000; echo last {each} >&2; kill -9 $$") for each in range(20)]
    for number, (call, end) in enumerate(zip(calls, slots.run_all(calls), strict=True)):
        assert end.outcome == "signal SIGKILL"
        assert slots.written(call).endswith(b"\n5000\n")
        assert slots.written(call, Stream.STDERR) == f"last {number}\n".encode()


def test_many_commands_in_few_slots_all_end(slots: Slots) -> None:
    ends = slots.run_all([a_call(f"exit {each % 3}") for each in range(120)])
    assert [end.exit_code for end in ends] == [each % 3 for each in range(120)]
    assert (slots.executor.busy(), slots.executor.room(), slots.executor.workers()) == (0, 8, 0)
