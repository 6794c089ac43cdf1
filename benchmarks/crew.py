"""Processes that are started for a repetition, watched while it lasts, and ended after it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Missing

PATIENCE = 20.0  # seconds for an orderly end


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes of one entrant, and where their output goes."""

    processes: Sequence[subprocess.Popen[bytes]]
    log: Path

    @property
    def pids(self) -> list[int]:
        return [each.pid for each in self.processes]

    def check(self) -> None:
        """Raise Missing when one of them has ended by itself."""
        for each in self.processes:
            if each.poll() is not None:
                raise Missing(f"it ended with {each.returncode}: {last_line(self.log)}")


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


@contextmanager
def at_work(
    commands: Sequence[Sequence[str]], log: Path, variables: Mapping[str, str], folder: Path
) -> Iterator[Crew]:
    """These programs, each leader of a group of its own; the groups are ended in the end."""
    with log.open("ab") as output:
        started = [_start(command, output.fileno(), variables, folder) for command in commands]
    try:
        yield Crew(started, log)
    finally:
        for each in started:
            _end(each)


def _start(
    command: Sequence[str], output: int, variables: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=dict(variables),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """TERM to the leader, which ends its own; after that KILL to whatever is left of the group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
