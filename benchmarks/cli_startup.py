"""What starting the command line costs: CPU time of a process above `python -c pass`.

python benchmarks/cli_startup.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPETITIONS = 20
GOAL = 90.0  # ms, above bare Python
SCRIPT = "import sys; from jobrunner.cli import main; sys.exit(main())"  # as the installed command does
JOBS = "tasks:\n  hello: {command: echo hello}\n"
COMMANDS: Mapping[str, Sequence[str]] = {
    "--help": ["--help"],
    "enqueue": ["enqueue", "hello"],
    "status": ["status"],
    "history": ["history"],
    "logs": ["logs", "hello"],
    "next EXPR": ["next", "30 2 * * *"],
    "next NAME": ["next", "hello"],
}


def cpu_ms(command: Sequence[str], folder: str, repetitions: int = REPETITIONS) -> float:
    """User and system time of one process, the least of several: noise only ever adds."""
    best = float("inf")
    for _ in range(repetitions):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return best * 1000


def environment(folder: str) -> dict[str, str]:
    """Without settings of this shell: modules that may not be cached would be compiled at every start."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("JOBRUNNER_", "PYTHON"))}
    return {**kept, "HOME": folder, "PYTHONPYCACHEPREFIX": os.path.join(folder, "cache")}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs.yaml").write_text(JOBS)
        publish = [sys.executable, "-c", SCRIPT, "run", "--once", "--no-schedule"]
        subprocess.run(publish, cwd=folder, env=environment(folder), capture_output=True, check=True)
        bare = cpu_ms([sys.executable, "-c", "pass"], folder)
        print(f"python -c pass        {bare:6.1f} ms CPU, the best of {REPETITIONS}")
        for name, arguments in COMMANDS.items():
            above = cpu_ms([sys.executable, "-c", SCRIPT, *arguments], folder) - bare
            mark = "" if name.startswith("next") else "  ok" if above <= GOAL else f"  over {GOAL:.0f}"
            print(f"jobrunner {name:<12}+{above:6.1f} ms{mark}")


if __name__ == "__main__":
    main()
