"""What a task asks of the storage arrives as it was sent, and so does the answer."""

from __future__ import annotations

import json

import pytest

from jobrunner.catalogue import Catalogue, Entry, PoolEntry
from jobrunner.errors import AmbiguousRun, NotFound, StorageError, StorageUnavailable
from jobrunner.model import NewRun, State, Trigger
from jobrunner.storage import DayStats, Overview, Pause, RunFilter, TaskSummary
from jobrunner.storage.messages import answer_of, answer_text, asked, call_text, error_text

RUN = NewRun(
    id="run-1",
    task="add",
    state=State.QUEUED,
    trigger=Trigger.ENQUEUE,
    lane="pool:default",
    pool="default",
    due_at=1,
    created_at=2,
    payload='{"args":["\\ttab\\n"],"kwargs":{}}',
)
PAUSE = Pause(target="task:add", since=1, until=None, by="ana", reason="lunch")
CATALOGUE = Catalogue(
    file="/srv/jobs.yaml",
    hash="h",
    timezone="Europe/Paris",
    tasks={"add": Entry(name="add", kind="call", pool="default", lane="pool:default", parameters=("a", "b"))},
    pools=(PoolEntry(name="default", kind="process", slots=2),),
    schedules=("add: daily",),
)


def test_a_call_arrives_as_it_was_made() -> None:
    assert asked(call_text("add", [RUN, RUN])).kwargs == {"runs": [RUN, RUN]}
    assert asked(call_text("pause", PAUSE)).kwargs == {"pause": PAUSE}
    which = RunFilter(tasks=("add",), states=(State.FAILED, State.QUEUED), limit=7)
    assert asked(call_text("runs", which)).kwargs == {"which": which}
    assert asked(call_text("wait", "run-1", 1.5)).kwargs == {"run_id": "run-1", "timeout": 1.5}
    assert asked(call_text("cancel", ["a"], 5, reason="revoked")).kwargs == {
        "run_ids": ["a"],
        "now": 5,
        "reason": "revoked",
    }
    assert asked(call_text("acquire", "database", None)).args == ["database", None]


def test_an_answer_arrives_as_it_was_given() -> None:
    summary = TaskSummary("add", 1, 0, None, None, None, recent=((State.SUCCEEDED, 0), (State.FAILED, 2)))
    overview = Overview({State.QUEUED: 3}, None, DayStats(1, 2, 3), 4096, (summary,))
    assert answer_of("overview", answer_text(overview)) == overview
    assert answer_of("catalogue", answer_text(CATALOGUE)) == CATALOGUE
    assert answer_of("catalogue", answer_text(None)) is None
    assert answer_of("pauses", answer_text([PAUSE])) == [PAUSE]
    assert answer_of("add", answer_text([True, False])) == [True, False]
    assert answer_of("next_ticks", answer_text({"add: daily": None, "b": 5})) == {"add: daily": None, "b": 5}


@pytest.mark.parametrize("kind", [NotFound, AmbiguousRun, StorageUnavailable])
def test_an_error_is_raised_again_with_its_help(kind: type[NotFound]) -> None:
    with pytest.raises(kind, match="no such thing") as caught:
        answer_of("run", error_text(kind("no such thing", help="look elsewhere")))
    assert type(caught.value) is kind
    assert caught.value.help == "look elsewhere"


def test_an_error_of_somebody_else_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="ZeroDivisionError: division by zero"):
        answer_of("run", error_text(ZeroDivisionError("division by zero")))


# security S13: a task asks for what clients may do, and for nothing more
@pytest.mark.parametrize("name", ["exchange", "settle", "enter", "prune", "publish", "close", "url"])
def test_what_is_not_for_clients_is_not_asked(name: str) -> None:
    with pytest.raises(ValueError, match="no task may ask"):
        asked(json.dumps([name, [], {}]))


@pytest.mark.parametrize("text", ["", "x", "{}", '["run"]', '["run", [], {}]', '["add", [[["run-1"]]], {}]'])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        asked(text)
