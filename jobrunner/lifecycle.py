"""The state machine: what becomes of a claimed run when its attempt ends. Pure: values in, values out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .durations import Micros
from .model import Claim, Ended, Ending, NewRun, Options, Policy, Reason, Settle, State
from .plain import from_plain
from .plan import Retries, Task
from .retry import is_retriable, retry_delay

NO_RETRIES = Retries()
MOST_ASKED_RETRIES = 1_000  # semantics 12: RetryRun, at most this many times
_LARGEST = 2**63
_DAMAGE = (ValueError, TypeError, AttributeError, RecursionError)  # of a row that somebody else wrote

Callbacks = Callable[[State, str], tuple[NewRun, ...]]  # (final state, reason in words) -> their runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What decides beside the ending itself: the definition in force now, and the run's own options."""

    policy: Policy
    retries: Retries = NO_RETRIES
    removed: bool = False  # the task is gone: its running run finishes and is not retried (semantics 26)


class Next(NamedTuple):
    """The state a run goes to, and what changes with it."""

    state: State
    reason: Reason | None = None
    due_at: Micros | None = None  # None: as it was
    failures: int = 0  # added
    crashes: int = 0  # added
    is_attempt: bool = True  # False: the call came back before it had begun


def terms(task: Task | None, options: Options | None, policy: Policy) -> Terms:
    """The terms for a run: of the definition in force, else (removed task) of its row alone."""
    if task is None:
        return Terms(policy=policy, removed=True)
    return Terms(policy=task.policy, retries=_own_retries(task.retries, options))


def _own_retries(rule: Retries, options: Options | None) -> Retries:
    if options is None:
        return rule
    return Retries(
        max=rule.max if options.retries is None else options.retries,
        delay=rule.delay if options.retry_delay is None else options.retry_delay,
        backoff=rule.backoff,
        max_delay=max(rule.max_delay, options.retry_delay or 0),
        jitter=rule.jitter,
        on=rule.on,
        not_on=rule.not_on,
    )


def settle(
    claim: Claim, owner: str, ended: Ended, rule: Terms, *, chance: float, callbacks: Callbacks | None = None
) -> Settle:
    """The row that this ending makes of this claim.

    `chance` is a random number in [0, 1) for the retry's jitter. `callbacks` is asked for follow-ups when
    the run has succeeded or failed for good; they are written in the same transaction as the row.
    """
    then = after(claim, ended, rule, chance=chance)
    follow: tuple[NewRun, ...] = ()
    if callbacks is not None and then.state in (State.SUCCEEDED, State.FAILED):
        follow = callbacks(then.state, then.reason.value if then.reason else ended.outcome)
    return _row(claim, owner, ended, then, follow)


def settle_orphan(
    claim: Claim, dead_owner: str, policy: Policy, ended: Ended, *, callbacks: Callbacks | None = None
) -> Settle:
    """The row of a run whose supervisor died: interrupted without a plan (semantics 15).

    `ended.started_at` None: its start was never reported, so it goes back as it was. With
    `on_interrupt: fail` the claim itself was the start.
    """
    begun = ended.started_at is not None or policy.on_interrupt == "fail"
    then = after_crash(claim, policy) if begun else Next(State.QUEUED, is_attempt=False)
    follow: tuple[NewRun, ...] = ()
    if callbacks is not None and then.state is State.FAILED and then.reason is not None:
        follow = callbacks(then.state, then.reason.value)
    return _row(claim, dead_owner, ended, then, follow)


def _row(claim: Claim, owner: str, ended: Ended, then: Next, follow: tuple[NewRun, ...]) -> Settle:
    return Settle(
        seq=claim.seq,
        claim_no=claim.claim_no,
        owner=owner,
        id=claim.id,
        state=then.state,
        outcome=ended.outcome if then.is_attempt else None,
        attempt=claim.attempt if then.is_attempt else claim.attempt - 1,
        failures=claim.failures + then.failures,
        crashes=claim.crashes + then.crashes,
        due_at=claim.due_at if then.due_at is None else then.due_at,
        started_at=ended.started_at if then.is_attempt else None,
        ended_at=ended.ended_at,
        reason=then.reason.value if then.reason else None,
        result=ended.result,
        error=ended.error,
        exit_code=ended.exit_code,
        signal=ended.signal,
        pid=ended.pid,
        output=ended.output,
        follow=follow,
    )


def after(claim: Claim, ended: Ended, rule: Terms, *, chance: float) -> Next:
    """The state after an ending (the picture in the glossary)."""
    ending = ended.ending
    if ending is Ending.OK:
        return Next(State.SUCCEEDED)
    if ending is Ending.RECALLED:
        return Next(State.QUEUED, is_attempt=False)
    if ending is Ending.INTERRUPTED:
        return _after_interruption(rule.policy)
    if ending is Ending.CRASHED:
        return after_crash(claim, rule.policy)
    if ending is Ending.RETRY_ASKED:
        return _after_asking(claim, ended, rule)
    if ending is Ending.CANCELLED:
        return _after_cancel(claim, ended, rule, chance)
    if ending in (Ending.NOT_STORABLE, Ending.BAD_ARGUMENTS):
        return Next(State.FAILED, failures=1)  # never retried (semantics 12)
    return _after_failure(claim, ended, rule, chance)


def after_crash(claim: Claim, policy: Policy) -> Next:
    """A worker died under the call, or the supervisor died: no failure, but not for ever (semantics 15)."""
    if policy.on_interrupt == "fail":
        return Next(State.FAILED, Reason.INTERRUPTED, crashes=1)
    if claim.crashes + 1 >= policy.max_crashes:
        return Next(State.FAILED, Reason.TOO_MANY_CRASHES, crashes=1)
    return Next(State.QUEUED, crashes=1)


def _after_interruption(policy: Policy) -> Next:
    """An orderly stop ended the attempt: it costs neither a retry nor a crash (semantics 15)."""
    if policy.on_interrupt == "fail":
        return Next(State.FAILED, Reason.INTERRUPTED)
    return Next(State.QUEUED)


def _after_asking(claim: Claim, ended: Ended, rule: Terms) -> Next:
    if rule.removed or claim.attempt > MOST_ASKED_RETRIES:
        return Next(State.FAILED)
    delay = rule.retries.delay if ended.delay is None else ended.delay
    return Next(State.RETRYING, due_at=ended.ended_at + delay)


def _after_cancel(claim: Claim, ended: Ended, rule: Terms, chance: float) -> Next:
    """`CancelRun(retry=None)` follows the retries, True grants one try beyond them, False ends the run."""
    final = Next(State.CANCELLED, Reason.CANCELLED)
    if ended.retry is False or rule.removed:
        return final
    if claim.failures < rule.retries.max + (ended.retry is True):
        delay = retry_delay(rule.retries, claim.failures + 1, chance)
        return Next(State.RETRYING, due_at=ended.ended_at + delay, failures=1)
    return final


def _after_failure(claim: Claim, ended: Ended, rule: Terms, chance: float) -> Next:
    again = claim.failures < rule.retries.max and is_retriable(rule.retries, ended)
    if rule.removed or not again:
        return Next(State.FAILED, failures=1)
    delay = retry_delay(rule.retries, claim.failures + 1, chance)
    return Next(State.RETRYING, due_at=ended.ended_at + delay, failures=1)


def unbegun(claim: Claim, owner: str, state: State, now: Micros) -> Settle:
    """The row of a run that was claimed and has not begun: no attempt was made. `now` in microseconds."""
    return Settle(
        seq=claim.seq,
        claim_no=claim.claim_no,
        owner=owner,
        id=claim.id,
        state=state,
        outcome=None,
        attempt=claim.attempt - 1,
        failures=claim.failures,
        crashes=claim.crashes,
        due_at=claim.due_at,
        started_at=None,
        ended_at=now,
    )


def refuse(claim: Claim, owner: str, state: State, reason: Reason, now: Micros) -> Settle:
    """The row of a run that was claimed only to be refused (a busy lock with `on_busy: skip | fail`)."""
    return unbegun(claim, owner, state, now)._replace(reason=reason.value)


def plain_success(claim: Claim, owner: str, ended: Ended) -> Settle:
    """The hot path: most runs end like this, and nothing has to be decided for them."""
    return Settle(
        claim.seq,
        claim.claim_no,
        owner,
        claim.id,
        State.SUCCEEDED,
        "ok",
        claim.attempt,
        claim.failures,
        claim.crashes,
        claim.due_at,
        ended.started_at,
        ended.ended_at,
        None,
        ended.result,
        None,
        ended.exit_code,
        None,
        ended.pid,
        ended.output,
    )


# --- what lies in a row as text -----------------------------------------------------------------------


def options_of(claim: Claim) -> Options | None:
    """What the enqueuer overrode. Raises ValueError for what no enqueuer of ours has written."""
    if claim.options is None:
        return None
    try:
        options = from_plain(Options, json.loads(claim.options))
        numbers = (options.timeout, options.retries, options.retry_delay)
        whole = all(each is None or (type(each) is int and 0 <= each < _LARGEST) for each in numbers)
        texts = all(isinstance(each, str) for pair in options.env.items() for each in pair)
    except _DAMAGE as error:
        raise ValueError(f"the row is damaged: options {claim.options!a:.200}") from error
    if not (whole and texts):
        raise ValueError(f"the row is damaged: options {claim.options!a:.200}")
    return options


def policy_of(text: str | None) -> Policy:
    """The recovery policy that lies in a run's row; the default one when that is damaged."""
    if text is None:
        return Policy()
    try:
        policy = from_plain(Policy, json.loads(text))
    except _DAMAGE:
        return Policy()
    names = all(isinstance(name, str) for name in policy.on_failure)
    return policy if names and type(policy.max_crashes) is int else Policy()
