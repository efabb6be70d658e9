"""The variables of a program that a call starts: texts, and in Python values of other tasks and secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from liteflow import TaskFailed
from liteflow.api import value_text


def constant(env: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables whose value is a text."""
    return {name: value for name, value in env.items() if isinstance(value, str)}


def computed(env: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables whose value the attempt computes: they are arguments of its call."""
    return {name: value for name, value in env.items() if not isinstance(value, str)}


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the computed variables as a program gets them: lists and mappings as JSON. Raises TaskFailed."""
    result = {}
    for name, value in values.items():
        try:
            text = value_text(value)
        except (TypeError, ValueError) as error:
            raise TaskFailed(f"variable {name}: {error}", final=True) from None
        if "\0" in text:
            raise TaskFailed(f"variable {name} holds a NUL character, which no program can be given", final=True)
        result[name] = text
    return result
