"""When a supervisor ends: a module of its own, since whoever starts one need not wait for all the rest."""

from __future__ import annotations

from enum import Enum


class Until(Enum):
    """When a supervisor ends by itself."""

    SIGNAL = "signal"
    ONCE = "once"  # what is due now has been done
    DRAINED = "drained"  # nothing is queued, retrying or running
