"""The key `plugins`: declare the task types of a file's own plugins, without running them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lightflow.errors import Problem
from lightflow.parser.positions import Source, problem_at
from lightflow.parser.schema import normalized_schema
from lightflow.parser.schema_validator import InvalidSchema, check_schema
from lightflow.parser.subjects.tasks import COMMON
from lightflow.plugins.registry import Registry, schema_fragment_problem
from lightflow.text import did_you_mean, quoted


def declare_plugins(source: Source, registry: Registry) -> tuple[list[str], list[Problem]]:
    """Declare the types of the file's `plugins` in `registry`; return the paths of the plugins, and the problems."""
    listed = source.tree.get("plugins")
    if not isinstance(listed, list):
        return [], []
    folder = os.path.dirname(os.path.abspath(source.file))
    paths: list[str] = []
    problems: list[Problem] = []
    for index, name in enumerate(listed):
        if not isinstance(name, str) or not name:
            continue  # the schema reports it
        path = os.path.normpath(os.path.join(folder, name))
        mark = source.positions.value(listed, index)
        if not name.endswith(".py"):
            message = f"{quoted(name)} is not a Python file (.py)"
            problems.append(problem_at(source.file, mark, "plugins", message))
        elif not os.path.isfile(path):
            near = did_you_mean(os.path.basename(path), _python_files(os.path.dirname(path)))
            message = f"no such file: {name}{near}; the path starts from the workflow file's folder"
            problems.append(problem_at(source.file, mark, "plugins", message))
        else:
            paths.append(path)
            shown = os.path.join(os.path.dirname(source.file), name)
            problems += registry.declare(path, shown)
            problems += _schema_problems(registry, path, shown)
    return paths, problems


def _python_files(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name.endswith(".py")]
    except OSError:
        return []


def _schema_problems(registry: Registry, path: str, shown: str) -> Iterator[Problem]:
    for info in registry.described():
        if info.ref.path != path or info.schema is None:
            continue
        reason = schema_fragment_problem(info.schema, COMMON)
        if reason is None:
            try:
                check_schema(info.schema, normalized_schema([info]))
            except InvalidSchema as error:
                reason = f"not JSON Schema: {error}"
        if reason is not None:
            registry.forget(info.name)
            yield Problem(shown, info.line, 1, "", f'the schema of task type "{info.name}" cannot be used: {reason}')
