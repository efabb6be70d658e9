"""The repetition of tasks: the key `repeat`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.schema_pieces import Schema, block, block_at, duration, integer
from lightflow.parser.tree import REPEAT_CONDITIONS, Tree
from lightflow.spec.durations import seconds
from lightflow.spec.model import ConditionSpec, RepeatSpec

_CONDITION: Final[Schema] = {
    "type": ["string", "boolean"],
    "minLength": 1,
    "examples": ["outputs.done", "${{ outputs.rows == 0 or iteration == 10 }}"],
    "x-expects": "a condition (text)",
}

REPEAT: Final = block(
    "Repeat",
    "The repetition of a task. Each iteration is an attempt of its own; between them the task waits without a worker.",
    {
        "until": {
            "description": "The condition that ends the repetition. It knows `outputs` and `result` of this iteration, "
            "and `iteration`, which counts from 1.",
            **_CONDITION,
        },
        "while": {"description": "The condition for another iteration: the opposite of `until`.", **_CONDITION},
        "every": duration("The time between two iterations.", zero=True, default=0, examples=["30s"]),
        "max": integer("The number of iterations after which the task has failed.", 1, 1_000_000, examples=[100]),
        "timeout": duration(
            "The time after which no further iteration starts, and the task has failed.", zero=False, examples=["2h"]
        ),
    },
    oneOf=[{"required": ["until"]}, {"required": ["while"]}],
    anyOf=[{"required": ["max"]}, {"required": ["timeout"]}],
    **{"x-message": 'needs either "until" or "while", and "max" or "timeout"'},
)

TASK_KEYS: Final[dict[str, Schema]] = {
    "repeat": {
        "description": "Repeats the task until a condition holds. `retries` count within an iteration. An iteration "
        "finds its number in `${{ iteration }}`, and values of the one before in `${{ previous.outputs.NAME }}`.",
        "type": "object",
        **block_at("repeat"),
        "examples": [{"until": "outputs.done", "every": "30s", "max": 100}],
        "x-expects": "a mapping with `until` and `max`",
    },
}


def check_repeats(tree: Tree) -> Iterator[Problem]:
    """Report tasks whose repetition does not fit their control flow."""
    for task_id, task in tree.tasks.items():
        if "repeat" in task and (task.get("branch") or task.get("short_circuit")):
            yield tree.problem(["tasks", task_id, "repeat"], "a task that decides cannot be repeated", key=True)


def build_repeat(task_id: str, task: Mapping[str, Any], conditions: Mapping[str, ConditionSpec]) -> RepeatSpec | None:
    """Return the repetition of a task; None where it runs once."""
    keys = task.get("repeat")
    if keys is None:
        return None
    name = next(name for name in REPEAT_CONDITIONS if name in keys)
    timeout = keys.get("timeout")
    return RepeatSpec(
        condition=conditions[f"{task_id}.{name}"],
        negated=name == "while",
        every_s=seconds(keys.get("every", 0)),
        max=keys.get("max"),
        timeout_s=None if timeout is None else seconds(timeout),
    )
