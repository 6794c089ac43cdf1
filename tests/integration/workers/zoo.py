"""Callables of every kind: each does something to its process, its caller or itself."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import NoReturn

from jobrunner import CancelRun, RetryRun, current_run
from jobrunner.context import asking


class Colour(Enum):
    """Something to be stored by tag."""

    RED = "red"


# ---- good ones -----------------------------------------------------------------------------------


def nothing() -> None:
    return None


def add(a: int, b: int) -> int:
    return a + b


def echo(*args: object, **kwargs: object) -> object:
    return [list(args), kwargs]


def tagged() -> object:
    return {"when": datetime(2026, 3, 29, tzinfo=UTC), "colour": Colour.RED, "pair": (1, 2)}


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


async def asleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


async def leaves_a_task() -> str:
    asyncio.get_running_loop().create_task(asyncio.sleep(3600))
    return "left"


async def tasks_around() -> int:
    return len(asyncio.all_tasks())


def whoami() -> int:
    return os.getpid()


def run_facts() -> dict[str, object]:
    run = current_run()
    return {
        "id": run.id,
        "task": run.task,
        "attempt": run.attempt,
        "trigger": run.trigger,
        "missed": run.missed,
        "tick": run.tick,
        "scheduled_at": run.scheduled_at,
        "cause": None if run.cause is None else run.cause.task,
        "has_time": run.time_remaining is not None and 0 < run.time_remaining <= 60,
        "is_cancelled": run.is_cancelled,
    }


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(("JOBRUNNER_", "ZOO_"))}


def variables_of_a_child() -> list[str]:
    lines = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(line for line in lines if line.startswith(("JOBRUNNER_", "ZOO_", "PYTHONPATH")))


def surroundings() -> dict[str, object]:
    """All that a neighbour may have left behind."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "cwd": os.getcwd(),
        "umask": mask,
        "term": signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL),
        "int": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "recursion": sys.getrecursionlimit(),
        "zoo": sorted(name for name in os.environ if name.startswith("ZOO_")),
        "home": os.environ.get("HOME"),
        "descriptors": [os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in (0, 1, 2)],
        "stdout": sys.stdout is sys.__stdout__ and sys.stdout is not None,
    }


# ---- words back ----------------------------------------------------------------------------------


def ask_again(delay: float | str | None = None) -> NoReturn:
    raise RetryRun(delay)


def give_up(retry: bool | None = None) -> NoReturn:
    raise CancelRun("no use", retry=retry)


# ---- writers -------------------------------------------------------------------------------------


def shout(text: str = "hello") -> str:
    print(text)
    return text


def mutter(text: str) -> None:
    print(text, end="", file=sys.stderr)


def low_level(text: str) -> None:
    os.write(1, text.encode())


def by_a_child(text: str) -> None:
    subprocess.run(["sh", "-c", 'printf %s "$1"', "sh", text], check=True)


def flood(megabytes: int) -> None:
    for _ in range(megabytes):
        os.write(1, b"x" * 2**20)


def flood_holding_the_gil(kilobytes: int) -> int:
    """C code that writes and lets no other thread of its process run."""
    libc = ctypes.PyDLL(None)
    line = b"y" * 1024
    return sum(libc.write(1, line, len(line)) for _ in range(kilobytes))


# ---- bad ones ------------------------------------------------------------------------------------


def fail(message: str = "no") -> NoReturn:
    raise ValueError(message)


def leave(code: object = 3) -> NoReturn:
    sys.exit(code)  # type: ignore[arg-type]


def leave_process(code: int = 3) -> NoReturn:
    os._exit(code)


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> NoReturn:
    os.abort()


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def exhaust() -> NoReturn:
    raise MemoryError("simulated")


class StrangeInit(Exception):
    def __init__(self, one: object, two: object) -> None:
        super().__init__()


class StrangeStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a text")

    __repr__ = __str__


class StrangeBase(BaseException):
    pass


class Cyclic(Exception):
    pass


def strange_init() -> NoReturn:
    raise StrangeInit(1, 2)


def strange_str() -> NoReturn:
    raise StrangeStr


def strange_base() -> NoReturn:
    raise StrangeBase("from below Exception")


def strange_kind() -> NoReturn:
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            raise RuntimeError("leave me alone")

    class Hidden(Exception, metaclass=Meta):
        pass

    raise Hidden("hidden")


def cyclic() -> NoReturn:
    first, second = Cyclic("first"), Cyclic("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def group() -> NoReturn:
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


def wordy() -> NoReturn:
    raise ValueError("w" * 50_000_000)


def half_a_character() -> NoReturn:
    raise ValueError("\ud800")


def unstorable() -> object:
    return {"a": [1, 2, 3, lambda: None]}


def not_a_number() -> float:
    return float("nan")


def contains_itself() -> object:
    value: list[object] = []
    value.append(value)
    return value


def enormous() -> str:
    return "x" * 2**21


class StrangeValue:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("no class")


def strange_value() -> object:
    return [StrangeValue()]


def type_error_inside(a: int) -> object:
    return a + "b"  # type: ignore[operator]


def _passing_on(function: Callable[..., object]) -> Callable[..., object]:
    @wraps(function)
    def inner(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return inner


@_passing_on
def wrapped(a: int) -> int:
    return a


# ---- bad neighbours ------------------------------------------------------------------------------


def change_folder() -> None:
    os.chdir("/")


def change_folder_and_remove_it(folder: str) -> None:
    Path(folder).mkdir()
    os.chdir(folder)
    Path(folder).rmdir()


def change_umask() -> None:
    os.umask(0o777)


def change_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR1))


def set_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def change_environment() -> None:
    os.environ["ZOO_LEFT"] = "behind"
    os.environ["HOME"] = "/nowhere"
    os.environ.pop("PATH", None)


def replace_environment() -> None:
    os.environ = {}  # type: ignore[assignment]  # noqa: B003


def clear_environment() -> None:
    os.environ.clear()


def change_recursion() -> None:
    sys.setrecursionlimit(150)


def close_descriptors() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


def redirect_descriptors(path: str) -> None:
    for fd in (1, 2):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), fd)


def close_streams() -> None:
    sys.stdin.close()
    sys.stdout.close()
    sys.stderr.close()


def replace_streams() -> None:
    sys.stdout = sys.stderr = None


def shut_logging() -> None:
    logging.shutdown()


def leave_threads() -> None:
    for _ in range(3):
        threading.Thread(target=threading.Event().wait, daemon=False).start()


def leave_a_child() -> int:
    return subprocess.Popen(["sleep", "3600"]).pid


# ---- those that do not end -----------------------------------------------------------------------


def spin() -> NoReturn:
    while True:
        pass


def stubborn() -> NoReturn:
    """Swallows whatever comes, again and again."""
    while True:
        try:
            time.sleep(3600)
        except BaseException as error:
            print(repr(error))


def swallow() -> str:
    """`except Exception` must not be enough to survive a timeout."""
    while True:
        try:
            time.sleep(3600)
        except Exception as error:
            print(error)


def tidy(path: str) -> None:
    try:
        time.sleep(3600)
    finally:
        Path(path).write_text("tidied")


async def tidy_async(path: str) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        Path(path).write_text("tidied")


def hold_the_gil() -> object:
    """A regular expression that takes for ever, in C."""
    return re.match(r"(a+)+$", "a" * 64 + "b")


def with_a_child(path: str) -> None:
    child = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo $$ > \"$1\"; while :; do sleep 1; done", "sh", path]
    )
    child.wait()


def with_an_escapee(path: str) -> None:
    script = "trap '' TERM HUP; echo $$ > \"$1\"; while :; do sleep 1; done"
    subprocess.Popen(["sh", "-c", script, "sh", path], start_new_session=True)
    time.sleep(3600)


def block_until(path: str) -> None:
    """Says that it runs by making a file, then waits for another one's removal."""
    Path(path).write_text(str(os.getpid()))
    while Path(path).exists():
        time.sleep(0.01)


# ---- side by side --------------------------------------------------------------------------------


def times(seconds: float) -> tuple[int, int]:
    """When it began and ended, in microseconds."""
    begun = time.monotonic_ns() // 1000
    time.sleep(seconds)
    return begun, time.monotonic_ns() // 1000


async def times_async(seconds: float) -> tuple[int, int]:
    begun = time.monotonic_ns() // 1000
    await asyncio.sleep(seconds)
    return begun, time.monotonic_ns() // 1000


def own_run(seconds: float) -> list[str]:
    """The run that is current here, before and after the others had their turn."""
    before = current_run().id
    time.sleep(seconds)
    return [before, current_run().id]


async def own_run_async(seconds: float) -> list[str]:
    before = current_run().id
    await asyncio.sleep(seconds)
    return [before, current_run().id]


def speak_slowly(word: str) -> None:
    """Half a line, then the rest: others write meanwhile."""
    print(word, end=" ")
    time.sleep(0.05)
    print(word)
    sys.stderr.buffer.write(word.encode())


def wait_until_cancelled() -> str:
    """A loop that asks whether it is to end."""
    while True:
        time.sleep(0.01)
        current_run().check()


def ignore_the_end(path: str) -> None:
    """It swallows everything that is to end it, and yields all the while."""
    while True:
        try:
            time.sleep(0.01)
            with open(path, "a") as file:
                file.write(".")
        except BaseException:
            pass


async def ignore_the_end_async(path: str) -> None:
    while True:
        try:
            await asyncio.sleep(0.01)
            with open(path, "a") as file:
                file.write(".")
        except BaseException:
            pass


async def spin_async() -> NoReturn:
    while True:
        pass


# ---- of the whole worker -------------------------------------------------------------------------

HOARD: list[bytes] = []
STARTED: list[str] = []


def hoard(megabytes: int) -> int:
    """Memory that is never given back; gives the process that holds it."""
    HOARD.append(b"\1" * (megabytes * 2**20))
    return os.getpid()


def start_up() -> None:
    os.environ["ZOO_STARTED"] = "yes"
    STARTED.append(threading.current_thread().name)


async def start_up_async() -> None:
    await asyncio.sleep(0)
    STARTED.append(type(asyncio.get_running_loop()).__name__)


def started() -> list[object]:
    return [len(STARTED), os.environ.get("ZOO_STARTED")]


def shut_down() -> None:
    with open(os.environ["SHUT_DOWN"], "a") as file:
        file.write(f"{os.getpid()}\n")


# ---- questions to the supervisor -----------------------------------------------------------------


def ask(text: str) -> str:
    way = asking()
    assert way is not None
    return way.ask(text)


async def ask_async(text: str) -> str:
    return await asyncio.to_thread(ask, text)


async def ask_awaiting(text: str) -> str:
    way = asking()
    assert way is not None
    return await way.aask(text)


def ask_from_a_thread(text: str) -> str:
    """A thread that knows nothing of the call."""
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask(text)))
    thread.start()
    thread.join()
    return answers[0]
