"""`jobrunner exec`: a task once, here, in this terminal, as the service would run it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from jobrunner.client import enqueue, unknown_task
from jobrunner.errors import StorageError, UsageError, WrongArguments
from jobrunner.ids import new_id

from .arguments import parse_arguments
from .command import TASK, command
from .screen import say
from .session import Session, user_name
from .words import one_line

if TYPE_CHECKING:
    from jobrunner.execution import Call
    from jobrunner.execution.foreground import Over
    from jobrunner.execution.spawn import Spawned
    from jobrunner.plan import Plan, Task

TIMEOUT: Final = 124  # as timeout(1)
COULD_NOT_START: Final = 126  # as a shell, of a program that it cannot execute
SIGNALLED: Final = 128  # plus the signal's number
TRIGGER: Final = "exec"


@command("exec")
@click.argument("task", type=TASK)
@click.option("--args", "texts", multiple=True, metavar="ARGS", help="JSON, KEY=TEXT, KEY:=JSON, @FILE or -.")
@click.option(
    "--show-env", is_flag=True, help="Print the environment that the task would get, and run nothing."
)
@click.pass_obj
def exec_command(session: Session, *, task: str, texts: Sequence[str], show_env: bool) -> int:
    """Run TASK once, here, in this terminal, as the service would.

    Environment, folder, user, limits and timeout are those of the service; nothing is recorded or retried.
    Ends with the exit code of the command; 124 after its timeout, 126 when it could not start, 128 + n
    after signal n.
    """
    from .files import plan_of

    plan = plan_of(session)
    call = _call(session, _task(plan, task), texts)
    inherited = inherited_environment(session)
    if show_env:
        return _show(session, plan, call, inherited)
    return _run(plan, call, inherited)


def _task(plan: Plan, name: str) -> Task:
    if name in plan.pipelines:
        first = next(iter(_steps(plan.pipelines[name].composition)), "STEP")
        raise UsageError(
            f"{name!r} is a pipeline: its steps wait for one another in the service; exec runs one task here",
            help=f"jobrunner enqueue {name} --wait, or one of its steps: jobrunner exec {first}",
        )
    if name not in plan.tasks:
        raise unknown_task(name, plan.tasks)
    return plan.tasks[name]


def _steps(composition: str) -> Iterator[str]:
    """The names in a pipeline, in their order."""
    from jobrunner.composition import Pipeline, from_text, outline

    spec: Pipeline = from_text(composition)
    left = [outline(spec.steps)]
    while left:
        each = left.pop(0)
        if isinstance(each, str):
            yield each
        elif isinstance(each, list):
            left[:0] = each
        elif isinstance(each, dict):
            left[:0] = each.get("parallel") or [each["map"]["task"]]


def _call(session: Session, task: Task, texts: Sequence[str]) -> Call:
    """The call of a run that nobody records."""
    from jobrunner.catalogue import entry_of
    from jobrunner.execution import Call

    arguments, now = parse_arguments(texts), session.now()
    run = enqueue(entry_of(task), run_id=new_id(now), now=now, args=arguments.args, kwargs=arguments.kwargs)
    return Call(
        seq=0,
        claim_no=1,
        run_id=run.id,
        attempt=1,
        task=task,
        payload=run.payload,
        trigger=TRIGGER,
        tick=None,
        missed=0,
        due_at=now,
        timeout=task.timeout,
        owner=f"{TRIGGER}-{run.id}",
    )


# ---- the environment of the service ----------------------------------------------------------------------


def inherited_environment(session: Session) -> dict[str, str]:
    """What attempts inherit: from the supervisor that is running here, else from this terminal."""
    from jobrunner.execution.environment import allowed

    pid = _supervisor(session)
    if pid is None:
        say("note: no supervisor is running here: with the environment of this terminal")
        return allowed(session.environ)
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = _variables(file.read())
    except OSError:
        say(f"note: the environment of the supervisor (pid {pid}) cannot be read: with that of this terminal")
        return allowed(session.environ)
    if owner != os.geteuid():
        say(f"note: the supervisor runs as {user_name(owner)}, this is {user_name(os.geteuid())}")
    return allowed(found)


def _supervisor(session: Session) -> int | None:
    """The pid of the supervisor of this file, if one is alive on this machine."""
    from jobrunner.machine import is_alive, pid_space

    try:
        found = session.storage().supervisors(session.now()) if session.exists() else []
    except (StorageError, OSError):
        return None
    owners = [each.owner for each in found if each.alive and each.owner.boot_id == pid_space()]
    return next((each.pid for each in owners if is_alive(each.pid, each.process_start)), None)


def _variables(content: bytes) -> dict[str, str]:
    pairs = (os.fsdecode(each).partition("=") for each in content.split(b"\0") if b"=" in each)
    return {name: text for name, _, text in pairs}


def _show(session: Session, plan: Plan, call: Call, inherited: Mapping[str, str]) -> int:
    from jobrunner.redact import Redactor

    redactor = Redactor(plan.secrets)
    found = _environment(plan, call, inherited)
    environment = {name: redactor.text(text) for name, text in found.items()}
    screen = session.screen()
    if session.json:
        screen.json(dict(sorted(environment.items())))
        return 0
    for name, text in sorted(environment.items()):
        screen.line(f"{name}={one_line(shlex.quote(text)) if screen.tty else shlex.quote(text)}")
    return 0


def _environment(plan: Plan, call: Call, inherited: Mapping[str, str]) -> Mapping[str, str]:
    from jobrunner.execution.environment import command_environment
    from jobrunner.execution.spawn import prepare

    pool_env = plan.pools[call.task.pool].env
    if call.task.call is not None:
        return command_environment({**inherited, **pool_env}, call)
    return prepare(call, inherited, pool_env).environment


# ---- the run ---------------------------------------------------------------------------------------------


def _run(plan: Plan, call: Call, inherited: Mapping[str, str]) -> int:
    from jobrunner.execution.foreground import run
    from jobrunner.execution.spawn import BadArguments, CouldNotStart

    sys.stdout.flush()
    try:
        over = run(call, lambda: _started(plan, call, inherited))
    except BadArguments as why:
        raise WrongArguments(str(why)) from None
    except CouldNotStart as why:
        return _refused(str(why))
    return _refused(over.refusal) if over.refusal else _exit_code(call, over)


def _started(plan: Plan, call: Call, inherited: Mapping[str, str]) -> Spawned:
    from jobrunner.execution.foreground import start_callable, start_command
    from jobrunner.execution.spawn import prepare

    pool = plan.pools[call.task.pool]
    if call.task.call is not None:
        return start_callable(call, pool, inherited, plan.pythonpath)
    return start_command(call, prepare(call, inherited, pool.env))


def _refused(why: str) -> int:
    say(f"error: could not start: {one_line(why)}")
    return COULD_NOT_START


def _exit_code(call: Call, over: Over) -> int:
    from jobrunner.durations import format_duration
    from jobrunner.execution.spawn import shell_says

    if over.asked is not None:
        return SIGNALLED + over.asked
    if over.timed_out:
        say(f"error: not done within its timeout of {format_duration(call.timeout or 0)}: ended")
        return TIMEOUT
    if over.exit.signal is not None:
        say(f"ended by {over.exit.signal}")
        return SIGNALLED + _number(over.exit.signal)
    said = shell_says(call.task, over.exit.code, over.path)
    if said:
        say(f"help: exit {over.exit.code}: {said}")
    return 1 if over.exit.code is None else over.exit.code


def _number(name: str) -> int:
    """The number of a signal by its name, the real-time ones included."""
    if name in signal.Signals.__members__:
        return signal.Signals[name].value
    return signal.SIGRTMIN + int(name.partition("+")[2] or 0)
