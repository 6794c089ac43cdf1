"""The whole way from a file to a plan, or to every problem of the file."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from ..redact import Redactor
from .build import Building
from .callables import check_callables, check_programs
from .compiled import Compiled
from .discover import target_of
from .lint import lint
from .notices import check_sendmail
from .pace import Usual, check_pace
from .problems import Findings, render_problems
from .secrets import without_secrets
from .sources import Reading
from .target import find_runner, note_code, part_of_target


def compile_file(
    path: str,
    *,
    environ: Mapping[str, str],
    importing: bool = False,
    now: datetime | None = None,
    usual: Usual | None = None,
) -> Compiled:
    """The plan of a file, or its problems; never raises for a mistake of the user.

    `importing` also looks, in other processes, for callables, and on their PATH for programs. With a
    moment `now`, schedules near the next change of the clocks are warned of; if `usual` says what runs take,
    those that are faster than their task, too.
    """
    with quietly():
        findings = Findings()
        reading = Reading(environ=environ, findings=findings)
        plan = None
        building = read_building(path, reading, now=now)
        if building is not None:
            plan = building.plan()
            lint(building)
        if building is not None and plan is not None and importing:
            check_callables(plan, findings, building.drafts)
            check_programs(plan, environ, findings, building.drafts)
            check_sendmail(plan, findings, {**building.composed, **building.drafts})
        if building is not None and plan is not None and usual is not None and not findings.failed:
            check_pace(plan, usual, findings, building)
    secrets = () if building is None else building.secrets
    problems = without_secrets(findings.sorted(), secrets)
    return Compiled(
        plan=None if findings.failed else plan,
        problems=problems,
        rendered=Redactor(secrets).text(render_problems(problems, reading.texts)) if problems else "",
        sources=reading.texts,
        watched=tuple(reading.watched),
        fingerprint=reading.fingerprint,
    )


def read_building(path: str, reading: Reading, *, now: datetime | None = None) -> Building | None:
    """What a file, or a JobRunner named as `module:attribute`, is built from; None: see the findings."""
    findings = reading.findings
    target = target_of(path)
    if target is None:
        return Building(reading=reading, findings=findings, now=now) if reading.read(path) else None
    found = find_runner(target, reading.environ, findings)
    if found is None:
        return None
    if found.config is None:
        reading.parts.append(part_of_target(target, found, findings))
    elif not reading.read(found.config):
        return None
    note_code(found, reading)
    return Building(reading=reading, findings=findings, now=now, target=target, found=found)


@contextmanager
def quietly() -> Iterator[None]:
    """Nodes are many and live to the end: looking through them again and again takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
