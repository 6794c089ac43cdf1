"""The fenced blocks of the project's pages, and what a console block must show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
FENCE = re.compile(r"^\s*```(.*)$")
RUN_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b|\b[0-9a-f]{8}\b")
PID = re.compile(r"\bpid \d+")
EXIT = re.compile(r"\s#.*\bexit (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, the words after it, and where it begins."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line after a `$`, the exit code it announces, and the output shown, if any."""

    text: str
    exit_code: int
    output: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    begun: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if fence is None:
            continue
        if begun is None:
            begun = number, fence[1]
            continue
        language, *words = begun[1].split() or [""]
        text = "\n".join(lines[begun[0] : number - 1]) + "\n"
        yield Block(page=page, line=begun[0], language=language, words=tuple(words), text=text)
        begun = None
    assert begun is None, f"{page}:{begun}: this block has no end"


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block."""
    parts = re.split(r"^\$ ", block.text.replace("\\\n", ""), flags=re.MULTILINE)
    assert parts[0].strip() == "", f"{block}: a console block begins with a command"
    for part in parts[1:]:
        text, _, output = part.partition("\n")
        code = EXIT.search(text)
        yield Command(
            text=text, exit_code=int(code[1]) if code else 0, output=output if output.strip() else None
        )


def shows(expected: str, output: str) -> bool:
    """Whether an output is what a page shows: `...` stands for anything, ids, pids and gaps are alike."""
    pattern = "".join(_line_pattern(line) for line in _alike(expected))
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in _alike(output))) is not None


def _line_pattern(line: str) -> str:
    if line == "...":
        return r"(?:.*\n)*"
    return re.escape(line).replace(re.escape("..."), ".*") + r"\n"


def _alike(text: str) -> list[str]:
    text = PID.sub("pid N", RUN_ID.sub("RUN", text))
    return [" ".join(line.split()) for line in text.strip().splitlines()]
