"""The normalized tree of a workflow file, and the way from a path in it back to a line of the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from lightflow.errors import Location, Problem
from lightflow.parser.positions import START, Key, Mark, Source, location_at, problem_at
from lightflow.spec.model import GROUP, ConditionSpec, Expressions, IncludeSpec, TaskSpec, WorkflowSpec
from liteflow.api import EMPTY_MAPPING, HOOK_EVENTS, Record

_HOOKS: Final = frozenset([*HOOK_EVENTS, "preconditions"])


class TaskNode(Record):
    """A task, a hook, or a command of a precondition.

    For a hook or precondition, `outer_env` are the variables of its task and `owner` is the path of its task. `cwd` is
    the folder where `keys` name none: that of its task, or of the workflow.
    """

    id: str
    path: list[Key]
    keys: dict[str, Any]
    is_hook: bool = False
    outer_env: Mapping[str, Any] = EMPTY_MAPPING
    owner: tuple[Key, ...] = ()
    cwd: Any = None

    @property
    def runs_before_mapping(self) -> bool:
        """Whether it runs once, before the instances of a mapped task exist."""
        return self.is_hook and self.path[2:3] in (["on_start"], ["preconditions"])


#: The conditions in the key `repeat`.
REPEAT_CONDITIONS: Final = ("until", "while")


class ConditionNode(NamedTuple):
    """An `if` of a task or of one of its preconditions, or the condition of its repetition."""

    task_id: str
    path: list[Key]
    text: Any

    @property
    def id(self) -> str:
        """`TASK`, `TASK.precondition_N`, where N begins with 1, or `TASK.until`."""
        if self.is_of_repeat:
            return f"{self.task_id}.{self.path[-1]}"
        return precondition_id(self.task_id, self.path)

    @property
    def is_of_repeat(self) -> bool:
        """Whether it is evaluated after each iteration."""
        return self.path[2:3] == ["repeat"]


class Origin(NamedTuple):
    """The place of a value that is written elsewhere: raw container, key, and path (empty: that of the value).

    A task has values from its defaults; a list or a mapping that is written as a single value has its parts from there.
    """

    container: Any
    key: Key
    path: tuple[Key, ...]


class ExpressionIndex(Record):
    """The expressions and conditions of a file, by the id of their task, hook or precondition, and their problems."""

    tasks: Mapping[str, Expressions] = EMPTY_MAPPING
    conditions: Mapping[str, ConditionSpec] = EMPTY_MAPPING
    outputs: Expressions | None = None  # those in the values of a run
    problems: Sequence[Problem] = ()


class Inclusion(Record):
    """An included file: its tree, its workflow, and its tasks as those of a group of the including file."""

    tree: Tree
    spec: WorkflowSpec
    types: Any  #: the registry of its task types
    include: IncludeSpec
    tasks: Mapping[str, TaskSpec]


class Tree:
    """The normalized tree of a source: one name for each key, one form for each value.

    The raw tree of the source is not changed, because anchors share parts of it. `raw_containers[id(container)]` is the
    raw container from which a normalized one was made.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.root: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self.raw_containers: dict[int, Any] = {}
        self.aliases: dict[tuple[int, str], str] = {}  # (normalized container, key) -> the name in the file
        self.task_places: dict[str, tuple[Any, Key]] = {}  # of tasks in lists and groups: the container, and the key
        self.origins: dict[tuple[int, Key], Origin] = {}  # (container, key) -> the place of a value that is not there
        self.parents: dict[str, str] = {}  # the innermost group of each task and group that is in one
        self.includes: dict[str, Inclusion] = {}  # by the id of the group whose tasks are in another file
        self.not_included: dict[str, list[Problem]] = {}  # by the id of a group whose file cannot be included: why
        self.unknown_keys: set[str] = set()  # dotted paths of keys that the schema does not have
        self.unknown_types: dict[int, str] = {}  # normalized container -> the type in the file, for an assumed type

    @cached_property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """The tasks that are mappings; the schema refuses the others."""
        tasks = self.root.get("tasks")
        return {id_: task for id_, task in tasks.items() if isinstance(task, dict)} if isinstance(tasks, dict) else {}

    @cached_property
    def task_ids(self) -> list[str]:
        """The ids of all tasks."""
        tasks = self.root.get("tasks")
        return list(tasks) if isinstance(tasks, dict) else []

    @cached_property
    def groups(self) -> list[str]:
        """The ids of all groups that are written in the file."""
        return [task_id for task_id, task in self.tasks.items() if task.get("type") == GROUP]

    @cached_property
    def grafted(self) -> dict[str, TaskSpec]:
        """The tasks of included files, once all are read."""
        return {task_id: task for inclusion in self.includes.values() for task_id, task in inclusion.tasks.items()}

    @property
    def all_ids(self) -> list[str]:
        """The ids of all tasks and groups, those of included files too."""
        return [*self.task_ids, *self.grafted] if self.includes else self.task_ids

    @property
    def all_groups(self) -> list[str]:
        """The ids of all groups, those of included files too."""
        if not self.includes:
            return self.groups
        return [*self.groups, *(task_id for task_id, task in self.grafted.items() if task.type == GROUP)]

    @cached_property
    def task_nodes(self) -> list[TaskNode]:
        """All tasks, hooks and commands of preconditions."""
        nodes = []
        for task_id, task in self.tasks.items():
            nodes.append(TaskNode(id=task_id, path=["tasks", task_id], keys=task, cwd=self.root.get("cwd")))
            if not _HOOKS.isdisjoint(task):
                nodes += hook_nodes(task_id, task, self.root.get("cwd"))
                nodes += precondition_nodes(task_id, task, self.root.get("cwd"))
        nodes += hook_nodes("", self.root, self.root.get("cwd"))
        return nodes

    @cached_property
    def conditions(self) -> list[ConditionNode]:
        """All conditions of tasks and preconditions."""
        nodes = []
        for task_id, task in self.tasks.items():
            if "if" in task:
                nodes.append(ConditionNode(task_id, ["tasks", task_id, "if"], task["if"]))
            for index, precondition in preconditions(task):
                if "if" in precondition:
                    path: list[Key] = ["tasks", task_id, "preconditions", index, "if"]
                    nodes.append(ConditionNode(task_id, path, precondition["if"]))
            repeat = mapping_or_empty(task.get("repeat"))
            nodes += [
                ConditionNode(task_id, ["tasks", task_id, "repeat", name], repeat[name])
                for name in REPEAT_CONDITIONS
                if name in repeat
            ]
        return nodes

    @cached_property
    def shell(self) -> Any:
        """The shell of the workflow's scripts, or None."""
        settings = self.root.get("settings")
        return self.root.get("shell", settings.get("shell") if isinstance(settings, dict) else None)

    def is_in_list(self, task_id: str) -> bool:
        """Return whether a task is written in a list."""
        return task_id in self.task_places and isinstance(self.task_places[task_id][0], list)

    def groups_around(self, name: str) -> tuple[str, ...]:
        """Return the groups that a task or group is in, the innermost first."""
        groups: list[str] = []
        while name := self.parents.get(name, ""):
            groups.append(name)
        return tuple(groups)

    def task_named(self, name: Any, group: str) -> Any:
        """Return the id of the task that a name means within a group; the name itself where there is none."""
        around = (group, *self.groups_around(group))
        ids = self.tasks.keys() | self.grafted.keys() if self.includes else self.tasks
        return next((f"{each}.{name}" for each in around if f"{each}.{name}" in ids), name)

    def may_be_included(self, name: str, around: Sequence[str]) -> bool:
        """Return whether a name, within these groups, may be that of a task whose file cannot be included."""
        return bool(self.not_included) and any(
            each.startswith(f"{group}.")
            for each in (name, *(f"{outer}.{name}" for outer in around))
            for group in self.not_included
        )

    def locate(self, path: Sequence[Key], *, key: bool = False) -> Mark:
        """Return where the value at `path` (or its key) begins, or else the nearest container that has a position."""
        positions = self.source.positions
        node: Any = self.root
        mark: Mark = START
        for depth, name in enumerate(path):
            raw = self.raw_containers.get(id(node), node)
            written: Any = self.aliases.get((id(node), str(name)), name)
            if depth == 1 and path[0] == "tasks" and name in self.task_places:
                raw, written = self.task_places[str(name)]
            if (id(node), name) in self.origins:
                raw, written, _ = self.origins[id(node), name]
            last = depth == len(path) - 1
            place = positions.key(raw, written) if last and key else positions.value(raw, written)
            if place is None:
                break
            if not last and isinstance(raw, dict):
                mark = positions.key(raw, written) or place
            else:
                mark = place
            node = _child(node, name)
        return mark

    def locate_value(self, keys: Mapping[str, Any], key: str, path: Sequence[Key]) -> Mark:
        """Return where a value of the mapping at `path` begins, as `locate` does, without a walk from the root."""
        raw, written = self._written(keys, key)
        return self.source.positions.value(raw, written) or self.locate([*path, key])

    def _written(self, keys: Mapping[str, Any], key: str) -> tuple[Any, Key]:
        """Return the raw container and the key in which a value of a mapping is written."""
        if (id(keys), key) in self.origins:
            return self.origins[id(keys), key][:2]
        return self.raw_containers.get(id(keys), keys), self.aliases.get((id(keys), key), key)

    def note_origin(
        self, target: Mapping[str, Any], key: str, source: Mapping[str, Any], source_key: str, path: Sequence[Key]
    ) -> None:
        """Note that a value of a mapping is that of another one, whose place is `path`."""
        self.origins[id(target), key] = Origin(*self._written(source, source_key), tuple(path))

    def copy_origin(self, source: Mapping[str, Any], target: Mapping[str, Any], key: str) -> None:
        """Note that a value of a mapping is where the same value of another one is."""
        path = self.origins[id(source), key].path if (id(source), key) in self.origins else ()
        self.origins[id(target), key] = Origin(*self._written(source, key), path)

    def replace_list(self, items: list[Any], renamed: list[Any]) -> None:
        """Note that a list is another one with other names."""
        self.raw_containers[id(renamed)] = self.raw_containers.get(id(items), items)
        if (id(items), 0) in self.origins:
            self.origins[id(renamed), 0] = self.origins[id(items), 0]

    def written_path(self, path: Sequence[Key]) -> list[Key]:
        """Return the path at which a value is written: that of a default begins with `defaults`, or its group."""
        node: Any = self.root
        written: list[Key] = []
        for name in path:
            origin = self.origins.get((id(node), name))
            written = list(origin.path) if origin is not None and origin.path else [*written, name]
            node = _child(node, name)
        return written

    def location(self, path: Sequence[Key], *, key: bool = False) -> Location:
        """Return the place of the value at `path`, or of its key."""
        written = self.written_path(path) if self.origins else path
        return location_at(self.source.file, self.locate(path, key=key), dotted(written[:-1] if key else written))

    def problem(self, path: Sequence[Key], message: str, *, key: bool = False) -> Problem:
        """Return a problem of the value at `path`, or of its key."""
        return self.location(path, key=key).problem(message)

    def key_problem(self, keys: Mapping[str, Any], key: str, path: Sequence[Key], message: str) -> Problem:
        """Return a problem of a key in the mapping at `path`, which need not be part of the root yet."""
        raw = self.raw_containers.get(id(keys), keys)
        mark = self.source.positions.key(raw, self.aliases.get((id(keys), key), key))
        return problem_at(self.source.file, mark, dotted(path), message)

    def is_literal_block(self, keys: Mapping[str, Any], key: str) -> bool:
        """Return whether the value is a literal block (`|`), whose text begins on the next line."""
        raw, written = self._written(keys, key)
        return (id(raw), written) in self.source.positions.blocks


def hook_nodes(task_id: str, keys: Mapping[str, Any], workflow_cwd: Any) -> Iterator[TaskNode]:
    """Return the hooks of a task, or of the run where `task_id` is empty."""
    owner: tuple[Key, ...] = ("tasks", task_id) if task_id else ()
    prefix, cwd = (f"{task_id}.", keys.get("cwd", workflow_cwd)) if task_id else ("", workflow_cwd)
    for event in HOOK_EVENTS:
        hook = keys.get(event)
        if isinstance(hook, dict):
            env = mapping_or_empty(keys.get("env")) if owner else {}  # the variables of the workflow apply anyway
            yield TaskNode(
                id=f"{prefix}{event}",
                path=[*owner, event],
                keys=hook,
                is_hook=True,
                outer_env=env,
                owner=owner,
                cwd=cwd,
            )


def precondition_nodes(task_id: str, task: Mapping[str, Any], workflow_cwd: Any) -> Iterator[TaskNode]:
    """Return the preconditions of a task that are commands."""
    for index, precondition in preconditions(task):
        if isinstance(precondition.get("run"), str):
            path: list[Key] = ["tasks", task_id, "preconditions", index]
            keys = {"type": "shell", "run": precondition["run"]}
            cwd, env = task.get("cwd", workflow_cwd), mapping_or_empty(task.get("env"))
            yield TaskNode(
                id=precondition_id(task_id, path),
                path=path,
                keys=keys,
                is_hook=True,
                outer_env=env,
                owner=("tasks", task_id),
                cwd=cwd,
            )


def preconditions(task: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the preconditions of a task that are mappings, with their indexes."""
    listed = task.get("preconditions")
    for index, precondition in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(precondition, dict):
            yield index, precondition


def precondition_id(task_id: str, path: Sequence[Key]) -> str:
    """Return the id of the task or precondition at `path`."""
    return f"{task_id}.precondition_{int(path[3]) + 1}" if "preconditions" in path[2:3] else task_id


def dotted(path: Sequence[Key]) -> str:
    """Return a path such as `tasks.train.depends_on`, without the index of an item, which line and column show."""
    end = len(path)
    while end and isinstance(path[end - 1], int):
        end -= 1
    return ".".join(str(name) for name in path[:end])


def workflow_values(tree: Tree) -> dict[str, str]:
    """Return what `workflow` means in the expressions of a file."""
    path = os.path.abspath(tree.source.file)
    name = tree.root.get("workflow_name") or os.path.basename(path).split(".")[0]
    return {"name": name, "dir": os.path.dirname(path), "file": path}


def mapping_or_empty(value: Any) -> Mapping[str, Any]:
    """Return a value where it is a mapping, else an empty mapping."""
    return value if isinstance(value, dict) else {}


def list_or_empty(value: Any) -> Sequence[Any]:
    """Return a value where it is a list, else an empty sequence."""
    return value if isinstance(value, list) else ()


def _child(node: Any, name: Key) -> Any:
    if isinstance(node, dict):
        return node.get(name)
    return node[name] if isinstance(node, list) and isinstance(name, int) and 0 <= name < len(node) else None
