"""Secrets in what is kept and shown: each value gives way to `***`, in texts and in streams of bytes.

A value is found as it is, and as JSON and Python write it inside quotes. What a program has encoded otherwise
(base64, reversed, in pieces on several lines) is not recognised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Final

from .model import Ended

MARK: Final = "***"
SHORTEST: Final = 6  # characters: what is shorter stands in every text by chance
_LINE: Final = 16  # characters of a line of a longer secret (a key) that is recognised by itself


class Redactor:
    """Knows some secrets."""

    def __init__(self, secrets: Collection[str]) -> None:
        texts = sorted({each for secret in secrets for each in _forms(secret)}, key=len, reverse=True)
        self.secrets = tuple(each.encode("utf-8", "surrogateescape") for each in texts)
        self._text = re.compile("|".join(map(re.escape, texts))) if texts else None
        self._bytes = re.compile(b"|".join(map(re.escape, self.secrets))) if texts else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        return text if self._text is None else self._text.sub(MARK, text)

    def bytes(self, content: bytes) -> bytes:
        """The bytes without secrets."""
        return content if self._bytes is None else self._bytes.sub(MARK.encode(), content)

    def value(self, value: object) -> object:
        """Plain data without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list | tuple) else value


class RedactedStream:
    """Bytes that come in pieces: what may be the beginning of a secret is held back until more is known."""

    __slots__ = ("_held", "_redactor")

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """What may be passed on now."""
        if not self._redactor.secrets:
            return piece
        clean = self._redactor.bytes(self._held + piece)
        cut = len(clean) - self._beginning(clean)
        self._held = clean[cut:]
        return clean[:cut]

    def rest(self) -> bytes:
        """What was held back: the stream is over, and it was no secret."""
        held, self._held = self._held, b""
        return held

    def _beginning(self, content: bytes) -> int:
        """How many bytes at the end may be the beginning of a secret."""
        return max((_overlap(content, secret) for secret in self._redactor.secrets), default=0)


def _overlap(content: bytes, secret: bytes) -> int:
    """The length of the longest end of `content` with which `secret` begins."""
    at = content.find(secret[:1], max(0, len(content) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(content[at:]):
            return len(content) - at
        at = content.find(secret[:1], at + 1)
    return 0


def _forms(secret: str) -> Iterator[str]:
    """The ways in which a secret may be written."""
    lines = [line for line in secret.splitlines() if len(line) >= _LINE] if "\n" in secret else []
    for text in (secret, secret.strip(), *lines):
        if len(text) >= SHORTEST:
            yield text
            yield json.dumps(text)[1:-1]
            yield json.dumps(text, ensure_ascii=False)[1:-1]
            yield repr(text)[1:-1]


@lru_cache(maxsize=256)
def redactor_of(secrets: tuple[str, ...]) -> Redactor:
    """The redactor for these secrets, made once."""
    return Redactor(secrets)


def redacted(ended: Ended, secrets: tuple[str, ...]) -> Ended:
    """The end of an attempt without the secrets that its task was given."""
    redactor = redactor_of(secrets)
    error = None if ended.error is None else redactor.text(ended.error)
    return ended._replace(error=error, result=_result(ended.result, redactor))


def _result(encoded: str | None, redactor: Redactor) -> str | None:
    """An encoded result; where a secret is no part of a text (a number), the whole result gives way."""
    if encoded is None or (clean := redactor.text(encoded)) == encoded:
        return encoded
    try:
        json.loads(clean)
    except ValueError:
        return json.dumps(MARK)
    return clean
