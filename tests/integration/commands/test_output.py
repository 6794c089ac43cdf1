"""What a command writes: captured exactly, within bounds, and its result taken from it (rules 21 and 23)."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from jobrunner.output import Stream, output_path
from tests.integration.commands.slots import Slots, a_call

MIB = 1024 * 1024


def resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_both_streams_are_captured_exactly(slots: Slots) -> None:
    script = (
        "import os; os.write(1, bytes(range(256))); os.write(2, b'\\xff\\xfe\\0'); os.write(1, b'no newline')"
    )
    call = a_call((sys.executable, "-c", script))
    end = slots.run(call)
    assert slots.written(call) == bytes(range(256)) + b"no newline"
    assert slots.written(call, Stream.STDERR) == b"\xff\xfe\0"
    assert json.loads(end.output or "") == {"stdout": 266, "stderr": 3, "dropped": 0}


def test_a_silent_command_leaves_no_file(slots: Slots) -> None:
    end = slots.run(a_call("true"))
    assert end.output is None
    assert not os.path.exists(slots.root)


def test_output_can_be_read_while_the_command_runs(slots: Slots) -> None:
    call = a_call("echo first; read -r line < fifo; echo $line", cwd=slots.folder)
    os.mkfifo(f"{slots.folder}/fifo")
    slots.executor.start([call])
    slots.wait_for_output(call, b"first\n")
    Path(slots.folder, "fifo").write_text("second\n")
    slots.wait_until(lambda: call.run_id in slots.ends)
    assert slots.written(call) == b"first\nsecond\n"


def test_a_flood_costs_neither_memory_nor_disk_beyond_the_cap(slots: Slots) -> None:
    slots.run(a_call("echo warm"))
    size, before = 64 * MIB, resident()
    call = a_call(f"head -c {size} /dev/zero; echo end", name="flood")
    end = slots.run(call)
    assert end.outcome == "ok"
    assert end.result is None  # longer than a result may be
    output = json.loads(end.output or "")
    assert output["stdout"] == size + 4
    assert output["dropped"] == size + 4 - len(slots.written(call))
    assert slots.written(call).endswith(b"\0end\n")
    assert os.path.getsize(output_path(slots.root, call.run_id, 1)) <= 10 * MIB + 1024
    assert resident() - before < 20 * MIB


def test_a_flood_does_not_hold_up_its_neighbours(slots: Slots) -> None:
    flood = a_call("cat /dev/zero", kill_after=0)
    slots.executor.start([flood])
    slots.wait_for_output(flood, b"\0")
    ends = slots.run_all([a_call(f"echo {each}") for each in range(20)])
    assert [end.result for end in ends] == [f'"{each}"' for each in range(20)]
    assert flood.run_id not in slots.ends


def test_a_lost_output_folder_fails_no_attempt(slots: Slots) -> None:
    Path(slots.root).write_text("in the way")
    end = slots.run(a_call("echo well"))
    assert (end.outcome, end.result) == ("ok", '"well"')
    assert json.loads(end.output or "")["dropped"] == 5
    os.unlink(slots.root)


def test_an_output_folder_that_vanishes_is_made_again(slots: Slots) -> None:
    slots.run(a_call("echo one"))
    shutil.rmtree(slots.root)
    call = a_call("echo two")
    slots.run(call)
    assert slots.written(call) == b"two\n"


# --- results --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("echo; echo '  done  '; echo", '"done"'),
        ("true", '""'),
        ("printf 'a\\nb\\n'", '"a\\nb"'),
        ("printf 'caf\\303\\251'", '"caf\\u00e9"'),
        ("printf 'bad \\377 byte'", '"bad \\\\xff byte"'),
        ("echo out; echo err >&2", '"out"'),
    ],
)
def test_the_result_is_stdout_stripped(slots: Slots, command: str, result: str) -> None:
    assert slots.run(a_call(command)).result == result


def test_the_longest_text_is_kept_and_a_longer_one_is_not(slots: Slots) -> None:
    kept, dropped = slots.run_all(
        [a_call(f"head -c {n} /dev/zero | tr '\\0' x; echo") for n in (65536, 65537)]
    )
    assert kept.result == json.dumps("x" * 65536)
    assert (dropped.outcome, dropped.result) == ("ok", None)


def test_a_failure_has_no_result(slots: Slots) -> None:
    assert slots.run(a_call("echo something; exit 1")).result is None


def test_a_result_that_is_not_wanted_is_not_kept(slots: Slots) -> None:
    assert slots.run(a_call("echo something", store_result=False)).result is None


@pytest.mark.parametrize(
    ("text", "result"),
    [('{"a": [1, 2.5, null]}\n', '{"a":[1,2.5,null]}'), ("  3 ", "3"), ("null", "null"), ('"x"', '"x"')],
)
def test_json_is_read_and_written_compactly(slots: Slots, text: str, result: str) -> None:
    assert slots.run(a_call("cat", stdin=text, result="json")).result == result


def test_what_looks_like_a_tag_stays_a_plain_object(slots: Slots) -> None:
    end = slots.run(a_call("cat", stdin='{"$set": [1]}', result="json"))
    assert end.result == '{"$dict":[["$set",[1]]]}'


@pytest.mark.parametrize("text", ["", "not json", "{'a': 1}", "[1, 2", "NaN", "[" * 100_000, "1 2"])
def test_what_is_not_json_is_not_storable(slots: Slots, text: str) -> None:
    end = slots.run(a_call("cat", stdin=text, result="json"))
    assert (end.outcome, end.exit_code, end.result) == ("result not storable", 0, None)
    assert end.error is not None
    assert end.error.startswith("stdout is not")


def test_json_beyond_a_mebibyte_is_not_storable(slots: Slots) -> None:
    end = slots.run(a_call("cat", stdin=json.dumps("x" * (MIB + 5000)), result="json"))
    assert end.outcome == "result not storable"
