"""D19: a reload brings modules that fail, hang and exit at import. Only their tasks are blocked."""

from __future__ import annotations

import pytest

from jobrunner.durations import SECOND
from tests.drills.checker import CLOCK, client, enqueue, finished
from tests.live import Project

MODULES = {
    "good": "def work():\n    return 'done'\n",
    "fails": "raise RuntimeError('no')\n",
    "lacks": "import no_such_module\n",
    "exits": "import sys\nsys.exit(0)\n",
    "leaves": "import os\nos._exit(7)\n",
    "crashes": "import ctypes\nctypes.string_at(0)\n",
    "hangs": "import threading\nthreading.Event().wait()\n",
    "spins": "while True:\n    pass\n",
    "ignores": "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nraise ValueError\n",
    "deaf": "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    pass\n",
    "closes": "import os\nos.closerange(0, 100)\nraise ValueError\n",
}


@pytest.mark.drill
def test_only_tasks_whose_module_does_not_load_are_blocked(project: Project, full_drills: bool) -> None:
    # rule 25
    for name, text in MODULES.items():
        project.write(text, f"{name}.py")
    project.write("tasks:\n  good: {call: 'good:work'}\n  tick: {command: 'true', schedule: every 1s}\n")
    supervisor = project.start()
    began = CLOCK.monotonic()
    project.write("".join(["tasks:\n", *(f"  {name}: {{call: '{name}:work'}}\n" for name in MODULES)]))
    supervisor.wait_for("reloaded")
    with client(project) as storage:  # meanwhile others run
        [run] = finished(storage, enqueue(storage, "good", [{}]))
    bad = [name for name in MODULES if name != "good"]
    said = {name: supervisor.wait_for("task-blocked", task=name)["why"] for name in bad}
    took = (CLOCK.monotonic() - began) / SECOND
    print(f"{len(bad)} tasks blocked within {took:.2f} s of the edit, wanted: 10 s")
    assert run.state.value == "succeeded"
    assert "took longer" in said["hangs"]
    assert "took longer" in said["spins"]
    assert "took longer" in said["deaf"]
    assert "exit code 7" in said["leaves"]
    assert "signal 11" in said["crashes"]
    assert "no_such_module" in said["lacks"]
    blocked = {each["name"] for each in project.answer("status")["tasks"] if each["blocked"]}
    assert blocked == set(bad)
    assert supervisor.process.poll() is None
    if full_drills:  # a figure to hold on a machine that does nothing else
        assert took <= 10
