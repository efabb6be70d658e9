"""Branches and short circuits: which downstream tasks the value of a task skips. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from liteflow.identifiers import did_you_mean
from liteflow.planning.graph import reachable
from liteflow.record import EMPTY_MAPPING, Record


class Branching(Record):
    """A task whose value decides which of its downstream tasks are skipped."""

    kind: Literal["branch", "short_circuit"]
    #: of a short circuit: whether it skips all downstream tasks, under any trigger rule, or only the direct ones
    skips_all: bool = True
    #: of a branch: further names of its direct downstream tasks, such as the id of a group for its entry, with the ids
    names: Mapping[str, str] = EMPTY_MAPPING


class WrongDecision(ValueError):
    """The value of a branch is not a valid choice; the message says why."""


def chosen_names(value: Any) -> list[str]:
    """Return the task ids that a branch returned: None, one id, or several.

    Raises:
        WrongDecision: the value is something else.
    """
    if value is None or value == "":
        return []
    names = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    for name in names:
        if not isinstance(name, str):
            raise WrongDecision(f"a branch returns the id of a task, a list of ids, or None, not {name!r}")
    return names


def skipped_by(
    branching: Branching,
    node: int,
    value: Any,
    ids: Sequence[str],
    downstream: Sequence[Sequence[int]],
    never_skipped: Collection[int],
) -> dict[int, str]:
    """Return the tasks that a decision skips, each with the reason; `never_skipped` are the teardowns and joins.

    A branch skips the direct downstream tasks that it did not choose, except those reachable from a chosen task.

    Raises:
        WrongDecision: a branch names a task that is not directly downstream.
    """
    direct = downstream[node]
    if branching.kind == "short_circuit":
        if value:
            return {}
        tasks = reachable(direct, downstream) if branching.skips_all else dict.fromkeys(direct)
        reason = f"short circuit: {ids[node]} returned {value!r}"
        return {task: reason for task in tasks if task not in never_skipped}
    names = chosen_names(value)
    by_name = {ids[task]: task for task in direct}
    by_name |= {name: by_name[task_id] for name, task_id in branching.names.items() if name not in by_name}
    for name in names:
        if name not in by_name:
            hint = did_you_mean(name, by_name) or f"; there are {', '.join(by_name) or 'none'}"
            raise WrongDecision(f"the branch chose {name!r}, which is not a direct downstream task{hint}")
    followed = reachable([by_name[name] for name in names], downstream)
    reason = f"branch {ids[node]} chose {', '.join(names) if names else 'nothing'}"
    return {task: reason for task in direct if task not in followed and task not in never_skipped}
