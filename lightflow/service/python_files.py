"""Python scripts as workflow files: recognize them, and report their mistakes like those of workflow files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from lightflow.errors import Problem, WorkflowError
from lightflow.parser.files import split_reference
from liteflow.errors import ScriptError


def is_script(path: str) -> bool:
    """Return whether a path, or `FILE#NAME`, is that of a Python file."""
    return split_reference(path)[0].endswith(".py")


def file_of(reference: str) -> str:
    """Return the file of `FILE#NAME`."""
    return split_reference(reference)[0]


@contextlib.contextmanager
def script_errors(path: str) -> Iterator[None]:
    """Turn a ScriptError into a WorkflowError. Raises WorkflowError if the file does not exist."""
    if not os.path.isfile(path):
        raise WorkflowError([Problem(path, 0, 0, "", "no such file")])
    try:
        yield
    except ScriptError as error:
        problem = Problem(error.path, error.line, 1 if error.line else 0, "", error.problem)
        raise WorkflowError([problem]) from error
