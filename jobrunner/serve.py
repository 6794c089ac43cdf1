"""The door behind `jobrunner run`: compile the file in a child, then supervise."""

from __future__ import annotations

import gc
import os
import signal
from importlib import import_module

from .clock import SystemClock
from .config.child import compile_in_child
from .errors import ConfigError, OwnerLost
from .systemd import Notifier
from .until import Until

_YOUNG = 20_000  # objects: a run is about a dozen, all of them freed by their reference counts


def serve(
    path: str,
    *,
    until: Until = Until.SIGNAL,
    schedule: bool = True,
    log_format: str = "auto",
    log_level: str = "info",
) -> None:
    """Run this file until a signal, or until the work asked for is done.

    Raises ConfigError with every problem of the file, StorageRefused when its storage cannot be used.
    """
    for early in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(early, _nothing_yet)  # unasked they would end what is about to start
    notifier = Notifier.taken_from(os.environ)
    compiled = compile_in_child(path, meanwhile=_import_the_rest)
    if compiled.plan is None:
        raise ConfigError(compiled.rendered)
    from .config.source import FileSource
    from .logs import stderr_log
    from .supervisor import Supervisor

    plan = compiled.plan
    clock = SystemClock()
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # What the supervisor gives back at its end: one more signal then must not spoil an orderly exit.
        signal.signal(number, lambda number, _frame: asked.append(number))
    log = stderr_log(clock, form=log_format, level=log_level, zone=plan.timezone, secrets=plan.secrets)
    _collect_seldom()
    former = None
    while not asked:
        supervisor = Supervisor(
            plan,
            emit=log.emit,
            clock=clock,
            until=until,
            schedule=schedule,
            notifier=notifier,
            source=FileSource(path, hide=log.hide),
            former=former,
        )
        try:
            supervisor.run()
            break
        except OwnerLost:
            if supervisor.follower is None:
                raise
            former = supervisor.follower  # semantics 33: it goes on under a new owner id
            plan = former.plan
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the interpreter's own end gives handlers back


def _nothing_yet(_number: int, _frame: object) -> None:
    """There is nothing to reload. A handler, since what is ignored would be so in every child."""


def _import_the_rest() -> None:
    """While a child reads the file: on a second core this takes no time."""
    for name in (".config.source", ".logs", ".supervisor"):
        import_module(name, __package__)


def _collect_seldom() -> None:
    """Let the garbage collector pass over what stays: else it takes a fifth of the loop's time."""
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
