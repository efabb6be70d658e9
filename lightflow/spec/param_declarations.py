"""Parameters as a workflow file declares them: a default, or a mapping of keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from liteflow import Param
from liteflow.api import REQUIRED_PARAM, param_from_default


def declared_param(declared: Any) -> Param | str:
    """Return the parameter that a file declares, or a message."""
    if not isinstance(declared, dict):
        return param_from_default(declared)
    options = dict(declared)
    required = options.pop("required", None)
    has_default = "default" in options
    if required is True and has_default and options["default"] is not None:
        return "a parameter with a default is never missing: remove one of the two"
    default = options.pop("default", REQUIRED_PARAM)
    if required is True or (not has_default and required is None):
        default = REQUIRED_PARAM
    elif not has_default:
        default = None
    options.setdefault("type", type_of(options, default))
    return Param(default=default, **options)


def type_of(options: Mapping[str, Any], default: Any) -> str:
    """Return the type of a parameter that names none."""
    if "values" in options:
        return "enum"
    return param_from_default(default).type if default is not REQUIRED_PARAM else "string"
