"""Tasks that execute another workflow as a child run.

`engine.dag_builder` builds their bodies: the work is that of `lightflow run` and `lightflow resume`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from lightflow.plugins.base import TaskType
from lightflow.spec.model import CHILD_WORKFLOW


class WorkflowTask(TaskType):
    """Executes another workflow as a run of its own. Meanwhile the task holds no worker."""

    name = CHILD_WORKFLOW
    wait_limit_s: ClassVar[float | None] = None
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Executes another workflow as a *child run*: a run of its own in the same state file, for which "
        "the task waits without a worker. The `outputs` of that workflow are the values of the task.",
        "properties": {
            "file": {
                "description": "The workflow file; a relative path starts from the folder of this file. `FILE#NAME` is "
                "a workflow of several in a file.",
                "type": "string",
                "minLength": 1,
                "examples": ["load.yaml", "flows.yaml#load"],
            },
            "workflow": {
                "description": "The name of a workflow in `file`, or without `file` in this file.",
                "type": "string",
                "minLength": 1,
                "examples": ["load"],
            },
            "params": {
                "description": "The parameters of the child run. They are stored, so a secret is not allowed.",
                "type": "object",
                "x-shown": True,
                "examples": [{"region": "${{ item }}", "day": "${{ params.day }}"}],
                "x-expects": "a mapping of names to values",
            },
            "on_retry": {
                "description": "Whether a retry of the task resumes a child run that did not succeed, or starts "
                "another one.",
                "enum": ["resume", "new"],
                "default": "resume",
                "x-expressions": "none",
            },
        },
        "anyOf": [{"required": ["file"]}, {"required": ["workflow"]}],
        "x-message": 'needs "file" or "workflow"',
    }

    def summary(self, config: Mapping[str, Any]) -> str:
        return f"workflow {config.get('file', '')}{'#' + config['workflow'] if 'workflow' in config else ''}"

    @classmethod
    def waits(cls) -> bool:
        return True


def child_reference(config: Mapping[str, Any], file: str) -> str:
    """Return the path of the workflow that a task in a file executes, as `FILE` or `FILE#NAME`."""
    named = str(config.get("file", ""))
    path = os.path.join(os.path.dirname(file), os.path.expanduser(named)) if named else file
    return f"{path}#{config['workflow']}" if "workflow" in config else path
