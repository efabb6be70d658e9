"""Control flow beyond dependencies: conditions, branches, tolerated failures, setup and teardown, and hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import EXCEPTIONS, EXIT_CODES, FREE, Schema, block, block_at, flag, ids
from lightflow.parser.tree import TaskNode, Tree, hook_nodes, precondition_nodes
from lightflow.plugins.scripts import LINES, lines
from lightflow.spec.model import ConditionSpec, ControlFlowSpec, PreconditionSpec, TaskSpec
from lightflow.text import quoted
from liteflow.api import HOOK_EVENTS, TRIGGER_RULES, TriggerRule

_CONDITION: Final[Schema] = {"type": ["string", "boolean"], "pattern": r"\S", "x-aliases": ["when"]}

PRECONDITION: Final = {
    **block(
        "Precondition",
        "A requirement for the start of a task: a command that must succeed (`run`), or a condition (`if`).",
        {
            "run": {
                **lines("The command; the precondition holds when the exit code is 0."),
                "examples": ["test -s data.csv"],
                "x-expects": "a command (text), or a list of lines",
                "x-aliases": ["command", "sh"],
            },
            "if": {"description": "The condition, an expression.", **_CONDITION, "examples": ["params.rows > 0"]},
            "message": {
                "description": "The reason why the task does not start, for people.",
                "type": "string",
                "minLength": 1,
                "examples": ["there is no data yet"],
                "x-aliases": ["msg"],
            },
            "on_fail": {
                "description": "The state of the task when the precondition does not hold: SKIPPED, or FAILED.",
                "enum": ["skip", "fail"],
                "default": "skip",
            },
        },
    ),
    "oneOf": [{"required": ["run"]}, {"required": ["if"]}],
    "x-message": 'needs either "run" (a command) or "if" (a condition), and not both',
}

TRIGGER_RULE: Final[Schema] = {
    "description": "Whether the task runs, given the final states of its upstream tasks.",
    "enum": list(TRIGGER_RULES),
    "default": "all_success",
    "examples": ["all_done"],
}

#: Keys of a task, in the order of the reference page.
TASK_KEYS: Final[dict[str, Schema]] = {
    "if": {
        "description": "The condition on which the task runs, an expression, with or without `${{ }}`; otherwise the "
        "task is SKIPPED. It is evaluated when the trigger rule lets the task run. With `success()`, `failure()`, "
        "`always()` or `cancelled()` in it, and no `trigger_rule`, the task waits until all upstream tasks have ended, "
        "in any state. In addition to the names of all expressions there is `tasks.x.status`. A task that the "
        "condition names becomes an upstream task.",
        **_CONDITION,
        "examples": ["params.full", "failure()"],
        "x-expects": "a condition such as params.full, or true or false",
    },
    "preconditions": {
        "description": "Requirements for the start of the task, checked one after the other; otherwise the task is "
        "SKIPPED with the message, or with `on_fail: fail` FAILED. They are checked again when the run is resumed.",
        "type": ["array", "object", "string"],
        "pattern": r"\S",
        "items": {
            "type": ["object", "string"],
            "pattern": r"\S",
            **block_at("precondition"),
            "x-shorthand": "run",
            "x-expects": "a command (text), or a mapping with `run` or `if`",
        },
        "minItems": 1,
        **block_at("precondition"),
        "examples": [[{"run": "test -s data.csv", "message": "there is no data yet"}]],
        "x-expects": "a list of commands, or of mappings with `run` or `if`",
        "x-aliases": ["precondition"],
        "x-list": True,
    },
    "branch": flag(
        "The value of the task selects the direct downstream tasks that run: an id, a list of ids, or nothing. The "
        "others are skipped, even if their trigger rule is met, unless a selected task leads to them. The value of a "
        "shell task is the last line that it prints (words between spaces or commas), unless `output` says otherwise."
    ),
    "short_circuit": {
        "description": "The value of the task decides whether downstream tasks run. If it is false (0, empty, "
        "nothing), all downstream tasks are skipped, even if their trigger rule is met; with `direct` only the direct "
        "ones. The exit code of a shell task is its value: 0 is true, 1 is false, any other is a failure. Teardowns "
        "are never skipped.",
        "enum": [True, False, "direct"],
        "default": False,
        "x-expects": "true, false or direct",
    },
    "continue_on_error": {
        "description": "A failure of the task counts as a success for downstream tasks, for `fail_fast` and for the "
        "run; the task itself is FAILED. A mapping limits this to some failures.",
        "type": ["boolean", "object"],
        "properties": {
            "exit_codes": {"description": "Only these exit codes.", **EXIT_CODES, "minItems": 1},
            "exceptions": {
                "description": "Only these Python exceptions, by class name, subclasses included.",
                **EXCEPTIONS,
                "minItems": 1,
            },
        },
        "minProperties": 1,
        "additionalProperties": False,
        "default": False,
        "examples": [True, {"exit_codes": [3]}],
        "x-expects": "true, false, or a mapping such as {exit_codes: [3]}",
        "x-aliases": ["continue-on-error", "allow_failure", "ignore_error"],
    },
    "setup": flag(
        "The task sets something up. If it fails, the tasks that need it do not run; `teardown_of` names the task that "
        "tears it down."
    ),
    "teardown_of": ids(
        "The setups that this task tears down: an id, or a list of ids. It waits for them and for all tasks between "
        "them and itself, and runs when one of the setups has succeeded, in any state of the others, also when "
        "the run is stopped. Its own failure does not fail the run.",
        minItems=1,
        examples=["database", ["database", "cluster"]],
        **{"x-expects": "the id of a setup, or a list of ids", "x-aliases": ["teardown"]},
    ),
    "on_failure_fail_run": flag("Of a teardown: its failure fails the run."),
}

_TASK_EVENTS: Final = {
    "on_start": "before the first attempt, which waits for it",
    "on_wait": "when the task begins to wait, once for each attempt",
    "on_success": "when the task has succeeded",
    "on_failure": "when the task has failed for good",
    "on_retry": "when an attempt has failed and will be retried, without delaying the retry",
    "on_cancel": "when the task was cancelled after it had started",
    "on_exit": "when the task has ended after it had started, after the hooks above",
}
_RUN_EVENTS: Final = {
    "on_start": "before all tasks, which wait for it",
    "on_success": "when all tasks have ended and the run has succeeded",
    "on_failure": "when all tasks have ended and the run has failed",
    "on_cancel": "when all tasks have ended and the run was cancelled",
    "on_exit": "when all tasks have ended, after the hooks above",
}
_HOOK_EXPECTS: Final = "a command (text), a list of lines, or a mapping with `run` or `call`"
_EVENT_ALIASES: Final = {"on_exit": ["finally"]}

#: The keys of every task that a hook may have too.
KEYS_OF_HOOKS: Final = ("type", "description", "cwd", "env", "timeout", "kill_grace", "retries", "retry_delay", "mode")


def hook_keys(*, of_run: bool) -> dict[str, Schema]:
    """Return the keys of hooks of the run, or of a task."""
    times = _RUN_EVENTS if of_run else _TASK_EVENTS
    subject = "run" if of_run else "task"
    return {
        event: {
            "description": f"A hook that runs {times[event]}: a command, a list of lines, or a mapping with `run` or "
            "`call` as in a task. It has `$LIGHTFLOW_HOOK_TASK`, `$LIGHTFLOW_HOOK_STATUS` and `$LIGHTFLOW_HOOK_ERROR`. "
            f"Its result does not change the state of the {subject}.",
            "$ref": "#/$defs/hook",
            "x-expects": _HOOK_EXPECTS,
            **({"x-aliases": _EVENT_ALIASES[event]} if event in _EVENT_ALIASES else {}),
        }
        for event in HOOK_EVENTS
        if event in times
    }


def hook_schema(common: Mapping[str, Schema], branches: list[Schema]) -> Schema:
    """Return the schema of a hook: the keys that it shares with tasks, and those of each task type."""
    return {
        "title": "Hook",
        "description": "Runs at an event: a command, or a mapping with the keys of a task type.",
        **LINES,
        "type": ["object", "string", "array"],
        "properties": {key: common[key] for key in KEYS_OF_HOOKS},
        "patternProperties": FREE,
        "allOf": branches,
        "x-shorthand": "run",
        "x-expects": _HOOK_EXPECTS,
    }


def check_control_flow(tree: Tree) -> Iterator[Problem]:
    """Report keys that exclude each other."""
    for task_id, task in tree.tasks.items():
        path: list[Key] = ["tasks", task_id]
        if task.get("branch") is True and task.get("short_circuit"):
            message = '"branch" and "short_circuit" exclude each other: a task decides in one way'
            yield tree.problem([*path, "short_circuit"], message, key=True)
        if "teardown_of" in task:
            for key in ("setup", "trigger_rule"):
                if task.get(key) not in (None, False, "all_done_setup_success"):
                    yield tree.problem([*path, key], f'"{key}" has no meaning in a task with "teardown_of"', key=True)
        elif task.get("on_failure_fail_run"):
            yield tree.problem([*path, "on_failure_fail_run"], 'is for tasks with "teardown_of"', key=True)


def check_hook_ids(tree: Tree) -> Iterator[Problem]:
    """Report ids of tasks that hooks have too."""
    task_ids = set(tree.all_ids)
    for node in tree.task_nodes:
        if node.is_hook and node.id in task_ids:
            message = f"{quoted(node.id)} is the name of a hook; choose another id"
            yield tree.problem(["tasks", node.id], message, key=True)
        elif node.is_hook and len(node.id) > 128:
            message = "the id is too long for a task with hooks"
            yield tree.problem(["tasks", node.id.rpartition(".")[0]], message, key=True)


def build_control_flow(
    task_id: str,
    task: Mapping[str, Any],
    conditions: Mapping[str, ConditionSpec],
    workflow_cwd: Any,
    build_task: Callable[[TaskNode], TaskSpec],
) -> ControlFlowSpec | None:
    """Return the control flow of a task; None where no key says anything about it. `build_task` builds the hooks."""
    if TASK_KEYS.keys().isdisjoint(task) and _TASK_EVENTS.keys().isdisjoint(task):
        return None
    commands = {node.id: build_task(node) for node in precondition_nodes(task_id, task, workflow_cwd)}
    preconditions = []
    for number, keys in enumerate(task.get("preconditions", ()), start=1):
        name = f"{task_id}.precondition_{number}"
        preconditions.append(
            PreconditionSpec(
                condition=conditions[name] if "if" in keys else None,
                command=commands.get(name),
                message=keys.get("message", ""),
                fails=keys.get("on_fail") == "fail",
            )
        )
    return ControlFlowSpec(
        condition=conditions.get(task_id) if "if" in task else None,
        preconditions=tuple(preconditions),
        branch=bool(task.get("branch")),
        short_circuit=bool(task.get("short_circuit")),
        direct=task.get("short_circuit") == "direct",
        tolerates=_tolerated(task.get("continue_on_error", False)),
        setup=bool(task.get("setup")),
        teardown="teardown_of" in task,
        fails_run=bool(task.get("on_failure_fail_run")),
        hooks=build_hooks(hook_nodes(task_id, task, workflow_cwd), build_task),
    )


def build_hooks(nodes: Iterator[TaskNode], build_task: Callable[[TaskNode], TaskSpec]) -> dict[str, TaskSpec]:
    """Return the hooks of a task or of the run, by event."""
    return {str(node.path[-1]): build_task(node) for node in nodes}


def build_trigger_rule(task: Mapping[str, Any], control_flow: ControlFlowSpec | None) -> TriggerRule:
    """Return the trigger rule: a condition with a status function is evaluated after upstream tasks in any state."""
    if "teardown_of" in task:
        return "all_done_setup_success"
    has_status = control_flow is not None and control_flow.condition is not None and control_flow.condition.status
    rule: TriggerRule = task.get("trigger_rule", "all_done" if has_status else "all_success")
    return rule


def _tolerated(value: Any) -> bool | tuple[int | str, ...]:
    """Return the exit codes and exceptions whose failures count as a success; True for all failures."""
    if isinstance(value, dict):
        return (*(int(code) for code in value.get("exit_codes", ())), *value.get("exceptions", ()))
    return bool(value)
