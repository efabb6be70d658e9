"""Bodies of tasks of a built-in type for dags in Python: the same keys and the same checks as in a workflow file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.parser.messages import message_of
from lightflow.parser.schema_validator import SchemaError, Validator
from lightflow.plugins.connection_keys import (
    connection_schema,
    entries_of_connection,
    has_free_names,
    keys_of_connection,
)
from lightflow.plugins.needs import missing_modules, needs_text
from lightflow.plugins.registry import Registry
from lightflow.spec.model import TaskSpec
from liteflow import Call, DefinitionError, Secret, Task
from liteflow.api import EMPTY_MAPPING, VARIABLE_NAME, VARIABLE_NAME_RULE, Body, BodyDefaults, Item, Record, Ref

_PLACEHOLDERS = (Task, Ref, Item, Secret)


class SharedConnection(Record):
    """A connection to a server, for tasks of a type."""

    type_name: str
    keys: Mapping[str, Any]


def connection(type_name: str, **keys: Any) -> SharedConnection:
    """Return a connection that tasks share: `api = connection("http", url="https://example.org")`.

    The keywords are those of `connections` in a workflow file; `http("/orders", connection=api)` takes them.

    Raises:
        DefinitionError: with all mistakes in the keys.
    """
    task_type = Registry().built_in(type_name)
    allowed = connection_schema(task_type.schema) if task_type is not None else {}
    if not allowed:
        raise DefinitionError(f"connection(…): type {type_name!r} has no connections")
    if problems := _problems({"properties": allowed}, keys):
        raise DefinitionError(f"connection({type_name!r}, …): {'; '.join(problems)}")
    return SharedConnection(type_name=type_name, keys=keys)


class ProgramEnvironment(Record):
    """The environment of the program that a body starts."""

    env: Mapping[str, Any] = EMPTY_MAPPING  #: its variables; a Task means its value
    secrets: Sequence[str] = ()  #: the names of the secrets of the dag that it gets
    cwd: str | None = None  #: its folder; a relative path starts from the current one


_NOTHING = ProgramEnvironment()


def call_of(type_name: str, keys: Mapping[str, Any], program: ProgramEnvironment = _NOTHING) -> Call:
    """Return the body of a task of a type that calls a function; see `body_of`."""
    body = body_of(type_name, keys, program)
    assert isinstance(body, Call)
    return body


def body_of(type_name: str, keys: Mapping[str, Any], program: ProgramEnvironment = _NOTHING) -> Body:
    """Return the body of a task of a type; keys that are None are left out.

    A Task among the values, at any depth, means its return value, and a Secret the value of the secret.

    Raises:
        DefinitionError: with all mistakes in the keys; or a module is not installed.
    """
    task_type = Registry().built_in(type_name)
    assert task_type is not None
    config = _with_connection(
        type_name, task_type.schema, {key: value for key, value in keys.items() if value is not None}
    )
    problems = _problems(task_type.schema, config)
    config = _in_long_form(task_type.schema, config)
    problems += [f"{problem.key}: {problem.message}" for problem in task_type.check(config)]
    if missing := missing_modules(task_type.needed_modules(config)):
        problems.append(needs_text(type_name, missing, task_type.extra))
    problems += [
        f"env: {name!r} is not the name of a variable: use {VARIABLE_NAME_RULE}"
        for name in program.env
        if not isinstance(name, str) or not re.fullmatch(VARIABLE_NAME, name)
    ]
    if problems:
        raise DefinitionError(f"{type_name}(…): {'; '.join(problems)}")
    file = os.path.join(os.getcwd(), "dag.py")  # relative paths start from the current folder
    env, secrets, cwd = program.env, tuple(program.secrets), program.cwd
    spec = TaskSpec(id="", type=type_name, config=config, file=file, env=env, secrets=secrets, cwd=cwd)
    body = task_type.build(spec)
    undo = body.undo and body.undo._replace(secrets=secrets)
    if not isinstance(body, Call):
        return body._replace(secrets=secrets, undo=undo)
    defaults = BodyDefaults(
        timeout_s=task_type.timeout_s, hook_timeout_s=task_type.hook_timeout_s, hook_retries=task_type.hook_retries
    )
    return body._replace(secrets=secrets, undo=undo, defaults=defaults)


def _in_long_form(schema: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys as the parser gives them to task types: lines are a text, and a shorthand is a mapping."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        part = schema["properties"].get(key, {})
        if "x-shorthand" in part and isinstance(value, str):
            result[key] = {part["x-shorthand"]: value}
        elif "x-lines" in part and isinstance(value, list):
            result[key] = "\n".join(value)
        elif isinstance(value, dict) and "properties" in part:
            result[key] = _in_long_form(part, value)
        else:
            result[key] = value
    return result


def _problems(schema: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    errors = Validator({"type": "object", "additionalProperties": False, **schema}).errors(config)
    return [_words(error) for error in errors if not isinstance(error.value, _PLACEHOLDERS)]


def _with_connection(type_name: str, schema: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a task with those of its connection. Raises DefinitionError."""
    properties = schema["properties"]
    for key, value in config.items():
        inner = properties.get(key, {}).get("x-connection-of")
        if inner is not None and isinstance(value, dict):
            inner_type = Registry().built_in(inner)
            assert inner_type is not None
            # The keys that such a key has are those of the type; its connection is checked like that of a task.
            config = {**config, key: _with_connection(inner, inner_type.schema, value)}
    connection = config.get("connection")
    if not isinstance(connection, SharedConnection):
        if "connection" in config and "connection" not in keys_of_connection(schema).values():
            raise DefinitionError(f"{type_name}(…): connection: must be what `connection(…)` returns")
        return config
    if connection.type_name != type_name:
        raise DefinitionError(f"{type_name}(…): connection: it is of type {connection.type_name}")
    result = {key: value for key, value in config.items() if key != "connection"}
    for name, key in keys_of_connection(schema).items():
        if name not in connection.keys:
            continue
        present, value = result.get(key), connection.keys[name]
        if key not in result:
            result[key] = value
        elif has_free_names(schema, key) and isinstance(present, dict) and isinstance(value, dict):
            result[key] = {**entries_of_connection(present, value), **present}
    return result


def _words(error: SchemaError) -> str:
    """Return a mistake with its place in words."""
    place = ".".join(map(str, error.path))
    if error.names:
        verb = "needs" if error.keyword in ("required", "dependentRequired") else "there is no key"
        text = f"{verb} {', '.join(map(repr, error.names))}"
    else:
        text = message_of(error, list(error.path))
    return f"{place}: {text}" if place else text
