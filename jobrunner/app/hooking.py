"""The part of a JobRunner that asks to be called: hooks of workers and attempts, receivers of signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from ..errors import UsageError
from ..hooks import After, Before, Hooks, Receiver, Signal, register

F = TypeVar("F", bound=Callable[[], object])


class Hooking:
    """Hooks and receivers by decorator; this process' workers call them."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        register(self.hooks)

    def on_startup(self, hook: F, /) -> F:
        """Call this at the start of each worker that imports this module."""
        self.hooks.startup.append(hook)
        return hook

    def on_shutdown(self, hook: F, /) -> F:
        """Call this at the orderly end of each worker; the last one given first."""
        self.hooks.shutdown.append(hook)
        return hook

    def pre_execute(self, hook: Before, /) -> Before:
        """Call this with the CurrentRun before each attempt; CancelRun, raised by it, ends the run."""
        self.hooks.before.append(hook)
        return hook

    def post_execute(self, hook: After, /) -> After:
        """Call this with the CurrentRun, the result and the exception (or None) after each attempt."""
        self.hooks.after.append(hook)
        return hook

    def signal(self, *signals: str) -> Callable[[Receiver], Receiver]:
        """Call a function with a Notice for these signals; for all of them when none is named.

        What it raises is reported, and hurts neither the run nor the other receivers.
        """
        wanted = [_signal(each) for each in signals]

        def connect(receiver: Receiver) -> Receiver:
            self.hooks.listen(receiver, wanted)
            return receiver

        return connect

    def disconnect(self, function: Callable[..., object], *signals: str) -> bool:
        """Forget a hook, or a receiver for these signals (all of them when none is named). False: unknown."""
        found = self.hooks.disconnect(function, [_signal(each) for each in signals])
        for kind in (self.hooks.startup, self.hooks.shutdown, self.hooks.before, self.hooks.after):
            listed = cast("list[Callable[..., object]]", kind)
            while not signals and function in listed:
                listed.remove(function)
                found = True
        return found


def _signal(name: str) -> Signal:
    try:
        return Signal(name)
    except ValueError:
        known = ", ".join(each.value for each in Signal)
        raise UsageError(f"there is no signal {name!r}", help=f"signals: {known}") from None
