"""Adds runs, by the storage or within a transaction of the caller's, and finds whose run a unique key is.

What was published about a task when a run of it was last added is kept: the next one is made by it, and the
storage adds that if it still holds. So an enqueue is one call, and goes by nothing that is no longer so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ..catalogue import Entry
from ..errors import JobRunnerError, NotFound, StorageUnavailable, UsageError
from ..model import NewRun
from ..storage import ClientStorage, RunFilter
from ..storage.published import Published
from .options import Terms

MOST_TRIES = 5  # for a key that is held when the run is added, and free when its holder is looked for;
# and for a task whose definition is another one each time

Making = Callable[[Callable[[str], Entry | None]], Sequence[NewRun]]  # from what is published to runs


class Added(NamedTuple):
    """The run that an enqueue stands for."""

    id: str
    is_new: bool  # False: it was there already


def connection_of(terms: Iterable[Terms]) -> Any:
    """The caller's connection in whose transaction calls are enqueued: that of all, or of none."""
    given = {id(each.connection): each.connection for each in terms}
    if len(given) > 1:
        raise UsageError("connection: calls of one write have the same one, or none", help="make two writes")
    return next(iter(given.values()), None)


class Definitions:
    """What was published about tasks when runs of theirs were last added; for several threads."""

    def __init__(self) -> None:
        self._kept: dict[str, Published] = {}

    def add(self, storage: ClientStorage, make: Making) -> tuple[Sequence[NewRun], list[bool]]:
        """Make runs by what is published, and add them; made anew when something else is published by then.

        Raises StorageUnavailable when it is so each time.
        """
        kept: Mapping[str, Published] = self._kept
        for _ in range(MOST_TRIES):
            look = _Look(storage, kept)
            kept = {}
            try:
                runs = make(look)
            except JobRunnerError:
                if look.is_fresh:
                    raise
                continue  # perhaps it is right by what is published now
            added = storage.add_if(runs, look.marks)
            if added is not None:
                if not look.is_kept:
                    self._kept.update(look.found)
                return runs, added
        raise StorageUnavailable("what is published about a task changes all the time", help="try again")


class _Look:
    """Looks up what is published about tasks, each once: among what was kept, else in the storage."""

    def __init__(self, storage: ClientStorage, kept: Mapping[str, Published]) -> None:
        self._storage = storage
        self._kept = kept
        self.found: dict[str, Published] = {}
        self.is_fresh = True  # nothing that was kept was found
        self.is_kept = True  # nothing else was

    def __call__(self, task: str) -> Entry | None:
        found = self.found.get(task)
        if found is None:
            found = self.found[task] = self._look(task)
        return found.entry

    def _look(self, task: str) -> Published:
        kept = self._kept.get(task)
        if kept is None:
            self.is_kept = False
            return self._storage.published(task)
        self.is_fresh = False
        return kept

    @property
    def marks(self) -> dict[str, str]:
        return {task: each.mark for task, each in self.found.items()}


class Place(Protocol):
    """Where runs are added."""

    def add(self, runs: Sequence[NewRun]) -> list[bool]: ...

    def holder(self, unique: str) -> str | None:
        """The id of the unfinished run that holds the key."""
        ...

    def has(self, run_id: str) -> bool: ...


class InStorage:
    """The storage itself: each add is a write of its own."""

    def __init__(self, storage: ClientStorage) -> None:
        self._storage = storage

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        return self._storage.add(runs)

    def holder(self, unique: str) -> str | None:
        return next((run.id for run in self._storage.runs(RunFilter(unique=unique, limit=1))), None)

    def has(self, run_id: str) -> bool:
        try:
            self._storage.run(run_id)
        except NotFound:
            return False
        return True


class InTransaction:
    """A transaction of the caller's: nothing is asked, or added, anywhere else."""

    def __init__(self, storage: ClientStorage, connection: Any) -> None:
        """Raises UsageError for a storage that takes no connection."""
        if not hasattr(storage, "add_on"):
            scheme = storage.url.partition(":")[0]
            raise UsageError(f"{scheme} takes no connection of a caller", help="postgresql:// does")
        self._storage: Any = storage
        self._connection = connection

    def add(self, runs: Sequence[NewRun]) -> list[bool]:
        return list(self._storage.add_on(self._connection, runs))

    def holder(self, unique: str) -> str | None:
        found: str | None = self._storage.holder_on(self._connection, unique)
        return found

    def has(self, run_id: str) -> bool:  # noqa: ARG002 - no answer of this connection is lost unseen
        return False


def standing(place: Place, runs: Sequence[NewRun], added: Sequence[bool]) -> list[Added]:
    """The run that each of these stands for, now that it was added or refused. Raises StorageUnavailable."""
    return [
        Added(run.id, is_new=is_new) if is_new or run.unique is None else _holder(place, runs[number:])
        for number, (run, is_new) in enumerate(zip(runs, added, strict=True))
    ]


def _holder(place: Place, refused: Sequence[NewRun]) -> Added:
    """Who holds the key of the first one; it is added again, its pipeline too, when nobody does any more."""
    run = refused[0]
    family = [run, *(each for each in refused[1:] if each.pipeline == run.id)]
    for _ in range(MOST_TRIES):
        held = place.holder(run.unique or "")
        if held is not None:
            return Added(held, is_new=False)
        if place.add(family)[0]:
            return Added(run.id, is_new=True)
        if place.has(run.id):  # an earlier try, whose answer was lost, has added it, and it is over
            return Added(run.id, is_new=False)
    raise StorageUnavailable(f"the unique key {run.unique!r} changes hands all the time", help="try again")
