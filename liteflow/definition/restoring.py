"""Tasks of a dag that was loaded from the state file: what is stored of them, without the code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from liteflow.definition.options import NO_OPTIONS, TaskOptions, make_options
from liteflow.definition.tasks import Task
from liteflow.errors import DefinitionError
from liteflow.hooks import HOOK_EVENTS
from liteflow.work import Ref

#: Options that are data, and have no key of their own in the snapshot of a task.
KEPT: Final = (
    "retry_delay",
    "retry_backoff",
    "max_retry_delay",
    "retry_jitter",
    "retry_on",
    "retry_on_exit_codes",
    "kill_grace",
    "mode",
    "secrets",
    "fail_fast",
    "map_key",
    "ignore_downstream_trigger_rules",
    "on_failure_fail_run",
    "continue_on_error",
)
_OWN_KEYS: Final = ("retries", "timeout", "priority", "max_parallel", "setup", "teardown", "resources")


def kept_options(options: TaskOptions) -> dict[str, Any]:
    """The options of a task that are data, for its snapshot; exceptions by name."""
    found = {}
    for name in KEPT:
        value = getattr(options, name)
        if value == getattr(NO_OPTIONS, name) or (name, value) == ("continue_on_error", True):  # that is a mark already
            continue
        if isinstance(value, list | tuple | set | frozenset):
            value = [one.__name__ if isinstance(one, type) else one for one in value]
        found[name] = value
    return found


def restore(task: Task, row: Mapping[str, Any]) -> None:
    """Give a task the dependencies, and the options that it was not given, of the task of its id in a snapshot.

    Raises:
        DefinitionError: something is missing that is code.
    """
    _check_code(task, row)
    stored: dict[str, Any] = {name: row[name] for name in _OWN_KEYS if name in row}
    kept = row.get("options")
    stored |= {name: kept[name] for name in KEPT if name in kept} if isinstance(kept, dict) else {}
    if row.get("rule") and not row.get("teardown"):
        stored["trigger_rule"] = row["rule"]
    if row.get("decides") in ("branch", "short_circuit"):
        stored[row["decides"]] = True
    if row.get("continue_on_error") is True:
        stored.setdefault("continue_on_error", True)
    if task.options.pool is not None:
        stored.pop("resources", None)
    given = task.options
    wanted = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stored.items()
        if getattr(given, name) == getattr(NO_OPTIONS, name)
    }
    if wanted:
        task.options = make_options(wanted, task.task_id, given)
    task.dependencies.update(row.get("depends_on", ()))
    takes = row.get("takes")
    for name, above in takes.items() if isinstance(takes, dict) else ():
        if name in task.parameters.names and name not in task.bound_args and name not in task.arg_dependencies:
            task.bind(name, Ref(str(above)))


def _check_code(task: Task, row: Mapping[str, Any]) -> None:
    task_id, options = task.task_id, task.options
    for name in ("if", "preconditions"):
        if row.get(name):
            raise DefinitionError(f"task {task_id!r} had {name}, which only the workflow file can hold: run that")
    hooks = row.get("hooks")
    names = ["run_if"] if row.get("run_if") is True else []
    names += [one for one in hooks if one in HOOK_EVENTS] if isinstance(hooks, list) else []
    for name in names:
        if getattr(options, name) is None:
            raise DefinitionError(
                f"task {task_id!r} had {name}, which is code and not in the state file; "
                f"give it again: dag.task(function, {task_id!r}, {name}=…)"
            )
    if row.get("mapped") is True and task.expansion is None:
        raise DefinitionError(
            f"task {task_id!r} was mapped over a list, which is not in the state file; "
            f"give it again: dag.partial(function, {task_id!r}).expand(…)"
        )
