"""Between a house and its records: what a write has changed, as it is after it; twice is as good as once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...catalogue import Catalogue
from ...durations import Micros
from ...model import Attempt, Edge, Run, State, Trigger
from ...plain import from_plain, to_plain
from .. import OwnerInfo, OwnerStatus, Pause, Revocation, Supervisor
from ..memory.house import House, Row, Watermark
from .journal import FORMAT

_STATE, _TRIGGER = Run._fields.index("state"), Run._fields.index("trigger")


class Scribe:
    """Knows what was written of a house, and tells what has changed since."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._facts: dict[str, object] = {}
        self._catalogue: Catalogue | None = None
        self._marks: dict[str, list[Micros | None]] = {}
        self.note()

    def note(self) -> None:
        """All that is in the house now is written."""
        self._facts, self._marks = _facts(self._house), _marks(self._house)
        self._catalogue = self._house.catalogue
        self._house.touched.clear()

    def changes(self) -> dict[str, object] | None:
        """The record of what has changed; None when nothing has."""
        house, facts = self._house, _facts(self._house)
        record = {name: value for name, value in facts.items() if value != self._facts[name]}
        if house.catalogue is not self._catalogue:
            record["catalogue"] = to_plain(house.catalogue)
        marks = _marks(house)
        moved: dict[str, object] = {key: mark for key, mark in marks.items() if self._marks.get(key) != mark}
        moved.update(dict.fromkeys(self._marks.keys() - marks.keys()))
        if moved:
            record["marks"] = moved
        if house.touched:
            record["rows"] = [_row(house, seq) for seq in sorted(house.touched)]
        return record or None

    def snapshot(self) -> dict[str, object]:
        """The record of everything."""
        house = self._house
        rows = [_row(house, seq) for seq in sorted(house.rows)]
        plain = to_plain(house.catalogue)
        facts = {**_facts(house), "marks": _marks(house)}
        return {"format": FORMAT, **facts, "catalogue": plain, "rows": rows}


def _facts(house: House) -> dict[str, object]:
    """What is small enough to be looked at with every write."""
    return {
        "pauses": [list(pause) for pause in house.pauses.values()],
        "revocations": [list(mark) for mark in house.revocations.values()],
        "starts": {task: list(used) for task, used in house.starts.items()},
        "supervisors": [_supervisor(each) for each in house.supervisors.values()],
        "version": house.control_version,
        "seq": house.last_seq,
    }


def _marks(house: House) -> dict[str, list[Micros | None]]:
    return {key: [mark.at, mark.next_at] for key, mark in house.watermarks.items()}


def _supervisor(each: Supervisor) -> list[object]:
    owner, status = list(each.owner), each.status._asdict()
    return [owner, {**status, "busy": dict(each.status.busy)}, each.heartbeat_at, each.left_at, each.alive]


def _row(house: House, seq: int) -> list[object]:
    """[seq], of a run that is gone; else all that is known of it."""
    row = house.rows.get(seq)
    if row is None:
        return [seq]
    attempts = [list(each) for each in house.attempts.get(seq, ())]
    return [
        seq,
        list(row.run),
        row.lock,
        row.cancel_reason,
        [list(edge) for edge in row.edges],
        sorted(row.extra_locks),
        attempts,
    ]


# --- back ---------------------------------------------------------------------------------------------


def take_in(house: House, record: dict[str, Any]) -> None:
    """Change the house as the record says."""
    for name, change in _CHANGES.items():
        if name in record:
            change(house, record[name])
    for given in record.get("rows", ()):
        _take_row(house, given)
    for given in record.get("rows", ()):
        if len(given) > 1:
            house.look_after(given[0])
    house.ended.clear()
    house.born.clear()
    house.touched.clear()


def _take_row(house: House, given: list[Any]) -> None:
    seq = given[0]
    if len(given) == 1:
        if seq in house.rows:
            house.let_go(house.remove(seq))
        return
    _, fields, lock, cancel_reason, edges, extra_locks, attempts = given
    fields[_STATE], fields[_TRIGGER] = State(fields[_STATE]), Trigger(fields[_TRIGGER])
    row = Row(Run._make(fields), lock, cancel_reason, extra_locks=set(extra_locks))
    house.put(seq, row, tuple(Edge(*edge) for edge in edges), [Attempt._make(each) for each in attempts])


def _take_marks(house: House, given: dict[str, list[Any] | None]) -> None:
    for key, mark in given.items():
        if mark is None:
            house.watermarks.pop(key, None)
        else:
            house.watermarks[key] = Watermark(*mark)


def _take_pauses(house: House, given: list[list[Any]]) -> None:
    house.pauses = {each[0]: Pause._make(each) for each in given}


def _take_revocations(house: House, given: list[list[Any]]) -> None:
    house.revocations = {each[0]: Revocation._make(each) for each in given}


def _take_starts(house: House, given: dict[str, list[int]]) -> None:
    house.starts = {task: (window, number) for task, (window, number) in given.items()}


def _take_supervisors(house: House, given: list[list[Any]]) -> None:
    found = [
        Supervisor(OwnerInfo._make(owner), OwnerStatus(**status), heartbeat_at, left_at, alive)
        for owner, status, heartbeat_at, left_at, alive in given
    ]
    house.supervisors = {each.owner.id: each for each in found}


def _take_catalogue(house: House, given: object) -> None:
    house.catalogue = None if given is None else from_plain(Catalogue, given)


def _take_version(house: House, given: int) -> None:
    house.control_version = given


def _take_seq(house: House, given: int) -> None:
    house.last_seq = given


_CHANGES: dict[str, Callable[[House, Any], None]] = {
    "marks": _take_marks,
    "pauses": _take_pauses,
    "revocations": _take_revocations,
    "starts": _take_starts,
    "supervisors": _take_supervisors,
    "catalogue": _take_catalogue,
    "version": _take_version,
    "seq": _take_seq,
}
