"""What a command finds around itself: environment, arguments, descriptors, signals, session, folder."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jobrunner.durations import MILLISECOND
from jobrunner.model import Cause
from jobrunner.plain import to_plain
from tests.builders import NOON, a_pool, a_task
from tests.integration.commands.slots import Command, Slots, a_call, call_of

SHOW = "import json, os, sys; print(json.dumps({'argv': sys.argv[1:], 'env': dict(os.environ)}))"
PYTHON = (sys.executable, "-E", "-c", SHOW)
DUMP_ARGUMENTS = 'for each in "$0" "$@"; do printf "%s\\0" "$each"; done'


def environment(slots: Slots, **task: Any) -> dict[str, str]:
    """The environment that a command sees."""
    call = a_call(PYTHON, name="backup", **task)
    assert slots.run(call).outcome == "ok"
    env: dict[str, str] = json.loads(slots.written(call))["env"]
    env.pop("LC_CTYPE", None)  # Python's own, in the C locale
    return env


@pytest.fixture
def supervisor_environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The supervisor's environment: every name that is passed on, and some that are not."""
    passed = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "LC_TIME", "LC_ALL"}
    texts = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    given = {name: texts.get(name, f"/of/{name}") for name in passed}
    for name in list(os.environ):
        if not name.startswith(("COV", "PYTEST")):
            monkeypatch.delenv(name)
    for name, text in {**given, "SECRET": "x", "LD_PRELOAD_NOT": "x", "JOBRUNNER_BACKEND": "x"}.items():
        monkeypatch.setenv(name, text)
    return given


def test_the_environment_is_exactly_what_is_documented(
    supervisor_environment: dict[str, str], slots: Slots
) -> None:
    call = call_of(a_task("backup", command=PYTHON), tick=NOON, missed=3, attempt=2, trigger="catch-up")
    assert slots.run(call).outcome == "ok"
    env = json.loads(slots.written(call))["env"]
    assert env == {
        **supervisor_environment,
        "JOBRUNNER_TASK": "backup",
        "JOBRUNNER_RUN_ID": call.run_id,
        "JOBRUNNER_ATTEMPT": "2",
        "JOBRUNNER_SCHEDULED_AT": "2026-11-23T12:00:00+00:00",
        "JOBRUNNER_TRIGGER": "catch-up",
        "JOBRUNNER_MISSED": "3",
        "JOBRUNNER_OWNER": "owner-of-tests",
    }


def test_without_a_tick_the_due_time_is_told(slots: Slots) -> None:
    call = a_call("echo $JOBRUNNER_SCHEDULED_AT", call={"due_at": NOON + 250 * MILLISECOND})
    assert slots.run(call).result == '"2026-11-23T12:00:00.250000+00:00"'


def test_the_nearer_declaration_wins(supervisor_environment: dict[str, str], tmp_path: Path) -> None:
    made = Slots(tmp_path)
    try:
        made.executor.close()
        pool = a_pool()
        kind = type(made.executor)
        pool = type(pool)(
            name="commands", kind=pool.kind, slots=1, env={"A": "pool", "B": "pool", "HOME": "/p"}
        )
        made.executor = kind(pool, made.loop, made, made.root, made.journal)
        task = a_task(command="echo $A $B $C $HOME $LANG", env={"B": "task", "C": "task", "LANG": "C"})
        end = made.run(call_of(task, env=(("C", "run"),)))
        assert end.result == '"pool task run /p C"'
    finally:
        made.close()


def test_nothing_declared_can_take_the_place_of_a_mark(slots: Slots) -> None:
    call = a_call(
        "echo $JOBRUNNER_RUN_ID $JOBRUNNER_OWNER", env={"JOBRUNNER_RUN_ID": "x", "JOBRUNNER_OWNER": "y"}
    )
    assert slots.run(call).result == f'"{call.run_id} owner-of-tests"'


def test_a_callback_is_told_what_failed(slots: Slots) -> None:
    cause = Cause(
        task="backup",
        run_id="r-1",
        state="failed",
        reason="exit 9",
        exit_code=9,
        output_tail="deep\0trouble\n",
    )
    command = (
        'for each in TASK RUN_ID REASON EXIT_CODE OUTPUT_TAIL; do eval echo "\\$JOBRUNNER_FAILED_$each"; done'
    )
    call = a_call(command, call={"cause": json.dumps(to_plain(cause))})
    assert slots.run(call).outcome == "ok"
    assert slots.written(call).decode().splitlines() == ["backup", "r-1", "exit 9", "9", "deep\\x00trouble"]


def test_a_cause_without_an_exit_code_tells_an_empty_one(slots: Slots) -> None:
    cause = Cause(task="backup", run_id="r-1", state="failed", reason="timeout")
    call = a_call("set -u; echo [$JOBRUNNER_FAILED_EXIT_CODE]", call={"cause": json.dumps(to_plain(cause))})
    assert slots.run(call).result == '"[]"'


@pytest.mark.parametrize("cause", ["", "{", "[]", "null", '{"task": "x"}', '{"task": 1}'])
def test_a_damaged_row_harms_its_own_attempt_only(slots: Slots, cause: str) -> None:
    damaged = [a_call("true", call=poison) for poison in ({"cause": cause}, {"tick": 10**20})]
    ends = slots.run_all([*damaged, a_call("true")])
    assert [end.outcome for end in ends] == ["bad arguments", "bad arguments", "ok"]


def test_what_a_run_declares_must_be_an_environment(slots: Slots) -> None:
    for name, text in (("A=B", "x"), ("", "x"), ("A", "x\0"), ("A", 1)):
        assert slots.run(a_call("true", call={"env": ((name, text),)})).outcome == "bad arguments"


# --- arguments ------------------------------------------------------------------------------------------


def test_arguments_follow_a_list(slots: Slots) -> None:
    call = a_call(("printf", "%s|"), "a b", 1, True, None, 2.5, ["x", {"y": 1}])
    assert slots.run(call).result == json.dumps('a b|1|true|null|2.5|["x",{"y":1}]|')


def test_arguments_of_a_text_are_numbered_and_the_task_is_zero(slots: Slots) -> None:
    call = a_call('echo "$0: $# $1 $2"', "one", {"two": "zwei"}, name="report")
    assert slots.run(call).result == json.dumps('report: 2 one {"two":"zwei"}')


def test_another_shell_may_run_the_text(slots: Slots) -> None:
    call = a_call("false | echo $1 ${BASH_VERSION:+bash}", "x", shell=("bash", "-o", "pipefail"))
    end = slots.run(call)
    assert (end.outcome, slots.written(call)) == ("exit 1", b"x bash\n")


def test_keyword_arguments_are_variables(slots: Slots) -> None:
    keywords: dict[str, object] = {"dry-run": True, "target": "/srv/a b", "Größe": 3}
    call = a_call(PYTHON, keywords=keywords)
    assert slots.run(call).outcome == "ok"
    env = json.loads(slots.written(call))["env"]
    told = {name: text for name, text in env.items() if name.startswith("JOBRUNNER_ARG_")}
    assert told == {
        "JOBRUNNER_ARG_DRY_RUN": "true",
        "JOBRUNNER_ARG_TARGET": "/srv/a b",
        "JOBRUNNER_ARG_GRÖSSE": "3",
    }


def test_what_json_lacks_is_written_so_that_a_command_can_read_it(slots: Slots) -> None:
    values = [date(2026, 11, 23), timedelta(seconds=1.5), Decimal("1.10"), b"\xff", (1, 2), {3}]
    call = a_call(("printf", "%s|"), *values)
    assert slots.run(call).result == json.dumps('"2026-11-23"|1.5|"1.10"|"/w=="|[1,2]|[3]|')


@pytest.mark.parametrize("command", ["true", ("true",)])
@pytest.mark.parametrize(
    ("args", "keywords", "why"),
    [
        (("a\0b",), {}, "argument 1 holds a NUL character"),
        (("ok", "x" * 131_072), {}, "argument 2 has 131,072 bytes"),
        ((), {"big": "x" * 131_072}, "argument 'big' has 131,072 bytes"),
        ((), {"a=b": "x"}, "'JOBRUNNER_ARG_A=B' cannot be the name of an environment variable"),
        ((), {"a-b": 1, "a_b": 2}, "two keyword arguments are called JOBRUNNER_ARG_A_B"),
    ],
)
def test_arguments_that_no_command_can_get_are_bad(
    slots: Slots, command: Command, args: tuple[object, ...], keywords: dict[str, object], why: str
) -> None:
    end = slots.run(a_call(command, *args, keywords=keywords))
    assert end.outcome == "bad arguments"
    assert end.error is not None
    assert why in end.error


def test_a_damaged_payload_is_bad_arguments(slots: Slots) -> None:
    for payload in ("", "{", "[]", '{"args":1,"kwargs":{}}', '{"args":[{"$pickle":"x"}],"kwargs":{}}'):
        assert slots.run(a_call("true", call={"payload": payload})).outcome == "bad arguments"


def test_the_longest_argument_arrives_whole(slots: Slots) -> None:
    longest = 128 * 1024 - len("JOBRUNNER_ARG_=") - 1
    call = a_call("printf %s $1 | wc -c", "ä" * (longest // 2))
    assert slots.run(call).result == f'"{longest // 2 * 2}"'


SPITEFUL = """
-n|--|-e\\n|$(touch pwned)|`touch pwned`|; touch pwned|&& touch pwned|'; touch pwned; '|"; touch pwned; "
$HOME|${IFS}|*|~|a\\|\\|'|"|$'\\x41'|$((1+1))|<(touch pwned)|> pwned|\x1b[31m|\x7f|%s%n|!!|#|{a,b}|[a-z]|?
=|a=b|\u202e|äöü€😀|\ufeff|\x01\x02\x03|$1|$@|() { :;}; touch pwned|\\$(touch pwned)
$'\\'; touch pwned'|%0a touch pwned
"""
BLANKS = ("", " ", "  a  b ", "a\tb", "\r\n", "\ntouch pwned\n", "| touch pwned", "|| touch pwned ||")


def payloads(seed: int) -> Iterator[str]:
    """200 texts that would hurt if a shell read them."""
    yield from BLANKS
    yield from SPITEFUL.strip("\n").replace("\n", "|").split("|")
    chance = random.Random(seed)
    pieces = [
        "$(touch pwned)",
        "`",
        "'",
        '"',
        "\\",
        "\n",
        ";",
        "&",
        "|",
        "$",
        "{",
        "}",
        " ",
        "ä",
        "touch pwned",
    ]
    for _ in range(160):
        yield "".join(chance.choices(pieces, k=chance.randrange(1, 12)))


def test_shell_payloads_arrive_byte_exact_and_nothing_of_them_is_run(slots: Slots, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    folder = tmp_path / "empty"
    folder.mkdir()
    texts = list(payloads(seed))[:200]
    assert len(texts) == 200
    wanted = b"".join(text.encode() + b"\0" for text in texts)
    positional = a_call(DUMP_ARGUMENTS, *texts, name="zero", cwd=str(folder))
    assert slots.run(positional).outcome == "ok"
    assert slots.written(positional) == b"zero\0" + wanted
    listed = a_call(("printf", "%s\\0"), *texts, cwd=str(folder))
    assert slots.run(listed).outcome == "ok"
    assert slots.written(listed) == wanted
    named = a_call(PYTHON, keywords={f"p{n}": text for n, text in enumerate(texts)}, cwd=str(folder))
    assert slots.run(named).outcome == "ok"
    env = json.loads(slots.written(named))["env"]
    assert [env[f"JOBRUNNER_ARG_P{n}"] for n in range(len(texts))] == texts
    assert list(folder.iterdir()) == []


# --- descriptors, signals, session, folder --------------------------------------------------------------


def test_only_the_three_standard_descriptors_are_open(slots: Slots) -> None:
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    others = [a_call("sleep 1") for _ in range(5)]
    slots.executor.start(others)
    for stdin in (None, "text"):
        call = a_call((sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"), stdin=stdin)
        end = slots.run(call)
        fds = [int(each) for each in json.loads(json.loads(end.result or "").replace("'", '"'))]
        assert sorted(fds)[:3] == [0, 1, 2]
        assert len(fds) == 4  # and the one that lists the folder
    os.close(inherited)


def test_signals_are_as_after_a_fresh_start(tmp_path: Path) -> None:
    ignored = (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in ignored]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    slots = Slots(tmp_path)
    try:
        call = a_call("grep -E 'Sig(Blk|Ign)|ShdPnd' /proc/self/status")
        assert slots.run(call).outcome == "ok"
        values = [line.split()[1] for line in slots.written(call).decode().splitlines()]
        # 32 and 33 are the C library's own: its posix_spawn (make's) ignores them, nobody can reset that.
        assert {int(value, 16) & ~(0b11 << 31) for value in values} == {0}
        os.kill(os.getpid(), signal.SIGHUP)  # what this process ignored does it no harm now either
    finally:
        slots.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before:
            signal.signal(number, handler)


def test_a_command_leads_a_session_of_its_own_in_its_folder(slots: Slots, tmp_path: Path) -> None:
    call = a_call(
        "pwd; read -r _ _ _ _ group session _ < /proc/$$/stat; echo $$ $group $session", cwd=str(tmp_path)
    )
    end = slots.run(call)
    folder, ids = slots.written(call).decode().splitlines()
    assert folder == str(tmp_path)
    assert {int(each) for each in ids.split()} == {end.pid}
