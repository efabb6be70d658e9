"""The keys of control flow, as parts of the JSON Schema: conditions, decisions, setup and teardown, hooks."""

from __future__ import annotations

from typing import Final

from lightflow.parser.schema_pieces import FREE, Schema
from lightflow.plugins.scripts import lines
from liteflow.api import HOOK_EVENTS

PRECONDITION: Final[Schema] = {
    "title": "Precondition",
    "description": "What must hold before a task starts: a command that must succeed (`run`), or a condition (`if`).",
    "type": "object",
    "properties": {
        "run": {
            **lines("The command; the condition holds when it ends with exit code 0."),
            "examples": ["test -s data.csv"],
            "x-expects": "a command (text), or a list of lines",
            "x-aliases": ["command", "sh"],
        },
        "if": {
            "description": "The condition, an expression.",
            "type": ["string", "boolean"],
            "pattern": r"\S",
            "examples": ["params.rows > 0"],
            "x-aliases": ["when"],
        },
        "message": {
            "description": "Why the task does not start, for people.",
            "type": "string",
            "minLength": 1,
            "examples": ["there is no data yet"],
            "x-aliases": ["msg"],
        },
        "on_fail": {
            "description": "What the task is when it does not hold: SKIPPED, or FAILED.",
            "enum": ["skip", "fail"],
            "default": "skip",
        },
    },
    "oneOf": [{"required": ["run"]}, {"required": ["if"]}],
    "patternProperties": FREE,
    "additionalProperties": False,
    "x-message": 'needs either "run" (a command) or "if" (a condition), and not both',
}

_AS_A_MAPPING: Final = {"if": {"type": "object"}, "then": {"$ref": "#/$defs/precondition"}}

#: of every task, in the order of the reference page
KEYS: Final[dict[str, Schema]] = {
    "if": {
        "description": "The condition on which the task runs, an expression, with or without `${{ }}`; else it is "
        "SKIPPED. It is asked when the trigger rule lets the task run. With `success()`, `failure()`, `always()` or "
        "`cancelled()` in it, and no `trigger_rule`, the task waits for all it depends on, however that ends. Besides "
        "what all expressions may name there is `tasks.x.status`. A task that is named is waited for.",
        "type": ["string", "boolean"],
        "pattern": r"\S",
        "examples": ["params.full", "failure()"],
        "x-expects": "a condition such as params.full, or true or false",
        "x-aliases": ["when"],
    },
    "preconditions": {
        "description": "What must hold before the task starts, one after the other; else the task is SKIPPED with the "
        "message, or with `on_fail: fail` FAILED. They are asked again when the run is resumed.",
        "type": ["array", "object", "string"],
        "pattern": r"\S",
        "items": {
            "type": ["object", "string"],
            "pattern": r"\S",
            **_AS_A_MAPPING,
            "x-expects": "a command (text), or a mapping with `run` or `if`",
        },
        "minItems": 1,
        **_AS_A_MAPPING,
        "examples": [[{"run": "test -s data.csv", "message": "there is no data yet"}]],
        "x-expects": "a list of commands, or of mappings with `run` or `if`",
        "x-aliases": ["precondition"],
    },
    "branch": {
        "description": "The task's value decides which of the tasks directly below it go on: an id, a list of ids, or "
        "nothing. The others are skipped, whatever their trigger rule, save those that can also be reached from one "
        "that goes on. Of a shell task it is the last line that it prints (words between spaces or commas), unless "
        "`output` says otherwise.",
        "type": "boolean",
        "default": False,
    },
    "short_circuit": {
        "description": "The task's value decides whether what follows runs. If it is false (0, empty, nothing), all "
        "that follows is skipped, whatever its trigger rule; with `direct` only what directly follows. A shell task "
        "answers by its exit code, as in `if`: 0 is yes, 1 is no, all else a failure. Teardowns are never skipped.",
        "enum": [True, False, "direct"],
        "default": False,
        "x-expects": "true, false or direct",
    },
    "continue_on_error": {
        "description": "The task's failure counts as a success for what waits for it, for `fail_fast` and for the run; "
        "the task itself stays FAILED. As a mapping only some failures do.",
        "type": ["boolean", "object"],
        "properties": {
            "exit_codes": {
                "description": "Only these exit codes.",
                "type": "array",
                "items": {"type": "integer", "minimum": -64, "maximum": 255},
                "minItems": 1,
            },
            "exceptions": {
                "description": "Only these Python exceptions, by class name, subclasses included.",
                "type": "array",
                "items": {"type": "string", "minLength": 1},
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
    "setup": {
        "description": "The task sets something up. What stands on it does not run when it fails; `teardown_of` names "
        "what takes it down.",
        "type": "boolean",
        "default": False,
    },
    "teardown_of": {
        "description": "The setups that this task takes down: an id, or a list. It waits for them and for all tasks "
        "between them and itself, and runs when one of them has succeeded, however the rest has ended, also when the "
        "run is stopped. Its own failure does not fail the run.",
        "type": ["array", "string"],
        "items": {"type": "string", "x-expects": "the id of a task"},
        "minItems": 1,
        "examples": ["database", ["database", "cluster"]],
        "x-expects": "the id of a setup, or a list of ids",
        "x-aliases": ["teardown"],
    },
    "on_failure_fail_run": {
        "description": "Of a teardown: its failure fails the run.",
        "type": "boolean",
        "default": False,
    },
}

_WHEN: Final = {
    "on_start": "before the first attempt, which waits for it",
    "on_success": "when the task has succeeded",
    "on_failure": "when the task has failed for good",
    "on_retry": "when an attempt has failed that will be tried again, which does not wait for it",
    "on_cancel": "when the task was cancelled after it had begun",
    "on_exit": "when the task has ended after it had begun, after the hooks above",
}
_WHEN_RUN: Final = {
    "on_start": "before all tasks, which wait for it",
    "on_success": "when all tasks have ended and the run has succeeded",
    "on_failure": "when all tasks have ended and the run has failed",
    "on_cancel": "when all tasks have ended and the run was cancelled",
    "on_exit": "when all tasks have ended, after the hooks above",
}
_ALIASES: Final = {"on_exit": ["finally"]}


def hooks(*, of_the_run: bool) -> dict[str, Schema]:
    """The keys of hooks; what stands in them is `$defs/hook`."""
    when = _WHEN_RUN if of_the_run else _WHEN
    return {
        event: {
            "description": f"Runs {when[event]}: a command, a list of lines, or a mapping with `run` or `call` as in a "
            "task. It finds what it is about in `$LIGHTFLOW_HOOK_TASK`, `_STATUS` and `_ERROR`. How it ends changes "
            "nothing for the " + ("run." if of_the_run else "task."),
            "$ref": "#/$defs/hook",
            "x-expects": "a command (text), a list of lines, or a mapping with `run` or `call`",
            **({"x-aliases": _ALIASES[event]} if event in _ALIASES else {}),
        }
        for event in HOOK_EVENTS
        if event in when
    }


#: the keys of every task that a hook may have too
OF_HOOKS: Final = ("type", "description", "cwd", "env", "timeout", "kill_grace", "retries", "retry_delay", "mode")
