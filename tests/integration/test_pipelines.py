"""Pipelines, unique keys, rates and marks through a real supervisor, its commands and its workers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobrunner import JobRunner, chain, group
from jobrunner.model import Run, State
from jobrunner.storage import RunFilter, Storage
from tests.drills.checker import client
from tests.live import PATIENCE, Project

MODULE = """
from jobrunner import current_run, Failure

def numbers(): return [1, 2, 3]
def add(a, b): return a + b
def fib(a, b): return (a + b, a)
def double(n): return n * 2
def total(found): return sum(0 if isinstance(n, Failure) else n for n in found)
def fail(*given): raise ValueError("no luck")
def fail_until_go(*given):
    import os
    if not os.path.exists("go"): raise ValueError("not yet")
    return given[-1] if given else None
def told():
    cause = current_run().cause
    return [cause.task, cause.state, cause.reason, cause.exit_code]
def width(width, height=1): return [width, height]
def size(): return {"width": 3}
"""

TASKS = """
tasks:
  numbers: {call: "shop:numbers"}
  add: {call: "shop:add"}
  fib: {call: "shop:fib"}
  double: {call: "shop:double"}
  total: {call: "shop:total"}
  fail: {call: "shop:fail"}
  flaky: {call: "shop:fail_until_go"}
  told: {call: "shop:told"}
  width: {call: "shop:width"}
  size: {call: "shop:size"}
  say: {command: 'echo "{\\"n\\": $1}"', result: json}
  pass-on: {command: 'test "$(cat)" = "$JOBRUNNER_INPUT" && echo "$JOBRUNNER_INPUT"', result: json}
  hold: {command: "while [ ! -e go ]; do sleep 0.05; done; echo held"}
  page: {command: 'echo "$JOBRUNNER_FAILED_TASK $JOBRUNNER_FAILED_REASON $JOBRUNNER_FAILED_EXIT_CODE"'}
  bad: {command: exit 3}
"""


def serving(project: Project, pipelines: str, *options: str) -> None:
    written(project, pipelines)
    project.start(*options)


def written(project: Project, pipelines: str) -> None:
    project.write(MODULE, "shop.py")
    project.write(f"{TASKS}pipelines:\n{pipelines}")


def done(project: Project, name: str, *arguments: str, exit_code: int = 0) -> Any:
    """The document of a pipeline's root once it is over."""
    answer = project.answer("enqueue", name, "--wait", *arguments, exit_code=exit_code)
    return project.answer("show", answer["id"])


def results(document: Any) -> dict[str, Any]:
    """Place -> result, or the state where there is none."""
    return {
        each["step"]: each["result"] if each["state"] == "succeeded" else each["state"]
        for each in document["steps"]
    }


def over(storage: Storage, run_id: str) -> Run:
    run = storage.wait(run_id, PATIENCE)
    assert run.state.is_final, run
    return run


# --- shapes -----------------------------------------------------------------------------------------


def test_results_go_from_step_to_step(project: Project) -> None:
    serving(
        project,
        """
  sums:
    steps:
      - {task: add, args: [1, 2]}
      - {task: add, args: [3]}
      - {task: add, args: [4]}
      - {task: add, args: [5]}
  fibs: {steps: [{task: fib, args: [1, 1]}, fib, fib, fib]}
  sizes: {steps: [size, {task: width, kwargs: {height: 2}}]}
""",
    )
    assert list(results(done(project, "sums")).values()) == [3, 6, 10, 15]
    assert list(results(done(project, "fibs")).values()) == [[2, 1], [3, 2], [5, 3], [8, 5]]
    assert done(project, "sizes")["result"] == [3, 2]


def test_blocks_nest_and_maps_grow(project: Project) -> None:
    serving(
        project,
        """
  chord:
    steps:
      - parallel:
          - {task: add, args: [1, 1]}
          - [{task: add, args: [2, 2]}, double]
          - inner
      - total
  inner:
    steps:
      - parallel: [[numbers, total], {task: add, args: [5, 5]}]
      - total
  grown: {steps: [numbers, {map: {task: double, over: input}}, {map: {task: innermost, over: input}}, total]}
  innermost: {steps: [double, double]}
  spread: {steps: [{map: {task: add, over: [[1]], args: [[0]]}}, {map: {task: double, over: []}}, total]}
""",
    )
    assert done(project, "chord")["result"] == 2 + 8 + (6 + 10)
    grown = done(project, "grown")
    assert grown["result"] == (2 + 4 + 6) * 4
    assert results(grown)["2"] == [2, 4, 6]
    assert results(done(project, "spread")) == {
        "1": [[0, 1]],
        "1.1": [0, 1],
        "2": [],
        "3": 0,
    }


def test_commands_get_their_input_on_stdin_and_in_a_variable(project: Project) -> None:
    serving(project, '  talk: {steps: [{task: say, args: ["7"]}, pass-on, {task: pass-on, input: none}]}\n')
    found = results(done(project, "talk", exit_code=1))
    assert (found["1"], found["2"], found["3"]) == ({"n": 7}, {"n": 7}, "failed")  # no stdin, no JSON


def test_a_tree_is_shown(project: Project) -> None:
    serving(
        project, "  report: {steps: [numbers, {parallel: [total, total]}, bad, hold], on_failure: [page]}\n"
    )
    run = done(project, "report", exit_code=1)
    shown = project.jobrunner("show", run["id"]).stdout
    table = shown[shown.index("STEP") :].splitlines()[1:7]
    assert [line.split()[1:3] for line in table] == [
        ["1", "numbers"],
        ["2", "(parallel)"],
        ["2.1", "total"],
        ["2.2", "total"],
        ["3", "bad"],
        ["4", "hold"],
    ]
    assert "5/5 over" in shown
    assert f"failed: bad ({run['steps'][4]['id']}): exit 3" in shown


# --- failures ---------------------------------------------------------------------------------------


def test_a_failure_is_told_to_its_handlers_and_stops_what_follows(project: Project) -> None:
    serving(
        project,
        """
  report:
    steps: [{task: bad, on_failure: [page]}, numbers]
    on_failure: [told]
""",
    )
    run = done(project, "report", exit_code=1)
    with client(project) as storage:
        rows = {row.step: over(storage, row.id) for row in storage.runs(RunFilter(pipeline=run["id"]))}
    assert (rows["2"].state, rows["2"].reason) == (State.SKIPPED, "upstream failed")
    assert json.loads(rows["1.f1"].result or "") == "bad exit 3 3"
    assert json.loads(rows["f1"].result or "") == ["report", "failed", run["error"], 3]
    assert run["error"] == f"bad ({rows['1'].id}): exit 3"


def test_a_block_may_go_on_with_a_failure_in_its_place(project: Project) -> None:
    serving(
        project,
        """
  report:
    steps:
      - parallel: [fail, {task: add, args: [2, 3]}]
        on_member_failure: continue
      - total
""",
    )
    run = done(project, "report")
    assert (run["result"], results(run)["1.1"]) == (5, "failed")


def test_a_retry_goes_on_from_the_failed_step(project: Project) -> None:  # rule 36
    serving(project, "  report: {steps: [numbers, total, flaky, double]}\n")
    first = done(project, "report", exit_code=1)
    (again,) = project.answer("retry", first["id"])
    project.write("", "go")
    with client(project) as storage:
        assert over(storage, again["id"]).state is State.FAILED  # or the file was there in time: see below
    (third,) = project.answer(
        "retry", next(each["id"] for each in project.answer("show", again["id"])["steps"])
    )
    with client(project) as storage:
        root = over(storage, third["id"])
        rows = {row.step: row for row in storage.runs(RunFilter(pipeline=root.id))}
    assert (root.state, root.result, root.trigger) == (State.SUCCEEDED, "12", "retry")
    assert [rows[place].claim_no for place in ("1", "2")] == [0, 0]
    assert [rows[place].claim_no for place in ("3", "4")] == [1, 1]


def test_a_pipeline_is_cancelled_whole(project: Project) -> None:  # rule 37
    serving(
        project, "  report: {steps: [numbers, {parallel: [hold, hold]}, total]}\n", "--log-level", "debug"
    )
    run = project.answer("enqueue", "report")
    with client(project) as storage:
        project._supervisors[0].wait_for_number(2, "started", task="hold")
        why = project.answer("why", "report")
        assert (why["verdict"], why["run"]) == ("runs", run["id"])
        assert "1 of 4 steps are over. Now: hold (" in why["explanation"]
        assert "waits for run " in project.answer("why", "total")["explanation"]
        answer = project.answer("cancel", "report")
        assert answer == {"cancelled": [], "ending": [run["id"]]}
        assert over(storage, run["id"]).state is State.CANCELLED
        assert "ended: cancelled" in project.answer("why", "report")["explanation"]
        rows = {row.step: row.state for row in storage.runs(RunFilter(pipeline=run["id"])) if row.step}
    assert rows == {
        "1": State.SUCCEEDED,
        "2": State.CANCELLED,
        "2.1": State.CANCELLED,
        "2.2": State.CANCELLED,
        "3": State.CANCELLED,
    }


def test_a_pipeline_has_its_time(project: Project) -> None:
    serving(project, "  report: {steps: [hold, numbers], timeout: 500ms, on_failure: [told]}\n")
    run = done(project, "report", exit_code=1)
    assert (run["state"], run["outcome"]) == ("failed", "timeout")
    with client(project) as storage:
        rows = {row.step: over(storage, row.id) for row in storage.runs(RunFilter(pipeline=run["id"]))}
    assert json.loads(rows["f1"].result or "") == ["report", "failed", "timeout", None]


# --- one thing, however it is started ---------------------------------------------------------------


def test_a_pipeline_is_the_same_however_it_is_written_and_started(project: Project) -> None:
    # rules 35 to 37: in a file or in Python; by a schedule, the command line, or the API
    serving(
        project,
        """
  report:
    schedule: every 1s
    steps:
      - numbers
      - parallel: [total, {map: {task: double, over: input}}, {task: bad, on_failure: [page]}]
        on_member_failure: continue
      - {task: pass-on, kwargs: {n: 1}}
""",
    )
    rows = [rows_of(project, done(project, "report"))]
    with JobRunner(project.file) as jobs:
        members = [jobs["total"].s(), jobs["double"].each(), jobs["bad"].s().error(jobs["page"])]
        block = group(members, on_member_failure="continue")
        written = chain(jobs["numbers"].s(), block, jobs["pass-on"].s(n=1))
        for handle in (jobs["report"](), jobs.enqueue("report"), jobs.enqueue(written)):
            handle.wait(timeout=PATIENCE)
            rows.append(rows_of(project, project.answer("show", handle.id)))
        ticks = [run.id for run in jobs.runs(task="report", trigger="schedule") if not run.reason]
        jobs.handle(ticks[-1]).wait(timeout=PATIENCE)
        rows.append(rows_of(project, project.answer("show", ticks[-1])))
    assert [len(each) for each in rows] == [11] * 5
    assert all(each == rows[0] for each in rows[1:]), rows
    assert rows[0]["2.1"] == ["total", "succeeded", 6, ["ok 1"]]
    assert rows[0]["2.3.f1"][:2] == ["page", "succeeded"]


def rows_of(project: Project, root: Any) -> dict[str, list[Any]]:
    """Place -> task, state, result and edges of each step; runs by their places."""
    with client(project) as storage:
        runs = storage.runs(RunFilter(pipeline=root["id"]))
        for run in runs:
            over(storage, run.id)  # handlers may outlast the root
        runs = storage.runs(RunFilter(pipeline=root["id"]))
        edges = storage.edges([run.id for run in runs])
    names = {run.id: run.step or "root" for run in runs}

    def named(text: str) -> str:
        for run_id, name in names.items():
            text = text.replace(run_id, name)
        return text

    return {
        names[run.id]: [
            run.task if run.step else "",
            run.state.value,
            json.loads(named(run.result or "null")),
            [f"{edge.condition} {names[edge.run_id]}" for edge in edges.get(run.id, ())],
        ]
        for run in runs
    }


# --- limits -----------------------------------------------------------------------------------------

LIMITS = """
pools: {default: {slots: 1}, commands: {slots: 1}}
tasks:
  once: {command: "echo $1; while [ ! -e go ]; do sleep 0.05; done", unique: "{0}"}
  late: {command: "echo $1", unique: {key: "x", on_conflict: replace}}
  slow: {command: date, rate_limit: 2/1h}
  mark: {command: 'echo "$1" >> marks'}
pipelines:
  report: {steps: [mark, mark], unique: all}
"""


def test_a_run_that_was_forced_before_its_pipeline_was_known_is_done(project: Project) -> None:
    # rule 20: it is claimed once somebody knows it
    written(project, "  line: {steps: [double, {task: double, on_failure: [told]}]}")
    forced = project.answer("enqueue", "line", "--args", "[1]", "--force")["id"]
    project.start()
    with JobRunner(project.file) as jobs:
        handle = jobs.handle(forced)
        assert handle.get(timeout=PATIENCE) == 4
        assert [step.task for step in handle.steps()] == ["double", "double"]
        assert jobs["line"](1).get(timeout=PATIENCE) == 4
    assert project.answer("show", forced)["state"] == "succeeded"


def test_a_key_is_refused_while_it_is_held(project: Project) -> None:
    project.write(LIMITS)
    project.start()
    first = project.answer("enqueue", "once", "--args", '["a"]')
    refused = project.jobrunner("enqueue", "once", "--args", '["a"]')
    assert refused.returncode == 1
    assert f"the unique key 'a' is held by run {first['id']}" in refused.stderr
    assert project.jobrunner("enqueue", "once", "--args", '["b"]').returncode == 0
    assert project.jobrunner("enqueue", "once", "--args", '["c"]', "--unique", "b").returncode == 1
    project.write("", "go")
    with client(project) as storage:
        over(storage, first["id"])
    assert project.jobrunner("enqueue", "once", "--args", '["a"]').returncode == 0


def test_a_newer_call_takes_the_place_of_one_that_waits(project: Project) -> None:
    project.write(LIMITS)
    project.start()
    ids = [project.answer("enqueue", "late", "--in", "1h", "--args", f'["{n}"]')["id"] for n in range(3)]
    with client(project) as storage:
        states = [(run.state, run.reason) for run in map(storage.run, ids)]
    assert states == [(State.CANCELLED, "superseded")] * 2 + [(State.SCHEDULED, None)]


def test_what_is_over_its_rate_waits_and_holds_up_nothing(project: Project) -> None:  # rule 18
    project.write(LIMITS)
    project.start()
    slow = [project.answer("enqueue", "slow", "--priority", "9")["id"] for _ in range(3)]
    mark = project.answer("enqueue", "mark", "--wait")
    assert mark["state"] == "succeeded"
    with client(project) as storage:
        assert sorted(run.state for run in map(storage.run, slow)) == ["queued", "succeeded", "succeeded"]


def test_what_is_revoked_does_not_start_until_it_is_restored(project: Project) -> None:  # rule 20
    project.write(LIMITS)
    project.start()
    assert project.answer("revoke", "mark", "--once")["once"] is True
    first = project.answer("enqueue", "mark", "--wait", exit_code=1)
    assert (first["state"], first["reason"]) == ("cancelled", "revoked")
    assert project.answer("enqueue", "mark", "--wait")["state"] == "succeeded"
    project.answer("revoke", "report")
    assert [each["target"] for each in project.answer("revoke")] == ["task:report"]
    run = project.answer("enqueue", "report", "--wait", exit_code=1)
    assert (run["state"], run["reason"]) == ("cancelled", "revoked")
    assert project.answer("restore", "report") == {"target": "task:report", "restored": True}
    assert project.answer("enqueue", "report", "--wait")["state"] == "succeeded"


def test_a_paused_pipeline_waits(project: Project) -> None:
    project.write(LIMITS)
    project.start()
    project.answer("pause", "report")
    run = project.answer("enqueue", "report", "--args", '["x"]')
    assert project.jobrunner("enqueue", "report").returncode == 1  # its key is held
    assert project.answer("enqueue", "mark", "--wait", "--args", '["y"]')["state"] == "succeeded"
    project.answer("resume", "report")
    with client(project) as storage:
        assert over(storage, run["id"]).state is State.SUCCEEDED
    assert (project.folder / "marks").read_text().split() == ["y", "x"]


@pytest.mark.parametrize("pool", ["commands"])
def test_priority_is_strict(project: Project, pool: str) -> None:  # rule 18
    project.write(LIMITS)
    project.start()
    project.answer("pause", "--pool", pool)
    for priority in (100, 120, 10, 12, 0, 2):
        project.answer("enqueue", "mark", "--priority", str(priority), "--args", f'["{priority}"]')
    project.answer("resume", "--pool", pool)
    last = project.answer("enqueue", "mark", "--priority", "-1", "--args", '["end"]', "--wait")
    assert last["state"] == "succeeded"
    assert (project.folder / "marks").read_text().split() == ["120", "100", "12", "10", "2", "0", "end"]
