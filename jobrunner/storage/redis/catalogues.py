"""Catalogues as they lie in Redis: for each owner a head, and an entry for each task; merged when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from ...catalogue import Catalogue, Entry
from ...plain import from_plain, to_plain
from ..published import NOTHING, Published
from ..published import published as of_text


def entries_of(catalogue: Catalogue) -> list[str]:
    """Names and values of its hash."""
    plain = to_plain(catalogue)
    head = (
        {name: value for name, value in plain.items() if name != "tasks"} if isinstance(plain, dict) else {}
    )
    found = ["head", json.dumps({**head, "order": list(catalogue.tasks)})]
    for name, entry in catalogue.tasks.items():
        found += (f"task {name}", json.dumps(to_plain(entry)))
    return found


def digest_of(entries: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(entries)).encode()).hexdigest()


def merged(found: Sequence[Sequence[str]]) -> Catalogue | None:
    """What all of the catalogues know; where two know a task, the one published last is right."""
    catalogues = [each for flat in found if (each := _catalogue(flat)) is not None]
    if not catalogues:
        return None
    newest = catalogues[0]
    tasks: dict[str, Entry] = {}
    for each in reversed(catalogues):
        tasks.update(each.tasks)
    if len(catalogues) == 1:
        return newest
    schedules = dict.fromkeys(key for each in catalogues for key in each.schedules)
    pools = {pool.name: pool for each in reversed(catalogues) for pool in each.pools}
    return replace(newest, tasks=tasks, schedules=tuple(schedules), pools=tuple(pools.values()))


def _catalogue(flat: Sequence[str]) -> Catalogue | None:
    kept = dict(zip(flat[::2], flat[1::2], strict=True))
    if "head" not in kept:
        return None
    head = json.loads(kept["head"])
    tasks = {name: json.loads(kept[f"task {name}"]) for name in head.pop("order")}
    return from_plain(Catalogue, {**head, "tasks": tasks})


def published(found: Sequence[str] | None) -> Published:
    """Of the text of an entry, and its mark."""
    return NOTHING if found is None else of_text(found[0])._replace(mark=found[1])
