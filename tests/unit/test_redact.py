"""Secrets give way to a mark, wherever a stream is cut and however they are written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.model import Ended, Ending
from jobrunner.redact import MARK, RedactedStream, Redactor, redacted

SECRET = "open sesame"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nZm9vYmFyYmF6cXV4\n-----END KEY-----\n"


def streamed(redactor: Redactor, pieces: list[bytes]) -> bytes:
    stream = RedactedStream(redactor)
    return b"".join(map(stream.feed, pieces)) + stream.rest()


@pytest.mark.parametrize(
    ("secret", "text", "clean"),
    [
        (SECRET, "say open sesame twice: open sesame", "say *** twice: ***"),
        ('a"b\\c-d', 'raw a"b\\c-d', "raw ***"),
        ('a"b\\c-d', json.dumps({"p": 'a"b\\c-d'}), '{"p": "***"}'),
        ("señor-ñandú", json.dumps("señor-ñandú"), '"***"'),
        ("it's so", repr("it's so\n"), '"***\\n"'),
        (KEY, "second line: Zm9vYmFyYmF6cXV4", "second line: ***"),
        ("short", "too short to be told from text", "too short to be told from text"),
        ("secret\n", "a secret of a file with a newline", "a *** of a file with a newline"),
    ],
)
def test_a_secret_is_found_as_it_is_written(secret: str, text: str, clean: str) -> None:
    assert Redactor([secret]).text(text) == clean


def test_without_secrets_nothing_is_touched() -> None:
    assert Redactor([]).text(SECRET) == SECRET
    assert streamed(Redactor([]), [b"open ", b"sesame"]) == b"open sesame"


def test_the_longer_of_two_secrets_wins() -> None:
    assert Redactor(["password", "password-2"]).text("password-2") == MARK


@given(
    st.lists(st.sampled_from(["open ", "sesame", "open sesame", "o", "ope", "x", "\n", "opopen sesame"])),
    st.data(),
)
def test_a_stream_is_the_same_wherever_it_is_cut(words: list[str], data: st.DataObject) -> None:
    whole = "".join(words).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    redactor = Redactor([SECRET])
    assert streamed(redactor, pieces) == redactor.bytes(whole)


def test_what_cannot_be_a_secret_is_passed_on_at_once() -> None:
    stream = RedactedStream(Redactor([SECRET]))
    assert stream.feed(b"Password: ") == b"Password: "
    assert stream.feed(b"ope") == b""
    assert stream.feed(b"ra") == b"opera"


def test_a_result_stays_readable() -> None:
    ended = Ended(Ending.OK, result='{"pin":12345678,"user":"ana"}', error="no 12345678")
    assert redacted(ended, ("12345678",)) == ended._replace(result='"***"', error="no ***")
    ended = Ended(Ending.OK, result='{"pin":"12345678"}')
    assert redacted(ended, ("12345678",)).result == '{"pin":"***"}'
