"""The part of the schema that is about limits: pools, priorities, and the run's timeout, retry and concurrency."""

from __future__ import annotations

from typing import Final

from lightflow.parser.schema_pieces import (
    BACKOFF,
    DELAY_ALIASES,
    FREE,
    ID_PATTERN,
    ID_WORDS,
    JITTER,
    MAX_ALIASES,
    MAX_DELAY,
    MAX_DELAY_ALIASES,
    RETRIES,
    Schema,
    duration,
)
from liteflow.api import MAX_PRIORITY, MAX_SLOTS, ON_CONFLICT

#: Of the run as a whole: which failures does not matter.
RUN_RETRY: Final[Schema] = {
    "title": "Retry of the run",
    "description": "When and how often a run that has failed goes on by itself, as `resume` would: what succeeded is "
    "kept, the failed tasks and what waits for them are tried again.",
    "type": "object",
    "properties": {
        "max": RETRIES | {"description": "How often at most."} | MAX_ALIASES,
        "delay": duration("Time to wait before.", zero=True, default=0, examples=["1m"], **DELAY_ALIASES),
        "backoff": BACKOFF,
        "max_delay": MAX_DELAY | MAX_DELAY_ALIASES,
        "jitter": JITTER | {"description": "Lengthens each wait by up to this fraction."},
    },
    "patternProperties": FREE,
    "additionalProperties": False,
}
_SLOTS: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_SLOTS}

POOL: Final[Schema] = {
    "title": "Pool",
    "description": "A number of slots under a name.",
    "type": "object",
    "properties": {
        "slots": {
            "description": "How many slots there are. If it is not given, as many as the state file says, or 1.",
            **_SLOTS,
            "examples": [4],
        },
        "description": {"description": "What the slots stand for.", "type": "string"},
    },
    "patternProperties": FREE,
    "additionalProperties": False,
}

CONCURRENCY: Final[Schema] = {
    "title": "Concurrency",
    "description": "How many runs go on at once, and what a run does that comes when there is no place.",
    "type": "object",
    "properties": {
        "group": {
            "description": "Runs of one group count together, also those of other workflows; without it the group "
            "is the workflow's own name.",
            "type": "string",
            "pattern": ID_PATTERN,
            "x-expects": f"a name of {ID_WORDS}",
            "examples": ["deploy"],
        },
        "limit": {
            "description": "How many runs of the group at once, as this workflow sees it.",
            **_SLOTS,
            "default": 1,
            "examples": [2],
            "x-aliases": ["max_active_runs"],
        },
        "on_conflict": {
            "description": "With no place for it a run waits (`queue`), ends without running anything (`skip`), ends "
            "the runs before it and takes their place (`cancel`), or fails (`fail`).",
            "enum": list(ON_CONFLICT),
            "default": "queue",
            "x-aliases": ["overlap_policy"],
        },
    },
    "patternProperties": FREE,
    "additionalProperties": False,
}

#: Keys of a task.
TASK_LIMITS: Final[dict[str, Schema]] = {
    "priority": {
        "description": "Of the tasks that may start, those with the higher number go first.",
        "type": "integer",
        "minimum": -MAX_PRIORITY,
        "maximum": MAX_PRIORITY,
        "default": 0,
        "examples": [10],
        "x-aliases": ["priority_weight"],
    },
    "max_parallel": {
        "description": "At most so many instances of the task run at once.",
        "type": "integer",
        "minimum": 1,
        "maximum": 100_000,
        "examples": [3],
        "x-aliases": ["max_active"],
    },
    "pool": {
        "description": "A pool, or several, of which the task needs `pool_slots` slots each while it runs.",
        "type": ["string", "array"],
        "items": {"type": "string", "x-expects": "the name of a pool"},
        "minItems": 1,
        "minLength": 1,
        "examples": ["gpu", ["gpu", "licence"]],
        "x-expects": "the name of a pool, or a list of names",
    },
    "pool_slots": {
        "description": "How many slots of each pool that `pool` names.",
        **_SLOTS,
        "default": 1,
        "examples": [2],
    },
    "resources": {
        "description": "The slots of pools that the task needs while it runs, by pool: `pool` with numbers of "
        "their own.",
        "type": "object",
        "additionalProperties": {**_SLOTS, "x-expects": "a number of slots"},
        "minProperties": 1,
        "examples": [{"gpu": 1, "memory_gb": 8}],
        "x-expects": "a mapping of pools to slots such as {gpu: 1}",
    },
}

#: Keys of the top level.
RUN_LIMITS: Final[dict[str, Schema]] = {
    "pools": {
        "description": "Pools of slots by name: how many, or a mapping. All runs of a state file share them.",
        "type": "object",
        "propertyNames": {"pattern": ID_PATTERN},
        "patternProperties": FREE,
        "additionalProperties": {
            "type": ["integer", "object"],
            "minimum": 1,
            "maximum": MAX_SLOTS,
            "if": {"type": "object"},
            "then": {"$ref": "#/$defs/pool"},
            "x-expects": "a number of slots, or a mapping such as {slots: 4}",
        },
        "examples": [{"gpu": 1, "database": 4}],
        "x-expects": "a mapping of names to numbers of slots",
    },
    "timeout": duration(
        "The longest that a run may take, retries of the run included. Then what runs is ended, and the run has "
        "failed. The time that it waits for its turn does not count.",
        zero=False,
        examples=["1h30m"],
        **{"x-aliases": ["timeout_seconds", "timeout_sec"]},
    ),
    "retry": {
        **RUN_RETRY,
        "x-aliases": ["retry_policy"],
        "x-expects": "a mapping such as {max: 2, delay: 10m}; retries of tasks are in `settings.retries`",
    },
    "concurrency": {
        "description": "How many runs go on at once: a number, the name of a group of runs of which one at once, "
        "or a mapping.",
        "type": ["integer", "string", "object"],
        "minimum": 1,
        "maximum": MAX_SLOTS,
        "pattern": ID_PATTERN,
        "if": {"type": "object"},
        "then": {"$ref": "#/$defs/concurrency"},
        "examples": [1, {"group": "deploy", "on_conflict": "cancel"}],
        "x-expects": "a number of runs, the name of a group, or a mapping such as {limit: 1, on_conflict: skip}",
        "x-aliases": ["max_active_runs"],
    },
}
