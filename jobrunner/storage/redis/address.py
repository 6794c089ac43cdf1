"""What a `redis://`, `rediss://` or `unix://` URL says: which server, and which namespace in it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from ...errors import UsageError
from ...place import shown

SCHEMES = ("redis", "rediss", "unix")
NAMESPACE = "jobrunner"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_EXAMPLES = "write redis://HOST:6379/0, rediss://USER:PASSWORD@HOST, or unix:///run/redis.sock?db=0"


class Address(NamedTuple):
    """Where a storage lies."""

    server: str  # for the driver, the password included
    namespace: str
    url: str  # for people: without the password


def read(url: str) -> Address:
    """What the URL says. Raises UsageError."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - a number that is none is found here
    except ValueError as error:
        raise UsageError(f"got {shown(url)!r}: {error}", help=_EXAMPLES) from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    namespace = options.pop("namespace", NAMESPACE)
    if not _NAME.fullmatch(namespace):
        raise UsageError(
            f"got the namespace {namespace!r} in {shown(url)!r}",
            help="letters, digits, '_', '.' and '-', at most 100",
        )
    _demand_place(url, parts.scheme, parts.hostname, parts.path)
    query = f"?{urlencode(options)}" if options else ""
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path}{query}", namespace, shown(url))


def _demand_place(url: str, scheme: str, host: str | None, path: str) -> None:
    is_socket = scheme == "unix"
    database = path.strip("/")
    if scheme not in SCHEMES or (is_socket and not database) or (not is_socket and not host):
        raise UsageError(f"got {shown(url)!r}, expected the URL of a Redis server", help=_EXAMPLES)
    if not is_socket and database and not database.isdecimal():
        raise UsageError(
            f"got {shown(url)!r}: {database!r} is no number of a database",
            help=f"databases are numbers; a name goes to ?namespace={database}",
        )
