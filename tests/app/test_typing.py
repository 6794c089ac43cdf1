"""The types of the API, as a type checker sees them: what must pass, and what must not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".mypy_cache" / "snippets"  # what is checked twice is read once

PASSES = """
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta

from jobrunner import (
    CurrentRun,
    JobRunner,
    Notice,
    RunGroup,
    RunHandle,
    RunRecord,
    Task,
    chain,
    chord,
    crontab,
    current_run,
    group,
)

jobs = JobRunner("jobs.yaml")


@jobs.task
def plain(a: int) -> str:
    return str(a)


@jobs.task(retries=2, retry_delay="3s", timeout=timedelta(seconds=30), priority=5, lock="database")
def add(a: int, b: int = 0) -> int:
    return a + b


@jobs.task(retries={"max": 3, "delay": 1.5})
async def fetch(url: str) -> bytes:
    return url.encode()


@jobs.periodic_task(crontab(minute="*/5"), overlap="allow")
def tick() -> None:
    print(current_run().tick)


@jobs.task
def total(values: list[int]) -> int:
    return sum(values)


task: Task[[int], str] = plain
handle: RunHandle[int] = add(1, b=2)
number: int = handle.get(timeout="5s")
content: bytes = fetch("x").get()
handles: RunGroup[int] = add.map([(1, 2), (3, 4)])
numbers: list[int] = handles.get()
local: int = add.call_local(1, 2)
later: RunHandle[int] = add.schedule((3, 4), delay=5, priority=9, expires=datetime.now())
urgent: RunHandle[int] = add.options(priority=9)(1, 2)
named = jobs.enqueue("resize", 42, width=800).get()
checked: int = jobs.enqueue(add, 1, 2).get()
first: RunHandle[int] = handles[0]
some: Sequence[RunHandle[int]] = handles[1:]
done: list[RunHandle[int]] = list(handles.as_completed(timeout=5))


summed: RunHandle[int] = jobs.enqueue(group([add.s(1, 2), add.s(3, 4)]).then(total))
chained: int = jobs.enqueue(plain.s(1).then(add, 2)).get()
members: list[int] = jobs.enqueue(group([add.s(1, 2)])).get()
stepped: RunHandle[bytes] = jobs.enqueue(fetch.s("x").error(tick))
called: RunHandle[int] = jobs.enqueue(chord([add.s(1, 1)], total))
state: str = jobs.enqueue(chain(add.s(1), add.s(2))).state.value


@jobs.signal("complete", "error")
def heard(notice: Notice) -> None:
    print(notice.signal.value, notice.run_id, notice.attempt)


@jobs.pre_execute
def before(run: CurrentRun) -> None:
    print(run.task)


@jobs.post_execute
def after(run: CurrentRun, result: object, error: BaseException | None) -> None: ...


@jobs.on_startup
def connect() -> None: ...


known: bool = jobs.disconnect(heard, "error")
with jobs.lock("database", timeout="5s"):
    found: list[RunRecord] = jobs.runs(state=["queued", "running"], task="resize", limit=5)
awaited: Callable[[], Coroutine[object, object, list[int]]] = handles.aget


async def main() -> int:
    return await (await jobs.aenqueue(add, 1)).aget(timeout=5)
"""

FAILS = """
from jobrunner import JobRunner, RunHandle, crontab, group

jobs = JobRunner("jobs.yaml")


@jobs.task(priority=5)
def add(a: int, b: int = 0) -> int:
    return a + b


add("1")  # error: arg-type
add(1, 2, 3)  # error: call-arg
add(1, c=2)  # error: call-arg
add(1, priority=9)  # error: call-arg
text: str = add(1).get()  # error: assignment
wrong: RunHandle[str] = add(1)  # error: assignment
add.call_local("1")  # error: arg-type
jobs.enqueue(add, "1")  # error: call-overload
add.schedule((1,), dealy=5)  # error: call-arg
add.options(priority="high")  # error: arg-type
jobs.task(retrys=3)  # error: call-overload
jobs.task(overlap="never")  # error: call-overload
jobs.periodic_task(90)  # error: arg-type
crontab(minutes=5)  # error: call-arg
crontab(minute=1.5)  # error: arg-type
JobRunner(5)  # error: arg-type
wrong = jobs.enqueue(add.s(1, 2))  # error: arg-type
group([1, 2])  # error: arg-type
add.s(1).then(5)  # error: call-overload
jobs.enqueue(add.s(1), 2)  # error: call-overload
add(1).id = 3  # error: assignment


@jobs.signal("complete")  # error: arg-type
def deaf() -> None: ...


@jobs.on_startup  # error: type-var
def needs(a: int) -> None: ...
"""


def checked(folder: Path, text: str) -> str:
    (folder / "snippet.py").write_text(text)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--config-file=",
            f"--cache-dir={CACHE}",
            "snippet.py",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_what_is_right_passes_with_its_types(tmp_path: Path) -> None:
    assert checked(tmp_path, PASSES) == ""


def test_each_wrong_line_is_found_for_its_own_reason(tmp_path: Path) -> None:
    wanted = {
        number: line.rpartition("# error: ")[2]
        for number, line in enumerate(FAILS.splitlines(), 1)
        if "# error: " in line
    }
    said = checked(tmp_path, FAILS)
    found = {
        int(line): code
        for line, code in re.findall(r"^snippet\.py:(\d+): error: .*\[([\w-]+)\]$", said, re.M)
    }
    assert found == wanted, said
