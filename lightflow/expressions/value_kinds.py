"""The kinds of values that are never equal: a comparison of text with a number is a mistake, not false.

The rule is applied to values when an expression is evaluated, and to its text when a workflow file is checked.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jinja2 import nodes

#: The names of the kinds, and how to make text comparable with values of that kind.
_KINDS: Final[Mapping[str, str]] = {
    "a number": "write `| int` or `| float` behind the text, or put the number in quotes",
    "true or false": "compare with 'true' or 'false' in quotes",
    "a date": "write `| date` behind the date, or compare it with a date",
}
_TEXT: Final = "text"
_BY_PARAMETER: Final[Mapping[str, str]] = {
    "string": _TEXT,
    "path": _TEXT,
    "integer": "a number",
    "number": "a number",
    "boolean": "true or false",
    "date": "a date",
}
_BY_FILTER: Final[Mapping[str, str]] = {
    **dict.fromkeys(("int", "float", "length", "count", "wordcount", "abs", "round"), "a number"),
    **dict.fromkeys(("string", "lower", "upper", "title", "capitalize", "trim", "join", "replace", "json"), _TEXT),
    **dict.fromkeys(("basename", "dirname", "stem", "suffix", "quote", "date", "urlencode", "truncate"), _TEXT),
    "date_add": "a date",
}
_BY_NAME: Final[Mapping[tuple[str, str], str]] = {
    **{("workflow", name): _TEXT for name in ("name", "dir", "file")},
    **{("run", name): _TEXT for name in ("id", "idempotency_key")},
    ("run", "attempt"): "a number",
    ("run", "logical_date"): "a date",
    ("task", "id"): _TEXT,
    ("task", "attempt"): "a number",
    ("task", "index"): "a number",
}


def kind_of(value: Any) -> str:
    """Return the kind of a value; empty if it can be compared with every value."""
    if isinstance(value, str):
        return _TEXT
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a date" if isinstance(value, datetime.date) else ""


def objection(left: str, right: str) -> str:
    """Return why values of these kinds cannot be compared; empty if they can."""
    other = {left, right} - {_TEXT}
    if _TEXT not in (left, right) or len(other) != 1 or "" in other:
        return ""
    (kind,) = other
    return f"text is compared with {kind}, which it never equals: {_KINDS[kind]}"


def mistaken_comparison(tree: nodes.Node, params: Mapping[str, Any]) -> str:
    """Return the mistake in a comparison, if the text of the expression shows one; otherwise empty text.

    `params` has the declarations of the workflow as written.
    """
    for compare in _all(tree, nodes.Compare):
        left = compare.expr
        for operand in compare.ops:
            if operand.op not in ("in", "notin"):
                message = objection(_kind(left, params), _kind(operand.expr, params))
                if message:
                    return message
            left = operand.expr
    return ""


def _all(tree: nodes.Node, kind: type[Any]) -> Iterator[Any]:
    if isinstance(tree, kind):
        yield tree
    yield from tree.find_all(kind)


def _named(node: nodes.Node) -> tuple[str, str] | None:
    """Return the scope and the name of an expression such as `env.NAME`."""
    if not isinstance(node, nodes.Getattr | nodes.Getitem) or not isinstance(node.node, nodes.Name):
        return None
    key = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
    return (node.node.name, key) if isinstance(key, str) else None


def _kind(node: nodes.Node, params: Mapping[str, Any]) -> str:
    """Return the kind of the value of an expression, if its text determines it; otherwise empty text."""
    if isinstance(node, nodes.Const):
        return kind_of(node.value)
    if isinstance(node, nodes.Concat):
        return _TEXT
    if isinstance(node, nodes.Filter):
        if node.name in ("default", "d") and node.node is not None and node.args:
            kinds = {_kind(node.node, params), _kind(node.args[0], params)}
            return kinds.pop() if len(kinds) == 1 else ""
        return _BY_FILTER.get(node.name, "")
    named = _named(node)
    if named is None:
        return ""
    if named[0] == "env":
        return _TEXT
    return _of_parameter(params.get(named[1])) if named[0] == "params" else _BY_NAME.get(named, "")


def _of_parameter(written: Any) -> str:
    """Return the kind of a parameter by its declaration; empty if it may be none, or if the type is not declared."""
    if not isinstance(written, dict):
        return kind_of(written)
    if ("default" in written and written["default"] is None) or written.get("required") is False:
        return ""
    if "type" not in written and "values" not in written:
        return kind_of(written.get("default", ""))
    return _BY_PARAMETER.get(written.get("type", ""), "") if isinstance(written.get("type"), str) else ""
