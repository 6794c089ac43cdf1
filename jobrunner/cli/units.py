"""The text of a systemd unit: for the machine (hardened or relaxed), for one user, for several files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from jobrunner.durations import SECOND, Micros

Lines = tuple[str, ...]

# A service that nobody can restart into health: an invalid file (5), wrong use (2).
_NEVER_RESTARTED: Final = ("RestartPreventExitStatus=5", "RestartPreventExitStatus=2")

HARDENED: Final[Lines] = (
    "# What follows keeps tasks from what they do not need. One that is refused something is helped by one",
    "# line less, or by the relaxed profile: docs/service.md has the list.",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome={home}",
    "PrivateTmp={tmp}",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "LockPersonality=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
)
# Lines that would imply NoNewPrivileges are absent: sudo, sendmail and other set-user-id programs work.
RELAXED: Final[Lines] = (
    "# Relaxed: tasks may write wherever their user may, and use sudo, sendmail and their like.",
    "ProtectSystem=yes",
    "ProtectControlGroups=yes",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What the lines of a unit depend on; paths are absolute."""

    program: Lines  # the words that start jobrunner
    file: str
    state: str  # the folder of the storage
    needed: Lines = ()  # other paths without which it does not start: its interpreter
    user: str = ""  # "": whoever the service manager runs as
    patience: Micros = 30 * SECOND  # shutdown_timeout
    grace: Micros = 10 * SECOND  # the largest kill_after
    is_of_user: bool = False  # a unit of systemd --user
    is_relaxed: bool = False
    of_several: bool = False  # a template: its instance names the file
    has_specifiers: bool = False  # a `%` in a path is meant for systemd
    comment: Lines = ()

    def text(self) -> str:
        """The unit."""
        sections = (self._unit(), self._service(), self._install())
        head = [f"# {line}".rstrip() for line in self.comment]
        return "\n\n".join("\n".join(lines) for lines in (head, *sections) if lines) + "\n"

    def _unit(self) -> Lines:
        what = " (%i.yaml)" if self.of_several else ""
        # In an hour without its Redis or its disk it must not be given up: it starts as often as it takes.
        return (
            "[Unit]",
            f"Description=jobrunner: scheduled and queued jobs{what}",
            *(() if self.is_of_user else ("Wants=network-online.target",)),
            *(() if self.is_of_user else ("After=local-fs.target network-online.target time-sync.target",)),
            "StartLimitIntervalSec=0",
        )

    def _service(self) -> Lines:
        program, file = " ".join(map(self._word, self.program)), self._word(self.file)
        return (
            "[Service]",
            "Type=notify",
            f"ExecStart={program} run {file}",
            f"ExecReload={program} -c {file} reload",
            *([f"User={self.user}"] if self.user else []),
            *self._folder(),
            "",
            "Restart=on-failure",
            "RestartSec=1",
            *_NEVER_RESTARTED,
            "WatchdogSec=30",
            "",
            "# SIGTERM to the supervisor alone, which lets its runs finish; at the end SIGKILL to the rest.",
            "KillMode=mixed",
            f"TimeoutStopSec={self._longest_stop()}",
            "# A task that the kernel ends for its memory is a failed run, not the end of the service.",
            "OOMPolicy=continue",
            "LimitNOFILE=65536",
            *self._protection(),
        )

    def _folder(self) -> Lines:
        if self.is_of_user:
            return ()
        below = self.state.removeprefix("/var/lib/")
        if below != self.state and below:
            return (f"StateDirectory={self._word(below)}", "StateDirectoryMode=0700")
        return () if self.is_relaxed else (f"ReadWritePaths={self._word(self.state)}",)

    def _longest_stop(self) -> int:
        """Seconds: semantics 29, and something for a busy machine. While it drains, it asks for more."""
        return -(-(self.patience + self.grace) // SECOND) + 2 + 33

    def _protection(self) -> Lines:
        if self.is_of_user:
            return ()
        if self.is_relaxed:
            return ("", *RELAXED)
        paths = (*self.program, *self.needed, self.file, self.state)
        home = "read-only" if _any_below(paths, ("/home", "/root", "/run/user")) else "yes"
        tmp = "no" if _any_below(paths, ("/tmp", "/var/tmp")) else "yes"  # noqa: S108 - looked at, not used
        return ("", *(line.format(home=home, tmp=tmp) for line in HARDENED))

    def _word(self, text: str) -> str:
        """One word of a unit file (systemd.syntax(7))."""
        safe = text if self.has_specifiers else text.replace("%", "%%")
        safe = safe.replace("$", "$$")
        if re.fullmatch(r"[^\s\"'\\;]+", safe):
            return safe
        return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def _install(self) -> Lines:
        target = "default.target" if self.is_of_user else "multi-user.target"
        return ("[Install]", f"WantedBy={target}")


def _any_below(paths: Iterable[str], folders: Iterable[str]) -> bool:
    return any(path.startswith(f"{folder}/") for path in paths for folder in folders)


_PROGRAM: Final = ("/opt/jobrunner/bin/jobrunner",)


def shipped() -> dict[str, str]:
    """The units in the folder `systemd/`, by their path in it."""
    of_machine = Unit(
        program=_PROGRAM,
        file="/etc/jobrunner/jobs.yaml",
        state="/var/lib/jobrunner",
        user="jobrunner",
        comment=("A unit to begin with: docs/service.md says what each line is for, and how to install it.",),
    )
    of_several = replace(
        of_machine,
        file="/etc/jobrunner/%i.yaml",
        state="/var/lib/jobrunner/%i",
        of_several=True,
        has_specifiers=True,
        comment=(
            "One service for each file: jobrunner@shop.service runs /etc/jobrunner/shop.yaml. Each file has",
            "a storage of its own:  backend: sqlite:////var/lib/jobrunner/shop/jobs.db",
        ),
    )
    of_user = Unit(
        program=("%h/.local/bin/jobrunner",),
        file="%h/.config/jobrunner/jobs.yaml",
        state="%h/.config/jobrunner/.jobrunner",
        is_of_user=True,
        has_specifiers=True,
        comment=(
            "A unit of one user, for ~/.config/systemd/user. It runs ~/.config/jobrunner/jobs.yaml, and its",
            "storage lies beside this file.",
        ),
    )
    units = {"jobrunner": of_machine, "jobrunner@": of_several, "user/jobrunner": of_user}
    return {f"{name}.service": unit.text() for name, unit in units.items()}
