"""`load_workflow`: a workflow file to a `WorkflowSpec`, or to every mistake in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from lightflow.errors import Problem, WorkflowError
from lightflow.parser.canonical import Tree
from lightflow.parser.fan import fan_spec
from lightflow.parser.limits import limits_of, order_of
from lightflow.parser.positions import Key, Source, Unreadable, problem_at
from lightflow.parser.schema import COMMON, is_expression
from lightflow.parser.schema_flow import KEYS
from lightflow.parser.schema_pieces import ID_PATTERN
from lightflow.parser.source import parse_text, read_source
from lightflow.parser.validate import Checked, implied_upstreams, is_block, validate
from lightflow.parser.works import WorkIn, around, hooks_of, shell_of
from lightflow.plugins.registry import Registry
from lightflow.spec.durations import seconds
from lightflow.spec.model import (
    ControlFlow,
    EnvFile,
    PreconditionSpec,
    RetrySpec,
    Settings,
    TaskSpec,
    WorkflowSpec,
    digest_of,
)
from liteflow.api import DEFAULT_QUEUE, HOOK_EVENTS, TriggerRule, gc_paused

#: The keys that say how a task stands in the flow, and among those that may start.
_FLOW: Final = frozenset([*KEYS, *HOOK_EVENTS])
_ORDERED: Final = frozenset(["priority", "max_parallel", "pool", "pool_slots", "resources"])


def load_workflow(path: str | os.PathLike[str], registry: Registry | None = None) -> WorkflowSpec:
    """Read and check a workflow file. Runs and imports nothing of the user's.

    `registry` (the built-in and installed task types by default) is not changed; for the types of the
    file's own plugins, use `Registry().with_files(spec.plugins)` afterwards.

    Raises:
        WorkflowError: everything that is wrong with the file.
    """
    with gc_paused():
        return _checked(read_source(path), registry)


def load_with_hints(
    path: str | os.PathLike[str], registry: Registry | None = None
) -> tuple[WorkflowSpec, list[Problem]]:
    """As `load_workflow`, with what is valid in the file and probably not meant.

    Raises:
        WorkflowError: everything that is wrong with the file.
    """
    from lightflow.parser.hints import hints  # only `validate` asks for them

    with gc_paused():
        checked = _validated(read_source(path), registry)
        spec = _workflow(*checked)
    return spec, hints(checked[0].tree, spec)


def loads_workflow(text: str, file: str = "workflow.yaml", registry: Registry | None = None) -> WorkflowSpec:
    """As `load_workflow`, for text at hand; `file` is its name in messages, and says whether it is JSON."""
    try:
        with gc_paused():
            return _checked(parse_text(file, text), registry)
    except Unreadable as error:
        raise WorkflowError([problem_at(file, error.mark, error.path, error.message)]) from None


def _checked(source: Source, registry: Registry | None) -> WorkflowSpec:
    return _workflow(*_validated(source, registry))


def _validated(source: Source, registry: Registry | None) -> tuple[Checked, str]:
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
    return checked, str(name)


def _workflow(checked: Checked, name: str) -> WorkflowSpec:
    tree = checked.tree
    root = tree.root
    path = os.path.abspath(tree.source.file)
    written = root.get("settings", {})
    values: dict[str, Any] = {  # 4.0 is a whole number to the schema
        key: int(value) if isinstance(value, float) else value for key, value in written.items() if key != "shell"
    }
    settings = Settings(**values)
    env: dict[str, str] = root.get("env", {})
    env_files = _env_files(tree, ["dotenv"], root)
    shared = _Shared(path, env, settings, env_files, shell_of(root), root.get("cwd"))
    tasks = {
        task_id: _task(checked, WorkIn(task_id, ["tasks", task_id], task, cwd=shared.cwd), shared)
        for task_id, task in root["tasks"].items()
    }
    setups = {above for task in root["tasks"].values() for above in task.get("teardown_of", ())}
    for setup in setups:
        tasks[setup] = tasks[setup]._replace(
            control_flow=(tasks[setup].control_flow or ControlFlow())._replace(setup=True)
        )
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
        dotenv=env_files,
        secrets=checked.secrets,
        hooks=_hooks(checked, hooks_of(root, "", (), shared.cwd), shared),
        limits=limits_of(root),
    )


class _Shared(NamedTuple):
    """What all tasks of a file have in common."""

    path: str
    env: Mapping[str, str]
    settings: Settings
    dotenv: tuple[EnvFile, ...]
    shell: str | list[str] | None
    cwd: str | None


def _task(checked: Checked, work: WorkIn, shared: _Shared) -> TaskSpec:
    tree, task_id, task, settings = checked.tree, work.id, work.keys, shared.settings
    expressions = checked.expressions.get(task_id)
    config = {key: value for key, value in task.items() if key not in COMMON}
    if task["type"] == "shell" and shared.shell is not None:
        config.setdefault("shell", shared.shell)
    around_it = work.env
    if work.once and expressions is not None:  # without what names an instance that is not there yet
        around_it = {name: text for name, text in work.env.items() if name in expressions.enclosing_env}
    env = {**shared.env, **around_it, **task.get("env", {})} if around_it or task.get("env") else shared.env
    written = dict.fromkeys(task.get("depends_on", ()))
    if "teardown_of" in task:
        written |= dict.fromkeys(task["teardown_of"])
    implied: tuple[str, ...] = ()
    if not work.hook and (checked.expressions or checked.conditions):
        wanted = implied_upstreams(task_id, task, checked.expressions, checked.conditions)
        implied = tuple(one for one in wanted if one not in written)
    depends_on = (*written, *implied)
    cwd = task.get("cwd", work.cwd)
    timeout = task.get("timeout")
    definition = {"type": task["type"], "config": config, "depends_on": sorted(depends_on), "cwd": cwd, "env": env}
    own_files = _env_files(tree, ["tasks", task_id, "dotenv"], task)
    if shared.dotenv or own_files:
        definition["dotenv"] = [one.written for one in (*shared.dotenv, *own_files)]
    if task.get("secrets"):
        definition["secrets"] = sorted(task["secrets"])
    fan = None if work.hook else fan_spec(task)
    if fan is not None:
        definition["over"] = [fan.name, fan.items, fan.axes, fan.include, fan.exclude]
    control_flow = None if work.hook else _flow(checked, task_id, task, shared)
    if control_flow is not None and (control_flow.branch or control_flow.short_circuit):
        definition["decides"] = [control_flow.branch, control_flow.short_circuit, control_flow.direct]
        if control_flow.branch and task["type"] == "shell":
            config.setdefault("output", "last_line")
    return TaskSpec(
        id=task_id,
        type=task["type"],
        config=config,
        depends_on=depends_on,
        cwd=cwd,
        env=env,
        timeout_s=None if timeout is None or is_expression(timeout) else seconds(timeout),
        grace_s=seconds(task.get("kill_grace", 10)),
        retry=_retry(task, settings._replace(retries=0) if work.hook else settings),
        trigger_rule=_rule(task, control_flow),
        mode=task.get("mode"),
        description=task.get("description", ""),
        file=shared.path,
        line=tree.locate(work.path, key=True).line + 1,
        lines={key: tree.locate([*work.path, key]).line + (2 if is_block(tree, task, key) else 1) for key in config},
        digest=digest_of(definition),
        expressions=expressions,
        implied=implied,
        own_env={**work.env, **task.get("env", {})},
        dotenv=own_files,
        secrets=tuple(dict.fromkeys(task.get("secrets", ()))),
        control_flow=control_flow,
        fan=fan,
        order=order_of(task) if _ORDERED & task.keys() else DEFAULT_QUEUE,
    )


def _rule(task: Mapping[str, Any], control_flow: ControlFlow | None) -> TriggerRule:
    """A condition that asks how the tasks above have ended is asked however they have; a teardown has its own rule."""
    if "teardown_of" in task:
        return "all_done_setup_success"
    asks = control_flow is not None and control_flow.condition is not None and control_flow.condition.status
    rule: TriggerRule = task.get("trigger_rule", "all_done" if asks else "all_success")
    return rule


def _flow(checked: Checked, task_id: str, task: Mapping[str, Any], shared: _Shared) -> ControlFlow | None:
    """How the task stands in the flow; None where no key says anything of it."""
    if _FLOW.isdisjoint(task):
        return None
    works = around(task_id, task, shared.cwd)
    made = {work.id: _task(checked, work, shared) for work in works if "preconditions" in work.path}
    preconditions = []
    for number, one in enumerate(task.get("preconditions", ()), start=1):
        name = f"{task_id}.precondition_{number}"
        fails = one.get("on_fail") == "fail"
        preconditions.append(
            PreconditionSpec(
                checked.conditions[name] if "if" in one else None, made.get(name), one.get("message", ""), fails
            )
        )
    tolerated = task.get("continue_on_error", False)
    if isinstance(tolerated, dict):
        codes = tuple(int(code) for code in tolerated.get("exit_codes", ()))
        tolerated = (*codes, *tolerated.get("exceptions", ()))
    return ControlFlow(
        checked.conditions.get(task_id) if "if" in task else None,
        tuple(preconditions),
        bool(task.get("branch")),
        bool(task.get("short_circuit")),
        task.get("short_circuit") == "direct",
        tolerated,
        bool(task.get("setup")),
        "teardown_of" in task,
        bool(task.get("on_failure_fail_run")),
        _hooks(checked, hooks_of(task, f"{task_id}.", ("tasks", task_id), task.get("cwd", shared.cwd)), shared),
    )


def _hooks(checked: Checked, found: Iterable[WorkIn], shared: _Shared) -> dict[str, TaskSpec]:
    return {str(work.path[-1]): _task(checked, work, shared) for work in found}


def _env_files(tree: Tree, path: list[Key], around: Mapping[str, Any]) -> tuple[EnvFile, ...]:
    if not around.get("dotenv"):
        return ()
    from lightflow.parser.environment import read_env_files

    return read_env_files(tree, path, around["dotenv"])


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
