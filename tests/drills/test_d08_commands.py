"""D8: a zoo of commands, all at once: exact outcomes, no survivors, bounded memory. Full form: 20 rounds."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobrunner.durations import MILLISECOND, SECOND
from jobrunner.execution import Call
from jobrunner.model import Ended
from jobrunner.output import output_path
from tests.integration.commands.slots import Command, Slots, a_call, survivors

MIB = 1024 * 1024
DEAF = "trap '' TERM; "
TWICE_FORKED = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
os.wait()
"""


@dataclass(frozen=True, slots=True)
class Animal:
    """A command and what is to be said of it."""

    name: str
    call: Call
    outcome: str
    result: str | None = None


def animal(name: str, command: Command, outcome: str, *, result: str | None = None, **task: Any) -> Animal:
    return Animal(name, a_call(command, kill_after=300 * MILLISECOND, **task), outcome, result)


def zoo(flood: int) -> Iterator[Animal]:
    """One of each."""
    for code in range(256):
        yield animal(f"exit {code}", f"exit {code}", f"exit {code}" if code else "ok")
    for number in DEADLY:
        yield animal(number.name, f"ulimit -c 0; kill -{number} $$; sleep 60", f"signal {number.name}")
    short = SECOND // 2
    yield animal("sleeps", "sleep 600", "timeout", timeout=short)
    yield animal("deaf", DEAF + "sleep 600; sleep 600", "timeout", timeout=short)
    yield animal("deaf children", f"({DEAF} sleep 600) & ({DEAF} sleep 600) & wait", "timeout", timeout=short)
    yield animal("stopped", "kill -STOP $$", "timeout", timeout=short)
    yield animal("daemon", (sys.executable, "-c", TWICE_FORKED), "ok")
    yield animal(
        "daemon and waits",
        (sys.executable, "-c", TWICE_FORKED + "time.sleep(600)"),
        "timeout",
        timeout=2 * SECOND,
    )
    yield animal("other session", "setsid sleep 600 & exit 4", "exit 4")
    yield animal("closes its pipes", "exec >&- 2>&-; sleep 0.1; exit 5", "exit 5")
    yield animal("grandchild holds the pipe", "sleep 600 & echo done", "ok", result='"done"')
    yield animal("flood", f"head -c {flood} /dev/zero", "ok")
    yield animal("flood on stderr", f"head -c {flood // 8} /dev/zero >&2; exit 6", "exit 6")
    yield animal("endless flood", "cat /dev/zero", "timeout", timeout=short)
    yield animal("no UTF-8", "printf '\\377\\376\\200'", "ok", result='"\\\\xff\\\\xfe\\\\x80"')
    yield animal("reads stdin", "cat; echo $?", "ok", result='"0"')
    yield animal("one long line", "head -c 300000 /dev/zero | tr '\\0' x", "ok")
    yield animal("not there", ("no-such-program",), "could not start")
    yield animal("no folder", "true", "could not start", cwd="/no/such/folder")


DEADLY = sorted(
    set(signal.Signals)
    - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}  # ignored unless handled
    - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}  # stop, do not end
    - {signal.SIGRTMIN, signal.SIGRTMAX}
)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.drill
def test_a_zoo_of_commands_has_exact_outcomes_and_no_survivors(tmp_path: Path, full_drills: bool) -> None:
    # rules 13, 14 and 23
    rounds, flood = (20, 1024 * MIB) if full_drills else (1, 64 * MIB)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    slots = Slots(tmp_path, slots=16)
    try:
        slots.run_all([a_call("echo warm") for _ in range(50)])
        before = resident()
        for _ in range(rounds):
            animals = list(zoo(flood))
            chance.shuffle(animals)
            visit(slots, animals)
        grown = resident() - before
        print(f"{rounds} rounds, memory +{grown / MIB:.1f} MiB")
        assert grown <= 20 * MIB
    finally:
        slots.close()


def visit(slots: Slots, animals: list[Animal]) -> None:
    ends = slots.run_all([each.call for each in animals])
    assert survivors(*(each.call for each in animals)) == []
    wrong = [(each.name, end) for each, end in zip(animals, ends, strict=True) if not is_right(each, end)]
    assert wrong == []
    for each, end in zip(animals, ends, strict=True):
        if end.output is not None and json.loads(end.output)["dropped"]:
            assert os.path.getsize(output_path(slots.root, each.call.run_id, 1)) <= 10 * MIB + 1024
            os.unlink(output_path(slots.root, each.call.run_id, 1))


def is_right(each: Animal, end: Ended) -> bool:
    return end.outcome == each.outcome and each.result in (None, end.result)
