"""Checks of the workflows that the tasks of a workflow execute in child runs, at any depth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lightflow.errors import Problem, WorkflowError
from lightflow.expressions.template import OPEN
from lightflow.parser.files import read_source, split_reference
from lightflow.parser.positions import Key, Source
from lightflow.parser.tree import Tree
from lightflow.plugins.expression_kinds import texts_in
from lightflow.plugins.workflow_task import child_reference
from lightflow.spec.model import CHILD_WORKFLOW, Ancestor, TaskSpec, WorkflowSpec
from lightflow.text import quoted
from liteflow.api import MAX_CHILD_DEPTH, unknown_param


class ChildWorkflows:
    """The workflows that one workflow executes; `above` are those that execute it, the nearest last.

    Tasks of included files are checked with these files.
    """

    def __init__(
        self,
        spec: WorkflowSpec,
        tree: Tree,
        above: Sequence[Ancestor],
        load: Callable[[Source, Sequence[Ancestor]], WorkflowSpec],
    ) -> None:
        self._spec = spec
        self._tree = tree
        self._line = (*above, Ancestor(spec.path, spec.name, _group(spec)))
        self._load = load
        self._loaded: dict[str, WorkflowSpec | None] = {}  # None: it has mistakes, which are reported

    def problems(self) -> Iterator[Problem]:
        """Yield the mistakes in the tasks that execute workflows, and in these workflows."""
        for task in self._spec.tasks.values():
            if task.type == CHILD_WORKFLOW and task.file == self._spec.path:
                yield from self._problems_of(task)

    def _problems_of(self, task: TaskSpec) -> Iterator[Problem]:
        path: list[Key] = ["tasks", task.id, "file" if "file" in task.config else "workflow"]
        reference = child_reference(task.config, self._tree.source.file)
        if OPEN in reference or split_reference(reference)[0].endswith(".py"):
            return  # it is known when the task starts; or only its execution shows what it has
        if reference not in self._loaded:
            self._loaded[reference] = None
            try:
                source = read_source(reference)
                line = [each[:2] for each in self._line]
                key = (os.path.abspath(source.file), source.name or os.path.basename(source.file).split(".")[0])
                if key in line:
                    names = [name for _, name in [*line[line.index(key) :], key]]
                    yield self._tree.problem(path, f"it would execute itself without end: {' -> '.join(names)}")
                    return
                if len(line) > MAX_CHILD_DEPTH:
                    message = f"there are {len(line)} workflows above it, and at most {MAX_CHILD_DEPTH} are allowed"
                    yield self._tree.problem(path, message)
                    return
                self._loaded[reference] = self._load(source, self._line)
            except WorkflowError as error:
                yield from _placed(error, self._tree, path, _file_advice(task.config))
        child = self._loaded[reference]
        if child is not None:
            yield from self._group_problems(child, path)
            yield from self._param_problems(task, child)

    def _group_problems(self, child: WorkflowSpec, path: list[Key]) -> Iterator[Problem]:
        """Report a child run that would wait for a run that waits for it."""
        group = _group(child)
        for each in self._line:
            if group is not None and each.group == group:
                message = (
                    f"workflow {quoted(child.name)} is in the concurrency group {quoted(group)}, and so is "
                    f"{quoted(each.name)}, which waits for it: it would wait for ever"
                )
                yield self._tree.problem(path, message)
                return

    def _param_problems(self, task: TaskSpec, child: WorkflowSpec) -> Iterator[Problem]:
        values: Mapping[str, Any] = task.config.get("params", {})
        for name, value in values.items():
            path = ["tasks", task.id, "params", name]
            if name not in child.params:
                yield self._tree.problem(path, unknown_param(name, child.params), key=True)
            elif not any(OPEN in text for _, text in texts_in([], value)):
                try:
                    child.params[name].value(value)
                except ValueError as error:
                    yield self._tree.problem(path, str(error))
        for name, param in child.params.items():
            if param.required and name not in values:
                key = "params" if "params" in task.config else "type"
                message = f"workflow {quoted(child.name)} needs the parameter {quoted(name)}: {param.wanted}"
                yield self._tree.problem(["tasks", task.id, key], message)


def _group(spec: WorkflowSpec) -> str | None:
    """Return the concurrency group of a workflow."""
    concurrency = spec.limits.concurrency
    return None if concurrency is None else concurrency.group or spec.name


def _file_advice(config: Mapping[str, Any]) -> str:
    """Return what to write where `workflow`, the name of a workflow in this file, has the form of a path."""
    name = str(config.get("workflow", ""))
    is_path = "/" in name or name.endswith((".yaml", ".yml", ".json", ".py"))
    return f"; a file is named by `file`: write file: {name}" if is_path and "file" not in config else ""


def _placed(error: WorkflowError, tree: Tree, path: list[Key], advice: str) -> Iterator[Problem]:
    """Yield the mistakes of a child workflow; those that concern its file as a whole at the key that names it."""
    for problem in error.problems:
        message = f"{problem.file}: {problem.message}{advice}"
        yield problem if problem.line else tree.problem(path, message)
