"""The floors of the house: imports go down only, and some things are done in one room only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import jobrunner

ROOT = Path(jobrunner.__file__).parent
FLOORS = (
    """errors clock model plan plain ids catalogue codec events durations schedule retry machine place context
    fingerprint difference redact digest heap until""",
    "lifecycle policy breaks composition birth edges hooks notices",
    "storage execution output notify logs systemd steps",
    """loop service pools scheduler dispatcher janitor herald retention vitals pulse opening recovery stopping
    watch inquiry control adoption bridge lookout listener trouble roots timetable ticking""",
    "lease succession migration reloader attending supervisor",
    "config crontabs serve app client cli testing __main__ __init__",
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
SOLE_IMPORTERS = {
    "click": "cli",
    "croniter": "schedule",
    "psycopg": "storage",
    "pydantic": "config",
    "redis": "storage",
    "sqlite3": "storage",
    "time": "clock",
    "watchfiles": "watch",
    "yaml": "config",
}
STARTERS_OF_THREADS = (
    "service",
    "execution.start",
    "execution.worker",
    "execution.threads",
    "execution.coroutines",
    "app.waiting",
    "testing",
)
CLOCK_READERS = {"now", "utcnow", "today", "fromtimestamp"}  # of datetime and date, without an argument

Module = tuple[str, ast.Module]


def modules() -> Iterator[Module]:
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), ast.parse(path.read_text())


def room_of(name: str) -> str:
    return name.partition(".")[0]


def imported(name: str, node: ast.AST) -> Iterator[str]:
    """Absolute names of what a node imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield node.module or ""
    elif isinstance(node, ast.ImportFrom):
        above = ["jobrunner", *name.split(".")][: -node.level]
        base = [*above, *(node.module or "").split(".")] if node.module else above
        yield from (".".join([*base, alias.name]) for alias in node.names)


def rooms_used(name: str, tree: ast.Module) -> set[str]:
    """The other rooms of the house that a module imports, lazily or not."""
    names = (each.split(".") for node in ast.walk(tree) for each in imported(name, node))
    used = {(parts[1:] or ["__init__"])[0] for parts in names if parts[0] == "jobrunner"}
    return {room for room in used if (ROOT / room).is_dir() or (ROOT / f"{room}.py").is_file()}


MODULES = list(modules())
every_module = pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])


def test_every_module_has_a_floor() -> None:
    assert {room_of(name) for name, _ in MODULES} - set(FLOOR_OF) == set()


@every_module
def test_imports_go_down_only(name: str, tree: ast.Module) -> None:
    floor = FLOOR_OF.get(room_of(name), 0)
    assert {room for room in rooms_used(name, tree) if FLOOR_OF.get(room, 0) > floor} == set()


def test_rooms_of_one_floor_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for name, tree in MODULES:
        graph.setdefault(room_of(name), set()).update(rooms_used(name, tree) - {room_of(name)})
    graph.pop("__init__")  # the public names, lazily
    TopologicalSorter(graph).prepare()  # raises CycleError and names the circle


@every_module
def test_what_only_one_room_may_import_is_imported_there(name: str, tree: ast.Module) -> None:
    outside = {each.partition(".")[0] for node in ast.walk(tree) for each in imported(name, node)}
    strangers = {each for each in outside & set(SOLE_IMPORTERS) if SOLE_IMPORTERS[each] != room_of(name)}
    assert strangers == set()


@every_module
def test_only_the_clock_asks_the_system_for_the_time(name: str, tree: ast.Module) -> None:
    reads = [
        f"{name}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args
        if node.func.attr in CLOCK_READERS and ast.unparse(node.func.value).endswith(("datetime", "date"))
    ]
    assert reads == []


@every_module
def test_threads_start_in_named_places_only(name: str, tree: ast.Module) -> None:
    calls = (ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
    starts = {call for call in calls if call.rpartition(".")[2] in ("Thread", "ThreadPoolExecutor", "Timer")}
    assert not starts or name.startswith(STARTERS_OF_THREADS)
