"""Values come back exactly as they were stored, or the task that made them fails."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import math
import os
import pathlib
import threading
import uuid
import zoneinfo
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liteflow.errors import PayloadError, StoreError
from liteflow.values.payload import SPILL_BYTES, Payload, decode, encode, payload_from_row, spill_dir


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    pass


class Thing:
    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is Thing and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Hostile:
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class HostileBase:
    def __reduce__(self) -> Any:
        return (_explode, ())


def _explode() -> None:
    raise ZeroDivisionError("while loading")


def same(first: object, second: object) -> bool:
    """Equal, of equal types, all the way down; NaN is itself and -0.0 is not 0.0."""
    if type(first) is not type(second):
        return False
    if isinstance(first, float) and isinstance(second, float):
        return (math.isnan(first) and math.isnan(second)) or (
            first == second and math.copysign(1, first) == math.copysign(1, second)
        )
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return same(list(first.items()), list(second.items()))  # with its order
    if isinstance(first, decimal.Decimal) and isinstance(second, decimal.Decimal):
        return first.as_tuple() == second.as_tuple()
    return bool(first == second)


anytext = st.text(st.characters(codec=None, exclude_categories=[]), max_size=20)  # lone surrogates too
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | anytext,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(anytext, inner, max_size=4),
    max_leaves=12,
)
offsets = st.integers(-1439, 1439).map(lambda minutes: datetime.timedelta(minutes=minutes))
zones = st.none() | st.builds(datetime.timezone, offsets) | st.builds(datetime.timezone, offsets, anytext)
hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | anytext
    | st.binary(max_size=10)
    | st.datetimes(timezones=zones).map(lambda entry: entry.replace(fold=0))
    | st.dates()
    | st.times().map(lambda entry: entry.replace(fold=0))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.builds(pathlib.PurePosixPath, st.sampled_from(["", "/", "a/b", "../c", "ü ä"]))
    | st.builds(pathlib.Path, st.sampled_from(["a", "/tmp/x y"])),
    lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashables | st.floats() | st.binary(max_size=5).map(bytearray) | st.sets(hashables, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(hashables, inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$type", "value", "a"]), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=10,
)


@given(json_values)
def test_json_comes_back_and_is_plain_json(value: object) -> None:
    payload = encode(value)
    assert same(decode(payload), value)
    if payload.encoding == "json":  # anything with the key "$type" is tagged
        assert isinstance(payload.data, str)
        assert same(json.loads(payload.data), value)
        payload.data.encode()  # SQLite stores UTF-8
        assert payload.size == len(payload.data.encode())


@given(
    st.datetimes(timezones=zones) | st.times().flatmap(lambda entry: zones.map(lambda zone: entry.replace(tzinfo=zone)))
)
def test_a_fixed_offset_keeps_its_name(value: datetime.datetime | datetime.time) -> None:
    value = value.replace(fold=0)
    payload = encode(value)
    back = decode(payload)
    assert (back, back.tzname(), back.utcoffset()) == (value, value.tzname(), value.utcoffset())
    assert payload.encoding == "tagged"


@given(values)
def test_tagged_types_come_back_exactly(value: object) -> None:
    payload = encode(value)
    assert same(decode(payload), value)
    assert payload.encoding != "pickle"
    assert payload.file is None


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (None, "json"),
        (True, "json"),
        (1, "json"),
        (2**63, "json"),
        (-(2**200), "json"),
        (0.1, "json"),
        (-0.0, "json"),
        ("ünï", "json"),
        ("\ud800 lone", "json"),
        ("a\x00b", "json"),
        ([1, {"a": [None]}], "json"),
        (float("nan"), "tagged"),
        (float("inf"), "tagged"),
        ([1.5, float("-inf")], "tagged"),
        ({"$type": "tuple", "value": [1]}, "tagged"),  # the user's own dict, not ours
        ({"$type": "no such", "value": 1}, "tagged"),
        ({1: "a", "1": "b"}, "tagged"),  # JSON would make the keys one
        ({None: 1, True: 2, (1, 2): 3}, "tagged"),
        ((), "tagged"),
        (set(), "tagged"),
        (decimal.Decimal("1.10"), "tagged"),
        (decimal.Decimal("sNaN"), "tagged"),
        (Point(1, 2), "pickle"),
        (Text("x"), "pickle"),
        (collections.OrderedDict(a=1), "pickle"),
        (Thing([1]), "pickle"),
        pytest.param(10**5000, "pickle", id="an int that Python refuses to print"),
        (datetime.datetime(2026, 10, 25, 2, 30, fold=1), "pickle"),
        (datetime.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), "pickle"),
        (datetime.datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=datetime.UTC), "tagged"),
        (uuid.UUID(int=7), "tagged"),
        (ValueError, "pickle"),
        (range(3), "pickle"),
    ],
)
def test_encodings(value: object, encoding: str) -> None:
    payload = encode(value)
    assert payload.encoding == encoding
    back = decode(payload)
    assert same(back, value)
    if isinstance(value, datetime.datetime):
        assert isinstance(back, datetime.datetime)
        assert (back.fold, repr(back.tzinfo)) == (value.fold, repr(value.tzinfo))


def nested(kind: str, depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else (value,) if kind == "tuple" else {"a": value}
    return value


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
@pytest.mark.parametrize("depth", [50, 450, 499, 500, 501, 600])
def test_deep_values_come_back_or_are_refused(kind: str, depth: int) -> None:
    """What `encode` accepts, `decode` must be able to read back."""
    value = nested(kind, depth)
    try:
        payload = encode(value)
    except PayloadError:
        assert depth > 200
        return
    assert decode(payload) == value


def test_bottomless_values_are_refused_not_fatal() -> None:
    with pytest.raises(PayloadError, match="RecursionError"):
        encode(nested("list", 100_000))


def test_a_list_that_holds_itself_comes_back_or_is_refused() -> None:
    value: list[Any] = [1]
    value.append(value)
    back = decode(encode(value))
    assert back[1] is back


@pytest.mark.parametrize("value", [threading.Lock(), lambda: None, Hostile(), (1, Hostile())], ids=list("abcd"))
def test_what_cannot_be_stored_is_refused_with_advice(value: object) -> None:
    with pytest.raises(PayloadError, match=r"cannot be stored .*; return data"):
        encode(value)


def test_a_pickle_that_explodes_is_a_payload_error() -> None:
    with pytest.raises(PayloadError, match="ZeroDivisionError"):
        decode(encode(HostileBase()))


@pytest.mark.parametrize(
    "payload",
    [
        Payload("json", "{", 1),
        Payload("json", '"a', 2),
        Payload("tagged", '{"$type":"martian","value":1}', 1),
        Payload("tagged", '{"$type":["list"],"value":1}', 1),
        Payload("tagged", '{"$type":"tuple"}', 1),
        Payload("tagged", '{"$type":"datetime","value":"never"}', 1),
        Payload("tagged", '{"$type":"Decimal","value":"x"}', 1),
        Payload("tagged", '{"$type":"set","value":[{"$type":"set","value":[]}]}', 1),
        Payload("pickle", b"", 0),
        Payload("pickle", b"garbage", 7),
        Payload("pickle", "text", 4),
    ],
)
def test_damaged_values_are_payload_errors(payload: Payload) -> None:
    with pytest.raises(PayloadError):
        decode(payload)


# -- large values ------------------------------------------------------------------------------------------

LARGE = 11 * 1024 * 1024


@pytest.mark.parametrize("value", ["x" * LARGE, b"y" * LARGE, ["z" * LARGE], Thing("t" * LARGE)], ids=list("abcd"))
def test_a_large_value_is_a_file(tmp_path: pathlib.Path, value: object) -> None:
    folder = str(tmp_path / "a" / "b")
    payload = encode(value, folder)
    assert payload.data is None
    assert payload.file is not None
    assert os.listdir(folder) == [os.path.basename(payload.file)]  # nothing half written is left
    assert os.path.getsize(payload.file) == payload.size > SPILL_BYTES
    assert os.stat(payload.file).st_mode & 0o077 == 0, "other users of the machine may not read it"
    assert os.stat(folder).st_mode & 0o077 == 0
    assert same(decode(payload), value)
    assert encode(value, folder) == payload  # a second attempt writes the same file


def test_just_up_to_the_limit_stays_inside(tmp_path: pathlib.Path) -> None:
    assert encode("x" * (SPILL_BYTES - 2), str(tmp_path)).file is None
    assert encode("x" * (SPILL_BYTES - 1), str(tmp_path)).file is not None
    assert encode("\x00" * (SPILL_BYTES // 6 + 1), str(tmp_path)).file is not None  # six characters each in JSON


def test_without_a_folder_a_large_value_stays_in_memory() -> None:
    payload = encode("x" * LARGE)
    assert payload.file is None
    assert decode(payload) == "x" * LARGE


@pytest.fixture
def spilled(tmp_path: pathlib.Path) -> Payload:
    return encode(b"y" * 6 * 1024 * 1024, str(tmp_path / "values"))


def test_an_altered_file_is_noticed(spilled: Payload) -> None:
    assert spilled.file is not None
    with open(spilled.file, "r+b") as file:
        file.seek(100)
        file.write(b"!")
    with pytest.raises(PayloadError, match="has changed") as caught:
        decode(spilled)
    assert spilled.file in str(caught.value)


def test_a_truncated_file_is_noticed(spilled: Payload) -> None:
    assert spilled.file is not None
    os.truncate(spilled.file, 1000)
    with pytest.raises(PayloadError, match="has changed"):
        decode(spilled)


def test_a_missing_file_is_named(spilled: Payload) -> None:
    assert spilled.file is not None
    os.unlink(spilled.file)
    with pytest.raises(PayloadError, match="No such file") as caught:
        decode(spilled)
    assert spilled.file in str(caught.value)


def test_a_file_that_cannot_be_written_fails_the_value(tmp_path: pathlib.Path) -> None:
    (tmp_path / "occupied").write_text("a file where the folder should be")
    with pytest.raises(PayloadError, match="could not be written"):
        encode("x" * LARGE, str(tmp_path / "occupied"))


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "run/../../x", ""])
def test_a_row_may_not_name_a_file_outside(tmp_path: pathlib.Path, file: str) -> None:
    with pytest.raises(StoreError, match="outside its folder"):
        payload_from_row(str(tmp_path / "x.db"), ("json", None, 1, file, "0" * 64))


def test_a_link_out_of_the_folder_is_refused(tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path(spill_dir(str(tmp_path / "x.db"), "run"))
    folder.mkdir(parents=True)
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match="outside its folder"):
        payload_from_row(str(tmp_path / "x.db"), ("json", None, 1, "run/link", "0" * 64))
