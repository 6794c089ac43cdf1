"""`python -m jobrunner ...` in this process, whose objects are counted when SIGRTMIN comes.

    python tests/drills/counted.py FILE python -m jobrunner run ...

FILE gets a JSON object: how many objects of each kind there are, after a collection of garbage.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path

NUMBER = signal.SIGRTMIN  # of no meaning to the supervisor


def count(file: Path) -> None:
    """Write down what there is."""
    gc.collect()
    kinds = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    aside = file.with_suffix(".new")
    aside.write_text(json.dumps(kinds))
    aside.rename(file)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    signal.signal(NUMBER, lambda _number, _frame: count(target))
    sys.argv[:] = sys.argv[4:]
    sys.path[0] = os.getcwd()
    runpy.run_module("jobrunner", run_name="__main__", alter_sys=True)
