"""Values to text and back."""

from __future__ import annotations

import enum
import json
import sys
import types
import uuid
from collections import OrderedDict, namedtuple
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner import codec
from jobrunner.codec import decode, decode_arguments, encode, encode_arguments
from jobrunner.errors import PayloadError
from jobrunner.model import Failure


class Colour(enum.Enum):
    RED = "red"
    BOTH = (1, 2)


class Size(enum.IntEnum):
    LARGE = 3


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


def same(one: object, other: object) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset) and isinstance(other, set | frozenset):
        return {(type(each), each) for each in one} == {(type(each), each) for each in other}
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.utcoffset() == other.utcoffset()
    return one == other


zones = st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe"]).map(ZoneInfo)
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["$tuple", "$", "\\ud800", "\x00", "\U0001f600", "$dict"]),
    st.binary(),
    st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), zones, offsets)),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.sampled_from([*Colour, *Size, *Word, *Rights, Rights.READ | Rights.WRITE]),
)
hashable = st.recursive(
    scalars, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=5
)
values = st.recursive(
    st.one_of(scalars, hashable, st.sets(hashable, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashable, inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "$tuple", "$set", "$enum", "$x"]), inner, max_size=2),
    ),
    max_leaves=20,
)


@given(values)
def test_what_was_written_is_read_again(value: object) -> None:
    text = encode(value)
    assert text.isascii()
    assert "\n" not in text
    assert "\t" not in text
    assert same(decode(text), value)


@given(st.lists(values, max_size=3), st.dictionaries(st.text("ab$_", min_size=1), values, max_size=3))
def test_arguments_are_read_as_they_were_given(args: list[object], kwargs: dict[str, object]) -> None:
    payload = encode_arguments(args, kwargs)
    assert json.loads(payload).keys() == {"args", "kwargs"}
    assert same(decode_arguments(payload), (args, kwargs))


@given(st.text())
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    for read in (decode, decode_arguments):
        with suppress(PayloadError):
            read(text)


@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from([*codec._READERS, "$new", "a"]), inner, max_size=2),
        ),
        max_leaves=8,
    )
)
def test_no_tag_with_any_content_does_worse_than_being_refused(plain: object) -> None:
    with suppress(PayloadError):
        decode(json.dumps(plain))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ([1, "a"], '[1,"a"]'),
        ((1, 2), '{"$tuple":[1,2]}'),
        ({"b", "a"}, '{"$set":["a","b"]}'),
        ({1: 2}, '{"$dict":[[1,2]]}'),
        ({"$tuple": [1]}, '{"$dict":[["$tuple",[1]]]}'),
        ({"$a": 1, "b": 2}, '{"$a":1,"b":2}'),
        (b"\x00\xff", '{"$bytes":"AP8="}'),
        (datetime(2026, 1, 2, 3, 4, 5), '{"$datetime":"2026-01-02T03:04:05"}'),  # noqa: DTZ001
        (datetime(2026, 1, 2, tzinfo=UTC), '{"$datetime":"2026-01-02T00:00:00+00:00"}'),
        (
            datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Paris")),
            '{"$datetime":["2026-01-02T00:00:00","Europe/Paris",0]}',
        ),
        (date(2026, 1, 2), '{"$date":"2026-01-02"}'),
        (timedelta(seconds=-1), '{"$timedelta":-1000000}'),
        (Decimal("1.50"), '{"$decimal":"1.50"}'),
        (uuid.UUID(int=7), '{"$uuid":"00000000-0000-0000-0000-000000000007"}'),
        (Colour.RED, f'{{"$enum":["{__name__}:Colour","RED","red"]}}'),
    ],
)
def test_the_text_is_a_contract(value: object, text: str) -> None:
    assert encode(value) == text
    assert same(decode(text), value)


def test_sets_give_one_text_whatever_their_order() -> None:
    members = [f"member {number}" for number in range(50)]
    assert encode(set(members)) == encode({*members[25:], *members[:25]})


def _nested(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


def _cycle() -> object:
    value: dict[str, object] = {}
    value["again"] = [value]
    return value


Pair = namedtuple("Pair", "a b")


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: None, "result: a lambda cannot be stored"),
        ({"a": [1, 2, 3, lambda: None]}, 'result["a"][3]: a lambda cannot be stored'),
        ([_nested], "result[0]: the function _nested cannot be stored"),
        (object(), "result: an object cannot be stored"),
        ((1, {"x": time(1)}), 'result[1]["x"]: a datetime.time cannot be stored'),
        (Colour, "result: the class Colour cannot be stored"),
        (sys, "result: a module cannot be stored"),
        (float("nan"), "result: the float nan cannot be stored"),
        ({"x": [0.0, float("-inf")]}, 'result["x"][1]: the float -inf cannot be stored'),
        ({float("inf")}, "result[a member]: the float inf cannot be stored"),
        ([10**4300], "result[0]: an int of more than 4,300 digits cannot be stored"),
        ({"k": "\ud800"}, 'result["k"]: text with half a character (a lone surrogate) cannot be stored'),
        ({"\udfff": 1}, "result[a key]: text with half a character"),
        ({(1, object()): 2}, "result[a key][1]: an object cannot be stored"),
        (_nested(101), "nested more than 100 levels deep, or contains itself"),
        (_cycle(), "nested more than 100 levels deep, or contains itself"),
        ("x" * 2**20, "result of 1,048,578 bytes as JSON: at most 1,048,576 are stored"),
        (Pair(1, 2), "Pair cannot be stored"),
        (OrderedDict(a=1), "result: a collections.OrderedDict cannot be stored"),
        (Text("a"), "Text cannot be stored"),
        (bytearray(b"a"), "result: a bytearray cannot be stored"),
        (iter([]), "result: a list_iterator cannot be stored"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value: object, message: str) -> None:
    with pytest.raises(PayloadError) as refused:
        encode(value, what="result")
    assert message in refused.value.message


def test_what_just_fits_is_stored() -> None:
    assert decode(encode(_nested(100))) == _nested(100)
    assert decode(encode(10**4300 - 1)) == 10**4300 - 1
    assert decode(encode("x" * (2**20 - 2))) == "x" * (2**20 - 2)
    assert decode(encode("9" * 5000)) == "9" * 5000
    assert decode(encode("\\ud800 and \U0001f600")) == "\\ud800 and \U0001f600"


def test_arguments_that_cannot_be_stored_are_refused_with_their_place() -> None:
    with pytest.raises(PayloadError, match=r"^args\[1\]\[0\]: an object cannot be stored"):
        encode_arguments([1, [object()]], {})
    with pytest.raises(PayloadError, match=r'^kwargs\["width"\]: the float nan cannot be stored'):
        encode_arguments([], {"width": float("nan")})
    with pytest.raises(PayloadError, match="arguments of 101 bytes as JSON: at most 64"):
        encode_arguments(["x" * 76], {}, limit=64)
    with pytest.raises(PayloadError, match="name is a string"):
        encode_arguments([], {1: 2})  # type: ignore[dict-item]


def test_a_payload_error_is_a_type_error_at_the_caller() -> None:
    with pytest.raises(TypeError):
        encode_arguments([object()], {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[1] 2",
        "NaN",
        "[Infinity]",
        "[" * 100_000,
        '{"$tuple":' * 100_000,
        "1" * 5000,
        '{"$new":1}',
        '{"$tuple":1}',
        '{"$bytes":"?"}',
        '{"$datetime":["2026-01-01","Nowhere/Land",0]}',
        '{"$datetime":["2026-01-01","../../etc/passwd",0]}',
        '{"$datetime":5}',
        '{"$date":"soon"}',
        '{"$timedelta":1e400}',
        '{"$timedelta":100000000000000000000}',
        '{"$decimal":"one"}',
        '{"$uuid":"no"}',
        '{"$dict":[[[],1]]}',
        '{"$dict":[1]}',
        '{"$set":[[1]]}',
        '{"$enum":[1,2,3]}',
    ],
)
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(PayloadError):
        decode(text)


@pytest.mark.parametrize(
    "text", ["[]", "null", '{"args":[]}', '{"args":{},"kwargs":{}}', '{"args":[],"kwargs":[]}']
)
def test_what_is_no_payload_is_refused(text: str) -> None:
    with pytest.raises(PayloadError, match="damaged payload"):
        decode_arguments(text)


# security S2
@pytest.mark.parametrize(
    "path",
    [
        "antigravity:fly",
        f"{__name__}:Gone",
        f"{__name__}:Text",
        f"{__name__}:pytest.mark",
        "os:system",
        "os:path.join",
        "enum:Enum",
        ":",
        "",
        "builtins:type",
    ],
)
def test_an_enum_that_is_not_at_hand_is_its_plain_value(path: str) -> None:
    before = set(sys.modules)
    assert decode(json.dumps({"$enum": [path, "system", "plain"]})) == "plain"
    assert set(sys.modules) == before


def test_reading_an_enum_runs_no_code_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("trap")

    def spring(name: str) -> object:
        raise AssertionError(name)

    module.__getattr__ = spring  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "trap", module)
    assert decode('{"$enum":["trap:Door","OPEN",1]}') == 1


def test_a_member_that_is_gone_is_its_plain_value() -> None:
    assert decode(json.dumps({"$enum": [f"{__name__}:Colour", "BLUE", "blue"]})) == "blue"


def test_what_stands_for_a_member_that_failed_comes_back_as_a_failure() -> None:  # rule 35
    failure = Failure("resize", "r7", "failed", "exit 3", None)
    text = encode([failure])
    assert text.startswith('[{"$failure":{"task":"resize"')
    assert decode(text) == [failure]
    assert type(decode(text)[0]) is Failure  # type: ignore[index]


@pytest.mark.parametrize("content", ["1", "{}", '{"task":1}', '{"task":"a","x":"b"}'])
def test_a_damaged_failure_is_refused(content: str) -> None:
    with pytest.raises(PayloadError):
        decode(f'{{"$failure":{content}}}')
