"""Mapped tasks: the keys `matrix`, `foreach` and `strategy`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import EXPRESSION, FREE, Schema, block, flag, integer
from lightflow.parser.tree import Tree, list_or_empty
from lightflow.spec.model import MappingSpec
from lightflow.text import did_you_mean, quoted

#: The keys of a matrix that are not axes.
_NOT_AXES: Final = ("include", "exclude", "key", "max_parallel", "fail_fast")
#: Names with a meaning in expressions.
_RESERVED: Final = frozenset(
    [
        *("params", "env", "run", "workflow", "task", "tasks", "needs", "secrets", "matrix", "raw", "range"),
        *("true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else"),
    ]
)

_MAX_PARALLEL: Final = integer(
    "The largest number of instances that run at the same time; without it only `max_parallel_tasks` limits them.",
    1,
    100_000,
    examples=[2],
    **{"x-aliases": ["max-parallel", "max_concurrent"]},
)
_FAIL_FAST: Final = flag(
    "Whether the first instance that fails for good cancels the others.", **{"x-aliases": ["fail-fast"]}
)


#: The keys of a matrix that make no instance without an axis.
_WITHOUT_AXIS: Final = [
    *("exclude", "key", "max_parallel", "fail_fast"),
    *_MAX_PARALLEL["x-aliases"],
    *_FAIL_FAST["x-aliases"],
]


def _combinations(name: str, description: str, example: dict[str, str]) -> Schema:
    return {
        "description": description,
        "type": ["array", "string"],
        "pattern": EXPRESSION,
        "items": {"type": "object", "x-expects": "a mapping of names to values"},
        "examples": [[example]],
        "x-expects": f"a list of mappings (it has a meaning of its own: an axis cannot be called {name})",
    }


MATRIX: Final[Schema] = {
    "title": "Matrix",
    "description": "Run the task once for each combination of values. Each combination is an instance of the task, "
    "with its own state, attempts, log and value. Each key is an axis: a list of values, or an expression that gives "
    "one. Expressions in the task name a value as `${{ matrix.os }}`. If an axis has no values, the task is skipped.",
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_-]*$"},
    "not": {"propertyNames": {"anyOf": [{"enum": _WITHOUT_AXIS}, {"pattern": "^x-"}]}},
    "properties": {
        "include": _combinations(
            "include",
            "Values that are added to the combinations which they fit without changing the value of an axis; those "
            "that fit none make a combination of their own.",
            {"os": "linux", "shell": "bash"},
        ),
        "exclude": _combinations(
            "exclude",
            "Combinations that are left out: all that have these values. `include` is applied afterwards.",
            {"os": "mac", "python": "3.11"},
        ),
        "key": {
            "description": "The name of an instance for people, instead of all its values.",
            "type": "string",
            "minLength": 1,
            "examples": ["${{ matrix.os }}"],
            "x-expects": "text with an expression such as ${{ matrix.os }} (it has a meaning of its own: an axis "
            "cannot be called key)",
        },
        "max_parallel": _MAX_PARALLEL,
        "fail_fast": _FAIL_FAST,
    },
    "patternProperties": FREE,
    "additionalProperties": {
        "type": ["array", "string"],
        "pattern": EXPRESSION,
        "x-expects": "a list of values, or an expression that gives one",
    },
    "examples": [{"os": ["linux", "mac"], "python": ["3.11", "3.12"]}],
    "x-expects": "a mapping of names to lists of values",
    "x-message": "needs an axis, such as `os: [linux, mac]`, or `include`",
}

STRATEGY: Final = {
    **block(
        "Strategy",
        "`matrix` as GitHub Actions writes it: with `matrix`, `max-parallel` and `fail-fast` inside. `fail-fast` is "
        "false by default.",
        {
            "matrix": {**MATRIX, "description": "See `matrix`."},
            "max_parallel": _MAX_PARALLEL,
            "fail_fast": _FAIL_FAST,
        },
    ),
    "required": ["matrix"],
    "x-expects": "a mapping with `matrix`",
}

FOREACH: Final = {
    **block(
        "Foreach",
        "Run the task once for each item of a list. Each item has an instance of the task, with its own state, "
        "attempts, log and value. The value is a list, an expression that gives one, such as "
        "`${{ tasks.fetch.result }}`, or a mapping of these keys. Expressions in the task name the item as "
        "`${{ item }}`. If the list is empty, the task is skipped.",
        {
            "items": {
                "description": "The list, or an expression that gives one. The items of a mapping are its pairs: lists "
                "of a key and a value.",
                "type": ["array", "string", "object"],
                "pattern": EXPRESSION,
                "examples": [["a.csv", "b.csv"]],
                "x-expects": "a list, or an expression that gives one",
            },
            "as": {
                "description": "The name of the item in expressions.",
                "type": "string",
                "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
                "default": "item",
                "examples": ["file"],
                "x-expects": "a name of letters, digits and _",
            },
            "key": {
                "description": "The name of an instance for people; by default the item, if it is short text or a "
                "number.",
                "type": "string",
                "minLength": 1,
                "examples": ["${{ item.name }}"],
                "x-expects": "text with an expression such as ${{ item.name }}",
            },
            "max_parallel": _MAX_PARALLEL,
            "fail_fast": _FAIL_FAST,
        },
    ),
    "type": ["array", "string", "object"],
    "pattern": EXPRESSION,
    "required": ["items"],
    "examples": ["${{ tasks.fetch.result }}", {"items": ["a.csv", "b.csv"], "as": "file"}],
    "x-aliases": ["with_items"],
    "x-expects": "a list, an expression that gives one, or a mapping with `items`",
}

#: Keys of a task.
TASK_KEYS: Final = {"matrix": MATRIX, "foreach": FOREACH, "strategy": STRATEGY}


def replace_strategy(tree: Tree, task: dict[str, Any], path: Sequence[Key]) -> None:
    """Replace `strategy: {matrix: …}` by `matrix`; in any other shape it stays, and the schema refuses it."""
    block = task.get("strategy")
    matrix = block.get("matrix") if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(matrix, dict) or block.keys() - STRATEGY["properties"].keys():
        return
    if "matrix" in task:
        message = '"strategy" and "matrix" mean the same; keep one of them'
        tree.problems.append(tree.key_problem(task, "strategy", path, message))
    else:
        matrix |= {key: value for key, value in block.items() if key != "matrix"}
        task["matrix"] = matrix
        tree.aliases[id(task), "matrix"] = "strategy"
    del task["strategy"]
    tree.raw_containers.pop(id(block), None)  # its `id` may be used again


def item_name(task: Mapping[str, Any]) -> str:
    """Return the name of the item or combination in expressions; empty for a task that is not mapped."""
    if "matrix" in task:
        return "matrix"
    block = task.get("foreach")
    if isinstance(block, dict) and isinstance(block.get("as"), str):
        return str(block["as"])
    return "item" if "foreach" in task else ""


def matrix_fields(task: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the values of a combination; None where there is no matrix, or an expression gives them."""
    matrix = task.get("matrix")
    if not isinstance(matrix, dict) or not isinstance(included := matrix.get("include", []), list):
        return None
    return list(dict.fromkeys([*_axes(matrix), *(key for item in included if isinstance(item, dict) for key in item)]))


def _axes(matrix: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in matrix.items() if name not in _NOT_AXES}


def build_mapping(task: Mapping[str, Any]) -> MappingSpec | None:
    """Return what a task is mapped over, or None."""
    if "matrix" in task:
        matrix = task["matrix"]
        return MappingSpec(
            name="matrix",
            axes=_axes(matrix),
            include=matrix.get("include", ()),
            exclude=matrix.get("exclude", ()),
            **_options(matrix),
        )
    if "foreach" not in task:
        return None
    block = task["foreach"]
    if not isinstance(block, dict):
        return MappingSpec(name="item", items=block)
    return MappingSpec(name=block.get("as", "item"), items=block["items"], **_options(block))


def _options(block: Mapping[str, Any]) -> dict[str, Any]:
    limit = block.get("max_parallel")
    return {
        "key": block.get("key"),
        "max_parallel": None if limit is None else int(limit),
        "fail_fast": block.get("fail_fast", False),
    }


def check_mappings(tree: Tree) -> Iterator[Problem]:
    """Report keys that exclude each other, reserved names, and mistakes in a matrix."""
    for task_id, task in tree.tasks.items():
        if "matrix" not in task and "foreach" not in task:
            continue
        path: list[Key] = ["tasks", task_id]
        if "matrix" in task and "foreach" in task:
            message = 'a task has "matrix" or "foreach", not both: make the list of one of them an axis of the other'
            yield tree.problem([*path, "foreach"], message, key=True)
        for key in ("branch", "short_circuit", "teardown_of"):
            if task.get(key):
                message = (
                    f'a task that runs once for each item cannot have "{key}"; '
                    "give the key to a task upstream or downstream"
                )
                yield tree.problem([*path, key], message, key=True)
        block = task.get("foreach")
        if isinstance(block, dict) and block.get("as") in _RESERVED:
            message = f"{quoted(block['as'])} has a meaning in expressions already; choose another name"
            yield tree.problem([*path, "foreach", "as"], message)
        if isinstance(task.get("matrix"), dict):
            yield from _check_matrix(tree, [*path, "matrix"], task["matrix"])


def _check_matrix(tree: Tree, path: list[Key], matrix: Mapping[str, Any]) -> Iterator[Problem]:
    axes = _axes(matrix)
    for name, values in axes.items():
        for index, value in enumerate(list_or_empty(values)):
            text = tree.source.positions.texts.get((id(values), index), "")
            if isinstance(value, float) and re.fullmatch(r"-?[0-9]+\.[0-9]*0", text) and text != str(value):
                message = f"{text} is the number {value}; put it in quotes to keep it as it is written"
                yield tree.problem([*path, name, index], message)
    for index, excluded in enumerate(list_or_empty(matrix.get("exclude"))):
        for name in excluded if isinstance(excluded, dict) else ():
            if name not in axes:
                names = f"{did_you_mean(name, axes)}; there are {', '.join(axes)}"
                message = f"{quoted(name)} is not an axis of the matrix{names}"
                yield tree.problem([*path, "exclude", index, name], message, key=True)
