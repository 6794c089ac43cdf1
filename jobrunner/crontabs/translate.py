"""Lines of a crontab become tasks of a jobs.yaml, with cron's ways kept and every line accounted for."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ..schedule import Schedule, ScheduleError
from .lift import Lifted, left_wrappers, lift
from .lockfiles import Use, file_of, shared_with_others
from .names import name_of, unique
from .parse import REBOOT, Dialect, Kind, Line, read_crontab
from .when import When, schedule_of

CRONS_WAYS: Final[Mapping[str, object]] = {
    "overlap": "allow",
    "catch_up": "none",
    "leftovers": "keep",
    "on_interrupt": "fail",
}
PATHS: Final = {Dialect.DEBIAN: "/usr/bin:/bin", Dialect.CRONIE: "/usr/bin:/bin:/usr/sbin:/sbin"}
SLOTS: Final = 8  # of the pool `commands`, when nobody says otherwise
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ADDRESS: Final = re.compile(r"[^\s@,;<>\"'$-][^\s@,;<>\"'$]*(?:@[^\s@,;<>\"'$]+)?")
_UNSPEAKABLE: Final = re.compile(r"[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is imported, and where to: the folder of a user is asked of `home_of`, None for an unknown one."""

    text: str
    user: str
    home_of: Callable[[str], str | None]
    dialect: Dialect = Dialect.DEBIAN
    system: bool = False
    lifting: bool = False
    may_switch: bool = False
    """Whether runs of other users are possible: the service runs as root."""
    caller: str = ""
    """Who runs the service, and needs no `user` of its own; "": whose crontab it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a line."""

    line: int
    text: str
    task: str | None = None
    notes: tuple[str, ...] = ()
    is_comment: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedTask:
    """A task as it is to be written, and what cron made of its line."""

    name: str
    line: Line
    when: When
    comments: tuple[str, ...]
    """Lines of the crontab above it, and remarks of the import."""
    settings: Mapping[str, object]
    env: Mapping[str, str]
    """Everything that cron sets for it."""
    zone: str | None = None
    """Of its schedule; None: the machine's."""
    lock_file: str | None = None

    @property
    def is_enabled(self) -> bool:
        return self.settings.get("enabled") is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A whole crontab, translated."""

    header: tuple[str, ...]
    tasks: tuple[ImportedTask, ...]
    trailer: tuple[str, ...]
    reports: tuple[Report, ...]


def translate(source: Source) -> Imported:
    """The tasks of a crontab. Never raises: what cannot be a task is reported, and kept as a comment."""
    lines = read_crontab(source.text, dialect=source.dialect, system=source.system)
    kept: dict[str, int] = {}
    while True:  # each time round a lock file more is kept: there are as many as lines at most
        importing = _Importing(source, kept)
        for line in lines:
            importing.take(line)
        more = importing.shared()
        if not more:
            return importing.finished()
        kept = {**more, **kept}


@dataclass(slots=True)
class _Importing:
    """Goes through the lines, since a variable holds for the lines below it."""

    source: Source
    kept: Mapping[str, int] = field(default_factory=dict)  # lock files that stay, and a line that needs them
    variables: dict[str, str] = field(default_factory=dict)
    header: tuple[str, ...] | None = None
    comments: list[str] = field(default_factory=list)
    tasks: dict[str, ImportedTask] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)

    def take(self, line: Line) -> None:
        if _UNSPEAKABLE.search(line.text):
            why = "it holds a NUL or half a character, which no file of tasks can"
            line = replace(line, kind=Kind.REFUSED, refusal=why)
        match line.kind:
            case Kind.BLANK:
                self._blank()
            case Kind.COMMENT:
                self.comments.append(line.text.strip(" \t"))
                self.reports.append(Report(line=line.number, text=line.text, is_comment=True))
            case Kind.VARIABLE:
                self._variable(line)
            case Kind.TASK:
                self._task(line)
            case Kind.REFUSED:
                self._leave_out(line, line.refusal)

    def finished(self) -> Imported:
        tasks = _with_locks(list(self.tasks.values()))
        return Imported(
            header=self.header or (),
            tasks=tuple(tasks),
            trailer=tuple(self.comments),
            reports=tuple(self.reports),
        )

    def shared(self) -> dict[str, int]:
        """Lock files that were lifted though another line uses them by itself."""
        return shared_with_others(
            [
                Use(each.line.number, str(each.settings["command"]), each.env, each.lock_file)
                for each in self.tasks.values()
            ]
        )

    def _blank(self) -> None:
        """The comments before the first blank line speak of the whole file."""
        if self.header is None and not self.tasks and self.comments:
            self.header = tuple(self.comments)
            self.comments.clear()
        elif self.comments and self.comments[-1]:
            self.comments.append("")

    def _leave_out(self, line: Line, why: str) -> None:
        self.comments += [f"# not imported, line {line.number}: {why}", f"#     {line.text.strip()}"]
        self._report(line, None, [*line.notes, f"not imported: {why}"])

    def _report(self, line: Line, task: str | None, notes: Sequence[str]) -> None:
        self.reports.append(Report(line=line.number, text=line.text, task=task, notes=tuple(notes)))

    # ---- variables

    def _variable(self, line: Line) -> None:
        notes = [*line.notes, *self._remarks(line)]
        if line.name == "CRON_TZ" and self.source.dialect is Dialect.CRONIE and _is_zone(line.value):
            notes.append("the zone of the schedules below")
        elif not _NAME.fullmatch(line.name):
            notes.append("left out: no shell can name such a variable, and jobs.yaml takes none")
            self._report(line, None, notes)
            return
        self.variables[line.name] = line.value
        self._report(line, None, notes)

    def _remarks(self, line: Line) -> list[str]:
        name, value = line.name, line.value
        if name == "MAILTO":
            return [_mail_remark(value)]
        if name == "CRON_TZ" and self.source.dialect is Dialect.DEBIAN:
            why = "Debian's cron only hands CRON_TZ to the commands: the times stay in the machine's zone"
            return [f"{why}; if {value} was meant, import with --dialect cronie"]
        if name == "CRON_TZ" and not _is_zone(value):
            return [f"the zone {value!r} is not known here: the times below are read in the machine's zone"]
        if name == "LOGNAME":
            return ["cron does not let LOGNAME be changed: left as it is"]
        if name in ("RANDOM_DELAY", "MAILFROM", "CONTENT_TYPE"):
            return [f"{name} means something to cron only; the commands still see it"]
        return []

    # ---- tasks

    def _task(self, line: Line) -> None:
        when = schedule_of(line)
        if when.problem:
            self._leave_out(line, when.problem)
            return
        command = _trimmed(line.command)
        user = line.user or self.source.user
        env = self._environment(user)
        lifted = Lifted(command=command)
        if self.source.lifting:
            lifted = lift(command, lambda file: self._may_lift(file, env))
        name = unique(name_of(lifted.command), line.when, self.tasks, lifted.command)
        settings, remarks = self._settings(line, when, lifted, user)
        settings["command"], settings["schedule"] = lifted.command, when.text
        comments = [*self.comments, *(f"# note: {remark}" for remark in remarks)]
        self.tasks[name] = ImportedTask(
            name=name,
            line=line,
            when=when,
            comments=tuple(comments),
            settings=settings,
            env=env,
            zone=str(settings["timezone"]) if "timezone" in settings else None,
            lock_file=lifted.lock_file,
        )
        self.comments.clear()
        self._report(line, name, [*line.notes, *remarks, *lifted.notes, *self._advice(line, lifted, env)])

    def _settings(
        self, line: Line, when: When, lifted: Lifted, user: str
    ) -> tuple[dict[str, object], list[str]]:
        """The keys of a task, and what a reader of the file has to know of them."""
        settings: dict[str, object] = {"command": "", "schedule": "", **self._zone(), **lifted.keys}
        remarks = list(when.notes)
        if line.stdin is not None:
            settings["stdin"] = line.stdin
        settings |= self._shell() | self._mail()
        if user != (self.source.caller or self.source.user):
            keys, remark = self._other_user(user)
            settings |= keys
            remarks += [remark] if remark else []
        if not when.runs:
            settings["enabled"] = False
        return settings, remarks

    def _zone(self) -> dict[str, object]:
        zone = self.variables.get("CRON_TZ", "")
        return {"timezone": zone} if self.source.dialect is Dialect.CRONIE and _is_zone(zone) else {}

    def _shell(self) -> dict[str, object]:
        shell = self.variables.get("SHELL", "")
        return {"shell": shlex.quote(shell)} if shell.strip() and shell != "/bin/sh" else {}

    def _mail(self) -> dict[str, object]:
        """Cron mails whatever a command writes; here a failure is what a mail is worth."""
        addresses = _addresses(self.variables.get("MAILTO", ""))
        if not addresses:
            return {}
        mail: object = addresses[0] if len(addresses) == 1 else addresses
        return {"notify": {"on": ["failure", "recovery"], "mail": mail}}

    def _other_user(self, user: str) -> tuple[dict[str, object], str]:
        """`user`, when this machine knows it and may become it; else a task that waits for a decision."""
        if self.source.home_of(user) is None:
            return {"enabled": False}, (
                f"cron runs this as {user}, whom this machine does not know: disabled;"
                f" give it user: {user} before you enable it"
            )
        if not self.source.may_switch:
            return {"enabled": False}, (
                f"cron runs this as {user}; that takes a service run as root: disabled;"
                f" give it user: {user} before you enable it"
            )
        return {"user": user}, ""

    def _environment(self, user: str) -> dict[str, str]:
        """What cron sets: its own variables, those of the lines above, and LOGNAME last."""
        home = self.source.home_of(user) or ("/root" if user == "root" else f"/home/{user}")
        own = {"PATH": PATHS[self.source.dialect], "HOME": home, "SHELL": "/bin/sh"}
        names = {"LOGNAME": user, "USER": user}
        if self.source.dialect is Dialect.DEBIAN:
            names.pop("USER")
        return {**own, **self.variables, **names}

    def _may_lift(self, lock_file: str, env: Mapping[str, str]) -> bool:
        file = file_of(lock_file, env)
        return file is not None and file not in self.kept

    def _why_kept(self, line: Line, command: str, env: Mapping[str, str]) -> str:
        """Why a wrapper is still there."""
        would_be = lift(command).lock_file
        if would_be is None:
            return "no key says the same"
        file = file_of(would_be, env)
        if file is None:
            return f"only a shell can tell which file {would_be} is, and who else locks it"
        other = self.kept.get(file)
        if other is None:
            return "a task holds one lock"
        who = "this line" if other == line.number else f"line {other}"
        return f"{who} uses {file} in a way that no key has, and as a key the lock would not exclude that"

    def _advice(self, line: Line, lifted: Lifted, env: Mapping[str, str]) -> list[str]:
        advice: list[str] = []
        if line.when == REBOOT:
            advice.append("once per boot of the machine, as in cron; not at every start of the service")
        if "run-parts" in lifted.command:
            advice.append("one task for the whole folder: a script of its own makes a better history")
        wrappers = left_wrappers(lifted.command)
        if wrappers and self.source.lifting:
            why = self._why_kept(line, lifted.command, env)
            advice.append(f"'{wrappers[0]}' stays in the command: {why}")
        if not self.source.lifting and lift(line.command).command != line.command:
            advice.append("--lift turns the wrapper before the command into keys")
        return advice


def _mail_remark(value: str) -> str:
    if not value:
        return "cron mails nothing from here on; jobrunner logs has the output"
    addresses = _addresses(value)
    if not addresses:
        return f"no address that mail can be sent to: {value}; jobrunner logs has the output"
    to = ", ".join(addresses)
    return f"becomes notify: mail to {to} on failure and recovery; cron mails whatever is written"


def _addresses(value: str) -> list[str]:
    return [each for part in value.split(",") if _ADDRESS.fullmatch(each := part.strip())]


def _is_zone(name: str) -> bool:
    if not name:
        return False
    try:
        return bool(Schedule.parse("daily", name).timezone)
    except ScheduleError:
        return False


def _trimmed(command: str) -> str:
    """Without blanks at its ends; an escaped one stays."""
    shorter = command.strip(" \t")
    return f"{shorter} " if shorter.endswith("\\") and command.rstrip("\t").endswith(" ") else shorter


def _with_locks(tasks: list[ImportedTask]) -> list[ImportedTask]:
    """A lock file that one task names is its overlap; one that several name is a lock."""
    files = [file_of(task.lock_file, task.env) if task.lock_file else None for task in tasks]
    users, taken = Counter(file for file in files if file), dict[str, str]()
    return [
        _locked(task, file, users, taken) if file else task for task, file in zip(tasks, files, strict=True)
    ]


def _locked(task: ImportedTask, file: str, users: Mapping[str, int], taken: dict[str, str]) -> ImportedTask:
    if users[file] == 1:
        return replace(task, settings={**task.settings, "overlap": "skip"})
    stem = re.sub(r"[^A-Za-z0-9]+", "-", re.sub(r"\.(?:lock|lck|pid)$", "", file.rpartition("/")[2])).strip(
        "-"
    )
    name = taken.setdefault(file, unique(stem[:60] or "shared", "", taken.values()))
    return replace(task, settings={**task.settings, "lock": {"name": name, "on_busy": "skip"}})
