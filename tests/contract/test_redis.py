"""The storage contract on Redis, on every version at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from jobrunner import JobRunner
from jobrunner.durations import DAY
from jobrunner.ids import new_id
from jobrunner.model import State
from jobrunner.plan import Retention
from jobrunner.storage import RunFilter, Storage, open_storage
from jobrunner.storage.redis.line import Line
from jobrunner.storage.redis.scripts import script
from jobrunner.storage.redis.server import FORMAT, Server
from jobrunner.storage.redis.store import RedisStorage
from jobrunner.testing import LeasedStorageContract
from jobrunner.testing.desk import NOON, PATIENCE, Desk, Opener, a_catalogue, a_run, is_readable
from tests.servers import a_redis, free_port


class TestRedis(LeasedStorageContract):
    """One namespace of a server, as supervisors and clients use it."""

    @pytest.fixture
    def opened(self, redis_url: str) -> Iterator[Opener]:
        url = f"{redis_url}?namespace={new_id(NOON)}"
        with ExitStack() as handles:

            def opened() -> Storage:
                storage = RedisStorage.open(url, server_time=False)
                handles.callback(storage.close)
                return storage

            yield opened


# --- other ways to a server -------------------------------------------------------------------------------


def works(url: str) -> bool:
    """Whether a client's run wakes a supervisor, which claims it."""
    with closing(open_storage(url)) as served, closing(open_storage(url)) as client:
        desk = Desk(served)
        client.add([a_run()])
        return is_readable(served, PATIENCE) and len(desk.claim()) == 1


def test_a_server_is_reached_over_its_socket(tmp_path: Path) -> None:
    with a_redis(tmp_path / "redis", None, "--unixsocket", f"{tmp_path}/redis.sock"):
        assert works(f"unix://{tmp_path}/redis.sock?namespace=socket")


def test_a_server_is_reached_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    port = free_port()
    own = ("--tls-cert-file", f"{tmp_path}/own.pem", "--tls-key-file", f"{tmp_path}/own.pem")
    options = ("--tls-port", str(port), *own, "--tls-ca-cert-file", f"{tmp_path}/ca.pem")
    with a_redis(tmp_path / "redis", None, *options, "--tls-auth-clients", "no"):
        assert works(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/ca.pem")


# --- calls ------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(redis_url: str) -> Iterator[redis.ConnectionPool]:
    pool = redis.ConnectionPool.from_url(redis_url, decode_responses=True, protocol=2)
    yield pool
    pool.disconnect()


def test_a_line_gives_the_answers_that_the_library_gives(pool: redis.ConnectionPool) -> None:
    nested = "return {1, 'a\\r\\nb', {2, {}, false, 'c'}, string.rep('\u00e4', 200000)}"
    script = "EVAL", nested, "0"
    client: Any = redis.Redis(connection_pool=pool)
    with closing(Line(pool)) as line:
        for words in (script, ("EVAL", "return false", "0"), ("EVAL", "return {ok='well'}", "0")):
            assert line.ask([word.encode() for word in words], PATIENCE) == client.execute_command(*words)


def test_what_a_server_refuses_is_the_error_of_the_library_and_the_line_goes_on(
    pool: redis.ConnectionPool,
) -> None:
    with closing(Line(pool)) as line:
        with pytest.raises(redis.exceptions.NoScriptError):
            line.ask([b"EVALSHA", b"0" * 40, b"0"], PATIENCE)
        assert line.ask([b"ECHO", b"still there"], PATIENCE) == "still there"


def test_a_line_that_the_server_closed_is_over_and_the_next_call_has_another(redis_url: str) -> None:
    with closing(RedisStorage.open(f"{redis_url}?namespace={new_id(NOON)}")) as storage:
        (line,) = storage._server._lines
        assert not line.is_over()
        with redis.Redis.from_url(redis_url) as server:
            server.client_kill_filter(_type="normal", skipme=True)
        assert storage.pauses(NOON) == []
        assert storage._server._lines != [line]


def test_a_call_is_one_command_and_its_answer(redis_url: str) -> None:
    """An add, and what follows a wake-up: one call each."""
    with closing(RedisStorage.open(f"{redis_url}?namespace={new_id(NOON)}")) as storage:
        desk = Desk(storage)
        storage.add([a_run()])
        desk.turn([desk.end(claim) for claim in desk.claim()])
        with redis.Redis.from_url(redis_url, decode_responses=True) as server:
            server.config_resetstat()
            storage.add([a_run()])
            assert is_readable(storage, PATIENCE)
            storage.woken()
            assert len(desk.claim()) == 1
            assert server.info("commandstats")["cmdstat_evalsha"]["calls"] == 2


# --- keys -------------------------------------------------------------------------------------------------


def test_everything_lies_under_one_hash_tag_and_leaves_with_its_run(redis_url: str) -> None:
    with closing(RedisStorage.open(f"{redis_url}?namespace=tagged", server_time=False)) as storage:
        desk = Desk(storage)
        run = desk.finish(a_run(), result="1", ended_at=NOON)
        with closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client:
            assert any(run.id in key or str(run.seq) in key for key in client.scan_iter("{tagged}:*"))
            storage.prune(Retention(history=0), NOON + DAY)
            left = set(client.scan_iter("*tagged*"))
    assert all(key.startswith("{tagged}:") for key in left)
    assert {key.removeprefix("{tagged}:").partition(":")[0] for key in left} == {
        *("alive", "format", "held", "lanes", "rules", "seq", "supervisor", "supervisors", "tasks", "writes")
    }


def test_an_operation_is_sent_no_more_of_the_script_than_it_uses() -> None:
    """A script makes all of its functions anew at every call."""
    assert script("writes").text.count("function") == 1
    assert "enter_tick" not in script("exchange").text
    assert len(script("add").text) < len(script("exchange").text) / 1.5
    assert script("add_plain").text.count("function") <= 20


def test_a_run_more_in_a_turn_costs_few_commands(redis_url: str) -> None:
    """A claim and a success, their places aside, which are written together for all runs of the turn."""
    with closing(RedisStorage.open(f"{redis_url}?namespace={new_id(NOON)}", server_time=False)) as storage:
        desk = Desk(storage)
        storage.add([a_run() for _ in range(300)])
        few, many = _commands_of_a_turn(redis_url, desk, 10), _commands_of_a_turn(redis_url, desk, 110)
    assert (sum(many.values()) - sum(few.values())) / 100 <= 2.2
    assert "hgetall" not in _rows_read(few, many)


def _rows_read(few: Mapping[str, int], many: Mapping[str, int]) -> set[str]:
    """The commands of which there are more where more runs are claimed and ended."""
    return {name for name, calls in many.items() if calls - few.get(name, 0) >= 100}


def _commands_of_a_turn(url: str, desk: Desk, size: int) -> dict[str, int]:
    """How often the server executes each command for a turn that settles and claims so many runs."""
    claims = desk.claim(size)
    with redis.Redis.from_url(url, decode_responses=True) as server:
        server.config_resetstat()
        answer = desk.turn([desk.end(claim, result="1", pid=1) for claim in claims], want={"default": size})
        told: dict[str, dict[str, int]] = server.info("commandstats")
    assert len(answer.claimed) == size
    desk.turn([desk.end(claim) for claim in answer.claimed], want={})
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in told.items()}


def test_an_end_is_published_only_to_those_who_wait_for_it(redis_url: str) -> None:
    namespace = new_id(NOON)
    with (
        closing(RedisStorage.open(f"{redis_url}?namespace={namespace}", server_time=False)) as storage,
        closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client,
        client.pubsub() as heard,  # type: ignore[no-untyped-call]
    ):
        desk = Desk(storage)
        awaited, other = a_run(), a_run()
        storage.add([awaited, other])
        heard.subscribe(f"{{{namespace}}}:end:{awaited.id}")
        heard.get_message(timeout=PATIENCE)
        client.config_resetstat()
        desk.turn([desk.end(claim, pid=1) for claim in desk.claim(2)], want={})
        assert client.info("commandstats")["cmdstat_publish"]["calls"] == 1
        told = heard.get_message(timeout=PATIENCE)
        assert told is not None
        assert told["data"] == "succeeded"


def test_runs_that_an_older_jobrunner_has_added_and_claimed_are_known(redis_url: str) -> None:
    """It noted neither what a claim says nor what is held: a row is looked at."""
    namespace = new_id(NOON)
    with (
        closing(RedisStorage.open(f"{redis_url}?namespace={namespace}", server_time=False)) as storage,
        closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client,
    ):
        desk = Desk(storage)
        storage.add([a_run() for _ in range(2)])
        client.delete(f"{{{namespace}}}:ready")
        claims = desk.claim(2)
        held = client.hkeys(f"{{{namespace}}}:held:{desk.owner}")
        client.delete(f"{{{namespace}}}:held:{desk.owner}")
        client.zadd(
            f"{{{namespace}}}:own:{desk.owner}", {str(seq): float(seq) for seq in held if seq.isdigit()}
        )
        assert storage.claimed_by(desk.owner) == claims
        assert desk.turn([desk.end(claim, pid=1) for claim in claims], want={}).refused == []
        assert {run.state for run in storage.runs(RunFilter())} == {State.SUCCEEDED}
        assert storage.claimed_by(desk.owner) == []


def test_what_an_older_jobrunner_has_noted_otherwise_is_taken_over(redis_url: str) -> None:
    namespace = new_id(NOON)
    with (
        closing(RedisStorage.open(f"{redis_url}?namespace={namespace}", server_time=False)) as storage,
        closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client,
    ):
        desk = Desk(storage)
        cancelled, well, failed = a_run(), a_run(), a_run()
        storage.add([cancelled, well, failed])
        storage.cancel([cancelled.id], NOON)
        first, second = desk.claim(2)
        desk.turn([desk.end(first, pid=1), desk.end(second, State.FAILED)], want={})
        day = storage.overview(NOON).day
        client.rename(f"{{{namespace}}}:ended:cancelled", f"{{{namespace}}}:state:cancelled")
        client.zadd(f"{{{namespace}}}:state:succeeded", {str(first.seq): 1.0})
        client.hset(f"{{{namespace}}}:ready", str(first.seq), "[]")
        client.set(f"{{{namespace}}}:format", "1")
        assert storage.overview(NOON).day.ok == 2
        Desk(storage, "owner-2")
        assert storage.overview(NOON).day == day
        assert (day.ok, day.failed) == (1, 1)
        assert list(client.scan_iter(f"{{{namespace}}}:state:*")) == []
        assert not client.exists(f"{{{namespace}}}:ready")  # a run that the older one claimed is noted in it
        assert client.get(f"{{{namespace}}}:format") == str(FORMAT)


def test_the_newest_runs_in_a_state_are_found_among_many_tasks(redis_url: str) -> None:
    """Each task is looked at no further than is needed, however unevenly its runs lie."""
    with closing(RedisStorage.open(f"{redis_url}?namespace={new_id(NOON)}", server_time=False)) as storage:
        few = [a_run(f"few-{number}") for number in range(40)]
        many = [a_run("many") for _ in range(45)]
        storage.add([*few[:30], *many, *few[30:]])
        found = storage.runs(RunFilter(states=(State.QUEUED,), limit=80))
        assert [run.id for run in found] == [run.id for run in [*few[:30], *many, *few[30:]]][:-81:-1]
        assert storage.overview(NOON).counts[State.QUEUED] == 85


def test_a_run_with_a_lock_more_is_still_its_owners(redis_url: str) -> None:
    """What it holds besides its slot stands in its row, which is looked at when it ends."""
    with closing(RedisStorage.open(f"{redis_url}?namespace={new_id(NOON)}", server_time=False)) as storage:
        desk = Desk(storage)
        storage.add([a_run()])
        (claim,) = desk.claim(1)
        assert storage.acquire(desk.owner, claim.seq, claim.claim_no, "disk", 1)
        assert storage.claimed_by(desk.owner) == [claim]
        desk.turn([desk.end(claim, pid=1)], want={})
        storage.add([a_run()])
        (next_claim,) = desk.claim(1)
        assert storage.acquire(desk.owner, next_claim.seq, next_claim.claim_no, "disk", 1)


def test_an_enqueue_is_one_call(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{redis_url}?namespace={new_id(NOON)}"
    with closing(RedisStorage.open(url)) as storage, JobRunner(backend=url) as jobs:
        desk = Desk(storage)
        storage.publish(desk.owner, a_catalogue("resize"), keep=[], now=NOON)
        jobs.enqueue("resize")
        called: list[str] = []
        real = Server.call

        def call(server: Server, operation: str, *given: Any, **more: Any) -> object:
            called.append(operation)
            return real(server, operation, *given, **more)

        monkeypatch.setattr(Server, "call", call)
        jobs.enqueue("resize")
    assert called == ["add_plain_if"]
