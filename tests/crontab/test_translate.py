"""Lines to tasks: names, wrappers, users, zones, times that the two read differently."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner.crontabs.lift import lift
from jobrunner.crontabs.names import name_of
from jobrunner.crontabs.parse import Dialect
from jobrunner.crontabs.recognise import guess, recognise
from jobrunner.crontabs.translate import ImportedTask
from jobrunner.crontabs.write import write
from tests.crontab.imports import HOMES, compiled, imported, written


def task_of(text: str, **options: object) -> ImportedTask:
    (task,) = imported(f"{text}\n", **options).tasks
    return task


# ---- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/opt/app/backup.sh --full", "backup"),
        ("test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily )", "cron.daily"),
        ("flock -n /run/bk.lock timeout 1h /opt/app/backup.sh 2>&1 | logger -t backup", "backup"),
        ("cd /srv && venv/bin/python -m app.tasks.report >> /x.log 2>&1", "report"),
        ("/bin/bash -l -c 'cd ~/x && ruby restaurant_notifier.rb >> /v 2>&1'", "restaurant-notifier"),
        ("certbot renew -q", "certbot-renew"),
        ("find /var/tmp -mtime +7 -delete", "find-tmp"),
        ("curl -fsS https://example.org/ping?x=1", "curl-example.org"),
        ("FOO=1 nice -n 19 php /srv/shop/cron.php", "shop-cron"),
        ("sleep 30 && node /opt/monitor/server.js &", "server"),
        ("sudo -u ana /opt/x.py", "x"),
        ("echo hello", "echo-hello"),
        ("if [ -x /usr/bin/foo ]; then /usr/bin/foo; fi", "foo"),
        ('cd "$HOME" && ( flock -n 9 || exit 1; ./ingest ) 9>/tmp/l', "ingest"),
        ("((((", "command"),
    ],
)
def test_a_task_is_called_as_a_person_would_call_it(command: str, name: str) -> None:
    assert name_of(command) == name


def test_a_second_task_of_a_name_is_told_by_its_period_or_a_number() -> None:
    found = imported("@daily a.sh\n@hourly a.sh\n@hourly a.sh\n1 1 * * * a.sh\n")
    assert [task.name for task in found.tasks] == ["a", "a-hourly", "a-2", "a-3"]


# ---- wrappers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "left", "keys"),
    [
        ("timeout 90 x", "x", {"timeout": "90s"}),
        ("timeout -k 5s 1h x >/dev/null 2>&1", "x >/dev/null 2>&1", {"timeout": "1h", "kill_after": "5s"}),
        ("timeout --kill-after=5 2m x", "x", {"timeout": "2m", "kill_after": "5s"}),
        ("timeout -s KILL 1h x", "timeout -s KILL 1h x", {}),
        ("timeout 0 x", "timeout 0 x", {}),
        ("timeout 5 a && b", "timeout 5 a && b", {}),
        ("timeout 5 a | b", "timeout 5 a | b", {}),
        ("timeout 5 sh -c 'a && b'", "sh -c 'a && b'", {"timeout": "5s"}),
        ("nice -n 10 x", "x", {"nice": 10}),
        ("nice -5 x", "x", {"nice": 5}),
        ("nice x", "x", {"nice": 10}),
        ("chronic x y", "x y", {}),
        ("sleep $((RANDOM % 300)); x", "x", {"jitter": "5m"}),
        ("sleep $[RANDOM % 90] && x", "x", {"jitter": "90s"}),
        ("perl -e 'sleep int(rand(3600))' && x", "x", {"jitter": "1h"}),
        ("sleep 30; x", "sleep 30; x", {}),
        ("flock -w 5 f x", "flock -w 5 f x", {}),
        ("", "", {}),
    ],
)
def test_a_wrapper_becomes_a_key_where_one_says_the_same(
    command: str, left: str, keys: dict[str, object]
) -> None:
    found = lift(command)
    assert (found.command, found.keys) == (left, keys)


@pytest.mark.parametrize("options", ["-n", "--nonblock", "-xn", "-n -E 0", "-x --nb"])
def test_flock_that_never_waits_is_overlap(options: str) -> None:
    task = task_of(f"@daily flock {options} '/run/a b.lock' x.sh", lifting=True)
    assert (task.settings["command"], task.settings["overlap"]) == ("x.sh", "skip")


def test_a_lock_file_of_two_tasks_is_a_lock() -> None:
    found = imported("@daily flock -n /run/db.lock a\n@daily flock -n /run/db.lock b\n", lifting=True)
    assert [task.settings["lock"] for task in found.tasks] == [{"name": "db", "on_busy": "skip"}] * 2


@pytest.mark.parametrize(
    "other",
    [
        "flock -w 60 /run/db.lock b",
        "flock /run/db.lock b",
        "cd /srv && flock -n /run/db.lock b && c",
        "( flock -n 9 || exit 1; b ) 9>/run/db.lock",
        "flock -n /run/db.lock -c 'b' && c",
        "flock -n '/run/../run/db.lock' b || c",
        'flock -w 5 "$LOCK" b',
        "nice flock -w 5 ${LOCK} b",
        "flock -w 5 /var/run/db.lock b",
        "cd /run && rm -f /run/db.lock",
    ],
)
def test_a_lock_file_that_another_line_uses_in_its_own_way_stays(other: str) -> None:
    # or the two would no longer exclude each other
    lifted = "@daily nice flock -n /run/db.lock a\n@daily flock -n /run/db.lock d\n"
    text = f"LOCK=/run/db.lock\n{lifted}@daily {other}\n"
    found = imported(text, lifting=True)
    settings = [task.settings for task in found.tasks]
    assert [each["command"] for each in settings[:2]] == [
        "flock -n /run/db.lock a",
        "flock -n /run/db.lock d",
    ]
    assert settings[0]["nice"] == 10
    assert not any("lock" in each for each in settings)
    assert {each.get("overlap") for each in settings} <= {None, "allow"}
    why = "'flock' stays in the command: line 4 uses /run/db.lock in a way that no key has"
    assert [any(why in note for note in report.notes) for report in found.reports if report.task][:2] == [
        True
    ] * 2


def test_a_lock_file_is_the_same_by_whatever_name() -> None:
    text = (
        "LOCK=/run/db.lock\n@daily flock -n $LOCK a\n@daily flock -n /var/run/db.lock b\n"
        "LOCK=other\n@daily flock -n ${LOCK} c\n"
    )
    found = imported(text, lifting=True)
    assert [task.settings.get("lock") for task in found.tasks] == [{"name": "db", "on_busy": "skip"}] * 2 + [
        None
    ]
    assert found.tasks[2].settings["overlap"] == "skip"


def test_a_lock_file_that_only_a_shell_knows_stays() -> None:
    found = imported("@daily flock -n /tmp/x.$(hostname) a\n", lifting=True)
    assert found.tasks[0].settings["command"] == "flock -n /tmp/x.$(hostname) a"
    assert any("only a shell can tell" in note for note in found.reports[0].notes)


def test_a_lock_inside_another_that_stays_stays_too() -> None:
    # the second file is found only once the first wrapper is kept
    text = "@daily flock -n /run/a flock -n /run/b x\n@daily flock -n /run/b y\n@daily flock -w 9 /run/a z\n"
    found = imported(text, lifting=True)
    assert [task.settings["command"] for task in found.tasks] == [
        "flock -n /run/a flock -n /run/b x",
        "flock -n /run/b y",
        "flock -w 9 /run/a z",
    ]


@pytest.mark.parametrize(
    "command",
    ["FOO=1 flock -n /run/f x", "/usr/bin/env flock -n /run/f x", "( flock -n 9 || exit 1; x ) 9>/run/f"],
)
def test_a_wrapper_behind_something_else_is_reported_too(command: str) -> None:
    found = imported(f"@daily {command}\n", lifting=True)
    assert "'flock' stays in the command: no key says the same" in found.reports[0].notes


def test_an_address_that_is_a_variable_is_none() -> None:
    # cron does not expand it, and jobs.yaml would
    found = imported("MAILTO=${FOO}\n@daily x\n")
    assert "notify" not in found.tasks[0].settings
    assert any("no address" in note for note in found.reports[0].notes)


def test_without_lift_nothing_is_lifted() -> None:
    assert task_of("@daily timeout 5 x").settings["command"] == "timeout 5 x"


# ---- times -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "schedule", "enabled"),
    [
        ("@weekly", "weekly", True),
        ("@reboot", "reboot", True),
        ("*/90 * * * *", "*/60 * * * *", True),
        ("* */30 * * *", "* */24 * * *", True),
        ("1,* 0 * * *", "0-59 0 * * *", True),
        ("0 9 * * 5#2", "0 9 * * 5", True),
        ("0 22-2 * * *", "0 22-2 * * *", False),
        ("0 0 * * sat-sun", "0 0 * * sat-sun", False),
        ("5/15 * * * *", "5/15 * * * *", False),
        ("@Daily", "daily", False),
    ],
)
def test_a_time_means_what_cron_makes_of_it(when: str, schedule: str, enabled: bool) -> None:
    task = task_of(f"{when} x")
    assert (task.settings["schedule"], task.is_enabled) == (schedule, enabled)


def test_a_random_minute_of_cronie_is_a_stable_one() -> None:
    assert task_of("0~30 3 * * * x", dialect=Dialect.CRONIE).settings["schedule"] == "H(0-30) 3 * * *"


def test_a_zone_moves_the_schedules_of_cronie_alone() -> None:
    text = "CRON_TZ=Asia/Tokyo\n@daily x"
    assert task_of(text, dialect=Dialect.CRONIE).zone == "Asia/Tokyo"
    assert task_of(text).zone is None
    assert "Debian's cron only hands CRON_TZ" in imported(text).reports[0].notes[0]


# ---- users, mail -----------------------------------------------------------------------------------------


def test_a_task_of_another_user_waits_until_it_can_be_that_user() -> None:
    line = "@daily www-data x"
    assert not task_of(line, system=True).is_enabled
    task = task_of(line, system=True, may_switch=True)
    assert (task.is_enabled, task.settings["user"]) == (True, "www-data")
    assert (task.env["HOME"], task.env["LOGNAME"]) == ("/var/www", "www-data")


def test_an_unknown_user_is_never_written() -> None:
    task = task_of("@daily ghost x", system=True, may_switch=True)
    assert (task.is_enabled, "user" in task.settings) == (False, False)


def test_one_s_own_tasks_in_a_system_crontab_are_enabled() -> None:
    assert task_of("@daily ana x", system=True).is_enabled


def test_mailto_is_a_notification() -> None:
    text = "MAILTO=a@example.org,b@example.org\n@daily x"
    notify = task_of(text).settings["notify"]
    assert notify == {"on": ["failure", "recovery"], "mail": ["a@example.org", "b@example.org"]}
    assert imported(text).reports[0].notes[0].startswith("becomes notify: mail to a@example.org, b@")


def test_what_is_no_address_is_told_and_not_written() -> None:
    text = "MAILTO=-oQ/tmp\n@daily x"
    assert "notify" not in task_of(text).settings
    assert imported(text).reports[0].notes[0].startswith("no address that mail can be sent to: -oQ/tmp")


# ---- what a path and a text tell -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "system", "user", "notes"),
    [
        ("/etc/crontab", True, None, 0),
        ("/etc/cron.d/php", True, None, 0),
        ("/etc/cron.d/php.sh", True, None, 1),
        ("/var/spool/cron/crontabs/ana", False, "ana", 0),
        ("/var/spool/cron/ana", False, "ana", 0),
        ("/home/ana/crontab", False, None, 0),
    ],
)
def test_a_path_tells_whose_it_is(path: str, system: bool, user: str | None, notes: int) -> None:
    found = recognise(path)
    assert (found.system, found.user, len(found.notes)) == (system, user, notes)


@pytest.mark.parametrize(
    ("text", "system", "notes"),
    [
        ("@daily root x\n@daily ana y\n", True, 1),
        ("@daily root x\n@daily /bin/y z\n", False, 1),
        ("@daily www-data x\n", False, 1),
        ("@daily backup x\n", False, 0),
        ("@daily root\n", False, 1),
        ("", False, 0),
    ],
)
def test_a_user_column_is_guessed_when_root_stands_in_it(text: str, system: bool, notes: int) -> None:
    found = guess(text, HOMES.__contains__)
    assert (found.system, len(found.notes)) == (system, notes)


# ---- any text --------------------------------------------------------------------------------------------

_WORDS = (
    "*",
    "*/5",
    "0",
    "@daily",
    "@reboot",
    "@",
    "1,",
    "22-2",
    "MAILTO",
    "=",
    "%",
    "\\",
    "\\%",
    "#",
    "root",
    "x",
)
_ODD = (
    "\r",
    "'",
    '"',
    "flock -n f",
    "timeout 5",
    "-c",
    "A=b",
    "${X}",
    "$$",
    ": ",
    " #",
    "\t",
    "é",
    "😀",
    "\x00",
    "&&",
)
_WORD = st.sampled_from((*_WORDS, *_ODD, " ", "\n"))
_TEXTS = st.one_of(st.text(), st.lists(_WORD).map("".join))


@given(text=_TEXTS, system=st.booleans(), lifting=st.booleans(), dialect=st.sampled_from(Dialect))
@settings(max_examples=300, deadline=None)
def test_no_text_is_too_odd(text: str, system: bool, lifting: bool, dialect: Dialect) -> None:
    found = imported(text, system=system, lifting=lifting, dialect=dialect)
    assert write(found)


@given(
    command=st.text(min_size=1).filter(lambda text: "\n" not in text and "%" not in text),
    value=st.text().filter(lambda text: "\n" not in text),
)
@settings(max_examples=60, deadline=None)
def test_any_command_arrives_as_it_was(
    command: str, value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = imported(f'V="{value}"\n1 2 3 4 5 {command}\n6 5 4 3 2 cat%{value}\n')
    made = compiled(write(found), tmp_path_factory.mktemp("any"))
    assert made.plan is not None, made.rendered
    for task in found.tasks:
        read = made.plan.tasks[task.name]
        assert (read.command, read.stdin) == (task.settings["command"], task.settings.get("stdin"))
        assert dict(read.env) == dict(task.env)


def test_a_file_of_nothing_but_comments_is_valid(tmp_path: Path) -> None:
    made = compiled(written("# one\n\n# two\tand\x07three\n"), tmp_path)
    assert made.plan is not None
    assert made.plan.tasks == {}
