"""Connections: the key `connections` of the file, and `connection` of tasks and hooks, which take its keys."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import FREE, ID_PATTERN, Schema, is_expression
from lightflow.parser.subjects.defaults import add_entries
from lightflow.parser.tree import Tree, mapping_or_empty
from lightflow.plugins.base import TypeInfo
from lightflow.plugins.connection_keys import (
    connection_schema,
    entries_of_connection,
    has_free_names,
    keys_of_connection,
)
from lightflow.plugins.expression_kinds import rule_at, texts_in
from lightflow.text import did_you_mean, quoted

CONNECTIONS: Final[Schema] = {
    "description": "Named connections to servers. A task with `connection: NAME` takes the keys that it does not have "
    "itself from there; the entries of `headers` and `query` are merged.",
    "type": "object",
    "propertyNames": {"pattern": ID_PATTERN},
    "patternProperties": FREE,
    "additionalProperties": {"$ref": "#/$defs/connection"},
    "examples": [{"warehouse": {"type": "sql", "url": "postgresql://db.example.org/shop", "user": "loader"}}],
    "x-expects": "a mapping of names to connections",
}


def connection_schemas(types: Mapping[str, Mapping[str, Any]]) -> dict[str, Schema]:
    """Return the definitions of the schema: a connection, and the connections for each task type that has some."""
    of_types = {name: connection_schema(schema) for name, schema in types.items()}
    of_types = {name: keys for name, keys in of_types.items() if keys}
    branches = [
        {
            "if": {"type": "object", "properties": {"type": {"const": name}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/connection_{name}"},
        }
        for name in of_types
    ]
    type_key = {
        "description": "The task type that the connection is for.",
        "type": "string",
        "examples": ["http"],
        "x-expects": "a task type that has connections: http, sql, mail or lambda",
    }
    connection = {
        "title": "Connection",
        "type": "object",
        "properties": {"type": type_key},
        "patternProperties": FREE,
        "required": ["type"],
        "allOf": branches,
        "x-expects": "a mapping with `type` and the keys of that connection",
    }
    definitions: dict[str, Schema] = {"connection": connection}
    for name, keys in of_types.items():
        definitions[f"connection_{name}"] = {
            "title": f"Connection of type {name}",
            "type": "object",
            "properties": {"type": True, **keys},
            "patternProperties": FREE,
            "additionalProperties": False,
        }
    return definitions


def apply_connections(tree: Tree, types: Iterable[TypeInfo]) -> None:
    """Give each task and hook that names a connection the keys of it."""
    schemas = {info.name: info.schema for info in types if info.schema is not None}
    connections = mapping_or_empty(tree.root.get("connections"))
    for place in _places(tree, schemas):
        name, schema = place.keys.get("connection"), schemas.get(place.task_type)
        if not keys_of_connection(schema) or schema is None or not isinstance(name, str) or not _is_name(name):
            continue
        connection = connections.get(name)
        if not isinstance(connection, dict) or connection.get("type") != place.task_type:
            message = _problem(name, place.task_type, connections)
            tree.problems.append(tree.problem([*place.path, "connection"], message))
            continue
        del place.keys["connection"]
        _merge(tree, place, schema, connection, ["connections", name])


class _Place(NamedTuple):
    """A mapping that may name a connection."""

    keys: dict[str, Any]
    path: list[Key]
    task_type: str
    allowed: Collection[str]  # the keys that it may have


def _places(tree: Tree, schemas: Mapping[str, Mapping[str, Any]]) -> Iterator[_Place]:
    """Yield the tasks, the hooks, and the mappings in them that have the keys of a type: `x-connection-of`."""
    for node in tree.task_nodes:
        task_type = node.keys.get("type")
        if not isinstance(task_type, str):
            continue
        properties = schemas.get(task_type, {}).get("properties", {})
        yield _Place(node.keys, node.path, task_type, properties)
        for key, part in properties.items():
            if "x-connection-of" in part and isinstance(inner := node.keys.get(key), dict):
                yield _Place(inner, [*node.path, key], part["x-connection-of"], part["properties"])


def _is_name(text: str) -> bool:
    """Return whether a text names a connection: it is not the address of a database, and has no expression."""
    return "://" not in text and not is_expression(text)


def _problem(name: str, task_type: Any, connections: Mapping[str, Any]) -> str:
    if name in connections:
        other = mapping_or_empty(connections[name]).get("type")
        return f"the connection {quoted(name)} is of type {other}, and the task of type {task_type}"
    hint = did_you_mean(name, connections) or "; declare it under `connections` of the workflow"
    return f"no connection {quoted(name)}{hint}"


def _merge(
    tree: Tree, place: _Place, schema: Mapping[str, Any], connection: Mapping[str, Any], path: list[Key]
) -> None:
    keys = place.keys
    for name, key in keys_of_connection(schema).items():
        if name not in connection or key not in place.allowed:
            continue
        present, value = keys.get(key), connection[name]
        if key not in keys:
            keys[key] = value
            tree.note_origin(keys, key, connection, name, [*path, name])
        elif has_free_names(schema, key) and isinstance(present, dict) and isinstance(value, dict):
            add_entries(tree, keys, key, connection, path, names=entries_of_connection(present, value))


def check_connections(tree: Tree, types: Iterable[TypeInfo]) -> Iterator[Problem]:
    """Report connections of types that have none, and secrets in clear text."""
    schemas = {info.name: connection_schema(info.schema) for info in types}
    for name, connection in mapping_or_empty(tree.root.get("connections")).items():
        task_type = tree.unknown_types.get(id(connection), mapping_or_empty(connection).get("type"))
        if not isinstance(task_type, str):
            continue
        if not schemas.get(task_type):
            message = f"type {task_type} has no connections; http, sql, mail and lambda have some"
            yield tree.problem(["connections", name, "type"], message)
            continue
        keys = {"properties": schemas[task_type]}
        for inner_path, text in texts_in([], connection):
            if rule_at(keys, inner_path).is_secret and not is_expression(text):
                message = "a secret in clear text; declare it under `secrets`, and write ${{ secrets.NAME }} here"
                yield tree.problem(["connections", name, *inner_path], message)
