"""Where each value of a task is written: in the task, in defaults, or at the top of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lightflow.errors import Location, Problem, WorkflowError
from lightflow.parser.positions import Key
from lightflow.parser.tree import Tree, mapping_or_empty
from lightflow.parser.workflow_loader import load_tree
from lightflow.spec.model import GROUP
from lightflow.text import did_you_mean, quoted

#: Mappings of which each entry has a place.
_MERGED = ("env", "retry", "headers", "query")


class ValueOrigin(NamedTuple):
    """A value of a task, and where it is written."""

    key: str
    value: Any
    source: str  #: in words
    location: Location


def value_origins(path: str | os.PathLike[str], task_id: str) -> list[ValueOrigin]:
    """Return the values of a task of a workflow file, each with its place.

    Raises:
        WorkflowError: everything that is wrong with the file, or there is no such task.
    """
    tree, name = load_tree(path), task_id
    while (
        group := next((group for group in tree.includes if name.startswith(f"{group}.")), "")
    ) and name in tree.grafted:
        tree, name = tree.includes[group].tree, name.removeprefix(f"{group}.")
    return _origins(tree, name)


def _origins(tree: Tree, task_id: str) -> list[ValueOrigin]:
    if task_id not in tree.tasks:
        hint = did_you_mean(task_id, tree.all_ids)
        raise WorkflowError([Problem(tree.source.file, 0, 0, "tasks", f"no task {quoted(task_id)}{hint}")])
    origins = list(_of_task(tree, task_id))
    keys = {origin.key for origin in origins}
    if tree.tasks[task_id].get("type") != GROUP:
        origins += [origin for origin in _of_file(tree, keys) if origin.key not in keys]
    return origins


def _of_task(tree: Tree, task_id: str) -> Iterator[ValueOrigin]:
    task = tree.tasks[task_id]
    for key, value in task.items():
        path: list[Key] = ["tasks", task_id, key]
        if key == "type" and key not in tree.raw_containers.get(id(task), task):
            continue  # it is not written
        if key in _MERGED and isinstance(value, dict):
            for name, inner in value.items():
                yield _origin(tree, f"{key}.{name}", inner, [*path, name], task_id)
        else:
            yield _origin(tree, key, value, path, task_id)


def _of_file(tree: Tree, keys: set[str]) -> Iterator[ValueOrigin]:
    """Yield the values at the top of the file that hold for a task."""
    root, settings = tree.root, mapping_or_empty(tree.root.get("settings"))
    for name, value in mapping_or_empty(root.get("env")).items():
        yield _origin(tree, f"env.{name}", value, ["env", name], "")
    for key in ("cwd", "shell", "dotenv"):
        if key in root:
            yield _origin(tree, key, root[key], [key], "")
    if "retries" in settings and keys.isdisjoint(["retries", "retry.max"]):
        yield _origin(tree, "retries", settings["retries"], ["settings", "retries"], "")
    if "mode" in settings:
        yield _origin(tree, "mode", settings["mode"], ["settings", "mode"], "")


def _origin(tree: Tree, key: str, value: Any, path: Sequence[Key], task_id: str) -> ValueOrigin:
    written = tree.written_path(path)
    if written[0] == "tasks" and list(written[1:2]) == [task_id]:
        source = "the task"
    elif written[0] == "tasks":
        source = f"defaults of {written[1]}"
    elif written[0] == "defaults":
        source = "defaults"
    elif written[0] == "connections":
        source = f"the connection {written[1]}"
    else:
        source = "the settings" if written[0] == "settings" else "the workflow"
    if "types" in written[:4] and "defaults" in written[:3]:
        source += f", type {written[written.index('types') + 1]}"
    return ValueOrigin(key, value, source, tree.location(path))
