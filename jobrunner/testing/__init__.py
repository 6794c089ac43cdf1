"""For the tests of those who use jobrunner, and of those who write a storage.

`FakeClock`, `immediate`, `by_hand`, `run_until_idle` and `let_pass` are for programs with tasks;
`jobrunner.testing.fixtures` has them as fixtures of pytest. `StorageContract` is the contract of a storage
as a suite (`LeasedStorageContract`: of one that tells by leases who lives); it needs pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clock import FakeClock
    from .desk import Desk
    from .inline import by_hand, immediate, let_pass, run_until_idle
    from .storage_contract import LeasedStorageContract, StorageContract

__all__ = [
    "Desk",
    "FakeClock",
    "LeasedStorageContract",
    "StorageContract",
    "by_hand",
    "immediate",
    "let_pass",
    "run_until_idle",
]

_HOMES = {
    "Desk": ".desk",
    "FakeClock": ".clock",
    "LeasedStorageContract": ".storage_contract",
    "StorageContract": ".storage_contract",
    "by_hand": ".inline",
    "immediate": ".inline",
    "let_pass": ".inline",
    "run_until_idle": ".inline",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
