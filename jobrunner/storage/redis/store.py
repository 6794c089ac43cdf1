"""The Redis storage: the contract's methods, each one call of the script beside this module.

A supervisor is believed alive until its lease ends, by the clock of the server. Nothing here needs memory to
let a run finish: at `maxmemory` the server refuses adds and ticks, and takes completions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from ...catalogue import Catalogue, Entry
from ...clock import SystemClock
from ...durations import SECOND, Micros
from ...errors import OwnerLost
from ...machine import is_alive, pid_space
from ...model import Attempt, Claim, Edge, NewRun, Run, Settle
from .. import (
    AWAY,
    Exchange,
    ExchangeRequest,
    Overview,
    OwnerInfo,
    OwnerStatus,
    Pause,
    Revocation,
    Rules,
    RunFilter,
    Supervisor,
    Tick,
    Verdict,
)
from ..attempts import all_attempts
from ..overlap import naming
from ..published import Published
from . import address, catalogues, reads
from . import rows as plain
from .ears import Ears
from .faults import translated
from .server import FORMAT, Server

if TYPE_CHECKING:
    from ...plan import Retention

LEASE: Micros = 30 * SECOND
LOOK_AGAIN = 5.0  # seconds: the net under what a waiting client hears
_HOLDER = "\0"  # stands for the holder's id in a skipped row, until the server knows it


class RedisStorage:
    """A handle on one namespace of a Redis server. May be used from several threads."""

    lease: Micros | None = LEASE

    def __init__(self, url: str, server: Server, *, server_time: bool = True) -> None:
        self.url = url
        self._server = server
        self._server_time = server_time
        self._moment: Micros = 0  # the last one that was given; only where the server's is not used
        self._ears: Ears | None = None
        self._seen_writes = 0
        self._rules: tuple[Rules | None, str] = (None, "")
        self._is_closed = False

    @classmethod
    def open(cls, url: str, *, server_time: bool = True) -> RedisStorage:
        """Open the namespace that a URL names.

        `server_time=False`: the moments that calls are given count, not the server's clock (tests use it).
        Raises UsageError, StorageRefused for a server that is not fit, StorageUnavailable when none answers.
        """
        where = address.read(url)
        server = Server(where)
        try:
            server.check()
            storage = cls(where.url, server, server_time=server_time)
            storage._seen_writes = storage._foreign_writes()
        except BaseException:
            server.close()
            raise
        return storage

    def _ask(
        self, operation: str, now: Micros | None = None, beside: bytes = b"", /, **request: object
    ) -> Any:
        return self._server.call(operation, self._at(now) | request, beside=beside)

    def _at(self, now: Micros | None) -> dict[str, object]:
        """The moment of a call, where the server's own does not count."""
        if self._server_time:
            return {}
        self._moment = self._moment if now is None else now
        return {"now": str(self._moment)}

    # --- writes of clients --------------------------------------------------------------------------

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        if not runs:
            return []
        now = max(run.created_at for run in runs)
        operation = "add_plain" if all(map(plain.is_plain, runs)) else "add"
        answers = self._ask(operation, now, runs=[plain.new_row(run) for run in runs])
        return [answer == 1 for answer in answers]

    def add_if(self, runs: Sequence[NewRun], marks: Mapping[str, str]) -> list[bool] | None:
        if not runs:
            return []
        now = max(run.created_at for run in runs)
        flat = [text for pair in marks.items() for text in pair]
        operation = "add_plain_if" if all(map(plain.is_plain, runs)) else "add_if"
        answers = self._ask(operation, now, runs=[plain.new_row(run) for run in runs], marks=flat)
        return None if answers is None else [answer == 1 for answer in answers]

    def cancel(self, run_ids: Sequence[str], now: Micros, *, reason: str = "cancelled") -> list[bool]:
        return [answer == 1 for answer in self._ask("cancel", now, ids=list(run_ids), reason=reason)]

    def pause(self, pause: Pause) -> None:
        self._ask("mark", key="pauses", target=pause.target, text=json.dumps(pause._asdict()))

    def resume(self, target: str) -> bool:
        return bool(self._ask("unmark", key="pauses", target=target))

    def pauses(self, now: Micros) -> list[Pause]:
        found = sorted(Pause(**json.loads(text)) for text in self._ask("marks", key="pauses"))
        return [pause for pause in found if pause.until is None or pause.until > now]

    def revoke(self, revocation: Revocation) -> None:
        text = json.dumps(revocation._asdict())
        self._ask("mark", key="revocations", target=revocation.target, text=text)

    def restore(self, target: str) -> bool:
        return bool(self._ask("unmark", key="revocations", target=target))

    def revocations(self, now: Micros) -> list[Revocation]:
        found = sorted(Revocation(**json.loads(text)) for text in self._ask("marks", key="revocations"))
        return [mark for mark in found if mark.until is None or mark.until > now]

    # --- schedules ----------------------------------------------------------------------------------

    def watermarks(self, keys: Mapping[str, Micros | None], now: Micros) -> dict[str, Micros]:
        flat = [text for key, at in keys.items() for text in (key, "" if at is None else str(at))]
        # The caller's moment counts, not the server's: a `reboot` schedule begins at 0.
        found = self._ask("watermarks", now, keys=flat, given=str(now))
        return {key: int(at) for key, at in zip(keys, found, strict=True)}

    def tick(self, ticks: Sequence[Tick]) -> list[Verdict]:
        if not ticks:
            return []
        now = max((tick.run.created_at for tick in ticks if tick.run is not None), default=None)
        verdicts = self._ask("tick", now, ticks=[_tick_row(tick) for tick in ticks])
        return [Verdict(int(at), accounted == 1, holder) for at, accounted, holder in verdicts]

    def next_ticks(self) -> dict[str, Micros | None]:
        flat = self._ask("next_ticks")
        return {key: int(at) if at else None for key, at in zip(flat[::2], flat[1::2], strict=True)}

    # --- the supervisor -----------------------------------------------------------------------------

    def enter(self, owner: OwnerInfo, status: OwnerStatus) -> bool:
        self._server.check()
        entered = self._ask(
            "enter",
            owner.started_at,
            owner=owner.id,
            host=owner.host,
            started_at=str(owner.started_at),
            info=json.dumps(owner._asdict()),
            status=json.dumps(status._asdict()),
            lease=LEASE,
            format=FORMAT,
            alone=status.alone,
        )
        if not entered:
            raise _lost(owner.id)
        if entered == 2:  # somebody lives, and one of the two is to be alone
            return False
        self._ears = self._ears or Ears(self._server)
        with translated(self._server.shown):
            self._ears.listen()
        return True

    def heartbeat(self, owner: str, status: OwnerStatus, now: Micros) -> None:
        text = json.dumps(status._asdict())
        if not self._ask("heartbeat", now, owner=owner, status=text, lease=LEASE):
            raise _lost(owner)

    def leave(self, owner: str, now: Micros) -> None:
        self._ask("leave", now, owner=owner, left=str(now))

    def publish(self, owner: str, catalogue: Catalogue, *, keep: Sequence[str], now: Micros) -> None:
        entries = catalogues.entries_of(catalogue)
        digest = catalogues.digest_of(entries)
        asked = {"owner": owner, "entries": entries, "digest": digest, "keep": list(keep), "away": AWAY}
        if not self._ask("publish", now, **asked):
            raise _lost(owner)

    def exchange(self, request: ExchangeRequest) -> Exchange:
        settled, lines = plain.settle_rows(request.settled, request.owner)
        asked: dict[str, object] = {
            "owner": request.owner,
            "settled": settled,
            "started": [plain.started_row(mark) for mark in request.started],
            "want": dict(request.want),
            "rules": self._digest_of(request.rules),
            "control": str(request.control_version),
        }
        answer = self._ask("exchange", request.now, lines, **asked)
        if answer[0] == "rules":
            rule_list = plain.rule_list(request.rules)
            answer = self._ask("exchange", request.now, lines, **asked, rule_list=rule_list)
        if answer[0] == "lost":
            raise _lost(request.owner)
        _, claims, refused, cancels, version, next_due, more, now, limited = answer
        return Exchange(
            claimed=plain.claims_of(claims),
            refused=[request.settled[place - 1] for place in refused],
            cancels=[
                (int(seq), int(claim_no)) for seq, claim_no in zip(cancels[::2], cancels[1::2], strict=True)
            ],
            control_version=int(version),
            next_due=None if next_due is None else int(next_due),
            more=more == 1,
            now=int(now),
            limited=tuple(sorted(limited)),
        )

    def _digest_of(self, rules: Rules) -> str:
        known, digest = self._rules
        if known is not rules:
            digest = hashlib.sha256(json.dumps(plain.rule_list(rules)).encode()).hexdigest()
            self._rules = rules, digest
        return digest

    def orphans(self, owner: str) -> list[tuple[Run, OwnerInfo]]:
        text = self._ask("orphans", owner=owner, dead=self._dead_here(owner))
        found = [(plain.run_of(row), OwnerInfo(**json.loads(info))) for row, info in json.loads(text)]
        return sorted(found, key=lambda each: each[0].seq)

    def _dead_here(self, owner: str) -> list[str]:
        """Owners whose process ran beside this one, and has ended: nobody has to wait for their leases."""
        others = (each.owner for each in self.supervisors(0) if each.left_at is None)
        return [
            each.id
            for each in others
            if each.id != owner and each.boot_id == pid_space() and not is_alive(each.pid, each.process_start)
        ]

    def settle(self, settles: Sequence[Settle]) -> list[bool]:
        if not settles:
            return []
        now = max(settle.ended_at for settle in settles)
        refused = self._ask("settle", now, settled=[plain.settle_row(settle) for settle in settles])
        return [place not in set(refused) for place in range(1, len(settles) + 1)]

    def claimed_by(self, owner: str) -> list[Claim]:
        return plain.claims_of(self._ask("claimed_by", owner=owner))

    def acquire(self, owner: str, seq: int, claim_no: int, lock: str, slots: int) -> bool:
        fence = {"owner": owner, "seq": str(seq), "claim_no": str(claim_no)}
        return bool(self._ask("acquire", **fence, lock=lock, slots=slots))

    def release(self, owner: str, seq: int, claim_no: int, lock: str) -> bool:
        fence = {"owner": owner, "seq": str(seq), "claim_no": str(claim_no)}
        return bool(self._ask("release", **fence, lock=lock))

    def prune(self, retention: Retention, now: Micros, *, limit: int = 1000) -> list[str]:
        bounds = {
            "history": retention.history,
            "results": retention.results,
            "max_runs": retention.max_runs,
            "limit": limit,
        }
        return list(self._ask("prune", now, **bounds))

    # --- reads of clients ---------------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        return reads.find(self._server, run_id)

    def runs(self, which: RunFilter) -> list[Run]:
        return reads.runs(self._server, which)

    def attempts(self, run_id: str) -> list[Attempt]:
        run = reads.find(self._server, run_id)
        return all_attempts(run, plain.attempts_of(run, self._ask("attempts", seq=str(run.seq))))

    def edges(self, run_ids: Sequence[str]) -> dict[str, tuple[Edge, ...]]:
        if not run_ids:
            return {}
        texts = self._ask("edges", ids=list(run_ids))
        found = {run_id: plain.edges_of(text) for run_id, text in zip(run_ids, texts, strict=True) if text}
        return {run_id: edges for run_id, edges in found.items() if edges}

    def wait(self, run_id: str, timeout: float | None) -> Run:
        run = self.run(run_id)
        if run.state.is_final or timeout == 0:
            return run
        clock = SystemClock()
        end = None if timeout is None else clock.monotonic() + round(timeout * SECOND)
        with translated(self._server.shown), self._server.client.pubsub() as heard:
            heard.subscribe(f"{self._server.prefix}end:{run.id}")
            heard.get_message(timeout=LOOK_AGAIN)  # that it is heard from now on
            while not (run := self.run(run.id)).state.is_final:
                rest = LOOK_AGAIN if end is None else (end - clock.monotonic()) / SECOND
                if rest <= 0:
                    break
                heard.get_message(timeout=min(rest, LOOK_AGAIN))
        return run

    def overview(self, now: Micros, *, tasks: Sequence[str] | None = None, recent: int = 20) -> Overview:
        known = self.catalogue() if tasks is None else None
        names = list(known.tasks if known else ()) if tasks is None else list(tasks)
        at = {} if self._server_time else {"now": str(now)}
        return reads.overview(self._server, at, names, recent)

    def catalogue(self) -> Catalogue | None:
        return catalogues.merged(json.loads(self._ask("catalogue")))

    def entry(self, task: str) -> Entry | None:
        return self.published(task).entry

    def published(self, task: str) -> Published:
        return catalogues.published(self._ask("published", task=task))

    def supervisors(self, now: Micros) -> list[Supervisor]:
        at = {} if self._server_time or not now else {"now": str(now)}
        found = json.loads(self._ask("supervisors", **at))
        return sorted(map(_supervisor, found), key=lambda each: not each.alive)

    # --- wake-ups -----------------------------------------------------------------------------------

    def wake_fd(self) -> int | None:
        return None if self._ears is None else self._ears.fd

    def woken(self) -> None:
        if self._ears is not None:
            self._ears.empty()

    def changed(self) -> bool:
        missed = False
        if self._ears is not None:
            with translated(self._server.shown):
                missed = self._ears.listen()
        foreign = self._foreign_writes()
        changed, self._seen_writes = foreign != self._seen_writes, foreign
        return changed or missed

    def _foreign_writes(self) -> int:
        return int(self._ask("writes") or 0) - self._server.own_writes

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._ears is not None:
            self._ears.close()
        try:
            self._server.close()
        except (RedisError, OSError):
            return  # a connection that is lost already


def _lost(owner: str) -> OwnerLost:
    return OwnerLost(
        f"supervisor {owner} is no longer an owner of this storage",
        help="it must end what it runs, and go on under a new id; others recover it",
    )


def _supervisor(values: Sequence[Any]) -> Supervisor:
    info, status, beat, left, alive = values
    return Supervisor(
        owner=OwnerInfo(**json.loads(info)),
        status=OwnerStatus(**json.loads(status)),
        heartbeat_at=int(beat),
        left_at=int(left) if left else None,
        alive=bool(alive),
    )


def _tick_row(tick: Tick) -> dict[str, object]:
    row: dict[str, object] = {
        "schedule": tick.schedule,
        "expected": str(tick.expected),
        "tick": str(tick.tick),
        "next_at": "" if tick.next_at is None else str(tick.next_at),
        "overlap": tick.overlap,
        "members": [plain.new_row(run) for run in tick.members],
    }
    if tick.run is not None:
        row["run"] = plain.new_row(tick.run)
    if tick.refused is not None:
        row["refused"] = plain.new_row(naming(tick.refused, _HOLDER))
    return row
