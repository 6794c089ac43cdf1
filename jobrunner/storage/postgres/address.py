"""What a `postgresql://` URL says: whom to connect to, in which schema the tables lie, and how."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from ...errors import UsageError
from ...place import shown

SCHEMES = ("postgresql", "postgres")
NAMESPACE = "jobrunner"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,49}", re.ASCII)
_EXAMPLE = "postgresql://USER@HOST/DATABASE?namespace=NAME"


class Address(NamedTuple):
    """Where a storage lies."""

    conninfo: str  # for libpq, the password included
    namespace: str  # the schema
    notify: bool  # False: behind a pooler that gives each transaction another session
    url: str  # for people: without the password

    @property
    def schema(self) -> str:
        """The namespace as a name in a statement: quoted, for it may be a word of SQL (`user`, `order`)."""
        return f'"{self.namespace}"'


def read(url: str) -> Address:
    """Raises UsageError for what cannot be a PostgreSQL storage."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - a property that raises
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        if "Port" not in str(error) or "," not in url:  # libpq takes several hosts, each with its port
            raise UsageError(f"{shown(url)!r} is no URL: {error}", help=_example()) from None
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
        raise UsageError(f"{shown(url)!r} names no PostgreSQL database", help=_example())
    namespace = _namespace(options.pop("namespace", NAMESPACE))
    notify = _notify(options.pop("notify", "true"))
    query = urlencode(options, quote_via=quote)
    conninfo = url.partition("?")[0] + (f"?{query}" if query else "")
    return Address(conninfo, namespace, notify, shown(url))


def _example() -> str:
    return f"write {_EXAMPLE}"


def _namespace(given: str) -> str:
    if not _NAME.fullmatch(given) or given.startswith("pg_") or given == "public":
        raise UsageError(
            f"{given!r} cannot be a namespace",
            help="small letters, digits and '_', at most 50, the first no digit;"
            " not 'public', and nothing that begins with 'pg_'",
        )
    return given


def _notify(given: str) -> bool:
    if given not in ("true", "false"):
        raise UsageError(f"notify={given!r}", help="write notify=true or notify=false")
    return given == "true"
