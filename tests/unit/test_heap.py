"""Memory in pieces: what was freed between blocks that live on is given back (invariant I8)."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SCATTERED = """
import os
from jobrunner.heap import give_back

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024

give_back()
empty = resident()
blocks = [bytes(8192) for _ in range(5_000)]
kept = blocks[::100] + blocks[-1:]
del blocks
scattered = resident()
give_back()
print(scattered - empty, resident() - empty)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library gives back by itself"
)
def test_what_is_free_between_blocks_that_live_on_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", SCATTERED], capture_output=True, text=True, check=True)
    scattered, after = map(int, done.stdout.split())  # KiB
    assert scattered > 30_000, "else there was nothing to give back"
    assert after < 3_000
