"""Limits: pools, priorities, `max_parallel`, and the timeout and concurrency of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import FREE, ID_PATTERN, ID_WORDS, Schema, block, block_at, duration, integer
from lightflow.parser.subjects.retries import build_run_retry, check_duration
from lightflow.parser.tree import Tree
from lightflow.plugins.registry import Registry
from lightflow.spec.durations import seconds
from lightflow.spec.model import CHILD_WORKFLOW, Limits
from lightflow.text import did_you_mean, quoted
from liteflow import Concurrency, Pool, Retention
from liteflow.api import (
    DEFAULT_MAX_LOST,
    MAX_DAYS,
    MAX_PRIORITY,
    MAX_SLOTS,
    ON_CONFLICT,
    RESOURCE_PATTERN,
    QueueOptions,
    Record,
    SlotNeeds,
)

_SLOTS: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_SLOTS}

POOL: Final = block(
    "Pool",
    "A named number of slots.",
    {
        "slots": {
            "description": "The number of slots. By default the number in the state file, or 1.",
            **_SLOTS,
            "examples": [4],
        },
        "description": {"description": "The meaning of the slots.", "type": "string"},
        "resource": {
            "description": "A resource of the workers of a Dask cluster. A task that runs there takes one of it from "
            "its worker for each slot of the pool.",
            "type": "string",
            "pattern": f"^{RESOURCE_PATTERN}$",
            "x-expects": "the name of a resource of Dask, a word without =",
            "examples": ["GPU"],
        },
    },
)

CONCURRENCY: Final = block(
    "Concurrency",
    "How many runs may be active at the same time, and what happens to a run above the limit.",
    {
        "group": {
            "description": "Runs of one group are counted together, also those of other workflows. The default is a "
            "group of the workflow's own runs.",
            "type": "string",
            "pattern": ID_PATTERN,
            "x-expects": f"a name of {ID_WORDS}",
            "examples": ["deploy"],
        },
        "limit": {
            "description": "The largest number of active runs of the group, for this workflow.",
            **_SLOTS,
            "default": 1,
            "examples": [2],
            "x-aliases": ["max_active_runs"],
        },
        "on_conflict": {
            "description": "A run above the limit waits (`queue`), ends without running anything (`skip`), cancels the "
            "active runs and takes their place (`cancel`), or fails (`fail`).",
            "enum": list(ON_CONFLICT),
            "default": "queue",
            "x-aliases": ["overlap_policy"],
        },
    },
)

#: Keys of a task.
TASK_KEYS: Final[dict[str, Schema]] = {
    "priority": integer(
        "Of the tasks that may start, those with the higher number start first.",
        -MAX_PRIORITY,
        MAX_PRIORITY,
        default=0,
        examples=[10],
        **{"x-aliases": ["priority_weight"]},
    ),
    "max_parallel": integer(
        "The largest number of instances of the task that run at the same time.",
        1,
        100_000,
        examples=[3],
        **{"x-aliases": ["max_active"]},
    ),
    "pool": {
        "description": "A pool, or a list of pools. The task occupies `pool_slots` slots of each while it runs.",
        "type": ["string", "array"],
        "items": {"type": "string", "x-expects": "the name of a pool"},
        "minItems": 1,
        "minLength": 1,
        "examples": ["gpu", ["gpu", "licence"]],
        "x-expects": "the name of a pool, or a list of names",
    },
    "pool_slots": {
        "description": "The number of slots of each pool in `pool`.",
        **_SLOTS,
        "default": 1,
        "examples": [2],
    },
    "resources": {
        "description": "The slots of pools that the task occupies while it runs, by pool: `pool` with a number for "
        "each.",
        "type": "object",
        "additionalProperties": {**_SLOTS, "x-expects": "a number of slots"},
        "minProperties": 1,
        "examples": [{"gpu": 1, "memory_gb": 8}],
        "x-expects": "a mapping of pools to slots such as {gpu: 1}",
    },
    "pool_while_waiting": {
        "description": "Whether the task occupies its slots while it is `WAITING`, too. Such a run is not parked, and "
        "takes the slots back when it is resumed, even if others have them by then.",
        "type": "boolean",
        "default": False,
        "x-expressions": "none",
    },
}

#: Keys at the top of the file.
RUN_KEYS: Final[dict[str, Schema]] = {
    "pools": {
        "description": "Pools of slots by name: a number of slots, or a mapping. All runs of a state file share them.",
        "type": "object",
        "propertyNames": {"pattern": ID_PATTERN},
        "patternProperties": FREE,
        "additionalProperties": {
            "type": ["integer", "object"],
            "minimum": 1,
            "maximum": MAX_SLOTS,
            **block_at("pool"),
            "x-expects": "a number of slots, or a mapping such as {slots: 4}",
        },
        "examples": [{"gpu": 1, "database": 4}],
        "x-expects": "a mapping of names to numbers of slots",
    },
    "timeout": duration(
        "The longest duration of a run, retries of the run included. Then running tasks are stopped, and the run "
        "fails. The time before the run becomes active does not count.",
        zero=False,
        examples=["1h30m"],
        **{"x-aliases": ["timeout_seconds", "timeout_sec"]},
    ),
    "concurrency": {
        "description": "How many runs may be active at the same time: a number, the name of a group of which one run "
        "may be active, or a mapping.",
        "type": ["integer", "string", "object"],
        "minimum": 1,
        "maximum": MAX_SLOTS,
        "pattern": ID_PATTERN,
        **block_at("concurrency"),
        "examples": [1, {"group": "deploy", "on_conflict": "cancel"}],
        "x-expects": "a number of runs, the name of a group, or a mapping such as {limit: 1, on_conflict: skip}",
        "x-aliases": ["max_active_runs"],
    },
}


#: In `settings`: it limits the history of the workflow.
RETENTION: Final = block(
    "Retention",
    "Which runs are preserved: those of the last days, and the newest runs. All others are deleted after a run of the "
    "workflow, with their logs, values and checkpoints. Without it none is deleted.",
    {
        "days": {
            "description": "Preserve runs that were active in so many days.",
            "type": "number",
            "minimum": 0,
            "maximum": MAX_DAYS,
            "examples": [90],
        },
        "runs": integer("Preserve so many of the newest runs of the workflow.", 0, MAX_SLOTS, examples=[500]),
    },
    minProperties=1,
    **{"x-expects": "a mapping such as {days: 90, runs: 500}"},
)


def check_limits(tree: Tree, registry: Registry) -> Iterator[Problem]:
    """Report pools that are not declared or too small, and durations out of range."""
    yield from check_duration(tree, ["timeout"], tree.root.get("timeout"), zero=False)
    pools = tree.root.get("pools", {})
    if not isinstance(pools, dict):
        return
    for task_id, task in tree.tasks.items():
        if "pool" in task or "resources" in task or "pool_slots" in task:
            yield from _check_pools(tree, ["tasks", task_id], task, pools)
        if task.get("pool_while_waiting") is True and (message := _waits_without_slots(task, registry)):
            yield tree.problem(["tasks", task_id, "pool_while_waiting"], message, key=True)


def _waits_without_slots(task: Mapping[str, Any], registry: Registry) -> str:
    """Return why a task holds no slots while it waits."""
    if "pool" not in task and "resources" not in task:
        return "is for tasks with `pool` or `resources`"
    kind = task.get("type")
    task_type = registry.built_in(kind) if isinstance(kind, str) else None
    if kind == CHILD_WORKFLOW:
        return "is not for child runs, whose tasks might wait for these slots without end; give these tasks the pool"
    if task_type is not None and not task_type.waits():
        return f"is for tasks that wait; those of type {kind} do not"
    return ""


class _Need(Record):
    """A number of slots of a pool that a task needs, and the places of the pool's name and of the number."""

    pool: Any
    slots: Any
    path: list[Key]
    slots_path: list[Key]


def _needs(path: list[Key], task: Mapping[str, Any]) -> Iterator[_Need]:
    pool, resources = task.get("pool", []), task.get("resources", {})
    slots, slots_path = task.get("pool_slots", 1), [*path, "pool_slots"]
    if isinstance(pool, str):
        yield _Need(pool=pool, slots=slots, path=[*path, "pool"], slots_path=slots_path)
    for index, name in enumerate(pool if isinstance(pool, list) else ()):
        yield _Need(pool=name, slots=slots, path=[*path, "pool", index], slots_path=slots_path)
    for name, number in resources.items() if isinstance(resources, dict) else ():
        yield _Need(pool=name, slots=number, path=[*path, "resources", name], slots_path=[*path, "resources", name])


def _check_pools(tree: Tree, path: list[Key], task: dict[str, Any], pools: dict[str, Any]) -> Iterator[Problem]:
    if "pool_slots" in task and "pool" not in task:
        message = "is the number of slots of `pool`, and the task has no `pool`"
        yield tree.problem([*path, "pool_slots"], message, key=True)
    named: set[str] = set()
    for need in _needs(path, task):
        if not isinstance(need.pool, str):
            continue
        in_resources = need.path[2] == "resources"
        if need.pool in named:
            message = "is named by `pool` too; keep one of them" if in_resources else "is named twice"
            yield tree.problem(need.path, f"pool {quoted(need.pool)} {message}", key=in_resources)
        named.add(need.pool)
        if need.pool not in pools:
            hint = did_you_mean(need.pool, pools) or "; declare it: pools: {" + need.pool[:40] + ": 1}"
            yield tree.problem(need.path, f"no pool {quoted(need.pool)}{hint}", key=in_resources)
            continue
        size = pools[need.pool].get("slots") if isinstance(pools[need.pool], dict) else pools[need.pool]
        if _is_number(need.slots) and _is_number(size) and need.slots > size:
            place = need.slots_path if need.slots_path[2] in task else need.path
            message = f"{need.slots} slots of pool {quoted(need.pool)}, which has {size}: the task could never start"
            yield tree.problem(place, message)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def build_limits(root: Mapping[str, Any]) -> Limits:
    """Return the limits of the runs of a file."""
    return Limits(
        pools={name: _pool(pool) for name, pool in root.get("pools", {}).items()},
        timeout_s=seconds(root["timeout"]) if "timeout" in root else None,
        retry=build_run_retry(root),
        concurrency=_concurrency(root.get("concurrency")),
        max_lost=int(root.get("settings", {}).get("max_lost", DEFAULT_MAX_LOST)),
        retention=_retention(root.get("settings", {}).get("retention")),
    )


def _retention(mapping: Mapping[str, Any] | None) -> Retention | None:
    if mapping is None or mapping.keys().isdisjoint(Retention._fields):
        return None
    return Retention(mapping.get("days"), int(mapping["runs"]) if "runs" in mapping else None)


def _pool(pool: Any) -> Pool:
    if not isinstance(pool, dict):
        return Pool(int(pool))
    return Pool(int(pool["slots"]) if "slots" in pool else None, pool.get("description", ""), pool.get("resource", ""))


def _concurrency(value: Any) -> Concurrency | None:
    if value is None:
        return None
    if isinstance(value, dict):
        return Concurrency(value.get("group"), int(value.get("limit", 1)), value.get("on_conflict", "queue"))
    return Concurrency(group=value) if isinstance(value, str) else Concurrency(limit=int(value))


def build_queue_options(task: Mapping[str, Any]) -> QueueOptions:
    """Return the priority of a task, its `max_parallel`, and the slots that it needs."""
    pool, max_parallel = task.get("pool", ()), task.get("max_parallel")
    slots = dict.fromkeys([pool] if isinstance(pool, str) else pool, int(task.get("pool_slots", 1)))
    slots |= {name: int(number) for name, number in task.get("resources", {}).items()}
    needs: SlotNeeds = tuple(sorted(slots.items()))
    most = None if max_parallel is None else int(max_parallel)
    return QueueOptions(int(task.get("priority", 0)), most, needs, holds=bool(task.get("pool_while_waiting")))
