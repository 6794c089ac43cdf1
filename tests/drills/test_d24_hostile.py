"""D24: shell payloads as arguments, YAML bombs, and a secret that must not be found anywhere.

Full form: the payloads in each of the four ways in which a command takes arguments, 20 rounds of the secret.
"""

from __future__ import annotations

import json
import random
import string
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobrunner.client import enqueue as make_run
from jobrunner.clock import SystemClock
from jobrunner.config.compile import compile_file
from jobrunner.ids import new_id
from jobrunner.model import State
from tests.live import COMMAND, LiveSupervisor, Project, clean_environment

from .checker import client, enqueue, finished

PAYLOADS = 200
SOONEST = 0.5  # seconds of processor time in which a bomb is refused
BUSY = 6  # times as long in the ordinary run: the other thread of a core takes half of it
TOUCH = "touch {mark}"
SHELLS = (
    "; {c} ;",
    "$({c})",
    "`{c}`",
    "| {c}",
    "&& {c}",
    "|| {c}",
    "& {c} &",
    "\n{c}\n",
    "' ; {c} ; '",
    '" ; {c} ; "',
    "'\"; {c} #",
    "${{IFS}}$({c})",
    "$'\\n{c}'",
    "<({c})",
    ">{mark}",
    "*; {c}",
    "~; {c}",
    "-c {c}",
    "--; {c}",
    "\\`{c}\\`",
    "{{a,$({c})}}",
    "() {{ :; }}; {c}",
    "%0a{c}",
    "\r{c}\r",
    "\x1b]0;{c}\x07",
    "é☃\U0001f600 $({c})",
)
TASKS = """
env: {MARK: "%(mark)s"}
tasks:
  positional-shell: {command: 'printf %%s "$1"'}
  positional-list: {command: [printf, "%%s"]}
  keyword-shell: {command: 'printf %%s "$JOBRUNNER_ARG_VALUE"'}
  keyword-list: {command: [printenv, JOBRUNNER_ARG_VALUE]}
"""


def payloads(seed: int, mark: Path) -> list[str]:
    """Texts that do something if any shell ever reads them; all different."""
    chance = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < PAYLOADS:
        core = chance.choice(SHELLS).format(c=TOUCH.format(mark=mark), mark=mark)
        noise = "".join(chance.choice(string.punctuation + " \t\n") for _ in range(chance.randint(0, 12)))
        made[f"{noise}{core}{noise[::-1]}".strip() or core] = None
    return list(made)


@pytest.mark.drill
def test_d24_no_argument_is_ever_read_by_a_shell(project: Project, full_drills: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    mark = project.folder / "executed"
    hostile = payloads(seed, mark)
    project.write(TASKS % {"mark": mark})
    project.start()
    ways = ("positional-shell", "positional-list", "keyword-shell", "keyword-list")
    for way in ways if full_drills else ways[::2]:
        with client(project) as storage:
            if way.startswith("keyword"):
                ids = enqueue(storage, way, [{"value": each} for each in hostile])
            else:
                ids = positional(project, way, hostile)
            runs = finished(storage, ids)
        wrong = [
            (text, run.result)
            for text, run in zip(hostile, runs, strict=True)
            if run.state is not State.SUCCEEDED or json.loads(run.result or "null") != text.strip()
        ]
        assert wrong == []
        assert not mark.exists(), f"a payload was executed by {way}"


def positional(project: Project, task: str, texts: list[str]) -> list[str]:
    """Enqueue a run with each text as its only argument."""
    with client(project) as storage:
        entry = storage.entry(task)
        assert entry is not None
        now = SystemClock().now()
        runs = [make_run(entry, run_id=new_id(now), now=now, args=[text]) for text in texts]
        assert all(storage.add(runs))
    return [run.id for run in runs]


# ---- bombs -----------------------------------------------------------------------------------------------


def bombs() -> Iterator[tuple[str, str]]:
    """Small files that would become large, deep or endless ones."""
    lists = "".join(f"x-{n}: &{n} [{', '.join([f'*{chr(ord(n) - 1)}'] * 9)}]\n" for n in "bcdefghij")
    yield "lists of lists", f"x-a: &a [x, x, x]\n{lists}tasks: {{}}\n"
    merges = "".join(f"x-{n}: &{n} {{<<: [{', '.join([f'*{chr(ord(n) - 1)}'] * 9)}]}}\n" for n in "bcdefghij")
    yield "merges of merges", f"x-a: &a {{k: v}}\n{merges}tasks: {{<<: *j}}\n"
    yield "merges as tasks", f"x-a: &a {{command: x}}\n{merges}tasks: {{t: {{<<: *j}}}}\n"
    yield "itself", "tasks: &a {t: *a}\n"
    yield "brackets", f"tasks: {'[' * 10_000}\n"
    yield "braces", f"tasks: {'{a: ' * 10_000}\n"
    yield "indentation", "tasks:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 3000))
    yield "dashes", f"tasks: \n{'- ' * 10_000}x\n"
    yield "a long number", f"tasks: {{t: {{command: x, retries: {'9' * 1_000_000}}}}}\n"
    yield "a long duration", f"tasks: {{t: {{command: x, timeout: {'9' * 100_000}s}}}}\n"
    yield "many variables", f"env: {{A: '{'${A:-' * 5000}x{'}' * 5000}'}}\ntasks: {{}}\n"


@pytest.mark.drill
@pytest.mark.parametrize(("name", "text"), list(bombs()), ids=[name for name, _ in bombs()])
def test_d24_a_bomb_is_refused_at_once(name: str, text: str, tmp_path: Path, full_drills: bool) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(text)
    before = time.process_time()  # the machine may be busy with something else
    found = compile_file(str(file), environ={})
    took = time.process_time() - before
    assert found.plan is None, name
    assert found.errors
    assert took < SOONEST * (1 if full_drills else BUSY)


# ---- the canary ------------------------------------------------------------------------------------------

CANARY_TASKS = """
secrets: [DB_PASSWORD, API_KEY]
env: {DB_PASSWORD: "${DB_PASSWORD}"}
env_file: [KEYS]
tasks:
  says: {command: 'echo "the password is $DB_PASSWORD"; echo "$API_KEY" >&2'}
  says-in-pieces:
    command: 'a="${DB_PASSWORD%??????}"; printf %s "$a"; sleep 0.2; printf %s "${DB_PASSWORD#"$a"}"'
  fails:
    command: 'echo "no entry for $DB_PASSWORD" >&2; exit 3'
    on_failure: [told]
    notify: {command: cat > told.json}
  as-json: {command: 'printf ''{"password": "%s"}'' "$API_KEY"', result: json}
  told: {command: 'echo "$JOBRUNNER_FAILED_OUTPUT_TAIL"'}
  returns: {call: "canary:returns"}
  raises: {call: "canary:raises"}
  prints: {call: "canary:prints"}
  times-out: {command: 'echo "$DB_PASSWORD"; sleep 60', timeout: 300ms, kill_after: 100ms}
"""
CANARY_MODULE = """
import os, sys

def returns():
    return {"password": os.environ["DB_PASSWORD"], "rows": 3}

def raises():
    raise ValueError(f"cannot log in with {os.environ['DB_PASSWORD']}")

def prints():
    print(os.environ["API_KEY"])
    print(os.environ["DB_PASSWORD"], file=sys.stderr)
"""
CALLED = (*("says", "says-in-pieces", "fails", "as-json", "returns", "raises", "prints", "times-out"),)


@pytest.mark.drill
def test_d24_a_secret_is_found_nowhere(project: Project, full_drills: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    password = "".join(chance.choice(string.ascii_letters + string.digits + "/+'\"") for _ in range(24))
    key = "".join(chance.choice(string.ascii_letters) for _ in range(40))
    project.write(CANARY_MODULE, "canary.py")
    outside = project.folder.parent / f"{project.folder.name}-keys"
    outside.mkdir()
    (outside / "keys.env").write_text(f"API_KEY={key}\n")
    project.write(CANARY_TASKS.replace("KEYS", str(outside / "keys.env")))
    environ = {**clean_environment(project.folder), "DB_PASSWORD": password}
    supervisor = LiveSupervisor(project.file, env=environ)
    try:
        supervisor.wait_for("ready")
        with watched_command_lines((password, key)) as seen, client(project) as storage:
            for _ in range(20 if full_drills else 1):
                ids = [run_id for task in CALLED for run_id in enqueue(storage, task, [{}])]
                runs = finished(storage, ids)
            supervisor.wait_for("notified", task="fails")
        assert runs[0].result == json.dumps("the password is ***")
        shown = [project_output(project, environ, *each) for each in LOOKS]
    finally:
        supervisor.close()
    assert seen == []
    assert leaks(project.folder, (password, key)) == []
    for each in (supervisor.log(), *shown):
        assert password not in each
        assert json.dumps(password)[1:-1] not in each
        assert key not in each


LOOKS = (
    ("history",),
    ("history", "--json"),
    ("show", "says"),
    ("show", "says", "--json"),
    ("exec", "says", "--show-env"),
    ("logs", "says"),
    ("logs", "fails", "--json"),
    ("status",),
    ("status", "fails"),
    ("why", "fails"),
    ("check",),
    ("list", "--json"),
)


def project_output(project: Project, environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=project.folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def leaks(folder: Path, secrets: tuple[str, ...]) -> list[str]:
    """The files below the folder that hold a secret: database, log of changes, output, notices, journal."""
    needles = [form.encode() for secret in secrets for form in (secret, json.dumps(secret)[1:-1])]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    return [str(path) for path in files if any(needle in path.read_bytes() for needle in needles)]


@contextmanager
def watched_command_lines(secrets: tuple[str, ...]) -> Iterator[list[str]]:
    """The command lines of processes that held a secret while the block ran."""
    found: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if any(secret in line for secret in secrets):
                    found.append(line)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
