"""D20: rows that somebody else has written into the storage: 1,000 among 5,000 good ones in the full form."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from jobrunner.client import enqueue as make_run
from jobrunner.ids import new_id
from jobrunner.model import NewRun, Run, State
from jobrunner.storage import RunFilter, Storage, open_storage
from tests.drills.checker import CLOCK, MARKS, check, finished, marks
from tests.live import Project
from tests.servers import a_redis

FILE = """
backend: "{url}"
pools:
  default: {{kind: process, slots: 2}}
tasks:
  work: {{call: "marked:work"}}
  shell: {{command: "echo $1"}}
"""

DEEP = "[" * 5_000 + "]" * 5_000
POISONS = (
    "",
    " ",
    "null",
    "17",
    '"text"',
    "[]",
    "{}",
    "not json",
    '{"args":[1]',
    '{"args":[1],"kwargs":[]}',
    '{"args":{},"kwargs":{}}',
    '{"args":[],"kwargs":{"seconds":NaN}}',
    '{"args":[],"kwargs":{"seconds":1e999}}',
    '{"args":[' + "9" * 5_000 + '],"kwargs":{}}',
    f'{{"args":[{DEEP}],"kwargs":{{}}}}',
    '{"args":[],"kwargs":{"__class__":"os.system"}}',
    '{"args":[{"$type":"os.system"}],"kwargs":{}}',
    '{"args":[],"kwargs":{"self":1,"nobody":2}}',
    '{"args":["\\u0000","\\ud800"],"kwargs":{"seconds":"much"}}',
    pickle.dumps({"args": (1,)}, protocol=0).decode("latin-1"),
    "\x80\x04\x95cos\nsystem\n",
    "\n\t\r",
    "\ufeff{}",
)
OPTIONS = ("not json", "[]", '{"timeout":"much"}', '{"retries":[]}', '{"nobody":1}', "17")


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def url(request: pytest.FixtureRequest, project: Project) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{project.folder}/jobs.db"
    elif request.param == "postgres":
        yield request.getfixturevalue("postgres_url")
    else:
        with a_redis(project.folder / "redis") as server:
            yield f"{server.url}?namespace={new_id(CLOCK.now())}"


def poisoned(good: NewRun, chance: random.Random) -> NewRun:
    """A row of which something cannot be right."""
    if chance.random() < 0.2:
        return good._replace(options=chance.choice(OPTIONS))
    payload = chance.choice(POISONS)
    return good._replace(payload=payload)


def stored(storage: Storage, runs: Sequence[NewRun]) -> list[str]:
    """Add them, a hundred at a time; their ids."""
    for place in range(0, len(runs), 100):
        assert all(storage.add(runs[place : place + 100]))
    return [run.id for run in runs]


@pytest.mark.drill
def test_poisoned_rows_are_quarantined_and_the_others_run(
    project: Project, url: str, full_drills: bool
) -> None:  # security S1, S2
    bad, good = (1_000, 5_000) if full_drills else (60, 150)
    seed = random.randrange(2**32)
    print(f"seed {seed}, {url}")
    chance = random.Random(seed)
    project.write(MARKS, "marked.py")
    project.write(FILE.format(url=url))
    supervisor = project.start()
    with closing(open_storage(url, create=False)) as storage:
        entry = storage.entry("work")
        assert entry is not None
        now = CLOCK.now()
        sound = [make_run(entry, run_id=new_id(now), now=now, kwargs={}) for _ in range(good)]
        spoilt = [poisoned(run._replace(id=new_id(now)), chance) for run in sound[:1] * bad]
        mixed = [*sound, *spoilt]
        chance.shuffle(mixed)
        stored(storage, mixed)
        final = finished(storage, [run.id for run in sound])
        ended = {run.id: run for run in finished(storage, [run.id for run in spoilt])}
        shown = {run.id for run in storage.runs(RunFilter(states=(State.FAILED,), limit=bad + 10))}
    verdict = check([run.id for run in sound], final, [m for m in marks(project) if m.run_id not in ended])
    print(f"{sum(run.state is State.SUCCEEDED for run in final)} of {good} good ones succeeded;", told(ended))
    assert (verdict.lost, verdict.unexpected, verdict.repeated) == (set(), set(), 0)
    failed = {run_id for run_id, run in ended.items() if run.state is State.FAILED}
    assert failed <= shown  # visible
    assert all(ended[run_id].error for run_id in failed)
    for run in spoilt:
        if ended[run.id].state is not State.FAILED:
            assert is_harmless(run), (run, ended[run.id])
    assert "Traceback" not in supervisor.log()
    assert supervisor.stop() == 0


def is_harmless(run: NewRun) -> bool:
    """Whether what was thought a poison is a call like others: no arguments, or options without effect."""
    try:
        payload, options = json.loads(run.payload), json.loads(run.options or "{}")
    except ValueError:
        return False
    return payload in ({}, {"args": [], "kwargs": {}}) and isinstance(options, dict)


def told(ended: dict[str, Run]) -> dict[str, int]:
    """How often each outcome was recorded."""
    outcomes: dict[str, int] = {}
    for run in ended.values():
        outcomes[run.outcome or run.state] = outcomes.get(run.outcome or run.state, 0) + 1
    return outcomes
