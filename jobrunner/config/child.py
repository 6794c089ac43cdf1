"""Compiles a file in a process of its own: the supervisor stays free of pydantic and of the file's faults."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import ConfigError
from .compiled import Compiled, from_text

PATIENCE: Final = 60.0  # seconds; ten thousand tasks take about five on a busy core


def compile_in_child(
    path: str,
    *,
    environ: Mapping[str, str] | None = None,
    checking: bool = False,
    patience: float = PATIENCE,
    meanwhile: Callable[[], object] = lambda: None,
) -> Compiled:
    """The plan of a file, or all its problems; `environ` is the child's environment, None: this process's.

    `checking` also looks for callables and programs; `meanwhile` is called while the child works. Raises
    ConfigError when the child gives no answer.
    """
    command = (sys.executable, "-P", "-m", "jobrunner.config", *compiling(path, checking=checking))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as child:
        try:
            meanwhile()
            output, said = child.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            words = f"{path}: reading it took longer than {patience:g} s, and was given up"
            raise ConfigError(words) from None
        finally:
            child.kill()  # does nothing when it has ended
    try:
        return from_text(output)
    except (ValueError, KeyError, TypeError):
        raise ConfigError(_broken(path, child.returncode, said)) from None


def compiling(path: str, *, checking: bool = False) -> tuple[str, ...]:
    """The arguments that compile a file."""
    options = ("--check",) if checking else ()
    return ("compile", *options, "--", path)


def _broken(path: str, code: int, stderr: bytes) -> str:
    said = stderr.decode("utf-8", "replace").strip()
    return (
        f"{path}: the process that reads it ended with {code} and gave no plan: {said[-2000:] or 'no output'}"
    )
