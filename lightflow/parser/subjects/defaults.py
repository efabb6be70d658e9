"""Defaults of tasks: the keys `defaults` of the file and of groups. They become keys of the tasks that lack them.

The nearest value wins: that of the task, then those of the groups around it, then those of the file. In each block the
values for the type of the task come before the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import FREE, Schema, block
from lightflow.parser.subjects.retries import BLOCK_KEYS
from lightflow.parser.tree import Tree, mapping_or_empty
from lightflow.spec.model import GROUP
from liteflow.api import HOOK_EVENTS

#: The keys of every task that defaults may have.
KEYS_OF_DEFAULTS: Final = (
    *("cwd", "env", "dotenv", "secrets", "timeout", "kill_grace", "mode", "continue_on_error"),
    *("retries", "retry_delay", "retry_backoff", "max_retry_delay", "retry_jitter", "retry"),
    *("priority", "max_parallel", "pool", "pool_slots", "resources"),
    *HOOK_EVENTS,
)
#: Keys that replace each other: a task with one of them gets none of a block of defaults.
_SLOTS: Final = ("pool", "pool_slots", "resources")

DEFAULTS: Final[Schema] = {
    "description": "Values of keys that tasks do not have: here for all tasks of the file, or of the group, and under "
    "`types` for those of a type. Variables in `env` are merged by name, and `retry` by key; other values replace.",
    "$ref": "#/$defs/defaults",
    "examples": [{"retries": 2, "timeout": "5m", "types": {"shell": {"shell": "bash"}}}],
    "x-expects": "a mapping of keys of tasks to values, such as {retries: 2}",
}


def defaults_schemas(common: Mapping[str, Schema], types: Mapping[str, Mapping[str, Any]]) -> dict[str, Schema]:
    """Return the definitions of the schema: `defaults`, and the defaults for each task type."""
    keys = {key: common[key] for key in KEYS_OF_DEFAULTS if key in common}
    of_types = {
        f"defaults_{name}": block(
            f"Defaults of type {name}", "Values of keys of tasks of a type.", {**schema.get("properties", {}), **keys}
        )
        for name, schema in types.items()
    }
    by_type = {
        "description": "Defaults for the tasks of a type, by type; its own keys are allowed, too.",
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/defaults_{name}"} for name in types},
        "patternProperties": FREE,
        "examples": [{"shell": {"shell": "bash"}}],
        "x-expects": "a mapping of task types to their defaults",
    }
    return {"defaults": block("Defaults", str(DEFAULTS["description"]), {**keys, "types": by_type}), **of_types}


def apply_defaults(tree: Tree) -> None:
    """Give each task the keys of its defaults."""
    for task_id, task in tree.tasks.items():
        if task.get("type") != GROUP:
            for path, values in _layers(tree, task_id, task.get("type")):
                _merge(tree, task, values, path)


def _blocks(tree: Tree, task_id: str) -> Iterator[tuple[list[Key], Mapping[str, Any]]]:
    """Yield the blocks of defaults around a task, the nearest first."""
    for group in tree.groups_around(task_id):
        yield ["tasks", group, "defaults"], mapping_or_empty(tree.tasks[group].get("defaults"))
    yield ["defaults"], mapping_or_empty(tree.root.get("defaults"))


def _layers(tree: Tree, task_id: str, task_type: Any) -> Iterator[tuple[list[Key], Mapping[str, Any]]]:
    for path, values in _blocks(tree, task_id):
        of_type = mapping_or_empty(values.get("types")).get(task_type) if isinstance(task_type, str) else None
        if isinstance(of_type, dict):
            yield [*path, "types", task_type], of_type
        yield path, values


def _merge(tree: Tree, task: dict[str, Any], values: Mapping[str, Any], path: list[Key]) -> None:
    """Add the values of a block that the task lacks."""
    has_slots = not task.keys().isdisjoint(_SLOTS)
    present = _retry_keys(task)
    for key, value in values.items():
        if key == "types" or (has_slots and key in _SLOTS) or BLOCK_KEYS.get(key) in present:
            continue
        if key == "env" and isinstance(value, dict) and isinstance(task.get(key, {}), dict):
            add_entries(tree, task, key, values, path, names=value)
        elif key == "retry" and isinstance(value, dict) and isinstance(task.get(key, {}), dict):
            add_entries(tree, task, key, values, path, names=value.keys() - present)
        elif key not in task:
            task[key] = value
            tree.note_origin(task, key, values, key, [*path, key])


def _retry_keys(task: Mapping[str, Any]) -> set[str]:
    """Return the keys of the block `retry` that a task has, in either form."""
    flat = {inner for key, inner in BLOCK_KEYS.items() if key in task}
    return flat | mapping_or_empty(task.get("retry")).keys()


def add_entries(
    tree: Tree,
    task: dict[str, Any],
    key: str,
    block_values: Mapping[str, Any],
    path: list[Key],
    *,
    names: Collection[str],
) -> None:
    """Add to a mapping of the task the entries with these names that it lacks of that in the block at `path`."""
    present, values = task.get(key, {}), block_values[key]
    added = {name: value for name, value in values.items() if name in names and name not in present}
    if not added:
        return
    if key not in task:
        tree.note_origin(task, key, block_values, key, [*path, key])
    merged = {**added, **present}
    for name in present:
        tree.copy_origin(present, merged, name)
    for name in added:
        tree.note_origin(merged, name, values, name, [*path, key, name])
    task[key] = merged


def check_defaults(tree: Tree) -> Iterator[Problem]:
    """Report values that two keys of a block give."""
    settings = mapping_or_empty(tree.root.get("settings"))
    top = mapping_or_empty(tree.root.get("defaults"))
    if "retries" in settings and "max" in _retry_keys(top):
        path: list[Key] = ["defaults", "retries"] if "retries" in top else ["defaults", "retry", "max"]
        yield tree.problem(path, "`settings.retries` means the same; keep one of them", key=True)
    groups: list[list[Key]] = [["tasks", group] for group in tree.groups]
    for owner in [[], *groups]:
        keys = tree.root if not owner else tree.tasks[str(owner[1])]
        values = mapping_or_empty(keys.get("defaults"))
        for flat, inner in BLOCK_KEYS.items():
            if flat in values and inner in mapping_or_empty(values.get("retry")):
                message = f'"{flat}" and "retry.{inner}" mean the same; keep one of them'
                yield tree.problem([*owner, "defaults", flat], message, key=True)
