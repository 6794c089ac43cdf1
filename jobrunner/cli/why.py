"""`jobrunner why`: why a task ran, did not run, or has not run yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo

import click

from jobrunner.birth import tick_id
from jobrunner.catalogue import scheduled
from jobrunner.client import unknown_task
from jobrunner.codec import encode_arguments
from jobrunner.durations import MINUTE, Micros, format_duration
from jobrunner.errors import NotFound
from jobrunner.ids import short_id
from jobrunner.model import Reason, Run, State, Trigger
from jobrunner.plan import CatchUp, Pipeline, Plan, ScheduleRule, Task
from jobrunner.schedule import Schedule
from jobrunner.storage import Pause, RunFilter, Storage

from .command import TASK, command
from .documents import Document
from .moments import moment
from .session import Session, zone_named
from .why_pipeline import pipeline_words
from .words import local, one_line, rfc3339, standing

MOST_ROWS = 1_000  # rows of a task that are looked through for one tick
MOST_ATTEMPTS = 5  # told of one run, and runs that it waits for


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is known about one moment of one task."""

    task: str
    at: Micros
    verdict: str  # ran | runs | waits | did not run | is to come | no tick | no row
    words: tuple[str, ...]
    tick: Micros | None = None
    run: Run | None = None
    reason: str | None = None

    def document(self) -> Document:
        return {
            "task": self.task,
            "at": rfc3339(self.at),
            "tick": rfc3339(self.tick),
            "run": None if self.run is None else self.run.id,
            "verdict": self.verdict,
            "reason": self.reason,
            "explanation": " ".join(self.words),
        }


@command("why")
@click.argument("task", type=TASK)
@click.option("--at", metavar="TIME", help="About this moment: 'today 02:30'; else about the latest one.")
@click.pass_obj
def why_command(session: Session, *, task: str, at: str | None) -> int:
    """Say why a TASK ran, did not run, or has not run yet."""
    from .files import plan_of

    plan = plan_of(session)
    known = {each.name: each for each in scheduled(plan)}
    if task not in known:
        raise unknown_task(task, known)
    if not session.exists():
        raise NotFound(
            f"nothing is known of {task}: no supervisor has run on {session.place()} yet",
            help=f"start it: {session.start_command()}",
        )
    inquiry = Inquiry(session=session, storage=session.storage(), plan=plan, task=known[task])
    answer = inquiry.latest() if at is None else inquiry.about(inquiry.moment(at))
    screen = session.screen()
    if session.json:
        screen.json(answer.document())
    else:
        for line in answer.words:
            screen.line(one_line(line))
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """One task, looked at in its file and in its storage."""

    session: Session
    storage: Storage
    plan: Plan
    task: Task | Pipeline

    # ---- what is asked

    def moment(self, text: str) -> Micros:
        return moment(text, "--at", now=self.session.now(), zone=self._zone())

    def latest(self) -> Answer:
        """About what has not ended yet, else about the last tick, else about the last run."""
        now = self.session.now()
        live = self._rows(
            states=(State.RUNNING, State.QUEUED, State.RETRYING, State.SCHEDULED, State.WAITING)
        )
        if live:
            return self._of_run(live[-1], now, [])
        past = self._ticks_before(now + 1)
        if past:
            return self.about(max(past))
        rows = self._rows(limit=1)
        if rows:
            return self._of_run(rows[0], now, [])
        words = f"{self.task.name} has never run, and nothing has asked for it."
        return Answer(task=self.task.name, at=now, verdict="no row", words=(words,))

    def about(self, at: Micros) -> Answer:
        """About the tick at this moment, or in its minute."""
        found = [(tick, rule) for tick, rule in self._ticks_from(at) if tick < at + MINUTE]
        if not found:
            return self._no_tick(at)
        tick, rule = min(found, key=lambda pair: pair[0])
        words = [f"{self._clock(tick)} matches the schedule ({rule.words}, {rule.timezone})."]
        row = self._row_of(tick, rule)
        return self._no_row(tick, words) if row is None else self._of_run(row, tick, words)

    # ---- what is found

    def _ticks_from(self, at: Micros) -> list[tuple[Micros, ScheduleRule]]:
        """The first tick of each schedule at or after a moment."""
        firsts = ((schedule.next_us(at - 1), rule) for schedule, rule in self._schedules())
        return [(tick, rule) for tick, rule in firsts if tick is not None]

    def _ticks_before(self, before: Micros) -> list[Micros]:
        """The last tick of each schedule before a moment."""
        lasts = (schedule.previous_us(before) for schedule, _ in self._schedules())
        return [tick for tick in lasts if tick is not None]

    def _schedules(self) -> Iterator[tuple[Schedule, ScheduleRule]]:
        for rule in self.task.schedules:
            yield Schedule.parse(rule.source, rule.timezone, name=self.task.name), rule

    def _row_of(self, tick: Micros, rule: ScheduleRule) -> Run | None:
        """The row of a tick: its own, whose id follows from it, or the one of its gap."""
        args = self.task.args if rule.args is None else rule.args
        payload = encode_arguments(args, {**self.task.kwargs, **(rule.kwargs or {})})
        try:
            return self.storage.run(tick_id(self.task.name, payload, tick))
        except NotFound:
            rows = self._rows(since=tick, limit=MOST_ROWS)
        return next((row for row in rows if row.tick == tick or _folds(row, tick)), None)

    def _rows(
        self, *, states: Sequence[State] = (), since: Micros | None = None, limit: int = 50
    ) -> list[Run]:
        which = RunFilter(tasks=(self.task.name,), states=tuple(states), since=since, limit=limit)
        return self.storage.runs(which)

    # ---- answers

    def _no_tick(self, at: Micros) -> Answer:
        words = [f"{self._clock(at)} matches no schedule of {self.task.name}."]
        before = self._ticks_before(at)
        if before:
            words.append(f"Its tick before that was {self._clock(max(before))}.")
        if not self.task.schedules:
            words.append("It has no schedule: it runs on demand.")
        return Answer(task=self.task.name, at=at, verdict="no tick", words=tuple(words))

    def _no_row(self, tick: Micros, words: list[str]) -> Answer:
        if tick > self.session.now():
            reason = self._hindrance()
            words.append(
                f"It is to come.{f' As things are, it will be skipped: {reason}.' if reason else ''}"
            )
            return self._answer(tick, "is to come", words, tick=tick, reason=reason)
        if not self.session.is_supervised():
            words.append(
                f"No supervisor is running. At its next start the tick is decided by catch_up:"
                f" {self.task.catch_up.value}. Start it: {self.session.start_command()}"
            )
            return self._answer(tick, "no row", words, tick=tick, reason=Reason.MISSED_DOWN.value)
        words.append(
            "No row of it is left: the schedule was not in force then, or retention has removed the row"
            f" (kept for {format_duration(self.plan.retention.history)})."
        )
        return self._answer(tick, "no row", words, tick=tick)

    def _of_run(self, run: Run, at: Micros, words: list[str]) -> Answer:
        told = {
            State.RUNNING: self._running,
            State.QUEUED: self._queued,
            State.RETRYING: self._retrying,
            State.SCHEDULED: self._scheduled,
            State.SKIPPED: self._skipped,
            State.WAITING: self._waiting,
        }.get(run.state, self._ended)
        if run.join is not None and run.state is not State.SKIPPED:
            told = self._pipeline
        if run.join is not None and run.state is State.WAITING:
            return self._answer(at, "runs", [*words, *told(run)], tick=run.tick, run=run)
        verdict = {State.RUNNING: "runs", State.SKIPPED: "did not run", State.EXPIRED: "did not run"}.get(
            run.state, "ran" if run.state.is_final else "waits"
        )
        return self._answer(at, verdict, [*words, *told(run)], tick=run.tick, run=run, reason=run.reason)

    def _answer(
        self,
        at: Micros,
        verdict: str,
        words: Sequence[str],
        *,
        tick: Micros | None = None,
        run: Run | None = None,
        reason: str | None = None,
    ) -> Answer:
        return Answer(
            task=self.task.name,
            at=at,
            verdict=verdict,
            words=tuple(words),
            tick=tick,
            run=run,
            reason=reason,
        )

    # ---- words for each state

    def _pipeline(self, run: Run) -> Iterator[str]:
        return pipeline_words(self.storage, run)

    def _running(self, run: Run) -> Iterator[str]:
        if run.started_at is None:
            yield f"Run {short_id(run.id)} has been claimed and is about to start."
            return
        time = format_duration(max(0, self.session.now() - run.started_at))
        yield f"Run {short_id(run.id)} is running, for {time} so far{_why_at_all(run)}."

    def _queued(self, run: Run) -> Iterator[str]:
        waits = format_duration(max(0, self.session.now() - run.due_at))
        yield f"Run {short_id(run.id)} has been waiting for {waits}{_why_at_all(run)}."
        yield f"{self._obstacle()}."

    def _obstacle(self) -> str:
        if not self.session.is_supervised():
            return f"No supervisor is running. Start it: {self.session.start_command()}"
        paused = self._pause()
        if paused is not None:
            return _paused_words(paused)
        if self.storage.entry(self.task.name) is None:
            return "The supervisor does not know this task: it runs an older file"
        if self.task.blocked is not None:
            return f"The task is blocked: {self.task.blocked}"
        if isinstance(self.task, Pipeline):
            return "Its steps wait for free slots"
        if self.task.rate_limit is not None:
            return f"It waits for a free slot of pool {self.task.pool!r}, or for the next window of its rate"
        if self.task.lock is not None:
            return (
                f"It waits for the lock {self.task.lock.name!r} or for a free slot of pool {self.task.pool!r}"
            )
        return f"It waits for a free slot of pool {self.task.pool!r}"

    def _retrying(self, run: Run) -> Iterator[str]:
        yield f"Run {short_id(run.id)} failed ({run.outcome}) at attempt {run.attempt}."
        yield f"The next one is due {self._clock(run.due_at)}."

    def _scheduled(self, run: Run) -> Iterator[str]:
        yield f"Run {short_id(run.id)} is due {self._clock(run.due_at)}{_why_at_all(run)}."

    def _ended(self, run: Run) -> Iterator[str]:
        if run.started_at is None or run.finished_at is None:
            yield f"Run {short_id(run.id)} ended without an attempt: {standing(run)}."
            return
        tries = f" at attempt {run.attempt}" if run.attempt > 1 else ""
        took = format_duration(max(0, run.finished_at - run.started_at))
        when = f"started {self._clock(run.started_at)} and took {took}"
        yield f"Run {short_id(run.id)} {when}: {standing(run)}{tries}."
        yield from self._earlier(run)
        if run.trigger is Trigger.CATCH_UP:
            yield f"It caught up, and stands for {run.missed} missed tick{'s' if run.missed != 1 else ''}."

    def _earlier(self, run: Run) -> Iterator[str]:
        """The attempts before the last one, the latest of many."""
        earlier = self.storage.attempts(run.id)[:-1] if run.attempt > 1 else []
        for each in earlier[-MOST_ATTEMPTS:]:
            began = "" if each.started_at is None else f" of {self._clock(each.started_at)}"
            yield f"Attempt {each.number}{began} ended with: {each.outcome}."

    def _waiting(self, run: Run) -> Iterator[str]:
        """Behind others: an earlier run of its task, or steps of its pipeline."""
        befores = [edge.run_id for edge in self.storage.edges((run.id,)).get(run.id, ())]
        if not befores:
            yield f"Run {short_id(run.id)} waits for its steps to end."
        for before in befores[:MOST_ATTEMPTS]:
            yield f"Run {short_id(run.id)} waits for run {short_id(before)} to end."

    def _skipped(self, run: Run) -> Iterator[str]:
        yield f"No run: skipped ({run.reason})."
        detail = json.loads(run.detail) if run.detail else {}
        if "count" in detail:
            first, last = self._clock(detail["from"]), self._clock(detail["to"])
            yield f"It is one of {detail['count']} ticks from {first} to {last}."
        if "holder" in detail:
            yield from self._holder(str(detail["holder"]))
        if run.reason is not None and run.reason.startswith("missed"):
            yield from self._made_up(run)

    def _holder(self, run_id: str) -> Iterator[str]:
        try:
            holder = self.storage.run(run_id)
        except NotFound:
            yield f"Run {short_id(run_id)} was not final; retention has removed it since."
            return
        began = (
            "had not started" if holder.started_at is None else f"started {self._clock(holder.started_at)}"
        )
        end = (
            "has not ended yet"
            if holder.finished_at is None
            else f"ended at {self._clock(holder.finished_at)}"
        )
        yield f"Run {short_id(run_id)}, {began}, was not final; it {end}."

    def _made_up(self, run: Run) -> Iterator[str]:
        rows = self._rows(since=run.created_at, limit=MOST_ROWS)
        later = [row for row in rows if row.trigger is Trigger.CATCH_UP and (row.tick or 0) > (run.tick or 0)]
        if later:
            tick = self._clock(later[-1].tick or 0)
            yield f"Run {short_id(later[-1].id)} caught up for it, with the tick of {tick}."
        elif self.task.catch_up is CatchUp.NONE:
            yield "Nothing caught up for it: catch_up is none."

    # ---- the task as it stands

    def _hindrance(self) -> str | None:
        """What would make a tick of this task a skipped one now."""
        if not self.task.enabled:
            return Reason.DISABLED.value
        return Reason.PAUSED.value if self._pause() is not None else None

    def _pause(self) -> Pause | None:
        targets = {"all", f"task:{self.task.name}", f"pool:{self.task.pool}"}
        return next((p for p in self.storage.pauses(self.session.now()) if p.target in targets), None)

    def _zone(self) -> tzinfo | None:
        zones = [rule.timezone for rule in self.task.schedules]
        return zone_named(zones[0] if zones else self.plan.timezone)

    def _clock(self, instant: Micros) -> str:
        """`02:30` today, else with the day; seconds where there are some."""
        then, today = local(instant, self._zone()), local(self.session.now(), self._zone())
        clock = f"{then:%H:%M}" if not then.second else f"{then:%H:%M:%S}"
        return clock if then.date() == today.date() else f"{then:%Y-%m-%d} {clock}"


def _folds(row: Run, tick: Micros) -> bool:
    """Whether this row stands for several ticks, and this is one of them."""
    detail = json.loads(row.detail) if row.detail else {}
    return "count" in detail and detail["from"] <= tick <= detail["to"]


def _why_at_all(run: Run) -> str:
    return {Trigger.ENQUEUE: ", enqueued by hand", Trigger.CALLBACK: ", as a callback"}.get(run.trigger, "")


def _paused_words(pause: Pause) -> str:
    who = f" by {pause.by}" if pause.by else ""
    reason = f" ({pause.reason})" if pause.reason else ""
    return f"{pause.target.partition(':')[2] or 'Everything'} is paused{who}{reason}"
