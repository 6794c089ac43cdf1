"""D23: users, groups, masks, priorities and limits of commands; whose jobs.yaml is believed."""

from __future__ import annotations

import grp
import os
import pwd
import re
import resource
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.config.compile import compile_file
from jobrunner.config.compiled import Compiled
from jobrunner.durations import MILLISECOND, SECOND
from jobrunner.execution.identity import Identity
from jobrunner.execution.launch import failure_in, launch_of, words_of
from jobrunner.execution.launcher import FAILED
from jobrunner.plan import Limits
from tests.builders import a_task
from tests.integration.commands.slots import Slots, a_call, marked_with, survivors
from tests.live import Project

pytestmark = pytest.mark.drill
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
IS_ROOT = os.geteuid() == 0


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    made = Slots(tmp_path)
    try:
        yield made
    finally:
        made.close()


def groups_of(user: pwd.struct_passwd) -> list[int]:
    return os.getgrouplist(user.pw_name, user.pw_gid)


def some_users(*, most: int) -> list[str]:
    """Users of this machine, those with supplementary groups first."""
    users = sorted(pwd.getpwall(), key=lambda user: (-len(groups_of(user)), user.pw_name))
    return [user.pw_name for user in users if user.pw_uid != 0][:most]


def a_user() -> pwd.struct_passwd:
    return pwd.getpwnam(some_users(most=1)[0])


# ---- users -----------------------------------------------------------------------------------------------


@as_root
def test_ids_are_those_that_su_gives(slots: Slots, full_drills: bool) -> None:
    for user in ["root", *some_users(most=1000 if full_drills else 3)]:
        call = a_call("id", user=user)
        assert slots.run(call).outcome == "ok"
        su = subprocess.run(["su", "-s", "/bin/sh", user, "-c", "id"], capture_output=True, check=True)
        assert (user, slots.written(call)) == (user, su.stdout)


@as_root
def test_every_id_is_switched_and_no_right_is_left(slots: Slots) -> None:
    user = a_user()
    call = a_call("cat /proc/self/status", user=user.pw_name)
    slots.run(call)
    lines = slots.written(call).decode().splitlines()
    status = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    assert status["Uid"] == [str(user.pw_uid)] * 4
    assert status["Gid"] == [str(user.pw_gid)] * 4
    assert sorted(map(int, status["Groups"])) == sorted(groups_of(user))
    assert int(status["CapEff"][0], 16) == int(status["CapPrm"][0], 16) == 0


@as_root
def test_a_group_replaces_the_users_primary_one(slots: Slots) -> None:
    user, group = a_user(), grp.getgrnam("daemon")
    call = a_call("id -u; id -g; id -G", user=user.pw_name, group="daemon")
    slots.run(call)
    uid, gid, *groups = map(int, slots.written(call).split())
    assert (uid, gid) == (user.pw_uid, group.gr_gid)
    assert set(groups) == set(os.getgrouplist(user.pw_name, group.gr_gid))


@as_root
def test_a_group_alone_leaves_the_user(slots: Slots) -> None:
    call = a_call("id -u; id -g", group="daemon")
    slots.run(call)
    assert slots.written(call).split() == [b"0", str(grp.getgrnam("daemon").gr_gid).encode()]


@as_root
def test_users_and_groups_may_be_numbers(slots: Slots) -> None:
    user = a_user()
    call = a_call("id -un; id -g", user=str(user.pw_uid), group=str(grp.getgrnam("daemon").gr_gid))
    slots.run(call)
    assert slots.written(call).decode().split() == [user.pw_name, str(grp.getgrnam("daemon").gr_gid)]


@as_root
def test_home_and_name_follow_the_user_and_what_a_file_declares_wins(slots: Slots) -> None:
    user = a_user()
    echo = 'echo "$HOME $USER $LOGNAME $SHELL"'
    call, declared = a_call(echo, user=user.pw_name), a_call(echo, user=user.pw_name, env={"HOME": "/srv"})
    slots.run_all([call, declared])
    name = user.pw_name
    assert slots.written(call).decode() == f"{user.pw_dir} {name} {name} /bin/sh\n"
    assert slots.written(declared).decode() == f"/srv {name} {name} /bin/sh\n"


@as_root
def test_arguments_input_output_and_exit_code_pass_through_unharmed(slots: Slots) -> None:
    call = a_call(
        'cat; printf "%s\\n" "$1" "$JOBRUNNER_ARG_K" "$E"; echo words >&2; exit 9',
        'ü "$(id)" \n',
        keywords={"k": "\x01é"},
        user=some_users(most=1)[0],
        stdin="in\n",
        env={"E": "ß"},
    )
    ended = slots.run(call)
    assert (ended.outcome, ended.exit_code) == ("exit 9", 9)
    assert slots.written(call).decode() == 'in\nü "$(id)" \n\n\x01é\nß\n'
    assert ended.error == "exit 9\nwords"


@as_root
def test_processes_of_another_user_are_ended_too(slots: Slots) -> None:
    deaf = "trap '' TERM; setsid sh -c \"trap '' TERM; sleep 600\" & sleep 600; sleep 600"
    user = some_users(most=1)[0]
    calls = [
        a_call(deaf, user=user, timeout=SECOND, kill_after=200 * MILLISECOND),
        a_call("setsid sleep 600 & sleep 600 & exit 0", user=user),
    ]
    assert [ended.outcome for ended in slots.run_all(calls)] == ["timeout", "ok"]
    assert survivors(*calls) == []


@as_root
def test_what_a_dead_supervisor_left_of_another_user_is_ended(project: Project) -> None:
    task = f"{{command: sleep 600, user: {a_user().pw_name}, cwd: /, on_interrupt: fail}}"
    project.write(f"tasks:\n  long: {task}\n")
    first = project.start("--log-level", "debug")
    run = project.jobrunner("enqueue", "long").stdout.strip()
    first.wait_for("started", run=run)
    first.kill()
    assert marked_with({run}) != []
    project.start()
    assert marked_with({run}) == []
    assert project.answer("show", run)["state"] == "failed"


# ---- what could not be started ---------------------------------------------------------------------------


@as_root
def test_what_the_user_may_not_use_is_no_exit_code(slots: Slots, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    user = some_users(most=1)[0]
    folder, file, gone = slots.run_all(
        [
            a_call("true", user=user, cwd=str(closed)),
            a_call((str(program),), user=user),
            a_call("true", user="nobody-of-that-name"),
        ]
    )
    assert {folder.outcome, file.outcome, gone.outcome} == {"could not start"}
    assert folder.exit_code is file.exit_code is None
    assert folder.error == f"cannot run in the folder {closed} as user {user}: permission denied"
    assert file.error == f"cannot run {program}: permission denied for user {user}"
    assert gone.error is not None
    assert gone.error.startswith("unknown user 'nobody-of-that-name'")


def test_a_program_that_is_not_there_is_told_by_the_launcher_as_without_it(slots: Slots) -> None:
    plain, launched = slots.run_all([a_call(("no-such-program",)), a_call(("no-such-program",), umask=0o22)])
    assert plain.outcome == launched.outcome == "could not start"
    assert plain.error == launched.error
    same = slots.run(a_call("exit 127", umask=0o22))
    assert (same.outcome, same.exit_code) == ("exit 127", 127)


@pytest.mark.parametrize("right", ["all", "setuid", "setgid"])
def test_a_switch_that_is_not_allowed_runs_nothing(right: str, tmp_path: Path) -> None:
    # Half a switch must not go on to the command: without `setuid` only the groups are switched.
    if IS_ROOT and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not there to take rights away")
    without = ["setpriv", f"--bounding-set=-{right}"] if IS_ROOT else []
    task = a_task(command=("touch", str(tmp_path / "ran")), user="other", cwd="/")
    identity = Identity(12345, 12345, (12345,), "other", "/")
    opened: list[int] = []
    launch = launch_of(task, list(task.command or ()), dict(os.environ), identity=identity, opened=opened)
    try:
        argv, environment = [*without, *launch.argv], {**launch.environment, "PATH": os.environ["PATH"]}
        process = subprocess.run(argv, env=environment, pass_fds=launch.passed, check=False)
        failure = failure_in(launch.status)
    finally:
        for fd in opened:
            os.close(fd)
    assert process.returncode == FAILED
    assert failure is not None
    assert words_of(failure, task) == "cannot run as user other: operation not permitted"
    assert not (tmp_path / "ran").exists()


# ---- masks, priorities, limits ---------------------------------------------------------------------------


def test_the_command_sees_its_mask_and_priority(slots: Slots) -> None:
    call = a_call("umask; nice", umask=0o137, nice=11)
    slots.run(call)
    assert slots.written(call).split() == [b"0137", b"11"]


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        (Limits(nofile=77), {"Max open files": (77, 77)}),
        (Limits(nproc=300), {"Max processes": (300, 300)}),
        (Limits(cpu=7 * SECOND), {"Max cpu time": (7, 12)}),
        (Limits(memory=1 << 31), {"Max address space": (1 << 31, 1 << 31)}),
        (Limits(fsize=4096), {"Max file size": (4096, 4096)}),
        (Limits(core=0), {"Max core file size": (0, 0)}),
        (Limits(core=0, nofile=20), {"Max core file size": (0, 0), "Max open files": (20, 20)}),
    ],
    ids=str,
)
def test_the_command_sees_its_limits(limits: Limits, rows: dict[str, tuple[int, int]], slots: Slots) -> None:
    call = a_call(("cat", "/proc/self/limits"), limits=limits)
    assert slots.run(call).outcome == "ok"
    text = slots.written(call).decode()
    for name, wanted in rows.items():
        found = re.search(rf"^{name} +(\d+) +(\d+) ", text, re.MULTILINE)
        assert found is not None, text
        assert (int(found[1]), int(found[2])) == wanted


def test_a_limit_that_is_reached_is_named(slots: Slots, tmp_path: Path) -> None:
    time, size = slots.run_all(
        [
            a_call("while :; do :; done", limits=Limits(cpu=SECOND, core=0)),
            a_call(
                "exec dd if=/dev/zero of=large bs=1024 count=100",
                limits=Limits(fsize=10_000, core=0),
                cwd=str(tmp_path),
            ),
        ]
    )
    assert (time.outcome, size.outcome) == ("signal SIGXCPU", "signal SIGXFSZ")
    assert "limit of processor time" in str(time.error)
    assert (tmp_path / "large").stat().st_size == 10_000


def test_a_command_with_limits_finds_default_signals_and_no_descriptors(slots: Slots) -> None:
    call = a_call("grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd", umask=0o22)
    slots.run(call)
    blocked, ignored, *fds = slots.written(call).decode().splitlines()
    # 32 and 33 are the C library's own: its posix_spawn (make's) ignores them, nobody can reset that.
    assert (int(blocked.split()[1], 16), int(ignored.split()[1], 16) & ~(0b11 << 31)) == (0, 0)
    assert fds == ["0", "1", "2", "3"]  # 3 is the folder that `ls` reads


# ---- configurations that are refused ---------------------------------------------------------------------


def compiled(folder: Path, text: str) -> Compiled:
    (folder / "jobs.yaml").write_text(text)
    return compile_file(str(folder / "jobs.yaml"), environ={})


def codes(found: Compiled) -> list[str]:
    return [problem.code for problem in found.problems]


@pytest.fixture
def _nobody_special(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the system is answered as for an ordinary user."""
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(os, "getegid", lambda: 54321)
    monkeypatch.setattr(os, "getpriority", lambda which, who: 0)
    monkeypatch.setattr(resource, "getrlimit", lambda number: (0, 100))


@pytest.mark.usefixtures("_nobody_special")
@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ("user: root", "needs-root"),
        ("group: root", "needs-root"),
        ("nice: -1", "needs-root"),
        ("limits: {nofile: 101}", "above-hard-limit"),
        ("limits: {memory: 1KiB}", "above-hard-limit"),
        ("limits: {cpu: 2m}", "above-hard-limit"),
    ],
)
def test_what_only_root_can_do_is_an_error_of_the_file(keys: str, code: str, tmp_path: Path) -> None:
    found = compiled(tmp_path, f"tasks:\n  a:\n    command: id\n    {keys}\n")
    assert codes(found) == [code]
    assert found.problems[0].line == 4
    assert found.problems[0].help


@pytest.mark.usefixtures("_nobody_special")
def test_within_the_hard_limit_anybody_may_limit(tmp_path: Path) -> None:
    keys = "limits: {nofile: 100, memory: 100, cpu: 100s}, nice: 5, umask: 077"
    assert compiled(tmp_path, f"tasks: {{a: {{command: id, {keys}}}}}").problems == ()


def test_an_unknown_user_or_group_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    found = compiled(tmp_path, "tasks:\n  a: {command: id, user: rooot, group: daemn}\n")
    assert [(each.code, each.message) for each in found.problems] == [
        ("unknown-user", "unknown user 'rooot'"),
        ("unknown-group", "unknown group 'daemn'"),
    ]
    assert found.problems[0].help == "did you mean 'root'?"


def test_ones_own_user_and_group_need_no_rights(tmp_path: Path, slots: Slots) -> None:
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    found = compiled(tmp_path, f"tasks: {{a: {{command: id -u, user: {user}, group: {group}}}}}")
    assert found.problems == ()
    call = a_call("id -u; id -g", user=user, group=group)
    slots.run(call)
    assert slots.written(call).split() == [str(os.geteuid()).encode(), str(os.getegid()).encode()]


def test_a_call_does_not_quietly_run_with_more_rights_than_defaults_give(tmp_path: Path) -> None:
    if not IS_ROOT:
        pytest.skip("whoever is not root is told that only root can switch users")
    user = some_users(most=1)[0]
    text = f"defaults: {{user: {user}}}\ntasks:\n  a: {{call: x:y}}\n  b: {{call: x:y, user: null}}\n"
    found = compiled(tmp_path, text)
    assert [(each.code, each.line) for each in found.problems] == [("user-of-a-call", 3)]


# ---- whose jobs.yaml is believed (S5) --------------------------------------------------------------------

STRANGERS = 54321  # a group that is nobody's here
MODES: list[tuple[str, int, int, int, bool]] = [
    # file, its folder, the group of both, whether that is safe
    ("private", 0o600, 0o700, 0, True),
    ("read-only", 0o400, 0o500, 0, True),
    ("usual", 0o644, 0o755, 0, True),
    ("group reads", 0o640, 0o750, STRANGERS, True),
    ("everybody executes", 0o755, 0o755, 0, True),
    ("setgid folder", 0o644, 0o2755, STRANGERS, True),
    ("root's group writes", 0o664, 0o775, 0, True),
    ("sticky folder", 0o644, 0o1777, 0, True),
    ("sticky folder of a group", 0o644, 0o1775, STRANGERS, True),
    ("file of others", 0o666, 0o755, 0, False),
    ("file of others alone", 0o602, 0o755, 0, False),
    ("file that others write and execute", 0o703, 0o755, 0, False),
    ("everything open", 0o777, 0o777, 0, False),
    ("file of a group", 0o664, 0o755, STRANGERS, False),
    ("file of a group alone", 0o620, 0o755, STRANGERS, False),
    ("folder of others", 0o644, 0o777, 0, False),
    ("folder of others without reading", 0o644, 0o733, 0, False),
    ("folder of a group", 0o644, 0o775, STRANGERS, False),
    ("setgid folder of a group", 0o644, 0o2775, STRANGERS, False),
    ("file of others in a sticky folder", 0o666, 0o1777, 0, False),
]


@pytest.mark.parametrize(("name", "mode", "above", "group", "is_safe"), MODES, ids=[m[0] for m in MODES])
@pytest.mark.parametrize("euid", [0, 1000])
def test_who_else_can_write_the_file_decides(
    name: str,
    mode: int,
    above: int,
    group: int,
    is_safe: bool,
    euid: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if group and not IS_ROOT:
        pytest.skip("only root can give a file to another group")
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "jobs.yaml"
    file.write_text("tasks: {a: {command: date}}")
    for place, wanted in ((file, mode), (folder, above)):
        os.chown(place, -1, group if IS_ROOT else -1)
        place.chmod(wanted)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    found = compile_file(str(file), environ={})
    folder.chmod(0o700)
    severity = "error" if euid == 0 else "warning"
    expected = set() if is_safe else {(severity, "file-writable-by-others")}
    assert {(each.severity, each.code) for each in found.problems} == expected
    assert (found.plan is None) is (not is_safe and euid == 0)


def a_config_map(folder: Path) -> Path:
    """A ConfigMap as Kubernetes mounts it: links to a folder that is exchanged as a whole."""
    (folder / "..2026_11_23_12_00_00.1").mkdir(mode=0o755)
    (folder / "..2026_11_23_12_00_00.1/jobs.yaml").write_text("tasks: {a: {command: date}}")
    (folder / "..data").symlink_to("..2026_11_23_12_00_00.1")
    (folder / "jobs.yaml").symlink_to("..data/jobs.yaml")
    return folder / "jobs.yaml"


def test_the_links_of_a_config_map_are_followed(tmp_path: Path) -> None:
    assert compile_file(str(a_config_map(tmp_path)), environ={}).problems == ()


def test_an_open_folder_behind_the_links_is_not(tmp_path: Path) -> None:
    file = a_config_map(tmp_path)
    file.resolve().parent.chmod(0o777)
    assert codes(compile_file(str(file), environ={})) == ["file-writable-by-others"]


@as_root
def test_a_config_map_is_mounted_read_only_and_its_open_modes_do_no_harm(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mount], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        file = a_config_map(mount)
        mount.chmod(0o777)
        assert codes(compile_file(str(file), environ={})) == ["file-writable-by-others"]
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        assert stat.S_IMODE(mount.stat().st_mode) == 0o777
        assert compile_file(str(file), environ={}).problems == ()
    finally:
        subprocess.run(["umount", mount], check=True)
