"""A checked workflow file becomes a `liteflow.Dag`. From here on it is no different from one written in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lightflow.engine.flow_builder import around, flow_options, flow_with_files
from lightflow.engine.outside import NOTHING, Outside
from lightflow.errors import Problem, WorkflowError
from lightflow.parser.durations import PATTERN, seconds
from lightflow.parser.spec import Expression, FanSpec, TaskSpec, Template, WorkflowSpec
from lightflow.plugins.base import TaskType
from lightflow.plugins.registry import Registry
from liteflow import Dag, Task
from liteflow.collector import collector_paused
from liteflow.definition.options import TaskOptions, with_keywords
from liteflow.errors import InputError
from liteflow.work import Body, Command, Expansion


def build_dag(
    spec: WorkflowSpec,
    registry: Registry,
    db_path: str,
    params: Mapping[str, Any] | None = None,
    outside: Outside = NOTHING,
) -> Dag:
    """Build the dag for a run with these parameters and what it takes from outside.

    This imports the code of the task types that the workflow uses.

    Raises:
        WorkflowError: the code of a plugin cannot be imported, or an expression cannot be evaluated.
    """
    dag = Dag(spec.name, db_path, spec.description, spec.params, [one.secret for one in spec.secrets.values()])
    dag.pools, dag.timeout, dag.retry, dag.concurrency = spec.limits  # checked by the parser
    dag.source = spec.path
    types: dict[str, TaskType] = {}
    shared: dict[TaskOptions, TaskOptions] = {}  # most tasks of a large file have the same
    problems: list[Problem] = []

    def make(task: TaskSpec, owner: str = "") -> Task:
        if outside.dotenv or outside.own:
            task = _with_files(task, spec, outside, owner or task.id)
        if task.type not in types:
            types[task.type] = registry.load(task.type)
        options = _options(task)
        if task.expressions is None:
            body = types[task.type].build(task)
        else:
            options = _known_options(task, options, params or {}, problems)
            body = _late_body(types[task.type], task, params or {}, problems)
        expansion = None
        if task.fan is not None:
            options = _fan_options(task.fan, options)
            expansion = _expansion(task, params or {}, problems)
        return Task(
            task.id,
            body=body,
            dependencies=task.depends_on,
            options=shared.setdefault(options, options),
            meta={"kind": task.type, "digest": task.digest[:16]},
            around=around(task.flow, lambda hook: make(hook, task.id), params or {}, problems),
            expansion=expansion,
        )

    with collector_paused():
        for task in spec.tasks.values():
            dag.add_task(make(task))
        dag.hooks |= {event: make(hook) for event, hook in spec.hooks.items()}
    if problems:
        raise WorkflowError(list(dict.fromkeys(problems)))
    return dag


def _with_files(task: TaskSpec, spec: WorkflowSpec, outside: Outside, owner: str) -> TaskSpec:
    """The task with the variables of the dotenv files; a hook has those of the task it is for."""
    dotenv, own = outside.dotenv, outside.own.get(owner, {})
    found = task.expressions
    if found is not None:
        found = found._replace(dotenv=dotenv, own_dotenv=own)
    env = {**dotenv, **spec.env, **own, **task.own_env}
    return task._replace(env=env, expressions=found, flow=flow_with_files(task.flow, dotenv, own))


def _late_body(kind: TaskType, task: TaskSpec, params: Mapping[str, Any], problems: list[Problem]) -> Body:
    """The body of a task with expressions; those whose values are known already are tried."""
    from lightflow.expressions.late import TaskLate, early_problems

    found = task.expressions
    assert found is not None
    problems += early_problems(found, params)
    body = kind.build(task._replace(config={**task.config, "run": found.script}) if found.script else task)
    late = TaskLate(found, os.getcwd())
    if not isinstance(body, Command):
        return body._replace(late=late)
    if any("${{" in word for word in body.argv):
        message = f'tasks of type "{task.type}" take no expressions in what becomes a command line'
        problems.append(Problem(task.file, task.line, 1, f"tasks.{task.id}", message))
    return body._replace(late=late)


def _fan_options(fan: FanSpec, options: TaskOptions) -> TaskOptions:
    """What `matrix` and `foreach` say of how their instances run."""
    queue = options.queue if fan.max_parallel is None else options.queue._replace(at_once=fan.max_parallel)
    return replace(options, fail_fast=fan.fail_fast, queue=queue)


def _expansion(task: TaskSpec, params: Mapping[str, Any], problems: list[Problem]) -> Expansion:
    from lightflow.expressions.fan import expansion_of

    return expansion_of(task, params, problems)


def _known_options(
    task: TaskSpec, options: TaskOptions, params: Mapping[str, Any], problems: list[Problem]
) -> TaskOptions:
    """The options with the values of their expressions, which name nothing but what is known before the run."""
    from lightflow.expressions.late import option

    assert task.expressions is not None
    known: dict[str, Any] = {}
    for name, template in task.expressions.options.items():
        try:
            value = _option(name, option(template, params, task.expressions))
        except (InputError, ValueError) as error:
            problems.append(_at(template)._replace(message=str(error)))
        else:
            known[name] = value
    return with_keywords(options, known)


def _option(name: str, value: Any) -> float | int:
    if name == "retries":
        if type(value) is int and 0 <= value <= 1000:
            return value
        raise ValueError(f"must be a whole number from 0 to 1000, not {value!r}")
    if isinstance(value, str) and value and re.fullmatch(PATTERN, value):
        value = seconds(value)
    if type(value) in (int, float) and (value > 0 or (value == 0 and name != "timeout")):
        return float(value)
    raise ValueError(f'must be a time: seconds such as 30, or text such as "5m", not {value!r}')


def _at(template: Template) -> Problem:
    return next(part.at for part in template if isinstance(part, Expression))


def _options(task: TaskSpec) -> TaskOptions:
    return TaskOptions(
        retry=task.retry,
        queue=task.order,
        flow=flow_options(task.trigger_rule, task.flow),
        timeout_s=task.timeout_s,
        grace_s=task.grace_s,
        mode=task.mode,
        secrets=task.secrets,
    )
