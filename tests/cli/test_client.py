"""Which run an enqueue or a retry makes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from jobrunner.catalogue import Entry, entry_of
from jobrunner.client import ARGUMENT_LIMIT, enqueue, forced_entry, retry, unknown_task
from jobrunner.codec import decode_arguments
from jobrunner.durations import MINUTE
from jobrunner.errors import UsageError, WrongArguments
from jobrunner.model import NewRun, State, Trigger
from jobrunner.plan import LockUse, Retries
from tests.builders import NOON, a_callable, a_task
from tests.cli.desk import a_final_run

RUN_ID = "01930000-0000-7000-8000-00000000000a"


def a_call(**changes: Any) -> Entry:
    return entry_of(a_callable("resize", **changes))


def a_command(**changes: Any) -> Entry:
    return entry_of(a_task("backup", **changes))


def enqueued(entry: Entry, **changes: Any) -> NewRun:
    return enqueue(entry, run_id=RUN_ID, now=NOON, **changes)


def test_an_enqueue_replaces_the_arguments_and_merges_the_keywords() -> None:
    entry = a_call(args=(1, 2), kwargs={"width": 800, "height": 600})
    assert decode_arguments(enqueued(entry).payload) == ([1, 2], {"width": 800, "height": 600})
    given = enqueued(entry, args=[3], kwargs={"width": 9})
    assert decode_arguments(given.payload) == ([3], {"width": 9, "height": 600})
    assert decode_arguments(enqueued(entry, args=[]).payload)[0] == []


def test_a_run_is_queued_now_or_scheduled_for_later_and_its_patience_counts_from_then() -> None:  # rule 19
    entry = a_call(expires=MINUTE)
    now, later = enqueued(entry), enqueued(entry, due_at=NOON + MINUTE, expires=2 * MINUTE)
    assert (now.state, now.due_at, now.expires_at) == (State.QUEUED, NOON, NOON + MINUTE)
    assert (later.state, later.due_at, later.expires_at) == (
        State.SCHEDULED,
        NOON + MINUTE,
        NOON + 3 * MINUTE,
    )


def test_a_moment_that_is_over_means_now() -> None:
    assert enqueued(a_call(), due_at=NOON - MINUTE).due_at == NOON


def test_priority_lane_and_policy_are_the_tasks_own_unless_said_otherwise() -> None:
    entry = a_call(priority=3, lock=LockUse(name="database"), on_interrupt="fail")
    run = enqueued(entry)
    assert (run.priority, run.lane, run.trigger) == (3, "task:resize", Trigger.ENQUEUE)
    assert json.loads(run.policy or "") == {"on_interrupt": "fail"}
    assert enqueued(entry, priority=0).priority == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"args": [1, 2, 3]}, "3 positional arguments for 2 of resize"),
        ({"kwargs": {"imagee": 1}}, "resize has no argument 'imagee'"),
        ({"args": [1], "kwargs": {"image": 1}}, "argument 'image' of resize is given twice"),
    ],
)
def test_arguments_that_do_not_fit_the_parameters_are_a_type_error(given: dict[str, Any], said: str) -> None:
    entry = replace(a_call(), parameters=("image", "width"))
    with pytest.raises(TypeError, match=said) as refused:
        enqueued(entry, **given)
    assert isinstance(refused.value, WrongArguments)
    assert "image" in refused.value.help


def test_unknown_parameters_let_everything_pass() -> None:
    assert enqueued(a_call(), args=[1, 2, 3], kwargs={"anything": None})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"args": ["a\0b"]}, "argument 1 of backup holds a NUL"),
        ({"args": ["ok", "x" * ARGUMENT_LIMIT]}, "argument 2 of backup has 131073 bytes"),
        ({"kwargs": {"name": "x" * (ARGUMENT_LIMIT - 10)}}, "argument 'name' of backup has"),
        ({"args": [["x" * ARGUMENT_LIMIT]]}, "argument 1 of backup has"),
        ({"kwargs": {"a b": 1}}, "'a b' cannot become an environment variable"),
        ({"kwargs": {"a-b": 1, "A_B": 2}}, "'A_B' and 'a-b' of backup would both be JOBRUNNER_ARG_A_B"),
    ],
)
def test_what_no_command_can_be_given_is_refused_at_once(given: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongArguments, match=said):
        enqueued(a_command(), **given)


def test_the_largest_argument_that_a_command_can_be_given_passes() -> None:
    assert enqueued(a_command(), args=["x" * (ARGUMENT_LIMIT - 1)])


def test_a_forced_task_waits_in_a_lane_of_its_own() -> None:
    assert enqueued(forced_entry("later")).lane == "task:later"
    with pytest.raises(UsageError, match="cannot be the name"):
        forced_entry("../../etc")


def test_an_unknown_task_comes_with_the_nearest_names() -> None:  # rule 20
    assert unknown_task("bakcup", ["backup", "resize"]).help == "did you mean 'backup'?"
    assert unknown_task("zzz", ["b", "a"]).help == "known tasks: a, b"
    assert unknown_task("zzz", []).help == ""


def test_a_retry_is_a_new_run_with_the_same_arguments() -> None:
    failed = a_final_run(task="resize", payload='{"args":[7],"kwargs":{}}', priority=4)
    again = retry(a_call(retries=Retries(max=2)), failed, run_id=RUN_ID, now=NOON + MINUTE)
    assert (again.id, again.trigger, again.payload, again.priority) == (
        RUN_ID,
        Trigger.RETRY,
        failed.payload,
        4,
    )
    assert json.loads(again.detail or "") == {"retry_of": failed.id}


def test_a_live_run_is_not_retried() -> None:
    live = a_final_run()._replace(state=State.RUNNING, finished_at=None)
    with pytest.raises(UsageError, match="is running: only a final run is retried"):
        retry(a_call(), live, run_id=RUN_ID, now=NOON)
