"""The outputs of a run, also for the task of another run that executes it."""

from __future__ import annotations

from typing import Final

from lightflow.parser.schema_pieces import Schema
from liteflow.api import PARAM_NAME

OUTPUTS: Final[Schema] = {
    "description": "The outputs of a run by name, stored when it has succeeded. A task of type `workflow` "
    "that executes this workflow has them as its outputs. The value of a task that did not run is null.",
    "type": "object",
    "propertyNames": {"pattern": f"^{PARAM_NAME}$"},
    "examples": [{"rows": "${{ tasks.load.outputs.rows }}"}],
    "x-expects": "a mapping of names to values",
}
