"""Pieces that several parts of the schema share, and the annotations that `normalize` and `messages` read.

Additional annotations, besides the keywords of JSON Schema:

- `x-aliases`: other names of a key.
- `x-expects`: what a value must be, in words; for messages.
- `x-message`: the message when a `oneOf` or a `contains` fails.
- `x-list`: a single value means a list with that value.
- `x-lines`: a list of lines means the text of these lines.
- `x-shorthand`: text (or a list of lines) means a mapping with this key.
- `x-default`: a missing key is set to this value.
- `x-as-written`: the values in the mapping are the text that the file has, such as `08080`.
"""

from __future__ import annotations

from typing import Any, Final

from lightflow.spec.durations import LONGEST_S, PATTERN

Schema = dict[str, Any]

ID_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
ID_WORDS: Final = '1 to 128 letters (a to z), digits, "_", "." and "-", beginning with a letter, a digit or "_"'
#: Keys that begin with `x-` are allowed in every mapping, and ignored.
FREE: Final = {"^x-": {"description": "Free for you: anchors, notes."}}
#: The beginning of an expression.
EXPRESSION: Final = r"\$\{\{"
EXIT_CODES: Final[Schema] = {"type": "array", "items": {"type": "integer", "minimum": -64, "maximum": 255}}
EXCEPTIONS: Final[Schema] = {"type": "array", "items": {"type": "string", "minLength": 1}}


def is_expression(value: object) -> bool:
    """Return whether a value is evaluated when the run starts."""
    return isinstance(value, str) and "${{" in value


def or_expression(schema: Schema) -> Schema:
    """Return the schema of a key whose value may also be an expression."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    pattern = f"{schema['pattern']}|{EXPRESSION}" if "pattern" in schema else EXPRESSION
    words = {"integer": "a whole number"}.get(kinds[0], "")
    return {"x-expects": words, **schema, "type": list(dict.fromkeys([*kinds, "string"])), "pattern": pattern}


def duration(description: str, *, zero: bool, **keywords: Any) -> Schema:
    """Return the schema of a duration in seconds or as text; `zero` says whether it may be 0."""
    return {
        "description": description,
        "type": ["number", "string"],
        "minimum" if zero else "exclusiveMinimum": 0,
        "maximum": LONGEST_S,
        "minLength": 1,
        "pattern": PATTERN,
        "x-expects": 'a time: seconds such as 30, or text such as "30s", "5m", "1h30m" or "1d"',
        **keywords,
    }


def integer(description: str, minimum: int, maximum: int, **keywords: Any) -> Schema:
    """Return the schema of a whole number."""
    return {"description": description, "type": "integer", "minimum": minimum, "maximum": maximum, **keywords}


def flag(description: str, **keywords: Any) -> Schema:
    """Return the schema of a key that is true or false, and false by default."""
    return {"description": description, "type": "boolean", "default": False, **keywords}


def ids(description: str, **keywords: Any) -> Schema:
    """Return the schema of a list of names, which may also be a single name."""
    expects = keywords.pop("item", "the id of a task")
    return {
        "description": description,
        "type": ["array", "string"],
        "items": {"type": "string", "x-expects": expects},
        "x-list": True,
        **keywords,
    }


def block(title: str, description: str, properties: dict[str, Schema], **keywords: Any) -> Schema:
    """Return the schema of a mapping with these keys and no others, except keys that begin with `x-`."""
    return {
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
        "patternProperties": FREE,
        "additionalProperties": False,
        **keywords,
    }


def block_at(reference: str) -> Schema:
    """Return the keywords that apply `$defs/reference` to a value that is a mapping."""
    return {"if": {"type": "object"}, "then": {"$ref": f"#/$defs/{reference}"}}
