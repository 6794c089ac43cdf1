"""The whole way from a file to a plan, or to every problem of the file."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from .build import Building
from .callables import check_callables, check_programs
from .compiled import Compiled
from .lint import lint
from .notices import check_sendmail
from .problems import Findings, render_problems
from .sources import Reading


def compile_file(
    path: str, *, environ: Mapping[str, str], importing: bool = False, now: datetime | None = None
) -> Compiled:
    """The plan of a file, or its problems; never raises for a mistake of the user.

    `importing` also looks, in other processes, for callables, and on their PATH for programs. With a
    moment `now`, schedules near the next change of the clocks are warned of.
    """
    with quietly():
        findings = Findings()
        reading = Reading(environ=environ, findings=findings)
        plan = None
        if reading.read(path):
            building = Building(reading=reading, findings=findings, now=now)
            plan = building.plan()
            lint(building)
        if plan is not None and importing:
            check_callables(plan, findings, building.drafts)
            check_programs(plan, environ, findings, building.drafts)
            check_sendmail(plan, findings, building.drafts)
    problems = findings.sorted()
    return Compiled(
        plan=None if findings.failed else plan,
        problems=problems,
        rendered=render_problems(problems, reading.texts) if problems else "",
        sources=reading.texts,
    )


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
