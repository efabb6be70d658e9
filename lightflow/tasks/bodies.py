"""Bodies of tasks of a built-in type for dags in Python: the same keys and the same checks as in a workflow file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.parser.messages import message_of
from lightflow.parser.schema_validator import SchemaError, Validator
from lightflow.plugins.needs import missing_modules, needs_text
from lightflow.plugins.registry import Registry
from lightflow.spec.model import TaskSpec
from liteflow import Call, DefinitionError, Secret, Task
from liteflow.api import EMPTY_MAPPING, Item, Ref

_PLACEHOLDERS = (Task, Ref, Item, Secret)


def body_of(
    type_name: str, keys: Mapping[str, Any], env: Mapping[str, str] = EMPTY_MAPPING, secrets: Sequence[str] = ()
) -> Call:
    """Return the body of a task of a type; keys that are None are left out.

    A Task among the values, at any depth, means its return value, and a Secret the value of the secret.

    Raises:
        DefinitionError: with all mistakes in the keys; or a module is not installed.
    """
    config = {name: value for name, value in keys.items() if value is not None}
    task_type = Registry().built_in(type_name)
    assert task_type is not None
    schema = {"type": "object", "additionalProperties": False, **task_type.schema}
    errors = [error for error in Validator(schema).errors(config) if not isinstance(error.value, _PLACEHOLDERS)]
    problems = [_words(error) for error in errors]
    problems += [f"{problem.key}: {problem.message}" for problem in task_type.check(config)]
    if missing := missing_modules(task_type.needed_modules(config)):
        problems.append(needs_text(type_name, missing, task_type.extra))
    if problems:
        raise DefinitionError(f"{type_name}(…): {'; '.join(problems)}")
    file = os.path.join(os.getcwd(), "dag.py")  # relative paths start from the current folder
    body = task_type.build(TaskSpec(id="", type=type_name, config=config, file=file, env=env, secrets=tuple(secrets)))
    assert isinstance(body, Call)
    return body._replace(secrets=tuple(secrets), undo=body.undo and body.undo._replace(secrets=tuple(secrets)))


def _words(error: SchemaError) -> str:
    """Return a mistake with its place in words."""
    place = ".".join(map(str, error.path))
    if error.names:
        verb = "needs" if error.keyword in ("required", "dependentRequired") else "there is no key"
        text = f"{verb} {', '.join(map(repr, error.names))}"
    else:
        text = message_of(error, list(error.path))
    return f"{place}: {text}" if place else text
