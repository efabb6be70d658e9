"""`load_workflow`: a workflow file to a `WorkflowSpec`, or to every mistake in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from lightflow.errors import WorkflowError
from lightflow.parser.canonical import Tree
from lightflow.parser.durations import seconds
from lightflow.parser.fan import fan_spec
from lightflow.parser.limits import limits_of, order_of
from lightflow.parser.positions import Source, Unreadable, problem_at
from lightflow.parser.schema import COMMON, is_expression
from lightflow.parser.schema_pieces import ID_PATTERN
from lightflow.parser.source import parse_text, read_source
from lightflow.parser.spec import Expressions, RetrySpec, Settings, TaskSpec, WorkflowSpec, digest_of
from lightflow.parser.validate import Checked, is_block, validate
from lightflow.plugins.registry import Registry
from liteflow.collector import collector_paused
from liteflow.ready import PLAIN

_ORDERED = {"priority", "max_parallel", "pool", "pool_slots", "resources"}


def load_workflow(path: str | os.PathLike[str], registry: Registry | None = None) -> WorkflowSpec:
    """Read and check a workflow file. Runs and imports nothing of the user's.

    `registry` (the built-in and installed task types by default) is not changed; for the types of the
    file's own plugins, use `Registry().with_files(spec.plugins)` afterwards.

    Raises:
        WorkflowError: everything that is wrong with the file.
    """
    with collector_paused():
        return _checked(read_source(path), registry)


def loads_workflow(text: str, file: str = "workflow.yaml", registry: Registry | None = None) -> WorkflowSpec:
    """As `load_workflow`, for text at hand; `file` is its name in messages, and says whether it is JSON."""
    try:
        with collector_paused():
            return _checked(parse_text(file, text), registry)
    except Unreadable as error:
        raise WorkflowError([problem_at(file, error.mark, error.path, error.message)]) from None


def _checked(source: Source, registry: Registry | None) -> WorkflowSpec:
    known = registry.copy() if registry else Registry()
    checked = validate(source, known)
    tree, problems = checked.tree, checked.problems
    name = tree.root.get("workflow_name")
    if name is None:
        name = os.path.basename(source.file).split(".")[0]
        if not re.fullmatch(ID_PATTERN, name):
            problems.append(problem_at(source.file, None, "", 'needs "workflow_name": the file\'s name cannot be one'))
    if problems:
        raise WorkflowError(problems)
    return _workflow(checked, str(name))


def _workflow(checked: Checked, name: str) -> WorkflowSpec:
    tree, expressions = checked.tree, checked.expressions
    root = tree.root
    path = os.path.abspath(tree.source.file)
    written = root.get("settings", {})
    values: dict[str, Any] = {  # 4.0 is a whole number to the schema
        key: int(value) if isinstance(value, float) else value for key, value in written.items()
    }
    settings = Settings(**values)
    env: dict[str, str] = root.get("env", {})
    tasks = {
        task_id: _task(tree, task_id, task, path, env, settings, expressions.get(task_id))
        for task_id, task in root["tasks"].items()
    }
    return WorkflowSpec(
        name=name,
        tasks=tasks,
        settings=settings,
        path=path,
        description=root.get("description", ""),
        env=env,
        plugins=tuple(checked.plugins),
        digest=digest_of([name, {task_id: task.digest for task_id, task in tasks.items()}]),
        params=checked.params,
        limits=limits_of(root),
    )


def _task(
    tree: Tree,
    task_id: str,
    task: dict[str, Any],
    path: str,
    shared_env: Mapping[str, str],
    settings: Settings,
    expressions: Expressions | None,
) -> TaskSpec:
    config = {key: value for key, value in task.items() if key not in COMMON}
    env = {**shared_env, **task["env"]} if task.get("env") else shared_env
    written = dict.fromkeys(task.get("depends_on", ()))
    implied = tuple(one for one in expressions.upstreams if one not in written) if expressions is not None else ()
    depends_on = (*written, *implied)
    cwd = task.get("cwd")
    timeout = task.get("timeout")
    definition = {"type": task["type"], "config": config, "depends_on": sorted(depends_on), "cwd": cwd, "env": env}
    fan = fan_spec(task)
    if fan is not None:
        definition["over"] = [fan.name, fan.items, fan.axes, fan.include, fan.exclude]
    return TaskSpec(
        id=task_id,
        type=task["type"],
        config=config,
        depends_on=depends_on,
        cwd=cwd,
        env=env,
        timeout_s=None if timeout is None or is_expression(timeout) else seconds(timeout),
        grace_s=seconds(task.get("kill_grace", 10)),
        retry=_retry(task, settings),
        trigger_rule=task.get("trigger_rule", "all_success"),
        mode=task.get("mode"),
        description=task.get("description", ""),
        file=path,
        line=tree.locate(["tasks", task_id], key=True).line + 1,
        lines={
            key: tree.locate(["tasks", task_id, key]).line + (2 if is_block(tree, task, key) else 1) for key in config
        },
        digest=digest_of(definition),
        expressions=expressions,
        implied=implied,
        fan=fan,
        order=order_of(task) if _ORDERED & task.keys() else PLAIN,
    )


def _retry(task: Mapping[str, Any], settings: Settings) -> RetrySpec:
    block: Mapping[str, Any] = task.get("retry", {})
    if not block and not any(key.startswith(("retr", "max_retry")) for key in task):
        return RetrySpec(settings.retries)
    max_delay = task.get("max_retry_delay", block.get("max_delay"))
    retries = task.get("retries", block.get("max", settings.retries))
    delay = task.get("retry_delay", block.get("delay", 0))
    return RetrySpec(  # what an expression gives is put in when the dag is built
        retries=0 if is_expression(retries) else int(retries),
        delay_s=0.0 if is_expression(delay) else seconds(delay),
        backoff=float(task.get("retry_backoff", block.get("backoff", 1))),
        max_delay_s=None if max_delay is None else seconds(max_delay),
        jitter=float(task.get("retry_jitter", block.get("jitter", 0))),
        on_exit_codes=tuple(int(code) for code in block.get("on_exit_codes", ())),
        on_exceptions=tuple(block.get("on_exceptions", ())),
    )
