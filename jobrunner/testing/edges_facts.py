"""What waits for others: edges, joins, cascades, growth, unique keys, cancels and retention of pipelines."""

from __future__ import annotations

import json

import pytest

from ..durations import DAY, HOUR, MINUTE, SECOND
from ..errors import NotFound
from ..model import Edge, Input, State, Trigger, unique_key
from ..plan import Retention
from ..storage import RunFilter, Storage
from .desk import NOON, Desk, a_pipeline, a_run, joining, waiting, waits_for

ENDS = {
    State.SUCCEEDED: (State.QUEUED, State.QUEUED, None),
    State.FAILED: (State.SKIPPED, State.QUEUED, State.QUEUED),
    State.CANCELLED: (State.SKIPPED, State.QUEUED, None),
    State.EXPIRED: (State.SKIPPED, State.QUEUED, State.QUEUED),
}


class EdgeFacts:
    """What waits for others goes on, or ends, in the very write that ends them (semantics 35)."""

    # --- edges ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("end", ENDS)
    def test_an_end_lets_go_on_what_waited_for_it(self, desk: Desk, end: State) -> None:
        first = a_run(expires_at=NOON + MINUTE)
        after = [waiting(first, condition=condition) for condition in ("ok", "final", "failed")]
        desk.storage.add([first, *after])
        self._end(desk, first.id, end)
        for run, state in zip(after, ENDS[end], strict=True):
            if state is None:
                with pytest.raises(NotFound):
                    desk.storage.run(run.id)
            else:
                kept = desk.storage.run(run.id)
                assert (kept.state, kept.reason) == (state, "upstream failed" if state.is_final else None)

    def _end(self, desk: Desk, run_id: str, end: State) -> None:
        if end is State.CANCELLED:
            assert desk.storage.cancel([run_id], NOON) == [True]
        elif end is State.EXPIRED:
            desk.now = NOON + MINUTE
            desk.turn(want={})
        else:
            (claim,) = desk.claim()
            desk.turn([desk.end(claim, end)], want={})
        assert desk.storage.run(run_id).state is end

    def test_a_successor_is_claimed_in_the_turn_that_ends_the_last_one_before_it(self, desk: Desk) -> None:
        one, two = a_run(), a_run()
        last = waiting(one, two)
        desk.storage.add([one, two, last])
        claims = desk.claim()
        assert [claim.id for claim in claims] == [one.id, two.id]
        assert desk.turn([desk.end(claims[0])]).claimed == []
        assert [claim.id for claim in desk.turn([desk.end(claims[1])]).claimed] == [last.id]

    def test_an_end_of_the_wrong_kind_is_not_waited_beyond(self, desk: Desk) -> None:
        one, two = a_run(), a_run()
        last = waiting(one, two)
        desk.storage.add([one, two, last])
        claims = desk.claim()
        desk.turn([desk.end(claims[1], State.FAILED)], want={})
        assert desk.storage.run(last.id).state is State.SKIPPED

    def test_what_ends_by_an_end_ends_others_in_turn(self, desk: Desk) -> None:
        first = a_run()
        second = waiting(first)
        third = waiting(second)
        handler = waiting(third, condition="failed")
        behind = waiting(handler, condition="final")
        desk.storage.add([first, second, third, handler, behind])
        (claim,) = desk.claim()
        answer = desk.turn([desk.end(claim, State.FAILED)])
        assert [desk.storage.run(run.id).state for run in (second, third)] == [State.SKIPPED] * 2
        assert [claim.id for claim in answer.claimed] == [behind.id]

    def test_what_is_added_behind_a_final_run_does_not_wait(self, desk: Desk) -> None:
        done, failed = desk.finish(a_run()), desk.finish(a_run(), State.FAILED)
        ok, skipped, gone = waiting(done.id), waiting(failed.id), waiting("no-such-run", condition="final")
        desk.storage.add([ok, skipped, gone])
        states = [desk.storage.run(run.id).state for run in (ok, skipped, gone)]
        assert states == [State.QUEUED, State.SKIPPED, State.QUEUED]

    def test_a_run_that_a_retry_has_kept_lets_the_next_step_go_on(self, desk: Desk) -> None:  # rule 36
        kept = a_run(state=State.SUCCEEDED, result="[1,2]")
        step = waiting(kept, compose="{}")
        desk.storage.add([kept, step])
        (claim,) = desk.claim()
        assert (claim.id, claim.inputs[0].result) == (step.id, "[1,2]")
        run = desk.storage.run(kept.id)
        assert (run.outcome, run.result, run.finished_at) == ("ok", "[1,2]", NOON)

    def test_a_delay_counts_from_the_moment_the_run_is_free(self, desk: Desk) -> None:  # rule 19
        first = a_run()
        later = waiting(first, due_at=NOON + MINUTE, expires_at=NOON + HOUR)
        desk.storage.add([first, later])
        (claim,) = desk.claim()
        desk.now = NOON + 10 * MINUTE
        desk.turn([desk.end(claim)])
        run = desk.storage.run(later.id)
        assert (run.state, run.due_at) == (State.SCHEDULED, NOON + 11 * MINUTE)
        assert run.expires_at == NOON + HOUR + 10 * MINUTE

    def test_edges_are_told_in_their_order(self, storage: Storage) -> None:
        one, two = a_run(), a_run()
        last = waiting(two, one)
        storage.add([one, two, last])
        assert storage.edges([last.id, one.id, "nobody"]) == {
            last.id: (Edge(two.id, "ok"), Edge(one.id, "ok"))
        }

    def test_a_run_that_waits_is_not_claimed_nor_does_time_move_it(self, desk: Desk) -> None:
        first = a_run("nobody knows it")
        desk.storage.add([first, waiting(first, due_at=NOON - HOUR)])
        desk.now = NOON + DAY
        assert desk.claim() == []

    # --- inputs -----------------------------------------------------------------------------------------

    def test_a_claim_brings_the_ends_of_those_before_it(self, desk: Desk) -> None:
        one, two = a_run(), a_run("mail")
        step = waiting(one, two, condition="final", compose='{"a":1}', pipeline="root-id", step="2")
        step = step._replace(pipeline_name="report", after=(*step.after, Edge("gone", "final")))
        desk.storage.add([one, two, step])
        claims = {claim.id: claim for claim in desk.claim()}
        long = '"' + "r" * 9_000 + '"'
        ends = [
            desk.end(claims[one.id], result=long),
            desk.end(claims[two.id], State.FAILED, error="boom", exit_code=3),
        ]
        (claim,) = desk.turn(ends).claimed
        assert (claim.pipeline, claim.pipeline_name, claim.step) == ("root-id", "report", "2")
        assert claim.compose == '{"a":1}'
        ok, failed, gone = claim.inputs
        assert ok == Input(one.id, "resize", State.SUCCEEDED, "final", long, None, "ok", None, None, 1)
        assert (failed.state, failed.outcome, failed.error, failed.exit_code) == (
            State.FAILED,
            "exit 1",
            "boom",
            3,
        )
        assert (gone.run_id, gone.state, gone.result) == ("gone", State.SKIPPED, None)
        assert desk.storage.claimed_by("owner-1") == [claim]

    def test_a_plain_claim_brings_no_inputs(self, desk: Desk) -> None:
        first = a_run()
        desk.storage.add([first, waiting(first)])
        (claim,) = desk.claim()
        assert desk.turn([desk.end(claim, result="1")]).claimed[0].inputs == ()

    # --- joins ------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("join", "ends", "state", "result"),
        [
            ("last", "oo", State.SUCCEEDED, "2"),
            ("last", "of", State.FAILED, None),
            ("list", "oo", State.SUCCEEDED, "[1,2]"),
            ("list", "fo", State.FAILED, None),
            ("list-any", "oo", State.SUCCEEDED, "[1,2]"),
        ],
    )
    def test_a_join_ends_with_its_members(
        self, desk: Desk, join: str, ends: str, state: State, result: str | None
    ) -> None:
        members = [a_run(), a_run()]
        row = joining(*members, join=join)
        desk.storage.add([row, *members])
        for number, (claim, end) in enumerate(zip(desk.claim(), ends, strict=True), 1):
            assert desk.storage.run(row.id).state is State.WAITING
            to = State.SUCCEEDED if end == "o" else State.FAILED
            desk.turn([desk.end(claim, to, result=str(number) if end == "o" else None)], want={})
        run = desk.storage.run(row.id)
        assert (run.state, run.result, run.finished_at) == (state, result, NOON)
        assert run.reason == (None if state is State.SUCCEEDED else "upstream failed")
        failed = members[ends.index("f")] if "f" in ends else None
        assert run.error == (None if failed is None else f"resize ({failed.id}): exit 1")

    def test_a_join_of_any_end_has_a_failure_in_the_place_of_what_failed(self, desk: Desk) -> None:
        good, bad, late = a_run(), a_run(), a_run(expires_at=NOON + MINUTE, priority=-1)
        row = joining(good, bad, late, join="list-any")
        after = waiting(row, compose="{}")
        desk.storage.add([row, good, bad, late, after])
        claims = desk.claim(2)
        ends = [desk.end(claims[0], result="7"), desk.end(claims[1], State.FAILED, error="boom")]
        desk.turn(ends, want={})
        desk.now = NOON + MINUTE
        (claim,) = desk.claim()
        assert claim.id == after.id
        one, two, three = json.loads(claim.inputs[0].result or "")
        assert (one, two["$failure"]["error"], two["$failure"]["run_id"]) == (7, "boom", bad.id)
        assert (three["$failure"]["state"], three["$failure"]["reason"]) == ("expired", "expired")

    @pytest.mark.parametrize(("join", "result"), [("list", "[]"), ("last", None)])
    def test_a_join_of_nothing_is_over_at_once(self, desk: Desk, join: str, result: str | None) -> None:
        row = joining(join=join)
        after = waiting(row)
        desk.storage.add([row, after])
        assert (desk.storage.run(row.id).state, desk.storage.run(row.id).result) == (State.SUCCEEDED, result)
        assert [claim.id for claim in desk.claim()] == [after.id]

    @pytest.mark.parametrize("size", [3, 9_000])
    def test_a_join_keeps_results_of_any_size_in_order(self, desk: Desk, size: int) -> None:
        members = [a_run(priority=place) for place in range(4)]
        row = joining(*members, join="list")
        desk.storage.add([row, *members])
        ends = [desk.end(claim, result=json.dumps([claim.priority, "r" * size])) for claim in desk.claim()]
        desk.turn(ends)
        kept = json.loads(desk.storage.run(row.id).result or "")
        assert kept == [[place, "r" * size] for place in range(4)]

    def test_joins_stand_for_joins(self, desk: Desk) -> None:
        steps = [a_run() for _ in range(4)]
        inner = [joining(*steps[:2], join="list"), joining(*steps[2:], join="list")]
        root = joining(*inner, join="list")
        desk.storage.add([root, *inner, *steps])
        desk.turn([desk.end(claim, result=str(place)) for place, claim in enumerate(desk.claim())])
        assert desk.storage.run(root.id).result == "[[0,1],[2,3]]"

    def test_many_members_end_one_after_the_other(self, desk: Desk) -> None:
        members = [a_run() for _ in range(300)]
        row = joining(*members, join="list")
        desk.storage.add([row, *members])
        claims = desk.claim(300)
        for start in range(0, 300, 50):
            assert desk.storage.run(row.id).state is State.WAITING
            desk.turn([desk.end(claim, result="1") for claim in claims[start : start + 50]], want={})
        assert desk.storage.run(row.id).state is State.SUCCEEDED

    def test_a_repeated_end_changes_nothing_for_those_behind_it(self, desk: Desk) -> None:
        first = a_run()
        second = waiting(first)
        desk.storage.add([first, second])
        (claim,) = desk.claim()
        end = desk.end(claim)
        (again,) = desk.turn([end]).claimed
        assert desk.turn([end]).refused == []
        assert (desk.storage.run(second.id).state, again.id) == (State.RUNNING, second.id)

    def test_recovery_ends_what_waits_too(self, desk: Desk) -> None:
        first = a_run()
        second = waiting(first)
        desk.storage.add([first, second])
        (claim,) = desk.claim()
        assert desk.storage.settle([desk.end(claim, State.FAILED)]) == [True]
        assert desk.storage.run(second.id).state is State.SKIPPED

    # --- growth -----------------------------------------------------------------------------------------

    def test_a_claimed_run_grows_members_and_joins_them(self, desk: Desk) -> None:
        row, after = a_run("(map)"), a_run()
        desk.use(resize=desk.rules.tasks["resize"], **{"(map)": desk.rules.tasks["resize"]})
        desk.storage.add([row, waits_for(after, row)])
        (claim,) = desk.claim()
        members = [a_run(), a_run()]
        grown = desk.end(
            claim,
            State.WAITING,
            outcome=None,
            attempt=0,
            failures=0,
            started_at=None,
            join="list",
            after=tuple(Edge(member.id, "final") for member in members),
            follow=tuple(members),
        )
        answer = desk.turn([grown])
        assert [claim.id for claim in answer.claimed] == [member.id for member in members]
        assert desk.turn([grown]).refused == []  # the same answer twice
        assert desk.storage.edges([row.id])[row.id] == grown.after
        run = desk.storage.run(row.id)
        assert (run.state, run.join, run.owner) == (State.WAITING, "list", None)
        (last,) = desk.turn([desk.end(claim, result="5") for claim in answer.claimed]).claimed
        assert (last.id, desk.storage.run(row.id).result) == (after.id, "[5,5]")

    def test_what_grows_nothing_is_over_at_once(self, desk: Desk) -> None:
        row = a_run()
        desk.storage.add([row])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.WAITING, outcome=None, attempt=0, failures=0, join="list")])
        assert (desk.storage.run(row.id).state, desk.storage.run(row.id).result) == (State.SUCCEEDED, "[]")

    def test_what_is_cancelled_meanwhile_does_not_grow(self, desk: Desk) -> None:
        row, member = a_run(), a_run()
        desk.storage.add([row])
        (claim,) = desk.claim()
        desk.storage.cancel([row.id], NOON)
        after = (Edge(member.id, "final"),)
        desk.turn([desk.end(claim, State.WAITING, outcome=None, join="list", after=after, follow=(member,))])
        assert desk.storage.run(row.id).state is State.CANCELLED
        assert len(desk.storage.runs(RunFilter())) == 1

    # --- pipelines: adding, cancelling, time ------------------------------------------------------------

    def test_a_pipeline_goes_step_by_step(self, desk: Desk) -> None:
        root, *steps = a_pipeline(a_run(), a_run(), a_run())
        assert desk.storage.add([root, *steps]) == [True] * 4
        assert desk.storage.add([root, *steps]) == [False] * 4
        for place, step in enumerate(steps):
            (claim,) = desk.claim()
            assert (claim.id, claim.step) == (step.id, str(place + 1))
            desk.turn([desk.end(claim, result=str(place))], want={})
        assert (desk.storage.run(root.id).state, desk.storage.run(root.id).result) == (State.SUCCEEDED, "2")

    def test_what_belongs_to_a_pipeline_is_listed_with_its_root(self, storage: Storage) -> None:
        first, second = a_pipeline(a_run(), a_run()), a_pipeline(a_run())
        storage.add([*first, *second, a_run()])
        found = storage.runs(RunFilter(pipeline=first[0].id))
        assert [run.id for run in found] == [run.id for run in reversed(first)]
        queued = storage.runs(RunFilter(pipeline=first[0].id, states=(State.QUEUED,)))
        assert [run.id for run in queued] == [first[1].id]

    def test_cancelling_a_join_ends_all_below_it(self, desk: Desk) -> None:  # rule 37
        running, queued = a_run(priority=2), a_run(priority=1)
        inner = joining(running, queued, join="list", task="(parallel)")
        root, *_ = runs = a_pipeline(inner, a_run("mail"))
        inner = runs[1]._replace(state=State.WAITING, after=inner.after)
        handler = waiting(root, condition="failed", pipeline=root.id)
        desk.storage.add([root, inner, runs[2], running, queued, handler])
        (claim,) = desk.claim(1)
        assert desk.storage.cancel([root.id], NOON + 3) == [True]
        states = [desk.storage.run(run.id).state for run in (root, inner, queued, runs[2])]
        assert states == [State.WAITING, State.WAITING, State.CANCELLED, State.CANCELLED]
        assert desk.storage.run(root.id).cancel_requested
        assert desk.turn().cancels == [(claim.seq, claim.claim_no)]
        assert desk.storage.cancel([root.id], NOON + 4, reason="superseded") == [True]
        desk.turn([desk.end(claim, State.CANCELLED, outcome="cancelled", reason="cancelled")])
        for run in (root, inner, running):
            kept = desk.storage.run(run.id)
            assert (kept.state, kept.reason) == (State.CANCELLED, "cancelled")
        with pytest.raises(NotFound):
            desk.storage.run(handler.id)
        assert desk.storage.cancel([root.id], NOON) == [False]

    def test_cancelling_what_has_not_begun_ends_it_at_once(self, desk: Desk) -> None:
        root, *steps = a_pipeline(a_run(), a_run())
        desk.storage.add([root, *steps])
        assert desk.storage.cancel([root.id], NOON + 3) == [True]
        for run in (root, *steps):
            kept = desk.storage.run(run.id)
            assert (kept.state, kept.reason, kept.finished_at) == (State.CANCELLED, "cancelled", NOON + 3)

    def test_a_cancelled_step_settles_its_pipeline_by_its_rule(self, desk: Desk) -> None:  # rule 35
        root, first, second = a_pipeline(a_run(), a_run())
        desk.storage.add([root, first, second])
        desk.storage.cancel([first.id], NOON)
        assert desk.storage.run(second.id).reason == "upstream failed"
        assert desk.storage.run(root.id).state is State.FAILED

    def test_a_cancel_gives_its_reason_to_the_attempt_that_it_ends(self, desk: Desk) -> None:
        desk.storage.add([a_run()])
        (claim,) = desk.claim()
        desk.storage.cancel([claim.id], NOON, reason="superseded")
        desk.turn([desk.end(claim, State.CANCELLED, outcome="cancelled", reason="cancelled")])
        assert desk.storage.run(claim.id).reason == "superseded"

    def test_a_pipeline_whose_time_is_up_has_failed(self, desk: Desk) -> None:
        root, *steps = a_pipeline(a_run(), a_run(), expires_at=NOON + MINUTE)
        handler = waiting(root, condition="failed")
        desk.storage.add([root, *steps, handler])
        (claim,) = desk.claim()
        assert desk.turn(want={}).next_due == NOON + MINUTE
        desk.now = NOON + MINUTE
        answer = desk.turn()
        assert (answer.cancels, answer.next_due) == ([(claim.seq, claim.claim_no)], None)
        assert desk.storage.run(steps[1].id).reason == "cancelled"
        ended = desk.end(claim, State.CANCELLED, outcome="cancelled", reason="cancelled")
        assert [claim.id for claim in desk.turn([ended]).claimed] == [handler.id]
        run = desk.storage.run(root.id)
        assert (run.state, run.outcome, run.reason) == (State.FAILED, "timeout", None)

    def test_an_unfinished_pipeline_is_shown_as_running(self, desk: Desk) -> None:
        runs = a_pipeline(a_run(), a_run())
        desk.storage.add([*runs, *a_pipeline(a_run())])
        (report,) = desk.storage.overview(NOON, tasks=["report"]).tasks
        assert (report.running, report.queued) == (2, 0)
        assert report.current is not None
        assert report.current.id == runs[0].id

    # --- unique keys ------------------------------------------------------------------------------------

    def test_a_key_is_held_until_the_run_is_final(self, desk: Desk) -> None:
        key = unique_key("resize", "42")
        first, second, third = (a_run(unique=key) for _ in range(3))
        assert desk.storage.add([first, second, a_run(unique=unique_key("mail", "42"))]) == [
            True,
            False,
            True,
        ]
        assert [run.id for run in desk.storage.runs(RunFilter(unique=key))] == [first.id]
        claim = next(claim for claim in desk.claim() if claim.id == first.id)
        desk.turn([desk.end(claim, State.RETRYING, due_at=NOON + HOUR)])
        assert desk.storage.add([second]) == [False]
        desk.storage.cancel([first.id], NOON)
        assert desk.storage.runs(RunFilter(unique=key)) == []
        assert desk.storage.add([third, second]) == [True, False]
        assert desk.storage.run(first.id).unique == key

    def test_a_refused_root_is_refused_with_its_steps(self, desk: Desk) -> None:
        key = unique_key("report", "x")
        first, second = a_pipeline(a_run(), unique=key), a_pipeline(a_run(), a_run(), unique=key)
        assert desk.storage.add([*first, *second, a_run()]) == [True, True, False, False, False, True]
        assert len(desk.storage.runs(RunFilter())) == 3

    def test_a_newer_run_replaces_one_that_waits(self, desk: Desk) -> None:
        key = unique_key("resize", "42")
        first = a_run(unique=key, state=State.SCHEDULED, due_at=NOON + MINUTE)
        second = a_run(unique=key, replaces=True, state=State.SCHEDULED, due_at=NOON + HOUR)
        behind = waiting(first)
        desk.storage.add([first, behind])
        assert [desk.storage.add([second]) for _ in range(2)] == [[True], [False]]
        old = desk.storage.run(first.id)
        assert (old.state, old.reason) == (State.CANCELLED, "superseded")
        assert desk.storage.run(behind.id).state is State.SKIPPED
        assert [run.id for run in desk.storage.runs(RunFilter(unique=key))] == [second.id]

    def test_a_newer_run_lets_one_that_runs_go_on(self, desk: Desk) -> None:
        key = unique_key("resize", "42")
        first, second = a_run(unique=key), a_run(unique=key, replaces=True)
        desk.storage.add([first])
        (claim,) = desk.claim()
        assert desk.storage.add([second]) == [True]
        assert (desk.storage.run(first.id).unique, desk.storage.run(first.id).cancel_requested) == (
            None,
            False,
        )
        assert desk.turn([desk.end(claim)]).refused == []
        assert desk.storage.add([a_run(unique=key)]) == [False]

    def test_a_pipeline_is_replaced_until_a_step_was_claimed(self, desk: Desk) -> None:
        key = unique_key("report", "x")
        one, two, three = (a_pipeline(a_run(), unique=key, replaces=True) for _ in range(3))
        desk.storage.add(one)
        assert desk.storage.add(two) == [True, True]
        assert [desk.storage.run(run.id).state for run in one] == [State.CANCELLED] * 2
        desk.claim()
        assert desk.storage.add(three) == [True, True]
        assert desk.storage.run(two[0].id).state is State.WAITING

    def test_a_follow_up_whose_key_is_held_is_not_added(self, desk: Desk) -> None:
        key = unique_key("mail", "x")
        desk.storage.add([a_run(), a_run("mail", unique=key, state=State.SCHEDULED, due_at=NOON + HOUR)])
        (claim,) = desk.claim()
        follow = (a_run("mail", unique=key, trigger=Trigger.CALLBACK), a_run("mail"))
        assert desk.turn([desk.end(claim, follow=follow)]).refused == []
        assert len(desk.storage.runs(RunFilter())) == 3

    # --- retention --------------------------------------------------------------------------------------

    def test_steps_are_kept_as_long_as_their_root_and_go_with_it(self, desk: Desk) -> None:  # rule 22
        root, first, second = a_pipeline(a_run(), a_run())
        desk.storage.add([root, first, second])
        (claim,) = desk.claim()
        retention = Retention(history=DAY, results=HOUR)
        desk.turn([desk.end(claim, result="1")], want={})
        desk.now = NOON + 2 * DAY
        assert desk.storage.prune(retention, desk.now) == []
        assert desk.storage.run(first.id).result == "1"
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, ended_at=desk.now)])
        assert desk.storage.prune(retention, desk.now + HOUR) == []
        assert desk.storage.prune(retention, desk.now + 2 * DAY) == [root.id, first.id, second.id]
        assert desk.storage.runs(RunFilter()) == []
        assert desk.storage.edges([root.id, second.id]) == {}

    def test_a_pipeline_is_kept_while_something_of_it_goes_on(self, desk: Desk) -> None:
        root, step = a_pipeline(a_run())
        handler = waiting(root, condition="failed", pipeline=root.id)
        desk.storage.add([root, step, handler])
        (claim,) = desk.claim()
        desk.turn([desk.end(claim, State.FAILED)], want={})
        assert desk.storage.prune(Retention(history=0), NOON + DAY) == []
        (last,) = desk.claim()
        desk.turn([desk.end(last)])
        gone = desk.storage.prune(Retention(history=0), NOON + DAY)
        assert gone == [root.id, step.id, handler.id]

    def test_no_pipeline_is_removed_by_halves(self, desk: Desk) -> None:
        runs = a_pipeline(a_run(), a_run())
        desk.storage.add(runs)
        for _ in range(2):
            (claim,) = desk.claim()
            desk.turn([desk.end(claim, ended_at=NOON)], want={})
        plain = [desk.finish(a_run(), ended_at=NOON + SECOND * place) for place in (1, 2, 3)]
        assert len(desk.storage.prune(Retention(max_runs=5), NOON)) == 3
        assert desk.storage.prune(Retention(max_runs=2), NOON) == [plain[0].id]
