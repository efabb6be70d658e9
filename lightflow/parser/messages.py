"""Messages for the errors of the schema validator."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.other_tools import key_answer, level_of, near_key_answer, option_hint, replaced_keys
from lightflow.parser.positions import Key
from lightflow.parser.schema import TOP, aliases_of
from lightflow.parser.schema_pieces import ID_WORDS
from lightflow.parser.schema_validator import Schema, SchemaError
from lightflow.parser.subjects.settings import SETTINGS
from lightflow.parser.subjects.tasks import COMMON
from lightflow.parser.tree import Tree, dotted
from lightflow.plugins.base import TypeInfo
from lightflow.plugins.registry import BUILT_IN, Registry
from lightflow.spelling import fold, typo_hint
from lightflow.text import quoted
from liteflow.api import VARIABLE_NAME_RULE, replace

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_SIZES: Final = ("type", "minProperties", "minItems", "contains")
_LIMITS: Final = {
    "minimum": "must be at least {limit}, not {value}",
    "exclusiveMinimum": "must be more than {limit}, not {value}",
    "maximum": "must be at most {limit:,}, not {value}",
    "exclusiveMaximum": "must be less than {limit:,}, not {value}",
    "minLength": "must not be empty",
    "minItems": "must not be empty",
    "minProperties": "must not be empty",
    "maxItems": "may have at most {limit}",
    "maxProperties": "may have {limit} of these keys at most",
    "maxLength": "may be at most {limit} characters long",
    "multipleOf": "must be a multiple of {limit}, not {value}",
    "uniqueItems": "has the same value twice",
    "pattern": "{value} does not match {limit}",
}
#: The mappings whose keys are names of variables.
_VARIABLES = ("env", "params", "secrets", "matrix")


def problems_of(
    error: SchemaError, tree: Tree, types: Mapping[str, TypeInfo], damaged: Container[str] = ()
) -> Iterator[Problem]:
    """Return the problems of one error of the validator.

    A list or mapping at one of the `damaged` paths has been read in part, so its size and type are not reported.
    """
    path = list(error.path)
    if error.keyword == "additionalProperties":
        yield from _unknown_keys(error, path, tree, types)
        return
    if error.keyword == "propertyNames":
        name = error.names[0]
        rule = f"a name of {VARIABLE_NAME_RULE}" if path and path[-1] in _VARIABLES else ID_WORDS
        yield tree.problem([*path, name], f"{quoted(name)} is not allowed as a name here: use {rule}", key=True)
        return
    if error.keyword in _SIZES and isinstance(error.value, dict | list) and dotted(path) in damaged:
        return
    if error.keyword in ("required", "dependentRequired"):
        if not _is_replaced(error.names[0], error, path):
            yield _required(error.names[0], path, error.schema, tree)
        return
    if error.keyword == "oneOf" and isinstance(error.value, dict):
        needed = [key for part in error.rule if isinstance(part, dict) for key in part.get("required", ())]
        if any(_is_replaced(key, error, path) for key in needed):
            return
    problem = tree.problem(path, message_of(error, path), key=isinstance(error.value, dict))
    yield replace(problem, path=dotted(tree.written_path(path)))


def _unknown_keys(error: SchemaError, path: list[Key], tree: Tree, types: Mapping[str, TypeInfo]) -> Iterator[Problem]:
    allowed = error.schema.get("properties", {})
    for name in error.names:
        hint = _type_hint(name, error.schema) or _unknown_hint(name, allowed, path, error.value.get(name), types)
        if not hint and _is_after_comma(tree, [*path, name]):
            hint = "; between braces, text that holds a comma needs quotes"
        tree.unknown_keys.add(dotted([*path, name]))
        yield tree.problem([*path, name], f"unknown key {quoted(name)}{hint}", key=True)


def _type_hint(name: str, schema: Schema) -> str:
    """Return what a task type says about an unknown key: `x-answers` of its schema."""
    answer = _own_answer(name, schema)
    return f"; write `{answer}`" if answer in schema.get("properties", {}) else f"; {answer}" if answer else ""


def _own_answer(name: str, schema: Schema) -> str:
    answers: Mapping[str, str] = schema.get("x-answers", {})
    return next((answer for words, answer in answers.items() if fold(name) in words.split()), "")


def _required(name: str, path: list[Key], schema: Schema, tree: Tree) -> Problem:
    expected = schema.get("properties", {}).get(name)
    words = expected.get("x-expects", "") if isinstance(expected, dict) else ""
    message = f'needs "{name}"' + (f": {words}" if words else "")
    if not path:
        return tree.problem([], f"the file {message}")
    return replace(tree.problem(path, message, key=True), path=dotted(path))


def _unknown_hint(
    name: str, allowed: Mapping[str, Any], path: list[Key], value: Any, types: Mapping[str, TypeInfo]
) -> str:
    """Return what to write instead of an unknown key: our key for that of another tool, a key elsewhere, a typo."""
    answer = key_answer(name, path, value)
    if answer:
        return f"; {answer}"
    elsewhere = _elsewhere(name, level_of(path), types)
    if elsewhere:
        return f"; {elsewhere}"
    typo = typo_hint(name, _names_in(allowed))
    if typo:
        return typo
    answer = near_key_answer(name, path, value)
    return f"; {answer}" if answer else ""


def _names_in(properties: Mapping[str, Any]) -> list[str]:
    """Return the keys of a mapping with their aliases."""
    common = {key: COMMON[key] for key, schema in properties.items() if schema is True and key in COMMON}
    return [*properties, *aliases_of({**properties, **common})]


def _is_replaced(key: str, error: SchemaError, path: list[Key]) -> bool:
    """Return whether an unknown key takes the place of the missing key."""
    allowed = error.schema.get("properties", {})
    unknown = [name for name in error.value if name not in allowed and not name.startswith("x-")]
    return any(key in _replaced_by(name, error.schema, path) for name in unknown)


def _replaced_by(name: str, schema: Schema, path: list[Key]) -> list[str]:
    """Return the keys whose place an unknown key takes: those that the answer of the type names, or of other tools."""
    answer = _own_answer(name, schema)
    return answer.split("`") if answer else replaced_keys(name, path, _names_in(schema.get("properties", {})))


def _is_after_comma(tree: Tree, path: list[Key]) -> bool:
    """Return whether a key without a value is the rest of a text that was cut at a comma."""
    key, value = tree.locate(path, key=True), tree.locate(path)
    lines = tree.source.text.splitlines()
    before = lines[key.line][: key.column] if key.line < len(lines) else ""
    node: Any = tree.root
    for name in path:
        node = node.get(name) if isinstance(node, dict) else node[int(name)] if isinstance(node, list) else None
    return node is None and value.line == key.line and before.rstrip().endswith(",")


#: Blocks of a task, for messages about keys that belong to the task itself.
_BLOCKS: Final = {
    "hook": "a hook",
    "precondition": "a precondition",
    "retry": "the block `retry`",
    "repeat": "the block `repeat`",
}


def _elsewhere(name: str, level: str, types: Mapping[str, TypeInfo]) -> str:
    """Return the place of a key that belongs to another place of the file."""
    of_types = _types_with(name, types.values())
    of_tasks, of_settings, of_file = map(_with_aliases, (COMMON, SETTINGS["properties"], TOP))
    if level == "task" and of_types:
        return f"it belongs to tasks of type {of_types}"
    if level == "task" and name in of_settings:
        return "it belongs under `settings` at the top of the file"
    if level == "task" and name in of_file:
        return "it belongs at the top of the file"
    if level == "top" and name in of_settings:
        return (
            "it belongs inside a task, or for all tasks under `settings`"
            if name in of_tasks
            else ("it belongs under `settings`")
        )
    if level == "settings" and name in of_file:
        return "it belongs " + ("inside a task, or " if name in of_tasks else "") + "at the top of the file"
    if level in ("top", "settings") and (name in of_tasks or of_types):
        return "it belongs inside a task"
    if level in _BLOCKS and name in of_tasks:
        return f"it belongs to the task itself: {_BLOCKS[level]} cannot have it"
    of_others = _types_with(name, Registry().use(BUILT_IN).described()) if level == "task" else ""
    return f"it belongs to tasks of type {of_others}" if of_others else ""


def _types_with(name: str, types: Iterable[TypeInfo]) -> str:
    """Return the names of the types that have a key, in words; empty where none has it."""
    names = [info.name for info in types if name in _with_aliases((info.schema or {}).get("properties", {}))]
    return " or ".join(map(quoted, sorted(names)))


def _with_aliases(properties: Mapping[str, Any]) -> set[str]:
    return {*properties, *aliases_of(properties)}


def message_of(error: SchemaError, path: list[Key]) -> str:
    """Return an error of the validator in words, without its place."""
    keyword, limit = error.keyword, error.rule
    expects, shown = error.schema.get("x-expects"), _shown(error.value)
    if keyword == "type":
        names = [limit] if isinstance(limit, str) else limit
        return f"must be {expects or ' or '.join(_TYPES[name] for name in names)}, not {shown}"
    if keyword in ("enum", "const"):
        return _not_an_option(error, path)
    if keyword in ("oneOf", "anyOf", "not", "contains"):
        words = f"must be {expects}, not {shown}" if expects else "has a shape that is not allowed"
        return str(error.schema.get("x-message", words))
    if keyword in ("pattern", "minLength") and expects:
        return f"must be {expects}, not {shown}"
    if keyword in ("minItems", "minProperties") and limit != 1:
        return f"needs at least {limit}"
    return _LIMITS.get(keyword, "is not allowed here: {value}").format(limit=limit, value=shown)


def _not_an_option(error: SchemaError, path: list[Key]) -> str:
    """Return the message about a value that is not one of a few."""
    rule = error.rule if error.keyword == "enum" else [error.rule]
    options = [_shown(option) if isinstance(option, bool) else str(option) for option in rule]
    hint = option_hint(str(path[-1]) if path else "", error.value, options) if isinstance(error.value, str) else ""
    choice = error.schema.get("x-expects") or f"one of {', '.join(options)}"
    return hint or f"must be {choice}, not {_shown(error.value)}"


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
