"""What expressions can say, and what they cannot be made to do."""

from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightflow.expressions.filters import text_of
from lightflow.expressions.language import ExpressionError, evaluate
from lightflow.expressions.references import NameScope, find_references
from lightflow.expressions.template import Part, UnclosedExpression, split
from liteflow.errors import InputError
from liteflow.work import Ref

PARAMS: dict[str, Any] = {
    "n": 3,
    "text": "a b",
    "zip": "007",
    "list": [1, 2, 3],
    "map": {"items": 1, "keys": "k", "x": {"y": 2}},
    "day": datetime.date(2026, 1, 31),
    "path": "/data/in/report.tar.gz",
    "none": None,
    "on": True,
}


def value(source: str) -> Any:
    find_references(source, NameScope(params=[*PARAMS, "missing", "tex"], tasks=[]))
    return evaluate(source, {"params": PARAMS})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("params.n", 3),
        ("params.n + 1", 4),
        ("params.zip", "007"),
        ("params['text']", "a b"),
        ("params.map.items", 1),
        ("params.map.x.y", 2),
        ("params.list[-1]", 3),
        ("params.day", PARAMS["day"]),
        ("params.day.year", 2026),
        ("params.day | date('%Y%m%d')", "20260131"),
        ("params.text | upper", "A B"),
        ("params.text.split(' ')", ["a", "b"]),
        ("params.list | join('-')", "1-2-3"),
        ("params.list | map('string') | list", ["1", "2", "3"]),
        ("params.list | select('odd')", [1, 3]),
        ("range(3)", [0, 1, 2]),
        ("params.map | json", '{"items": 1, "keys": "k", "x": {"y": 2}}'),
        ("'[1]' | from_json", [1]),
        ("params.text | quote", "'a b'"),
        ("params.path | basename", "report.tar.gz"),
        ("params.path | dirname", "/data/in"),
        ("params.path | stem", "report.tar"),
        ("params.path | suffix", ".gz"),
        ("'12' | int + 1", 13),
        ("'x' | int(0)", 0),
        ("2.5 | round", 2),
        ("params.none", None),
        ("params.none | default('d', true)", "d"),
        ("params.missing | default('d')", "d"),
        ("params.missing is defined", False),
        ("'yes' if params.on else 'no'", "yes"),
        ("params.n > 2 and params.n < 4", True),
        ("'a' ~ params.n", "a3"),
        ("'}}'", "}}"),
        ("{'a': [params.n]}", {"a": [3]}),
    ],
)
def test_values(source: str, expected: Any) -> None:
    result = value(source)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("params.missing", "there is no 'missing'"),
        ("params.tex", "there is no 'tex', did you mean \"text\"?"),
        ("params.map.z.y", "there is no 'z'"),
        ("params.missing ~ 'x'", "there is no 'missing'"),
        ("params.missing == 1", "there is no 'missing'"),
        ("'x' | int", "int: 'x' is not a whole number"),
        ("'{' | from_json", "from_json: not JSON"),
        ("[params.n, params.missing]", "there is no 'missing'"),
        ("{'a': params.missing} | json", "there is no 'missing'"),
        ("[params.missing] | join", "there is no 'missing'"),
    ],
)
def test_errors_are_one_sentence(source: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        value(source)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("source", "kind"), [("1 / 0", "ZeroDivisionError"), ("params.text + 1", "TypeError")])
def test_an_error_of_python_names_its_kind(source: str, kind: str) -> None:
    with pytest.raises(InputError) as caught:
        value(source)
    assert str(caught.value).endswith(f" ({kind})")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "''.__class__",
        "''.__class__.__mro__[1].__subclasses__()",
        "params.text['__class__']",
        "params.list.__len__()",
        "params.day.__reduce__()",
        "range.__self__",
        "params.text.format(1)",
        "params.text.format_map(params)",
        "'%0999999999d' % 1",
        "params.list.append(1)",
        "params.map.update({})",
        "params.map.get.__func__",
        "params.list | map(attribute='__class__') | list | join",
        "params.text | attr('__class__')",
        "'x' * 10000000000",
        "[0] * 10000000000",
        "10 ** (10 ** 10)",
        "2 ** 99999999 * 2 ** 99999999",
        "range(1000000000)",
        "params.text.ljust(10000000000)",
        "params.text.center(10000000000)",
        "params.text | center(10000000000)",
        "params.text | indent(10000000000)",
        "('x' * 100000) | replace('x', 'y' * 100000)",
        "range(100000) | join('x' * 100000)",
        "1.5 | round(10000000)",
        "lipsum(1000000)",
        "cycler(1)",
        "[" * 5000 + "]" * 5000,
        "1" + "+1" * 6000,
        "1" + "+1" * 4000,
        "(" * 2000 + "1" + ")" * 2000,
        "not " * 2000 + "1",
        "params" + ".n" * 3000,
        "params.n" + "|int" * 2000,
        "namespace(a=1)",
        "joiner()",
        "dict(a=1)",
        "caller()",
        "params.text.upper.__self__",
    ],
)
def test_expressions_cannot_escape_or_work_without_end(source: str) -> None:
    began = time.process_time()
    with pytest.raises((InputError, ExpressionError)):
        value(source)
    assert time.process_time() - began < 2


@given(st.text("abc params.n[](){}|'\"+*~-/%1290_,:=<>!", max_size=30))
def test_any_text_is_an_expression_or_a_mistake(source: str) -> None:
    try:
        value(source)
    except (InputError, ExpressionError) as error:
        assert str(error)  # noqa: PT017 - either is right


KNOWN = NameScope(params=["day", "rows"], tasks=["fetch", "fetch-data", "a.b"], task="here")


def test_references_are_found() -> None:
    result = find_references(
        "tasks.fetch.outputs.n ~ tasks['a.b'].result ~ params.rows ~ needs.fetch.outputs['m']", KNOWN
    )
    assert result.reads == (Ref("fetch", "n"), Ref("a.b"), Ref("fetch", "m"))
    assert result.params == {"rows"}
    assert result.names == {"tasks", "params"}
    raw = find_references("raw(params.day | upper)", KNOWN)
    assert (raw.source, raw.raw) == ("params.day | upper", True)
    assert find_references("params.day | quote", KNOWN).quoted
    assert not find_references("params.day | quote ~ 'x'", KNOWN).quoted
    assert find_references("range(params.rows) | join", KNOWN).params == {"rows"}
    assert find_references("[params.rows][0] if run.attempt == 1 else task.id", KNOWN).names == {
        "params",
        "run",
        "task",
    }
    assert set(find_references("(tasks.fetch.outputs.n | int)[tasks.fetch.outputs.i]", KNOWN).reads) == {
        Ref("fetch", "n"),
        Ref("fetch", "i"),
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tasks.fetch-data.outputs.n", "tasks.fetch is not a value by itself; there are tasks.fetch.outputs.NAME"),
        ("tasks[params.day].result", "tasks needs the id of a task"),
        ("tasks | list", "tasks needs the id of a task"),
        ("tasks.fetch.outputs[params.day]", "tasks.fetch.outputs needs the name of an output"),
        ("tasks.fetch.state", "tasks.fetch has no 'state'"),
        ("item.name", "item is known inside a task with `foreach`"),
        ("fetch.outputs.n", "there is no name 'fetch', did you mean tasks.fetch?"),
        ("raw(1, 2)", "raw(…) takes one value"),
        ("raw(1) ~ 'x'", "raw(…) must be the whole expression"),
        ("undefined_function(1)", "there is no function 'undefined_function'"),
        ("self", "there is no name 'self'"),
        ("run", "run is not a value by itself"),
        ("workflow.path", "workflow has no 'path'"),
    ],
)
def test_wrong_names_are_reported(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        find_references(source, KNOWN)
    assert str(caught.value).startswith(message)


def test_a_text_is_split() -> None:
    assert split("no $x {{ y }} ${z}") == ["no $x {{ y }} ${z}"]
    assert [part if isinstance(part, str) else part.source for part in split("a ${{ x }}${{ '}}' }} b")] == [
        "a ", "x", "'}}'", " b",
    ]  # fmt: skip
    assert split("${{ {'a': {}} }}") == [Part("{'a': {}}", 0, 16)]
    with pytest.raises(UnclosedExpression):
        split("a ${{ x }")


@given(st.text("a${}'\" \\", max_size=30))
def test_splitting_loses_nothing(text: str) -> None:
    try:
        parts = split(text)
    except UnclosedExpression:
        return
    assert "".join(part if isinstance(part, str) else text[part.start : part.end] for part in parts) == text


def test_values_as_text() -> None:
    values = ["x", True, None, 3, 1.5, [1, "a"], {"a": None}, (1,), PARAMS["day"], b"\xff"]
    assert [text_of(entry) for entry in values] == [
        "x", "true", "", "3", "1.5", '[1,"a"]', '{"a":null}', "[1]", "2026-01-31", "\udcff",
    ]  # fmt: skip


def test_a_deferred_body_is_pickled_to_a_new_interpreter() -> None:
    import pickle

    from lightflow.expressions.evaluate import DeferredTaskBody
    from lightflow.parser.workflow_loader import loads_workflow

    text = "params: {n: 1}\ntasks:\n  a: {run: 'true'}\n  b: {run: 'echo ${{ params.n }} ${{ tasks.a.outputs.m }}'}\n"
    spec = loads_workflow(text).tasks["b"]
    assert (spec.depends_on, spec.implied) == (("a",), ("a",))
    assert spec.expressions is not None
    late = DeferredTaskBody(spec.expressions, "/")
    assert pickle.loads(pickle.dumps(late)) == late
    assert late.reads == (Ref("a", "m"),)
