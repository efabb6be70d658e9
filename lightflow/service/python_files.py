"""Python scripts as workflow files: how to tell one, and how to say what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from lightflow.errors import Problem, WorkflowError
from liteflow.errors import ScriptError


def is_script(path: str) -> bool:
    """Is this a Python file that defines dags?"""
    return path.endswith(".py")


@contextlib.contextmanager
def script_errors(path: str) -> Iterator[None]:
    """Say what is wrong with a script in the form in which workflow files are corrected."""
    if not os.path.isfile(path):
        raise WorkflowError([Problem(path, 0, 0, "", "no such file")])
    try:
        yield
    except ScriptError as error:
        problem = Problem(error.path, error.line, 1 if error.line else 0, "", error.problem)
        raise WorkflowError([problem]) from error
