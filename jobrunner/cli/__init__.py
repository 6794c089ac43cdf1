"""The command line: stdout is the answer, stderr is talk, and every error ends in its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from jobrunner.errors import ConfigError, JobRunnerError

from .root import ROOT
from .session import Session

INTERRUPTED = 130  # 128 + SIGINT: a client that was interrupted
READER_GONE = 141  # 128 + SIGPIPE: what a shell reports for a program whose reader has left
USAGE = 2
PROGRAM = "jobrunner"
COMPLETE = "_JOBRUNNER_COMPLETE"  # what the scripts of `completion` set

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, *, session: Session | None = None) -> int:
    """Run one command line; gives its exit code. `session` carries a clock or an environment handed in."""
    typed = tuple(sys.argv[1:] if arguments is None else arguments)
    session = session or Session()
    session.arguments = typed
    _write_what_cannot_be_encoded()
    try:
        with session.closing():
            code = _called(typed, session)
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        _forget_stdout()
        return READER_GONE
    except KeyboardInterrupt:
        return INTERRUPTED


def _called(typed: tuple[str, ...], session: Session) -> int:
    try:
        return _answer(typed, session)
    except click.ClickException as error:
        return _report(typed, "usage", error.format_message(), _usage_help(error), USAGE)
    except JobRunnerError as error:
        if os.environ.get("JOBRUNNER_DEBUG"):
            raise
        return _report(typed, error.code, error.message, error.help, error.exit_code)


def _answer(typed: tuple[str, ...], session: Session) -> int:
    """Without click's own `main`, which hides a reader that has left, and turns Ctrl-C into another error."""
    asked = session.environ.get(COMPLETE)
    if asked:
        from click.shell_completion import shell_complete

        return shell_complete(ROOT, {"obj": session}, PROGRAM, COMPLETE, asked)
    try:
        with ROOT.make_context(PROGRAM, list(typed), obj=session) as context:
            code = ROOT.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return code if isinstance(code, int) else 0


def _usage_help(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if isinstance(context, click.Context) else ""


def _report(typed: tuple[str, ...], code: str, message: str, hint: str, exit_code: int) -> int:
    """One error on stderr: for a program with --json, in words otherwise."""
    if "--json" in typed:
        import json

        document = {"error": {"code": code, "message": message, "help": hint}}
        sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
        return exit_code
    several = code == ConfigError.code and "\n" in message  # all problems of a file, rendered already
    sys.stderr.write(message.rstrip("\n") + "\n" if several else f"error: {message}\n")
    if hint:
        sys.stderr.write(f"help: {hint}\n")
    return exit_code


def _write_what_cannot_be_encoded() -> None:
    """In a locale without these characters an escape is better than a traceback."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """The reader has left: let the interpreter's own last flush go nowhere, in silence."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
