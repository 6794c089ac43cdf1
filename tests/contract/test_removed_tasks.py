"""A task that one supervisor has removed, and another has not: semantics 20 and 26, on servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from jobrunner.adoption import cancel_removed
from jobrunner.ids import new_id
from jobrunner.model import State
from jobrunner.storage import Storage
from jobrunner.storage.postgres.store import PostgresStorage
from jobrunner.storage.redis.store import RedisStorage
from jobrunner.testing.desk import NOON, Desk, a_catalogue, a_run

Pair = tuple[Desk, Desk]


@pytest.fixture(params=["redis", "postgres"])
def pair(request: pytest.FixtureRequest, redis_url: str, postgres_url: str) -> Iterator[Pair]:
    """Two supervisors on one storage."""

    def opened() -> Storage:
        if request.param == "redis":
            return RedisStorage.open(f"{redis_url}?namespace={namespace}", server_time=False)
        return PostgresStorage.open(postgres_url, server_time=False)

    namespace = new_id(NOON)
    with closing(opened()) as first, closing(opened()) as second:
        yield Desk(first, "first"), Desk(second, "second")


def publish(desk: Desk, *tasks: str) -> None:
    desk.storage.publish(desk.owner, a_catalogue(*tasks), keep=(), now=NOON)


def a_retry_after_the_removal(first: Desk) -> str:
    """An attempt of `mail` that fails under the first supervisor, which has removed the task meanwhile."""
    run = a_run("mail")
    first.storage.add([run])
    first.turn(want={})
    [claim] = first.claim()
    publish(first, "resize")
    first.turn([first.end(claim, State.RETRYING, due_at=NOON + 1_000_000)], want={})
    return run.id


def test_a_retry_that_another_supervisor_can_do_is_left_to_it(pair: Pair) -> None:
    first, second = pair
    for desk in pair:
        publish(desk, "resize", "mail")
    run_id = a_retry_after_the_removal(first)
    assert cancel_removed(first.storage, first.owner, {"mail"}, NOON) == 0
    assert first.storage.run(run_id).state is State.RETRYING
    second.now = NOON + 2_000_000
    second.turn(want={})
    assert [claim.id for claim in second.claim()] == [run_id]


def test_a_retry_that_nobody_can_do_any_more_is_removed(pair: Pair) -> None:
    # rule 26: it is not retried, though another supervisor lives
    first, second = pair
    for desk in pair:
        publish(desk, "resize", "mail")
    publish(second, "resize")
    run_id = a_retry_after_the_removal(first)
    assert cancel_removed(first.storage, first.owner, {"mail"}, NOON) == 1
    assert first.storage.run(run_id).reason == "removed"


def test_what_a_person_has_enqueued_waits_for_somebody_who_knows_it(pair: Pair) -> None:
    first, second = pair
    for desk in pair:
        publish(desk, "resize", "mail")
    run = a_run("mail")
    first.storage.add([run])
    for desk in pair:
        publish(desk, "resize")
        desk.use(resize=desk.rules.tasks["resize"])
    assert cancel_removed(first.storage, first.owner, {"mail"}, NOON) == 0
    assert first.claim() == second.claim() == []
    assert first.storage.run(run.id).state is State.QUEUED
    publish(second, "resize", "mail")
    second.use(resize=desk.rules.tasks["resize"], mail=desk.rules.tasks["resize"])
    second.turn(want={})
    assert [claim.id for claim in second.claim()] == [run.id]
