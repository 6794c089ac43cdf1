"""Delivers letters: a process of its own, so that no mail server, no webhook and no DNS holds up a run.

    python -m jobrunner.notify  < letters, a JSON array  > a JSON line for each, {"error": text or null}

It is killed when it takes too long. A line is written as soon as its letter is delivered.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO, TextIO

from ..durations import from_micros
from ..plain import from_plain
from .letters import COMMAND, MAIL, WEBHOOK, Letter, shown_to

if TYPE_CHECKING:
    from email.message import EmailMessage
    from smtplib import SMTP
    from ssl import SSLContext

PATIENCE = 20.0  # seconds for one answer of a server, and for a command
_LONGEST = 300  # characters of an error that is passed on


def main(letters_from: TextIO = sys.stdin, answers_to: TextIO = sys.stdout) -> int:
    """Deliver the letters on stdin; what does not answer is not asked again for the others."""
    silent: dict[tuple[str, ...], str] = {}
    for plain in json.load(letters_from):
        letter = from_plain(Letter, plain)
        place = _place(letter)
        error = silent.get(place)
        if error is None and (error := deliver(letter)) is not None and letter.channel != COMMAND:
            silent[place] = error
        said = None if error is None else f"{_named(letter)}: {error}"
        answers_to.write(json.dumps({"error": said}) + "\n")
        answers_to.flush()
    return 0


def _place(letter: Letter) -> tuple[str, ...]:
    if letter.channel == MAIL:
        return MAIL, letter.mail.host or "", str(letter.mail.port)
    return letter.channel, *letter.to


def deliver(letter: Letter) -> str | None:
    """Send one letter; what went wrong, in words without secrets, or None."""
    import smtplib

    try:
        DELIVERIES[letter.channel](letter)
    except subprocess.TimeoutExpired:
        return f"no end after {PATIENCE:g} s"
    except smtplib.SMTPException as error:
        return _cut(_smtp_words(error))
    except (OSError, ValueError) as error:
        return _cut(str(error))
    return None


def _smtp_words(error: Exception) -> str:
    code, text = getattr(error, "smtp_code", None), getattr(error, "smtp_error", None)
    if code is None:
        return str(error) or type(error).__name__
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}"


def _named(letter: Letter) -> str:
    """The channel, and the server it leads to."""
    if letter.channel == MAIL:
        return f"mail by {letter.mail.host or letter.mail.sendmail[0]}"
    return f"webhook {shown_to(letter)}" if letter.channel == WEBHOOK else COMMAND


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


# --- mail -----------------------------------------------------------------------------------------------


def _mail(letter: Letter) -> None:
    if letter.mail.host is None:
        _by_sendmail(letter)
    else:
        _by_smtp(letter)


def _message(letter: Letter) -> EmailMessage:
    from email.message import EmailMessage
    from email.policy import default
    from email.utils import format_datetime, make_msgid

    message = EmailMessage(policy=default.clone(cte_type="7bit"))  # not every server takes 8 bits
    message["From"] = letter.mail.sender or _own_address()
    message["To"] = ", ".join(letter.to)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(from_micros(letter.at))
    message["Message-ID"] = make_msgid(domain="jobrunner")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.body.encode("utf-8", "replace").decode())
    return message


def _own_address() -> str:
    import pwd
    import socket

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = "jobrunner"
    return f"{user}@{socket.gethostname()}"


def _by_sendmail(letter: Letter) -> None:
    mail = letter.mail
    sender = ["-f", mail.sender] if mail.sender else []
    _run([*mail.sendmail, "-i", *sender, "--", *letter.to], bytes(_message(letter)), env=os.environ)


def _by_smtp(letter: Letter) -> None:
    from smtplib import SMTP, SMTP_SSL

    mail = letter.mail
    assert mail.host is not None
    if mail.tls == "implicit":
        with SMTP_SSL(mail.host, mail.port, timeout=PATIENCE, context=_tls()) as server:
            _hand_over(server, letter)
        return
    with SMTP(mail.host, mail.port, timeout=PATIENCE) as server:
        if mail.tls == "starttls":
            server.starttls(context=_tls())
        _hand_over(server, letter)


def _hand_over(server: SMTP, letter: Letter) -> None:
    mail = letter.mail
    if mail.user is not None:
        server.login(mail.user, _password(mail.password_file))
    refused = server.send_message(_message(letter), to_addrs=letter.to)
    if refused:
        raise ValueError(f"refused for {', '.join(refused)}")


def _password(file: str | None) -> str:
    if file is None:
        return ""
    with open(file, encoding="utf-8") as stream:
        return stream.read().rstrip("\r\n")


def _tls() -> SSLContext:
    import ssl

    return ssl.create_default_context()


# --- webhook --------------------------------------------------------------------------------------------


def _webhook(letter: Letter) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, build_opener

    request = Request(  # noqa: S310 - the scheme was checked when the file was read
        letter.to[0],
        data=letter.document.encode(),
        headers={"Content-Type": "application/json", "User-Agent": "jobrunner"},
    )
    try:
        with build_opener(_stay()).open(request, timeout=PATIENCE) as answer:
            answer.read(4096)
    except HTTPError as error:
        with error:
            raise ValueError(f"{error.code} {error.reason}") from None
    except URLError as error:
        raise ValueError(str(error.reason)) from None
    except HTTPException as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _stay() -> type:
    """No redirection is followed: it would turn the POST into a GET, and perhaps leave the host."""
    from urllib.request import HTTPRedirectHandler

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    return Stay


# --- command --------------------------------------------------------------------------------------------


def _command(letter: Letter) -> None:
    line = f"{letter.document}\n"  # whoever reads lines, or appends to a file, gets one
    _run(list(letter.to), line.encode(), env=letter.env, cwd=letter.cwd)


def _run(argv: list[str], given: bytes, *, env: Mapping[str, str], cwd: str | None = None) -> None:
    """Run this in a session of its own. Raises ValueError with what it said, when it fails.

    Its end is its exit: files in memory take the place of pipes, which a child of it may hold open.
    """
    with _in_memory(given) as stdin, _in_memory(b"") as said:
        with subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        ) as process:
            try:
                process.wait(PATIENCE)
            finally:
                _end_group(process)
        said.seek(0)
        lines = said.read(1024 * 1024).decode(errors="replace").strip().splitlines()
    if process.returncode:
        raise ValueError(f"exit {process.returncode}" + (f": {lines[-1]}" if lines else ""))


def _in_memory(content: bytes) -> BinaryIO:
    file = os.fdopen(os.memfd_create("jobrunner"), "w+b", buffering=0)
    file.write(content)
    file.seek(0)
    return file


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


DELIVERIES: Mapping[str, Callable[[Letter], None]] = {MAIL: _mail, WEBHOOK: _webhook, COMMAND: _command}
