"""Parameters of a run: the key `params`."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.schema_pieces import FREE, Schema, block, block_at, integer
from lightflow.parser.tree import Tree
from lightflow.spec.param_declarations import declared_param, type_of
from liteflow import Param
from liteflow.api import PARAM_NAME, PARAM_TYPES, param_from_default

_VALUE: Final[Schema] = {"type": ["string", "number", "boolean", "array", "object", "null"]}
_LIMIT: Final[Schema] = {"type": ["number", "string"], "x-expects": "a number, or a date such as 2026-01-31"}
_NUMBERS: Final = ("integer", "number")

PARAM: Final = block(
    "Parameter",
    "A parameter, and the values that it may have.",
    {
        "type": {
            "description": "The type of its values. Without it, the type of the default, or text.",
            "enum": list(PARAM_TYPES),
            "examples": ["date"],
        },
        "default": {
            "description": "The value of runs that give none. A date may also be `today` or `yesterday`, relative to "
            "the logical date of the run.",
            **_VALUE,
            "examples": [100, "yesterday"],
        },
        "required": {
            "description": "Whether each run must give a value. It is true where there is no default. With `false` "
            "and no default the value is null where a run gives none.",
            "type": "boolean",
        },
        "description": {"description": "The purpose of the parameter.", "type": "string"},
        "values": {
            "description": "The values of an enum.",
            "type": "array",
            "items": {"type": ["string", "number", "boolean"]},
            "minItems": 1,
            "examples": [["staging", "production"]],
            "x-aliases": ["enum"],
        },
        "minimum": {
            "description": "The smallest number, or the earliest date (also `today` or `yesterday`).",
            **_LIMIT,
            "examples": [1],
        },
        "maximum": {
            "description": "The largest number, or the latest date (also `today` or `yesterday`).",
            **_LIMIT,
            "examples": [1000],
        },
        "min_length": integer("The smallest number of characters, or of items of a list.", 0, 1_000_000),
        "max_length": integer("The largest number of characters, or of items of a list.", 0, 1_000_000),
        "pattern": {
            "description": "A regular expression (Python's) that must match the whole text.",
            "type": "string",
            "examples": ["[a-z]+"],
        },
    },
)

PARAMS: Final[Schema] = {
    "description": "The parameters of a run, each with its default, or with a mapping of keys. `-p name=value` and "
    "`--params-file` give values, which are checked before anything runs.",
    "type": "object",
    "propertyNames": {"pattern": f"^{PARAM_NAME}$"},
    "patternProperties": FREE,
    "additionalProperties": {**_VALUE, **block_at("param")},
    "examples": [{"rows": 100, "day": {"type": "date"}}],
    "x-expects": "a mapping of names to defaults",
    "x-aliases": ["parameters"],
}


def read_params(tree: Tree, refused: Container[str]) -> tuple[dict[str, Param], list[Problem]]:
    """Return the parameters of the file, and the problems that the schema cannot express.

    `refused` are the paths that the schema refuses, such as `params.day.type`: their values are left out, and the rest
    is checked.
    """
    params: dict[str, Param] = {}
    problems: list[Problem] = []
    declared = tree.root.get("params")
    for name, keys in declared.items() if isinstance(declared, dict) else ():
        param = declared_param(_usable(keys, f"params.{name}", refused))
        if isinstance(param, str):
            problems.append(tree.problem(["params", name, "required"], param, key=True))
            continue
        params[name] = param
        for option, message in param.problems():
            path = ["params", name, option] if isinstance(keys, dict) and option in keys else ["params", name]
            problems.append(tree.problem(path, message))
    return params, problems


def is_number(declared: Any) -> bool:
    """Return whether a parameter, as the file declares it, takes numbers only."""
    if isinstance(declared, dict):
        return "values" not in declared and declared.get("type", type_of(declared, declared.get("default"))) in _NUMBERS
    return param_from_default(declared).type in _NUMBERS


def _usable(declared: Any, path: str, refused: Container[str]) -> Any:
    """Return a declaration without the values that the schema refuses; a type of another tool becomes ours."""
    if not isinstance(declared, dict):
        return declared
    options = {
        key: value for key, value in declared.items() if key in PARAM["properties"] and f"{path}.{key}" not in refused
    }
    kind = declared.get("type")
    if "type" not in options and isinstance(kind, str):
        from lightflow.other_tools import assumed_param_type  # only for files with errors

        assumed = assumed_param_type(kind, PARAM_TYPES)
        return {**options, "type": assumed} if assumed else {}
    return options
