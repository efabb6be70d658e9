"""A checked workflow file becomes a `liteflow.Dag`. From here on it is no different from one written in Python."""

from __future__ import annotations

from lightflow.parser.spec import TaskSpec, WorkflowSpec
from lightflow.plugins.registry import Registry
from liteflow import Dag, Task
from liteflow.collector import collector_paused
from liteflow.tasks import TaskOptions


def build_dag(spec: WorkflowSpec, registry: Registry, db_path: str) -> Dag:
    """Build the dag; this imports the code of the task types that the workflow uses.

    Raises:
        WorkflowError: the code of a plugin cannot be imported.
    """
    dag = Dag(spec.name, db_path, spec.description)
    dag.source = spec.path
    types = {name: registry.load(name) for name in dict.fromkeys(task.type for task in spec.tasks.values())}
    shared: dict[TaskOptions, TaskOptions] = {}  # most tasks of a large file have the same
    with collector_paused():
        for task in spec.tasks.values():
            options = _options(task)
            dag.add_task(
                Task(
                    task.id,
                    body=types[task.type].build(task),
                    dependencies=task.depends_on,
                    options=shared.setdefault(options, options),
                    meta={"kind": task.type, "digest": task.digest[:16]},
                )
            )
    return dag


def _options(task: TaskSpec) -> TaskOptions:
    retry = task.retry
    return TaskOptions(
        retries=retry.retries,
        retry_delay=retry.delay_s,
        retry_backoff=retry.backoff,
        max_retry_delay=retry.max_delay_s,
        retry_jitter=retry.jitter,
        retry_on=retry.on_exceptions,
        retry_on_exit_codes=retry.on_exit_codes,
        timeout=task.timeout_s,
        kill_grace=task.grace_s,
        trigger_rule=task.trigger_rule,
        mode=task.mode,
    )
