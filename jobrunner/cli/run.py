"""`jobrunner run`: the service."""

from __future__ import annotations

import click

from jobrunner.errors import UsageError
from jobrunner.machine import obey_as_process_one

from .command import command
from .screen import say
from .session import Session


@command("run")
@click.argument("file", required=False, type=click.Path())
@click.option("--once", is_flag=True, help="Run what is due now, then exit.")
@click.option("--drain", is_flag=True, help="Run until nothing is queued, retrying or running, then exit.")
@click.option("--no-schedule", is_flag=True, help="Run what is enqueued; no tick fires.")
@click.option("--check", is_flag=True, help="Only say what is wrong with the file.")
@click.option("--log-format", type=click.Choice(["auto", "text", "json", "journal"]), default="auto")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
@click.pass_obj
def run_command(
    session: Session,
    *,
    file: str | None,
    once: bool,
    drain: bool,
    no_schedule: bool,
    check: bool,
    log_format: str,
    log_level: str,
) -> int:
    """Run the tasks of FILE: schedules, queue, retries. SIGTERM or Ctrl-C ends it in order.

    Exit code 5: the file is invalid.
    """
    if once and drain:
        raise UsageError("--once and --drain exclude each other", help="give one of them")
    if file is not None:
        session.config = file
    if check:
        from .files import check_file

        return check_file(session, strict=False, form="text")
    if session.backend is not None:
        raise UsageError("run takes its storage from the file", help="write backend: URL into the file")
    if session.environ.get("JOBRUNNER_BACKEND"):
        say("note: JOBRUNNER_BACKEND does not count for run; with it, other commands look at another storage")
    obey_as_process_one()
    from jobrunner.serve import serve
    from jobrunner.until import Until

    until = Until.ONCE if once else Until.DRAINED if drain else Until.SIGNAL
    serve(
        session.config_file(),
        until=until,
        schedule=not no_schedule,
        log_format=log_format,
        log_level=log_level,
    )
    return 0
