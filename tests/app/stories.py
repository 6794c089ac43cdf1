"""Stories: what a program does with its tasks, and what comes of it. The same ones are told by a client in a
process of its own, and by a task inside a worker: on every storage and in pools of every kind.

This file is copied beside a jobs.yaml that names it under `modules`; each story gives a JSON value.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from jobrunner import (
    CancelRun,
    JobRunner,
    ResultTimeout,
    RetryRun,
    RunError,
    chord,
    current_run,
    group,
)

jobs = JobRunner("jobs.yaml")
PATIENCE = 60  # seconds
STORIES: dict[str, Callable[[], Any]] = {}


def story(tell: Callable[[], Any]) -> Callable[[], Any]:
    STORIES[tell.__name__] = tell
    return tell


# ---- tasks -----------------------------------------------------------------------------------------------


@jobs.task
def add(a: int, b: int) -> int:
    return a + b


@jobs.task
def fib(a: int, b: int) -> tuple[int, int]:
    return a + b, a


@jobs.task
def give(value: Any = None) -> Any:
    return value


@jobs.task
def total(values: list[int]) -> int:
    return sum(values)


@jobs.task
def collect(values: list[Any]) -> list[Any]:
    return values


@jobs.task(retries=1, retry_delay=0)
def fail(message: str = "no such colour") -> None:
    raise ValueError(message)


@jobs.task(retries=3, retry_delay=0.1)
def flaky(needed: int) -> int:
    if current_run().attempt < needed:
        raise ConnectionError("not yet")
    return current_run().attempt


@jobs.task
def polite(needed: int) -> int:
    if current_run().attempt < needed:
        raise RetryRun(delay=0.05)
    return current_run().attempt


@jobs.task(retries=2, retry_delay=0)
def give_up(retry: bool | None) -> None:
    raise CancelRun("no use", retry=retry)


@jobs.task
def unstorable() -> object:
    return lambda: None


@jobs.task
async def later(value: int) -> int:
    await asyncio.sleep(0.01)
    return value + 1


@jobs.task
def who() -> dict[str, Any]:
    run = current_run()
    return {"task": run.task, "trigger": run.trigger, "attempt": run.attempt, "pid": os.getpid()}


@jobs.task(lock="order", pool="single")
def note(path: str, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


@jobs.task(lock="door", pool="stage")
def behind_the_door(value: int) -> int:
    return value


@jobs.task(pool="stage")
def perform(name: str) -> Any:
    """Tell a story from inside a task."""
    return STORIES[name]()


@jobs.task(pool="stage")
def outer(n: int) -> int:
    """Enqueue a chord from a task, and wait for it."""
    return jobs.enqueue(chord([add.s(i, i) for i in range(n)], total)).get(timeout=PATIENCE)


def open_the_show() -> None:
    """Tell all of them, one after the other, and write down what each gave."""
    for name, tell in STORIES.items():
        try:
            told: Any = {"gave": tell()}
        except BaseException:
            told = {"error": traceback.format_exc()}
        with open("told.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"story": name, **told}) + "\n")


# ---- stories ---------------------------------------------------------------------------------------------


def got(handle: Any) -> Any:
    return handle.get(timeout=PATIENCE)


def failed(handle: Any) -> list[Any]:
    """How it ended that did not end well."""
    try:
        return ["no error", got(handle)]
    except RunError as error:
        return [type(error).__name__, error.outcome, error.error.split("\n")[0], error.reason]


@story
def a_call_gives_its_result_again_and_again() -> Any:
    handle = add(1, 2)
    return [got(handle), handle.result(), handle.is_ready(), handle.state.value]


@story
def none_is_a_result() -> Any:
    handle = give(None)
    return [got(handle), handle.state.value, handle.record().has_result]


@story
def map_keeps_its_order() -> Any:
    return [
        add.map([(n, n) for n in range(10)]).get(timeout=PATIENCE),
        sorted(each.get() for each in group_of_ten()),
    ]


def group_of_ten() -> Any:
    return jobs.enqueue_many([("give", [n], {}) for n in range(10)]).as_completed(timeout=PATIENCE)


@story
def a_coroutine_is_a_task_too() -> Any:
    return got(later(1))


@story
def a_task_knows_its_run() -> Any:
    handle = who()
    found = got(handle)
    return [found["task"], found["trigger"], found["attempt"], found["pid"] == handle.record().pid]


@story
def a_fib_pipeline() -> Any:
    handle = jobs.enqueue(fib.s(1, 1).then(fib).then(fib).then(fib))
    return [got(handle), [each.result for each in handle.steps()]]


@story
def partial_sums() -> Any:
    handle = jobs.enqueue(add.s(1, 2).then(add, 3).then(add, 4).then(add, 5))
    return [got(handle), [each.result for each in handle.steps()]]


@story
def a_chord() -> Any:
    return got(jobs.enqueue(group([add.s(i, i) for i in range(9)]).then(total)))


@story
def nested_chords() -> Any:
    def block(*values: str) -> Any:
        return chord([give.s(each) for each in values], collect)

    inner = chord([block("c", "d"), block("e", "f")], collect)
    return got(jobs.enqueue(chord([block("a", "b"), inner, block("g", "h")], collect)))


@story
def an_empty_chord() -> Any:
    return [got(jobs.enqueue(chord([], collect))) for _ in range(2)]


@story
def a_chord_whose_members_end_in_every_way() -> Any:
    give.options(priority=1)
    members = [
        give.s(1),
        fail.s(),
        give.options(expires=0).s(2),
        give_up.s(False),
        flaky.s(2),
        give.s(None),
        unstorable.s(),
        add.s(1, 1).then(add, 1),
    ]
    found = got(jobs.enqueue(group(members, on_member_failure="continue").then(collect)))
    return [getattr(each, "state", each) for each in found]


@story
def a_failed_member_fails_its_chord() -> Any:
    handle = jobs.enqueue(chord([give.s(1), fail.s()], collect))
    end = failed(handle)
    return [end[0], end[3], {each.step: each.state.value for each in handle.steps()}]


@story
def a_chain_stops_at_a_failure() -> Any:
    handle = jobs.enqueue(give.s(1).then(fail).then(give))
    return [failed(handle)[0], [each.state.value for each in handle.steps()]]


@story
def each_item_of_a_result() -> Any:
    return got(jobs.enqueue(give.s([1, 2, 3]).then(add.each(10)).then(total)))


@story
def a_failure_has_its_error_and_each_attempt() -> Any:
    handle = fail("no such colour")
    return [failed(handle), [each.outcome for each in handle.attempts()]]


@story
def retries_end_with_a_success() -> Any:
    handle = flaky(3)
    return [got(handle), [each.outcome for each in handle.attempts()]]


@story
def a_retry_that_was_asked_for_costs_none() -> Any:
    handle = polite(4)
    return [got(handle), handle.record().failures]


@story
def a_task_cancels_its_run() -> Any:
    found = []
    for retry in (None, False, True):
        handle = give_up(retry)
        found.append([failed(handle)[0], handle.record().attempt])
    return found


@story
def a_result_that_cannot_be_stored() -> Any:
    return failed(unstorable())[:2]


@story
def wrong_arguments_are_refused_here() -> Any:
    found = []
    for call in (lambda: add(1), lambda: jobs.enqueue("add", 1, 2, 3), lambda: add.s(1, c=2)):  # type: ignore[call-arg]
        try:
            call()
        except TypeError as error:
            found.append(type(error).__name__)
    return found


@story
def an_unknown_task_is_refused_here() -> Any:
    try:
        jobs.enqueue("ad", 1)
    except LookupError as error:
        return str(error)
    except Exception as error:
        return [str(error), getattr(error, "help", "")]


@story
def reserved_names_are_plain_arguments() -> Any:
    return got(jobs.enqueue(jobs["named"], priority=9, delay=1, id="x", task="y", self=1, timeout=2))


@jobs.task
def named(**given: Any) -> dict[str, Any]:
    return given


@story
def expired_and_cancelled_runs_say_so() -> Any:
    late = give.schedule((1,), expires=0)
    cancelled = give.schedule((1,), delay=3600)
    cancelled.cancel()
    return [failed(late)[0], failed(cancelled)[0]]


@story
def revoked_runs_say_so() -> Any:
    give.pause()
    revoked, restored = give(1), give(2)
    revoked.revoke()
    restored.revoke()
    restored.restore()
    give.resume()
    return [failed(revoked)[0], got(restored)]


@story
def a_revocation_that_is_used_once() -> Any:
    named.revoke(once=True)
    return [failed(named(a=n))[0] for n in range(3)]


@story
def a_run_moves_to_another_time() -> Any:
    handle = give.schedule((5,), delay=3600)
    moved = handle.reschedule(delay=0)
    return [got(moved), handle.state.value, handle.record().reason]


@story
def a_unique_key_is_held_until_its_run_has_ended() -> Any:
    first = give.schedule((1,), delay=3600, unique_key="k")
    second = give.schedule((2,), unique_key="k")
    found = [second == first, second.is_new, first.cancel()]
    third = give.schedule((3,), unique_key="k")
    return [*found, third.is_new, got(third)]


@story
def a_debounced_call_runs_once_with_the_latest_arguments() -> Any:
    give.pause()
    handles = [give.schedule((n,), unique_key="d", on_conflict="replace") for n in range(3)]
    give.resume()
    return [got(handles[-1]), [each.state.value for each in handles[:-1]]]


@story
def a_paused_task_waits() -> Any:
    named.pause()
    handle = named(a=1)
    try:
        handle.get(timeout=0.2)
    except ResultTimeout:
        named.resume()
        return got(handle)


@story
def priorities_go_first_and_equals_in_order() -> Any:
    path = os.path.abspath(f"order-{os.getpid()}.txt")
    jobs.pause(pool="single")
    given = [(0, 0), (10, 1), (100, 2), (2, 0), (12, 1), (120, 2)]
    handles = [note.schedule((path, str(number)), priority=priority) for number, priority in given]
    jobs.resume(pool="single")
    for handle in handles:
        got(handle)
    with open(path, encoding="utf-8") as file:
        return [int(line) for line in file]


@story
def a_task_waits_for_a_chord_of_its_own() -> Any:
    return got(outer(4))


@jobs.task(pool="stage")
def guard() -> list[Any]:
    """Hold the lock of another task for a block, and find that it does not run meanwhile."""
    with jobs.lock("door", timeout=PATIENCE):
        waiting = behind_the_door(5)
        try:
            found: list[Any] = [waiting.get(timeout=0.3)]
        except ResultTimeout:
            found = ["waits"]
        found.append(failed(guest())[0])
    return [*found, waiting.get(timeout=PATIENCE)]


@jobs.task(pool="stage")
def guest() -> None:
    with jobs.lock("door", timeout=0):
        pass


@story
def a_task_holds_a_lock_for_a_block() -> Any:
    return got(guard())


@story
def a_task_that_leaves_its_process() -> Any:
    return failed(leave(3))[:2]


@jobs.task(pool="stage")
def leave(code: int) -> None:
    sys.exit(code)


@story
def counts_and_lists_agree() -> Any:
    handle = named(a="counted")
    got(handle)
    listed = jobs.runs(task="named", state="succeeded", limit=1)
    return [listed[0].id == handle.id, jobs.counts()["succeeded"] > 0, jobs.run(handle.id).kwargs]
