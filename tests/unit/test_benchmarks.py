"""The parts of the benchmarks that measure nothing: verdicts, tables, records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

import jobrunner
from benchmarks import record, report
from benchmarks.contests import FULL, QUICK, latency
from benchmarks.measure import (
    Contest,
    Entrant,
    Figures,
    Goal,
    Missing,
    Outcome,
    Shared,
    hold,
    outcome,
)
from benchmarks.record import Record, key_of
from benchmarks.stages import STAGES, Stage

TEN_TIMES = Goal(text=">= 10 x huey", ratio=10.0, peer="huey")


def contest(
    goal: Goal = TEN_TIMES, *, more_is_better: bool = True, entrants: Sequence[Entrant] = ()
) -> Contest:
    return Contest(
        target="P1", name="drain", unit="runs/s", goal=goal, entrants=entrants, more_is_better=more_is_better
    )


def ours(*values: float) -> Figures:
    return Figures(name="jobrunner", settings="fsync", is_ours=True, values=values)


def peer(name: str, *values: float, is_aside: bool = False) -> Figures:
    return Figures(name=name, settings="fsync", values=values, is_aside=is_aside)


def entrant(name: str, attempt: Callable[[Path], float], *, is_ours: bool = False) -> Entrant:
    return Entrant(name=name, settings="", attempt=attempt, is_ours=is_ours)


def folder() -> Path:
    return Path("unused")


# --- the verdict ----------------------------------------------------------------------------------


def test_a_ratio_is_of_medians_to_the_peer_that_the_goal_names() -> None:
    found = outcome(contest(), (ours(900, 1_100, 5_000), peer("huey", 90, 100, 400), peer("rq", 7)))
    assert (found.ratio, found.peer, found.is_reached) == (11.0, "huey", True)


@pytest.mark.parametrize(("more_is_better", "is_reached"), [(True, False), (False, True)])
def test_the_direction_of_the_unit_decides(*, more_is_better: bool, is_reached: bool) -> None:
    goal = Goal(text="", ratio=3.0, peer="huey")
    found = outcome(contest(goal, more_is_better=more_is_better), (ours(2), peer("huey", 1)))
    assert found.is_reached is is_reached


def test_without_a_name_the_ratio_is_to_the_best_peer_that_is_not_aside() -> None:
    goal = Goal(text="", ratio=1.0)
    figures = (ours(50), peer("slow", 10), peer("quick", 25), peer("unsafe", 100, is_aside=True))
    assert outcome(contest(goal), figures).peer == "quick"
    assert outcome(contest(goal, more_is_better=False), figures).peer == "slow"


def test_a_goal_to_be_ahead_names_who_is_not_passed_and_leaves_out_who_is_aside() -> None:
    goal = replace(TEN_TIMES, is_ahead=True)
    figures = (ours(1_000), peer("huey", 10), peer("pgqueuer", 1_001), peer("unsafe", 9_999, is_aside=True))
    found = outcome(contest(goal), figures)
    assert (found.behind, found.is_reached) == (("pgqueuer",), False)


def test_a_bound_needs_no_peer() -> None:
    goal = Goal(text="<= 90 ms", bound=90.0)
    assert outcome(contest(goal, more_is_better=False), (ours(90),)).is_reached is True
    assert outcome(contest(goal, more_is_better=False), (ours(91),)).is_reached is False


def test_where_the_peer_has_no_figure_nothing_is_told_and_where_we_have_none_nothing_is_reached() -> None:
    gone = Figures(name="huey", settings="", missing="not installed")
    assert outcome(contest(), (ours(5), gone)).is_reached is None
    failed = Figures(name="jobrunner", settings="", is_ours=True, missing="lost a run")
    assert outcome(contest(), (failed, peer("huey", 1))).is_reached is False


# --- holding a contest ----------------------------------------------------------------------------


def test_entrants_take_turns() -> None:
    turns: list[str] = []

    def attempt(name: str) -> Callable[[Path], float]:
        def turn(_folder: Path) -> float:
            turns.append(name)
            return 1.0

        return turn

    hold(contest(entrants=[entrant("a", attempt("a")), entrant("b", attempt("b"))]), folder)
    assert "".join(turns) == "ababab"


def test_one_that_fails_is_shown_with_its_reason_is_not_asked_again_and_ends_nothing() -> None:
    asked = count()

    def fails(_folder: Path) -> float:
        next(asked)
        raise Missing("no huey here")

    def breaks(_folder: Path) -> float:
        raise ZeroDivisionError("a bug\nin two lines")

    found = hold(
        contest(
            entrants=[
                entrant("huey", fails),
                entrant("rq", breaks),
                entrant("us", lambda _: 1.0, is_ours=True),
            ]
        ),
        folder,
    )
    assert [each.missing for each in found.figures] == [
        "no huey here",
        "ZeroDivisionError: a bug in two lines",
        "",
    ]
    assert next(asked) == 1
    assert found.figures[2].values == (1.0, 1.0, 1.0)


def test_shared_repetitions_are_done_once_and_looked_at_by_several_contests() -> None:
    done = count(1)
    shared = Shared(lambda _folder: [next(done), 100])
    first, second = shared.figure(min), shared.figure(max)
    assert [first(folder()), first(folder()), second(folder()), second(folder())] == [1, 2, 100, 100]
    assert next(done) == 3


def test_a_shared_repetition_that_failed_fails_for_each_who_looks() -> None:
    tried = count(1)

    def work(_folder: Path) -> float:
        raise Missing(f"try {next(tried)}")

    shared = Shared(work)
    for attempt in (shared.figure(abs), shared.figure(abs)):
        with pytest.raises(Missing, match="try 1"):
            attempt(folder())


# --- records --------------------------------------------------------------------------------------


def reached(name: str = "drain", *values: float) -> Outcome:
    made = outcome(contest(), (ours(*(values or (2_000.0,))), peer("huey", 100)))
    return replace(made, name=name, held_at="2026-01-02 03:04")


def recorded(*outcomes: Outcome) -> Record:
    return Record({"cores": "2", "sources": "abc"}, {key_of(each): each for each in outcomes})


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = recorded(reached(), reached("other"))
    record.save(tmp_path / "full.json", written)
    assert record.load(tmp_path / "full.json") == written
    assert record.load(tmp_path / "none.json") == Record()


def test_a_run_that_was_cut_short_goes_on_only_with_the_same_sources_on_the_same_machine(
    tmp_path: Path,
) -> None:
    path = tmp_path / "under-way.json"
    record.save(path, recorded(reached()))
    assert len(record.resumed(path, {"cores": "2", "sources": "abc"}).outcomes) == 1
    assert record.resumed(path, {"cores": "2", "sources": "def"}).outcomes == {}


def test_what_is_measured_again_replaces_its_line_alone_and_contests_that_are_gone_leave() -> None:
    before = recorded(reached("a", 1.0), reached("b", 1.0), reached("gone", 1.0))
    merged = before.merged(recorded(reached("b", 2.0)), [("P1", "b"), ("P1", "a")])
    assert [(each.name, each.ours and each.ours.median) for each in merged.outcomes.values()] == [
        ("b", 2.0),
        ("a", 1.0),
    ]


def test_a_regression_is_a_ratio_to_the_record_and_a_fifth_is_called_worse() -> None:
    assert report.since(reached("a", 90.0), reached("a", 100.0)) == "; 0.90 x the recorded figure"
    assert report.since(reached("a", 79.0), reached("a", 100.0)) == "; 0.79 x the recorded figure: WORSE"
    slower = [replace(reached("a", value), more_is_better=False) for value in (130.0, 100.0)]
    assert report.since(*slower) == "; 1.30 x the recorded figure: WORSE"
    assert report.since(reached(), None) == ""


# --- the table and the page -----------------------------------------------------------------------


def test_a_figure_is_its_median_with_the_range_or_the_reason_why_there_is_none() -> None:
    assert report.value(ours(3_000, 1_000, 2_000)) == "2,000 (1,000 to 3,000)"
    assert report.value(ours(0.123456)) == "0.123"
    assert report.value(Figures(name="rq", settings="", missing="not installed")) == "not installed"


def test_the_table_has_a_line_for_each_entrant_and_one_for_each_contest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report.show([reached()], before=[reached("drain", 1_000.0)])
    shown = capsys.readouterr().out
    assert "* jobrunner" in shown
    assert "  huey" in shown
    assert "20.00 x huey: reached; 2.00 x the recorded figure" in shown
    assert shown.splitlines()[-1].split() == [
        "P1",
        "drain",
        "2,000",
        "runs/s",
        "20.00",
        "x",
        "huey:",
        "reached",
    ]


def test_the_page_tells_what_was_measured_when_and_on_what(tmp_path: Path) -> None:
    report.write(tmp_path, recorded(reached(), replace(reached("slow <b>"), is_reached=False)))
    page, plot = (tmp_path / "benchmarks.md").read_text(), (tmp_path / "benchmarks.svg").read_text()
    assert "| P1 | drain | 2,000 runs/s | &gt;= 10 x huey | 20.00 | yes |" in page
    assert "**no**" in page
    assert "cores 2, sources abc; measured from 2026-01-02 03:04" in page
    assert "slow &lt;b>" in plot
    assert plot.count("<rect") == 2


# --- how long before the next enqueue -------------------------------------------------------------


def test_rests_are_the_same_in_each_repetition_and_of_one_to_two_seconds() -> None:
    pauses = latency.with_rests(FULL.rests)
    assert pauses == latency.with_rests(FULL.rests)
    assert len(pauses) == latency.WARM + FULL.rests
    assert all(1 <= pause <= 2 for pause in pauses[latency.WARM :])
    assert len(set(pauses)) > FULL.rests // 2


def test_the_line_about_an_idle_system_rests_and_no_other_one_does() -> None:
    idle = [each for each in latency.contests(QUICK, {}) if "rest" in each.name]
    assert [each.goal.text for each in idle] == ["30 x ahead of huey's default"]
    assert sum(latency.with_rests(QUICK.rests)) < 20
    assert set(latency.evenly(QUICK.moments)) == {latency.PAUSE}


# --- the stages of a profile ------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.words)
def test_the_functions_that_a_profile_looks_for_are_there(stage: Stage) -> None:
    sources = Path(str(jobrunner.__file__)).parent
    for function in (each for each in (stage.function, stage.but) if each not in ("", "*")):
        file, name = function.split(":")
        assert any(f"def {name}(" in path.read_text() for path in sources.rglob(file)), function
