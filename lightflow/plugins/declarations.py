"""Read the task types that a plugin file declares, without running it.

A declaration is a class at the top level of the file that derives from `TaskType` (or from another declaration) and has
`name = "…"` and `schema = {…}` written out as literals, and perhaps `needs = (…)` and `extra = "…"`.
"""

from __future__ import annotations

import ast
import os
import stat
import warnings
from collections.abc import Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.plugins.base import TypeInfo, TypeRef
from liteflow.api import replace

#: The attributes that are read: the class of their literal, and how it is written.
_LITERALS: Final[Mapping[str, tuple[type | tuple[type, ...], str]]] = {
    "name": (str, 'a plain text such as "my_type"'),
    "schema": (dict, "a plain dict, without names or calls"),
    "needs": ((tuple, list), 'a plain tuple of modules such as ("requests",)'),
    "extra": (str, 'a plain text such as "my-package[extra]"'),
}
MAX_BYTES: Final = 4 * 1024 * 1024


def read_declarations(path: str, shown: str) -> tuple[list[TypeInfo], list[Problem]]:
    """Return the task types of the file at `path` (absolute), and its problems; `shown` is its name in messages."""
    tree, problem = _parse(path, shown)
    if tree is None:
        return [], [problem] if problem else []
    types: dict[str, TypeInfo] = {}  # by class
    problems: list[Problem] = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
        parents = [types[base] for base in bases if base in types]
        if "TaskType" not in bases and not parents:
            continue
        inherited = parents[0].schema if parents else {}
        info = _declaration(node, path, shown, inherited or {}, problems)
        if info is not None:
            types[node.name] = replace(info, waits=_has_poll(node) or any(parent.waits for parent in parents))
    if not types and not problems:
        problems.append(Problem(shown, 1, 1, "", "declares no task type: no class here derives from TaskType"))
    return list(types.values()), problems


def _declaration(
    node: ast.ClassDef, path: str, shown: str, schema: Mapping[str, Any], problems: list[Problem]
) -> TypeInfo | None:
    values: dict[str, Any] = {"schema": schema}
    for statement in node.body:
        target, value = _assignment(statement)
        if target not in _LITERALS or value is None:
            continue
        try:
            literal = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            literal = None
        kind, what = _LITERALS[target]
        if not isinstance(literal, kind) or (not literal and target in ("name", "schema")):
            message = f"class {node.name}: `{target}` must be written as {what}"
            problems.append(Problem(shown, value.lineno, value.col_offset + 1, "", message))
            return None
        values[target] = literal
    if "name" not in values:
        message = f'class {node.name} has no `name`; write `name = "…"` in it'
        problems.append(Problem(shown, node.lineno, node.col_offset + 1, "", message))
        return None
    return TypeInfo(
        name=values["name"],
        schema=values["schema"],
        ref=TypeRef(attribute=node.name, path=path),
        origin=shown,
        line=node.lineno,
        needs=tuple(map(str, values.get("needs", ()))),
        extra=values.get("extra", ""),
    )


def _has_poll(node: ast.ClassDef) -> bool:
    return any(isinstance(each, ast.FunctionDef) and each.name == "poll" for each in node.body)


def source_of(module: str) -> str | None:
    """Return the path of the source of an installed module without importing it or its packages; None: it has none."""
    import importlib.machinery
    import importlib.util

    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
        name = first
        for part in rest:
            name = f"{name}.{part}"
            folders = spec.submodule_search_locations if spec is not None else None
            spec = importlib.machinery.PathFinder.find_spec(name, folders) if folders is not None else None
    except (ImportError, ValueError, AttributeError):
        return None
    path = spec.origin if spec is not None else None
    return path if path is not None and path.endswith(".py") and os.path.isfile(path) else None


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        return getattr(statement.targets[0], "id", ""), statement.value
    if isinstance(statement, ast.AnnAssign):
        return getattr(statement.target, "id", ""), statement.value
    return "", None


def _parse(path: str, shown: str) -> tuple[ast.Module | None, Problem | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = os.read(descriptor, MAX_BYTES + 1) if regular else None
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        return None, Problem(shown, 0, 0, "", f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if data is None or len(data) > MAX_BYTES:
        return None, Problem(shown, 0, 0, "", f"is not a Python file of at most {MAX_BYTES // 1024 // 1024} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they appear when the file is imported
            return ast.parse(data, filename=shown), None
    except SyntaxError as error:
        return None, Problem(shown, error.lineno or 0, error.offset or 1, "", f"not valid Python: {error.msg}")
    except (ValueError, MemoryError, RecursionError) as error:
        return None, Problem(shown, 0, 0, "", f"not valid Python: {error or 'too deeply nested'}")
