"""What a task is mapped over, as the file says it (`matrix`, `foreach`): its spec, and its mistakes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.canonical import Tree
from lightflow.parser.schema_fan import NO_AXES
from lightflow.spec.model import MappingSpec
from lightflow.text import did_you_mean, quoted

_TAKEN: Final = frozenset(
    [
        *("params", "env", "run", "workflow", "task", "tasks", "needs", "secrets", "matrix", "raw", "range"),
        *("true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else"),
    ]
)


def name_of(task: Mapping[str, Any]) -> str:
    """What expressions call the part of an instance; empty: the task has no instances."""
    if "matrix" in task:
        return "matrix"
    block = task.get("foreach")
    if isinstance(block, dict) and isinstance(block.get("as"), str):
        return str(block["as"])
    return "item" if "foreach" in task else ""


def axes_of(matrix: Mapping[str, Any]) -> dict[str, Any]:
    """The axes of a matrix."""
    return {name: values for name, values in matrix.items() if name not in NO_AXES}


def fields_of(task: Mapping[str, Any]) -> list[str] | None:
    """What instances have of a matrix; None: that is not known, or there is none."""
    matrix = task.get("matrix")
    if not isinstance(matrix, dict):
        return None
    more = matrix.get("include", [])
    if not isinstance(more, list):
        return None
    return list(dict.fromkeys([*axes_of(matrix), *(key for one in more if isinstance(one, dict) for key in one)]))


def fan_spec(task: Mapping[str, Any]) -> MappingSpec | None:
    """What a checked task is mapped over."""
    if "matrix" in task:
        matrix = task["matrix"]
        return MappingSpec(
            "matrix",
            axes=axes_of(matrix),
            include=matrix.get("include", ()),
            exclude=matrix.get("exclude", ()),
            key=matrix.get("key"),
            **_limits(matrix),
        )
    if "foreach" not in task:
        return None
    block = task["foreach"]
    if not isinstance(block, dict):
        return MappingSpec("item", block)
    return MappingSpec(block.get("as", "item"), block["items"], key=block.get("key"), **_limits(block))


def _limits(block: Mapping[str, Any]) -> dict[str, Any]:
    most = block.get("max_parallel")
    return {"max_parallel": None if most is None else int(most), "fail_fast": block.get("fail_fast", False)}


def fan_problems(tree: Tree, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """What the schema cannot say of them."""
    for task_id, task in tasks.items():
        path: list[str | int] = ["tasks", task_id]
        if "matrix" in task and "foreach" in task:
            message = 'a task has "matrix" or "foreach", not both: make the list of one of them an axis of the other'
            yield tree.problem([*path, "foreach"], message, key=True)
        for key in ("branch", "short_circuit", "teardown_of") if "matrix" in task or "foreach" in task else ():
            if task.get(key):
                message = (
                    f'a task that runs once for each item cannot have "{key}"; put a task that does before or behind it'
                )
                yield tree.problem([*path, key], message, key=True)
        block = task.get("foreach")
        if isinstance(block, dict) and block.get("as") in _TAKEN:
            message = f"{quoted(block['as'])} has a meaning in expressions already; choose another name"
            yield tree.problem([*path, "foreach", "as"], message)
        if isinstance(task.get("matrix"), dict):
            yield from _matrix_problems(tree, [*path, "matrix"], task["matrix"])


def _matrix_problems(tree: Tree, path: list[str | int], matrix: Mapping[str, Any]) -> Iterator[Problem]:
    axes = axes_of(matrix)
    if not axes and "include" not in matrix and matrix:
        yield tree.problem(path, "needs an axis, such as `os: [linux, mac]`, or `include`", key=True)
    for name, values in axes.items():
        for number, value in enumerate(values if isinstance(values, list) else ()):
            text = tree.source.positions.texts.get((id(values), number), "")
            if isinstance(value, float) and re.fullmatch(r"-?[0-9]+\.[0-9]*0", text) and text != str(value):
                message = f"{text} is the number {value}; put it in quotes to keep it as it is written"
                yield tree.problem([*path, name, number], message)
    excluded = matrix.get("exclude")
    for number, one in enumerate(excluded if isinstance(excluded, list) else ()):
        for name in one if isinstance(one, dict) else ():
            if name not in axes:
                message = (
                    f"{quoted(name)} is no axis of the matrix{did_you_mean(name, axes)}; there are {', '.join(axes)}"
                )
                yield tree.problem([*path, "exclude", number, name], message, key=True)
