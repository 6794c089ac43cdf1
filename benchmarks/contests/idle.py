"""P6: what a supervisor takes that has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path

from benchmarks import minute, rivals
from benchmarks.contests import Servers, Sizes
from benchmarks.crew import Crew, last_line
from benchmarks.measure import Contest, Entrant, Goal, Missing, Shared, reason_of
from benchmarks.rivals import Peer
from benchmarks.servers import fresh
from benchmarks.site import Site, children_of, proc_cpu, proc_memory, proc_wakes

SETTLE = 8.0  # seconds in which a start calms down
HEAD = "backend: {backend}\ntasks:\n"
TASK = '  task-{number}: {{{{command: "true", schedule: "{minute} 3 1 1 *"}}}}\n'
WATCHER = " with the process that watches its file"
NOTE = "all of them idle side by side, after eight seconds to calm down"
GOALS = {10: (0.1, 2.0, 30.0), 1_000: (0.1, 2.0, 50.0)}
UNITS = {"processor": "% of a core", "wake-ups": "per second", "memory": "MiB resident"}
Rest = Mapping[str, float]  # by the words of UNITS
Start = Callable[[Path], AbstractContextManager[Crew]]


def _site(folder: Path, *, tasks: int) -> AbstractContextManager[Crew]:
    text = HEAD + "".join(TASK.format(number=number, minute=number % 60) for number in range(tasks))
    return Site(folder, text=text).serving()


def _peer(folder: Path, *, peer: Peer, servers: Servers) -> AbstractContextManager[Crew]:
    rivals.new_tally(folder)
    rivals.prepare(peer, folder, servers)
    return rivals.serving(peer, folder, servers)


def _starts(servers: Servers) -> dict[str, Start]:
    peers = (rivals.HUEY_SQLITE, rivals.SAQ_REDIS, rivals.RQ, rivals.DRAMATIQ, rivals.CELERY, rivals.PGQUEUER)
    ours = {_name(tasks): partial(_site, tasks=tasks) for tasks in GOALS}
    theirs = {peer.name: partial(_peer, peer=peer, servers=servers) for peer in peers}
    return {**ours, "Debian cron": minute.debian_cron, **theirs}


def _name(tasks: int) -> str:
    return f"jobrunner, {tasks:,} tasks"


# --- observation ----------------------------------------------------------------------------------


def observe(folder: Path, *, servers: Servers, rest: float) -> Mapping[str, Rest | str]:
    """The figures of everybody, or why there are none; they idle at the same time, in nobody's way."""
    with ExitStack() as stack:
        crews = {
            name: _begun(start, folder / str(number), stack)
            for number, (name, start) in enumerate(_starts(fresh(servers)).items())
        }
        time.sleep(SETTLE)
        groups = {name: each for name, crew in crews.items() for name, each in _groups(name, crew).items()}
        before, began = {name: _spent(pids) for name, pids in groups.items()}, time.monotonic()
        time.sleep(rest)
        took = time.monotonic() - began
        figures = {name: _rest(each, took) for name, each in before.items()}
    return {**_reasons(crews), **figures}


def _begun(start: Start, folder: Path, stack: ExitStack) -> Crew | str:
    folder.mkdir()
    try:
        return stack.enter_context(start(folder))
    except Exception as error:  # the others are observed all the same
        return reason_of(error)


def _groups(name: str, crew: Crew | str) -> dict[str, list[int]]:
    """The processes to be looked at together, by the name under which they are shown."""
    if isinstance(crew, str):
        return {}
    try:
        crew.check()
    except Missing:
        return {}
    family = [pid for leader in crew.pids for pid in (leader, *children_of(leader))]
    return {name: crew.pids, name + WATCHER: family} if name.startswith("jobrunner") else {name: family}


def _reasons(crews: Mapping[str, Crew | str]) -> dict[str, str]:
    """Why some have no figures; those that have some overrule it."""
    return {name: crew if isinstance(crew, str) else last_line(crew.log) for name, crew in crews.items()}


def _spent(pids: Sequence[int]) -> dict[int, tuple[float, int]]:
    """Seconds of processor time and wake-ups so far, by process; one that has just ended has none."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            found[pid] = (proc_cpu(pid), proc_wakes(pid))
    return found


def _rest(before: Mapping[int, tuple[float, int]], took: float) -> Rest:
    """Per second, of the processes that were there all the time."""
    after = _spent(list(before))
    return {
        "processor": sum(cpu - before[pid][0] for pid, (cpu, _) in after.items()) / took * 100,
        "wake-ups": sum(wakes - before[pid][1] for pid, (_, wakes) in after.items()) / took,
        "memory": sum(map(proc_memory, after)),
    }


# --- who takes part -------------------------------------------------------------------------------


def contests(sizes: Sizes, servers: Servers) -> Sequence[Contest]:
    seen = Shared(partial(observe, servers=servers, rest=sizes.rest))
    goals = [
        (tasks, what, bound)
        for tasks, bounds in GOALS.items()
        for what, bound in zip(UNITS, bounds, strict=True)
    ]
    return [_of(tasks, what, bound, seen, sizes) for tasks, what, bound in goals]


def _of(tasks: int, what: str, bound: float, seen: Shared[Mapping[str, Rest | str]], sizes: Sizes) -> Contest:
    others = [name for name in _starts({}) if not name.startswith("jobrunner")] if tasks == 10 else []
    return Contest(
        target="P6",
        name=f"idle with {tasks:,} tasks: {what}",
        unit=UNITS[what],
        goal=Goal(text=f"<= {bound:g}", bound=bound),
        entrants=[
            Entrant(
                name=name,
                settings="",
                attempt=seen.figure(partial(_pick, name=name, what=what)),
                is_ours=name == _name(tasks),
                is_aside=name.endswith(WATCHER),
            )
            for name in (_name(tasks), _name(tasks) + WATCHER, *others)
        ],
        more_is_better=False,
        repeat=min(2, sizes.repeat),
        note=NOTE,
    )


def _pick(seen: Mapping[str, Rest | str], *, name: str, what: str) -> float:
    found = seen.get(name, "not seen")
    if isinstance(found, str):
        raise Missing(found)
    return found[what]
