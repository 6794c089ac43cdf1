"""How a claim reads a lane in which strangers stand: pure."""

from __future__ import annotations

from collections.abc import Iterator

from jobrunner.model import Claim
from jobrunner.storage import Rules, TaskRule
from jobrunner.storage.lanes import NOBODY, Choice, Effort, Floor, Held, OpenLane, Others, choose

PLAIN = TaskRule("pool:default", "default")
SMALL = Effort(strangers=10, looks=8)


def a_claim(seq: int, task: str, pipeline: str | None = None) -> Claim:
    """A run at a place in the lane: the best have the lowest numbers."""
    given = dict.fromkeys(Claim._fields)
    values = {"seq": seq, "id": str(seq), "task": task, "priority": 0, "due_at": 0, "pipeline_name": pipeline}
    return Claim(**{**given, **values})  # type: ignore[arg-type]


class Lane:
    """A lane that notes how far it was read."""

    def __init__(self, *tasks: str, pipeline: str | None = None) -> None:
        self.claims = [a_claim(seq, task, pipeline) for seq, task in enumerate(tasks)]
        self.read: list[tuple[Others, int]] = []

    def waiting(self, _: OpenLane, others: Others) -> Iterator[Claim]:
        self.read.append((others, 0))
        for claim in self.claims:
            if claim.task not in others.tasks and claim.pipeline_name not in others.pipelines:
                self.read[-1] = (others, self.read[-1][1] + 1)
                yield claim

    def chosen(self, most: int, effort: Effort = SMALL, held: Held = Held()) -> Choice:  # noqa: B008
        floor = Floor(Rules({"resize": PLAIN}), {"default"}, held, 0)
        return choose(floor, ["pool:default"], {"default": most}, self.waiting, effort)


def tasks(choice: Choice) -> list[str]:
    return [chosen.claim.task for chosen in choice.claims]


def test_who_stands_behind_any_number_of_strangers_is_claimed_in_the_same_turn() -> None:
    lane = Lane(*["unknown"] * 1_000, "resize", "resize", "resize")
    choice = lane.chosen(2)
    assert tasks(choice) == ["resize", "resize"]
    assert choice.strangers == [(seq, "task:unknown") for seq in range(10)]
    assert choice.more
    assert lane.read == [(NOBODY, 10), (Others(frozenset({"unknown"})), 3)]


def test_each_kind_of_stranger_is_left_out_once_it_was_met() -> None:
    kinds = [f"unknown-{kind}" for kind in range(5) for _ in range(50)]
    lane = Lane(*kinds, "resize")
    assert tasks(lane.chosen(1)) == ["resize"]
    assert [number for _, number in lane.read] == [10, 10, 10, 10, 10, 1]


def test_the_looks_at_a_lane_are_bounded() -> None:
    lane = Lane(*[f"unknown-{kind}" for kind in range(50) for _ in range(50)], "resize")
    choice = lane.chosen(1)
    assert (tasks(choice), choice.more, len(lane.read)) == ([], True, SMALL.looks)


def test_a_run_between_strangers_is_claimed_once() -> None:
    lane = Lane("resize", *["unknown"] * 100, "resize")
    assert [chosen.claim.seq for chosen in lane.chosen(5).claims] == [0, 101]


def test_steps_of_a_paused_pipeline_are_left_out_by_the_name_of_the_pipeline() -> None:
    lane = Lane(*["resize"] * 100, pipeline="nightly")
    lane.claims.append(a_claim(100, "resize"))
    choice = lane.chosen(1, held=Held(paused={"task:nightly"}))
    assert [chosen.claim.seq for chosen in choice.claims] == [100]
    assert choice.strangers == [(seq, "paused:nightly") for seq in range(10)]
    assert lane.read[1] == (Others(pipelines=frozenset({"nightly"})), 1)


def test_a_lane_without_strangers_is_read_once_and_no_further_than_of_use() -> None:
    lane = Lane(*["resize"] * 100)
    assert (len(lane.chosen(3).claims), lane.read) == (3, [(NOBODY, 4)])
