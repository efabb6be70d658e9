"""Accept a small, valid file at once: a validator for the part of JSON Schema that our own schema is written in.

The validator proper, jsonschema-rs, knows all of JSON Schema and finds every error with its place; importing it and
compiling the schema takes 35 ms, longer than a small workflow runs (docs/adr/0016). So a file of few tasks is first
held against the same schema here. What holds is valid; whatever does not, or cannot be decided by these few rules (a
keyword of a plugin's schema, a pattern on other than ASCII text), is left to jsonschema-rs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

#: Beyond this, interpreting costs more than the import saves.
FEW_TASKS: Final = 100
_EXACT: Final = 2**53  # larger whole numbers are compared as something else in other languages

_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and value == int(_exact(value)),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
_ANNOTATIONS: Final = frozenset(
    ["$schema", "$defs", "title", "description", "default", "examples", "x-aliases", "x-expects", "x-message", "then"]
)


#: Applies a schema to a part of the file.
Holds = Callable[[Any, Any], bool]
#: keyword -> (its value, the instance, the schema around it, ...) -> does it hold?
Check = Callable[[Any, Any, Any, Holds], bool]


class Undecided(Exception):
    """These rules are not enough to tell."""


def accepts(schema: Mapping[str, Any], value: Any) -> bool:
    """Is `value` valid for certain? False: it is not, or only the validator proper can tell."""
    try:
        return _holds(schema, value, schema)
    except Undecided:
        return False


def _holds(schema: Any, value: Any, root: Mapping[str, Any]) -> bool:
    if isinstance(schema, bool):
        return schema

    def holds(part: Any, inner: Any) -> bool:
        return _holds(part, inner, root)

    for keyword, rule in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        if keyword == "$ref":
            keyword, rule = "allOf", [_part(root, rule)]
        check = _KEYWORDS.get(keyword)
        if check is None:
            raise Undecided
        if not check(rule, value, schema, holds):
            return False
    return True


def _part(root: Mapping[str, Any], reference: str) -> Any:
    before, _, name = reference.rpartition("/")
    if before != "#/$defs":
        raise Undecided
    return root["$defs"][name]


def _matches(pattern: str, text: str) -> bool:
    """Only where all dialects of regular expressions agree."""
    if not text.isascii() or ("$" in pattern and "\n" in text):
        raise Undecided
    return re.search(pattern, text, re.ASCII) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exact(number: float) -> float:
    if not abs(number) <= _EXACT:
        raise Undecided
    return number


def _type(rule: Any, value: Any, schema: Any, holds: Holds) -> bool:
    return any(_TYPES[name](value) for name in ([rule] if isinstance(rule, str) else rule))


def _among(options: Any, value: Any) -> bool:
    """One of some words, or true or false; equality of anything else has its own rules in JSON."""
    if not all(isinstance(option, str | bool) for option in options):
        raise Undecided
    return isinstance(value, str | bool) and any(type(option) is type(value) and option == value for option in options)


def _properties(rule: Any, value: Any, schema: Any, holds: Holds) -> bool:
    return not isinstance(value, dict) or all(holds(rule[name], value[name]) for name in value if name in rule)


def _pattern_properties(rule: Any, value: Any, schema: Any, holds: Holds) -> bool:
    if not isinstance(value, dict):
        return True
    return all(holds(part, value[name]) for pattern, part in rule.items() for name in value if _matches(pattern, name))


def _additional_properties(rule: Any, value: Any, schema: Any, holds: Holds) -> bool:
    if not isinstance(value, dict):
        return True
    named, patterns = schema.get("properties", ()), schema.get("patternProperties", ())
    return all(
        holds(rule, value[name])
        for name in value
        if name not in named and not any(_matches(pattern, name) for pattern in patterns)
    )


def _dependent_required(rule: Any, value: Any, schema: Any, holds: Holds) -> bool:
    return not isinstance(value, dict) or all(
        other in value for name, others in rule.items() if name in value for other in others
    )


def _if(rule: Any, value: Any, schema: Any, holds: Holds) -> bool:
    if "else" in schema:
        raise Undecided
    return not holds(rule, value) or holds(schema.get("then", True), value)


def _bound(compare: Callable[[Any, Any], bool]) -> Check:
    def check(rule: Any, value: Any, schema: Any, holds: Holds) -> bool:
        return not _is_number(value) or compare(_exact(value), rule)

    return check


def _size(kind: type[str] | type[list[Any]] | type[dict[str, Any]], compare: Callable[[int, int], bool]) -> Check:
    return lambda rule, value, schema, holds: not isinstance(value, kind) or compare(len(value), rule)


_KEYWORDS: Final[Mapping[str, Check]] = {
    "type": _type,
    "enum": lambda rule, value, schema, holds: _among(rule, value),
    "const": lambda rule, value, schema, holds: _among([rule], value),
    "pattern": lambda rule, value, schema, holds: not isinstance(value, str) or _matches(rule, value),
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "propertyNames": lambda rule, value, schema, holds: (
        not isinstance(value, dict) or all(holds(rule, name) for name in value)
    ),
    "required": lambda rule, value, schema, holds: not isinstance(value, dict) or all(name in value for name in rule),
    "dependentRequired": _dependent_required,
    "items": lambda rule, value, schema, holds: not isinstance(value, list) or all(holds(rule, item) for item in value),
    "allOf": lambda rule, value, schema, holds: all(holds(part, value) for part in rule),
    "oneOf": lambda rule, value, schema, holds: sum(holds(part, value) for part in rule) == 1,
    "if": _if,
    "minimum": _bound(lambda value, rule: value >= rule),
    "exclusiveMinimum": _bound(lambda value, rule: value > rule),
    "maximum": _bound(lambda value, rule: value <= rule),
    "minLength": _size(str, lambda length, rule: length >= rule),
    "minItems": _size(list, lambda length, rule: length >= rule),
    "minProperties": _size(dict, lambda length, rule: length >= rule),
}
