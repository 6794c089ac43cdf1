"""Who is told of what, and how mail leaves the machine: `notify` of a task, and `mail` of the file."""

from __future__ import annotations

import ipaddress
import shlex
import shutil
from collections.abc import Mapping
from typing import Any, Final, Protocol

from ..plan import Mail, Notify, Occasion, Plan
from .draft import absolute
from .problems import Findings, Place
from .schema import MailModel, NotifyModel
from .sources import Part

_PORT: Final = 25
_TLS: Final = {587: "starttls", 465: "implicit"}


class Asking(Protocol):
    """The draft of a task or of a pipeline."""

    def get(self, key: str) -> Any: ...
    def place(self, key: str) -> Place: ...


def notify_of(draft: Asking, findings: Findings) -> Notify | None:
    """The `notify` of a task or a pipeline; without a channel nobody would be told, which is an error."""
    model: NotifyModel | None = draft.get("notify")
    if model is None:
        return None
    if not (model.mail or model.webhook or model.command):
        message = "notify: no channel is given, expected one or more of mail, webhook, command"
        findings.error(draft.place("notify"), "missing-key", message, hint="mail: ops@example.com")
    given: dict[str, Any] = {} if model.on is None else {"on": tuple(map(Occasion, dict.fromkeys(model.on)))}
    if isinstance(model.command, list):
        given["command"] = tuple(model.command)
    elif model.command is not None:
        given["command"] = model.command
    return Notify(mail=tuple(model.mail or ()), webhook=model.webhook, **given)


def mail_of(part: Part, model: MailModel | None, findings: Findings) -> Mail:
    """The file's `mail`."""
    if model is None:
        return Mail()
    _check_login(part, model, findings)
    given: dict[str, Any] = {"sender": model.sender, "user": model.user}
    if model.sendmail is not None:
        given["sendmail"] = tuple(shlex.split(model.sendmail))
    if model.password_file is not None:
        given["password_file"] = absolute(model.password_file, part.folder)
    if model.smtp is not None:
        host, port = _host_and_port(model.smtp)
        given |= {"host": host, "port": port, "tls": model.tls or _TLS.get(port, "none")}
    return Mail(**given)


def _host_and_port(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    if not colon or server.endswith("]"):
        return server.strip("[]"), _PORT
    return host.strip("[]"), int(port)


def _check_login(part: Part, model: MailModel, findings: Findings) -> None:
    """A login that lacks a half, or that would go over the wire for all to read."""
    place = part.document.place
    if model.smtp is None:
        for key in ("tls", "user", "password_file"):
            if getattr(model, key) is not None:
                message = f"{key!r} is for smtp, and mail goes by sendmail"
                findings.error(place(["mail", key], key=True), "key-does-not-fit", message, hint="smtp: HOST")
        return
    if (model.user is None) != (model.password_file is None):
        given, missing = ("user", "password_file") if model.user else ("password_file", "user")
        message = f"mail: got {given!r}, expected {missing!r} beside it"
        findings.error(place(["mail", given], key=True), "missing-key", message)
    host, port = _host_and_port(model.smtp)
    if model.user is not None and (model.tls or _TLS.get(port)) in (None, "none") and not _is_here(host):
        message = "mail: the password would go to another machine without encryption"
        findings.error(place(["mail", "user"], key=True), "not-encrypted", message, hint="tls: starttls")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_sendmail(plan: Plan, findings: Findings, drafts: Mapping[str, Asking]) -> None:
    """Warns of a sendmail that is not there, at the first task or pipeline that needs it."""
    program = plan.mail.sendmail[0]
    if plan.mail.host is not None or shutil.which(program) is not None:
        return
    tasks = {name: task.notify for name, task in plan.tasks.items()}
    asking = tasks | {name: pipeline.notify for name, pipeline in plan.pipelines.items()}
    needs = next((name for name, notify in asking.items() if notify is not None and notify.mail), None)
    if needs is not None:
        message = f"mail goes by {program}, which is not there"
        hint = "install a mail transport (msmtp-mta, postfix), or write mail: {smtp: HOST}"
        findings.warning(drafts[needs].place("notify"), "no-sendmail", message, hint=hint)
