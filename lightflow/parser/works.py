"""All the work in a canonical tree: tasks, their hooks and preconditions, the run's hooks; and all conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from lightflow.parser.positions import Key
from liteflow.api import HOOK_EVENTS

_AROUND: Final = frozenset([*HOOK_EVENTS, "preconditions"])


class WorkIn(NamedTuple):
    """A task, or what is run for one.

    `env` are the variables of the task around a hook, `owner` is its path. `cwd` is the folder that is taken where the
    work says none: of the task around it, or of the workflow.
    """

    id: str
    path: list[Key]
    keys: dict[str, Any]
    hook: bool = False
    env: Mapping[str, Any] = {}
    owner: tuple[Key, ...] = ()
    cwd: Any = None

    @property
    def once(self) -> bool:
        """Is it done before there are instances of a mapped task?"""
        return self.hook and self.path[2:3] in (["on_start"], ["preconditions"])


def works(root: Mapping[str, Any]) -> Iterator[WorkIn]:
    """Every piece of work; what the schema refuses is left out."""
    tasks = root.get("tasks")
    for task_id, task in tasks.items() if isinstance(tasks, dict) else ():
        if not isinstance(task, dict):
            continue
        yield WorkIn(task_id, ["tasks", task_id], task, cwd=root.get("cwd"))
        if not _AROUND.isdisjoint(task):
            yield from around(task_id, task, root.get("cwd"))
    yield from hooks_of(root, "", (), root.get("cwd"))


def shell_of(root: Mapping[str, Any]) -> Any:
    """The shell of the workflow's scripts; None: nothing is said."""
    settings = root.get("settings")
    return root.get("shell", settings.get("shell") if isinstance(settings, dict) else None)


def around(task_id: str, task: Mapping[str, Any], cwd: Any) -> Iterator[WorkIn]:
    """The hooks of a task, and its preconditions that are commands. `cwd` is the workflow's."""
    owner = ("tasks", task_id)
    cwd = task.get("cwd", cwd)
    yield from hooks_of(task, f"{task_id}.", owner, cwd)
    listed = task.get("preconditions")
    for number, one in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(one, dict) and isinstance(one.get("run"), str):
            path: list[Key] = [*owner, "preconditions", number]
            keys = {"type": "shell", "run": one["run"]}
            yield WorkIn(path_id(path), path, keys, True, _mapping(task.get("env")), owner, cwd)


def hooks_of(root: Mapping[str, Any], prefix: str, owner: tuple[Key, ...], cwd: Any) -> Iterator[WorkIn]:
    """The hooks in a mapping; the run's own have its variables anyhow."""
    for event in HOOK_EVENTS:
        hook = root.get(event)
        if isinstance(hook, dict):
            env = _mapping(root.get("env")) if owner else {}
            yield WorkIn(f"{prefix}{event}", [*owner, event], hook, True, env, owner, cwd)


def conditions(root: Mapping[str, Any]) -> Iterator[tuple[str, list[Key], Any]]:
    """Every condition, with the task it is of and its path."""
    tasks = root.get("tasks")
    for task_id, task in tasks.items() if isinstance(tasks, dict) else ():
        if not isinstance(task, dict):
            continue
        if "if" in task:
            yield task_id, ["tasks", task_id, "if"], task["if"]
        if "preconditions" not in task:
            continue
        listed = task.get("preconditions")
        for number, one in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(one, dict) and "if" in one:
                yield task_id, ["tasks", task_id, "preconditions", number, "if"], one["if"]


def has_conditions(root: Mapping[str, Any]) -> bool:
    """Is there any?"""
    return next(conditions(root), None) is not None


def path_id(path: list[Key]) -> str:
    """The id of what stands there: `TASK`, or `TASK.precondition_N`, from 1 on."""
    return f"{path[1]}.precondition_{int(path[3]) + 1}" if "preconditions" in path[2:3] else str(path[1])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
