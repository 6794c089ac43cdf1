"""What all commands share: the global options, and how names of tasks and runs are completed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click
from click.types import StringParamType

from jobrunner.errors import JobRunnerError

from .session import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SETTINGS: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"]}
_MOST_RUNS: Final = 50


class Command(click.Command):
    """A command that takes the global options behind its name as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"context_settings": SETTINGS, **kwargs})
        self.params += global_options()


def command(name: str) -> Callable[[Callable[..., object]], Command]:
    """Makes a function a command of this name; its docstring is the help."""
    return click.command(name, cls=Command)


def global_options() -> list[click.Parameter]:
    """New options each time: click ties a parameter to its command."""
    return [
        _global(["-c", "--config"], metavar="FILE", help="The jobs.yaml; else the nearest one upwards."),
        _global(["--backend"], metavar="URL", help="The storage itself, without a file."),
        _global(["--color"], type=click.Choice(["auto", "always", "never"]), help="When to use colours."),
        _global(["--json"], is_flag=True, help="Answer with one JSON document."),
    ]


def _global(names: list[str], **settings: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=_remember, **settings)


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """They may stand before the command or behind it; one that is not given changes nothing."""
    if value and param.name:
        setattr(ctx.ensure_object(Session), param.name, value)


# ---- completion ------------------------------------------------------------------------------------------


class TaskName(StringParamType):
    """The name of a task."""

    name = "task"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - as click calls it
        incomplete: str,
    ) -> list[CompletionItem]:
        return [item for item in _task_items(ctx) if str(item.value).startswith(incomplete)]


class RunId(StringParamType):
    """The id of a run, or a unique beginning or ending of one."""

    name = "run"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - as click calls it
        incomplete: str,
    ) -> list[CompletionItem]:
        return _run_items(ctx, incomplete)


class TaskOrRun(StringParamType):
    """A task or one of the latest runs."""

    name = "task or run"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - as click calls it
        incomplete: str,
    ) -> list[CompletionItem]:
        tasks = [item for item in _task_items(ctx) if str(item.value).startswith(incomplete)]
        return [*tasks, *_run_items(ctx, incomplete)]


TASK: Final = TaskName()
RUN: Final = RunId()
TASK_OR_RUN: Final = TaskOrRun()


def _task_items(ctx: click.Context) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    catalogue = _ask(ctx, lambda session: session.published())
    tasks = catalogue.tasks.values() if catalogue else ()
    return [CompletionItem(each.name, help=each.description) for each in tasks]


def _run_items(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Endings are shown, since they tell runs apart; the beginning of a whole id is completed too."""
    from click.shell_completion import CompletionItem

    from jobrunner.ids import short_id
    from jobrunner.storage import RunFilter

    runs = _ask(ctx, lambda session: session.storage().runs(RunFilter(limit=_MOST_RUNS)))
    found: list[CompletionItem] = []
    for run in runs or ():
        shown = next((each for each in (short_id(run.id), run.id) if each.startswith(incomplete)), None)
        if shown is not None:
            found.append(CompletionItem(shown, help=f"{run.task} {run.state.value}"))
    return found


def _ask(ctx: click.Context, question: Callable[[Session], Any]) -> Any:
    """A completion that cannot be answered is no completion: whoever presses Tab wants no error text."""
    try:
        return question(ctx.ensure_object(Session))
    except (JobRunnerError, OSError):
        return None
