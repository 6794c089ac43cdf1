"""What `jobrunner doctor` looks at. Each look gives findings; none of them changes anything."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from importlib.metadata import version
from typing import Final

from jobrunner.config.compiled import Compiled
from jobrunner.durations import MINUTE, format_duration, format_size, from_micros
from jobrunner.errors import ConfigError, JobRunnerError
from jobrunner.place import state_folder, storage_file
from jobrunner.plan import Plan, Task
from jobrunner.storage import RunFilter
from jobrunner.storage.health import examine
from jobrunner.vitals import floor_of, measure, space_of

from .session import Session
from .words import gist

NEVER_BEFORE: Final = 1_735_689_600_000_000  # 2025: a clock that shows less was never set
SHORT_OF_FILES: Final = 1024
UNSYNCHRONIZED: Final = 0x40  # STA_UNSYNC, adjtimex(2)
WORD: Final = re.compile(r"[A-Za-z0-9_./+-]+")
PATIENCE: Final = 5.0  # seconds, for systemctl and for a shell


class Verdict(IntEnum):
    OK = 0
    WARN = 1
    FAIL = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found, and the next step where there is one."""

    check: str
    verdict: Verdict
    words: str
    help: str = ""


Look = Callable[[Session, Plan], Iterator[Finding]]


def examine_all(session: Session) -> Iterator[Finding]:
    """All looks, in order; what cannot be looked at is a finding too."""
    yield from _versions()
    plan = None
    if session.has_file():
        compiled = _compiled(session)
        yield from _file(session, compiled)
        plan = compiled.plan if compiled is not None else None
    yield from _guarded("storage", _storage(session))
    yield from _guarded("service", _service(session))
    yield from _guarded("clock", _clock(session))
    yield from _zones()
    yield from _guarded("limits", _limits(session))
    if plan is not None:
        yield from _guarded("commands", _commands(session, plan))
    yield from _unit()


def _guarded(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """A look that fails says so; the others go on."""
    try:
        yield from findings
    except (JobRunnerError, OSError) as error:
        yield Finding(check, Verdict.FAIL, str(error), getattr(error, "help", ""))


# ---- the file, the versions ------------------------------------------------------------------------------


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "versions", Verdict.OK, f"jobrunner {version('jobrunner')}, Python {python} ({sys.executable})"
    )


def _compiled(session: Session) -> Compiled | None:
    from jobrunner.config.compile import compile_file

    try:
        path = session.config_file()
    except ConfigError:
        return None
    return compile_file(path, environ=session.environ, importing=True, now=from_micros(session.now()))


def _file(session: Session, compiled: Compiled | None) -> Iterator[Finding]:
    """Its errors and warnings, who may write to it included."""
    if compiled is None:
        yield Finding("file", Verdict.FAIL, f"there is no {session.config}", "jobrunner init makes one")
        return
    path = session.config_file()
    for problem in compiled.problems:
        verdict = Verdict.FAIL if problem.is_error else Verdict.WARN
        yield Finding(
            "file", verdict, f"{problem.file}:{problem.line}: {problem.message}", problem.help or ""
        )
    if not compiled.problems and compiled.plan is not None:
        yield Finding("file", Verdict.OK, f"{path}: {len(compiled.plan.tasks)} tasks, no errors, no warnings")


# ---- storage ---------------------------------------------------------------------------------------------


def _storage(session: Session) -> Iterator[Finding]:
    if not session.exists():
        yield Finding(
            "storage", Verdict.WARN, f"there is none yet at {session.place()}", f"{session.start_command()}"
        )
        return
    if storage_file(session.url()) is None:
        session.storage()  # who lacks the driver, or reaches no server, is told so
    health = examine(session.url())
    runs = session.storage().runs(RunFilter(limit=1))
    yield Finding(
        "storage", Verdict.OK, f"{session.place()} answers, {'has runs' if runs else 'has no runs yet'}"
    )
    yield Finding("integrity", Verdict.OK, "no damage found")
    verdict = Verdict.WARN if health.weakness else Verdict.OK
    words = ": ".join(filter(None, (health.driver, health.weakness or health.keeps)))
    yield Finding("driver", verdict, words, health.help)
    file = storage_file(session.url())
    if file is not None:
        yield from _permissions(file)
        yield from _space(os.path.dirname(file))


def _permissions(file: str) -> Iterator[Finding]:
    """State is its owner's alone: it holds arguments, results and output."""
    wrong = [
        f"chmod {wanted:o} {shlex.quote(path)}"
        for path, wanted in ((os.path.dirname(file), 0o700), (file, 0o600))
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077
    ]
    if wrong:
        words = "others may look at or change the storage"
        yield Finding("permissions", Verdict.WARN, words, "; ".join(wrong))
    else:
        yield Finding("permissions", Verdict.OK, "the storage is its owner's alone")


def _space(folder: str) -> Iterator[Finding]:
    free, room = space_of(folder) or (0, 0)
    floor = floor_of(room)
    words = f"{format_size(free)} free below {folder}"
    if free < floor:
        yield Finding(
            "disk", Verdict.FAIL, f"{words}: nothing is claimed below {format_size(floor)}", "make room"
        )
    elif free < 2 * floor:
        yield Finding(
            "disk", Verdict.WARN, f"{words}; below {format_size(floor)} nothing is claimed", "make room"
        )
    else:
        yield Finding("disk", Verdict.OK, words)


# ---- the service -----------------------------------------------------------------------------------------


def _service(session: Session) -> Iterator[Finding]:
    alive = session.supervisors() if session.exists() else []
    if not alive:
        yield Finding("service", Verdict.WARN, "no supervisor is running", session.start_command())
    for each in alive:
        who = f"pid {each.owner.pid} on {each.owner.host}"
        yield Finding(
            "service", Verdict.OK, f"{who}, up {format_duration(session.now() - each.owner.started_at)}"
        )
        if each.status.config_error:
            first = each.status.config_error.partition("\n")[0]
            words = f"the file was not taken, the configuration before it is in force: {first}"
            yield Finding("service", Verdict.FAIL, words, "jobrunner check; then jobrunner reload")
        if each.status.trouble:
            yield Finding("service", Verdict.FAIL, f"nothing is claimed: {each.status.trouble}")
        for pool, why in (each.status.stalled or {}).items():
            words = f"no worker of pool {pool!r} starts, its runs wait: {gist(why)}"
            yield Finding("service", Verdict.FAIL, words, "mend it; they are tried every ten seconds")
        if each.status.untold:
            because = each.status.untold_because or "they are tried again"
            words = f"{each.status.untold} notifications not delivered: {because}"
            yield Finding("service", Verdict.FAIL, words, "jobrunner notify --test")
    yield from _blocked(session)


def _blocked(session: Session) -> Iterator[Finding]:
    catalogue = session.published()
    for entry in catalogue.tasks.values() if catalogue else ():
        if entry.blocked:
            yield Finding(
                "service", Verdict.FAIL, f"{entry.name} is blocked: {entry.blocked}", "jobrunner check"
            )


# ---- clock, zones, limits --------------------------------------------------------------------------------


def _clock(session: Session) -> Iterator[Finding]:
    now = session.now()
    shown = f"{from_micros(now):%Y-%m-%d %H:%M:%S} UTC"
    newest = session.storage().runs(RunFilter(limit=1)) if session.exists() else []
    if now < NEVER_BEFORE:
        yield Finding("clock", Verdict.FAIL, f"it shows {shown}: it was never set", "set it, and use NTP")
    elif newest and newest[0].created_at > now + MINUTE:
        back = format_duration(newest[0].created_at - now)
        words = f"it shows {shown}, and the newest run was made {back} later: it was set back"
        yield Finding("clock", Verdict.WARN, words, "look at the time service; no tick is repeated")
    elif _is_synchronized() is False:
        words = f"it shows {shown}, and the kernel says that nobody keeps it synchronized"
        yield Finding("clock", Verdict.WARN, words, "timedatectl set-ntp true, or install chrony")
    else:
        yield Finding("clock", Verdict.OK, f"it shows {shown}")


def _is_synchronized() -> bool | None:
    """Whether the kernel's clock is kept right; None when it does not tell."""
    timex = (ctypes.c_byte * 512)()  # `modes` is 0: nothing is set
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    status_at = 40 if ctypes.sizeof(ctypes.c_long) == 8 else 20  # after modes and four longs
    return not ctypes.c_int.from_buffer(timex, status_at).value & UNSYNCHRONIZED


def _zones() -> Iterator[Finding]:
    from zoneinfo import TZPATH

    system = next((path for path in TZPATH if os.path.isdir(path)), None)
    package = f"tzdata {version('tzdata')}"
    where = f"{system} (tzdata {_release(system)})" if system else f"the Python package {package}"
    yield Finding("zones", Verdict.OK, f"zone data from {where}")


def _release(folder: str) -> str:
    try:
        with open(os.path.join(folder, "tzdata.zi"), encoding="ascii") as file:
            return file.readline().removeprefix("# version").strip()
    except (OSError, ValueError):
        return "of an unknown version"


def _limits(session: Session) -> Iterator[Finding]:
    reading = measure(state_folder(session.url()))
    most = reading.most_descriptors
    if most is not None and most < SHORT_OF_FILES:
        yield Finding(
            "limits", Verdict.WARN, f"{most} open files at most", "ulimit -n 65536; LimitNOFILE=65536"
        )
    else:
        yield Finding("limits", Verdict.OK, f"{'any number of' if most is None else most} open files")


# ---- commands --------------------------------------------------------------------------------------------


def _commands(session: Session, plan: Plan) -> Iterator[Finding]:
    """Every command's program, looked for where the service will look for it."""
    from .execute import inherited_environment

    inherited, missing, seen = inherited_environment(session), 0, 0
    for task in plan.tasks.values():
        if task.command is None:
            continue
        seen += 1
        path = {**inherited, **task.env}.get("PATH", os.defpath)
        program = _missing_program(task, path)
        if program is not None:
            missing += 1
            words = f"{task.name}: {program!r} is not found on PATH {path}"
            yield Finding(
                "commands", Verdict.WARN, words, "name it by its absolute path, or set PATH under env"
            )
    if not missing:
        yield Finding("commands", Verdict.OK, f"the programs of {seen} commands are found")


def _missing_program(task: Task, path: str) -> str | None:
    """The program that is not there; of a shell text only the first word, when it is a plain one."""
    if isinstance(task.command, tuple):
        program = task.command[0]
        return program if _which(program, task.cwd, path) is None else None
    shell = task.shell[0]
    if _which(shell, task.cwd, path) is None:
        return shell
    first = (task.command or "").split(maxsplit=1)[:1]
    if not first or WORD.fullmatch(first[0]) is None or _which(first[0], task.cwd, path) is not None:
        return None
    return None if _shell_knows(shell, first[0], path) else first[0]


def _which(program: str, folder: str, path: str) -> str | None:
    return shutil.which(os.path.join(folder, program) if "/" in program else program, path=path)


def _shell_knows(shell: str, word: str, path: str) -> bool:
    """Whether it is a built-in or a keyword."""
    try:
        done = subprocess.run(
            [shutil.which(shell, path=path) or shell, "-c", 'command -v "$1"', "sh", word],
            env={"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True  # a shell of another kind: nothing is known, nothing is said
    return done.returncode == 0


# ---- systemd ---------------------------------------------------------------------------------------------


def _unit() -> Iterator[Finding]:
    """What systemd says of the units that run jobrunner: the machine's, then this user's."""
    if not os.path.isdir("/run/systemd/system"):
        yield Finding("unit", Verdict.OK, "systemd does not run here")
        return
    found = [(manager, name) for manager in ((), ("--user",)) for name in _unit_names(manager)]
    if not found and not _is_answered():
        words = "systemd does not answer this user: nothing is known of its units"
        yield Finding("unit", Verdict.WARN, words, "ask as root: sudo jobrunner doctor")
    elif not found:
        words = "no unit jobrunner*.service is installed"
        yield Finding("unit", Verdict.OK, words, "jobrunner systemd prints one")
    for manager, name in found:
        yield unit_finding(" ".join((*manager, name)), _shown(name, manager))


def unit_finding(unit: str, states: Mapping[str, str]) -> Finding:
    """What is to be said of one unit; `unit` is what its journal is asked for by."""
    state, name = states.get("ActiveState", ""), unit.rpartition(" ")[2]
    if state == "failed":
        words = f"{name} has failed ({states.get('Result')}, exit {states.get('ExecMainStatus')})"
        return Finding("unit", Verdict.FAIL, words, f"journalctl {_asked_for(unit)} -n 50")
    if states.get("NRestarts", "0") not in ("", "0"):
        words = f"{name} is {state}, and was started anew {states['NRestarts']} times"
        return Finding("unit", Verdict.WARN, words, f"journalctl {_asked_for(unit)} -p warning")
    return Finding("unit", Verdict.OK, f"{name} is {state}: {states.get('StatusText') or 'no status'}")


def _is_answered() -> bool:
    """Whether the machine's systemd tells this user anything."""
    return any(line.startswith("Version=") for line in _systemctl("show", "--property=Version"))


def _asked_for(unit: str) -> str:
    manager, _, name = unit.rpartition(" ")
    return f"{manager} -u {name}".strip()


def _unit_names(manager: tuple[str, ...]) -> list[str]:
    """`jobrunner.service`, `jobrunner@shop.service`, `jobrunner-shop.service`: installed, or in use."""
    options, pattern = ("--plain", "--no-legend", "--no-pager"), "jobrunner*.service"
    lines = _systemctl(*manager, "list-unit-files", *options, pattern)
    lines += [
        line for line in _systemctl(*manager, "list-units", "--all", *options, pattern) if " loaded " in line
    ]
    names = dict.fromkeys(line.split()[0] for line in lines if line.strip())
    return [name for name in names if "@." not in name]  # a template itself runs nothing


def _shown(unit: str, manager: tuple[str, ...]) -> Mapping[str, str]:
    names = "ActiveState,Result,ExecMainStatus,NRestarts,StatusText"
    lines = _systemctl(*manager, "show", f"--property={names}", unit)
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _systemctl(*arguments: str) -> list[str]:
    try:
        done = subprocess.run(
            ["systemctl", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()
