"""Unquoted words mean what YAML 1.2 says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightflow.parser.scalars import NotANumber, resolve
from lightflow.parser.yaml_source import read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "off",
        "yes",
        "no",
        "No",
        "y",
        "n",
        "012",
        "-012",
        "00.5",
        "1:30",
        "1_000",
        "2024-01-01",
        "1e",
        "0x",
        "0b1",
        "0o8",
        "<<",
        "=",
        "nul",
        "NuLL",
        "tRue",
        "+",
        "-",
        ".",
        "..",
        "1.2.3",
        "0x-1",
        "+0x1",
        "1e3.5",
        "١٢",
        "NaN",
        "inf",
    ],
)
def test_text(text: str) -> None:
    assert resolve(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5E-2", -0.015),
    ],
)
def test_values(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "9" * 101, "0x" + "f" * 100, "0o" + "7" * 5000])
def test_not_a_number(text: str) -> None:
    with pytest.raises(NotANumber):
        resolve(text)


@given(st.integers(min_value=-(10**90), max_value=10**90))
def test_integers(number: int) -> None:
    assert resolve(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats(number: float) -> None:
    value = resolve(repr(number))
    assert isinstance(value, float | int)
    assert math.isclose(value, number, rel_tol=0)


@given(st.text(max_size=20))
def test_any_text_is_resolved_or_refused(text: str) -> None:
    try:
        value = resolve(text)
    except NotANumber:
        return
    assert value == text or not isinstance(value, str)


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30))
def test_quoted_text_is_never_anything_else(text: str) -> None:
    written = "'" + text.replace("'", "''") + "'"
    source = read_yaml("w.yaml", f"a: {written}\nb: 1\n")[0]
    assert isinstance(source.tree["a"], str)
    assert not source.positions.texts.keys() - {(id(source.tree), "b")}
