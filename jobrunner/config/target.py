"""A JobRunner in the place of a file: `jobrunner run demo:jobs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import ConfigError
from ..plan import DEFAULT_POOLS, Plan
from .build import Building
from .declared import Declared, Lines, Module, ask
from .discover import Target, find_config
from .file_models import FileModel
from .problems import Findings, Place, render_problems
from .reading import Source
from .sources import Part, Reading


def find_runner(target: Target, environ: Mapping[str, str], findings: Findings) -> Module | None:
    """The JobRunner with its tasks, and the file or storage it names; None: see the findings.

    One that names neither means the jobs.yaml that the command line would find from the folder.
    """
    findings.knows(target.name)
    pool = DEFAULT_POOLS["default"]
    (found,) = ask(
        [target.name], pythonpath=[target.folder], folder=target.folder, pool=pool, environ=environ
    )
    if not found.error and found.config is None and found.backend is None:
        near = find_config(None, environ, target.folder)
        found = replace(found, config=near) if near else replace(found, error=_NO_STORAGE, help=_SAY_STORAGE)
    if found.error:
        findings.error(Place(target.name), "module-not-usable", found.error, hint=found.help)
        return None
    return found


_NO_STORAGE = "this JobRunner names no storage, and there is no jobs.yaml"
_SAY_STORAGE = 'write JobRunner(backend="sqlite:///jobs.db")'


def part_of_target(target: Target, found: Module, findings: Findings) -> Part:
    """What a file would say that holds nothing but the storage."""
    source = Source(name=target.name, path=target.path, content=b"", text="")
    raw = {"backend": found.backend}
    document = Lines(target.name, {}, findings)
    return Part(source=source, document=document, raw=raw, model=FileModel.model_validate(raw))


def note_code(found: Module, reading: Reading) -> None:
    """The module is this plan's file: a change of it is one of the plan."""
    if found.file is None:
        return
    try:
        with open(found.file, "rb") as file:
            reading.note(file.read(), found.file)
    except OSError:  # of an archive: it does not change while it is used
        return


def plan_here(
    file: str | None, tasks: Sequence[Declared], *, folder: str, environ: Mapping[str, str]
) -> Plan:
    """The plan of tasks that were declared in this very process, and of a file; its storage is in memory.

    Raises ConfigError with all problems.
    """
    findings = Findings()
    reading = Reading(environ=environ, findings=findings)
    target = Target(folder, "immediate")
    found = Module(name=target.name, tasks=tuple(tasks), backend="memory://")
    if file is None:
        reading.parts.append(part_of_target(target, found, findings))
    if file is None or reading.read(file):
        plan = Building(reading=reading, findings=findings, target=target, found=found).plan()
    if findings.failed:
        raise ConfigError(render_problems(findings.sorted(), reading.texts))
    return replace(plan, backend="memory://")
