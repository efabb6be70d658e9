"""What may stand under `matrix` and `foreach`: parts of the JSON Schema of the file (see `schema`)."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

_EXPRESSION: Final = r"\$\{\{"
_FREE: Final = {"^x-": {"description": "Free for you: anchors, notes."}}
#: The names under `matrix` that are no axes.
NO_AXES: Final = ("include", "exclude", "key", "max_parallel", "fail_fast")

_MAX_PARALLEL: Final[Schema] = {
    "description": "How many of the instances run at once at most; without it only `max_parallel_tasks` bounds them.",
    "type": "integer",
    "minimum": 1,
    "maximum": 100_000,
    "examples": [2],
    "x-aliases": ["max-parallel", "max_concurrent"],
}
_FAIL_FAST: Final[Schema] = {
    "description": "The first instance that fails for good ends the others.",
    "type": "boolean",
    "default": False,
    "x-aliases": ["fail-fast"],
}


def _combinations(name: str, description: str) -> Schema:
    return {
        "description": description,
        "type": ["array", "string"],
        "pattern": _EXPRESSION,
        "items": {"type": "object", "x-expects": "a mapping of names to values"},
        "x-expects": f"a list of mappings (it has a meaning of its own: an axis cannot be called {name})",
    }


MATRIX: Final[Schema] = {
    "title": "Matrix",
    "description": "Run the task once for each combination of values: an instance of it, with its own state, attempts, "
    "log and value. Each key is an axis with a list of values, or an expression that gives one. "
    "Expressions in the task name a value as `${{ matrix.os }}`. An axis without values makes no instance: the task is "
    "skipped.",
    "type": "object",
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_-]*$"},
    "minProperties": 1,
    "properties": {
        "include": _combinations(
            "include",
            "Values to add to the combinations that they fit without changing the value of an axis; those that fit "
            "none make a combination of their own.",
        )
        | {"examples": [[{"os": "linux", "shell": "bash"}]]},
        "exclude": _combinations(
            "exclude", "Combinations to leave out: all that have these values. `include` is looked at afterwards."
        )
        | {"examples": [[{"os": "mac", "python": "3.11"}]]},
        "key": {
            "description": "What people are shown to tell an instance by, instead of all its values.",
            "type": "string",
            "minLength": 1,
            "examples": ["${{ matrix.os }}"],
            "x-expects": "text with an expression such as ${{ matrix.os }} (it has a meaning of its own: an axis "
            "cannot be called key)",
        },
        "max_parallel": _MAX_PARALLEL,
        "fail_fast": _FAIL_FAST,
    },
    "patternProperties": _FREE,
    "additionalProperties": {
        "type": ["array", "string"],
        "pattern": _EXPRESSION,
        "x-expects": "a list of values, or an expression that gives one",
    },
    "examples": [{"os": ["linux", "mac"], "python": ["3.11", "3.12"]}],
    "x-expects": "a mapping of names to lists of values",
}

STRATEGY: Final[Schema] = {
    "description": "`matrix` as GitHub Actions writes it: with `matrix`, `max-parallel` and `fail-fast` inside. "
    "`fail-fast` is false unless it is given.",
    "type": "object",
    "properties": {
        "matrix": {"type": "object", "description": "See `matrix`."},
        "max_parallel": _MAX_PARALLEL,
        "fail_fast": _FAIL_FAST,
    },
    "required": ["matrix"],
    "patternProperties": _FREE,
    "additionalProperties": False,
    "x-expects": "a mapping with `matrix`",
}

FOREACH: Final[Schema] = {
    "title": "Foreach",
    "description": "Run the task once for each item of a list: an instance of it, with its own state, attempts, log "
    "and value. A list, an expression that gives one, such as `${{ tasks.fetch.result }}`, or a mapping of these keys. "
    "Expressions in the task name the item as `${{ item }}`. Without items the task is skipped.",
    "type": ["array", "string", "object"],
    "pattern": _EXPRESSION,
    "properties": {
        "items": {
            "description": "The list, or an expression that gives one. A mapping gives its pairs: lists of a key and a "
            "value.",
            "type": ["array", "string", "object"],
            "pattern": _EXPRESSION,
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
            "description": "What people are shown to tell an instance by; an item that is short text or a number shows "
            "itself.",
            "type": "string",
            "minLength": 1,
            "examples": ["${{ item.name }}"],
            "x-expects": "text with an expression such as ${{ item.name }}",
        },
        "max_parallel": _MAX_PARALLEL,
        "fail_fast": _FAIL_FAST,
    },
    "required": ["items"],
    "patternProperties": _FREE,
    "additionalProperties": False,
    "examples": ["${{ tasks.fetch.result }}", {"items": ["a.csv", "b.csv"], "as": "file"}],
    "x-aliases": ["with_items"],
    "x-expects": "a list, an expression that gives one, or a mapping with `items`",
}
