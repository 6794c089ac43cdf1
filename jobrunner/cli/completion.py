"""`jobrunner completion`: what a shell needs to complete commands, task names and run ids."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from .command import command
from .session import Session

SHELLS: Final = ("bash", "zsh", "fish")


@command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_obj
def completion_command(session: Session, *, shell: str) -> int:
    """Print the completion script of a SHELL.

    \b
    eval "$(jobrunner completion bash)"      in ~/.bashrc
    eval "$(jobrunner completion zsh)"       in ~/.zshrc, after compinit
    jobrunner completion fish | source       in ~/.config/fish/config.fish
    """
    from . import COMPLETE, PROGRAM
    from .root import ROOT

    found = get_completion_class(shell)
    assert found is not None  # the three shells of SHELLS are click's own
    script = found(ROOT, {}, PROGRAM, COMPLETE).source()
    screen = session.screen()
    if session.json:
        screen.json({"shell": shell, "script": script})
    else:
        screen.line(script)
    return 0
