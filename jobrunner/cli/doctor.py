"""`jobrunner doctor`: the health of everything around the tasks, each finding with its next step."""

from __future__ import annotations

from typing import Final

import click

from jobrunner.errors import ConfigError

from .command import command
from .session import Session
from .symptoms import Finding, Verdict, examine_all
from .words import one_line, plural

COLOURS: Final = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
SYMBOLS: Final = {Verdict.OK: "✓", Verdict.WARN: "!", Verdict.FAIL: "✗"}


@command("doctor")
@click.pass_obj
def doctor_command(session: Session) -> int:
    """Look at the file, its storage, versions, clock, zones, programs, permissions and the service.

    Exit code 1: something fails. 5: the file is invalid.
    """
    findings = list(examine_all(session))
    if session.json:
        session.screen().json(_document(findings))
    else:
        _write(session, findings)
    if any(each.verdict is Verdict.FAIL and each.check == "file" for each in findings):
        return ConfigError.exit_code
    return 1 if _worst(findings) is Verdict.FAIL else 0


def _worst(findings: list[Finding]) -> Verdict:
    return max((each.verdict for each in findings), default=Verdict.OK)


def _document(findings: list[Finding]) -> dict[str, object]:
    return {
        "verdict": _worst(findings).name.lower(),
        "checks": [
            {
                "check": each.check,
                "verdict": each.verdict.name.lower(),
                "message": each.words,
                "help": each.help,
            }
            for each in findings
        ],
    }


def _write(session: Session, findings: list[Finding]) -> None:
    screen = session.screen()
    for each in findings:
        word = screen.paint(f"{SYMBOLS[each.verdict]} {each.verdict.name.lower():4}", COLOURS[each.verdict])
        screen.line(f"{word}  {each.check:12}{one_line(each.words)}")
        if each.help:
            screen.line(f"        {'':12}= help: {one_line(each.help)}")
    fails = sum(each.verdict is Verdict.FAIL for each in findings)
    warns = sum(each.verdict is Verdict.WARN for each in findings)
    screen.line(f"{plural(fails, 'failure')}, {plural(warns, 'warning')}")
