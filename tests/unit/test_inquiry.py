"""Questions about the configuration: a real clerk, asked through a real loop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobrunner.clock import SystemClock
from jobrunner.config.child import compiling
from jobrunner.config.compiled import Compiled, from_text
from jobrunner.config.looked import asked, verdicts_of
from jobrunner.durations import MILLISECOND, MINUTE, SECOND
from jobrunner.inquiry import Answer, Clerk, Question, awaited
from jobrunner.loop import EventLoop
from jobrunner.plan import Plan
from tests.builders import a_task
from tests.drills.checker import children
from tests.live import wait_until

PATIENCE = 2 * MINUTE


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    made = EventLoop(SystemClock())
    yield made
    made.close()


@pytest.fixture
def clerk(loop: EventLoop) -> Iterator[Clerk]:
    made = Clerk(loop)
    yield made
    made.close()


def compiled(clerk: Clerk, loop: EventLoop, file: Path) -> Compiled:
    answer = awaited(clerk, loop, Question(compiling(str(file)), PATIENCE), lambda: False)
    assert answer is not None
    assert answer.trouble == ""
    return from_text(answer.output)


def looking(folder: Path, module: str) -> Question:
    """Whether this text can be imported; it leaves the pid of who tries."""
    (folder / "looked_at.py").write_text(f"import os\nopen('pid', 'w').write(str(os.getpid()))\n{module}")
    task = a_task("t", command=None, call="looked_at:f", cwd=str(folder))
    plan = Plan(
        file="/jobs.yaml",
        hash="1",
        backend="memory://",
        timezone="UTC",
        tasks={"t": task},
        pythonpath=(str(folder),),
    )
    return Question(("look",), PATIENCE, asked(plan).encode())


def probe(folder: Path, loop: EventLoop) -> int:
    """The pid of who imports the module, once it does."""
    return int(wait_for_text(folder / "pid", loop))


def wait_for_text(path: Path, loop: EventLoop) -> str:
    turn_until(loop, lambda: path.exists() and path.read_text() != "", f"{path} was not written")
    return path.read_text()


def turn_until(loop: EventLoop, holds: Callable[[], bool], otherwise: str) -> None:
    def held() -> bool:
        loop.turn(10 * MILLISECOND)
        return holds()

    wait_until(held, lambda: otherwise)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/exe").exists()  # a zombie has none


def test_one_process_answers_one_question_after_the_other(
    clerk: Clerk, loop: EventLoop, tmp_path: Path
) -> None:
    # rule 24: what the file says now counts, not what it said before
    file, before = tmp_path / "jobs.yaml", set(children(os.getpid()))
    clerks = set()
    for number in range(3):
        file.write_text(f"tasks:\n  t{number}: {{command: 'true', schedule: '5 4 * * *'}}\n")
        found = compiled(clerk, loop, file)
        assert found.plan is not None
        assert list(found.plan.tasks) == [f"t{number}"]
        clerks |= set(children(os.getpid())) - before
    assert len(clerks) == 1
    file.write_text("tasks: [")
    assert compiled(clerk, loop, file).errors


def test_questions_do_not_wait_for_one_another(clerk: Clerk, loop: EventLoop, tmp_path: Path) -> None:
    # rule 25: a module that hangs holds up no reload
    late: list[Answer] = []
    clerk.ask(looking(tmp_path, "import time; time.sleep(3600)"), late.append)
    probe(tmp_path, loop)
    (tmp_path / "jobs.yaml").write_text("tasks: {}")
    assert compiled(clerk, loop, tmp_path / "jobs.yaml").plan is not None
    assert not late


def test_what_is_not_wanted_any_more_ends_with_all_it_has_started(
    clerk: Clerk, loop: EventLoop, tmp_path: Path
) -> None:
    # invariant I7
    answers: list[Answer] = []
    inquiry = clerk.ask(looking(tmp_path, "import time; time.sleep(3600)"), answers.append)
    pid = probe(tmp_path, loop)
    inquiry.close()
    wait_until(lambda: is_gone(pid), lambda: "the probe lives on")
    assert not answers


def test_what_takes_too_long_is_ended_and_said_so(clerk: Clerk, loop: EventLoop, tmp_path: Path) -> None:
    question = looking(tmp_path, "import time; time.sleep(3600)")._replace(patience=SECOND // 10)
    answer = awaited(clerk, loop, question, lambda: False)
    assert answer == Answer(b"", "took too long")
    question = looking(tmp_path, "def f(): pass")
    answer = awaited(clerk, loop, question, lambda: False)
    assert answer is not None
    assert [each.message for each in verdicts_of(answer.output)] == [""]


def test_the_death_of_the_clerk_is_told_and_the_next_question_is_answered(
    clerk: Clerk, loop: EventLoop, tmp_path: Path
) -> None:
    before = set(children(os.getpid()))
    answers: list[Answer] = []
    clerk.ask(looking(tmp_path, "import time; time.sleep(3600)"), answers.append)
    probe(tmp_path, loop)
    (clerks,) = set(children(os.getpid())) - before
    os.kill(clerks, signal.SIGKILL)
    turn_until(loop, lambda: bool(answers), "nothing was told")
    assert answers == [Answer(b"", "was ended by signal 9")]
    (tmp_path / "jobs.yaml").write_text("tasks: {}")
    assert compiled(clerk, loop, tmp_path / "jobs.yaml").plan is not None


def test_a_clerk_that_hangs_is_replaced_when_it_is_late(
    clerk: Clerk, loop: EventLoop, tmp_path: Path
) -> None:
    # invariant I11
    (tmp_path / "jobs.yaml").write_text("tasks: {}")
    before = set(children(os.getpid()))
    assert compiled(clerk, loop, tmp_path / "jobs.yaml").plan is not None
    (pid,) = set(children(os.getpid())) - before
    os.kill(pid, signal.SIGSTOP)
    question = Question(compiling(str(tmp_path / "jobs.yaml")), SECOND // 10)
    assert awaited(clerk, loop, question, lambda: False) == Answer(b"", "took too long")
    assert compiled(clerk, loop, tmp_path / "jobs.yaml").plan is not None


def test_a_clerk_leaves_when_nobody_has_asked_for_a_while(loop: EventLoop, tmp_path: Path) -> None:
    # invariant I8: neither a process nor a descriptor stays
    before = (set(children(os.getpid())), sorted(os.listdir("/proc/self/fd")))
    clerk = Clerk(loop, stays=SECOND // 10)
    (tmp_path / "jobs.yaml").write_text("tasks: {}")
    for _ in range(2):
        assert compiled(clerk, loop, tmp_path / "jobs.yaml").plan is not None
        assert set(children(os.getpid())) > before[0]
        turn_until(loop, lambda: set(children(os.getpid())) == before[0], "the clerk stays")
    assert sorted(os.listdir("/proc/self/fd")) == before[1]


def test_at_the_end_nothing_of_it_is_left(loop: EventLoop, tmp_path: Path) -> None:
    # invariant I7
    clerk = Clerk(loop)
    clerk.ask(looking(tmp_path, "import time; time.sleep(3600)"), lambda _: None)
    pid = probe(tmp_path, loop)
    clerk.close()
    wait_until(lambda: is_gone(pid), lambda: "the probe lives on")


STARTS = """
import os, subprocess
for session in (False, True):
    child = subprocess.Popen(["sleep", "3600"], start_new_session=session)
    open("started", "a").write(f"{child.pid} ")
def f(): pass
"""


@pytest.mark.parametrize("ending", ["", "os._exit(3)", "import time; time.sleep(3600)"])
def test_what_modules_start_when_they_are_looked_at_is_ended(
    clerk: Clerk, loop: EventLoop, tmp_path: Path, ending: str
) -> None:
    # invariant I7, whether the module loads, ends its process, or hangs until nobody wants to know any more
    answers: list[Answer] = []
    inquiry = clerk.ask(looking(tmp_path, STARTS + ending), answers.append)

    def started() -> list[str]:
        path = tmp_path / "started"
        return path.read_text().split() if path.exists() else []

    turn_until(
        loop, lambda: len(started()) >= 2 and (bool(answers) or "sleep" in ending), "nothing was started"
    )
    inquiry.close()
    wait_until(lambda: all(is_gone(int(pid)) for pid in started()), lambda: f"{started()} live on")
