"""The `params:` of a workflow file. Called only where there are any."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.canonical import Tree
from liteflow import Param
from liteflow.api import PARAM_TYPES, REQUIRED_PARAM, param_from_default

_NUMBERS: Final = ("integer", "number")


def read_params(tree: Tree, wrong: Container[str]) -> tuple[dict[str, Param], list[Problem]]:
    """The parameters that a canonical tree declares, and what the schema cannot say is wrong with them.

    `wrong` are the paths of what the schema refuses, such as `params.day.type`: that is left out, and the rest checked.
    """
    found: dict[str, Param] = {}
    problems: list[Problem] = []
    for name, written in tree.root["params"].items():
        param = _param(_usable(written, f"params.{name}", wrong))
        if isinstance(param, str):
            problems.append(tree.problem(["params", name, "required"], param, key=True))
            continue
        found[name] = param
        for option, message in param.problems():
            path = ["params", name, option] if isinstance(written, dict) and option in written else ["params", name]
            problems.append(tree.problem(path, message))
    return found, problems


def _usable(written: Any, path: str, wrong: Container[str]) -> Any:
    """What is written of a parameter, without what the schema refuses; a type of another tool is taken for ours."""
    if not isinstance(written, dict):
        return written
    from lightflow.parser.schema import PARAM

    options = {
        key: value for key, value in written.items() if key in PARAM["properties"] and f"{path}.{key}" not in wrong
    }
    kind = written.get("type")
    if "type" not in options and isinstance(kind, str):
        from lightflow.other_tools import assumed_param_type

        meant = assumed_param_type(kind, PARAM_TYPES)
        return {**options, "type": meant} if meant else {}
    return options


def _param(written: Any) -> Param | str:
    if not isinstance(written, dict):
        return param_from_default(written)
    options = dict(written)
    required = options.pop("required", None)
    given = "default" in options
    if required is True and given and options["default"] is not None:
        return "a parameter with a default is never missing: remove one of the two"
    default = options.pop("default", REQUIRED_PARAM)
    if required is True or (not given and required is None):
        default = REQUIRED_PARAM
    elif not given:
        default = None
    options.setdefault("type", _type(options, default))
    return Param(default=default, **options)


def is_number(written: Any) -> bool:
    """Whether a parameter, as it is written in the file, takes numbers only."""
    if isinstance(written, dict):
        return "values" not in written and written.get("type", _type(written, written.get("default"))) in _NUMBERS
    return param_from_default(written).type in _NUMBERS


def _type(options: Mapping[str, Any], default: Any) -> str:
    """The type of a parameter that does not say: that of its default."""
    if "values" in options:
        return "enum"
    return param_from_default(default).type if default is not REQUIRED_PARAM else "string"
