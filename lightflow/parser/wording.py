"""The errors of the JSON Schema validator, said in words that help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema_rs

from lightflow.errors import Problem, did_you_mean, quoted
from lightflow.parser.canonical import Tree, dotted
from lightflow.parser.schema import COMMON
from lightflow.parser.schema_pieces import ID_WORDS, Schema
from lightflow.plugins.base import TypeInfo
from liteflow.values.dotenv import NAME_WORDS

_KIND = jsonschema_rs.ValidationErrorKind
_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def worded(error: Any, schema: Schema, tree: Tree, types: Mapping[str, TypeInfo]) -> Iterator[Problem]:
    """The problems that one error of the validator stands for."""
    kind = error.kind
    path = list(error.instance_path)
    part, around = _part(schema, list(error.schema_path))
    if isinstance(kind, _KIND.AdditionalProperties | _KIND.UnevaluatedProperties):
        known = list(around.get("properties", ()))
        for name in kind.unexpected:
            message = f"unknown key {quoted(name)}" + _unknown_hint(name, known, path, types)
            yield tree.problem([*path, name], message, key=True)
        return
    if isinstance(kind, _KIND.PropertyNames):
        name = str(getattr(kind.error, "instance", ""))
        names = ("env", "params", "secrets", "matrix")
        rule = f"a name of {NAME_WORDS}" if path and path[-1] in names else ID_WORDS
        yield tree.problem([*path, name], f"{quoted(name)} is not allowed as a name here: use {rule}", key=True)
        return
    if isinstance(kind, _KIND.Required):
        yield _required(kind.property, path, around, tree)
        return
    problem = tree.problem(path, _message(kind, error.instance, around, part), key=isinstance(error.instance, dict))
    yield Problem(problem.file, problem.line, problem.column, dotted(path), problem.message)


def _required(name: str, path: list[Any], around: Schema, tree: Tree) -> Problem:
    expects = around.get("properties", {}).get(name)
    words = expects.get("x-expects", "") if isinstance(expects, dict) else ""
    message = f'needs "{name}"' + (f": {words}" if words else "")
    if not path:
        return tree.problem([], f'the file needs "{name}"' + (f": {words}" if words else ""))
    problem = tree.problem(path, message, key=True)
    return Problem(problem.file, problem.line, problem.column, dotted(path), message)


def _unknown_hint(name: str, known: list[str], path: list[Any], types: Mapping[str, TypeInfo]) -> str:
    hint = did_you_mean(name, known)
    if len(path) == 2 and path[0] == "tasks" and not hint:
        for info in types.values():
            if info.schema and name in info.schema.get("properties", ()):
                return f'; it belongs to tasks of type "{info.name}"'
    if not hint and not path and name in COMMON:
        return "; it belongs inside a task"
    return hint


def _message(kind: Any, value: Any, schema: Schema, limit: Any) -> str:
    expects = schema.get("x-expects")
    shown = _shown(value)
    if isinstance(kind, _KIND.Type):
        return f"must be {expects or ' or '.join(_TYPES[name] for name in kind.types)}, not {shown}"
    if isinstance(kind, _KIND.Enum):
        options = [str(option) for option in limit]
        near = did_you_mean(value, options) if isinstance(value, str) else ""
        choice = expects or f"one of {', '.join(options)}"
        return f"{shown} is not allowed{near}" if near else f"must be {choice}, not {shown}"
    if isinstance(kind, _KIND.OneOfNotValid | _KIND.OneOfMultipleValid | _KIND.AnyOf):
        return str(schema.get("x-message") or schema.get("x-expects") or "has a shape that is not allowed")
    bounds: list[tuple[Any, Callable[[], str]]] = [
        (_KIND.Minimum, lambda: f"must be at least {limit}, not {shown}"),
        (_KIND.ExclusiveMinimum, lambda: f"must be more than {limit}, not {shown}"),
        (_KIND.Maximum, lambda: f"must be at most {limit:,}, not {shown}"),
        (_KIND.ExclusiveMaximum, lambda: f"must be less than {limit:,}, not {shown}"),
        (_KIND.MinLength, lambda: f"must be {expects}, not {shown}" if expects else "must not be empty"),
        (_KIND.MinItems, lambda: "must not be empty" if limit == 1 else f"needs at least {limit}"),
        (_KIND.MinProperties, lambda: "must not be empty" if limit == 1 else f"needs at least {limit}"),
        (_KIND.MaxItems, lambda: f"may hold at most {limit}"),
        (_KIND.MaxLength, lambda: f"may be at most {limit} characters long"),
        (_KIND.UniqueItems, lambda: "holds the same value twice"),
        (_KIND.Pattern, lambda: f"must be {expects}, not {shown}" if expects else f"{shown} does not match {limit}"),
    ]
    for wanted, words in bounds:
        if isinstance(kind, wanted):
            return words()
    return f"is not allowed here: {shown}"


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return quoted(value) if isinstance(value, str) else str(value)[:60]


def _part(schema: Schema, path: list[Any]) -> tuple[Any, Schema]:
    """What stands at the end of a schema path, and the schema around it.

    The validator gives the path of the schema that failed, already resolved through `$ref`.
    """
    node: Any = schema
    around: Schema = schema
    for step in path:
        if isinstance(node, dict) and "$ref" in node and step not in node:
            for name in str(node["$ref"]).removeprefix("#/").split("/"):
                node = schema[name] if node is not schema and name in ("$defs",) else node.get(name, {})
        if isinstance(node, dict):
            around = node
        node = node[step] if isinstance(node, list) else node.get(step, {})
    return node, around
