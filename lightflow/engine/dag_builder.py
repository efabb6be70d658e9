"""Build a `liteflow.Dag` from a checked workflow file, and check what only its parameters decide.

The result does not differ from a dag that is written in Python.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lightflow.engine.external_inputs import NO_INPUTS, ExternalInputs
from lightflow.engine.run_outputs import run_outputs
from lightflow.errors import Location, Problem, WorkflowError
from lightflow.plugins.base import TaskType, absolute
from lightflow.plugins.registry import Registry
from lightflow.spec.durations import PATTERN, seconds
from lightflow.spec.model import (
    CHILD_WORKFLOW,
    GROUP,
    ConditionSpec,
    ControlFlowSpec,
    Expression,
    MappingSpec,
    RepeatSpec,
    TaskSpec,
    Template,
    WorkflowSpec,
)
from liteflow import Call, Command, Dag, InputError, Repeat, Task
from liteflow.api import Body, Expansion, Record, gc_paused, replace
from liteflow.definition.groups import Group
from liteflow.definition.options import DEFAULT_FLOW, FlowOptions, TaskOptions, tolerance_of, with_keywords
from liteflow.definition.task import NO_HOOKS, Precondition, TaskHooks
from liteflow.hooks import Condition as EngineCondition
from liteflow.work import stays_here

#: Executes a child run: it gets the keys of the task, and the path of its workflow file.
ExecuteChild = Callable[[Mapping[str, Any], str], Any]


def build_dag(
    spec: WorkflowSpec,
    registry: Registry,
    db_path: str,
    params: Mapping[str, Any] | None = None,
    inputs: ExternalInputs = NO_INPUTS,
    *,
    folder: str,
    execute_child: ExecuteChild | None = None,
) -> Dag:
    """Build the dag for a run with these parameters and external inputs.

    `folder` is the absolute path of the folder from which relative paths of tasks start. The code of the task types
    that the workflow uses is imported. `execute_child` executes the child run of an attempt; without
    it the workflow can have no child runs.

    Raises:
        WorkflowError: the code of a plugin cannot be imported, or an expression cannot be evaluated.
    """
    dag = Dag(
        spec.name, db_path, spec.description, spec.params, [declared.secret for declared in spec.secrets.values()]
    )
    dag.limits = spec.limits  # checked by the parser
    dag.source = spec.reference
    if spec.outputs:
        dag.compute_outputs = partial(run_outputs, spec)
    builder = replace(_builder(spec, registry, params or {}, inputs, folder), execute_child=execute_child)
    with gc_paused():
        for task in builder.build_all():
            dag.add_task(task)
        dag.hooks |= {event: builder.build(hook) for event, hook in spec.hooks.items()}
    builder.check()
    return dag


def build_tasks(spec: WorkflowSpec, registry: Registry, inputs: ExternalInputs, folder: str) -> list[Task]:
    """Return the tasks of a workflow whose parameters are all decided, for a dag that is written in Python.

    Raises:
        WorkflowError: see `build_dag`.
    """
    builder = _builder(spec, registry, {}, inputs, folder)
    tasks = builder.build_all()
    builder.check()
    return tasks


def _builder(
    spec: WorkflowSpec, registry: Registry, params: Mapping[str, Any], inputs: ExternalInputs, folder: str
) -> _TaskBuilder:
    return _TaskBuilder(
        spec=spec,
        registry=registry,
        params=params,
        inputs=inputs,
        folder=folder,
        types={},
        shared_options={},
        problems=[],
        execute_child=None,
    )


class _TaskBuilder(Record):
    """Builds the tasks of one dag. Mistakes that only the parameters reveal are collected in `problems`."""

    spec: WorkflowSpec
    registry: Registry
    params: Mapping[str, Any]
    inputs: ExternalInputs
    folder: str
    types: dict[str, TaskType]  #: the loaded task types by name
    shared_options: dict[TaskOptions, TaskOptions]  #: most tasks of a large file have equal options
    problems: list[Problem]
    execute_child: ExecuteChild | None

    def build_all(self) -> list[Task]:
        """Build the tasks and groups."""
        return [self.build(task) for task in self.spec.tasks.values()]

    def check(self) -> None:
        """Raise WorkflowError where tasks have mistakes."""
        if self.problems:
            raise WorkflowError(list(dict.fromkeys(self.problems)))

    def build(self, task: TaskSpec, owner: str = "") -> Task:
        """Build a task; `owner` is the task that a hook or a precondition belongs to."""
        if self.inputs.has_variables:
            task = self._with_dotenv(task, owner or task.id)
        if task.cwd is not None:
            task = replace(task, cwd=os.path.join(self.folder, os.path.expanduser(task.cwd)))
        if task.type == GROUP:
            return self._group(task)
        options = _options(task, self._task_type(task.type))
        if task.expressions is not None:
            options = self._evaluated_options(task, options)
        body = self._body(task)
        if options.mode in self.spec.limits.clusters and stays_here(body):
            options = replace(options, mode="process")
        expansion = None
        if task.mapping is not None:
            options = _fan_options(task.mapping, options)
            expansion = self._expansion(task)
        return Task(
            task.id,
            body=body,
            dependencies=task.depends_on,
            options=self.shared_options.setdefault(options, options),
            meta={"kind": task.type, "digest": task.digest[:16]},
            task_hooks=self._hooks(task),
            expansion=expansion,
            group=task.group,
        )

    def _group(self, group: TaskSpec) -> Group:
        return Group(
            group.id,
            dependencies=group.depends_on,
            options=TaskOptions(flow=_flow_options(group)),
            task_hooks=self._hooks(group),
            group=group.group,
            meta={"digest": group.digest[:16]},
        )

    def _with_dotenv(self, task: TaskSpec, owner: str) -> TaskSpec:
        """Return the task with the variables of the dotenv files; a hook has the variables of its owner."""
        dotenv, task_dotenv = self.inputs.dotenv_of(task.included), self.inputs.task_dotenv.get(owner, {})
        expressions = task.expressions
        if expressions is not None:
            expressions = replace(expressions, dotenv=dotenv, own_dotenv=task_dotenv)
        file_env = self.spec.includes[task.included].env if task.included else self.spec.env
        env = {**dotenv, **file_env, **task_dotenv, **task.own_env}
        return replace(
            task,
            env=env,
            expressions=expressions,
            control_flow=_flow_with_dotenv(task.control_flow, dotenv, task_dotenv),
        )

    def _body(self, task: TaskSpec) -> Body:
        """Return what the engine runs for the task. Expressions whose values are known before the run are checked."""
        task_type, expressions = self._task_type(task.type), task.expressions
        modules = self._modules(task, task_type)
        if expressions is not None:
            from lightflow.expressions.evaluate import DeferredTaskBody, early_problems, with_templates

            self.problems.extend(early_problems(expressions, self.params))
            config = with_templates(task.config, expressions.config)
            if expressions.script:
                config[expressions.script_key] = expressions.script
            task = replace(task, config=config)
        body = self._child_call(task) if task.type == CHILD_WORKFLOW else task_type.build(task)
        if isinstance(body, Call) and modules:
            body = body._replace(preload=modules)
        if isinstance(body, Call) and task.params is not None:
            body = body._replace(params=task.params)
        if expressions is None:
            return body
        late = DeferredTaskBody(expressions, self.folder)
        if body.undo is not None:
            body = body._replace(undo=body.undo._replace(late=late))
        if not isinstance(body, Command):
            return body._replace(late=late)
        if any("${{" in word for word in body.argv):
            message = f'tasks of type "{task.type}" take no expressions in what becomes a command line'
            self.problems.append(Problem(task.file, task.line, 1, f"tasks.{task.id}", message))
        return body._replace(late=late)

    def _child_call(self, task: TaskSpec) -> Body:
        from liteflow.api import child_call  # few workflows have child runs

        if self.execute_child is None:
            message = "a dag in Python cannot include a task that executes a workflow file; use dag.workflow"
            self.problems.append(Problem(task.file, task.line, 1, f"tasks.{task.id}", message))
            return Call(dict)
        arguments = {"config": dict(task.config), "file": task.file}
        body = child_call(self.execute_child, arguments, on_retry=task.config.get("on_retry", "resume"))
        return body._replace(cwd=absolute(task.cwd), env=task.env)

    def _task_type(self, name: str) -> TaskType:
        """Return a task type, loaded once."""
        if name not in self.types:
            self.types[name] = self.registry.load(name)
        return self.types[name]

    def _modules(self, task: TaskSpec, task_type: TaskType) -> tuple[str, ...]:
        """Return the modules to import before workers start. Modules that are not installed are reported."""
        config, expressions = task.config, task.expressions
        decides = type(task_type).needed_modules is not TaskType.needed_modules
        if decides and expressions is not None and expressions.config:
            from lightflow.expressions.evaluate import keys_before_run

            config = keys_before_run(config, expressions, self.params, self.inputs.secrets or {})
        modules = task_type.needed_modules(config)
        if not modules or (task.mode in self.spec.limits.clusters and not task_type.reason_here(config)):
            return ()  # a machine of a cluster reports itself what it lacks
        from lightflow.plugins.needs import missing_modules, needs_text

        if missing := missing_modules(modules):
            message = needs_text(task.type, missing, task_type.extra)
            self.problems.append(Problem(task.file, task.line, 1, f"tasks.{task.id}", message))
        return modules if task_type.preload and self.spec.settings.preload else ()

    def _evaluated_options(self, task: TaskSpec, options: TaskOptions) -> TaskOptions:
        """Return the options with the values of their expressions, which are known before the run."""
        from lightflow.expressions.evaluate import option

        assert task.expressions is not None
        values: dict[str, Any] = {}
        for name, template in task.expressions.options.items():
            try:
                values[name] = _option_value(name, option(template, self.params, task.expressions))
            except (InputError, ValueError) as error:
                self.problems.append(_place_of(template).problem(str(error)))
        return with_keywords(options, values)

    def _expansion(self, task: TaskSpec) -> Expansion:
        from lightflow.expressions.fan_out import expansion_of

        return expansion_of(task, self.params, self.problems)

    def _hooks(self, task: TaskSpec) -> TaskHooks:
        """Return the condition, the preconditions and the hooks of a task."""
        control_flow = task.control_flow
        if control_flow is None or not (control_flow.condition or control_flow.preconditions or control_flow.hooks):
            return NO_HOOKS
        preconditions = [
            Precondition(
                condition=None if each.condition is None else self._condition(each.condition),
                task=None if each.command is None else self.build(each.command, task.id),
                message=each.message,
                fails=each.fails,
            )
            for each in control_flow.preconditions
        ]
        return TaskHooks(
            condition=None if control_flow.condition is None else self._condition(control_flow.condition),
            preconditions=tuple(preconditions),
            hooks={event: self.build(hook, task.id) for event, hook in control_flow.hooks.items()},
        )

    def _condition(self, condition: ConditionSpec) -> EngineCondition:
        """Return the condition for the engine. A condition whose value is known before the run is checked."""
        from lightflow.expressions.conditions import FileCondition  # imports Jinja
        from lightflow.expressions.evaluate import LocatedError

        built = FileCondition(condition)
        try:
            built.early(self.params)
        except LocatedError as error:
            self.problems.append(error.problem)
        except InputError as error:
            self.problems.append(condition.expression.location.problem(str(error)))
        return built


def _options(task: TaskSpec, task_type: TaskType) -> TaskOptions:
    return TaskOptions(
        retry=task.retry,
        queue=task.queue,
        flow=_flow_options(task),
        timeout_s=task_type.wait_limit_s if task.timeout_s is None and task_type.waits() else task.timeout_s,
        grace_s=task.grace_s,
        mode=task.mode,
        secrets=task.secrets,
        repeat=None if task.repeat is None else _repeat(task.repeat),
    )


def _repeat(spec: RepeatSpec) -> Repeat:
    """Return the repetition of a task for the engine."""
    from lightflow.expressions.conditions import FileUntil  # imports Jinja

    until = FileUntil(spec.condition, negated=spec.negated)
    return Repeat(until=until, every=spec.every_s, max=spec.max, timeout=spec.timeout_s)


def _flow_options(task: TaskSpec) -> FlowOptions:
    """Return the place of a task in the control flow."""
    control_flow = task.control_flow
    if control_flow is None:
        return DEFAULT_FLOW if task.trigger_rule == "all_success" else FlowOptions(trigger_rule=task.trigger_rule)
    return FlowOptions(
        trigger_rule=task.trigger_rule,
        branch=control_flow.branch,
        short_circuit=control_flow.short_circuit,
        ignore_downstream_trigger_rules=not control_flow.direct,
        tolerance=tolerance_of(control_flow.tolerates),
        setup=control_flow.setup,
        teardown=control_flow.teardown,
        on_failure_fail_run=control_flow.fails_run,
    )


def _fan_options(fan: MappingSpec, options: TaskOptions) -> TaskOptions:
    """Return the options with those that `matrix` and `foreach` have for the instances."""
    queue = options.queue if fan.max_parallel is None else replace(options.queue, max_parallel=fan.max_parallel)
    return replace(options, fail_fast=fan.fail_fast, queue=queue)


def _option_value(name: str, value: Any) -> float | int:
    """Return the value of an option that an expression has computed. Raises ValueError."""
    if name == "retries":
        if type(value) is int and 0 <= value <= 1000:
            return value
        raise ValueError(f"must be a whole number from 0 to 1000, not {value!r}")
    if isinstance(value, str) and value and re.fullmatch(PATTERN, value):
        value = seconds(value)
    if type(value) in (int, float) and (value > 0 or (value == 0 and name != "timeout")):
        return float(value)
    raise ValueError(f'must be a time: seconds such as 30, or text such as "5m", not {value!r}')


def _place_of(template: Template) -> Location:
    """Return the place of the first expression of a template."""
    return next(part.location for part in template if isinstance(part, Expression))


def _flow_with_dotenv(
    control_flow: ControlFlowSpec | None, dotenv: Mapping[str, str], task_dotenv: Mapping[str, str]
) -> ControlFlowSpec | None:
    """Return the control flow with the variables of dotenv files in its conditions."""
    if control_flow is None:
        return None

    def with_dotenv(condition: ConditionSpec | None) -> ConditionSpec | None:
        if condition is None or condition.scope is None:
            return condition
        return replace(condition, scope=replace(condition.scope, dotenv=dotenv, own_dotenv=task_dotenv))

    preconditions = tuple(replace(each, condition=with_dotenv(each.condition)) for each in control_flow.preconditions)
    return replace(control_flow, condition=with_dotenv(control_flow.condition), preconditions=preconditions)
