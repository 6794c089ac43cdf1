"""The pipelines under way that somebody is told of: looked for now and then, for no step may ever begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .durations import SECOND, Micros
from .loop import EventLoop
from .model import Run, State
from .notify.whole import is_root
from .service import Service
from .storage import RunFilter, Storage

LOOK: Micros = 10 * SECOND
MOST = 10_000  # waiting rows, in one look: an index holds them, however long the history is


class Roots:
    """Tells of every root of these pipelines that is not final; the same ones again and again."""

    def __init__(
        self, loop: EventLoop, names: Callable[[], Sequence[str]], found: Callable[[list[Run]], None]
    ) -> None:
        self._loop = loop
        self._names = names
        self._found = found
        self._is_looking = False

    def watch(self, storage: Storage, service: Service) -> None:
        """Look from now on, as long as there are such pipelines; looking twice is looking once."""
        if not self._is_looking and self._names():
            self._is_looking = True
            self._look(storage, service)

    def _look(self, storage: Storage, service: Service) -> None:
        names = frozenset(self._names())
        if not names:
            self._is_looking = False
            return
        which = RunFilter(states=(State.WAITING,), limit=MOST)

        def later() -> None:
            self._loop.after(LOOK, lambda: self._look(storage, service))

        def found(runs: list[Run]) -> None:
            self._found([run for run in runs if run.task in names and is_root(run)])
            later()

        service.ask(lambda: storage.runs(which), found, lambda _error: later())
