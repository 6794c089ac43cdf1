"""What a memory storage holds, and the single changes of it. Whoever calls holds the lock."""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...catalogue import Catalogue
from ...durations import Micros
from ...model import FINAL, Attempt, Edge, NewRun, Run, State
from .. import Pause, Revocation, Supervisor

Place = tuple[int, Micros, int]  # in a lane: inverted priority, due time, order of enqueue


@dataclass(slots=True)
class Row:
    """A run, and what its clients do not see."""

    run: Run
    lock: str | None = None
    cancel_reason: str | None = None
    edges: tuple[Edge, ...] = ()
    undone: set[str] = field(default_factory=set)  # predecessors that are not final
    extra_locks: set[str] = field(default_factory=set)  # taken by the attempt that runs


@dataclass(slots=True)
class Watermark:
    """How far a schedule is accounted for."""

    at: Micros
    next_at: Micros | None


@dataclass(slots=True)
class House:
    """One storage; every handle that was opened on it shares this object.

    The heaps are never searched: an entry whose run has moved on is dropped when it comes to the top.
    """

    rows: dict[int, Row] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    lanes: dict[str, list[Place]] = field(default_factory=dict)
    due: list[tuple[Micros, int]] = field(default_factory=list)
    expiry: list[tuple[Micros, int]] = field(default_factory=list)
    running: set[int] = field(default_factory=set)
    live: defaultdict[str, dict[int, None]] = field(default_factory=lambda: defaultdict(dict))
    attempts: defaultdict[int, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    followers: dict[str, dict[int, None]] = field(default_factory=dict)  # id -> who waits for it
    pipelines: dict[str, dict[int, None]] = field(default_factory=dict)  # id of a root -> what belongs to it
    timeouts: list[tuple[Micros, int]] = field(default_factory=list)
    keys: dict[str, int] = field(default_factory=dict)  # unique key -> who holds it
    ended: list[str] = field(default_factory=list)  # final, and nobody has looked who waits for them
    born: list[int] = field(default_factory=list)  # waiting, and nobody has looked what for
    touched: set[int] = field(default_factory=set)  # rows changed since somebody asked; see `file.records`
    revocations: dict[str, Revocation] = field(default_factory=dict)
    starts: dict[str, tuple[Micros, int]] = field(default_factory=dict)  # task -> window, starts in it
    watermarks: dict[str, Watermark] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    supervisors: dict[str, Supervisor] = field(default_factory=dict)
    catalogue: Catalogue | None = None
    control_version: int = 1
    last_seq: int = 0
    writes: int = 0
    owner: object | None = None  # the handle that entered
    bell: int | None = None  # eventfd of the owner
    changed: threading.Condition = field(default_factory=threading.Condition)

    def insert(self, new: NewRun) -> None:
        """Add a run whose id is not there."""
        self.last_seq += 1
        seq = self.last_seq
        self.rows[seq] = Row(_born(seq, new))
        self.touched.add(seq)
        self.ids[new.id] = seq
        if new.pipeline is not None:
            self.pipelines.setdefault(new.pipeline, {})[seq] = None
        if new.unique is not None and new.state not in FINAL:
            self.keys[new.unique] = seq
        self._place(seq)
        if new.state is State.WAITING or new.after:
            self.join(seq, new.after)

    def join(self, seq: int, edges: tuple[Edge, ...]) -> None:
        """Let a waiting run wait for these."""
        row = self.rows[seq]
        self.touched.add(seq)
        self._part_from_all(row)
        row.edges = edges
        row.undone = {edge.run_id for edge in edges}
        for edge in edges:
            self.followers.setdefault(edge.run_id, {})[seq] = None
        self.born.append(seq)

    def part(self, row: Row, run_id: str) -> None:
        """It waits for that one no more."""
        row.undone.discard(run_id)
        others = self.followers[run_id]
        others.pop(row.run.seq, None)
        if not others:
            del self.followers[run_id]

    def _part_from_all(self, row: Row) -> None:
        for run_id in list(row.undone):
            self.part(row, run_id)

    def update(self, seq: int, **changes: Any) -> Run:
        """Change a run, and where it waits."""
        row = self.rows[seq]
        self.touched.add(seq)
        row.run = row.run._replace(**changes)
        if row.run.state is not State.RUNNING:
            row.lock = None
            row.extra_locks.clear()
        self._place(seq)
        return row.run

    def remove(self, seq: int) -> str:
        """Forget a run; its id."""
        row = self.rows.pop(seq)
        self.touched.add(seq)
        run = row.run
        del self.ids[run.id]
        self.attempts.pop(seq, None)
        self.live[run.task].pop(seq, None)
        self._free_key(run)
        self._part_from_all(row)
        if run.pipeline in self.pipelines:
            self.pipelines[run.pipeline].pop(seq, None)
        self.pipelines.pop(run.id, None)
        return run.id

    # --- rows that were written elsewhere: see `file.records` -----------------------------------------

    def put(self, seq: int, row: Row, edges: tuple[Edge, ...], attempts: list[Attempt]) -> None:
        """Put a row in its place, new or as it is now."""
        before = self.rows.get(seq)
        if before is not None:
            self._part_from_all(before)
            self._free_key(before.run)
        run, row.edges = row.run, edges
        self.rows[seq] = row
        self.ids[run.id] = seq
        if run.pipeline is not None:
            self.pipelines.setdefault(run.pipeline, {})[seq] = None
        if run.unique is not None and run.state not in FINAL:
            self.keys[run.unique] = seq
        self.attempts.pop(seq, None)
        if attempts:
            self.attempts[seq] = attempts
        self._place(seq)

    def look_after(self, seq: int) -> None:
        """Note what such a row waits for, and who does not wait for it any more."""
        row = self.rows[seq]
        if row.run.state in FINAL:
            self.let_go(row.run.id)
        elif row.run.state is State.WAITING:
            row.undone = {edge.run_id for edge in row.edges if self._is_open(edge.run_id)}
            for run_id in row.undone:
                self.followers.setdefault(run_id, {})[seq] = None

    def let_go(self, run_id: str) -> None:
        """Nobody waits for this one any more."""
        for follower in self.followers.pop(run_id, {}):
            self.rows[follower].undone.discard(run_id)

    def _is_open(self, run_id: str) -> bool:
        seq = self.ids.get(run_id)
        return seq is not None and self.rows[seq].run.state not in FINAL

    def _free_key(self, run: Run) -> None:
        if run.unique is not None and self.keys.get(run.unique) == run.seq:
            del self.keys[run.unique]

    def _place(self, seq: int) -> None:
        """Put the run where its state says that it waits; old places are left to be skipped."""
        run = self.rows[seq].run
        if run.state is State.RUNNING:
            self.running.add(seq)
        else:
            self.running.discard(seq)
        if run.state in FINAL:
            self._close(run)
        else:
            self.live[run.task][seq] = None
            self._await(run)

    def _close(self, run: Run) -> None:
        self.live[run.task].pop(run.seq, None)
        self.ended.append(run.id)
        self._free_key(run)

    def _await(self, run: Run) -> None:
        """Note when time will move it on."""
        if run.state is State.QUEUED:
            heapq.heappush(self.lanes.setdefault(run.lane, []), _place_of(run))
            if run.expires_at is not None and run.claim_no == 0:
                heapq.heappush(self.expiry, (run.expires_at, run.seq))
        if run.state in (State.SCHEDULED, State.RETRYING):
            heapq.heappush(self.due, (run.due_at, run.seq))
        if run.state is State.WAITING and run.join is not None and run.expires_at is not None:
            heapq.heappush(self.timeouts, (run.expires_at, run.seq))

    # --- what waits ---------------------------------------------------------------------------------

    def next_due(self) -> tuple[Micros, int] | None:
        """The scheduled or retrying run that is due first."""
        while self.due:
            at, seq = self.due[0]
            run = self._run(seq)
            if run and run.state in (State.SCHEDULED, State.RETRYING) and run.due_at == at:
                return at, seq
            heapq.heappop(self.due)
        return None

    def next_expiry(self) -> tuple[Micros, int] | None:
        """The queued run that expires first."""
        while self.expiry:
            at, seq = self.expiry[0]
            run = self._run(seq)
            if run and run.state is State.QUEUED and run.claim_no == 0:
                return at, seq
            heapq.heappop(self.expiry)
        return None

    def next_timeout(self) -> tuple[Micros, int] | None:
        """The pipeline whose time is up first."""
        while self.timeouts:
            at, seq = self.timeouts[0]
            row = self.rows.get(seq)
            if row and row.run.state is State.WAITING and row.cancel_reason is None:
                return at, seq
            heapq.heappop(self.timeouts)
        return None

    def waiting_lanes(self) -> list[str]:
        """The lanes in which runs wait."""
        for lane in list(self.lanes):
            if next(self.heads(lane), None) is None:
                del self.lanes[lane]
        return sorted(self.lanes)

    def heads(self, lane: str) -> Iterator[Run]:
        """The runs of a lane, best first, as far as somebody asks. None of them leaves its place."""
        heap = self.lanes[lane]
        seen: list[Place] = []
        try:
            while heap:
                place = heapq.heappop(heap)
                run = self._run(place[2])
                waits = run is not None and run.state is State.QUEUED and run.lane == lane
                if run is None or not waits or place != _place_of(run) or place in seen[-1:]:
                    continue
                seen.append(place)
                yield run
        finally:
            for place in seen:
                heapq.heappush(heap, place)

    def _run(self, seq: int) -> Run | None:
        row = self.rows.get(seq)
        return None if row is None else row.run


def _place_of(run: Run) -> Place:
    return -run.priority, run.due_at, run.seq


def _born(seq: int, new: NewRun) -> Run:
    return Run(
        seq=seq,
        id=new.id,
        task=new.task,
        state=new.state,
        reason=new.reason,
        trigger=new.trigger,
        schedule=new.schedule,
        tick=new.tick,
        missed=new.missed,
        due_at=new.due_at,
        created_at=new.created_at,
        started_at=None,
        finished_at=new.created_at if new.state in FINAL else None,
        expires_at=new.expires_at,
        claim_no=0,
        attempt=0,
        failures=0,
        crashes=0,
        priority=new.priority,
        pool=new.pool,
        lane=new.lane,
        owner=None,
        host=None,
        pid=None,
        outcome="ok" if new.state is State.SUCCEEDED else None,
        exit_code=None,
        signal=None,
        error=None,
        result=new.result,
        payload=new.payload,
        policy=new.policy,
        options=new.options,
        cause=new.cause,
        detail=new.detail,
        output=None,
        unique=new.unique,
        join=new.join,
        pipeline=new.pipeline,
        pipeline_name=new.pipeline_name,
        step=new.step,
        compose=new.compose,
    )
