"""Pipelines as values: the tree and its text, its rows, what a step is given, growth, retry (35, 36)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest

from jobrunner import composition
from jobrunner.birth import new_run
from jobrunner.catalogue import Entry
from jobrunner.client import whole
from jobrunner.codec import decode_arguments, encode
from jobrunner.composition import Map, Nested, Node, Parallel, Pipeline, Step, Steps, from_text, to_text
from jobrunner.composition.result import as_json, items_of, with_input
from jobrunner.composition.weave import Before, Place, Weaver
from jobrunner.errors import NotFound, PayloadError, UsageError
from jobrunner.model import Claim, Input, NewRun, Options, Run, Settle, State, Trigger, pool_lane
from jobrunner.storage.memory.house import _born

NOW = 1_000_000
TASKS = ("extract", "load", "render", "mail", "page")


def step(task: str, **given: Any) -> Step:
    return Step(task=task, **given)


def steps(*nodes: Node, **given: Any) -> Pipeline:
    return Pipeline(steps=Steps(steps=nodes), **given)


def an_entry(name: str, **given: Any) -> Entry:
    return Entry(name=name, kind="call", pool="default", lane=pool_lane("default"), **given)


def entries(**pipelines: Pipeline) -> dict[str, Entry]:
    known = {name: an_entry(name) for name in TASKS}
    for name, spec in pipelines.items():
        known[name] = Entry(
            name=name, kind="pipeline", pool="", lane=pool_lane(""), composition=to_text(spec)
        )
    return known


def begun(spec: Pipeline, known: dict[str, Entry] | None = None, **given: Any) -> list[NewRun]:
    """The rows of a pipeline `report`, its root first."""
    known = {**(known or entries()), **entries(report=spec)} if known is None else known
    known = {**known, "report": entries(report=spec)["report"]}
    root = new_run(
        known["report"],
        run_id="01934d5e-0000-7000-8000-00000000aaaa",
        trigger=Trigger.ENQUEUE,
        now=NOW,
        due_at=given.pop("due_at", NOW),
    )
    return list(composition.begin(root._replace(**given), known["report"], known.get))


def shape(runs: list[NewRun]) -> dict[str, tuple[str, str, list[str]]]:
    """Place -> task, join or state, and what it waits for."""
    names = {run.id: run.step or "root" for run in runs}
    return {
        run.step or "root": (
            run.task,
            run.join or run.state.value,
            [f"{edge.condition} {names.get(edge.run_id, '?')}" for edge in run.after],
        )
        for run in runs
    }


# --- the text ---------------------------------------------------------------------------------------


def test_a_tree_is_read_back_as_it_was_written() -> None:
    options = Options(timeout=5, retries=2, env={"A": "b"})
    spec = steps(
        step("extract", args=((1, 2), date(2026, 11, 23)), kwargs={"$x": {1: 2}}, options=options),
        Parallel(members=(step("load", takes_input=False), Steps(steps=(step("mail"),))), goes_on=True),
        Map(step=step("load", delay=7, expires=9, priority=-1), over=(1, "a", (2, 3))),
        Map(step=step("load"), on_failure=(step("page"),)),
        Nested(name="inner", steps=Steps(steps=(step("mail"),)), args=(1,), on_success=(step("page"),)),
        on_failure=(step("page"),),
        on_success=(step("mail"),),
    )
    assert from_text(to_text(spec)) == spec
    assert from_text(to_text(spec.steps.steps[1])) == spec.steps.steps[1]


@pytest.mark.parametrize(
    "text", ["1", "[]", '["x",{}]', '["t",{"task":"a","b":1}]', '["t",7]', "{}", "nothing"]
)
def test_what_is_no_tree_is_refused(text: str) -> None:
    with pytest.raises((ValueError, PayloadError)):
        from_text(text)


# --- rows -------------------------------------------------------------------------------------------


def test_a_task_is_its_one_row() -> None:
    run = new_run(an_entry("mail"), run_id="r", trigger=Trigger.ENQUEUE, now=NOW, due_at=NOW)
    assert whole(run, an_entry("mail"), entries().get) == (run,)


def test_a_sequence_is_a_row_for_each_step_behind_the_one_before_it() -> None:
    rows = begun(steps(step("extract"), step("load"), step("mail")))
    assert shape(rows) == {
        "root": ("report", "last", ["final 1", "final 2", "final 3"]),
        "1": ("extract", "queued", []),
        "2": ("load", "waiting", ["ok 1"]),
        "3": ("mail", "waiting", ["ok 2"]),
    }
    assert {row.pipeline for row in rows[1:]} == {rows[0].id}
    assert {row.pipeline_name for row in rows[1:]} == {"report"}
    assert {row.trigger for row in rows[1:]} == {Trigger.PIPELINE}
    assert begun(steps(step("extract"), step("load"), step("mail"))) == rows  # ids follow from the root's


def test_a_block_is_a_row_that_stands_for_its_members() -> None:
    block = Parallel(members=(step("load"), Steps(steps=(step("load"), step("mail")))), goes_on=True)
    assert shape(begun(steps(step("extract"), block, step("render")))) == {
        "root": ("report", "last", ["final 1", "final 2", "final 3"]),
        "1": ("extract", "queued", []),
        "2": ("(parallel)", "list-any", ["final 2.1", "final 2.2"]),
        "2.1": ("load", "waiting", ["ok 1"]),
        "2.2": ("(steps)", "last", ["final 2.2.1", "final 2.2.2"]),
        "2.2.1": ("load", "waiting", ["ok 1"]),
        "2.2.2": ("mail", "waiting", ["ok 2.2.1"]),
        "3": ("render", "waiting", ["ok 2"]),
    }


def test_a_map_over_a_list_is_a_member_for_each_item() -> None:
    rows = begun(steps(Map(step=step("load", args=(0,)), over=(1, (2, 3), {"k": 4}, [5]))))
    found = [decode_arguments(row.payload) for row in rows if row.task == "load"]
    assert found == [([0, 1], {}), ([0, 2, 3], {}), ([0], {"k": 4}), ([0, [5]], {})]
    assert shape(rows)["1"] == ("(map)", "list", ["final 1.1", "final 1.2", "final 1.3", "final 1.4"])


def test_what_maps_nothing_is_not_over_before_what_it_follows() -> None:
    for node in (Map(step=step("load"), over=()), Parallel(members=())):
        assert shape(begun(steps(step("extract"), node)))["2"] == ("(map)", "waiting", ["ok 1"])
        assert shape(begun(steps(node)))["1"][1:] == ("list", [])


def test_a_map_over_its_input_waits_to_grow() -> None:
    row = begun(steps(step("extract"), Map(step=step("load"))))[2]
    assert (row.task, row.pool, row.lane, row.state) == ("(map)", ".grow", "pool:.grow", State.WAITING)
    with pytest.raises(UsageError):
        begun(steps(Map(step=step("load"))))


def test_a_named_pipeline_is_a_row_under_its_name() -> None:
    inner = steps(step("load"), step("mail"), on_failure=(step("page"),), on_success=(step("mail"),))
    known = entries(inner=inner)
    rows = begun(steps(step("extract"), step("inner", args=(7,), kwargs={"k": 1}), step("render")), known)
    assert shape(rows) == {
        "root": ("report", "last", ["final 1", "final 2", "final 3"]),
        "1": ("extract", "queued", []),
        "2": ("inner", "last", ["final 2.1", "final 2.2"]),
        "2.1": ("load", "waiting", ["ok 1"]),
        "2.2": ("mail", "waiting", ["ok 2.1"]),
        "2.s1": ("mail", "waiting", ["ok 2"]),
        "2.f1": ("page", "waiting", ["failed 2"]),
        "3": ("render", "waiting", ["ok 2"]),
    }
    load = next(row for row in rows if row.step == "2.1")
    assert decode_arguments(load.payload) == ([7], {"k": 1})


def test_a_pipeline_that_names_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="names itself"):
        begun(steps(step("inner")), entries(inner=steps(step("other")), other=steps(step("inner"))))


def test_a_step_that_nobody_knows_is_refused() -> None:
    with pytest.raises(NotFound, match="nobody"):
        begun(steps(step("nobody")))


def test_handlers_wait_for_failures() -> None:
    spec = steps(step("extract", on_failure=(step("page"), step("mail"))), on_failure=(step("page"),))
    rows = begun(spec)
    assert {place: found for place, found in shape(rows).items() if "f" in place} == {
        "1.f1": ("page", "waiting", ["failed 1"]),
        "1.f2": ("mail", "waiting", ["failed 1"]),
        "f1": ("page", "waiting", ["failed root"]),
    }
    assert {row.trigger for row in rows if "f" in (row.step or "")} == {Trigger.CALLBACK}


def test_arguments_of_an_enqueue_reach_the_first_steps() -> None:
    block = Parallel(members=(step("load"), step("extract", kwargs={"k": 1})))
    rows = begun(steps(block, step("mail")), payload='{"args":[7],"kwargs":{"k":2}}')
    found = {row.step: decode_arguments(row.payload) for row in rows}
    assert found["1.1"] == found["1.2"] == ([7], {"k": 2})
    assert found["2"] == ([], {})


def test_times_and_priorities_of_steps() -> None:
    entry = entries()["load"]
    known = {**entries(), "load": Entry(**{**_fields(entry), "priority": 3, "expires": 50})}
    spec = steps(step("load", delay=5), step("load", delay=7), step("mail", priority=9))
    rows = begun(spec, known, due_at=NOW + 100)
    assert [(row.due_at, row.expires_at) for row in rows[1:3]] == [
        (NOW + 105, NOW + 155),
        (NOW + 7, NOW + 57),
    ]
    assert [row.state for row in rows[1:3]] == [State.SCHEDULED, State.WAITING]
    assert [row.priority for row in rows] == [0, 3, 3, 9]
    assert [row.priority for row in begun(spec, known, priority=5)] == [5, 5, 5, 9]


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__dataclass_fields__}


def test_the_time_of_the_whole_counts_from_when_it_is_due() -> None:
    entry = Entry(**{**_fields(entries(report=steps(step("mail")))["report"]), "timeout": 60})
    run = new_run(entry, run_id="r", trigger=Trigger.ENQUEUE, now=NOW, due_at=NOW + 5)
    assert composition.begin(run, entry, entries().get)[0].expires_at == NOW + 65


# --- input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "args", "kwargs"),
    [
        (None, [1], {"a": 1}),
        (encode(None), [1], {"a": 1}),
        (encode(7), [1, 7], {"a": 1}),
        (encode((2, 3)), [1, 2, 3], {"a": 1}),
        (encode([2, 3]), [1, [2, 3]], {"a": 1}),
        (encode({"a": 9, "b": 2}), [1], {"a": 1, "b": 2}),
        (encode({1: 2}), [1, {1: 2}], {"a": 1}),
        (encode(date(2026, 1, 2)), [1, date(2026, 1, 2)], {"a": 1}),
        (encode({}), [1], {"a": 1}),
    ],
)
def test_a_result_is_taken_in_as_its_kind_says(
    result: str | None, args: list[object], kwargs: dict[str, object]
) -> None:
    assert decode_arguments(with_input('{"args":[1],"kwargs":{"a":1}}', ("a",), result)) == (args, kwargs)


def test_a_results_keywords_go_over_the_tasks_own_and_never_over_the_steps() -> None:
    payload = '{"args":[],"kwargs":{"width":800,"format":"pdf"}}'
    found = decode_arguments(with_input(payload, ("format",), encode({"width": 1, "format": "png"})))
    assert found == ([], {"width": 1, "format": "pdf"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ([1, (2, {3})], "[1,[2,[3]]]"),
        ({"a": (1,)}, '{"a":[1]}'),
        ("x", '"x"'),
        (date(2026, 1, 2), '{"$date":"2026-01-02"}'),
    ],
)
def test_a_command_gets_plain_json(value: object, text: str | None) -> None:
    assert as_json(encode(value)) == text


def test_a_failure_is_plain_json_too() -> None:
    assert as_json('[{"$failure":{"task":"load"}}]') == '[{"task":"load"}]'
    assert as_json(None) is None


def a_claim(run: NewRun, *inputs: Input, **given: Any) -> Claim:
    claim = Claim(
        seq=7,
        id=run.id,
        task=run.task,
        claim_no=1,
        attempt=1,
        failures=0,
        crashes=0,
        payload=run.payload,
        priority=run.priority,
        due_at=run.due_at,
        created_at=run.created_at,
        trigger=run.trigger.value,
        pool=run.pool,
        tick=None,
        missed=0,
        policy=None,
        options=None,
        cause=None,
        pipeline=run.pipeline,
        pipeline_name=run.pipeline_name,
        step=run.step,
        compose=run.compose,
        inputs=inputs,
    )
    return claim._replace(**given)


def ended(result: str | None, condition: str = "ok", **given: Any) -> Input:
    found = Input("before", "extract", State.SUCCEEDED, condition, result, None, "ok", None, None, 2)
    return found._replace(**given)


def test_a_step_is_called_with_the_result_before_it() -> None:
    row = begun(steps(step("extract"), step("load", args=(1,))))[2]
    claim = a_claim(row, ended("5"))
    assert decode_arguments(composition.compose(claim, is_command=False).payload) == ([1, 5], {})
    assert composition.compose(claim, is_command=True) == (row.payload, "5")
    assert composition.cause_of(claim, "") is None


def test_a_step_that_takes_no_input_is_called_as_it_is() -> None:
    row = begun(steps(step("extract"), step("load", takes_input=False)))[2]
    assert row.compose is None
    assert composition.compose(a_claim(row), is_command=False) == (row.payload, None)


def test_a_run_that_only_waits_behind_another_takes_nothing_from_it() -> None:
    row = begun(steps(step("extract"), step("load")))[2]
    claim = a_claim(row, ended("5", "final"))
    assert composition.compose(claim, is_command=False).payload == row.payload


def test_a_handler_is_told_what_failed() -> None:
    row = begun(steps(step("extract", on_failure=(step("page"),))))[2]
    claim = a_claim(row, ended(None, "failed", state=State.FAILED, outcome="exit 3", exit_code=3))
    assert composition.compose(claim, is_command=False).payload == row.payload
    assert composition.called_for(claim) == claim.inputs[0]
    cause = composition.cause_of(claim, "the end")
    assert cause is not None
    assert (cause.task, cause.run_id, cause.state, cause.reason, cause.exit_code, cause.output_tail) == (
        "extract",
        "before",
        "failed",
        "exit 3",
        3,
        "the end",
    )


@pytest.mark.parametrize("compose", ["{", '{"input":true'])
def test_a_damaged_row_is_an_error_and_not_the_end(compose: str) -> None:
    row = begun(steps(step("extract"), step("load")))[2]
    with pytest.raises(ValueError, match="damaged"):
        composition.compose(a_claim(row, ended("5"), compose=compose), is_command=False)
    with pytest.raises(ValueError, match="damaged"):
        composition.compose(a_claim(row, ended("{")), is_command=False)


# --- growth -----------------------------------------------------------------------------------------


def grown(node: Map, result: str | None, **pipelines: Pipeline) -> Settle:
    known = entries(**pipelines)
    row = begun(steps(step("extract"), node), known)[2]
    return composition.grow(a_claim(row, ended(result)), "me", known.get, NOW + 5)


def test_a_map_grows_a_member_for_each_item_of_its_input() -> None:
    settle = grown(Map(step=step("load", args=(0,))), encode([1, (2, 3), {"k": 4}]))
    assert [decode_arguments(run.payload) for run in settle.follow] == [
        ([0, 1], {}),
        ([0, 2, 3], {}),
        ([0], {"k": 4}),
    ]
    assert (settle.state, settle.join, settle.attempt, settle.outcome) == (State.WAITING, "list", 0, None)
    assert [edge.run_id for edge in settle.after] == [run.id for run in settle.follow]
    assert [run.step for run in settle.follow] == ["2.1", "2.2", "2.3"]
    assert {run.pipeline_name for run in settle.follow} == {"report"}


def test_a_map_of_pipelines_joins_their_rows_and_not_their_steps() -> None:
    inner = steps(step("load"), step("mail"), on_failure=(step("page"),))
    settle = grown(Map(step=step("inner"), goes_on=True), encode(((1,), 2)), inner=inner)
    rows = {run.step: run for run in settle.follow}
    assert settle.join == "list-any"
    assert [edge.run_id for edge in settle.after] == [rows["2.1"].id, rows["2.2"].id]
    assert decode_arguments(rows["2.1.1"].payload) == ([1], {})
    assert decode_arguments(rows["2.2.1"].payload) == ([2], {})


def test_a_map_over_nothing_grows_nothing() -> None:
    for node, result in ((Map(step=step("load"), over=()), "7"), (Map(step=step("load")), "[]")):
        settle = grown(node, result)
        assert (settle.follow, settle.after, settle.join) == ((), (), "list")


@pytest.mark.parametrize("result", [None, "7", '{"a":1}', '"text"'])
def test_a_map_over_what_is_no_list_is_refused(result: str | None) -> None:
    with pytest.raises(PayloadError, match="wants a list"):
        grown(Map(step=step("load")), result)


class Watched(list[NewRun]):
    """Rows that count how many of them are looked at one after the other."""

    looked_at = 0

    def __iter__(self) -> Iterator[NewRun]:
        self.looked_at += len(self)
        return super().__iter__()


def test_writing_a_member_does_not_look_at_those_before_it() -> None:
    weaver = Weaver(Place("root", "report", NOW, NOW, 0), entries().get)
    weaver.runs = watched = Watched()
    items = [str(n) for n in range(1000)]
    weaver.members(Map(step=step("load", on_failure=(step("page"),))), items, "2", Before())
    assert (len(watched), watched.looked_at) == (2000, 0)
    assert [run.step for run in watched[:4]] == ["2.1", "2.1.f1", "2.2", "2.2.f1"]
    assert decode_arguments(watched[-2].payload) == ([999], {})


def test_a_block_has_a_bound() -> None:
    many = Parallel(members=(step("load"),) * 20_001)
    with pytest.raises(UsageError, match="20,001 members of one map or group, expected at most 20,000"):
        begun(steps(many))
    with pytest.raises(UsageError, match="20,001 members"):
        grown(Map(step=step("load")), encode(list(range(20_001))))


def test_a_run_enqueued_before_its_pipeline_was_known_becomes_it() -> None:
    known = entries(report=steps(step("extract"), step("mail")))
    run = new_run(
        Entry(name="report", kind="call", pool="default", lane="task:report"),
        run_id="r",
        trigger=Trigger.ENQUEUE,
        now=NOW,
        due_at=NOW,
        payload='{"args":[7],"kwargs":{}}',
    )
    made = composition.unfold(a_claim(run), "me", known["report"], known.get, NOW + 5)
    assert (made.state, made.join, made.id, made.attempt) == (State.WAITING, "last", "r", 0)
    assert [(each.step, each.pipeline, each.state) for each in made.follow] == [
        ("1", "r", State.QUEUED),
        ("2", "r", State.WAITING),
    ]
    assert decode_arguments(made.follow[0].payload) == ([7], {})
    assert [edge.run_id for edge in made.after] == [each.id for each in made.follow]


def test_items_keep_their_tags() -> None:
    assert items_of('[{"$date":"2026-01-02"},"a"]') == ['{"$date":"2026-01-02"}', '"a"']


# --- retry ------------------------------------------------------------------------------------------

Ends = Callable[[NewRun], State]


def rerun(rows: list[NewRun], ends: dict[str, State], results: dict[str, str] | None = None) -> list[NewRun]:
    """The rows of a retry, after the old ones ended so (all others: skipped)."""
    old: list[Run] = []
    for seq, row in enumerate(rows):
        place = row.step or "root"
        result = (results or {}).get(place, "1")
        old.append(_born(seq, row)._replace(state=ends.get(place, State.SKIPPED), result=result))
    again = rows[0]._replace(
        id="01934d5e-0000-7000-8000-00000000bbbb", join=None, after=(), state=State.QUEUED
    )
    return list(composition.retried(again, None, old, entries().get))


def test_a_retry_keeps_what_has_succeeded() -> None:
    rows = begun(steps(step("extract"), step("load", on_failure=(step("page"),)), step("mail")))
    done = {"root": State.FAILED, "1": State.SUCCEEDED, "2": State.FAILED, "2.f1": State.SUCCEEDED}
    again = rerun(rows, done)
    assert shape(again) == {
        "root": ("report", "last", ["final 1", "final 2", "final 3"]),
        "1": ("extract", "succeeded", []),
        "2": ("load", "waiting", ["ok 1"]),
        "2.f1": ("page", "waiting", ["failed 2"]),
        "3": ("mail", "waiting", ["ok 2"]),
    }
    assert (again[1].result, json.loads(again[1].detail or "")) == ("1", {"kept": rows[1].id})
    assert {row.id for row in again}.isdisjoint({row.id for row in rows})


def test_a_retry_of_what_went_well_does_all_of_it_again() -> None:
    rows = begun(steps(step("extract"), step("load")))
    again = rerun(rows, dict.fromkeys(("root", "1", "2"), State.SUCCEEDED))
    assert [row.state for row in again[1:]] == [State.QUEUED, State.WAITING]


def test_a_retry_keeps_the_members_of_a_map_that_has_grown() -> None:
    rows = begun(steps(step("extract"), Map(step=step("load"))))
    settle = composition.grow(a_claim(rows[2], ended("[1,2]")), "me", entries().get, NOW)
    grown_rows = [*rows[:2], rows[2]._replace(join="list"), *settle.follow]
    done = {"root": State.FAILED, "1": State.SUCCEEDED, "2": State.FAILED, "2.1": State.SUCCEEDED}
    again = {row.step: row for row in rerun(grown_rows, {**done, "2.2": State.FAILED}, {"1": "[1,2]"})}
    assert [again[place].state for place in ("2.1", "2.2")] == [State.SUCCEEDED, State.WAITING]
    assert (again["2"].join, len(again["2"].after)) == ("list", 2)
    assert decode_arguments(again["2.2"].payload) == ([2], {})


def test_a_retry_leaves_alone_what_failed_in_a_block_that_went_on() -> None:
    block = Parallel(members=(step("load"), step("load")), goes_on=True)
    rows = begun(steps(block, step("mail")))
    done = {"root": State.FAILED, "1": State.SUCCEEDED, "1.1": State.SUCCEEDED, "1.2": State.FAILED}
    again = shape(rerun(rows, {**done, "2": State.FAILED}))
    assert set(again) == {"root", "1", "1.1", "2"}
    assert again["2"] == ("mail", "waiting", ["ok 1"])


def test_a_task_is_no_pipeline_to_be_retried() -> None:
    run = new_run(an_entry("mail"), run_id="r", trigger=Trigger.RETRY, now=NOW, due_at=NOW)
    with pytest.raises(UsageError):
        composition.retried(run, None, [_born(1, run)], entries().get)
