"""The herald on a stage: a clock moved by hand, a real storage and spool, and a courier that only notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from jobrunner.durations import HOUR, SECOND
from jobrunner.errors import StorageUnavailable
from jobrunner.events import NoticeLost, Notified, NotNotified
from jobrunner.herald import DELAYS, Herald
from jobrunner.logs import words
from jobrunner.model import Ended, Ending, State
from jobrunner.notify import Notice, Occasion
from jobrunner.notify.courier import Answers, Courier
from jobrunner.notify.letters import Letter
from jobrunner.notify.measure import ONE_BY_ONE
from jobrunner.notify.spool import Spool
from jobrunner.plan import Notify, Retries
from tests.builders import NOON, a_run, a_task
from tests.stage import ME, Stage

TOLD = Notify(on=(Occasion.FAILURE, Occasion.RECOVERY), webhook="http://127.0.0.1/hook")
FAILED = Ended(Ending.EXIT, exit_code=3, started_at=NOON, ended_at=NOON)
OK = Ended(Ending.OK, started_at=NOON, ended_at=NOON)


@dataclass
class Pigeon:
    """Notes the letters; answers at once, with `error` for each, or (held) when it is let go."""

    error: str | None = None
    letters: list[Letter] = field(default_factory=list)
    held: bool = False
    _under_way: list[Callable[[], None]] = field(default_factory=list)

    def send(self, letters: Sequence[Letter], then: Callable[[Answers], None]) -> None:
        assert not self._under_way, "one process at a time"
        self.letters += letters
        answers = [self.error] * len(letters)
        if self.held:
            self._under_way.append(lambda: then(answers))
        else:
            then(answers)

    def let_go(self) -> None:
        self.held = False
        while self._under_way:
            self._under_way.pop()()

    def close(self) -> None: ...


class Told:
    """A stage with a herald that hears of every event, as the supervisor wires it."""

    def __init__(self, folder: Path, stage: Stage | None = None, **task: Any) -> None:
        self.stage = stage or Stage(a_task(notify=TOLD, **task), a_task("other"))
        self.pigeon = Pigeon()
        self.spool = Spool(str(folder))
        self.folder = folder / "notices"
        self.herald = Herald(
            loop=self.stage.loop,
            owner=ME,
            plan=self.stage.plan,
            spool=self.spool,
            tail=lambda _run, _attempt: "the end of it",
            emit=self.stage.events.append,
            courier=cast(Courier, self.pigeon),
            environ={},
        )
        self.stage.dispatcher._emit = self._emit

    def _emit(self, event: Any) -> None:
        self.stage.events.append(event)
        self.herald.hear(event)

    def begin(self) -> None:
        self.herald.begin(self.stage.storage, self.stage.service)
        self.stage.turns()

    def ends(self, ended: Ended, *, task: str = "backup", count: int = 1) -> list[str]:
        """So many runs begin and end like this."""
        ids = []
        for _ in range(count):
            run = a_run(task)
            self.stage.add(run)
            self.stage.executor.finish(self.stage.executor.calls[0], ended)
            self.stage.turns(20)
            ids.append(run.id)
        return ids

    def files(self) -> int:
        return len(list(self.folder.glob("*"))) if self.folder.exists() else 0


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    made.begin()
    yield made
    made.stage.close()


def test_nothing_is_foreseen_for_a_task_that_tells_nobody(told: Told) -> None:
    told.ends(FAILED, task="other")
    assert told.files() == 0


def test_a_notice_is_written_before_the_row_and_taken_away_once_it_is_delivered(told: Told) -> None:
    run = a_run()
    told.stage.add(run)
    told.stage.service.hold()
    told.stage.executor.finish(told.stage.executor.calls[0], FAILED)
    assert told.stage.run(run).state is State.RUNNING
    assert told.files() == 1
    told.stage.service.let_go()
    told.stage.turns()
    told.stage.passes(SECOND)
    assert [letter.channel for letter in told.pigeon.letters] == ["webhook"]
    assert told.files() == 0
    assert [event.occasion for event in told.stage.told(Notified)] == ["failure"]


def test_a_failure_whose_row_was_never_written_is_not_told(tmp_path: Path) -> None:
    told = Told(tmp_path)
    run = a_run()
    told.stage.memory.add([run])
    dead = Notice(occasion=Occasion.FAILURE, task="backup", run_id=run.id, owner="dead", born_at=NOON)
    told.spool.write(dead)
    told.begin()
    told.stage.passes(SECOND)
    assert (told.pigeon.letters, told.files()) == ([], 0)
    told.stage.close()


def test_a_retry_is_no_failure(tmp_path: Path) -> None:
    told = Told(tmp_path, retries=Retries(max=1, delay=HOUR))
    told.begin()
    told.ends(FAILED)
    told.stage.passes(SECOND)
    assert told.pigeon.letters == []
    told.stage.close()


def test_a_recovery_is_told_once(told: Told) -> None:
    told.ends(FAILED)
    for number in range(3):
        told.ends(OK._replace(ended_at=NOON + number + 1))
    told.stage.passes(SECOND)
    assert [event.occasion for event in told.stage.told(Notified)] == ["failure", "recovery"]


def test_what_cannot_be_delivered_is_tried_less_and_less_often_and_then_given_up(told: Told) -> None:
    told.pigeon.error = "webhook 127.0.0.1: 503"
    told.ends(FAILED)
    told.stage.passes(SECOND)
    for delay in DELAYS:
        assert (told.herald.waiting, told.files()) == (1, 1)
        told.stage.passes(delay)
    assert [event.retry_in for event in told.stage.told(NotNotified)] == [*DELAYS, None]
    assert (told.herald.waiting, told.files()) == (0, 0)
    assert told.herald.trouble == "webhook 127.0.0.1: 503"


def test_it_is_delivered_when_the_server_is_back(told: Told) -> None:
    told.pigeon.error = "mail by mx: refused"
    told.ends(FAILED)
    told.stage.passes(SECOND)
    told.pigeon.error = None
    told.stage.passes(DELAYS[0])
    assert (len(told.stage.told(Notified)), told.herald.trouble, told.files()) == (1, None, 0)


@pytest.mark.parametrize("fails", [False, True])
def test_in_a_storm_the_first_are_told_one_by_one_and_the_others_by_the_last(told: Told, fails: bool) -> None:
    told.pigeon.error = "down" if fails else None
    for _ in range(10):
        ids = told.ends(FAILED, count=10)
        told.stage.passes(SECOND // 5)
    told.stage.passes(SECOND)
    assert len(told.pigeon.letters) == ONE_BY_ONE
    assert told.files() == (ONE_BY_ONE + 1 if fails else 1)
    told.pigeon.error = None
    for _ in range(12):
        told.stage.passes(10 * SECOND)
    [*_, last] = told.stage.told(Notified)
    assert (last.run_id, last.more) == (ids[-1], 100 - ONE_BY_ONE - 1)
    assert told.files() == 0


def test_while_the_storage_does_not_answer_notices_wait(told: Told) -> None:
    told.ends(FAILED)
    told.stage.faulty.fails("run", StorageUnavailable("locked"))
    told.stage.passes(SECOND)
    assert told.pigeon.letters == []
    told.stage.passes(10 * SECOND)
    assert len(told.pigeon.letters) == 1


def test_a_full_disk_loses_no_notification_of_a_living_supervisor(told: Told) -> None:
    told.folder.write_text("a file where the folder would be")
    told.ends(FAILED)
    told.stage.passes(SECOND)
    assert len(told.stage.told(Notified)) == 1


def test_the_end_waits_for_what_is_under_way_and_no_longer(told: Told) -> None:
    ended: list[str] = []
    told.pigeon.held = True
    told.ends(FAILED)
    told.herald.wind_up(lambda: ended.append("told"), 10 * SECOND)
    told.stage.passes(SECOND)
    assert ended == []
    told.pigeon.let_go()
    assert ended == ["told"]


def test_the_end_does_not_wait_for_ever(told: Told) -> None:
    ended: list[str] = []
    told.pigeon.held = True
    told.ends(FAILED)
    told.herald.wind_up(lambda: ended.append("time is over"), 10 * SECOND)
    told.stage.passes(9 * SECOND)
    assert ended == []
    told.stage.passes(SECOND)
    assert (ended, told.files()) == (["time is over"], 1)


def test_a_tick_that_another_supervisor_has_accounted_for_is_told_by_that_one(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.herald.adopt_plan(
        replace(
            told.stage.plan,
            tasks={"backup": a_task(notify=replace(TOLD, on=(Occasion.MISSED, Occasion.LATE)))},
        )
    )
    told.begin()
    run = a_run(state=State.SKIPPED, reason="overlap", tick=NOON)
    told.herald.before_ticks([run])
    assert told.files() == 2
    told.herald.leaves(run)
    assert told.files() == 0
    told.stage.memory.add([run])
    told.stage.passes(SECOND)
    assert told.pigeon.letters == []
    told.stage.close()


def test_where_several_supervisors_work_each_success_may_be_a_recovery(told: Told) -> None:
    # another supervisor has failed the run before: only the storage knows
    told.stage.memory.lease = 30 * SECOND
    told.begin()
    told.ends(FAILED)
    told.ends(OK._replace(ended_at=NOON + 1))
    told.stage.passes(SECOND)
    assert [event.occasion for event in told.stage.told(Notified)] == ["failure", "recovery"]
    assert told.herald._failing is None


def test_a_damaged_file_of_the_spool_is_told_and_removed(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.folder.mkdir()
    (told.folder / "x.json").write_text('{"task": "backup\x1b')
    told.begin()
    assert told.files() == 0
    [lost] = told.stage.told(NoticeLost)
    assert (lost.file, lost.content) == (str(told.folder / "x.json"), '{"task": "backup\x1b')
    line = words(lost)
    assert line is not None
    assert "a notification is lost" in line.words
    assert line.fields["content"] == lost.content
    told.stage.close()
