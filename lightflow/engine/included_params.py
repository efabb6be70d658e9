"""The parameters of included files, which follow from those of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightflow.errors import Problem, WorkflowError
from lightflow.spec.grafts import with_params
from lightflow.spec.model import IncludeSpec, WorkflowSpec
from liteflow import InputError
from liteflow.api import replace


def with_included_params(spec: WorkflowSpec, params: Mapping[str, Any], day: float | None = None) -> WorkflowSpec:
    """Return the specification for a run with these parameters: tasks of included files have those of their file.

    `day` is what the words `today` and `yesterday` start from.

    Raises:
        WorkflowError: a value that is given to an included file does not match its declaration, with the place.
    """
    if not spec.includes:
        return spec
    values: dict[str, Mapping[str, Any]] = {"": params}
    problems: list[Problem] = []
    for group, include in spec.includes.items():
        values[group] = _values(include, values[include.parent], day, problems)
    if problems:
        raise WorkflowError(problems)
    tasks = {
        task_id: with_params(task, values[task.included]) if task.included else task
        for task_id, task in spec.tasks.items()
    }
    return replace(spec, tasks=tasks)


def _values(
    include: IncludeSpec, outer: Mapping[str, Any], day: float | None, problems: list[Problem]
) -> dict[str, Any]:
    """Return the parameters of an included file; `outer` are those of the file that includes it."""
    values = {}
    for name, param in include.params.items():
        try:
            value = _argument(include, name, outer) if name in include.arguments else param.default
            values[name] = param.value(value, day)
        except (InputError, ValueError) as error:
            problems.append(include.places.get(name, include.places[""]).problem(str(error)))
    return values


def _argument(include: IncludeSpec, name: str, outer: Mapping[str, Any]) -> Any:
    if not include.templates:
        return include.arguments[name]
    from lightflow.expressions.evaluate import fill  # imports Jinja

    return fill(include.arguments[name], include.templates, {"params": outer, "workflow": include.workflow})
