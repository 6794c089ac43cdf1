"""What is told, in words and as a document; one letter for each channel of the task."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from ..durations import SECOND, Micros, format_duration, from_micros
from ..execution.environment import allowed
from ..ids import short_id
from ..machine import hostname
from ..model import Reason, Run, State
from ..plan import Mail, Notify, Occasion, Pipeline, Plan, Task
from . import Notice

MAIL, WEBHOOK, COMMAND = "mail", "webhook", "command"
_HEADLINES = {
    Occasion.FAILURE: "failed",
    Occasion.RECOVERY: "works again",
    Occasion.SUCCESS: "succeeded",
    Occasion.MISSED: "did not run",
    Occasion.LATE: "is late",
    Occasion.TEST: "sends a test",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One message by one channel: all that the process which sends it must know."""

    channel: str
    to: tuple[str, ...] = ()  # mail: addresses; webhook: the URL; command: argv
    subject: str = ""
    body: str = ""
    document: str = ""  # JSON: what a webhook is posted, and a command reads on stdin
    at: Micros = 0
    mail: Mail = field(default_factory=Mail)
    env: Mapping[str, str] = field(default_factory=dict)  # of a command
    cwd: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What holds for every letter of a task: where from, and how."""

    notify: Notify
    host: str
    zone: tzinfo
    mail: Mail
    env: Mapping[str, str] = field(default_factory=dict)  # of a command
    cwd: str = "/"


def post_of(plan: Plan, task: Task | Pipeline, environ: Mapping[str, str]) -> Post | None:
    """How letters of a task or pipeline go, with the environment of this process; None: there are none."""
    if task.notify is None:
        return None
    return Post(
        notify=task.notify,
        host=hostname(),
        zone=ZoneInfo(plan.timezone),
        mail=plan.mail,
        env={**allowed(environ), **task.env},
        cwd=os.path.dirname(plan.file) or "/",
    )


def letters(
    notice: Notice, run: Run, tail: str, post: Post, now: Micros, *, culprit: Run | None = None
) -> tuple[Letter, ...]:
    """The letters that this notice still owes; `culprit` is the step by which a pipeline failed."""
    headline = headline_of(notice.occasion, run, culprit)
    subject = _shown(f"[{post.host}] {headline}")
    body = _body(notice, run, tail, headline, post.zone, culprit)
    document = json.dumps(document_of(notice, run, tail, headline, post.host, culprit))
    made = {
        MAIL: post.notify.mail,
        WEBHOOK: () if post.notify.webhook is None else (post.notify.webhook,),
        COMMAND: _argv(post.notify.command),
    }
    return tuple(
        Letter(
            channel=channel,
            to=to,
            subject=subject,
            body=body,
            document=document,
            at=now,
            mail=post.mail,
            env=post.env if channel == COMMAND else {},
            cwd=post.cwd,
        )
        for channel, to in made.items()
        if to and channel not in notice.done
    )


def shown_to(letter: Letter) -> str:
    """Whom a letter goes to; of a URL only the host, since the rest may be a secret."""
    if letter.channel == WEBHOOK:
        return str(urlsplit(letter.to[0]).hostname)
    return ", ".join(letter.to) if letter.channel == MAIL else letter.to[-1]


def _argv(command: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return ("/bin/sh", "-c", command) if isinstance(command, str) else command or ()


def headline_of(occasion: Occasion, run: Run, culprit: Run | None = None) -> str:
    """`backup failed: exit 3`; of a pipeline `nightly failed: load, exit 3`."""
    headline = f"{run.task} {_HEADLINES[occasion]}"
    if occasion is Occasion.LATE and run.missed:
        headline = f"{run.task} runs late"
    why = _why(occasion, run)
    if occasion is Occasion.FAILURE and culprit is not None and run.reason == Reason.UPSTREAM_FAILED:
        why = f"{culprit.task}, {culprit.reason or culprit.outcome}"
    return f"{headline}: {why}" if why else headline


def _why(occasion: Occasion, run: Run) -> str:
    if occasion is Occasion.FAILURE:
        return run.reason or run.outcome or ""
    if occasion is Occasion.MISSED:
        count = _detail(run).get("count")
        folded = f"{count} ticks, " if isinstance(count, int) and count > 1 else ""
        return f"{folded}{run.reason or run.state.value}"
    if occasion is Occasion.LATE:
        return f"{run.missed} ticks were missed" if run.missed > 1 else "its tick is over a minute ago"
    return ""


def document_of(
    notice: Notice, run: Run, tail: str, headline: str, host: str, culprit: Run | None = None
) -> Mapping[str, object]:
    """What programs are told; fields are added, never renamed."""
    return {
        "text": headline,
        "occasion": notice.occasion.value,
        "task": run.task,
        "host": host,
        "run": _run_document(run),
        "step": None if culprit is None else {"step": culprit.step, **_run_document(culprit)},
        "more": notice.more,
        "output_tail": tail,
    }


def _run_document(run: Run) -> Mapping[str, object]:
    """The fields that `history --json` has, as far as a message needs them."""
    started, finished = run.started_at, run.finished_at
    took = None if started is None or finished is None else max(0, finished - started) / SECOND
    return {
        "id": run.id,
        "task": run.task,
        "state": run.state.value,
        "reason": run.reason,
        "trigger": run.trigger.value,
        "tick": _moment(run.tick),
        "missed": run.missed,
        "due_at": _moment(run.due_at),
        "started_at": _moment(started),
        "finished_at": _moment(finished),
        "duration": took,
        "attempt": run.attempt,
        "exit_code": run.exit_code,
        "signal": run.signal,
        "outcome": run.outcome,
        "error": run.error,
        "host": run.host,
        "detail": _detail(run) or None,
    }


def _detail(run: Run) -> Mapping[str, object]:
    try:
        detail = json.loads(run.detail or "{}")
    except ValueError:
        return {}
    return detail if isinstance(detail, dict) else {}


def _moment(instant: Micros | None) -> str | None:
    return None if instant is None else from_micros(instant).isoformat()


# --- mail -----------------------------------------------------------------------------------------------


def _body(
    notice: Notice, run: Run, tail: str, headline: str, zone: tzinfo, culprit: Run | None = None
) -> str:
    facts = {
        "run": run.id,
        "step": f"{culprit.step}, {culprit.task}, run {culprit.id}" if culprit else "",
        "trigger": run.trigger.value,
        "tick": _local(run.tick, zone),
        "started": _local(run.started_at, zone),
        "ended": _local(run.finished_at, zone),
        "took": _took(run),
        "attempts": str(run.attempt) if run.attempt else "",
        "more": f"{notice.more} others of this kind, not told one by one" if notice.more else "",
    }
    lines = [f"{headline}.", "", *(f"{name:<9} {text}" for name, text in facts.items() if text)]
    if run.error:
        lines += ["", "error:", *_indented(run.error)]
    if tail:
        lines += ["", "output, its end:", *_indented(tail)]
    if notice.occasion is not Occasion.TEST:
        lines += ["", _next_step(run, culprit)]
    return "\n".join([*lines, ""])


def _next_step(run: Run, culprit: Run | None) -> str:
    heard = culprit or run
    if heard.attempt:
        return f"jobrunner logs {short_id(heard.id)}"
    return f"jobrunner show {short_id(run.id)}" if run.join else f"jobrunner why {run.task}"


def _took(run: Run) -> str:
    if run.started_at is None or run.finished_at is None or run.state is State.SKIPPED:
        return ""
    return format_duration(max(0, run.finished_at - run.started_at))


def _local(instant: Micros | None, zone: tzinfo) -> str:
    return "" if instant is None else f"{from_micros(instant, zone):%a %Y-%m-%d %H:%M:%S %z}"


def _indented(text: str) -> list[str]:
    return [f"  {_shown(line)}" for line in text.rstrip("\n").splitlines()]


def _shown(text: str) -> str:
    """Captured text is hostile: what a terminal or a header would take for a command is escaped."""
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)
