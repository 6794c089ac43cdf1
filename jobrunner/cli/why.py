"""`jobrunner why`: why a task ran, did not run, or has not run yet."""

from __future__ import annotations

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
from jobrunner.plan import Pipeline, Plan, ScheduleRule, Task
from jobrunner.schedule import Schedule
from jobrunner.storage import Pause, Storage
from jobrunner.storage.pausing import pause_of

from .command import TASK, command
from .documents import Document
from .moments import moment
from .session import Session, zone_named
from .why_pipeline import pipeline_words
from .why_rows import MOVING, Rows
from .why_skipped import paused_words, skipped_words
from .words import gist, local, one_line, rfc3339, standing

_UNKNOWN = "That is what was written last; what has become of it is found out at the next start."
MOST_SAID = 600  # characters of an error
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
    inquiry = _inquiry(session, task)
    answer = inquiry.latest() if at is None else inquiry.about(inquiry.moment(at))
    screen = session.screen()
    if session.json:
        screen.json(answer.document())
    else:
        for line in answer.words:
            screen.line(one_line(line))
    return 0


def _inquiry(session: Session, task: str) -> Inquiry:
    """Of a task of the file, or of one that the history still knows. Raises NotFound for any other."""
    from .files import plan_of

    plan = plan_of(session)
    known = {each.name: each for each in scheduled(plan)}
    found = known.get(task)
    if not session.exists():
        if found is None:
            raise unknown_task(task, known)
        raise NotFound(
            f"nothing is known of {task}: no supervisor has run on {session.place()} yet",
            help=f"start it: {session.start_command()}",
        )
    rows = Rows(storage=session.storage(), task=task)
    if found is None and rows.latest() is None:
        raise unknown_task(task, known)
    return Inquiry(
        session=session, rows=rows, plan=plan, task=found or Task(name=task), is_gone=found is None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """One task, looked at in its file and in its storage."""

    session: Session
    rows: Rows
    plan: Plan
    task: Task | Pipeline
    is_gone: bool = False  # the file does not name it (any more): `task` is no more than its name

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def storage(self) -> Storage:
        return self.rows.storage

    # ---- what is asked

    def moment(self, text: str) -> Micros:
        return moment(text, "--at", now=self.session.now(), zone=self._zone())

    def latest(self) -> Answer:
        """About what has not ended yet, else about the last tick, else about the last run."""
        now, row = self.session.now(), self.rows.latest()
        if row is not None and row.state in MOVING:
            return self._of_run(row, now, [*self._gone()])
        past = self._ticks_before(now + 1)
        if past:
            return self.about(max(past))
        if row is not None:
            return self._of_run(row, now, [*self._gone()])
        words = f"{self.name} has never run, and nothing has asked for it."
        return Answer(task=self.name, at=now, verdict="no row", words=(words,))

    def about(self, at: Micros) -> Answer:
        """About the tick at this moment, or in its minute; else about what its rows know of that minute."""
        found = [(tick, rule) for tick, rule in self._ticks_from(at) if tick < at + MINUTE]
        if not found:
            row = self.rows.at(at)
            return self._no_tick(at) if row is None else self._of_run(row, at, [*self._other_tick(row)])
        tick, rule = min(found, key=lambda pair: pair[0])
        words = [f"{self._clock(tick)} matches the schedule ({rule.words}, {rule.timezone})."]
        row = self.rows.of_tick(self._id_of(tick, rule), tick)
        return self._no_row(tick, rule, words) if row is None else self._of_run(row, tick, words)

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
            yield Schedule.parse(rule.source, rule.timezone, name=self.name), rule

    def _id_of(self, tick: Micros, rule: ScheduleRule) -> str:
        args = self.task.args if rule.args is None else rule.args
        payload = encode_arguments(args, {**self.task.kwargs, **(rule.kwargs or {})})
        return tick_id(self.name, payload, tick)

    # ---- answers

    def _no_tick(self, at: Micros) -> Answer:
        words = [
            *self._gone(),
            f"{self._clock(at)} matches no schedule of {self.name}, and no row is of then.",
        ]
        before = self._ticks_before(at)
        if before:
            words.append(f"Its tick before that was {self._clock(max(before))}.")
        if not self.task.schedules and not self.is_gone:
            words.append("It has no schedule: it runs on demand.")
        return Answer(task=self.name, at=at, verdict="no tick", words=tuple(words))

    def _gone(self) -> Iterator[str]:
        if self.is_gone:
            yield f"{self.name} is not in {self.plan.file} any more; this is what its rows tell."

    def _other_tick(self, row: Run) -> Iterator[str]:
        """What a row is of that the schedule of today does not explain."""
        yield from self._gone()
        if row.tick is not None and not self.is_gone:
            yield f"{self._clock(row.tick)} was a tick of the schedule that was in force then."

    def _no_row(self, tick: Micros, rule: ScheduleRule, words: list[str]) -> Answer:
        if tick > self.session.now():
            reason = self._hindrance()
            words.append(
                f"It is to come.{f' As things are, it will be skipped: {reason}.' if reason else ''}"
            )
            return self._answer(tick, "is to come", words, tick=tick, reason=reason)
        following = self.storage.next_ticks()
        if rule.key not in following:
            words.append(
                "This schedule was not in force then, and no supervisor has seen it since:"
                f" what lies before its first start is never run.{self._nobody()}"
            )
            return self._answer(tick, "no row", words, tick=tick)
        if (following[rule.key] or tick) <= tick and not self.session.is_supervised():
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
        if not run.state.is_final and run.state is not State.QUEUED and not self.session.is_supervised():
            words = [*words, *told(run), _UNKNOWN + self._nobody()]
            return self._answer(at, "waits", words, tick=run.tick, run=run, reason=run.reason)
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
            task=self.name,
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
            if waits := self._without_worker(run.pool):
                yield f"{waits}."
            return
        time = format_duration(max(0, self.session.now() - run.started_at))
        yield f"Run {short_id(run.id)} is running, for {time} so far{_why_at_all(run)}."

    def _queued(self, run: Run) -> Iterator[str]:
        waits = format_duration(max(0, self.session.now() - run.due_at))
        yield f"Run {short_id(run.id)} has been waiting for {waits}{_why_at_all(run)}."
        yield f"{self._obstacle()}."

    def _nobody(self) -> str:
        """What to do when there is no supervisor."""
        if self.session.is_supervised():
            return ""
        return f" No supervisor is running. Start it: {self.session.start_command()}"

    def _obstacle(self) -> str:
        if not self.session.is_supervised():
            return f"No supervisor is running. Start it: {self.session.start_command()}"
        paused = self._pause()
        if paused is not None:
            return paused_words(paused, self._clock)
        if self.is_gone:
            return "It waits until a supervisor knows its task again; jobrunner cancel ends it"
        if self.storage.entry(self.name) is None:
            return "The supervisor does not know this task: it runs an older file"
        if self.task.blocked is not None:
            return f"The task is blocked: {self.task.blocked}"
        if isinstance(self.task, Pipeline):
            return "Its steps wait for free slots"
        return self._without_worker(self.task.pool) or _room(self.task)

    def _without_worker(self, pool: str) -> str:
        """Why no worker of this pool starts; "" when they do, with one of the supervisors at least."""
        found = [(each.status.stalled or {}).get(pool) for each in self.session.supervisors()]
        why = None if None in found else next(iter(found), None)
        return "" if why is None else f"No worker of pool {pool!r} starts: {gist(why)}"

    def _retrying(self, run: Run) -> Iterator[str]:
        yield f"Run {short_id(run.id)} failed ({run.outcome}) at attempt {run.attempt}."
        yield from error_words(run)
        yield f"The next one is due {self._clock(run.due_at)}."

    def _scheduled(self, run: Run) -> Iterator[str]:
        yield f"Run {short_id(run.id)} is due {self._clock(run.due_at)}{_why_at_all(run)}."

    def _ended(self, run: Run) -> Iterator[str]:
        if run.started_at is None or run.finished_at is None:
            yield f"Run {short_id(run.id)} ended without an attempt: {standing(run)}."
            yield from self._replaced(run)
            return
        tries = f" at attempt {run.attempt}" if run.attempt > 1 else ""
        took = format_duration(max(0, run.finished_at - run.started_at))
        when = f"started {self._clock(run.started_at)} and took {took}"
        yield f"Run {short_id(run.id)} {when}: {standing(run)}{tries}."
        yield from error_words(run)
        yield from self._replaced(run)
        yield from self._earlier(run)
        if run.trigger is Trigger.CATCH_UP:
            yield f"It caught up, and stands for {run.missed} missed tick{'s' if run.missed != 1 else ''}."

    def _replaced(self, run: Run) -> Iterator[str]:
        """By which run it was superseded (semantics 8)."""
        newer = self.rows.in_place_of(run) if run.reason == Reason.SUPERSEDED else None
        if newer is not None:
            tick = "" if newer.tick is None else f", of the tick of {self._clock(newer.tick)},"
            yield f"Run {short_id(newer.id)}{tick} took its place."

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
        return skipped_words(self.rows, run, self._clock, self.task)

    # ---- the task as it stands

    def _hindrance(self) -> str | None:
        """What would make a tick of this task a skipped one now."""
        if not self.task.enabled:
            return Reason.DISABLED.value
        return Reason.PAUSED.value if self._pause() is not None else None

    def _pause(self) -> Pause | None:
        now = self.session.now()
        return pause_of(self.storage.pauses(now), self.task, now)

    def _zone(self) -> tzinfo | None:
        zones = [rule.timezone for rule in self.task.schedules]
        return zone_named(zones[0] if zones else self.plan.timezone)

    def _clock(self, instant: Micros) -> str:
        """`02:30` today, else with the day; seconds where there are some."""
        then, today = local(instant, self._zone()), local(self.session.now(), self._zone())
        clock = f"{then:%H:%M}" if not then.second else f"{then:%H:%M:%S}"
        return clock if then.date() == today.date() else f"{then:%Y-%m-%d} {clock}"


def _room(task: Task) -> str:
    """What a run of it waits for when nothing else is in its way."""
    room = f"a free slot of pool {task.pool!r}"
    if task.rate_limit is not None:
        return f"It waits for {room}, or for the next window of its rate"
    return (
        f"It waits for {room}"
        if task.lock is None
        else f"It waits for the lock {task.lock.name!r} or for {room}"
    )


def _why_at_all(run: Run) -> str:
    return {Trigger.ENQUEUE: ", enqueued by hand", Trigger.CALLBACK: ", as a callback"}.get(run.trigger, "")


def error_words(run: Run) -> Iterator[str]:
    """What the error says beyond the outcome: the hint of its first line, and the last words."""
    lines = [line.strip() for line in (run.error or "").splitlines() if line.strip()]
    chosen = (
        lines[-1:]
        if run.exit_code is None and len(lines) > 1
        else list(dict.fromkeys([*lines[:1], *lines[-1:]]))
    )
    said = [line for line in chosen if line != run.outcome]
    if said:
        yield f"It said: {'; '.join(said)[:MOST_SAID].rstrip('.')}."
