"""Plain JSON forms of values, and run ids."""

from __future__ import annotations

import json
import uuid

from hypothesis import given
from hypothesis import strategies as st

from jobrunner.durations import SECOND
from jobrunner.ids import derived_id, new_id, short_id
from jobrunner.model import Options, Policy
from jobrunner.plain import from_plain, to_plain
from jobrunner.plan import LockUse, Plan, Pool, PoolKind, Retries, ScheduleRule, Task
from tests.builders import NOON, a_task

SCHEDULE = ScheduleRule(
    key="k", source={"cron": "* * * * *"}, timezone="UTC", text="t", words="w", kwargs={"a": [1]}
)


def test_a_plan_survives_its_json_form() -> None:
    plan = Plan(
        file="/srv/jobs.yaml",
        hash="abc",
        backend="sqlite:////srv/jobs.db",
        timezone="Europe/Paris",
        tasks={
            "backup": a_task(
                lock=LockUse(name="database"), schedules=(SCHEDULE,), retries=Retries(on=(75, "OSError"))
            ),
            "list": Task(name="list", command=("ls", "-l"), env={"A": "1"}),
        },
        pools={"io": Pool(name="io", kind=PoolKind.COMMAND, slots=3)},
    )
    assert from_plain(Plan, json.loads(json.dumps(to_plain(plan)))) == plan


def test_defaults_take_no_room_in_the_json_form() -> None:
    assert to_plain(Policy()) == {}
    assert to_plain(Options(timeout=SECOND)) == {"timeout": SECOND}


def test_a_newer_writers_keys_are_ignored() -> None:
    assert from_plain(Policy, {"max_crashes": 5, "of_tomorrow": True}) == Policy(max_crashes=5)


@given(st.integers(0, 2**47 * 1000))
def test_a_new_id_is_a_version_7_uuid_of_its_moment(now: int) -> None:
    value = uuid.UUID(new_id(now))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == now // 1000


def test_a_derived_id_is_the_same_everywhere_and_its_own_for_other_parts() -> None:
    assert derived_id(NOON, "tick", "backup") == derived_id(NOON, "tick", "backup")
    assert derived_id(NOON, "tick", "backup") != derived_id(NOON, "tickbackup")
    assert uuid.UUID(derived_id(NOON, "x")).version == 7


def test_the_ending_of_an_id_tells_runs_apart() -> None:
    assert len({short_id(new_id(NOON)) for _ in range(100)}) == 100
