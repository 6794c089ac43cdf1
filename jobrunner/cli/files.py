"""`jobrunner check`, `init` and `schema`: the file itself. `plan_of` is how other commands read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from jobrunner.durations import Micros, from_micros
from jobrunner.errors import ConfigError, JobRunnerError, StorageError
from jobrunner.model import State

from .command import command
from .session import Session

if TYPE_CHECKING:
    from jobrunner.config.compiled import Compiled
    from jobrunner.config.problems import Problem
    from jobrunner.plan import Plan
    from jobrunner.storage import TaskSummary

FEW_RUNS: Final = 3  # successes, from which on what they took is what a run usually takes
FIRST_FILE: Final = """\
# Tasks for jobrunner. Run them:     jobrunner run jobs.yaml
# In a second terminal:              jobrunner status
#                                    jobrunner enqueue hello --args '["you"]' --wait
# Check this file after an edit:     jobrunner check

# timezone: Europe/Paris             # of all schedules; without it, the machine's

defaults:
  timeout: 1h                        # an attempt that takes longer is ended

tasks:
  disk-report:
    description: How full the disk is
    command: df -h /
    schedule: every 1m               # or cron text, always in quotes: "30 2 * * *"

  hello:                             # no schedule: it runs when it is enqueued
    command: echo "hello ${1:-world}"

  nightly-cleanup:
    description: Remove what is older than a week
    shell: bash -o pipefail          # without pipefail only the last command of a pipe counts
    command: find /tmp/jobrunner-example -type f -mtime +7 -print -delete | wc -l
    schedule: "30 2 * * *"
    retries: 2                       # tries after the first one
    enabled: false                   # strike this line out once the folder is yours
"""


# ---- check -----------------------------------------------------------------------------------------------


@command("check")
@click.argument("file", required=False, type=click.Path())
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--format", "form", type=click.Choice(["text", "github"]), default="text")
@click.pass_obj
def check_command(session: Session, *, file: str | None, strict: bool, form: str) -> int:
    """Say everything that is wrong with FILE, at once; import its callables and look for its commands.

    Exit code 5: there are errors (with --strict: or warnings).
    """
    if file is not None:
        session.config = file
    return check_file(session, strict=strict, form=form)


def check_file(session: Session, *, strict: bool, form: str) -> int:
    """Report on the file that the session means; gives the exit code."""
    from jobrunner.config.compile import compile_file

    path = session.config_file()
    compiled = compile_file(
        path,
        environ=session.environ,
        importing=True,
        now=from_micros(session.now()),
        usual=lambda plan: _usual(plan, session.now()),
    )
    _write(session, path, compiled, form)
    return ConfigError.exit_code if compiled.errors or (strict and compiled.warnings) else 0


def _usual(plan: Plan, now: Micros) -> dict[str, Micros]:
    """What runs of the scheduled tasks usually take, as far as the history is known and open."""
    from jobrunner.place import storage_file
    from jobrunner.storage import open_storage

    file = storage_file(plan.backend)
    if plan.backend == "memory://" or (file is not None and not os.path.exists(file)):
        return {}
    tasks = [task.name for task in plan.tasks.values() if task.schedules]
    try:
        storage = open_storage(plan.backend, create=False)
        try:
            found = storage.overview(now, tasks=tasks).tasks
        finally:
            storage.close()
    except (StorageError, OSError):
        return {}
    return {each.task: each.typical for each in found if each.typical is not None and _is_usual(each)}


def _is_usual(summary: TaskSummary) -> bool:
    """Whether enough runs have succeeded for their median to say something."""
    return sum(state is State.SUCCEEDED for state, _ in summary.recent) >= FEW_RUNS


def _write(session: Session, path: str, compiled: Compiled, form: str) -> None:
    from jobrunner.config.compiled import check_document

    screen = session.screen()
    if session.json:
        screen.json(check_document(path, compiled))
    elif form == "github":
        for problem in compiled.problems:
            screen.line(_github(problem))
    else:
        screen.line(compiled.rendered.rstrip("\n") if compiled.problems else f"{path}: ok")


def _github(problem: Problem) -> str:
    """A workflow command of GitHub Actions; `%`, CR, LF, and in properties `:` and `,` too, are escaped."""
    place = {"file": problem.file, "line": problem.line, "col": problem.column, "title": problem.code}
    properties = ",".join(f"{name}={_escaped(str(value), ':,')}" for name, value in place.items())
    text = f"{problem.message}\n{problem.help}" if problem.help else problem.message
    return f"::{problem.severity} {properties}::{_escaped(text, '')}"


def _escaped(text: str, more: str) -> str:
    return "".join(f"%{ord(c):02X}" if c in f"%\r\n{more}" else c for c in text)


def plan_of(session: Session) -> Plan:
    """The plan of the file that the session means. Raises ConfigError with all that is wrong with it."""
    from jobrunner.config.compile import compile_file

    found = compile_file(session.config_file(), environ=session.environ)
    if found.plan is None:
        raise ConfigError(found.rendered)
    return found.plan


# ---- init, schema ----------------------------------------------------------------------------------------


@command("init")
@click.argument("file", default="jobs.yaml", type=click.Path())
@click.pass_obj
def init_command(session: Session, *, file: str) -> int:
    """Write a first FILE, commented; one that is there already is left alone."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise JobRunnerError(
            f"{file} is there already: it is left as it is", help=f"jobrunner check {file}"
        ) from None
    except OSError as error:
        raise JobRunnerError(f"cannot write {file}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(FIRST_FILE)
    if session.json:
        session.screen().json({"file": str(Path(file).absolute())})
    else:
        session.screen().line(f"wrote {file}; run it with: jobrunner run {file}")
    return 0


@command("schema")
@click.pass_obj
def schema_command(session: Session) -> int:
    """Print the JSON Schema of jobs.yaml. Editors take it: # yaml-language-server: $schema=FILE."""
    from jobrunner.config.json_schema import json_schema

    session.screen().line(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0
