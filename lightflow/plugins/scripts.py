"""The parts of the schema about scripts: their text, and the shell that runs them."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Final

from liteflow.api import DEFAULT_SHELL

#: Text that is not blank, or a list of lines.
LINES: Final[dict[str, Any]] = {
    "type": ["string", "array"],
    "pattern": r"\S",
    "items": {"type": "string", "x-expects": "a line of text, in quotes if need be"},
    "contains": {"pattern": r"\S"},
    "x-message": "must not be empty or blank",
    "x-expects": "text that is not blank, or a list of lines",
}


def lines(description: str) -> dict[str, Any]:
    """Return the schema of a text that may also be a list of its lines."""
    return {"description": description, **LINES, "x-lines": True}


#: The option of a shell before the script, alone or with others: `-c`, `-euc`.
_SCRIPT_OPTION: Final = r"-[A-Za-z]*c[A-Za-z]*"
_SHELLS: Final = r"(ba|da|a|z|k|mk|ok|ya|po|c|tc)?sh"


def shell_problem(shell: Any) -> str:
    """Return the problem of the words before a script; empty where there is none, or the schema reports it."""
    if not isinstance(shell, list) or not all(isinstance(word, str) and word for word in shell):
        return ""
    if any("{0}" in word for word in shell):
        return 'the script comes after the words, without {0}: write ["bash", "-e", "-c"]'
    program, *rest = [word for word in shell if os.path.basename(word) != "env"] or [""]
    is_shell = re.fullmatch(_SHELLS, os.path.basename(program).rstrip("-.0123456789"))
    if is_shell and not any(re.fullmatch(_SCRIPT_OPTION, word) for word in rest):
        return f'the script comes after the words, so they end with "-c": write {json.dumps([*shell, "-c"])}'
    return ""


SHELL: Final[dict[str, Any]] = {
    "description": "The shell of scripts. A name or path is started with the options that make it stop at the first "
    "line that fails: `sh -e`, `bash -eo pipefail`. A list of words is used as written, and the script comes after "
    "it.",
    "type": ["string", "array"],
    "pattern": r"^\S+$",
    "minItems": 1,
    "items": {"type": "string", "minLength": 1},
    "default": DEFAULT_SHELL,
    "examples": ["bash", ["bash", "-eu", "-c"]],
    "x-expects": 'the name of a shell such as bash, or a list of words such as ["bash", "-eu", "-c"]',
}
