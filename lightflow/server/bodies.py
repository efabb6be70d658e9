"""The bodies of the requests that change something, as JSON Schema: for the routes and the mutations of GraphQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lightflow.server import actions
from lightflow.server.routing import Handler

_PARAMS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"params": {"type": "object", "description": "Values of the declared parameters."}},
    "additionalProperties": False,
}
_TASK_NAMES: Final[dict[str, Any]] = {
    "type": "array",
    "items": {"type": "string", "minLength": 1},
    "minItems": 1,
    "description": "Tasks, instances such as `m[3]`, and patterns such as `load_*`.",
}
_START: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        **_PARAMS["properties"],
        "only": {**_TASK_NAMES, "description": "These tasks alone run."},
        "from": {**_TASK_NAMES, "description": "These tasks run, and all that follows them."},
        "until": {**_TASK_NAMES, "description": "These tasks run, and all that they need."},
        "skip": {**_TASK_NAMES, "description": "These tasks do not run."},
        "values_from": {
            "type": "string",
            "minLength": 1,
            "description": "The run whose values of other tasks are read, or `latest`.",
        },
    },
    "additionalProperties": False,
}
_DRY_RUN: Final[dict[str, Any]] = {"type": "boolean", "description": "Whether nothing is changed."}
_WAKE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"dry_run": _DRY_RUN},
    "additionalProperties": False,
}
_PRUNE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "workflow": {"type": "string", "description": "Only its runs."},
        "older_than": {"type": "string", "maxLength": 64, "description": "Only runs of this age; `90d` by default."},
        "keep": {
            "type": "integer",
            "minimum": 0,
            "description": "The newest runs of each workflow stay; 20 by default.",
        },
        "orphans": {"type": "boolean", "description": "Whether files that belong to no run are removed, too."},
        "dry_run": _DRY_RUN,
    },
    "additionalProperties": False,
}
_REASON: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": 500}},
    "additionalProperties": False,
}
_SLOTS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"slots": {"type": "integer", "minimum": 0}},
    "required": ["slots"],
    "additionalProperties": False,
}
_CODE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "string", "maxLength": 200}},
    "required": ["code"],
    "additionalProperties": False,
}
_CLEAR: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "tasks": _TASK_NAMES,
        "only": {"type": "boolean", "description": "Whether what follows the tasks stays as it is."},
    },
    "required": ["tasks"],
    "additionalProperties": False,
}
_RETRY: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "tasks": _TASK_NAMES,
        "only": {"type": "boolean", "description": "Whether what follows the tasks stays as it is."},
        "changed": {"type": "boolean", "description": "Whether tasks whose definition has changed run, too."},
        "ignore_upstream": {
            "type": "boolean",
            "description": "Whether the tasks run although an upstream task did not succeed.",
        },
    },
    "additionalProperties": False,
}
_FORK: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "tasks": _TASK_NAMES,
        "params": {"type": "object", "description": "The parameters that differ from those of the run."},
    },
    "required": ["tasks"],
    "additionalProperties": False,
}
_FIRE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"at": {"type": "string", "maxLength": 64, "description": "The moment that the run is for."}},
    "additionalProperties": False,
}
_MARK: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "tasks": _TASK_NAMES,
        "status": {"enum": ["success", "failed", "skipped"]},
        "reason": {"type": "string", "maxLength": 500},
        "outputs": {"type": "object", "description": "Values of the tasks by name, of a success."},
    },
    "required": ["tasks", "status"],
    "additionalProperties": False,
}
_DECISION: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "fields": {"type": "object", "description": "The fields of the approval, by name."},
        "comment": {"type": "string", "maxLength": 2000},
        "by": {"type": "string", "maxLength": 200, "description": "The person who decides."},
    },
    "required": ["approved"],
    "additionalProperties": False,
}
#: The body of each action; an action that is not here takes none.
BODIES: Final[Mapping[Handler, Mapping[str, Any]]] = {
    actions.login: _CODE,
    actions.check_params: _PARAMS,
    actions.start_run: _START,
    actions.pause_workflow: _REASON,
    actions.unpause_workflow: _REASON,
    actions.pause_trigger: _REASON,
    actions.unpause_trigger: _REASON,
    actions.retry_run: _RETRY,
    actions.fork_run: _FORK,
    actions.clear_tasks: _CLEAR,
    actions.mark_tasks: _MARK,
    actions.decide: _DECISION,
    actions.fire_trigger: _FIRE,
    actions.set_pool: _SLOTS,
    actions.wake_runs: _WAKE,
    actions.prune: _PRUNE,
}
