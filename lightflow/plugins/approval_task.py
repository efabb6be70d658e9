"""Tasks that wait for the decision of a person: `lightflow approve` or `lightflow reject`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from lightflow.plugins.base import LONGEST_WAIT_S, ConfigProblem, PluginContext, TaskType
from lightflow.spec.param_declarations import declared_param
from liteflow import Param, Waiting
from liteflow.api import PARAM_NAME, RESERVED_FIELDS, described_params, wait_for_approval


class ApprovalTask(TaskType):
    """Waits for the decision of a person. No decision in time is a failure, never an approval."""

    name = "approval"
    timeout_s: ClassVar[float | None] = LONGEST_WAIT_S
    schema: ClassVar[Mapping[str, Any]] = {
        "description": "Waits without a worker for the decision of a person, by `lightflow approve` or `lightflow "
        "reject`. An approval is a success with the values `decision`, `by`, `at`, `comment` and those of the fields; "
        "a rejection is a failure, and so is the end of the `timeout` (7 days by default).",
        "properties": {
            "message": {
                "description": "The text for the person.",
                "type": "string",
                "minLength": 1,
                "examples": ["Deploy version ${{ params.version }}"],
                "x-shown": True,
            },
            "fields": {
                "description": "Values that the person gives with an approval, declared like `params`.",
                "type": "object",
                "propertyNames": {"pattern": f"^{PARAM_NAME}$"},
                "additionalProperties": {
                    "type": ["string", "number", "boolean", "array", "object", "null"],
                    "if": {"type": "object"},
                    "then": {"$ref": "#/$defs/param"},
                },
                "examples": [{"reason": {"type": "string"}}],
                "x-expects": "a mapping of names to declarations",
                "x-expressions": "none",
            },
            "on_timeout": {
                "description": "Whether the task fails or is skipped when its `timeout` is over.",
                "enum": ["fail", "skip"],
                "default": "fail",
                "x-expressions": "none",
            },
        },
        "required": ["message"],
    }

    def check(self, config: Mapping[str, Any]) -> Iterable[ConfigProblem]:
        fields = config.get("fields")
        for name, declared in fields.items() if isinstance(fields, dict) else ():
            param = declared_param(declared)
            if isinstance(param, str):
                yield ConfigProblem("fields", f"{name}: {param}")
                continue
            for option, message in param.problems():
                if option != "type":  # the schema reports it
                    yield ConfigProblem("fields", f"{name}.{option}: {message}")
            if name in RESERVED_FIELDS:
                yield ConfigProblem("fields", f"{name} is a value of every approval: choose another name")

    def summary(self, config: Mapping[str, Any]) -> str:
        return f"approval: {config['message']}"

    def run(self, config: Mapping[str, Any], context: PluginContext) -> Waiting:
        fields = {name: declared_param(declared) for name, declared in config.get("fields", {}).items()}
        described = described_params({name: param for name, param in fields.items() if isinstance(param, Param)})
        return wait_for_approval(config["message"], described)

    def poll(self, config: Mapping[str, Any], context: PluginContext, handle: Any) -> Waiting:
        """Wait on: only a decision ends the wait."""
        return self.run(config, context)
