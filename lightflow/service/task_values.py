"""Where the values of a task are written, for `validate --explain`."""

from __future__ import annotations

from typing import Any

from lightflow.errors import Problem, WorkflowError
from lightflow.parser.value_origins import ValueOrigin, value_origins
from lightflow.service.python_files import is_script

__all__ = ["ValueOrigin", "origin_shape", "task_values"]


def task_values(path: str, task_id: str) -> list[ValueOrigin]:
    """Return the values of a task of a workflow file, each with its place.

    Raises:
        WorkflowError: the file has a mistake, there is no such task, or it is a Python file.
    """
    if is_script(path):
        message = "is a Python file; --explain is for workflow files in YAML and JSON"
        raise WorkflowError([Problem(path, 0, 0, "", message)])
    return value_origins(path, task_id)


def origin_shape(origin: ValueOrigin) -> dict[str, Any]:
    """Return a value of a task, and where it is written."""
    place = origin.location
    return {
        "key": origin.key,
        "value": origin.value,
        "source": origin.source,
        "file": place.file,
        "line": place.line,
        "column": place.column,
    }
