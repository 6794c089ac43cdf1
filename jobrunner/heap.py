"""Memory that nobody uses goes back to the system.

The C library takes memory in long stretches and gives back only their ends. What a flood of runs has used
stays resident when a single small block behind it lives on: a service grows by megabytes in an hour
and has nothing to show for it. `malloc_trim` gives back every unused page, wherever it lies. It takes a
millisecond.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; others have no need of it


def give_back() -> None:
    """Collect garbage, then return what is free to the system."""
    gc.collect()  # by itself it would wait for thousands of objects: dead workers leave circles behind
    if _trim is not None:
        _trim(0)
