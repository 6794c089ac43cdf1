"""The command line in this process: a clock that stands still, a real storage, and the answers."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobrunner.catalogue import catalogue_of
from jobrunner.cli import main
from jobrunner.cli.session import Session
from jobrunner.codec import encode
from jobrunner.durations import SECOND, Micros
from jobrunner.ids import new_id
from jobrunner.model import Claim, NewRun, Run, Settle, Started, State, Trigger
from jobrunner.plan import Plan, Task
from jobrunner.storage import (
    ExchangeRequest,
    OwnerInfo,
    OwnerStatus,
    Rules,
    Storage,
    TaskRule,
    open_storage,
)
from tests.builders import NOON, a_run

_ID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_SIZE = re.compile(r"\b[0-9.]+ [kM]B\b")
_IN_WORDS = re.compile(r"\b(run|as) [0-9a-f]{8}\b")


@dataclass(slots=True)
class StandingClock:
    """It is noon, until a test says otherwise."""

    at: Micros = NOON

    def now(self) -> Micros:
        return self.at

    def monotonic(self) -> Micros:
        return self.at - NOON

    def boottime(self) -> Micros:
        return self.at - NOON


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]

    def shown(self, folder: Path) -> str:
        """Exit code, stdout and stderr as one text, with ids and the folder replaced: for a comparison."""
        text = f"{self.out}{'--- stderr' + chr(10) + self.err if self.err else ''}exit {self.code}\n"
        text = _IN_WORDS.sub(r"\1 RUN-ID", _ID.sub("RUN-ID".ljust(36, "·"), text))
        return _SIZE.sub("SIZE", text.replace(str(folder), "FOLDER"))


@dataclass(slots=True)
class Desk:
    """A folder, its storage, and the commands given there."""

    folder: Path
    clock: StandingClock = field(default_factory=StandingClock)
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'jobs.db'}"

    def __call__(self, *arguments: str, stdin: str = "", tty: bool = False) -> Answer:
        """Run one command line."""
        out, err = (Terminal(), Terminal()) if tty else (io.StringIO(), io.StringIO())
        environ = {"JOBRUNNER_BACKEND": self.url, "HOME": str(self.folder), "LOGNAME": "ana", **self.environ}
        session = Session(clock=self.clock, environ=environ)
        with redirect_stdout(out), redirect_stderr(err), _stdin(stdin):
            code = main(arguments, session=session)
        return Answer(code, out.getvalue(), err.getvalue())

    def storage(self) -> Storage:
        return open_storage(self.url)


@contextmanager
def _stdin(text: str) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        yield
    finally:
        sys.stdin = before


@dataclass(slots=True)
class Stage:
    """A supervisor by hand: it owns the storage, claims, and settles as a test tells it."""

    storage: Storage
    plan: Plan
    owner: OwnerInfo
    status: OwnerStatus
    now: Micros = NOON

    @classmethod
    def opened(cls, desk: Desk, *tasks: Task, timezone: str = "Europe/Paris") -> Stage:
        """Enter, and publish these tasks."""
        file = str(desk.folder / "jobs.yaml")
        plan = Plan(
            file=file,
            hash="0" * 64,
            backend=desk.url,
            timezone=timezone,
            tasks={each.name: each for each in tasks},
        )
        owner = OwnerInfo(
            id=new_id(NOON),
            host="web1",
            pid=4711,
            process_start=1,
            boot_id="boot",
            started_at=NOON - 3 * 86400 * SECOND,
            config=file,
            config_hash=plan.hash,
        )
        status = OwnerStatus(plan.hash, NOON - 120 * SECOND, None, False, 4, {"commands": 1})
        stage = cls(desk.storage(), plan, owner, status)
        assert stage.storage.enter(owner, status)
        keys = {rule.key: NOON + 420 * SECOND for task in tasks for rule in task.schedules}
        catalogue = catalogue_of(plan)
        stage.storage.publish(owner.id, catalogue, keep=list(catalogue.schedules), now=NOON)
        stage.storage.watermarks(keys, NOON)
        stage.storage.heartbeat(owner.id, status, NOON)
        return stage

    def rules(self) -> Rules:
        return Rules(
            tasks={
                name: TaskRule(entry.lane, entry.pool)
                for name, entry in catalogue_of(self.plan).tasks.items()
            }
        )

    def exchange(
        self, *, settled: Sequence[Settle] = (), started: Sequence[Started] = (), claiming: bool = True
    ) -> list[Claim]:
        """One turn; a second one when the first only learnt that the control version has moved."""
        want = dict.fromkeys(self.plan.pools, 100) if claiming else {}
        owner, rules = self.owner.id, self.rules()
        answer = self.storage.exchange(
            ExchangeRequest(owner, self.now, settled, started, want, rules, self._version)
        )
        if answer.control_version != self._version:
            self._version = answer.control_version
            request = ExchangeRequest(owner, self.now, (), (), want, rules, self._version)
            answer = self.storage.exchange(request)
        return answer.claimed

    _version: int = 0

    def begun(self, *runs: NewRun) -> list[Claim]:
        """Add these runs, claim them, and report their start."""
        self.storage.add(runs)
        claims = self.exchange()
        started = [Started(c.seq, c.claim_no, self.owner.id, self.now, 4712) for c in claims]
        self.exchange(started=started, claiming=False)
        return claims

    def ended(
        self, claim: Claim, state: State = State.SUCCEEDED, outcome: str = "ok", **changes: Any
    ) -> None:
        """Settle a claim that took two seconds."""
        given: dict[str, Any] = {
            "seq": claim.seq,
            "claim_no": claim.claim_no,
            "owner": self.owner.id,
            "id": claim.id,
            "state": state,
            "outcome": outcome,
            "attempt": claim.attempt,
            "failures": 0 if state is State.SUCCEEDED else 1,
            "crashes": 0,
            "due_at": claim.due_at,
            "started_at": self.now,
            "ended_at": self.now + 2 * SECOND,
            "pid": 4712,
        }
        self.exchange(settled=[Settle(**{**given, **changes})], claiming=False)

    def has_run(self, task: str, state: State = State.SUCCEEDED, outcome: str = "ok", **changes: Any) -> str:
        """A whole run of a task, from its enqueue to its end; its id."""
        entry = catalogue_of(self.plan).tasks[task]
        run = a_run(task, id=new_id(self.now), lane=entry.lane, pool=entry.pool)
        (claim,) = self.begun(run)
        self.ended(claim, state, outcome, **changes)
        return run.id

    def close(self) -> None:
        self.storage.close()


def a_final_run(**changes: Any) -> Run:
    """A failed run, as clients see it."""
    given: dict[str, Any] = {
        "seq": 1,
        "id": new_id(NOON),
        "task": "backup",
        "state": State.FAILED,
        "reason": None,
        "trigger": Trigger.ENQUEUE,
        "schedule": None,
        "tick": None,
        "missed": 0,
        "due_at": NOON,
        "created_at": NOON,
        "started_at": NOON,
        "finished_at": NOON + SECOND,
        "expires_at": None,
        "claim_no": 1,
        "attempt": 1,
        "failures": 1,
        "crashes": 0,
        "priority": 0,
        "pool": "commands",
        "lane": "pool:commands",
        "owner": None,
        "host": "web1",
        "pid": 4712,
        "outcome": "exit 3",
        "exit_code": 3,
        "signal": None,
        "error": "exit 3",
        "result": None,
        "payload": '{"args":[],"kwargs":{}}',
        "policy": None,
        "options": None,
        "cause": None,
        "detail": None,
        "output": None,
    }
    return Run(**{**given, **changes})


def a_result(value: object) -> str:
    return encode(value)
