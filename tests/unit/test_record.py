"""A record behaves as a frozen dataclass with slots and keyword-only fields, which is the oracle here."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liteflow.record import Record, replace


class Point(Record):
    """A record."""

    LIMIT: ClassVar[int] = 7
    x: int
    label: str | None
    y: int = 0
    tags: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.x + self.y


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """The same as a dataclass."""

    LIMIT: ClassVar[int] = 7
    x: int
    label: str | None
    y: int = 0
    tags: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        return self.x + self.y


class Place(Record, kw_only=False):
    """A record whose fields can be given by position."""

    x: int
    y: int = 0
    tags: tuple[str, ...] = ()


class NamedPlace(Place):
    """A record with a field that is given by keyword only."""

    note: str = "none"


@dataclasses.dataclass(frozen=True, slots=True)
class PlaceOracle:
    """The same as a dataclass."""

    x: int
    y: int = 0
    tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NamedPlaceOracle(PlaceOracle):
    """The same as a dataclass."""

    note: str = "none"


class Labelled(Point):
    """A record with a field more than its base class."""

    note: str = "none"


FIELDS = st.fixed_dictionaries(
    {"x": st.integers(0, 2), "label": st.none() | st.sampled_from("ab")},
    optional={"y": st.integers(0, 1), "tags": st.just(("t",)), "z": st.just(1)},
)
WITHOUT_ONE = FIELDS.flatmap(lambda values: st.sampled_from([values, {k: v for k, v in values.items() if k != "x"}]))


def outcome(make: Any, values: dict[str, Any]) -> Any:
    """Return what making a record gives: its text and fields, or the error."""
    try:
        made = make(**values)
    except TypeError as error:
        return str(error).replace(make.__qualname__, "")
    fields = [made.x, made.label, made.y, made.tags, made.total, made.LIMIT]
    return repr(made).replace(make.__qualname__, ""), fields


@given(WITHOUT_ONE)
def test_it_takes_what_a_dataclass_takes(values: dict[str, Any]) -> None:
    assert outcome(Point, values) == outcome(Oracle, values)


@given(FIELDS, FIELDS)
def test_it_is_equal_where_a_dataclass_is(values: dict[str, Any], others: dict[str, Any]) -> None:
    values.pop("z", None), others.pop("z", None)
    assert (Point(**values) == Point(**others)) == (Oracle(**values) == Oracle(**others))
    if values == others:
        assert hash(Point(**values)) == hash(Point(**others))


def test_it_differs_from_other_types() -> None:
    assert Point(x=1, label=None) != Labelled(x=1, label=None)
    assert Point(x=1, label=None) != (1, None, 0, ())


@pytest.mark.parametrize("kind", [Point, Oracle])
def test_it_cannot_be_changed(kind: Any) -> None:
    record = kind(x=1, label="a")
    for change in (lambda: setattr(record, "x", 2), lambda: delattr(record, "x"), lambda: setattr(record, "new", 2)):
        with pytest.raises((AttributeError, TypeError)):
            change()
    assert (record.x, hasattr(record, "new"), hasattr(record, "__dict__")) == (1, False, False)


def test_it_takes_no_positions() -> None:
    with pytest.raises(TypeError):
        Point(1, "a")  # type: ignore[call-arg,misc]


@pytest.mark.parametrize(("kind", "oracle"), [(Place, PlaceOracle), (NamedPlace, NamedPlaceOracle)])
@given(
    st.lists(st.integers(0, 1), max_size=4),
    st.dictionaries(st.sampled_from(["x", "y", "tags", "note", "z"]), st.integers(0, 1), max_size=3),
)
def test_it_takes_the_positions_that_a_dataclass_takes(
    kind: Any, oracle: Any, positions: list[int], values: dict[str, int]
) -> None:
    def made(cls: Any) -> str:
        try:
            return repr(cls(*positions, **values)).replace(cls.__qualname__, "")
        except TypeError as error:
            return str(error).replace(cls.__qualname__, "")

    for _ in range(5):  # the first records are made by another `__init__` than the following ones
        assert made(kind) == made(oracle)


def test_the_first_records_are_made_as_the_following_ones() -> None:
    records = []
    for _ in range(6):
        fresh = type(Record)("Fresh", (Record,), {"__annotations__": {"x": "int", "y": "int"}, "y": 3}, kw_only=False)
        records.append([repr(fresh(1)), repr(fresh(1, y=2)), repr(fresh(x=1)), repr(fresh(1, 2)), repr(fresh(1, 2))])
    assert (
        records == [["Fresh(x=1, y=3)", "Fresh(x=1, y=2)", "Fresh(x=1, y=3)", "Fresh(x=1, y=2)", "Fresh(x=1, y=2)"]] * 6
    )


@pytest.mark.parametrize("default", [{}, [], {1}, {"a": 1}])
def test_a_default_that_could_be_changed_is_refused(default: object) -> None:
    with pytest.raises(TypeError, match=r"Bad\.values: the default is shared"):
        type(Record)("Bad", (Record,), {"__annotations__": {"values": "object"}, "values": default})


def test_replace_gives_a_copy() -> None:
    record = Labelled(x=1, label="a", note="n")
    assert replace(record, y=5) == Labelled(x=1, label="a", y=5, note="n")
    assert record.y == 0
    with pytest.raises(TypeError, match="z"):
        replace(record, z=1)


def test_it_crosses_processes() -> None:
    record = Labelled(x=1, label="a", tags=("t",))
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_record_in_a_fresh_process_imports_no_dataclasses() -> None:
    code = (
        "import sys\nfrom liteflow.record import Record\n"
        "class P(Record):\n    x: int\n    y: int = 2\n"
        "print(P(x=1), 'dataclasses' in sys.modules, 'inspect' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "P(x=1, y=2) False False\n"
