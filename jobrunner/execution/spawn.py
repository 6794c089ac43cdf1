"""Starting a command: its argv, its descriptors, its session; and the words for why it did not start."""

from __future__ import annotations

import errno
import json
import os
import signal
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, timedelta
from enum import Enum
from typing import Final, NamedTuple

from ..clock import SystemClock
from ..codec import decode_arguments
from ..durations import SECOND
from ..errors import PayloadError
from ..plan import Task
from . import Call
from .environment import command_environment
from .family import start_between, start_of
from .forking import Streams, start
from .identity import Identity, UnknownAccount, home_variables, identity_of
from .launch import denied, failure_in, launch_of, words_of

_CLOCK: Final = SystemClock()
LONGEST_TEXT: Final = 128 * 1024  # bytes, its ending NUL included: the kernel's MAX_ARG_STRLEN
OWN_SIGNALS: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # ignored by Python; given back at the start


class BadArguments(Exception):
    """The arguments of the call cannot be given to a command."""


class CouldNotStart(Exception):
    """The command could not be started: what was tried, and what the system said."""


class Exit(NamedTuple):
    """How a process ended. Both are None when somebody else took its exit status."""

    code: int | None
    signal: str | None


# --- arguments ------------------------------------------------------------------------------------------


class Arguments(NamedTuple):
    """A call's arguments as texts."""

    positional: list[str]
    keyword: dict[str, str]


def arguments_of(payload: str) -> Arguments:
    """The texts of the arguments. Raises BadArguments."""
    try:
        args, kwargs = decode_arguments(payload)
    except PayloadError as error:
        raise BadArguments(str(error)) from None
    positional = [_text(value, f"argument {number}") for number, value in enumerate(args, 1)]
    keyword = {name: _text(value, f"argument {name!r}", len(name)) for name, value in kwargs.items()}
    return Arguments(positional, keyword)


def _text(value: object, what: str, name_length: int = 0) -> str:
    text = value if isinstance(value, str) else _compact(value, what)
    if "\0" in text:
        raise BadArguments(f"{what} holds a NUL character: a command's argument ends there")
    try:
        size = len(os.fsencode(text))
    except UnicodeEncodeError:
        raise BadArguments(f"{what} holds half a character (a lone surrogate)") from None
    if size + name_length + len("JOBRUNNER_ARG_=") >= LONGEST_TEXT:
        raise BadArguments(
            f"{what} has {size:,} bytes: a command's argument holds less than {LONGEST_TEXT:,}"
        )
    return text


def _compact(value: object, what: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadArguments(f"{what} cannot be written as JSON: {error}") from None


def _plain(value: object) -> object:
    """What JSON lacks, as a command can read it."""
    match value:
        case set() | frozenset():
            return sorted(value, key=repr)
        case bytes():
            return b64encode(value).decode()
        case date():  # a datetime is one too
            return value.isoformat()
        case timedelta():
            return value / timedelta(microseconds=SECOND)
        case Enum():
            return value.value
    return str(value)


def argv_of(task: Task, positional: list[str]) -> list[str]:
    """The command line. A text goes to the shell with the arguments behind it, never inside it."""
    if isinstance(task.command, str):
        return [*task.shell, "-c", task.command, task.name, *positional]
    return [*(task.command or ()), *positional]


# --- signals --------------------------------------------------------------------------------------------


def free_signals() -> None:
    """See to it that commands start with default signals, whatever this process inherited.

    A child keeps what is ignored or blocked here. So an ignored signal gets a handler that does nothing,
    which exec resets, and nothing stays blocked. `SIGCHLD` must not be ignored: exit codes would be lost.
    """
    for number in signal.valid_signals() - set(OWN_SIGNALS):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _nothing)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _nothing(_number: int, _frame: object) -> None:
    return


# --- spawning -------------------------------------------------------------------------------------------


class Spawned:
    """A command's process, the leader of its own session; it stays a zombie until `collect`.

    So long, its pid can belong to nobody else, nor can a session of that number.
    """

    __slots__ = ("_status", "path", "pid", "pidfd", "start", "stderr", "stdout")

    def __init__(
        self, pid: int, stdout: int, stderr: int, path: str, status: int = -1, start: int | None = None
    ) -> None:
        self._status = status  # the pipe of the launcher; -1 without one
        self.path = path  # the PATH that it got
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.pidfd = os.pidfd_open(pid)
        self.start = start_of(pid) if start is None else start  # clock ticks since boot

    def exit(self) -> Exit | None:
        """How it ended; None while it runs. Leaves it uncollected."""
        return self._wait(os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def refusal(self, task: Task) -> str | None:
        """Once it has ended: why it never became the command; None when it did."""
        failure = None if self._status < 0 else failure_in(self._status)
        if failure is None:
            return None
        if failure.doing:
            return words_of(failure, task)
        argv = argv_of(task, [])
        if denied(failure) and task.user:
            return _denied(argv[0], task.user, self.path)
        return why(failure.error, argv, task.cwd, {"PATH": self.path})

    def collect(self) -> None:
        """Let the kernel forget it. Its pipes are left to whoever reads them."""
        self._wait(os.WEXITED | os.WNOHANG)
        os.close(self.pidfd)
        if self._status >= 0:
            os.close(self._status)

    def signal_group(self, *numbers: signal.Signals) -> None:
        """Send signals to its process group: to all at once, those that it is just forking included."""
        with suppress(ProcessLookupError, PermissionError):
            for number in numbers:
                os.killpg(self.pid, number)

    def _wait(self, options: int) -> Exit | None:
        try:
            result = os.waitid(os.P_PIDFD, self.pidfd, options)
        except ChildProcessError:
            return Exit(None, None)
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return Exit(result.si_status, None)
        return Exit(None, signal_name(result.si_status))


def signal_name(number: int) -> str:
    """`SIGKILL`; the real-time ones count from the first: `SIGRTMIN+3`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


class Prepared(NamedTuple):
    """What a call's command is given."""

    argv: list[str]
    environment: Mapping[str, str]
    identity: Identity | None  # None: as this process


def prepare(call: Call, inherited: Mapping[str, str], pool_env: Mapping[str, str]) -> Prepared:
    """Argv, environment and user of a call's command; `inherited`: what `allowed` gives.

    Raises BadArguments, CouldNotStart.
    """
    arguments = arguments_of(call.payload)
    identity = _identity(call.task)
    if identity is not None and call.task.user is not None:
        inherited = {**inherited, **home_variables(identity)}
    try:
        environment = command_environment({**inherited, **pool_env}, call, arguments.keyword)
    except (ValueError, TypeError, OverflowError) as error:  # a row in the storage may hold anything
        raise BadArguments(str(error)) from None
    return Prepared(argv_of(call.task, arguments.positional), environment, identity)


def _identity(task: Task) -> Identity | None:
    try:
        return identity_of(task.user, task.group)
    except UnknownAccount as error:
        raise CouldNotStart(f"{error}: it was known when the file was read") from None


def spawn(call: Call, prepared: Prepared) -> Spawned:
    """Start a call's command, with pipes for its output. Raises CouldNotStart."""
    argv, environment, identity = prepared
    opened: list[int] = []  # what is to be closed, whatever happens
    try:
        stdin = stdin_of(call.task, opened)
        stdout, child_stdout = _pipe(opened)
        stderr, child_stderr = _pipe(opened)
        launch = launch_of(call.task, argv, environment, identity=identity, opened=opened)
        before = _CLOCK.boottime()
        pid = start(launch, Streams(stdin, child_stdout, child_stderr), is_leader=True)
        since = start_between(before, _CLOCK.boottime())
        spawned = _watched(pid, stdout, stderr, _path(environment), launch.status, since)
        for kept in {stdout, stderr, launch.status} & set(opened):
            opened.remove(kept)
        return spawned
    except (OSError, ValueError) as error:
        raise CouldNotStart(why(error, argv, call.task.cwd, environment)) from None
    finally:
        for fd in opened:
            os.close(fd)


def _watched(pid: int, stdout: int, stderr: int, path: str, status: int, since: int | None) -> Spawned:
    """The process with its pidfd; without one it could not be waited for, so it is ended again."""
    try:
        return Spawned(pid, stdout, stderr, path, status, since)
    except OSError:
        os.killpg(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
        raise


def stdin_of(task: Task, opened: list[int]) -> int:
    """The descriptor that a command reads; what is to be closed is put into `opened`."""
    text = task.stdin
    if text is None:
        opened.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        return opened[-1]
    memory = os.memfd_create("stdin")
    opened.append(memory)
    with open(memory, "wb", closefd=False) as file:
        file.write(text.encode(errors="surrogateescape"))
    # Opened again: read only, from the begin.
    opened.append(os.open(f"/proc/self/fd/{memory}", os.O_RDONLY | os.O_CLOEXEC))
    return opened[-1]


def _path(environment: Mapping[str, str]) -> str:
    return environment.get("PATH", os.defpath)


def _pipe(opened: list[int]) -> tuple[int, int]:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    opened += (ours, theirs)
    os.set_blocking(ours, False)
    return ours, theirs


# --- words ----------------------------------------------------------------------------------------------

_WORDS: Final = {
    errno.EAGAIN: "the system allows no more processes for this user",
    errno.EMFILE: "this process may open no more files",
    errno.ENFILE: "the system can open no more files",
    errno.ENOMEM: "the system has no memory left for another process",
    errno.E2BIG: "its arguments and environment are larger than the system allows",
    errno.ENOEXEC: "it is neither a program nor a script that begins with #!",
}


def _denied(program: str, user: str, path: str) -> str:
    if "/" in program:
        return f"cannot run {program}: permission denied for user {user}"
    return f"cannot run {program}: no such program that user {user} may run; PATH={path}"


def why(error: OSError | ValueError, argv: list[str], cwd: str, environment: Mapping[str, str]) -> str:
    """Why a command was not started."""
    program = argv[0] if argv else ""
    if isinstance(error, ValueError):
        return f"cannot run {program}: {error}"
    if error.filename == cwd and not os.access(cwd, os.X_OK):
        return f"cannot run in the folder {cwd}: {_lower(error)}"
    words = _WORDS.get(error.errno or 0) or _lower(error)
    if isinstance(error, FileNotFoundError | PermissionError):
        words = _not_found(program, cwd, environment) or words
    return f"cannot run {program}: {words}"


def _not_found(program: str, cwd: str, environment: Mapping[str, str]) -> str:
    if "/" not in program:
        return f"no such program that may be run; PATH={_path(environment)}"
    if os.access(os.path.join(cwd, program), os.X_OK):
        return "the interpreter that its first line names does not exist"
    return ""


def shell_says(task: Task, code: int | None, path: str) -> str:
    """What a shell means by 126 and 127 (POSIX, 2.8.2); "" for other codes, or without a shell."""
    hint = _SHELL_SAYS.get(code or 0)
    if hint is None or not isinstance(task.command, str):
        return ""
    return f"the shell says: {hint}; PATH={path}"


_SHELL_SAYS: Final = {126: "found, but not executable", 127: "command not found"}


def _lower(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
