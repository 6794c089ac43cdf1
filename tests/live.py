"""A folder with a jobs.yaml, the supervisor that serves it, and the command line beside it: all real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from jobrunner.clock import SystemClock
from jobrunner.durations import SECOND
from jobrunner.errors import StorageError
from jobrunner.storage import open_storage

PATIENCE = 60.0  # seconds; generous, since machines that run tests are often busy with something else
ENDED_BY = 10.0  # seconds that processes get to be gone, after what they belonged to (I7: one, and grace)
LAST_LINES = 300  # of a log, in the report of a failed test
LOOK = 0.05  # seconds between two looks at a storage
COMMAND = (sys.executable, "-m", "jobrunner")
CLOCK = SystemClock()

Event = dict[str, Any]


class LiveSupervisor:
    """`jobrunner run` in a process of its own, whose log is read as JSON Lines: tests wait for events."""

    def __init__(
        self,
        file: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),  # a program that starts it
    ) -> None:
        self._file = file
        self.process = subprocess.Popen(
            [*prefix, *COMMAND, "run", str(file), "--log-format", "json", *options],
            cwd=file.parent,
            env=clean_environment(file.parent) if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.events: list[Event] = []
        self.words: list[str] = []  # lines that are not JSON: complaints before the log begins
        self._news = threading.Condition()  # its lock may be taken again by the thread that has it
        self._over = False
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, event: str, *, timeout: float = PATIENCE, **wanted: object) -> Event:
        """The first event of this name with these fields; waits until it is there."""

        def found() -> Event | None:
            return next((each for each in self.events if _fits(each, event, wanted)), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._over, timeout)
            answer = found()
        assert answer is not None, f"no event {event} with {wanted} in:\n{self.log()}"
        return answer

    def wait_for_number(
        self, count: int, event: str, *, timeout: float = PATIENCE, **wanted: object
    ) -> Event:
        """The event of this name with these fields that is the `count`-th one; waits until it is there."""

        def found() -> list[Event]:
            return [each for each in self.events if _fits(each, event, wanted)]

        with self._news:
            self._news.wait_for(lambda: len(found()) >= count or self._over, timeout)
            answer = found()
        assert len(answer) >= count, f"{len(answer)} events {event} with {wanted}, not {count}:\n{self.log()}"
        return answer[count - 1]

    def wait_for_what(
        self, look: Callable[[], Event | None], wanted: str, *, timeout: float = PATIENCE
    ) -> Event:
        """What `look` finds among the events; waits until it finds something."""
        with self._news:
            self._news.wait_for(lambda: look() is not None or self._over, timeout)
            found = look()
        assert found is not None, f"not {wanted} in:\n{self.log()}"
        return found

    def wait_for_next(self, event: str, seen: Collection[str], *, timeout: float = PATIENCE) -> Event:
        """The first event of this name that is about a run not in `seen`."""

        def found() -> Event | None:
            return next((e for e in self.events if _fits(e, event, {}) and e.get("run") not in seen), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._over, timeout)
            answer = found()
        assert answer is not None, f"no other event {event} than those of {seen} in:\n{self.log()}"
        return answer

    def ended(self, task: str) -> list[Event]:
        """The attempts of a task that have ended so far."""
        with self._news:
            return [each for each in self.events if _fits(each, "attempt", {"task": task})]

    def wait_for_ready(self, timeout: float = PATIENCE) -> None:
        """Wait until it owns the storage beside its file: for a log level at which `ready` is not said."""
        url = f"sqlite:///{self._file.parent / '.jobrunner' / self._file.stem}.db"

        def ready() -> bool:
            assert self.process.poll() is None, f"the supervisor ended:\n{self.log()}"
            return self._owns(url)

        wait_until(ready, lambda: f"the supervisor was not ready:\n{self.log()}", timeout)

    def _owns(self, url: str) -> bool:
        try:
            storage = open_storage(url, create=False)
        except StorageError:  # not made yet
            return False
        try:
            return any(s.alive and s.owner.pid == self.pid for s in storage.supervisors(CLOCK.now()))
        finally:
            storage.close()

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, once the process has ended by itself."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        assert not self._reader.is_alive(), f"it ended, and somebody holds its log open:\n{self.log()}"
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Ask for an orderly end; the exit code. A process that does not obey is killed: the test fails."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the supervisor did not stop within {timeout} s:\n{self.log()}") from None

    def insist(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal again and again, as an impatient person does, until it has ended; the exit code."""
        for _ in range(round(PATIENCE / 0.1)):
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                self.process.send_signal(number)
            else:
                return self.wait()
        self.kill()
        raise AssertionError(f"the supervisor did not stop:\n{self.log()}")

    def kill(self) -> None:
        """The death that nobody can prepare for."""
        self.process.kill()
        self.wait()

    def log(self) -> str:
        """Everything that was said, for the message of a failed test."""
        with self._news:
            said = [json.dumps(event, ensure_ascii=False) for event in self.events[-LAST_LINES:]]
            return "\n".join([*self.words, *said])

    def close(self) -> None:
        try:
            if self.process.poll() is None:
                self.stop()
        finally:
            self.process.kill()  # does nothing when it has ended
            self.process.wait()
            if self.process.stderr is not None and not self._reader.is_alive():
                self.process.stderr.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self._note(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def _note(self, line: str) -> None:
        try:
            self.events.append(json.loads(line))
        except json.JSONDecodeError:
            self.words.append(line)


def wait_until(holds: Callable[[], bool], otherwise: Callable[[], str], timeout: float = PATIENCE) -> None:
    """Look again and again until this holds; `otherwise` says what was wrong when time is up."""
    deadline = CLOCK.monotonic() + round(timeout * SECOND)
    while not holds():
        assert CLOCK.monotonic() < deadline, f"not within {timeout} s: {otherwise()}"
        threading.Event().wait(LOOK)


def _fits(event: Event, name: str, wanted: Mapping[str, object]) -> bool:
    return event.get("event") == name and all(event.get(key) == value for key, value in wanted.items())


def clean_environment(home: Path) -> dict[str, str]:
    """The environment of a person who has set nothing for jobrunner."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBRUNNER_")}
    return {**kept, "HOME": str(home), "NO_COLOR": "1", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


@dataclass(slots=True)
class Project:
    """A folder, its jobs.yaml, and what runs in it; everything started here ends with the test."""

    folder: Path
    _started: ExitStack = field(default_factory=ExitStack)
    _supervisors: list[LiveSupervisor] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "jobs.yaml"

    def write(self, text: str, name: str = "jobs.yaml") -> Path:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def start(
        self, *options: str, ready: bool = True, serve: str = "jobs.yaml", prefix: Sequence[str] = ()
    ) -> LiveSupervisor:
        """Start the supervisor of the file, or of a JobRunner (`demo:jobs`), and wait until it works."""
        env = clean_environment(self.folder)
        supervisor = LiveSupervisor(self.folder / serve, *options, env=env, prefix=prefix)
        self._started.callback(supervisor.close)
        self._supervisors.append(supervisor)
        if ready:
            supervisor.wait_for("ready")
        return supervisor

    def jobrunner(
        self, *arguments: str, stdin: str = "", timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """`jobrunner ARGUMENTS` in this folder."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=clean_environment(self.folder),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @contextmanager
    def client(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """`jobrunner ARGUMENTS` in this folder, to talk to while it runs; killed at the end of the block."""
        with subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=clean_environment(self.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def answer(self, *arguments: str, exit_code: int = 0) -> Any:
        """The JSON document that `jobrunner ARGUMENTS --json` prints."""
        done = self.jobrunner(*arguments, "--json")
        assert done.returncode == exit_code, done
        return json.loads(done.stdout)

    def logs(self) -> str:
        """What all supervisors have said, for the report of a failed test."""
        return "\n\n".join(
            f"pid {s.pid}, exit code {s.process.poll()}:\n{s.log()}" for s in self._supervisors
        )

    def close(self) -> None:
        """End what was started here; nothing of it is left, unless a supervisor was killed by the test."""
        try:
            self._started.close()
        finally:
            left = self._left()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        killed = any(each.process.returncode == -signal.SIGKILL for each in self._supervisors)
        assert killed or not left, f"processes that outlived their supervisor: {left}"

    def _left(self) -> dict[int, str]:
        """The processes of this folder that do not end by themselves, with their command lines."""
        if self._supervisors:
            with suppress(AssertionError):
                wait_until(lambda: not processes_of(self.folder), lambda: "", ENDED_BY)
        return processes_of(self.folder)


def processes_of(home: Path) -> dict[int, str]:
    """The living processes whose environment has this home, as `clean_environment` sets it."""
    mark = f"HOME={home}".encode()
    living = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return {
        pid: _text(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace")
        for pid in living
        if mark in _text(pid, "environ").split(b"\0")
    }


def _text(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # gone meanwhile
        return b""
