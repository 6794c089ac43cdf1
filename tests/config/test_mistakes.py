"""What a person is told about each of the common mistakes, to the letter.

The answers lie under snapshots/; `SNAPSHOTS=write pytest tests/config/test_mistakes.py` writes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from tests.config.mistakes import MISTAKES

SNAPSHOTS = Path(__file__).parent / "snapshots"
ENVIRON = {"HOME": "/home/ana", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
DOUBTS = {
    "pipe-without-pipefail",
    "comment-in-command",
    "uneven-step",
    "unused-lock",
    "same-schedule-twice",
    "soft-timeout",
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compiled(text: str) -> Compiled:
    Path("jobs.yaml").write_bytes(text.encode())
    return compile_file("jobs.yaml", environ=ENVIRON)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_its_answer(name: str, tmp_path: Path) -> None:
    found = compiled(MISTAKES[name])
    rendered = found.rendered.replace(str(tmp_path), "FOLDER") + "\n"
    snapshot = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        snapshot.write_text(rendered, encoding="utf-8")
    assert rendered == snapshot.read_text(encoding="utf-8")
    assert (found.plan is None) is (name not in DOUBTS)


def test_every_snapshot_belongs_to_a_mistake() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == set(MISTAKES)
