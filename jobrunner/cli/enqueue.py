"""`jobrunner enqueue`: one run more, and, when asked, its result."""

from __future__ import annotations

from collections.abc import Sequence

import click

from jobrunner.catalogue import Entry
from jobrunner.client import enqueue, forced_entry, whole
from jobrunner.durations import Micros
from jobrunner.errors import JobRunnerError, UsageError
from jobrunner.ids import new_id
from jobrunner.model import NewRun
from jobrunner.storage import RunFilter, Storage
from jobrunner.storage.pausing import pause_of

from .arguments import parse_arguments
from .command import TASK, command
from .moments import duration, moment
from .screen import say
from .session import Session
from .words import gist, rfc3339


@command("enqueue")
@click.argument("task", type=TASK)
@click.option("--args", "texts", multiple=True, metavar="ARGS", help="JSON, KEY=TEXT, KEY:=JSON, @FILE or -.")
@click.option("--in", "delay", metavar="DURATION", help="Run it after this time: 10m.")
@click.option("--at", metavar="TIME", help="Run it then: 2026-11-24T02:30, 'tomorrow 02:30'.")
@click.option("--priority", type=int, help="Higher first; else the task's own.")
@click.option(
    "--expires", metavar="DURATION", help="Give up when it has not started this long after it is due."
)
@click.option(
    "--unique", metavar="KEY", help="Refuse it while a run of the task with this key is not over (exit 1)."
)
@click.option("--wait", is_flag=True, help="Wait for its end and print the result.")
@click.option("--timeout", metavar="DURATION", help="With --wait: stop waiting after this time (exit 124).")
@click.option("--exit-status", is_flag=True, help="With --wait: exit with the command's own code.")
@click.option("--logs", is_flag=True, help="With --wait: show the output on stderr while it runs.")
@click.option("--force", is_flag=True, help="Even when no supervisor has published such a task.")
@click.pass_obj
def enqueue_command(
    session: Session,
    *,
    task: str,
    texts: Sequence[str],
    delay: str | None,
    at: str | None,
    priority: int | None,
    expires: str | None,
    unique: str | None,
    wait: bool,
    timeout: str | None,
    exit_status: bool,
    logs: bool,
    force: bool,
) -> int:
    """Enqueue a run of TASK and print its id.

    \b
    jobrunner enqueue resize --args '{"image": 42}' --wait
    jobrunner enqueue resize --args image:=42 --args title=Sea --in 10m
    """
    _check_options(delay=delay, at=at, wait=wait, needs_wait=bool(timeout) or exit_status or logs)
    arguments = parse_arguments(texts)
    entry = _entry(session, task, force=force)
    now = session.now()
    run = enqueue(
        entry,
        run_id=new_id(now),
        now=now,
        args=arguments.args,
        kwargs=arguments.kwargs,
        due_at=_due_at(session, delay, at, now),
        priority=priority,
        expires=None if expires is None else duration(expires, "--expires"),
        unique=unique,
    )
    storage = session.storage(create=force)
    if not storage.add(whole(run, entry, storage.entry))[0]:
        raise _refused(storage, run)
    _warn(session, storage, entry)
    if not wait:
        _print_run(session, run)
        return 0
    from .waiting import wait_for_result

    patience = None if timeout is None else duration(timeout, "--timeout")
    return wait_for_result(session, run.id, entry, patience=patience, exit_status=exit_status, logs=logs)


def _refused(storage: Storage, run: NewRun) -> JobRunnerError:
    """Its unique key is held: by which run, and what can be done."""
    holders = storage.runs(RunFilter(unique=run.unique, limit=1)) if run.unique else []
    key = (run.unique or "").partition(":")[2]
    held = f" by run {holders[0].id} ({holders[0].state})" if holders else ""
    return JobRunnerError(
        f"{run.task} is not enqueued: the unique key {key!r} is held{held}",
        help=f"wait for it, or jobrunner cancel {holders[0].id}" if holders else "try again",
    )


def _check_options(*, delay: str | None, at: str | None, wait: bool, needs_wait: bool) -> None:
    if delay is not None and at is not None:
        raise UsageError("--in and --at exclude each other", help="give one of them")
    if needs_wait and not wait:
        raise UsageError("--timeout, --exit-status and --logs need --wait", help="add --wait")


def _entry(session: Session, task: str, *, force: bool) -> Entry:
    if force:
        return session.entry_or_none(task) or forced_entry(task)
    return session.entry(task)


def _due_at(session: Session, delay: str | None, at: str | None, now: Micros) -> Micros | None:
    if delay is not None:
        return now + duration(delay, "--in")
    return None if at is None else moment(at, "--at", now=now, zone=session.zone())


def _print_run(session: Session, run: NewRun) -> None:
    screen = session.screen()
    if session.json:
        document = {
            "id": run.id,
            "task": run.task,
            "state": run.state.value,
            "due_at": rfc3339(run.due_at),
        }
        screen.json(document)
    else:
        screen.line(run.id)


def _warn(session: Session, storage: Storage, entry: Entry) -> None:
    """What keeps the run from starting soon, said at once rather than found out later."""
    alive = session.supervisors()
    if not alive:
        say(f"warning: no supervisor is running; the run waits. Start one: {session.start_command()}")
    for each in alive:
        if each.status.trouble:
            say(f"warning: nothing is claimed at present; the run waits: {each.status.trouble}")
        stalled = (each.status.stalled or {}).get(entry.pool)
        if stalled is not None:
            say(f"warning: no worker of pool {entry.pool!r} starts; the run waits: {gist(stalled)}")
    if pause_of(storage.pauses(session.now()), entry, session.now()) is not None:
        say(f"warning: {entry.name} is paused; the run waits until it is resumed")
    if entry.blocked:
        say(f"warning: {entry.name} cannot run: {entry.blocked}")
