"""Find the tasks and instances that a person names: `fetch`, `fetch*`, `fetch[3]`, `fetch[eu]`, or a group. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from liteflow.errors import DefinitionError
from liteflow.identifiers import did_you_mean
from liteflow.planning.rerun import WHOLE, Indexes
from liteflow.record import EMPTY_MAPPING

#: Returns the labels of the instances of a mapped task, by index.
Labels = Callable[[str], Mapping[int, str | None]]
#: The ids of the nodes in each group.
Groups = Mapping[str, Collection[str]]


def find_targets(
    names: Sequence[str], task_ids: Collection[str], labels: Labels, where: str, groups: Groups = EMPTY_MAPPING
) -> dict[str, Indexes]:
    """Return the tasks with these names, and of mapped tasks the indexes of instances; None: the whole task.

    A group means all its members.

    Raises:
        DefinitionError: there is no such task or instance; `where` says in what, the nearest name is named.
    """
    targets: dict[str, Indexes] = {}
    for name in names:
        for task_id, indexes in _find(name, task_ids, labels, where, groups):
            if task_id not in targets or indexes is None:
                targets[task_id] = indexes
            elif (earlier := targets[task_id]) is not None:
                targets[task_id] = earlier | indexes
    return targets


def _find(
    name: str, task_ids: Collection[str], labels: Labels, where: str, groups: Groups
) -> Iterator[tuple[str, Indexes]]:
    if name in groups:
        yield from ((task_id, WHOLE) for task_id in groups[name])
        return
    if name in task_ids:
        yield name, WHOLE
        return
    task_id, key = split_target(name)
    if key is not None and task_id in task_ids:
        yield task_id, chosen_instances(task_id, key, labels(task_id), where)
        return
    members = [task_id for task_id in task_ids if fnmatch.fnmatchcase(task_id, name)]
    if not members:
        raise DefinitionError(f"{where} has no task {name!r}{_nearest(name, task_ids)}")
    yield from ((task_id, WHOLE) for task_id in members)


def split_target(name: str) -> tuple[str, str | None]:
    """Return the task that a name names, and the index or label in its brackets; None: there are no brackets."""
    match = re.fullmatch(r"(.+?)\[(.*)\]", name, re.DOTALL)
    return (match[1], match[2]) if match else (name, None)


def groups_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what is in each group of a graph, by the rows of its tasks: also in groups within it, and its join."""
    parents = {str(row["id"]): str(row.get("group", "")) for row in rows}
    groups: dict[str, list[str]] = {str(row["id"]): [str(row["id"])] for row in rows if row.get("gate") == "group"}
    for task_id, group in parents.items():
        while group in groups:
            groups[group].append(task_id)
            group = parents.get(group, "")
    return groups


def chosen_instances(task_id: str, key: str, labels: Mapping[int, str | None], where: str) -> frozenset[int]:
    """Return the indexes of the instances with an index, a label, or labels that match a pattern.

    Raises:
        DefinitionError: there is none; `where` says in what, the nearest label is named.
    """
    if key.isascii() and key.isdigit() and int(key) in labels:
        return frozenset([int(key)])
    indexes = [index for index, label in labels.items() if label == key]
    indexes = indexes or [index for index, label in labels.items() if label and fnmatch.fnmatchcase(label, key)]
    if not indexes:
        if not labels:
            raise DefinitionError(f"{where} has no instances of {task_id!r}")
        names = [label for label in labels.values() if label]
        numbers = f"; its indexes are {min(labels)} to {max(labels)}"
        hint = _nearest(key, names) if names and not key.isdigit() else numbers
        raise DefinitionError(f"{where} has no instance {task_id}[{key}]{hint}")
    return frozenset(indexes)


def _nearest(word: str, names: Collection[str]) -> str:
    return did_you_mean(word, names) or (f"; it has {', '.join(list(names)[:20])}" if names else "")
