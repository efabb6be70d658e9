"""The errors of the JSON Schema validator, said in words that help."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import jsonschema_rs

from lightflow.errors import Problem, quoted
from lightflow.foreign import close, key_answer, level_of, near_key_answer, stands_for, value_answer
from lightflow.parser.canonical import Tree, dotted
from lightflow.parser.schema import COMMON, SETTINGS, aliases_of, canonical_schema
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


#: The mappings whose keys are names of variables.
_VARIABLES = ("env", "params", "secrets", "matrix")


def worded(
    error: Any, schema: Schema, tree: Tree, types: Mapping[str, TypeInfo], troubled: Container[str] = ()
) -> Iterator[Problem]:
    """The problems that one error of the validator stands for.

    A list or mapping at one of the `troubled` paths has been read in part, so its shape says nothing.
    """
    kind = error.kind
    path = list(error.instance_path)
    part, around = _part(schema, list(error.schema_path))
    if isinstance(kind, _KIND.AdditionalProperties | _KIND.UnevaluatedProperties):
        known = around.get("properties", {})
        for name in kind.unexpected:
            message = f"unknown key {quoted(name)}" + _unknown_hint(name, known, path, error.instance.get(name), types)
            if message.endswith(quoted(name)) and _is_behind_a_comma(tree, [*path, name]):
                message += "; between braces, text that holds a comma needs quotes"
            tree.unknown.add(dotted([*path, name]))
            yield tree.problem([*path, name], message, key=True)
        return
    if isinstance(kind, _KIND.PropertyNames):
        name = str(getattr(kind.error, "instance", ""))
        rule = f"a name of {NAME_WORDS}" if path and path[-1] in _VARIABLES else ID_WORDS
        yield tree.problem([*path, name], f"{quoted(name)} is not allowed as a name here: use {rule}", key=True)
        return
    is_shape = isinstance(kind, _KIND.Type | _KIND.MinProperties | _KIND.MinItems)
    if is_shape and isinstance(error.instance, dict | list) and dotted(path) in troubled:
        return
    if isinstance(kind, _KIND.Required) and _is_there(kind.property, error, around, path):
        return
    if isinstance(kind, _KIND.OneOfNotValid) and isinstance(part, list):
        needed = [key for one in part for key in one.get("required", ())]
        if any(_is_there(key, error, around, path) for key in needed):
            return
    if isinstance(kind, _KIND.Required):
        yield _required(kind.property, path, around, tree)
        return
    problem = tree.problem(
        path, _message(kind, error.instance, around, part, path), key=isinstance(error.instance, dict)
    )
    yield Problem(problem.file, problem.line, problem.column, dotted(path), problem.message)


def _required(name: str, path: list[Any], around: Schema, tree: Tree) -> Problem:
    expects = around.get("properties", {}).get(name)
    words = expects.get("x-expects", "") if isinstance(expects, dict) else ""
    message = f'needs "{name}"' + (f": {words}" if words else "")
    if not path:
        return tree.problem([], f'the file needs "{name}"' + (f": {words}" if words else ""))
    problem = tree.problem(path, message, key=True)
    return Problem(problem.file, problem.line, problem.column, dotted(path), message)


def _unknown_hint(
    name: str, known: Mapping[str, Any], path: list[Any], value: Any, types: Mapping[str, TypeInfo]
) -> str:
    """What to write instead of an unknown key: the word of another tool, a key of another place, a slip."""
    answer = key_answer(name, path, value)
    if answer:
        return f"; {answer}"
    elsewhere = _elsewhere(name, level_of(path), types)
    if elsewhere:
        return f"; {elsewhere}"
    slip = close(name, _names_in(known))
    if slip:
        return slip
    answer = near_key_answer(name, path, value)
    return f"; {answer}" if answer else ""


def _names_in(known: Mapping[str, Any]) -> list[str]:
    """The keys of a mapping with their aliases."""
    common = {key: COMMON[key] for key, schema in known.items() if schema is True and key in COMMON}
    return [*known, *aliases_of({**known, **common})]


def _is_there(key: str, error: Any, around: Schema, path: list[Any]) -> bool:
    """Whether an unknown key takes the place of the key that is missing."""
    known = around.get("properties", {})
    unknown = [name for name in error.instance if name not in known and not name.startswith("x-")]
    return any(key in stands_for(name, path, _names_in(known)) for name in unknown)


def _is_behind_a_comma(tree: Tree, path: list[Any]) -> bool:
    """Whether a key without a value is the rest of a text that was cut at a comma."""
    key, value = tree.locate(path, key=True), tree.locate(path)
    lines = tree.source.text.splitlines()
    before = lines[key.line][: key.column] if key.line < len(lines) else ""
    node: Any = tree.root
    for name in path:
        node = node[name] if isinstance(node, list) else node.get(name) if isinstance(node, dict) else None
    return node is None and value.line == key.line and before.rstrip().endswith(",")


def _elsewhere(name: str, level: str, types: Mapping[str, TypeInfo]) -> str:
    """Where a key belongs that is known in another place of the file."""
    own = {
        key: info.name
        for info in types.values()
        for properties in [(info.schema or {}).get("properties", {})]
        for key in (*properties, *aliases_of(properties))
    }
    of_tasks, of_settings = _with_aliases(COMMON), _with_aliases(SETTINGS["properties"])
    if level == "task":
        if name in own:
            return f'it belongs to tasks of type "{own[name]}"'
        if name in of_settings:
            return "it belongs under `settings` at the top of the file"
        return "it belongs at the top of the file" if name in _with_aliases(canonical_schema(())["properties"]) else ""
    if level in ("top", "settings"):
        if level == "top" and name in of_settings:
            both = "inside a task, or for all tasks " if name in of_tasks else ""
            return f"it belongs {both}under `settings`"
        of_file = _with_aliases(canonical_schema(())["properties"])
        if level == "settings" and name in of_file:
            return (
                "it belongs inside a task, or at the top of the file"
                if name in of_tasks
                else "it belongs at the top of the file"
            )
        return "it belongs inside a task" if name in of_tasks or name in own else ""
    if level in ("hook", "precondition", "retry") and name in of_tasks:
        return f"it belongs to the task itself: {_SIDES[level]} cannot have it"
    return ""


_SIDES = {"hook": "a hook", "precondition": "a precondition", "retry": "the block `retry`"}


def _with_aliases(properties: Mapping[str, Any]) -> set[str]:
    return {*properties, *aliases_of(properties)}


def _message(kind: Any, value: Any, schema: Schema, limit: Any, path: list[Any]) -> str:
    expects = schema.get("x-expects")
    shown = _shown(value)
    if isinstance(kind, _KIND.Type):
        return f"must be {expects or ' or '.join(_TYPES[name] for name in kind.types)}, not {shown}"
    if isinstance(kind, _KIND.Enum):
        options = [str(option) for option in limit]
        meant = value_answer(str(path[-1]) if path else "", value) if isinstance(value, str) else ""
        if meant in options:
            return f"{shown} is not allowed; write {meant}"
        near = close(value, options) if isinstance(value, str) else ""
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
