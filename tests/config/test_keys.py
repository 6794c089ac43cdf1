"""Keys of jobs.yaml: each arrives in the plan, none is silently ignored, a misspelt one is recognised."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from jobrunner.config.file_models import FileModel
from jobrunner.config.schema import (
    DefaultsModel,
    LimitsModel,
    LockModel,
    LockSlotsModel,
    OutputModel,
    PoolModel,
    RetentionModel,
    RetriesModel,
    TaskModel,
)
from jobrunner.durations import DAY, HOUR, MINUTE, SECOND
from jobrunner.plain import from_plain, to_plain
from jobrunner.plan import (
    CatchUp,
    Limits,
    LockUse,
    Notify,
    Occasion,
    OutputRule,
    Overlap,
    Plan,
    Pool,
    PoolKind,
    RateLimit,
    Retention,
    Retries,
    Unique,
)
from jobrunner.schedule import Schedule

OWN_USER = pwd.getpwuid(os.geteuid()).pw_name
OWN_GROUP = grp.getgrgid(os.getegid()).gr_name
ENVIRON = {"HOME": "/home/ana", "PATH": "/usr/bin:/bin"}


def compiled(folder: Path, text: str) -> Compiled:
    file = folder / "jobs.yaml"
    file.write_text(text, encoding="utf-8")
    return compile_file(str(file), environ=ENVIRON)


def plan_of(folder: Path, text: str) -> Plan:
    found = compiled(folder, text)
    assert found.plan is not None, found.rendered
    return found.plan


# ---- every key arrives -----------------------------------------------------------------------------------

COMMAND_KEYS: list[tuple[str, str, object]] = [
    ("command: date", "command", "date"),
    ("command: 5", "command", "5"),
    ("command: [cp, 3.10, no]", "command", ("cp", "3.10", "no")),
    ("command: echo ${HOME} $$", "command", "echo ${HOME} $$"),
    ("shell: bash -o pipefail", "shell", ("bash", "-o", "pipefail")),
    ("args: [1, {a: null}]", "args", (1, {"a": None})),
    ("kwargs: {width: 800}", "kwargs", {"width": 800}),
    ("overlap: allow", "overlap", Overlap.ALLOW),
    ("catch_up: none", "catch_up", CatchUp.NONE),
    ("overlap: queue", "overlap", Overlap.QUEUE),
    ("overlap: replace", "overlap", Overlap.REPLACE),
    ("catch_up: all", "catch_up", CatchUp.ALL),
    ("catch_up_limit: 7", "catch_up_limit", 7),
    ("catch_up_window: 2h", "catch_up_window", 2 * HOUR),
    ("jitter: 5m", "jitter", 5 * MINUTE),
    ("notify: {mail: ops@example.com}", "notify", Notify(mail=("ops@example.com",))),
    (
        "notify: {on: [missed, late], mail: [root, a@b.c], webhook: http://x/y, command: 'p ${HOME}'}",
        "notify",
        Notify(
            on=(Occasion.MISSED, Occasion.LATE),
            mail=("root", "a@b.c"),
            webhook="http://x/y",
            command="p ${HOME}",
        ),
    ),
    (
        "notify: {on: success, command: [page, 3.10]}",
        "notify",
        Notify(on=(Occasion.SUCCESS,), command=("page", "3.10")),
    ),
    ("retries: 3", "retries", Retries(max=3)),
    (
        "retries: {max: 3, delay: 1s, backoff: 1.5, max_delay: 1m, jitter: 5%, on: [75, OSError], not_on: 2}",
        "retries",
        Retries(
            max=3, delay=SECOND, backoff=1.5, max_delay=MINUTE, jitter=0.05, on=(75, "OSError"), not_on=(2,)
        ),
    ),
    ("timeout: 1h30m", "timeout", 90 * MINUTE),
    ("timeout: 90", "timeout", 90 * SECOND),
    ("kill_after: 0", "kill_after", 0),
    ("expires: 10m", "expires", 10 * MINUTE),
    ("priority: -5", "priority", -5),
    ("lock: database", "lock", LockUse(name="database")),
    ("lock: {name: database, on_busy: skip}", "lock", LockUse(name="database", on_busy="skip")),
    ("pool: commands", "pool", "commands"),
    ("on_interrupt: fail", "on_interrupt", "fail"),
    ("max_crashes: 0", "max_crashes", 0),
    ("leftovers: keep", "leftovers", "keep"),
    ("on_success: [other]", "on_success", ("other",)),
    ("on_failure: other", "on_failure", ("other",)),
    ("env: {VERSION: 3.10, ON: yes, E: ''}", "env", {"VERSION": "3.10", "ON": "yes", "E": ""}),
    (f"user: {OWN_USER}", "user", OWN_USER),
    (f"group: {OWN_GROUP}", "group", OWN_GROUP),
    ("umask: 022", "umask", 0o22),
    ("umask: '077'", "umask", 0o77),
    ("umask: 7", "umask", 7),
    ("nice: 19", "nice", 19),
    (
        "limits: {nofile: 64, nproc: 50, cpu: 2m, memory: 64MiB, fsize: 1MB, core: 0}",
        "limits",
        Limits(nofile=64, nproc=50, cpu=2 * MINUTE, memory=64 << 20, fsize=10**6, core=0),
    ),
    ("limits: {core: 0}", "limits", Limits(core=0)),
    ("stdin: 5", "stdin", "5"),
    ("success_codes: [0, 75]", "success_codes", (0, 75)),
    ("success_codes: 3", "success_codes", (3,)),
    ("output: {max_size: 1MiB, keep: 1d}", "output", OutputRule(max_size=1 << 20, keep=DAY)),
    ("enabled: false", "enabled", False),
    ("description: 1.10", "description", "1.10"),
    ("store_result: false", "store_result", False),
    ("result: json", "result", "json"),
    ("rate_limit: 100/1m", "rate_limit", RateLimit(limit=100, window=MINUTE)),
    ("unique: x", "unique", Unique(key="x")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "name", "value"), COMMAND_KEYS, ids=[line for line, _, _ in COMMAND_KEYS])
def test_a_key_of_a_task_arrives_in_the_plan(line: str, name: str, value: object, tmp_path: Path) -> None:
    command = "" if line.startswith("command") else "    command: date\n"
    text = f"tasks:\n  a:\n{command}    {line}\n  other: {{command: date}}\n"
    assert getattr(plan_of(tmp_path, text).tasks["a"], name) == value


def test_every_key_of_a_task_is_in_the_table_above() -> None:
    elsewhere = {"call", "schedule", "timezone", "env_file", "cwd"}
    assert {line.partition(":")[0] for line, _, _ in COMMAND_KEYS} | elsewhere == set(TaskModel.model_fields)


SCHEDULES = [
    ('"*/5 * * * *"', ["*/5 * * * *"]),
    ("daily", ["daily"]),
    ("every 90s", ["every 90s"]),
    ("{every: 90, offset: 10s}", ["every 90s offset 10s"]),
    ("{at: 2026-12-24T18:00}", ["at 2026-12-24T18:00:00"]),
    ("reboot", ["reboot"]),
    ('"@reboot"', ["reboot"]),
    ('{cron: "0 4 * * *", timezone: Asia/Tokyo}', ["0 4 * * *"]),
    ('[daily, "0 12 * * *", {every: 1h, args: [1]}]', ["daily", "0 12 * * *", "every 1h"]),
]


@pytest.mark.parametrize(("written", "texts"), SCHEDULES, ids=[written for written, _ in SCHEDULES])
def test_every_form_of_a_schedule_arrives(written: str, texts: list[str], tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, f"timezone: Europe/Paris\ntasks: {{a: {{command: date, schedule: {written}}}}}\n"
    )
    assert [rule.text.lstrip("@") for rule in plan.tasks["a"].schedules] == texts


def test_a_schedule_may_override_zone_and_arguments(tmp_path: Path) -> None:
    text = """
timezone: Europe/Paris
tasks:
  a:
    command: date
    timezone: UTC
    schedule:
      - daily
      - {cron: "0 0 * * *", timezone: Asia/Tokyo}
      - {cron: "0 0 * * *", args: [1], kwargs: {x: 2}}
      - {cron: "0 0 * * *", args: [2]}
"""
    first, second, third, fourth = plan_of(tmp_path, text).tasks["a"].schedules
    assert [first.timezone, second.timezone, third.timezone] == ["UTC", "Asia/Tokyo", "UTC"]
    assert (third.args, third.kwargs, third.source) == ((1,), {"x": 2}, "0 0 * * *")
    assert len({first.key, second.key, third.key, fourth.key}) == 4  # rule 7


def test_the_hash_of_h_is_the_tasks_own(tmp_path: Path) -> None:
    tasks = plan_of(
        tmp_path, 'tasks: {a: {command: x, schedule: "H H * * *"}, b: {command: x, schedule: "H H * * *"}}'
    ).tasks
    assert tasks["a"].schedules[0].key.partition(":")[2] != tasks["b"].schedules[0].key.partition(":")[2]


def test_the_file_arrives_in_the_plan(tmp_path: Path) -> None:
    text = """
backend: sqlite:///state/x.db
timezone: Europe/Paris
pythonpath: [., lib]
shutdown_timeout: 5s
retention: {history: 1d, results: 2d, output: 3d, max_runs: 5}
pools:
  default: {slots: 3, env: {A: 1}}
  other: {kind: process, python: bin/python}
  shells: {kind: command, slots: 2}
locks: {database: {slots: 2}, disk: {}}
tasks:
  a: {call: "shop.images:resize", lock: database}
  b: {command: date, lock: disk}
"""
    plan = plan_of(tmp_path, text)
    assert plan.file == str(tmp_path / "jobs.yaml")
    assert plan.backend == f"sqlite:///{tmp_path}/state/x.db"
    assert (plan.timezone, plan.shutdown_timeout) == ("Europe/Paris", 5 * SECOND)
    assert plan.pythonpath == (str(tmp_path), str(tmp_path / "lib"))
    assert plan.retention == Retention(history=DAY, results=2 * DAY, output=3 * DAY, max_runs=5)
    assert plan.pools == {
        "default": Pool(name="default", slots=3, env={"A": "1"}),
        "commands": Pool(name="commands", kind=PoolKind.COMMAND, slots=8),
        "other": Pool(name="other", python=str(tmp_path / "bin/python")),
        "shells": Pool(name="shells", kind=PoolKind.COMMAND, slots=2),
    }
    assert plan.locks == {"database": 2, "disk": 1}
    assert plan.tasks["a"].call == "shop.images:resize"
    assert plan.tasks["a"].pool == "default"
    assert plan.tasks["b"].pool == "commands"


def test_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tasks: {a: {command: date}}")
    assert plan.backend == f"sqlite:///{tmp_path}/.jobrunner/jobs.db"
    assert plan.pythonpath == (str(tmp_path),)
    assert plan.retention == Retention()
    assert (plan.tasks["a"].cwd, plan.tasks["a"].line) == (str(tmp_path), 1)


def test_a_plan_survives_the_way_through_json(tmp_path: Path) -> None:
    lines = [line for line, name, _ in COMMAND_KEYS if name != "command"]
    tasks = "".join(f"  a{i}:\n    command: date\n    {line}\n" for i, line in enumerate(lines))
    schedules = "".join(f"  s{i}: {{command: x, schedule: {s}}}\n" for i, (s, _) in enumerate(SCHEDULES))
    plan = plan_of(tmp_path, f"tasks:\n  other: {{command: x}}\n{tasks}{schedules}")
    assert from_plain(Plan, to_plain(plan)) == plan


# ---- defaults --------------------------------------------------------------------------------------------


def test_defaults_hold_for_every_task_and_a_tasks_own_key_replaces_them(tmp_path: Path) -> None:
    text = """
defaults: {timeout: 1h, retries: {max: 2, delay: 1s}, lock: a, env: {A: 1}, on_failure: [c]}
tasks:
  a: {command: date}
  b: {command: date, timeout: 2h, retries: 1, lock: null, env: {B: 2}, on_failure: null}
  c: {call: "x:y", timeout: null, shell: null}
"""
    tasks = plan_of(tmp_path, text).tasks
    assert (tasks["a"].timeout, tasks["b"].timeout, tasks["c"].timeout) == (HOUR, 2 * HOUR, None)
    assert tasks["a"].retries == Retries(max=2, delay=SECOND)
    assert tasks["b"].retries == Retries(max=1)
    assert (tasks["a"].lock, tasks["b"].lock) == (LockUse(name="a"), None)
    assert (tasks["a"].env, tasks["b"].env) == ({"A": "1"}, {"B": "2"})
    assert (tasks["a"].on_failure, tasks["b"].on_failure) == (("c",), ())


def test_an_error_in_defaults_is_shown_where_it_is_written(tmp_path: Path) -> None:
    found = compiled(tmp_path, "defaults:\n  on_failure: [nobody]\ntasks:\n  a: {command: date}\n")
    assert [(each.line, each.code) for each in found.problems] == [(2, "unknown-task")]


# ---- keys that are not there -----------------------------------------------------------------------------

PLACES: dict[str, tuple[type[BaseModel], str]] = {
    "file": (FileModel, "{key}: x\ntasks: {{a: {{command: date}}}}\n"),
    "task": (TaskModel, "tasks: {{a: {{{key}: x}}}}\n"),
    "defaults": (DefaultsModel, "defaults: {{{key}: x}}\ntasks: {{}}\n"),
    "retries": (RetriesModel, "tasks: {{a: {{command: date, retries: {{{key}: 1}}}}}}\n"),
    "lock": (LockModel, "tasks: {{a: {{command: date, lock: {{name: x, {key}: 1}}}}}}\n"),
    "limits": (LimitsModel, "tasks: {{a: {{command: date, limits: {{{key}: 1}}}}}}\n"),
    "output": (OutputModel, "tasks: {{a: {{command: date, output: {{{key}: 1}}}}}}\n"),
    "pool": (PoolModel, "pools: {{p: {{{key}: 1}}}}\ntasks: {{}}\n"),
    "locks": (LockSlotsModel, "locks: {{p: {{{key}: 1}}}}\ntasks: {{}}\n"),
    "retention": (RetentionModel, "retention: {{{key}: 1}}\ntasks: {{}}\n"),
}


def misspelt(key: str) -> list[str]:
    """A letter left out, one too many, and two exchanged."""
    middle = len(key) // 2
    left_out, doubled = key[:middle] + key[middle + 1 :], key[:middle] + key[middle] + key[middle:]
    exchanged = key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    return [each for each in (left_out, doubled, exchanged) if len(each) > 3]


EVERY_KEY = [(place, key) for place, (model, _) in PLACES.items() for key in model.model_fields]


@pytest.mark.parametrize(("place", "key"), EVERY_KEY, ids=[f"{place}-{key}" for place, key in EVERY_KEY])
def test_a_misspelt_key_gets_its_suggestion(place: str, key: str, tmp_path: Path) -> None:
    model, form = PLACES[place]
    for wrong in misspelt(key):
        if wrong in model.model_fields:
            continue
        problems = compiled(tmp_path, form.format(key=wrong)).problems
        helps = [each.help for each in problems if each.code == "unknown-key"]
        assert helps == [f"did you mean {key!r}?"], (wrong, problems)


def test_one_wrong_key_hides_no_other_mistake(tmp_path: Path) -> None:
    text = (
        "tasks:\n  tasks: {command: x, tasks: 1, lock: {}, timeout: x}\n  b: {command: x, on_failure: [c]}\n"
    )
    problems = compiled(tmp_path, text).problems
    assert [each.code for each in problems] == [
        "unknown-key",
        "missing-key",
        "not-a-duration",
        "unknown-task",
    ]


def test_a_shelf_for_anchors_is_not_read(tmp_path: Path) -> None:
    text = (
        "x-shelf: &common {timeout: 1h, env: {A: x}}\ntasks: {a: {<<: *common, command: date, timeout: 2h}}"
    )
    task = plan_of(tmp_path, text).tasks["a"]
    assert (task.timeout, task.env) == (2 * HOUR, {"A": "x"})


@pytest.mark.parametrize("name", ["a", "A.b_c-d", "9", "x" * 100])
def test_a_name_may_hold(name: str, tmp_path: Path) -> None:
    assert list(plan_of(tmp_path, f"tasks: {{{name}: {{command: date}}}}").tasks) == [name]


@pytest.mark.parametrize("name", ["-a", ".a", "a/b", "x" * 101, "ä", '"a\\n"', '""'])
def test_a_name_may_not_hold(name: str, tmp_path: Path) -> None:
    problems: Any = compiled(tmp_path, f"tasks: {{{name}: {{command: date}}}}").problems
    assert [each.code for each in problems] == ["bad-name"]


def test_a_machine_whose_zone_has_no_name_is_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless(source: object, timezone: str | None = None, *, name: str = "") -> Schedule:
        return _Nameless() if timezone is None else Schedule.parse("daily", f"no {timezone}")  # type: ignore[return-value]

    monkeypatch.setattr("jobrunner.config.build.Schedule", type("_", (), {"parse": staticmethod(nameless)}))
    problems = compiled(tmp_path, "tasks: {}").problems
    assert [each.code for each in problems] == ["unknown-timezone"]
    assert "this machine" in problems[0].message


class _Nameless:
    timezone = "localtime"
