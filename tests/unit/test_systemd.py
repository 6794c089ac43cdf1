"""What a service manager hears: a real datagram socket listens, as systemd's does (semantics 30)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobrunner.durations import MINUTE, SECOND
from jobrunner.events import (
    Event,
    Hurrying,
    Ready,
    Reloading,
    ReloadRefused,
    StandingBy,
    Stopping,
    StorageBack,
    StorageTrouble,
)
from jobrunner.loop import EventLoop
from jobrunner.pulse import BEAT, PATIENCE, Pulse, Sight
from jobrunner.systemd import Notifier
from tests.builders import NOON
from tests.ear import Ear
from tests.stage import STATUS, HandClock

READY = Ready("/jobs.yaml", "memory://", "UTC", 1, 1, 4711, None, None)
SIGHT = Sight(STATUS, None, "UTC")


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"@jobrunner-test-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def ear(place: str) -> Iterator[Ear]:
    ear = Ear(place)
    yield ear
    ear.close()


@dataclass
class Patient:
    """A pulse on a loop whose clock is moved by hand."""

    place: str | None
    watchdog: int | None = None
    sight: Sight = SIGHT
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.loop = EventLoop(self.clock)
        self.pulse = Pulse(self.loop, Notifier(self.place, self.watchdog), lambda: self.sight)
        self.pulse.start()

    def hears(self, *events: Event) -> None:
        for event in events:
            self.pulse.hear(event)

    def passes(self, time: int) -> None:
        self.clock.passes(time)
        self.loop.turn(0)

    def close(self) -> None:
        self.pulse.close()
        self.loop.close()


@pytest.fixture
def patient(place: str) -> Iterator[Patient]:
    patient = Patient(place)
    yield patient
    patient.close()


def test_a_socket_in_the_file_system_hears_too(tmp_path: Path) -> None:
    ear = Ear(str(tmp_path / "notify"))
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000", "HOME": "/"}
    notifier = Notifier.taken_from(environ)
    assert notifier.tell({"READY": 1, "STATUS": "two\nlines"})
    assert (ear.heard(), notifier.watchdog) == ([{"READY": "1", "STATUS": "two lines"}], 3 * SECOND)
    assert environ == {"HOME": "/"}, "no child is to speak for us"
    notifier.close()
    ear.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "relative"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"},
    ],
)
def test_without_a_service_manager_nothing_is_said(environ: dict[str, str]) -> None:
    notifier = Notifier.taken_from(dict(environ))
    assert (notifier.is_heard, notifier.watchdog) == (False, None)
    assert notifier.tell({"READY": 1})


def test_the_watchdog_of_this_very_process_counts() -> None:
    environ = {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier.taken_from(environ).watchdog == 5 * SECOND


def test_ready_is_told_at_once_with_what_comes_next(patient: Patient, ear: Ear) -> None:
    patient.sight = patient.sight._replace(upcoming=("backup", NOON + 90 * SECOND), zone="Europe/Paris")
    patient.hears(READY)
    words = "0 running · next: backup at Mon 2026-11-23 13:01:30 CET"
    assert ear.heard() == [{"READY": "1", "STATUS": words}]


def test_status_follows_what_runs_and_is_not_repeated(patient: Patient, ear: Ear) -> None:
    patient.hears(READY)
    assert ear.heard() == [{"READY": "1", "STATUS": "0 running · nothing scheduled"}]
    patient.passes(BEAT)
    assert ear.heard() == []
    patient.sight = patient.sight._replace(status=STATUS._replace(busy={"commands": 2, "default": 1}))
    patient.passes(BEAT)
    assert ear.heard() == [{"STATUS": "3 running · nothing scheduled"}]


def test_a_broken_file_is_said_first_in_status(patient: Patient, ear: Ear) -> None:
    error = "jobs.yaml:3:1: error: no\n  |\n3 | x"  # rule 25: loud
    patient.sight = patient.sight._replace(status=STATUS._replace(config_error=error))
    patient.hears(READY)
    assert ear.heard()[0]["STATUS"].startswith("the file was not taken")
    assert "jobs.yaml:3:1: error: no ·" in patient.pulse._say()


def test_a_hanging_storage_is_in_status_until_it_answers(patient: Patient, ear: Ear) -> None:
    patient.hears(READY, StorageTrouble("the disk is full", "", SECOND))
    assert ear.heard()[-1]["STATUS"].startswith("trouble with the storage: the disk is full ·")
    patient.hears(StorageBack(SECOND))
    assert ear.heard()[-1]["STATUS"] == "0 running · nothing scheduled"


def test_the_watchdog_hears_of_every_half_of_its_time(place: str, ear: Ear) -> None:
    patient = Patient(place, watchdog=3 * SECOND)
    patient.hears(READY)
    ear.heard()
    for _ in range(3):
        patient.passes(3 * SECOND // 2)
    assert ear.heard() == [{"WATCHDOG": "1"}] * 3
    patient.close()


def test_a_start_that_waits_asks_for_more_time(patient: Patient, ear: Ear) -> None:
    patient.hears(StandingBy("sqlite:///jobs.db"))
    patient.passes(BEAT)
    words, beat = ear.heard()
    assert words == {"STATUS": "standing by: another supervisor works on sqlite:///jobs.db"}
    assert beat == {"EXTEND_TIMEOUT_USEC": str(PATIENCE)}


def test_an_end_asks_for_more_time_as_long_as_it_lasts(patient: Patient, ear: Ear) -> None:
    patient.sight = patient.sight._replace(status=STATUS._replace(busy={"commands": 1}))
    patient.hears(READY, Stopping(1, MINUTE))
    assert ear.heard()[-1] == {
        "STOPPING": "1",
        "EXTEND_TIMEOUT_USEC": str(PATIENCE),
        "STATUS": "stopping: 1 running may finish within 1 m",
    }
    patient.passes(BEAT)
    assert ear.heard() == [
        {"EXTEND_TIMEOUT_USEC": str(PATIENCE), "STATUS": "stopping: 1 running may finish within 58 s"}
    ]
    patient.hears(Hurrying(1))
    assert ear.heard() == [{"STATUS": "stopping: 1 running are ended"}]


def test_a_reload_is_told_with_its_moment_and_its_end(patient: Patient, ear: Ear) -> None:
    patient.hears(READY)
    ear.heard()
    patient.pulse.hear(Reloading("SIGHUP"))
    patient.pulse.hear(ReloadRefused("/jobs.yaml", "an error"))
    assert ear.heard() == [
        {"RELOADING": "1", "MONOTONIC_USEC": str(patient.clock.monotonic())},
        {"READY": "1"},
    ]


def test_what_is_not_taken_is_told_at_the_next_beat(patient: Patient, place: str) -> None:
    patient.hears(READY)  # nobody has bound the socket: systemd is being executed anew
    ear = Ear(place)
    patient.passes(BEAT)
    assert ear.heard() == [{"READY": "1", "STATUS": "0 running · nothing scheduled"}]
    ear.close()


def test_under_no_service_manager_nothing_beats() -> None:
    patient = Patient(None)
    patient.hears(READY, Stopping(0, SECOND))
    assert patient.loop._timers == []
    patient.close()
