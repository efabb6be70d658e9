"""The JSON Schema of the types of answers."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints, is_typeddict

Definitions = dict[str, dict[str, Any]]

_SIMPLE: Final[dict[Any, str]] = {
    str: "string",
    bytes: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}
_SUFFIX: Final = "Shape"  # of the types, not of their names in a document


def schema_of(kind: Any, definitions: Definitions) -> dict[str, Any]:
    """Return the schema of a type, and add those of the mappings with fixed keys in it to the definitions.

    Raises:
        TypeError: the type has no schema.
    """
    if kind is Any:
        return {}
    if kind in _SIMPLE:
        return {"type": _SIMPLE[kind]}
    if is_typeddict(kind):
        return _reference(kind, definitions)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {**schema_of(arguments[0], definitions), "format": arguments[1]}
    if origin in (Union, types.UnionType):
        return _any_of([schema_of(each, definitions) for each in arguments])
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0], definitions)}
    if origin is tuple:
        places = [schema_of(each, definitions) for each in arguments]
        return {"type": "array", "prefixItems": places, "minItems": len(places), "maxItems": len(places)}
    if origin in (dict, Mapping):
        values = schema_of(arguments[1], definitions)
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    raise TypeError(f"{kind} has no JSON Schema")


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a value that fits one of some schemas: a simple one, or null."""
    null = {"type": "null"}
    not_null = [schema for schema in schemas if schema != null]
    if len(not_null) == 1 and isinstance(kind := not_null[0].get("type"), str):
        return {**not_null[0], "type": [kind, "null"]}
    return {"anyOf": schemas}


def _reference(kind: Any, definitions: Definitions) -> dict[str, Any]:
    """Return a reference to the schema of a mapping with fixed keys."""
    name = kind.__name__.removesuffix(_SUFFIX)
    if name not in definitions:
        definitions[name] = {}  # so that a mapping in itself is a reference
        fields = get_type_hints(kind, include_extras=True)
        definitions[name] = {
            "type": "object",
            "description": kind.__doc__,
            "properties": {field: schema_of(each, definitions) for field, each in fields.items()},
            "required": [field for field in fields if field in kind.__required_keys__],
        }
    return {"$ref": f"#/components/schemas/{name}"}
