"""The door of the child processes of `config`; all answers are JSON.

python -m jobrunner.config compile [--check] -- FILE     the plan, or all problems
python -m jobrunner.config look                          a verdict on every callable of the plan on stdin
python -m jobrunner.config stay FD                       answers like these, to who asks over a socket
"""

from __future__ import annotations

import gc
import os
import sys
from datetime import datetime
from typing import NoReturn

from ..clock import SystemClock
from ..durations import from_micros

USAGE = "usage: python -m jobrunner.config compile [--check] -- FILE | look | stay FD"


def main(arguments: list[str]) -> int:
    """Exit code 0 with an answer on stdout, whatever the file holds; 2 for wrong use."""
    if arguments == ["look"]:
        return _look()
    if arguments[:1] == ["stay"]:
        _stay(int(arguments[1]))
    options, separator, files = _split(arguments)
    if not separator or len(files) != 1 or options not in (["compile"], ["compile", "--check"]):
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    return _compile(options, files[0])


def _compile(options: list[str], file: str) -> int:
    from .compile import compile_file
    from .compiled import to_text

    gc.disable()  # this process ends with its answer; looking for garbage takes longer than the work
    compiled = compile_file(
        file,
        environ=os.environ,
        importing="--check" in options,
        now=_now() if "--check" in options else None,
    )
    sys.stdout.write(to_text(compiled))
    sys.stdout.flush()
    return 0


def _look() -> int:
    from .looked import answered  # without pydantic: this is done at every start

    sys.stdout.write(answered(sys.stdin.read(), os.environ))
    sys.stdout.flush()
    return 0


def _stay(link: int) -> NoReturn:
    import socket

    from .stay import stay

    stay(socket.socket(fileno=link), main)


def _split(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], "--" if at < len(arguments) else "", arguments[at + 1 :]


def _now() -> datetime:
    return from_micros(SystemClock().now())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to take apart what it holds would take longer than to end
