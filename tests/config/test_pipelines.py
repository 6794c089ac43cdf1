"""Pipelines of a file arrive in the plan as the tree that they are (35); unique keys and rates with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobrunner.catalogue import catalogue_of
from jobrunner.composition import Map, Parallel, Pipeline, Step, Steps, from_text
from jobrunner.durations import HOUR, MINUTE, SECOND
from jobrunner.model import Options
from jobrunner.plain import from_plain, to_plain
from jobrunner.plan import CatchUp, Overlap, Plan, RateLimit, Unique
from tests.config.test_keys import plan_of

TASKS = "tasks:\n" + "".join(f"  {name}: {{command: date}}\n" for name in ("extract", "load", "mail", "page"))


def spec_of(folder: Path, steps: str, rest: str = "") -> Any:
    plan = plan_of(
        folder, f"{TASKS}pipelines:\n  inner: {{steps: [load]}}\n  report:\n    steps: {steps}\n{rest}"
    )
    return from_text(plan.pipelines["report"].composition)


def test_the_steps_are_a_tree(tmp_path: Path) -> None:
    steps = """
      - extract
      - parallel: [load, [load, mail], {task: mail, input: none}]
        on_member_failure: continue
        on_failure: page
      - {task: load, args: [1], kwargs: {a: b}, timeout: 5m, retries: 2, retry_delay: 3s, env: {A: b}}
      - {task: load, priority: 3, expires: 1h, delay: 5s, on_failure: [page, mail]}
      - map: {task: mail, over: [1, [2]], kwargs: {c: d}}
      - map: {task: mail, over: input}
        on_member_failure: continue
      - inner
"""
    options = Options(timeout=5 * MINUTE, retries=2, retry_delay=3 * SECOND, env={"A": "b"})
    page, mail, load = Step(task="page"), Step(task="mail"), Step(task="load")
    assert spec_of(tmp_path, steps, "    on_failure: page\n    on_success: [mail]\n") == Pipeline(
        steps=Steps(
            steps=(
                Step(task="extract"),
                Parallel(
                    members=(load, Steps(steps=(load, mail)), Step(task="mail", takes_input=False)),
                    goes_on=True,
                    on_failure=(page,),
                ),
                Step(task="load", args=(1,), kwargs={"a": "b"}, options=options),
                Step(task="load", priority=3, expires=HOUR, delay=5 * SECOND, on_failure=(page, mail)),
                Map(step=Step(task="mail", kwargs={"c": "d"}), over=(1, [2])),
                Map(step=mail, goes_on=True),
                Step(task="inner"),
            )
        ),
        on_failure=(page,),
        on_success=(mail,),
    )


def test_a_pipeline_has_a_schedule_and_its_companions(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        f"{TASKS}pipelines:\n  report:\n    steps: [mail]\n    schedule: 0 4 * * 1-5\n"
        "    timezone: Asia/Tokyo\n"
        "    overlap: allow\n    catch_up: none\n    catch_up_window: 1h\n    jitter: 5m\n    priority: 7\n"
        "    timeout: 2h\n    unique: {key: all, on_conflict: replace}\n    enabled: false\n"
        "    description: Hello\n",
    )
    report = plan.pipelines["report"]
    assert [(rule.text, rule.timezone) for rule in report.schedules] == [("0 4 * * 1-5", "Asia/Tokyo")]
    assert (report.overlap, report.catch_up, report.catch_up_window) == (Overlap.ALLOW, CatchUp.NONE, HOUR)
    assert (report.jitter, report.priority, report.timeout) == (5 * MINUTE, 7, 2 * HOUR)
    assert (report.unique, report.enabled) == (Unique(key="all", replaces=True), False)
    assert (report.description, report.line) == ("Hello", 7)
    assert from_plain(Plan, to_plain(plan)).pipelines == plan.pipelines


def test_defaults_are_not_of_pipelines(tmp_path: Path) -> None:
    text = f"defaults: {{timeout: 1h, priority: 5}}\n{TASKS}pipelines: {{report: {{steps: [mail]}}}}\n"
    report = plan_of(tmp_path, text).pipelines["report"]
    assert (report.timeout, report.priority, report.overlap) == (None, 0, Overlap.SKIP)


def test_an_included_file_may_have_pipelines_of_tasks_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("pipelines: {report: {steps: [mail]}}\n")
    assert list(plan_of(tmp_path, f"include: [more.yaml]\n{TASKS}").pipelines) == ["report"]


def test_a_task_may_call_a_pipeline(tmp_path: Path) -> None:
    text = "tasks:\n  a: {command: date, on_failure: [report]}\npipelines: {report: {steps: [a]}}\n"
    assert plan_of(tmp_path, text).tasks["a"].on_failure == ("report",)


def test_clients_know_a_pipeline_like_a_task(tmp_path: Path) -> None:
    text = f"{TASKS}pipelines: {{report: {{steps: [mail], schedule: daily, timeout: 1h, unique: x}}}}\n"
    catalogue = catalogue_of(plan_of(tmp_path, text))
    entry = catalogue.tasks["report"]
    assert (entry.kind, entry.schedule, entry.timeout, entry.unique) == ("pipeline", "daily", HOUR, "x")
    assert entry.composition is not None
    assert set(entry.schedules) <= set(catalogue.schedules)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("100/1m", RateLimit(limit=100, window=MINUTE)),
        ("1 / 90s", RateLimit(limit=1, window=90 * SECOND)),
        ("5/h", RateLimit(limit=5, window=HOUR)),
    ],
)
def test_a_rate_is_a_number_and_a_time(text: str, limit: RateLimit, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f"tasks:\n  a: {{command: date, rate_limit: {text}}}\n")
    assert plan.tasks["a"].rate_limit == limit
    assert plan.tasks["a"].may_prefetch is False


def test_a_key_may_be_written_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 'tasks:\n  a: {command: date, unique: "{image}"}\n')
    assert plan.tasks["a"].unique == Unique(key="{image}")
