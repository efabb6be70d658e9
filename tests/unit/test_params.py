"""Declarations of parameters, and the values they take."""

from __future__ import annotations

import datetime
import json
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liteflow import Dag, DefinitionError, Param, ParamError
from liteflow.record import replace
from liteflow.values.params import REQUIRED, as_text, declared, described, of_default, resolve, restored, stored

DAY = datetime.date(2026, 1, 31)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("param", "text", "value"),
    [
        (Param(), "007", "007"),
        (Param(), "", ""),
        (Param("integer"), "-12", -12),
        (Param("number"), "1e3", 1000.0),
        (Param("number"), "3", 3),
        (Param("boolean"), "yes", True),
        (Param("boolean"), "FALSE", False),
        (Param("date"), "2026-01-31", DAY),
        (Param("enum", values=["a", 2]), "2", 2),
        (Param("list"), "a,b", ["a", "b"]),
        (Param("list"), "", []),
        (Param("list"), '["a", 1]', ["a", 1]),
        (Param("object"), '{"a": [1]}', {"a": [1]}),
        (Param("path"), "/x/../y", "/y"),
        (Param("string", min_length=1, max_length=3, pattern="[a-z]+"), "abc", "abc"),
        (Param("date", minimum="2026-01-31", maximum="2026-02-01"), "2026-01-31", DAY),
    ],
)
def test_text_is_read(param: Param, text: str, value: Any) -> None:
    assert param.parse(text) == value
    assert type(param.parse(text)) is type(value)


@pytest.mark.parametrize(
    ("param", "text", "message"),
    [
        (Param("integer"), "1.5", 'must be a whole number, not "1.5"'),
        (Param("integer"), "\u0661", 'must be a whole number, not "\u0661"'),
        (Param("integer"), "9" * 200, "must be a whole number"),
        (Param("integer", minimum=1), "0", "must be at least 1, not 0"),
        (Param("number", maximum=1), "1.5", "must be at most 1, not 1.5"),
        (Param("number"), "nan", 'must be a number, not "nan"'),
        (Param("number"), "1e999", "must be a number, not inf"),
        (Param("boolean"), "maybe", 'must be true or false, not "maybe"'),
        (Param("date"), "31.1.2026", "must be a date such as 2026-01-31"),
        (Param("date"), "2026-02-30", "must be a date such as 2026-01-31"),
        (Param("date", minimum=DAY), "2026-01-30", "must be at least 2026-01-31, not 2026-01-30"),
        (Param("enum", values=["a", "b"]), "c", 'must be one of a, b, not "c"'),
        (Param("list"), "[1", "must be a list in JSON"),
        (Param("list", max_length=1), "a,b", "must have at most 1 items, not 2"),
        (Param("list"), "[" * 100_000, "must be a list in JSON"),
        (Param("object"), "a", "must be a mapping in JSON"),
        (Param("object"), "[1]", "must be a mapping, not [1]"),
        (Param("path"), "", "must be a path"),
        (Param(min_length=2), "a", "must have at least 2 characters, not 1"),
        (Param(pattern="[a-z]+"), "ab1", '"ab1" does not match [a-z]+'),
    ],
)
def test_what_does_not_fit_is_refused(param: Param, text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared
        param.parse(text)
    assert str(caught.value).startswith(message)


@given(st.sampled_from([Param(kind, values=["a"] if kind == "enum" else ()) for kind in
       ("string", "integer", "number", "boolean", "date", "enum", "list", "object", "path")]), JSON)  # fmt: skip
def test_a_value_survives_being_stored(param: Param, value: Any) -> None:
    try:
        checked = param.value(value)
    except ValueError:
        return
    again = restored({"x": param}, json.loads(json.dumps(stored({"x": checked}))))
    assert again == {"x": checked}
    assert type(again["x"]) is type(checked)


@given(
    st.sampled_from(["string", "integer", "number", "boolean", "date", "list", "object", "path"]), st.text(max_size=9)
)
def test_any_text_is_a_value_or_a_sentence(kind: str, text: str) -> None:
    try:
        Param(kind).parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right


def test_plain_values_are_defaults() -> None:
    assert of_default(3) == Param("integer", 3)
    assert of_default(None) == Param("string", None)
    assert of_default(DAY).type == "date"
    with pytest.raises(ParamError, match="default must be text"):
        declared({"x": object()})


def test_all_mistakes_are_reported_at_once() -> None:
    params = declared({"rows": 100, "day": Param("date"), "name": "a"})
    with pytest.raises(ParamError) as caught:
        resolve(params, {"row": 1, "rows": "x"})
    assert caught.value.problems == {
        "row": "there is no such parameter; did you mean 'rows'?",
        "rows": 'must be a whole number, not "x"',
        "day": "needs a value: a date such as 2026-01-31",
    }
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    with pytest.raises(ParamError, match="type"):
        declared({"x": Param("dat")})


def test_declarations_cross_to_other_processes() -> None:
    params = {"day": Param("date"), "path": Param("path", os.path.abspath("x"))}
    assert pickle.loads(pickle.dumps(params))["day"].default is REQUIRED
    assert {name: Param(**entry) for name, entry in described(params).items()} == params | {
        name: replace(param, values=[]) for name, param in params.items()
    }
    assert as_text({"a": [1, True, None]}) == '{"a":[1,true,null]}'


def test_a_dag_checks_what_it_is_given(db: str) -> None:
    from liteflow import current_context

    def tell() -> Any:
        params = current_context().params
        return [params["rows"], params["day"]]

    with Dag("report", db, params={"rows": Param("integer", 100, minimum=1), "day": Param("date")}) as dag:
        dag.task(tell)
    with pytest.raises(DefinitionError, match="day"):
        dag.run(mode="inline")
    with pytest.raises(ParamError, match="at least 1"):
        dag.run(mode="inline", params={"rows": 0, "day": "2026-01-31"})
    run = dag.run(mode="thread", params={"day": "2026-01-31"})
    assert run.value("tell") == [100, DAY]


def test_a_resumed_run_gets_its_values_back_in_their_types(db: str, tmp_path: Any) -> None:
    from liteflow import current_context

    def fail_once() -> Any:
        if not (tmp_path / "tried").exists():
            (tmp_path / "tried").touch()
            raise ValueError("first")
        return dict(current_context().params)

    def make(**extras: Any) -> Dag:
        with Dag("again", db, params={"day": Param("date"), **extras}) as dag:
            dag.task(fail_once)
        return dag

    assert make().run(mode="thread", params={"day": DAY}).status == "FAILED"
    with pytest.raises(ParamError, match="new"):
        make(new=Param("integer")).resume()
    run = make(extra=1).resume()
    assert run.value("fail_once") == {"day": DAY, "extra": 1}


def test_a_dag_that_declares_nothing_takes_anything(db: str) -> None:
    dag = Dag("free", db)
    dag.task(lambda: 1, task_id="a")
    assert dag.run(mode="inline", params={"x": [1]}).status == "SUCCESS"


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e-5, "1e-5"), (1e-12, "1e-12"), (-2.5e-7, "-2.5e-7"), (1e20, "1e+20"), (0.0001, "0.0001"), (3.1, "3.1")],
)
def test_a_number_is_shown_as_it_is_typed(number: float, text: str) -> None:
    assert as_text(number) == text
    assert Param("number").parse(text) == number


@pytest.mark.parametrize(
    ("text", "items"),
    [("a, b", ["a", "b"]), (" a ,b , c d ", ["a", "b", "c d"]), ("", []), ("  ", []), ("a,,b", ["a", "", "b"])],
)
def test_blanks_around_the_items_of_a_list_are_no_part_of_them(text: str, items: list[str]) -> None:
    assert Param("list").parse(text) == items
    assert Param("list").parse('["a ", " b"]') == ["a ", " b"]
