"""Servers on the loopback that take notifications, as real ones do: SMTP and HTTP."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, TypeVar

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

T = TypeVar("T")
PATIENCE = 60.0  # seconds
HERE = "127.0.0.1"


@dataclass
class Received(Generic[T]):
    """What has arrived; tests wait for it."""

    items: list[T] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def put(self, item: T) -> None:
        with self._news:
            self.items.append(item)
            self._news.notify_all()

    def wait(self, count: int = 1) -> list[T]:
        """The first ones, once so many have arrived."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.items) >= count, PATIENCE)
        assert came, f"{len(self.items)} of {count} arrived: {self.items}"
        return self.items[:count]


@dataclass
class MailServer:
    """An SMTP server; `logins` are the user names that gave the right password."""

    port: int = 0
    implicit: bool = False
    mails: Received[EmailMessage] = field(default_factory=Received)
    logins: list[str] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        self.encrypted.append(self.implicit or session.ssl is not None)
        self.mails.put(message_from_bytes(content, policy=policy.default))
        return "250 taken"

    def authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: Any
    ) -> Any:
        assert isinstance(data, LoginPassword)
        right = data.password == b"open sesame"
        if right:
            self.logins.append(data.login.decode())
        return AuthResult(success=right)


@contextmanager
def mail_server(
    *, tls: ssl.SSLContext | None = None, implicit: bool = False, login: bool = False
) -> Iterator[MailServer]:
    """A mail server for the length of a block."""
    made = MailServer(implicit=implicit)

    def protocol() -> SMTP:
        return SMTP(
            made,
            authenticator=made.authenticate if login else None,
            auth_required=login and not implicit,
            auth_require_tls=login and not implicit,  # it sees only what STARTTLS encrypts
            tls_context=None if implicit else tls,
            require_starttls=tls is not None and not implicit,
            loop=loop,
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = loop.create_server(protocol, HERE, 0, ssl=tls if implicit else None)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(PATIENCE)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@dataclass
class Hook:
    """An HTTP server that takes documents by POST."""

    url: str = ""
    documents: Received[dict[str, Any]] = field(default_factory=Received)


@contextmanager
def hook(answer: Callable[[], int] = lambda: 200) -> Iterator[Hook]:
    """A webhook for the length of a block; `answer` gives the status for each document."""
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            made.documents.put(json.loads(body))
            status = answer()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", made.url)
            self.end_headers()

        def do_GET(self) -> None:
            made.documents.put({"text": "a GET, which nobody may send"})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer((HERE, 0), Handler)
    made.url = f"http://{HERE}:{server.server_address[1]}/secret-path"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
