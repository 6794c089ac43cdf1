"""When a failed attempt is tried again: pure arithmetic over `plan.Retries`."""

from __future__ import annotations

from .durations import Micros
from .model import Ended, Ending
from .plan import Retries


def retry_delay(rule: Retries, failures: int, chance: float) -> Micros:
    """The delay before the next attempt after `failures` failures (1 for the first).

    delay * backoff ** (failures - 1), at most `max_delay`, moved by up to +-`jitter` of itself;
    `chance` is a random number in [0, 1) (semantics 12).
    """
    # 100 ** 64, the largest that a file may say, is still a float.
    grown = rule.delay * rule.backoff ** min(failures - 1, 64)
    capped = min(grown, rule.max_delay)
    return max(0, round(capped * (1 + rule.jitter * (2 * chance - 1))))


def is_retriable(rule: Retries, ended: Ended) -> bool:
    """Whether `on` and `not_on` admit another try: ints are exit codes, texts name a type or a base of it."""
    if rule.not_on and _names(ended) & set(rule.not_on):
        return False
    return not rule.on or bool(_names(ended) & set(rule.on))


def _names(ended: Ended) -> set[int | str]:
    names: set[int | str] = set(ended.exceptions)
    if ended.exit_code is not None:
        names.add(ended.exit_code)
    if ended.exception is not None:
        names.add(ended.exception)
    if ended.ending in (Ending.TIMEOUT, Ending.SIGNAL, Ending.COULD_NOT_START):
        names.add(ended.ending.value)
    return names
