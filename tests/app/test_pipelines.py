"""Pipelines in Python, executed in the caller by the real loops: what goes where, and what a failure does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from jobrunner import (
    CancelRun,
    JobRunner,
    NotFound,
    ResultTimeout,
    RunCancelled,
    RunHandle,
    State,
    TaskFailed,
    UsageError,
    WrongArguments,
    chain,
    chord,
    current_run,
    group,
)


class Tasks:
    """The tasks of these tests, on a JobRunner of their own."""

    def __init__(self) -> None:  # noqa: C901 - a list of tasks
        self.jobs = jobs = JobRunner(immediate=True)
        self.calls: list[object] = []

        @jobs.task
        def add(a: int, b: int) -> int:
            return a + b

        @jobs.task
        def fib(a: int, b: int) -> tuple[int, int]:
            return a + b, a

        @jobs.task
        def echo(*values: Any, **named: Any) -> Any:
            self.calls.append((values, named))
            return values[0] if len(values) == 1 and not named else (list(values), named)

        @jobs.task
        def give(value: Any) -> Any:
            return value

        @jobs.task
        def collect(values: list[Any]) -> list[Any]:
            return values

        @jobs.task
        def total(values: list[int], extra: int = 0) -> int:
            return sum(values) + extra

        @jobs.task
        def fail(*_values: Any) -> None:
            raise ValueError("no such colour")

        @jobs.task
        def tell(*values: Any) -> None:
            cause = current_run().cause
            self.calls.append((values, cause and (cause.task, cause.reason)))

        @jobs.task(retries=2, retry_delay="1h")
        def flaky(value: int) -> int:
            if current_run().attempt < 3:
                raise ConnectionError
            return value

        @jobs.task
        def give_up(value: Any = None) -> None:
            raise CancelRun("no use", retry=False)

        self.add, self.fib, self.echo, self.give = add, fib, echo, give
        self.collect, self.total, self.fail, self.tell = collect, total, fail, tell
        self.flaky, self.give_up = flaky, give_up


@pytest.fixture
def on() -> Iterator[Tasks]:
    made = Tasks()
    yield made
    made.jobs.close()


def states(handle: RunHandle[Any]) -> dict[str, str]:
    return {str(each.step): each.state.value for each in handle.steps()}


# ---- data ------------------------------------------------------------------------------------------------


def test_a_tuple_extends_the_arguments_of_the_next_step(on: Tasks) -> None:
    handle = on.jobs.enqueue(on.fib.s(1, 1).then(on.fib).then(on.fib).then(on.fib))
    assert handle.get() == (8, 5)
    assert [each.result for each in handle.steps()] == [(2, 1), (3, 2), (5, 3), (8, 5)]


def test_a_value_is_appended_to_the_arguments_given_in_advance(on: Tasks) -> None:
    handle = on.jobs.enqueue(on.add.s(1, 2).then(on.add, 3).then(on.add, 4).then(on.add, 5))
    assert handle.get() == 15
    assert [each.result for each in handle.steps()] == [3, 6, 10, 15]


def test_a_dict_fills_keyword_arguments_but_never_over_given_ones(on: Tasks) -> None:
    pipeline = on.give.s({"a": 1, "b": 2}).then(on.echo, 0, b=3)
    assert on.jobs.enqueue(pipeline).get() == ([0], {"a": 1, "b": 3})


@pytest.mark.parametrize("value", [None, ()])
def test_nothing_is_passed_on_of_nothing(on: Tasks, value: object) -> None:
    on.jobs.enqueue(on.give.s(value).then(on.echo, 1)).get()
    assert on.calls == [((1,), {})]


def test_a_step_may_do_without_its_input(on: Tasks) -> None:
    on.jobs.enqueue(on.give.s(5).then(on.echo.s(1).without_input()).then(on.echo)).get()
    assert on.calls == [((1,), {}), ((1,), {})]


def test_a_list_is_one_value(on: Tasks) -> None:
    assert on.jobs.enqueue(on.give.s([1, 2]).then(on.total)).get() == 3


# ---- groups and chords -----------------------------------------------------------------------------------


def test_a_group_gives_its_results_in_its_own_order(on: Tasks) -> None:
    members = [on.give.options(priority=n).s(n) for n in range(5)]
    assert on.jobs.enqueue(group(members)).get() == [0, 1, 2, 3, 4]


def test_a_chord_calls_back_with_the_list(on: Tasks) -> None:
    for pipeline in (
        group([on.add.s(i, i) for i in range(9)]).then(on.total),
        chord([on.add.s(i, i) for i in range(9)], on.total),
        chord(group(on.add.s(i, i) for i in range(9)), on.total.s()),
        chain(group([on.add.s(i, i) for i in range(9)]), on.total.s()),
    ):
        assert on.jobs.enqueue(pipeline).get() == 72


def test_a_callback_is_followed_by_others(on: Tasks) -> None:
    pipeline = chord([on.give.s(1), on.give.s(2)], on.total).then(on.add, 10).then(on.echo)
    assert on.jobs.enqueue(pipeline).get() == 13


def test_members_may_be_chains(on: Tasks) -> None:
    members = [on.add.s(1, 1).then(on.add, 1), on.give.s(9), on.fib.s(1, 1).then(on.fib)]
    assert on.jobs.enqueue(chord(members, on.collect)).get() == [3, 9, (3, 2)]


def test_chords_nest_three_levels_deep(on: Tasks) -> None:
    def block(*values: str) -> Any:
        return chord([on.give.s(each) for each in values], on.collect)

    nested = chord(
        [block("a", "b"), chord([block("c", "d"), block("e", "f")], on.collect), block("g", "h")], on.collect
    )
    assert on.jobs.enqueue(nested).get() == [["a", "b"], [["c", "d"], ["e", "f"]], ["g", "h"]]


def test_an_empty_chord_calls_back_with_nothing_again_and_again(on: Tasks) -> None:
    pipeline = chord([], on.collect)
    assert [on.jobs.enqueue(pipeline).get() for _ in range(2)] == [[], []]
    behind = on.give.s(1).then(group([])).then(on.collect)
    assert on.jobs.enqueue(behind).get() == []


def test_none_is_a_member_like_any_other(on: Tasks) -> None:
    assert on.jobs.enqueue(chord([on.give.s(None), on.give.s(1)], on.collect)).get() == [None, 1]


def test_retries_of_a_member_are_awaited(on: Tasks) -> None:
    handle = on.jobs.enqueue(chord([on.flaky.s(1), on.give.s(2)], on.collect))
    assert states(handle)["2"] == "waiting"
    assert handle.get(timeout="4h") == [1, 2]


def test_a_step_for_each_item_of_the_result_before(on: Tasks) -> None:
    pipeline = on.give.s([1, 2, 3]).then(on.add.each(10)).then(on.total, extra=0)
    assert on.jobs.enqueue(pipeline).get() == 36
    assert on.jobs.enqueue(on.give.s([]).then(on.add.each(10)).then(on.total)).get() == 0
    with pytest.raises(TaskFailed):
        on.jobs.enqueue(on.give.s(5).then(on.add.each(10))).get()


# ---- failure ---------------------------------------------------------------------------------------------


def test_a_failure_ends_the_chain_and_skips_what_comes_after(on: Tasks) -> None:
    handle = on.jobs.enqueue(on.give.s(1).then(on.fail).then(on.echo).then(on.echo))
    with pytest.raises(TaskFailed) as caught:
        handle.get()
    assert (caught.value.reason, on.calls) == ("upstream failed", [])
    assert states(handle) == {"1": "succeeded", "2": "failed", "3": "skipped", "4": "skipped"}
    assert [each.reason for each in handle.steps()][2:] == ["upstream failed"] * 2


def test_a_failed_member_fails_the_chord_and_does_not_call_back(on: Tasks) -> None:
    handle = on.jobs.enqueue(chord([on.give.s(1), on.fail.s(), on.give.s(2)], on.collect))
    with pytest.raises(TaskFailed):
        handle.get()
    assert states(handle) == {
        "1": "failed",
        "1.1": "succeeded",
        "1.2": "failed",
        "1.3": "succeeded",
        "2": "skipped",
    }


@pytest.mark.parametrize("how", ["fail", "give_up", "expire", "revoke"])
def test_a_member_that_ends_badly_leaves_its_place_when_the_rest_shall_go_on(on: Tasks, how: str) -> None:
    member: Any = on.give.s(0)
    if how == "fail":
        member = on.fail.s()
    elif how == "give_up":
        member = on.give_up.s()
    elif how == "expire":
        member = on.give.options(expires=0).s(0)
    else:
        on.echo.revoke()
        member = on.echo.s(0)
    block = group([on.give.s(1), member, on.give.s(2)], on_member_failure="continue")
    handle = on.jobs.enqueue(block.then(on.collect))
    first, failure, last = handle.get()
    assert (first, last) == (1, 2)
    wanted = {"fail": "failed", "give_up": "cancelled", "expire": "expired", "revoke": "cancelled"}[how]
    assert failure.state == wanted


def test_all_members_may_fail(on: Tasks) -> None:
    block = group([on.fail.s(), on.fail.s()], on_member_failure="continue")
    assert [each.state for each in on.jobs.enqueue(block.then(on.collect)).get()] == ["failed", "failed"]


def test_a_handler_is_called_for_the_failure_of_its_step_alone(on: Tasks) -> None:
    pipeline = on.give.s(1).error(on.tell, "first").then(on.fail.s().error(on.tell, "second")).then(on.echo)
    with pytest.raises(TaskFailed):
        on.jobs.enqueue(pipeline).get()
    assert on.calls == [(("second",), ("fail", "exception ValueError"))]


def test_a_handler_may_have_a_handler(on: Tasks) -> None:
    pipeline = on.fail.s(1).error(on.fail.s("handler").error(on.tell, "second").error(on.tell, "third"))
    with pytest.raises(TaskFailed):
        on.jobs.enqueue(pipeline).get()
    assert sorted(each[0] for each in on.calls) == [("second",), ("third",)]  # type: ignore[index]
    on.calls.clear()
    quiet = on.fail.s(1).error(on.echo.s("fine").error(on.tell))
    with pytest.raises(TaskFailed):
        on.jobs.enqueue(quiet).get()
    assert on.calls == [(("fine",), {})]


def test_a_handler_of_the_whole_is_called_once(on: Tasks) -> None:
    pipeline = on.give.s(1).then(on.fail).error(on.tell, "whole")
    with pytest.raises(TaskFailed):
        on.jobs.enqueue(pipeline).get()
    assert [each[0] for each in on.calls] == [("whole",)]  # type: ignore[index]
    on.calls.clear()
    assert on.jobs.enqueue(on.give.s(1).then(on.give).error(on.tell)).get() == 1
    assert on.calls == []


# ---- as a whole ------------------------------------------------------------------------------------------


def test_cancelling_the_whole_ends_what_waits(on: Tasks) -> None:
    handle = on.jobs.enqueue(on.flaky.s(1).then(on.echo))
    assert handle.cancel() is True
    with pytest.raises(RunCancelled):
        handle.get()
    assert set(states(handle).values()) <= {"cancelled", "skipped"}
    assert on.calls == []


def test_a_retry_goes_on_from_the_failed_step(on: Tasks) -> None:
    broken = True

    @on.jobs.task
    def repaired(value: int) -> int:
        if broken:
            raise ValueError
        return value + 1

    handle = on.jobs.enqueue(on.echo.s(1).then(repaired).then(on.give))
    with pytest.raises(TaskFailed):
        handle.get()
    broken = False
    again = on.jobs.retry(handle.steps()[1].id)  # a step means its pipeline
    assert again.get() == 2
    assert again.record().trigger == "retry"
    assert len(on.calls) == 1  # what had succeeded was not done again
    assert handle.retry().get() == 2


def test_revoking_midway_stops_it(on: Tasks) -> None:
    on.echo.revoke()
    handle = on.jobs.enqueue(on.give.s(1).then(on.echo).then(on.give))
    with pytest.raises(TaskFailed):
        handle.get()
    assert states(handle) == {"1": "succeeded", "2": "cancelled", "3": "skipped"}


def test_options_of_a_step_are_its_own_and_those_of_the_whole_are_the_pipelines(on: Tasks) -> None:
    later = on.add.options(delay="10m", priority=4, retries=1).s(1)
    handle = on.jobs.enqueue(on.give.s(1).then(later).options(delay="1h", id="nightly", priority=2))
    assert (handle.id, handle.state) == ("nightly", State.WAITING)
    with pytest.raises(ResultTimeout):
        handle.get(timeout="65m")
    assert handle.get(timeout="10m") == 2
    first, second = handle.steps()
    assert (first.priority, second.priority) == (2, 4)
    assert second.due_at - first.due_at >= timedelta(minutes=10)


def test_a_pipeline_with_an_id_or_a_key_is_enqueued_once(on: Tasks) -> None:
    pipeline = on.give.s(1).then(on.give).options(delay=60, unique_key="nightly")
    first, second = on.jobs.enqueue(pipeline), on.jobs.enqueue(pipeline)
    assert (second, second.is_new) == (first, False)
    assert len(first.steps()) == 2


def test_a_step_alone_is_a_plain_run(on: Tasks) -> None:
    handle = on.jobs.enqueue(on.add.options(priority=3).s(1, 2))
    assert (handle.task, handle.get(), handle.record().priority) == ("add", 3, 3)


def test_tasks_by_name_make_pipelines_too(on: Tasks) -> None:
    named = on.jobs["add"]
    assert on.jobs.enqueue(named.s(1, 2).then(on.jobs["add"], 3)).get() == 6


def test_what_is_no_pipeline_is_refused_at_the_caller(on: Tasks) -> None:
    with pytest.raises(WrongArguments):
        on.add.s(1, 2, 3)
    with pytest.raises(WrongArguments):
        on.jobs.enqueue(on.add.s(1).then(on.echo))  # nothing comes before it
    with pytest.raises(UsageError, match="got 5"):
        group([5])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least one"):
        chain()
    with pytest.raises(UsageError, match="id cannot stand inside"):
        on.jobs.enqueue(on.give.s(1).then(on.add.options(id="x").s(1)))
    with pytest.raises(UsageError, match="arguments go to a task"):
        on.give.s(1).then(on.give.s(2), 3)  # type: ignore[call-overload]
    with pytest.raises(NotFound, match="nobody knows: 'elsewhere'"):
        on.jobs.enqueue(on.give.s(1).then(on.jobs["elsewhere"]))
    assert on.jobs.runs() == []


def test_a_task_enqueues_a_chord_and_waits_for_it(on: Tasks) -> None:
    @on.jobs.task
    def outer() -> int:
        return on.jobs.enqueue(chord([on.add.s(i, i) for i in range(3)], on.total)).get()

    assert outer().get() == 6
