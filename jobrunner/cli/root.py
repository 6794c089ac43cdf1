"""The command `jobrunner`: its commands, each loaded when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final, NamedTuple

import click

from .command import SETTINGS, global_options


class Door(NamedTuple):
    """Where a command lives, and what the list of commands says of it."""

    module: str
    words: str


SECTIONS: Final[Mapping[str, Mapping[str, Door]]] = {
    "Every day": {
        "run": Door("run", "Run the tasks of a jobs.yaml: the service."),
        "enqueue": Door("enqueue", "Run a task, now or later."),
        "status": Door("status", "Is it running, what runs, what failed, what is next."),
        "exec": Door("execute", "Run a task once, here, in this terminal."),
    },
    "Look": {
        "list": Door("tasks", "List the tasks."),
        "show": Door("show", "Show a task's settings, or a run and its attempts."),
        "next": Door("next", "Show the next ticks of tasks or of a cron expression."),
        "history": Door("runs", "List runs, newest first."),
        "logs": Door("logs", "Show captured output."),
        "why": Door("why", "Say why a task ran, did not run, or has not run yet."),
    },
    "Intervene": {
        "cancel": Door("intervene", "End runs, or take them out of the queue."),
        "retry": Door("intervene", "Run failed runs again."),
        "pause": Door("pausing", "Hold back a task, a pool or everything."),
        "resume": Door("pausing", "End a pause."),
        "revoke": Door("revoking", "Cancel what would start: of a task, or a run."),
        "restore": Door("revoking", "End a revocation."),
        "notify": Door("notify", "Send a notification, to see that it arrives."),
        "reload": Door("reload", "Put what the file says now in force."),
        "prune": Door("prune", "Remove old runs now."),
        "migrate-storage": Door("migrate_storage", "Move all runs into another storage."),
    },
    "Files": {
        "check": Door("files", "Say everything that is wrong with a jobs.yaml."),
        "init": Door("files", "Write a first jobs.yaml."),
        "import-crontab": Door("import_crontab", "Turn a crontab into a jobs.yaml."),
        "schema": Door("files", "Print the JSON Schema of jobs.yaml, for editors."),
        "doctor": Door("doctor", "Look for what keeps this installation from working well."),
        "systemd": Door("systemd", "Print a systemd unit for a jobs.yaml."),
        "completion": Door("completion", "Print the completion script of a shell."),
    },
}
DOORS: Final = {name: door for section in SECTIONS.values() for name, door in section.items()}


class Root(click.Group):
    """The group: it knows its commands by name without importing any of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        return list(DOORS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        door = DOORS.get(cmd_name)
        if door is None:
            return None
        module = import_module(f".{door.module}", __package__)
        found: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in DOORS and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, DOORS, n=2)
            hint = f" Did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, doors in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(14), door.words) for name, door in doors.items()])


def _help_on_nothing(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def _show_version(ctx: click.Context, _param: click.Parameter, asked: object) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"jobrunner {version('jobrunner')}")
        ctx.exit()


ROOT: Final = Root(
    "jobrunner",
    help="Crontab's successor and a task queue in one YAML file.",
    context_settings=SETTINGS,
    params=[
        *global_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        ),
    ],
    invoke_without_command=True,
    callback=click.pass_context(_help_on_nothing),
    epilog="jobrunner COMMAND --help says more.",
)
