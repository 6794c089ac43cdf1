"""The pages do not lie: every YAML block compiles, every console block does what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from tests.docs.blocks import PAGES, ROOT, Block, blocks, commands, shows
from tests.live import PATIENCE, LiveSupervisor, Project, clean_environment

BLOCKS = [block for page in PAGES for block in blocks(page)]
CONSOLE_PAGES = sorted({block.page for block in BLOCKS if block.language == "console"})
SERVES = ("jobrunner run ",)


def blocks_in(language: str) -> pytest.MarkDecorator:
    found = [block for block in BLOCKS if block.language == language]
    return pytest.mark.parametrize("block", found, ids=str)


def compiled(block: Block, folder: Path) -> Compiled:
    file = folder / "jobs.yaml"
    file.write_text(block.text, encoding="utf-8")
    return compile_file(str(file), environ={"PATH": os.environ["PATH"], "HOME": str(folder)})


@blocks_in("yaml")
def test_yaml_on_a_page_is_what_it_is_marked_as(block: Block, tmp_path: Path) -> None:
    if block.words == ("fragment",):
        assert yaml.safe_load(block.text) is not None
        return
    found = compiled(block, tmp_path)
    assert bool(found.errors) is (block.words == ("wrong",)), found.rendered


@blocks_in("python")
def test_python_on_a_page_runs(block: Block) -> None:
    if "fragment" in block.words:
        compile(block.text, str(block), "exec")
        return
    exec(compile(block.text, str(block), "exec"), {"__name__": "page"})  # its assertions are the test


def test_blocks_are_marked_with_known_words_only() -> None:
    known = {
        "yaml": {(), ("fragment",), ("wrong",)},
        "console": {(), ("alone",)},
        "python": {(), ("fragment",)},
    }
    strange = [str(block) for block in BLOCKS if block.words not in known.get(block.language, {block.words})]
    assert strange == []


@dataclass(slots=True)
class Reader:
    """Somebody who follows a page from its beginning to its end, in one folder."""

    project: Project
    supervisor: LiveSupervisor | None = None

    def follow(self, block: Block) -> None:
        if block.language == "yaml" and not block.words:
            self.stop()  # a changed file is read at the next start
            self.project.write(block.text)
        elif block.language == "python" and block.text.startswith("# "):
            self.project.write(block.text, block.text.split(maxsplit=2)[1])
        elif block.language == "console":
            self.type_in(block)

    def type_in(self, block: Block) -> None:
        if "alone" in block.words:
            self.stop()
        elif self.project.file.exists():
            self.start()
        for command in commands(block):
            if command.text.startswith(SERVES) and "--" not in command.text:
                continue  # it is running
            done = self.shell(command.text)
            said = f"{block}: $ {command.text}\n{done.stdout}"
            assert done.returncode == command.exit_code, said
            assert command.output is None or shows(command.output, done.stdout), said

    def shell(self, text: str) -> subprocess.CompletedProcess[str]:
        environment = clean_environment(self.project.folder)
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        return subprocess.run(
            ["sh", "-c", text],
            cwd=self.project.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self) -> None:
        if self.supervisor is None:
            self.supervisor = self.project.start()

    def stop(self) -> None:
        if self.supervisor is not None:
            self.supervisor.close()
            self.supervisor = None


@pytest.mark.parametrize("page", CONSOLE_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_console_blocks_of_a_page_do_what_they_show(page: Path, project: Project) -> None:
    reader = Reader(project)
    for block in blocks(page):
        reader.follow(block)


def test_what_a_page_shows_is_compared_line_by_line() -> None:
    assert shows("a ... c\n...\nlast\n", "a b c\nx\ny\nlast\n")
    assert shows("run 0192a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b\n", "run 0192a1b2-c3d4-7e5f-8a9b-ffffffffffff\n")
    assert not shows("a\n", "a\nb\n")
    assert not shows("a b\n...\n", "a c\nx\n")
