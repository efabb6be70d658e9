"""The JSON shapes of what is in workflow files, as `--json` prints them: see `json_shapes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightflow.errors import Problem
from lightflow.service.workflows import TaskOutline, WorkflowOutline
from liteflow.values.params import stored

Shape = dict[str, Any]


def file_shape(
    file: str, outlines: Sequence[WorkflowOutline], problems: Sequence[Problem], warnings: Sequence[Problem]
) -> Shape:
    """Return what `validate` found in a file."""
    return {
        "file": file,
        "valid": not problems,
        "workflows": [outline.name for outline in outlines],
        "tasks": sum(len(outline.tasks) for outline in outlines),
        "problems": [problem_shape(problem) for problem in problems],
        "warnings": [problem_shape(warning) for warning in warnings],
    }


def problem_shape(problem: Problem) -> Shape:
    """Return a mistake in a file with its place."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
    }


def plan_shape(outline: WorkflowOutline, done: frozenset[str], max_workers: int, mode: str) -> Shape:
    """Return what a run would do. The tasks in `done` succeeded before and would not run again."""
    limits = outline.limits
    group = limits.concurrency
    return {
        "workflow": outline.name,
        "max_workers": max_workers,
        "mode": mode,
        "params": stored(outline.values),
        "secrets": list(outline.secrets),
        "timeout_s": limits.timeout_s,
        "retries": limits.retry.retries,
        "concurrency": None
        if group is None
        else {"group": group.group or outline.name, "limit": group.limit, "on_conflict": group.on_conflict},
        "pools": {name: pool.slots for name, pool in limits.pools.items()},
        "levels": [[_planned_task_shape(outline, task, done) for task in level] for level in outline.levels()],
    }


def _planned_task_shape(outline: WorkflowOutline, task: TaskOutline, done: frozenset[str]) -> Shape:
    instances = outline.instances(task)
    return {
        "task": task.id,
        "type": task.kind,
        "depends_on": list(task.depends_on),
        "trigger_rule": task.rule,
        "retries": task.retries,
        "timeout_s": task.timeout_s,
        "priority": task.order.priority,
        "max_parallel": task.order.max_parallel,
        "resources": dict(task.order.needs),
        "summary": task.summary,
        "done": task.id in done,
        "special": list(task.special),
        "skipped": task.skipped or None,
        "mapped": task.mapped or None,
        "instances": None
        if instances is None
        else [
            {"map_index": index, "map_key": instance.label, "summary": instance.summary}
            for index, instance in enumerate(instances)
        ],
    }
