"""What calls write: kept for the call that wrote it, byte by byte. Rule 23."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobrunner.model import Ending
from jobrunner.plan import OutputRule
from tests.integration.workers.stand import Stand


@pytest.mark.parametrize(
    ("name", "text", "out", "err"),
    [
        ("shout", "héllo", "héllo\n", ""),
        ("mutter", "without an end", "", "without an end"),
        ("low_level", "from below", "from below", ""),
        ("by_a_child", "from a child", "from a child", ""),
    ],
)
def test_output_is_kept_whoever_writes_it(stand: Stand, name: str, text: str, out: str, err: str) -> None:
    call = stand.call(name, text)
    ended = stand.run(call)[0]
    assert ended.ending is Ending.OK
    assert stand.output(call) == (out.encode(), err.encode())
    sizes = {"stdout": len(out.encode()), "stderr": len(err.encode()), "dropped": 0}
    assert json.loads(ended.output or "") == sizes


def test_a_silent_call_makes_no_file(stand: Stand) -> None:
    assert stand.one("nothing").output is None
    assert not Path(stand.root).exists()


def test_output_belongs_to_the_call_that_wrote_it(tmp_path: Path) -> None:
    with Stand(tmp_path, slots=1) as stand:
        stand.run(*[stand.call("nothing") for _ in range(100)])  # learnt: many calls wait in the worker
        names = ["shout", "nothing", "low_level", "mutter", "nothing", "nothing"]
        calls = [
            stand.call(name, *([f"<{n}>"] if name != "nothing" else [])) for n, name in enumerate(names * 20)
        ]
        stand.run(*calls)
        for number, call in enumerate(calls):
            text, end = f"<{number}>", "\n" if call.task.name == "shout" else ""
            wanted = "" if call.task.name == "nothing" else text + end
            assert b"".join(stand.output(call)).decode() == wanted


def test_output_can_be_read_while_the_call_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "talker.py").write_text(
        "import time, pathlib\n"
        "def talk(marker):\n"
        "    print('so far')\n"
        "    while not pathlib.Path(marker).exists():\n"
        "        time.sleep(0.01)\n"
        "    print('the rest')\n"
    )
    with Stand(tmp_path, pythonpath=(str(tmp_path),)) as other:
        call = other.call(other.task("talk", call="talker:talk"), str(marker))
        other.pool.start([call])
        other.until(lambda: other.output(call)[0] == b"so far\n", "for output")
        marker.touch()
        assert other.wait_for(call)[0].ending is Ending.OK
        assert other.output(call) == (b"so far\nthe rest\n", b"")


@pytest.mark.parametrize("ending", ["leave_process", "segfault", "fail"])
def test_what_a_call_wrote_before_its_bad_end_is_kept(tmp_path: Path, ending: str) -> None:
    (tmp_path / "last.py").write_text(
        f"import zoo\ndef words():\n    print('last words', end='', flush=True)\n    zoo.{ending}()\n"
    )
    zoo = str(Path(__file__).parent)
    with Stand(tmp_path, pythonpath=(str(tmp_path), zoo)) as stand:
        call = stand.call(stand.task("words", call="last:words"))
        assert stand.run(call)[0].ending is not Ending.OK
        assert stand.output(call)[0] == b"last words"


def test_output_over_the_cap_is_dropped_and_counted(stand: Stand) -> None:
    task = stand.task("flood", output=OutputRule(max_size=100_000))
    call = stand.call(task, 8)
    ended = stand.run(call)[0]
    sizes = json.loads(ended.output or "")
    assert sizes["stdout"] == 8 * 2**20
    assert sizes["dropped"] > 7 * 2**20
    assert len(stand.output(call)[0]) <= 100_000


def test_a_call_that_writes_and_lets_no_thread_run_does_not_hang(stand: Stand) -> None:
    call = stand.call("flood_holding_the_gil", 300)
    ended = stand.run(call)[0]
    assert (ended.ending, ended.result) == (Ending.OK, str(300 * 1024))
    assert stand.output(call)[0] == b"y" * 300 * 1024


def test_what_an_import_prints_belongs_to_the_call_that_imported(tmp_path: Path) -> None:
    (tmp_path / "chatty.py").write_text("print('imported')\ndef f():\n    pass\n")
    with Stand(tmp_path, slots=1, pythonpath=(str(tmp_path),)) as stand:
        task = stand.task("f", call="chatty:f")
        first, second = stand.call(task), stand.call(task)
        stand.run(first, second)
        assert stand.output(first) == (b"imported\n", b"")
        assert stand.output(second) == (b"", b"")
