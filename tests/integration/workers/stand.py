"""A test stand for one pool: a real loop, real workers, and a sink that remembers."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from jobrunner.clock import SystemClock
from jobrunner.codec import encode_arguments
from jobrunner.durations import SECOND, Micros
from jobrunner.execution import Backing, Call, Reply
from jobrunner.execution.pool import ProcessPool
from jobrunner.execution.shared import SharedPool
from jobrunner.loop import EventLoop
from jobrunner.model import Ended, Ending
from jobrunner.output import Stream, read_output
from jobrunner.plan import Pool, PoolKind, Task

ZOO = str(Path(__file__).parent)
PATIENCE: Micros = 60 * SECOND  # machines are slow and busy; nothing here is a measurement


class Stand:
    """Use as a context manager: workers are killed and descriptors released at its end."""

    def __init__(
        self,
        folder: Path,
        *,
        slots: int = 2,
        pythonpath: tuple[str, ...] = (ZOO,),
        python: str | None = None,
        env: Mapping[str, str] | None = None,
        kind: PoolKind = PoolKind.PROCESS,
        **options: Any,
    ) -> None:
        self.folder = folder
        self.loop = EventLoop(SystemClock())
        pool = Pool(name="default", kind=kind, slots=slots, python=python, env=env or {}, **options)
        self.root = str(folder / "output")
        self.told: list[str | None] = []  # why workers do not start
        made = ProcessPool if kind is PoolKind.PROCESS else SharedPool
        self.pool = made(
            pool,
            self.loop,
            self,
            output_root=self.root,
            backing=Backing("memory://", self.take_question),
            pythonpath=pythonpath,
            tell=self.told.append,
        )
        self.begun: list[Call] = []
        self.over: dict[int, Ended] = {}
        self.kept: list[tuple[Call | None, Reply]] = []
        self._seq = itertools.count(1)
        self._tasks: dict[str, Task] = {}

    def __enter__(self) -> Stand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.close()
        self.loop.close()

    # ---- the sink --------------------------------------------------------------------------------

    def started(self, call: Call, at: Micros, pid: int | None) -> None:
        assert call.seq not in self.over
        self.begun.append(call)

    def ended(self, call: Call, ended: Ended) -> None:
        assert call.seq not in self.over, "an attempt was reported twice"
        self.over[call.seq] = ended

    def take_question(self, call: Call | None, text: str, reply: Reply) -> None:
        """Like an echo, so that what comes back is known; what begins with "later" is kept."""
        if text.startswith("later"):
            self.kept.append((call, reply))
        else:
            reply.send(f"{text} of {call.run_id if call else 'nobody'}")

    # ---- calls -----------------------------------------------------------------------------------

    def task(self, name: str, **changes: object) -> Task:
        """The task of a callable of the zoo; the same one each time, unless changed."""
        if changes:
            return replace(Task(name=name, call=f"zoo:{name}"), **changes)  # type: ignore[arg-type]
        return self._tasks.setdefault(name, Task(name=name, call=f"zoo:{name}", kill_after=10 * SECOND))

    def call(
        self,
        name: str | Task,
        *args: object,
        timeout: Micros | None = None,
        payload: str | None = None,
        cause: str | None = None,
        env: Mapping[str, str] | None = None,
        **kwargs: object,
    ) -> Call:
        task = self.task(name) if isinstance(name, str) else name
        seq = next(self._seq)
        return Call(
            seq=seq,
            claim_no=1,
            run_id=f"run-{seq}",
            attempt=1,
            task=task,
            payload=encode_arguments(args, kwargs) if payload is None else payload,
            trigger="enqueue",
            tick=None,
            missed=0,
            due_at=1_700_000_000_000_000,
            timeout=timeout,
            owner="owner-1",
            cause=cause,
            env=tuple((env or {}).items()),
        )

    # ---- driving ---------------------------------------------------------------------------------

    def until(self, done: Callable[[], bool], what: str = "") -> None:
        """Turn the loop until it is so."""
        end = self.loop.monotonic() + PATIENCE
        while not done():
            assert self.loop.monotonic() < end, f"waited too long {what}: {str(self.over)[-2000:]}"
            self.loop.turn(SECOND // 50)

    def run(self, *calls: Call) -> list[Ended]:
        """Execute these as room allows, recalled ones again, and give their ends."""
        todo = deque(calls)
        self.until(lambda: self._feed(todo, calls), f"for {[call.task.name for call in calls]}")
        return [self.over[call.seq] for call in calls]

    def _feed(self, todo: deque[Call], calls: Iterable[Call]) -> bool:
        for call in calls:
            if call.seq in self.over and self.over[call.seq].ending is Ending.RECALLED:
                del self.over[call.seq]
                todo.append(call)
        room = min(self.pool.room(), len(todo))
        if room:
            self.pool.start([todo.popleft() for _ in range(room)])
        return not todo and all(call.seq in self.over for call in calls)

    def one(self, name: str | Task, *args: object, **options: object) -> Ended:
        """Execute one call."""
        return self.run(self.call(name, *args, **options))[0]  # type: ignore[arg-type]

    def wait_for(self, *calls: Call) -> list[Ended]:
        """Wait for calls that were started."""
        self.until(lambda: all(call.seq in self.over for call in calls), "for an end")
        return [self.over[call.seq] for call in calls]

    def waits(self, name: str) -> str:
        """Why a call waits for a worker: it comes back as it went."""
        call = self.call(name)
        self.pool.start([call])
        assert self.wait_for(call)[0].ending is Ending.RECALLED
        return self.told[-1] or ""

    def wait_for_start(self, call: Call) -> None:
        """Wait until the start of a call was reported."""
        self.until(lambda: call in self.begun, "for a start")

    def output(self, call: Call) -> tuple[bytes, bytes]:
        """What a call has written: stdout, stderr."""
        records = list(read_output(self.root, call.run_id, call.attempt))
        joined = [
            b"".join(r.data for r in records if r.stream is each) for each in (Stream.STDOUT, Stream.STDERR)
        ]
        return joined[0], joined[1]
