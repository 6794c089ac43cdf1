"""Enqueue `note` runs one at a time, each with the moment of its sending, from a process of its own.

python -m benchmarks.sender URL COUNT PAUSE[,PAUSE...]
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence

from jobrunner import client
from jobrunner.clock import SystemClock
from jobrunner.ids import new_id
from jobrunner.storage import open_storage


def main(arguments: Sequence[str]) -> None:
    url, count, pauses = arguments[0], int(arguments[1]), map(float, arguments[2].split(","))
    storage, clock = open_storage(url), SystemClock()
    entry = storage.entry("note")
    assert entry is not None
    for pause in itertools.islice(itertools.cycle(pauses), count):
        time.sleep(pause)
        now = clock.now()
        storage.add([client.enqueue(entry, run_id=new_id(now), now=now, args=[time.time_ns()])])
    storage.close()


if __name__ == "__main__":
    main(sys.argv[1:])
