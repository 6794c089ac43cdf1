"""`check` looks for callables in other processes, and for programs on their PATH."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from jobrunner.config import imports
from jobrunner.config.callables import check_callables
from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled

MODULE = """
import asyncio, functools
print("noise at import")
class Shop:
    @staticmethod
    def open(): ...
def resize(image): ...
async def fetch(): ...
partial = functools.partial(resize, 1)
constant = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/images.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    (tmp_path / "raises.py").write_text("raise RuntimeError('at import')\n")
    (tmp_path / "exits.py").write_text("import os; os._exit(3)\n")
    (tmp_path / "quits.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "segfaults.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")
    (tmp_path / "hangs.py").write_text("import signal; signal.pause()\n")
    return tmp_path


def checked(folder: Path, *calls: str) -> Compiled:
    lines = "".join(f"  t{number:02}:\n    call: {call}\n" for number, call in enumerate(calls))
    file = folder / "jobs.yaml"
    file.write_text(f"tasks:\n{lines}")
    return compile_file(str(file), environ=os.environ, importing=True)


def messages(found: Compiled) -> dict[int, str]:
    return {problem.line: f"{problem.message} | {problem.help}" for problem in found.problems}


@pytest.mark.parametrize("attribute", ["resize", "fetch", "partial", "Shop", "Shop.open"])
def test_a_callable_that_is_there_is_found(attribute: str, folder: Path) -> None:
    found = checked(folder, f"shop.images:{attribute}")
    assert found.plan is not None, found.rendered


def test_a_schedule_that_gives_too_little_is_an_error(folder: Path) -> None:
    file = folder / "jobs.yaml"
    file.write_text(
        "tasks:\n"
        "  bare: {call: 'shop.images:resize', schedule: daily}\n"
        "  own: {call: 'shop.images:resize', args: [1], schedule: daily}\n"
        "  beside: {call: 'shop.images:resize', schedule: {cron: daily, kwargs: {image: 1}}}\n"
        "  partly: {call: 'shop.images:resize', schedule: [daily, {cron: '0 5 * * *', args: [2]}]}\n"
        "  asked: {call: 'shop.images:resize'}\n"
    )
    found = compile_file(str(file), environ=os.environ, importing=True)
    wrong = "schedule: its ticks would fail: nothing gives shop.images:resize its 'image'"
    assert {line: text.partition(" | ")[0] for line, text in messages(found).items()} == {2: wrong, 5: wrong}


WRONG = [
    ("shop.images:resise", "shop.images has no 'resise' | did you mean shop.images:resize?"),
    ("shop.images:Shop.opem", "shop.images has no 'Shop.opem' | did you mean shop.images:Shop.open?"),
    ("shop.images:constant", "shop.images:constant is not callable, but int | "),
    ("shop.image:resize", "there is no module 'shop.image' | did you mean shop.images?"),
    ("shopp.images:resize", "there is no module 'shopp' | did you mean shop?"),
    ("broken:f", "importing broken failed: there is no module 'no_such_library' | install it for"),
    ("raises:f", "importing raises failed: RuntimeError: at import | "),
    ("exits:f", "importing exits ended the process with exit code 3 | "),
    ("quits:f", "importing quits failed: SystemExit: 0 | "),
    ("segfaults:f", "importing segfaults ended the process with signal 11 | "),
]


def test_each_callable_that_cannot_be_found_is_an_error_at_its_place(folder: Path) -> None:
    found = checked(folder, *[call for call, _ in WRONG], "shop.images:resize")
    said = messages(found)
    assert {each.code for each in found.problems} == {"callable-not-found"}
    assert sorted(said) == [3 + 2 * number for number in range(len(WRONG))]
    for number, (_, wanted) in enumerate(WRONG):
        assert said[3 + 2 * number].startswith(f"call: {wanted}")


def test_a_module_that_hangs_at_import_is_blamed_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "PATIENCE", 1.0)
    found = checked(folder, "hangs:f", "shop.images:resize", "hangs:g")
    assert messages(found) == {
        3: "call: importing hangs took longer than 1 s | ",
        7: "call: importing hangs took longer than 1 s | ",
    }


def test_a_plan_alone_is_enough_to_look_for_its_callables(folder: Path) -> None:
    (folder / "jobs.yaml").write_text("tasks:\n  a: {call: 'shop.images:resise'}\n")
    plan = compile_file(str(folder / "jobs.yaml"), environ={}).plan
    assert plan is not None
    (problem,) = check_callables(plan)
    assert (problem.file, problem.line, problem.code) == (str(folder / "jobs.yaml"), 2, "callable-not-found")


def test_callables_are_looked_for_by_the_interpreter_of_their_pool(folder: Path) -> None:
    link = folder / "python"
    link.write_text(f'#!/bin/sh\nMARK=1 exec {sys.executable} "$@"\n')
    link.chmod(0o755)
    (folder / "marked.py").write_text("import os\nif os.environ.get('MARK') == '1':\n    def f(): ...\n")
    text = "pools: {other: {python: python}, none: {python: nowhere}}\ntasks:\n"
    text += (
        "  a: {call: 'marked:f', pool: other}\n  b: {call: 'marked:f'}\n  c: {call: 'marked:f', pool: none}\n"
    )
    (folder / "jobs.yaml").write_text(text)
    found = compile_file(str(folder / "jobs.yaml"), environ=os.environ, importing=True)
    assert [problem.line for problem in found.problems] == [4, 5]
    assert "is not possible with" in found.problems[1].message


def test_nothing_is_imported_unless_it_is_asked_for(folder: Path) -> None:
    (folder / "touches.py").write_text("open('touched', 'w').close()\n")
    (folder / "jobs.yaml").write_text("tasks: {a: {call: 'touches:f'}}")
    assert compile_file(str(folder / "jobs.yaml"), environ={}).plan is not None
    assert not (folder / "touched").exists()


def test_a_program_of_a_list_is_looked_for_on_its_path(folder: Path) -> None:
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o755)
    (folder / "jobs.yaml").write_text(
        "tasks:\n"
        "  a: {command: [tool]}\n"
        f"  b: {{command: [tool], env: {{PATH: {folder}}}}}\n"
        "  c: {command: [./tool]}\n"
        "  d: {command: [./tool], cwd: /}\n"
        "  e: {command: tool --of-a-shell}\n"
    )
    found = compile_file(str(folder / "jobs.yaml"), environ={"PATH": "/usr/bin:/bin"}, importing=True)
    assert [(each.line, each.code) for each in found.problems] == [
        (2, "command-not-found"),
        (5, "command-not-found"),
    ]
    assert found.plan is not None
