"""What a call becomes before any supervisor looks at it: the row, or an error at the caller."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jobrunner import (
    JobRunner,
    NotFound,
    PayloadError,
    ResultTimeout,
    RunCancelled,
    State,
    Task,
    UsageError,
    WrongArguments,
    crontab,
)
from jobrunner.app.waiting import THREADS
from jobrunner.catalogue import catalogue_of
from jobrunner.durations import SECOND
from jobrunner.plan import Plan
from jobrunner.storage import open_storage
from tests.builders import NOON, a_callable
from tests.stage import STATUS, HandClock, an_owner


@pytest.fixture(params=["sqlite", "memory"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobRunner]:
    """A JobRunner on a storage without a supervisor; its clock stands at noon."""
    url = f"sqlite:///{tmp_path}/jobs.db" if request.param == "sqlite" else f"memory://{tmp_path.name}"
    with JobRunner(backend=url) as made:
        made.clock = HandClock()
        yield made


def publish(jobs: JobRunner, *names: str, timezone: str = "UTC", **changes: Any) -> None:
    """What a supervisor does at its start."""
    tasks = {name: a_callable(name, **changes) for name in names}
    plan = Plan(file="/jobs.yaml", hash="hash", backend="", timezone=timezone, tasks=tasks)
    storage = open_storage(jobs.storage.url)
    assert storage.enter(an_owner(), STATUS)
    storage.publish("me", catalogue_of(plan), keep=(), now=NOON)
    storage.leave("me", NOON)
    storage.close()


# ---- arguments -------------------------------------------------------------------------------------------


def test_every_keyword_of_a_call_is_an_argument_never_an_option(jobs: JobRunner) -> None:
    names = ("priority", "retries", "delay", "eta", "expires", "timeout", "id", "retry_delay", "unique_key")

    @jobs.task
    def anything(**given: object) -> None: ...

    given = dict.fromkeys(names, 9)
    record = anything(**given).record()
    assert record.kwargs == given
    assert (record.priority, record.state) == (0, State.QUEUED)
    assert jobs["anything"](args=1, kwargs=2, self=3).record().kwargs == {"args": 1, "kwargs": 2, "self": 3}
    assert jobs.enqueue("anything", what=1, name=2).record().kwargs == {"what": 1, "name": 2}


def test_wrong_arguments_are_a_type_error_at_the_caller(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((1,), {}), ((1, 2, 3), {}), ((1,), {"c": 2})]
    for args, kwargs in wrong:
        for call in (add, jobs["add"], add.options(priority=1)):
            with pytest.raises(TypeError, match="add"):
                call(*args, **kwargs)
        with pytest.raises(WrongArguments):
            add.schedule(args, kwargs, delay=1)
        with pytest.raises(WrongArguments):
            jobs.enqueue_many([("add", (1, 2), {}), ("add", args, kwargs)])
    assert jobs.runs() == []


def test_by_name_the_published_argument_names_are_checked(jobs: JobRunner) -> None:
    publish(jobs, "resize", parameters=("image", "width"))
    assert jobs.enqueue("resize", 42, width=800).record().args == (42,)
    with pytest.raises(TypeError, match="no argument 'widht'"):
        jobs.enqueue("resize", 42, widht=800)
    with pytest.raises(TypeError, match="given twice"):
        jobs["resize"](42, image=1)


def test_a_task_that_nobody_knows_is_refused_with_the_nearest_name(jobs: JobRunner) -> None:
    publish(jobs, "resize")
    with pytest.raises(NotFound, match="no task 'resise'") as caught:
        jobs.enqueue("resise", 42)
    assert caught.value.help == "did you mean 'resize'?"


def test_a_declared_task_may_be_enqueued_before_any_supervisor_has_started(jobs: JobRunner) -> None:
    @jobs.task(priority=7, expires="1m", args=[1], kwargs={"b": 2}, on_interrupt="fail", on_failure="tell")
    def add(a: int, b: int) -> int:
        return a + b

    run = jobs.storage.run(add.schedule().id)
    assert (run.state, run.lane, run.priority) == (State.QUEUED, "task:add", 7)
    assert run.expires_at == NOON + 60 * SECOND
    assert run.policy == '{"on_interrupt":"fail","on_failure":["tell"]}'
    assert (jobs.run(run.id).args, jobs.run(run.id).kwargs) == ((1,), {"b": 2})


def test_what_is_published_goes_over_what_the_decorator_says(jobs: JobRunner) -> None:
    @jobs.task(priority=7)
    def add(a: int, b: int) -> int:
        return a + b

    publish(jobs, "add", priority=3)
    assert add(1, 2).record().priority == 3


def test_what_cannot_be_stored_is_refused_at_the_caller_with_its_place(jobs: JobRunner) -> None:
    @jobs.task
    def take(value: object) -> None: ...

    with pytest.raises(PayloadError, match=r"""args\[0\]\["a"\]\[1\]: a lambda cannot be stored"""):
        take({"a": [1, lambda: None]})
    with pytest.raises(PayloadError, match="at most 1,048,576"):
        take("x" * 2_000_000)
    assert jobs.counts()["queued"] == 0


def test_how_large_arguments_may_be_is_for_the_program_to_say(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    with (
        JobRunner(backend=url, max_arguments="3MiB") as large,
        JobRunner(backend=url, max_arguments=10) as small,
    ):
        text = "x" * 2_000_000
        assert large.task(name="take")(len)(text).record().args == (text,)
        with pytest.raises(PayloadError, match="at most 10 are stored"):
            small.task(name="take")(len)("ten and more")


def test_values_of_every_storable_kind_arrive_as_they_were(jobs: JobRunner) -> None:
    @jobs.task
    def take(*values: object) -> None: ...

    values = (1, 1.5, "x", None, True, (1, [2]), {"a": {3}}, b"\0", START, START.date(), timedelta(1))
    assert take(*values).record().args == values


START = datetime(2026, 11, 23, 12, tzinfo=UTC)  # NOON


# ---- options ---------------------------------------------------------------------------------------------


def test_options_hold_for_the_calls_of_the_task_they_give(jobs: JobRunner) -> None:
    @jobs.task(priority=1)
    def add(a: int, b: int) -> int:
        return a + b

    urgent = add.options(priority=9, delay="5m", expires=timedelta(minutes=1))
    record = urgent(1, 2).record()
    assert (record.priority, record.state) == (9, State.SCHEDULED)
    assert record.due_at == START + timedelta(minutes=5)
    assert record.expires_at == START + timedelta(minutes=6)
    assert add(1, 2).record().priority == 1
    assert urgent.options(priority=2)(1, 2).record().due_at == START + timedelta(minutes=5)
    assert [each.priority for each in jobs.runs()] == [2, 1, 9]


def test_what_a_call_overrides_lies_in_its_row(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    handle = add.schedule((1, 2), retries=2, retry_delay=1.5, timeout="1m")
    assert jobs.storage.run(handle.id).options == ('{"timeout":60000000,"retries":2,"retry_delay":1500000}')


def test_a_moment_is_taken_in_its_own_zone_and_a_naive_one_in_that_of_the_file(jobs: JobRunner) -> None:
    publish(jobs, "add", timezone="Europe/Paris")
    later = START + timedelta(hours=3)
    for eta in (
        later,
        later.astimezone(ZoneInfo("Asia/Tokyo")),
        later.astimezone(ZoneInfo("Europe/Paris")).replace(tzinfo=None),
    ):
        assert jobs["add"].schedule((1,), eta=eta).record().due_at == later
    record = jobs["add"].schedule((1,), eta=START - timedelta(days=1)).record()
    assert (record.state, record.due_at) == (State.QUEUED, START)
    absolute = jobs["add"].schedule((1,), delay=60, expires=later).record()
    assert absolute.expires_at == later


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"delay": 1, "eta": START}, "delay and eta"),
        ({"delay": -1}, "delay"),
        ({"expires": "soon"}, "expires"),
        ({"priority": "high"}, "priority"),
        ({"retries": -1}, "retries"),
        ({"id": "../x"}, "id"),
        ({"on_conflict": "ignore"}, "on_conflict"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(jobs: JobRunner, options: Any, error: str) -> None:
    @jobs.task
    def nothing() -> None: ...

    with pytest.raises(UsageError, match=error):
        nothing.schedule(**options)


def test_a_misspelt_option_is_refused_with_the_nearest_one(jobs: JobRunner) -> None:
    with pytest.raises(TypeError, match=r"'retrys'; did you mean 'retries'\?"):
        jobs.task(retrys=3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"'delai'; did you mean 'delay'\?"):
        jobs["x"].schedule(delai=3)  # type: ignore[call-arg]


def test_an_id_given_by_the_caller_makes_the_enqueue_repeatable(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    first, second = (add.schedule((1, n), id="order-17") for n in (1, 2))
    assert (first.id, first.is_new) == ("order-17", True)
    assert (second, second.is_new) == (first, False)
    assert jobs.run("order-17").args == (1, 1)


def test_floats_are_taken_for_what_they_mean(jobs: JobRunner) -> None:
    @jobs.task(retry_delay=0.1 + 0.2)
    def add() -> None: ...

    assert add.declared["retries"] == {"max": 0, "delay": 0.3}
    record = add.schedule(delay=0.1 + 0.2).record()
    assert record.due_at == START + timedelta(milliseconds=300)


def test_a_unique_key_of_a_decorator_names_arguments(jobs: JobRunner) -> None:
    @jobs.task(unique="{order}")
    def send(order: int) -> None: ...

    @jobs.task(unique={"key": "{0}", "on_conflict": "replace"})
    def index(page: str) -> None: ...

    first = send(1)
    assert [send(1) == first, send(2) == first, send(order=1) == first] == [True, False, True]
    older, newer = index("a"), index("a")
    assert (older.record().reason, newer.state) == ("superseded", State.QUEUED)


def test_a_unique_key_refuses_a_second_run_and_gives_the_first(jobs: JobRunner) -> None:
    @jobs.task
    def send(order: int) -> None: ...

    @jobs.task
    def other(order: int) -> None: ...

    first = send.schedule((1,), unique_key="1")
    second = send.schedule((2,), unique_key="1")
    assert (first.is_new, second.is_new, second) == (True, False, first)
    assert send.schedule((2,), unique_key="2").is_new
    assert other.schedule((1,), unique_key="1").is_new  # keys of different tasks never meet
    first.cancel()
    assert send.schedule((1,), unique_key="1").is_new


def test_a_delayed_run_that_replaces_its_like_debounces(jobs: JobRunner) -> None:
    @jobs.task
    def index(page: str) -> None: ...

    typed = [
        index.schedule((text,), delay=5, unique_key="page", on_conflict="replace")
        for text in ("a", "ab", "abc")
    ]
    assert [each.state.value for each in typed] == ["cancelled", "cancelled", "scheduled"]
    assert [each.record().reason for each in typed] == ["superseded", "superseded", None]


def test_a_mark_revokes_until_it_is_restored_or_its_time_is_over(jobs: JobRunner) -> None:
    publish(jobs, "add")
    task, run = jobs["add"], jobs.enqueue("add", 1)
    assert (task.is_revoked(), run.is_revoked()) == (False, False)
    task.revoke(until=START + timedelta(hours=1))
    assert run.revoke() is True
    assert (task.is_revoked(), run.is_revoked()) == (True, True)
    assert (run.restore(), run.restore(), run.is_revoked()) == (True, False, False)
    assert isinstance(jobs.clock, HandClock)
    jobs.clock.passes(3600 * SECOND)
    assert task.is_revoked() is False
    run.cancel()
    assert run.revoke() is False  # a final run keeps no mark


# ---- declaring -------------------------------------------------------------------------------------------


def test_a_task_is_called_like_its_function_unless_it_has_a_name(jobs: JobRunner) -> None:
    @jobs.task
    def first() -> None:
        """What it does."""

    @jobs.task(name="other")
    def second() -> None: ...

    assert dict(jobs.tasks) == {"first": first, "other": second}
    assert (first.name, first.__name__, first.__doc__) == ("first", "first", "What it does.")
    assert jobs["other"] is second


def test_two_functions_of_one_name_are_refused(jobs: JobRunner) -> None:
    jobs.task(name="twin")(os.getpid)
    with pytest.raises(UsageError, match="two tasks 'twin'"):
        jobs.task(name="twin")(os.getppid)


def test_one_function_may_be_two_tasks_under_two_names(jobs: JobRunner) -> None:
    def tidy() -> None: ...

    on_demand: Task[[], None] = jobs.task(tidy)
    by_schedule = jobs.periodic_task(crontab(minute=0), name="hourly-tidy")(tidy)
    assert on_demand.function is by_schedule.function
    assert by_schedule.declared["schedule"] == [{"cron": "0 * * * *", "days": "all"}]


def test_a_name_that_cannot_be_one_is_refused_at_the_decorator(jobs: JobRunner) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a task"):
        jobs.task(name="a b")(os.getpid)


def test_call_local_is_a_plain_call(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: int, b: int) -> int:
        return a + b

    @jobs.task
    async def later(a: int) -> int:
        return a + 1

    assert (add.call_local(1, 2), later.call_local(1)) == (3, 2)
    assert jobs.runs() == []
    with pytest.raises(UsageError, match="not at hand"):
        jobs["elsewhere"].call_local()


# ---- many ------------------------------------------------------------------------------------------------


def test_many_runs_are_one_write_and_keep_their_order(jobs: JobRunner) -> None:
    publish(jobs, "resize")
    group = jobs.enqueue_many([("resize", [n], {"width": n}) for n in range(500)])
    assert len(group) == 500
    found = jobs.runs(task="resize", limit=1000)
    assert [(each.args, each.kwargs) for each in reversed(found)] == [
        ((n,), {"width": n}) for n in range(500)
    ]
    assert [each.id for each in group] == [each.id for each in reversed(found)]


def test_pipelines_of_a_file_are_enqueued_by_name_and_many_at_once(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "tasks:\n  join: {call: 'os.path:join'}\n  base: {call: 'os.path:basename'}\n"
        "pipelines:\n  paths: {steps: [join, base]}\n"
    )
    with JobRunner(file, immediate=True) as jobs:
        assert jobs.enqueue("paths", "a", "b").get() == "b"
        assert jobs["paths"].map([("a", "b"), ("c", "d")]).get() == ["b", "d"]
        group = jobs.enqueue_many([("join", ["a", "b"], {}), ("paths", ["c", "d"], {})])
        assert group.get() == ["a/b", "d"]
        assert [len(each.steps()) for each in group] == [0, 2]


def test_a_mistake_in_one_of_many_adds_none(jobs: JobRunner) -> None:
    publish(jobs, "resize")
    with pytest.raises(PayloadError):
        jobs.enqueue_many([("resize", [1], {}), ("resize", [print], {})])
    assert jobs.runs() == []


def test_map_takes_tuples_as_arguments_and_anything_else_as_one(jobs: JobRunner) -> None:
    @jobs.task
    def add(a: object, b: object = None) -> None: ...

    group = add.map([(1, 2), [3, 4], 5, (6,)])
    assert [each.record().args for each in group] == [(1, 2), ([3, 4],), (5,), (6,)]


# ---- handles ---------------------------------------------------------------------------------------------


def test_a_handle_says_the_state_and_does_not_wait_for_ever(jobs: JobRunner) -> None:
    publish(jobs, "add")
    handle = jobs.enqueue("add", 1)
    assert (handle.state, handle.is_ready()) == (State.QUEUED, False)
    with pytest.raises(ResultTimeout, match="is queued"):
        handle.result()
    with pytest.raises(ResultTimeout, match=r"after 0\.01 s"):
        handle.get(timeout=0.01)
    with pytest.raises(ResultTimeout):
        jobs.enqueue_many([("add", [1], {})]).get(timeout=0)


def test_a_cancelled_run_is_final_and_says_so_to_whoever_waits(jobs: JobRunner) -> None:
    publish(jobs, "add")
    handle = jobs.enqueue("add", 1)
    assert handle.cancel() is True
    assert handle.cancel() is False
    assert (handle.state, handle.wait()) == (State.CANCELLED, State.CANCELLED)
    with pytest.raises(RunCancelled) as caught:
        handle.get()
    assert (caught.value.run_id, caught.value.task, caught.value.reason) == (handle.id, "add", "cancelled")


def test_only_a_final_run_is_retried_and_only_a_waiting_one_rescheduled(jobs: JobRunner) -> None:
    publish(jobs, "add")
    handle = jobs["add"].schedule((1,), {"b": 2}, delay=60, priority=4, retries=3, expires=30)
    with pytest.raises(UsageError, match="only a final run is retried"):
        handle.retry()
    moved = handle.reschedule(delay="1h", priority=5)
    assert handle.record().reason == "superseded"
    record = moved.record()
    assert (record.args, record.kwargs, record.priority) == ((1,), {"b": 2}, 5)
    assert record.due_at == START + timedelta(hours=1)
    assert record.expires_at == record.due_at + timedelta(seconds=30)
    assert jobs.storage.run(moved.id).options == '{"retries":3}'
    with pytest.raises(UsageError, match="only one that waits"):
        handle.reschedule(delay=1)
    again = handle.retry()
    assert (again.record().args, again.record().trigger) == ((1,), "retry")


def test_runs_are_listed_by_state_task_and_time_newest_first(jobs: JobRunner) -> None:
    publish(jobs, "add", "resize")
    first, second = jobs.enqueue("add", 1), jobs["resize"].schedule(delay=60)
    assert [each.id for each in jobs.runs()] == [second.id, first.id]
    assert [each.id for each in jobs.runs(state="queued", task="add")] == [first.id]
    assert jobs.runs(state=["running", "failed"]) == []
    assert jobs.runs(since=START + timedelta(seconds=1)) == []
    assert jobs.counts()["scheduled"] == 1
    with pytest.raises(UsageError, match="there is no state 'done'"):
        jobs.runs(state="done")


def test_a_pause_has_a_target_an_end_and_a_reason(jobs: JobRunner) -> None:
    publish(jobs, "add")
    jobs.pause("add", until=START + timedelta(hours=1), reason="repair")
    jobs.pause(pool="commands")
    jobs.pause()
    found = {each.target: (each.until, each.reason) for each in jobs.storage.pauses(NOON)}
    assert found == {
        "task:add": (NOON + 3600 * SECOND, "repair"),
        "pool:commands": (None, ""),
        "all": (None, ""),
    }
    assert (jobs.resume("add"), jobs.resume("add"), jobs.resume(pool="commands")) == (True, False, True)
    with pytest.raises(NotFound):
        jobs.pause("ad")


# ---- the storage behind it -------------------------------------------------------------------------------


def test_nothing_is_opened_before_the_first_call(tmp_path: Path) -> None:
    JobRunner(backend=f"sqlite:///{tmp_path}/jobs.db")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_counts_from_where_the_runner_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = JobRunner(backend="sqlite:///jobs.db")
    monkeypatch.chdir("/")
    with jobs:
        assert jobs.counts()["queued"] == 0
    assert (tmp_path / "jobs.db").exists()


def test_a_file_says_where_its_storage_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs.yaml").write_text("backend: sqlite:///kept/here.db\ntasks: {}\n")
    (tmp_path / "kept").mkdir()
    monkeypatch.chdir(tmp_path)
    for jobs in (JobRunner("jobs.yaml"), JobRunner(tmp_path / "jobs.yaml"), JobRunner()):
        with jobs:
            assert jobs.storage.url == f"sqlite:///{tmp_path}/kept/here.db"


def test_one_runner_serves_many_threads(jobs: JobRunner) -> None:
    publish(jobs, "add")
    threads = [threading.Thread(target=lambda n=n: jobs.enqueue("add", n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.args for each in jobs.runs()) == [(n,) for n in range(8)]


def test_a_forked_child_opens_the_storage_anew(tmp_path: Path) -> None:
    with JobRunner(backend=f"sqlite:///{tmp_path}/jobs.db") as jobs:
        publish(jobs, "add")
        jobs.enqueue("add", "parent")
        child = os.fork()
        if child == 0:
            try:
                jobs.enqueue("add", "child")
                jobs.close()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert [each.args for each in jobs.runs()] == [("child",), ("parent",)]


# ---- coroutines ------------------------------------------------------------------------------------------


def test_more_coroutines_wait_than_there_are_threads_for(jobs: JobRunner) -> None:
    publish(jobs, "add")
    handles = jobs.enqueue_many([("add", [n, n], {}) for n in range(3 * THREADS)])

    async def all_wait() -> list[object]:
        waits = [asyncio.ensure_future(handle.aget(timeout=60)) for handle in handles]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(handles.cancel) == len(handles)
        return list(await asyncio.gather(*waits, return_exceptions=True))

    assert {type(end) for end in asyncio.run(all_wait())} == {RunCancelled}


def test_a_coroutine_that_is_cancelled_waits_no_more(jobs: JobRunner) -> None:
    publish(jobs, "add")
    handle = jobs.enqueue("add", 1, 2)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.aget(), 0.05)
        with pytest.raises(ResultTimeout, match="is queued after"):
            await handle.aget(timeout=0.05)

    asyncio.run(give_up())
    assert jobs._waiting()._waits == set()
