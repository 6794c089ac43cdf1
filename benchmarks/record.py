"""The results on disk: the record of the last full run, and what the run under way has so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, Outcome

Key = tuple[str, str]


def key_of(outcome: Outcome) -> Key:
    return outcome.target, outcome.name


@dataclass(slots=True)
class Record:
    """Outcomes by contest, and what they were measured on."""

    machine: dict[str, str] = field(default_factory=dict)
    outcomes: dict[Key, Outcome] = field(default_factory=dict)

    def merged(self, newer: Record, order: Sequence[Key]) -> Record:
        """This record with what the newer one measured again, in this order; contests that are gone leave."""
        both = {**self.outcomes, **newer.outcomes}
        return Record(newer.machine, {key: both[key] for key in order if key in both})


def save(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    plain = {"machine": record.machine, "outcomes": [asdict(each) for each in record.outcomes.values()]}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(plain, indent=1) + "\n")
    beside.replace(path)


def load(path: Path) -> Record:
    """The record that `save` wrote; an empty one where there is none."""
    if not path.exists():
        return Record()
    plain = json.loads(path.read_text())
    found = [_outcome_of(each) for each in plain["outcomes"]]
    return Record(plain["machine"], {key_of(each): each for each in found})


def resumed(path: Path, machine: Mapping[str, str]) -> Record:
    """What a run that was cut short has measured, of the same sources on the same machine; or nothing."""
    found = load(path)
    return found if found.machine == machine else Record(dict(machine))


def _outcome_of(plain: dict[str, Any]) -> Outcome:
    figures = tuple(Figures(**{**each, "values": tuple(each["values"])}) for each in plain["figures"])
    return Outcome(**{**plain, "figures": figures, "behind": tuple(plain["behind"])})
