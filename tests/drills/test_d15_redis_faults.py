"""D15: faults of a Redis: killed, restarted, answers cut, a black hole, out of memory, read-only, loading."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from jobrunner.client import enqueue as make_run
from jobrunner.durations import SECOND
from jobrunner.errors import StorageError
from jobrunner.ids import new_id
from jobrunner.model import NewRun, State
from jobrunner.storage import RunFilter, Storage, open_storage
from tests.drills.checker import CLOCK, MARKS, check, marks
from tests.live import LiveSupervisor, Project, wait_until
from tests.proxy import Mode, Proxy
from tests.servers import RedisServer, a_redis

pytestmark = pytest.mark.drill

FULL = 100  # faults; the short form has one of each kind
RESUMES = 15.0  # seconds after the end of a fault (I11)
# What was acknowledged is on the disk: a kill loses nothing of it.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class Faults:
    """What can happen to a server, each for a while."""

    def __init__(self, server: RedisServer, proxy: Proxy, chance: random.Random) -> None:
        self._server, self._proxy, self._chance = server, proxy, chance
        self.kinds: list[Callable[[], None]] = [
            self.kill,
            self.restart,
            self.cut_answers,
            self.refuse,
            self.black_hole,
            self.out_of_memory,
            self.read_only,
            self.loading,
        ]

    def _pause(self, longest: float) -> None:
        threading.Event().wait(self._chance.uniform(0.2, longest))

    def kill(self) -> None:
        self._server.kill()
        self._pause(2.0)
        self._server.start()

    def restart(self) -> None:
        self._server.stop()
        self._server.start()

    def cut_answers(self) -> None:
        self._through(Mode.CUT, 2.0)

    def refuse(self) -> None:
        self._through(Mode.REFUSE, 2.0)

    def black_hole(self) -> None:
        self._through(Mode.HOLE, 9.0)

    def _through(self, mode: Mode, longest: float) -> None:
        self._proxy.mode = mode
        self._pause(longest)
        self._proxy.mode = Mode.PASS

    def out_of_memory(self) -> None:
        with self._server.client() as client:
            client.config_set("maxmemory", "1mb")
            self._pause(3.0)
            client.config_set("maxmemory", "0")

    def read_only(self) -> None:
        with self._server.client() as client:
            client.replicaof("127.0.0.1", "1")  # nobody is there: it keeps what it has, and takes nothing
            self._pause(3.0)
            client.replicaof("NO", "ONE")

    def loading(self) -> None:
        self._server.stop()
        self._server.start("--key-load-delay", "300")
        self._server.stop()
        self._server.start()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with a_redis(tmp_path_factory.mktemp("redis"), None, *DURABLE) as server:
        yield server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    with closing(Proxy(server.port)) as proxy:
        yield proxy


class Client:
    """Enqueues one by one; a run whose answer was lost is added again under its own id until it is known."""

    def __init__(self, url: str) -> None:
        self._storage = open_storage(url)
        entry = self._storage.entry("work")
        assert entry is not None
        self._entry = entry
        self._over = threading.Event()
        self.acknowledged: list[str] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(60.0)
        assert not self._thread.is_alive()

    def _work(self) -> None:
        while not self._over.is_set():
            now = CLOCK.now()
            self._add(make_run(self._entry, run_id=new_id(now), now=now, kwargs={"seconds": 0.005}))
            self._over.wait(0.02)
        self._storage.close()

    def _add(self, run: NewRun) -> None:
        for _ in range(2_000):
            with suppress(StorageError):
                self._storage.add([run])
                self.acknowledged.append(run.id)
                return
            threading.Event().wait(0.05)
        raise AssertionError("the storage never came back")


def test_redis_faults_lose_nothing_and_repeat_nothing(
    project: Project, server: RedisServer, proxy: Proxy, full_drills: bool
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    url = f"redis://127.0.0.1:{proxy.port}/0?namespace=faults"
    project.write(MARKS, "marks.py")
    project.write(
        f"""
backend: {url}
pools: {{default: {{kind: process, slots: 4}}}}
tasks: {{work: {{call: 'marks:work', max_crashes: 99}}}}
"""
    )
    supervisor = project.start()
    client = Client(url)
    faults = Faults(server, proxy, chance)
    kinds = list(faults.kinds)
    if full_drills:
        kinds += [chance.choice(faults.kinds) for _ in range(FULL - len(kinds))]
    chance.shuffle(kinds)
    longest = 0.0
    for kind in kinds:
        kind()
        longest = max(longest, _resumed(project, supervisor, client, kind.__name__))
    client.stop()
    print(f"{len(client.acknowledged)} runs, {proxy.cuts} answers cut, resumed after {longest:.1f} s at most")
    assert longest <= RESUMES
    with closing(open_storage(server.url + "?namespace=faults")) as storage:
        _all_final(storage)
        runs = storage.runs(RunFilter(limit=100_000))
    assert supervisor.stop() == 0
    seen = marks(project)
    verdict = check(client.acknowledged, runs, seen)
    assert not verdict.lost
    assert not verdict.unexpected
    assert not verdict.after_success
    assert len(runs) == len(set(client.acknowledged))  # no enqueue counts twice


def _resumed(project: Project, supervisor: LiveSupervisor, client: Client, fault: str) -> float:
    """How long after the fault work goes on: a run that was enqueued after it has been executed."""
    ended = CLOCK.monotonic()
    before = len(client.acknowledged)

    def works() -> bool:
        fresh = set(client.acknowledged[before:])
        return any(mark.what == "end" and mark.run_id in fresh for mark in marks(project))

    wait_until(works, lambda: f"after {fault}: {supervisor.log()[-2000:]}", 60.0)
    return (CLOCK.monotonic() - ended) / SECOND


def _all_final(storage: Storage) -> None:
    def over() -> bool:
        counts = storage.overview(CLOCK.now(), tasks=()).counts
        return all(counts[state] == 0 for state in State if not state.is_final)

    wait_until(over, lambda: str(storage.overview(CLOCK.now(), tasks=()).counts), 120.0)
