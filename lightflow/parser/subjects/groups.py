"""Groups: tasks below a key `tasks` of a task. They become tasks with dotted ids, and the group itself a join."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from lightflow.errors import Problem
from lightflow.parser.positions import Key
from lightflow.parser.schema_pieces import FREE, ID_PATTERN, Schema
from lightflow.parser.subjects.defaults import DEFAULTS
from lightflow.parser.tree import Tree, list_or_empty
from lightflow.text import quoted
from liteflow.api import PARAM_NAME

#: The keys that make a task a group, in addition to those in `KEYS_OF_GROUPS`.
GROUP_KEYS: Final[dict[str, Schema]] = {
    "tasks": {
        "description": "The tasks of a group, by the name that they have in it: `fetch` in the group `load` is the "
        "task `load.fetch`. In the group, names of the group come first.",
        "type": ["object", "array"],
        "propertyNames": {"pattern": ID_PATTERN},
        "patternProperties": FREE,
        "additionalProperties": {"$ref": "#/$defs/task"},
        "items": {"type": "object", "required": ["id"]},
        "examples": [{"fetch": {"run": "./fetch"}, "check": {"run": "./check", "depends_on": "fetch"}}],
        "x-expects": "a mapping of names to tasks, or a list of tasks with an `id`",
    },
    "defaults": {
        **DEFAULTS,
        "description": "Values of keys that the tasks of the group lack; they override the `defaults` of the file.",
    },
    "include": {
        "description": "A workflow file whose tasks are the tasks of the group, in place of `tasks`: a path, relative "
        "to this file, or `FILE#NAME`.",
        "type": "string",
        "minLength": 1,
        "examples": ["common/checks.yaml"],
        "x-expects": 'the path of a workflow file such as "common/checks.yaml"',
    },
    "params": {
        "description": "Values of the parameters of the included file. Expressions may name `params` and `workflow`.",
        "type": "object",
        "propertyNames": {"pattern": f"^{PARAM_NAME}$"},
        "examples": [{"strict": True, "day": "${{ params.day }}"}],
        "x-expects": "a mapping of names of parameters to values",
        "x-aliases": ["with"],
    },
}
#: The keys of every task that a group may have too.
KEYS_OF_GROUPS: Final = frozenset(
    ["type", "description", "depends_on", "if", "preconditions", "trigger_rule", "on_success", "on_failure", "on_exit"]
)
_INSTEAD: Final = {
    "retries": "set it on its tasks; a group is not tried again as a whole",
    "retry": "set it on its tasks; a group is not tried again as a whole",
    "foreach": "put it on a task, or run the tasks for each item as a workflow of their own (`type: workflow`)",
    "matrix": "put it on a task, or run the tasks for each item as a workflow of their own (`type: workflow`)",
    "timeout": "set it on its tasks; `timeout` at the top of the file limits the run",
    "on_start": "put a task at its beginning, which the others wait for",
    "teardown_of": "let a task of the group tear the setup down",
}
_OTHERWISE: Final = "set it on its tasks, or under its `defaults`"


def check_groups(tree: Tree) -> Iterator[Problem]:
    """Report keys that only tasks have, and ids and dependencies that groups cannot have."""
    for task_id in tree.groups:
        keys = tree.tasks[task_id]
        has_both = "include" in keys and "tasks" in tree.raw_containers.get(id(keys), keys)
        for key in (*keys, "tasks") if has_both else keys:
            if message := _key_problem(key, keys):
                yield tree.problem(["tasks", task_id, key], message, key=True)
    if not tree.groups:
        return
    from liteflow.api import group_mistakes  # only for files with groups

    for mistake in group_mistakes(_grouping(tree, _written_dependencies(tree))):
        yield tree.problem(_place(tree, mistake.name, mistake.dependency), str(mistake), key=not mistake.dependency)


def _key_problem(key: str, group: Mapping[str, Any]) -> str:
    """Return what is wrong with a key of a group; empty where nothing is."""
    if key not in KEYS_OF_GROUPS and key not in GROUP_KEYS:
        return f"a group has no {quoted(key)}: {_INSTEAD.get(key, _OTHERWISE)}"
    if key in ("tasks", "defaults") and "include" in group:
        return f'{quoted(key)} and "include" exclude each other: put it into the included file'
    if key == "params" and "include" not in group:
        return '"params" are for an included file; the tasks of a group read those of this file'
    return ""


def _written_dependencies(tree: Tree) -> dict[str, list[str]]:
    return {
        task_id: [other for key in ("depends_on", "teardown_of") for other in _texts(task.get(key))]
        for task_id, task in tree.tasks.items()
    } | {task_id: list(task.depends_on) for task_id, task in tree.grafted.items()}


def _texts(value: Any) -> list[str]:
    return [text for text in list_or_empty(value) if isinstance(text, str)]


def _place(tree: Tree, task_id: str, dependency: str) -> list[Key]:
    """Return the path of a dependency of a task, or of the task where it has no such dependency."""
    for key in ("depends_on", "teardown_of") if dependency else ():
        for index, other in enumerate(list_or_empty(tree.tasks.get(task_id, {}).get(key))):
            if other == dependency:
                return ["tasks", task_id, key, index]
    return ["tasks", task_id]


def edges(tree: Tree, dependencies: Mapping[str, list[str]]) -> tuple[Mapping[str, Collection[str]], dict[str, str]]:
    """Return the edges that dependencies of tasks and groups mean, and the group of each entry.

    Where `check_groups` has reported a mistake, there are no edges.
    """
    if not tree.groups:
        return dependencies, {}
    from liteflow.api import group_mistakes, group_nodes

    grouping = _grouping(tree, dependencies)
    if any(group_mistakes(grouping)):
        return {}, {}
    nodes = group_nodes(grouping)
    return nodes.dependencies, {entry: group for group, entry in nodes.entries.items()}


def _grouping(tree: Tree, dependencies: Mapping[str, list[str]]) -> Any:
    """Return the groups of a file; `dependencies` are those of its tasks and groups."""
    from liteflow.api import Grouping  # only for files with groups

    tasks, grafted = tree.tasks, tree.grafted
    conditional = {
        group for group in tree.groups if not {"if", "preconditions", "trigger_rule"}.isdisjoint(tasks[group])
    }
    deciders = {task_id for task_id, task in tasks.items() if task.get("branch") or task.get("short_circuit")}
    return Grouping(
        dependencies=dependencies,
        groups=tree.all_groups,
        parents=tree.parents,
        conditional=conditional | {task_id for task_id, task in grafted.items() if task.is_conditional_group},
        deciders=deciders | {task_id for task_id, task in grafted.items() if task.decides},
    )
