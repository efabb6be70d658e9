"""Graft the tasks of an included file: as tasks of the workflow that includes it, with ids below that of a group.

A file names only its own tasks, so every id in it gets the same beginning. Its expressions stay as they are written:
the names in them are noted with the ids that they mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lightflow.spec.model import (
    ConditionSpec,
    ControlFlowSpec,
    Expression,
    Expressions,
    IncludeSpec,
    TaskSpec,
    Template,
    WorkflowSpec,
    digest_of,
)
from liteflow.api import EMPTY_MAPPING, Ref, replace


def grafted_tasks(
    spec: WorkflowSpec, group: str, arguments: Mapping[str, Any], mode: str | None
) -> dict[str, TaskSpec]:
    """Return the tasks of an included file by id, within a group that gives it these values of parameters.

    `mode` is the one in the settings of the file, if there is one.
    """
    graft = _Graft(group, mode, arguments)
    return {graft.id(task_id): graft.task(task) for task_id, task in spec.tasks.items()}


def grafted_includes(spec: WorkflowSpec, group: str) -> dict[str, IncludeSpec]:
    """Return the files that an included file includes, by the id of their group."""
    return {
        f"{group}.{name}": replace(include, parent=f"{group}.{include.parent}" if include.parent else group)
        for name, include in spec.includes.items()
    }


def with_params(task: TaskSpec, params: Mapping[str, Any]) -> TaskSpec:
    """Return a task of an included file with the values of the parameters of that file."""

    def expressions_with(expressions: Expressions | None) -> Expressions | None:
        return None if expressions is None else replace(expressions, params=params)

    def condition_with(condition: ConditionSpec) -> ConditionSpec:
        return replace(condition, scope=expressions_with(condition.scope))

    return replace(
        _with_conditions(task, condition_with, lambda hook: with_params(hook, params)),
        expressions=expressions_with(task.expressions),
        params=params,
    )


class _Graft:
    """The tasks of a file in a group."""

    def __init__(self, group: str, mode: str | None, arguments: Mapping[str, Any]) -> None:
        self._group = group
        self._mode = mode
        self._arguments = arguments

    def id(self, task_id: str) -> str:
        return f"{self._group}.{task_id}"

    def task(self, task: TaskSpec) -> TaskSpec:
        changed = _with_conditions(task, self._condition, lambda hook: replace(self.task(hook), group=""))
        reads_arguments = self._arguments and (task.expressions is not None or task.control_flow is not None)
        return replace(
            changed,
            id=self.id(task.id),
            depends_on=tuple(map(self.id, task.depends_on)),
            implied=tuple(map(self.id, task.implied)),
            group=self.id(task.group) if task.group else self._group,
            included=self.id(task.included) if task.included else self._group,
            mode=task.mode or self._mode,
            expressions=None if task.expressions is None else self._expressions(task.expressions),
            digest=digest_of([task.digest, dict(self._arguments)]) if reads_arguments else task.digest,
        )

    def _condition(self, condition: ConditionSpec) -> ConditionSpec:
        expression, scope = self._expression(condition.expression), condition.scope
        ids = [*(ref.task_id for ref in condition.expression.reads), *condition.states]
        return replace(
            condition,
            expression=expression,
            states=tuple(map(self.id, condition.states)),
            scope=None if scope is None else self._expressions(scope, ids),
        )

    def _expressions(self, expressions: Expressions, other_ids: Iterable[str] = ()) -> Expressions:
        """Return expressions in the group; `other_ids` are ids of tasks that they name besides their upstream tasks."""
        ids = (*expressions.upstreams, *other_ids)
        return replace(
            expressions,
            reads=self._refs(expressions.reads),
            shared_env=self._templates(expressions.shared_env),
            enclosing_env=self._templates(expressions.enclosing_env),
            own_env=self._templates(expressions.own_env),
            cwd=None if expressions.cwd is None else self._template(expressions.cwd),
            options=self._templates(expressions.options),
            words=self._templates(expressions.words),
            pasted=tuple(map(self._template, expressions.pasted)),
            config=tuple(key._replace(template=self._template(key.template)) for key in expressions.config),
            mapping=self._templates(expressions.mapping),
            names={
                **{task_id: self.id(task_id) for task_id in ids},
                **{name: self.id(task_id) for name, task_id in expressions.names.items()},
            },
            params=EMPTY_MAPPING if expressions.params is None else expressions.params,
        )

    def _templates(self, templates: Mapping[str, Any]) -> dict[str, Any]:
        return {name: text if isinstance(text, str) else self._template(text) for name, text in templates.items()}

    def _template(self, template: Template) -> Template:
        return tuple(part if isinstance(part, str) else self._expression(part) for part in template)

    def _expression(self, expression: Expression) -> Expression:
        return replace(expression, reads=self._refs(expression.reads)) if expression.reads else expression

    def _refs(self, refs: tuple[Ref, ...]) -> tuple[Ref, ...]:
        return tuple(Ref(self.id(ref.task_id), ref.key) for ref in refs)


def _with_conditions(task: TaskSpec, condition_of: Any, task_of: Any) -> TaskSpec:
    """Return a task with other conditions, and with other commands of preconditions and hooks."""
    flow, repeat = task.control_flow, task.repeat
    if flow is None and repeat is None:
        return task
    if repeat is not None:
        repeat = replace(repeat, condition=condition_of(repeat.condition))
    return replace(task, control_flow=None if flow is None else _flow(flow, condition_of, task_of), repeat=repeat)


def _flow(flow: ControlFlowSpec, condition_of: Any, task_of: Any) -> ControlFlowSpec:
    return replace(
        flow,
        condition=None if flow.condition is None else condition_of(flow.condition),
        preconditions=tuple(
            replace(
                each,
                condition=None if each.condition is None else condition_of(each.condition),
                command=None if each.command is None else task_of(each.command),
            )
            for each in flow.preconditions
        ),
        hooks={event: task_of(hook) for event, hook in flow.hooks.items()},
    )
