"""The tasks of a file by id: those in lists and in groups, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lightflow.parser.positions import Key, Mark, problem_at
from lightflow.parser.tree import Tree
from lightflow.spec.model import GROUP
from lightflow.text import did_you_mean, quoted


class TaskTree:
    """Collects the raw tasks of a tree.

    A group gets the type `GROUP` and loses its `tasks`, which follow it with ids that begin with its id. Where a task
    is written, and its group, is noted in the tree. `has_name` says whether the type of a task has a key `name`.
    """

    def __init__(self, tree: Tree, has_name: Callable[[Mapping[str, Any]], bool]) -> None:
        self._tree = tree
        self._has_name = has_name

    def collect(self, raw: dict[str, Any] | list[Any]) -> dict[str, Any]:
        """Return all tasks by id."""
        tasks: dict[str, Any] = {}
        self._tree.raw_containers[id(tasks)] = raw
        self._add(raw, "", tasks)
        return tasks

    def _add(self, raw: dict[str, Any] | list[Any], group: str, tasks: dict[str, Any]) -> None:
        """Add the tasks of the file, or of a group."""
        tree = self._tree
        for name, key, task in self._named(raw, group):
            task_id = f"{group}.{name}" if group else name
            if task_id in tasks:
                line = self._line_of(task_id)
                message = f"the id {quoted(task_id)} is given twice; the first is on line {line}"
                self._report(raw, key, task_id, message)
                continue
            if group or isinstance(raw, list):
                tree.task_places[task_id] = raw, key
            if group:
                tree.parents[task_id] = group
            tasks[task_id] = task
            if _is_group(task):
                self._add_group(task_id, task, tasks)

    def _add_group(self, task_id: str, raw: dict[str, Any], tasks: dict[str, Any]) -> None:
        rest = {key: value for key, value in raw.items() if key != "tasks"}
        tasks[task_id] = group = {**rest, "type": GROUP}
        self._tree.raw_containers[id(group)] = raw
        inner = raw.get("tasks", {})
        if isinstance(inner, dict | list):
            self._add(inner, task_id, tasks)
        else:
            group["tasks"] = inner  # the schema reports it

    def _named(self, raw: dict[str, Any] | list[Any], group: str) -> Iterator[tuple[str, Key, Any]]:
        """Yield each task with its name, and its key in the mapping or index in the list."""
        if isinstance(raw, dict):
            yield from ((name, name, task) for name, task in raw.items() if not (group and name.startswith("x-")))
            return
        indexes: dict[str, int] = {}
        for index, item in enumerate(raw):
            name = self._item_name(raw, index, indexes)
            if name is not None:
                indexes[name] = index
                yield name, index, item

    def _line_of(self, task_id: str) -> int | str:
        """Return the line on which a task begins."""
        place = self._tree.locate(["tasks", task_id], key=True)
        return place.line + 1

    def _item_name(self, raw: list[Any], index: int, indexes: Mapping[str, int]) -> str | None:
        """Return the id of a task in a list, or an id in place of a missing one; None for a task that is left out."""
        item, positions = raw[index], self._tree.source.positions
        mark = positions.value(raw, index)
        if not isinstance(item, dict):
            self._item_problem(index, mark, "must be a mapping with an `id`, such as {id: build, run: make}")
            return None
        is_named = "name" in item and not self._has_name(item)
        key = "name" if is_named and "id" not in item else "id"
        task_id, mark = item.get(key), positions.value(item, key) or mark
        if is_named and key == "id":
            message = '"name" and "id" mean the same; keep "id", and put words for people under "description"'
            self._item_problem(index, positions.key(item, "name"), message)
        if not isinstance(task_id, str):
            message = "the id must be text; put it in quotes" if key in item else "needs an `id`"
            hint = "" if key in item else did_you_mean("id", map(str, item))
            self._item_problem(index, mark, message + hint)
            stand_in = f"item_{index + 1}"  # so that the other mistakes are reported too
            return stand_in if stand_in not in indexes else None
        if task_id.startswith("x-"):
            message = f"the id {quoted(task_id)} begins with x-, which is reserved for anchors and notes"
            self._item_problem(index, mark, message)
            return None
        if task_id in indexes:
            first = raw[indexes[task_id]]
            place = positions.value(first, "id") or positions.value(first, "name")
            line = place.line + 1 if place else "?"
            self._item_problem(index, mark, f"the id {quoted(task_id)} is given twice; the first is on line {line}")
            return None
        return task_id

    def _item_problem(self, index: int, mark: Mark | None, message: str) -> None:
        self._tree.problems.append(problem_at(self._tree.source.file, mark, f"tasks.{index}", message))

    def _report(self, raw: Any, key: Key, task_id: str, message: str) -> None:
        mark = self._tree.source.positions.key(raw, key)
        self._tree.problems.append(problem_at(self._tree.source.file, mark, f"tasks.{task_id}", message))


def _is_group(task: Any) -> bool:
    """Return whether a task is a group: it has tasks or includes a file, and no type that could have such a key."""
    return isinstance(task, dict) and ("tasks" in task or "include" in task) and "type" not in task
