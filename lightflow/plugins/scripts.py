"""The parts of the schema that are about scripts: lines of text, and the shell that reads them."""

from __future__ import annotations

from typing import Any, Final

from liteflow.shell import DEFAULT_SHELL


def lines(description: str) -> dict[str, Any]:
    """A text, or a list of its lines (see `lightflow.parser.canonical`, which joins them)."""
    return {
        "description": description,
        "type": ["string", "array"],
        "pattern": r"\S",
        "items": {"type": "string", "x-expects": "a line of text, in quotes if need be"},
        "minItems": 1,
    }


SHELL: Final[dict[str, Any]] = {
    "description": "The shell of scripts. A name or path is started with the options that make it stop at the first "
    "line that fails: `sh -e`, `bash -eo pipefail`. A list of words is taken as written, and the script comes behind "
    "it.",
    "type": ["string", "array"],
    "pattern": r"^\S+$",
    "minItems": 1,
    "items": {"type": "string", "minLength": 1},
    "default": DEFAULT_SHELL,
    "examples": ["bash", ["bash", "-eu", "-c"]],
    "x-expects": 'the name of a shell such as bash, or a list of words such as ["bash", "-eu", "-c"]',
}
