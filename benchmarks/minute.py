"""The programs that tick once a minute, all watched through the same minute: how late they start ten jobs."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path

from benchmarks import rivals
from benchmarks.crew import Crew, at_work
from benchmarks.measure import Missing, reason_of

JOBS = 10
PATIENCE = 140.0  # seconds: huey may take the whole of the next minute
YAML = "defaults:\n  concurrencyPolicy: Allow\njobs:\n"
JOB = """\
  - name: job-{number}
    schedule: "* * * * *"
    command: date +%s%N >> {folder}/begun
"""
LINE = "* * * * * date +\\%s\\%N >> {folder}/begun\n"
# A cron of our own beside any other: its spool and its lock exist in this mount namespace alone.
NAMESPACE = """\
set -e
mount -t tmpfs none /var/spool
mkdir -p /var/spool/cron
mkdir -m 1730 /var/spool/cron/crontabs
install -m 600 "$0" /var/spool/cron/crontabs/root
mount -t tmpfs none /run
exec "$1" -f
"""


def debian_cron(folder: Path) -> AbstractContextManager[Crew]:
    """Debian's cron, which reads root's crontab and no other. Raises Missing where it cannot run."""
    program = shutil.which("cron", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise Missing("no cron here")
    if os.geteuid() != 0:
        raise Missing("needs root, for a mount namespace of its own")
    crontab = folder / "crontab"
    crontab.write_text(LINE.format(folder=folder) * JOBS)
    unshare = ["unshare", "--mount", "--propagation", "private"]
    command = [*unshare, "sh", "-c", NAMESPACE, str(crontab), program]
    return at_work([command], folder / "workers.log", rivals.surroundings(folder), folder)


def of_yaml(folder: Path, *, program: str) -> AbstractContextManager[Crew]:
    """yacron, and what was made of it."""
    jobs = "".join(JOB.format(number=number, folder=folder) for number in range(JOBS))
    (folder / "jobs.yaml").write_text(YAML + jobs)
    command = [rivals.binary(program), "-c", str(folder / "jobs.yaml")]
    return at_work([command], folder / "workers.log", rivals.surroundings(folder), folder)


def huey(folder: Path) -> AbstractContextManager[Crew]:
    command = [rivals.binary("huey_consumer"), "huey_minute.huey", "-w", "1", "-q"]
    variables = rivals.surroundings(folder, BEGUN=str(folder / "begun"), JOBS=str(JOBS))
    return at_work([command], folder / "workers.log", variables, rivals.PROGRAMS)


Start = Callable[[Path], AbstractContextManager[Crew]]
PROGRAMS: Mapping[str, Start] = {
    "Debian cron": debian_cron,
    "yacron": lambda folder: of_yaml(folder, program="yacron"),
    "cronstable": lambda folder: of_yaml(folder, program="cronstable"),
    "huey, crontab()": huey,
}


@cache
def watched() -> Mapping[str, Sequence[float] | str]:
    """Milliseconds from the minute to the start of each job, by program; or why there are none."""
    found: dict[str, Sequence[float] | str] = {}
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobrunner-minute-")))
        crews: dict[str, Crew] = {}
        for name, start in PROGRAMS.items():
            folder = root / name.partition(" ")[0].strip(",")
            folder.mkdir()
            try:
                crews[name] = stack.enter_context(start(folder))
            except Exception as error:  # the others go on
                found[name] = reason_of(error)
        end = time.monotonic() + PATIENCE
        while len(found) < len(PROGRAMS):
            time.sleep(0.2)
            found |= {name: late for name in crews.keys() - found.keys() if (late := _look(crews[name], end))}
    return found


def _look(crew: Crew, end: float) -> Sequence[float] | str | None:
    begun = crew.log.parent / "begun"
    moments = begun.read_text().split() if begun.exists() else []
    if len(moments) >= JOBS:
        return [int(moment) % 60_000_000_000 / 1e6 for moment in moments[:JOBS]]
    try:
        crew.check()
    except Missing as reason:
        return str(reason)
    return f"{len(moments)} of {JOBS} jobs began" if time.monotonic() > end else None


def latest(name: str) -> float:
    """Milliseconds of the job that began last. Raises Missing."""
    late = watched()[name]
    if isinstance(late, str):
        raise Missing(late)
    return max(late)
