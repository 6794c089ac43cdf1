"""`jobrunner notify --test`: the way of a notification, gone once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from jobrunner.catalogue import scheduled
from jobrunner.errors import NotFound, UsageError

from .command import TASK, command
from .session import Session

if TYPE_CHECKING:
    from jobrunner.durations import Micros
    from jobrunner.model import Run
    from jobrunner.notify.letters import Letter
    from jobrunner.plan import Pipeline, Plan, Task


@command("notify")
@click.argument("name", type=TASK, required=False)
@click.option("--test", is_flag=True, help="Send it now, marked as a test.")
@click.pass_obj
def notify_command(session: Session, *, name: str | None, test: bool) -> int:
    """Send a test to everybody whom the tasks of the file notify, or those of the task NAME.

    It goes from this process, by the same way as the service's. Exit code 1: something did not arrive.
    """
    if not test:
        raise UsageError(
            "notifications are sent by the service", help="to send a test: jobrunner notify --test"
        )
    from .files import plan_of

    plan = plan_of(session)
    answers = [_answer(letter) for letter in _letters(session, plan, _chosen(plan, name))]
    screen = session.screen()
    if session.json:
        screen.json(answers)
    else:
        for each in answers:
            symbol = screen.paint("✗", "red") if each["error"] else screen.paint("✓", "green")
            told = f"{symbol} {each['task']}: {each['channel']} {each['to']}"
            screen.line(f"{told}: {each['error']}" if each["error"] else told)
    return 1 if any(each["error"] for each in answers) else 0


def _chosen(plan: Plan, name: str | None) -> list[Task | Pipeline]:
    """The task or pipeline that was named, or those that differ in whom they tell."""
    known = {each.name: each for each in scheduled(plan)}
    if name is not None and name not in known:
        from jobrunner.client import unknown_task

        raise unknown_task(name, known)
    tasks = list(known.values()) if name is None else [known[name]]
    found = {task.notify: task for task in reversed(tasks) if task.notify is not None}
    if not found:
        what = "no task has notify" if name is None else f"task {name!r} has no notify"
        raise NotFound(f"{what}: nobody is to be told", help="notify: {mail: ops@example.com}")
    return list(reversed(found.values()))


def _letters(
    session: Session, plan: Plan, chosen: Iterable[Task | Pipeline]
) -> Iterator[tuple[Task | Pipeline, Letter]]:
    from jobrunner.notify import Notice, Occasion
    from jobrunner.notify.letters import letters, post_of

    now = session.now()
    for task in chosen:
        post, run = post_of(plan, task, session.environ), _example(task.name, now)
        notice = Notice(occasion=Occasion.TEST, task=task.name, run_id=run.id, owner="", born_at=now)
        if post is not None:
            yield from ((task, letter) for letter in letters(notice, run, "This is a test.\n", post, now))


def _example(task: str, now: Micros) -> Run:
    """A run that never was."""
    from jobrunner.ids import new_id
    from jobrunner.model import Run, State, Trigger

    known: dict[str, Any] = dict.fromkeys(Run._fields)
    known |= {"id": new_id(now), "task": task, "state": State.SUCCEEDED, "trigger": Trigger.ENQUEUE}
    return Run(**known | {"missed": 0, "attempt": 1, "due_at": now, "started_at": now, "finished_at": now})


def _answer(sent: tuple[Task | Pipeline, Letter]) -> dict[str, str | None]:
    from jobrunner.notify.letters import shown_to
    from jobrunner.notify.send import deliver

    task, letter = sent
    return {"task": task.name, "channel": letter.channel, "to": shown_to(letter), "error": deliver(letter)}
