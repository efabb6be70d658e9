"""Defaults of tasks: which value a task gets, and where a mistake in it is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.value_origins import value_origins
from lightflow.parser.workflow_loader import loads_workflow
from lightflow.spec.model import TaskSpec

TEXT = """
settings: {mode: thread}
env: {A: file, B: file}
pools: {p: 1, q: 1}
params: {wait: 3}
defaults:
  retries: 2
  retry_delay: 5
  timeout: 5m
  env: {B: default, C: default}
  pool: p
  on_failure: echo failed
  types:
    shell: {shell: bash, kill_grace: 30}
    python: {retries: 0, env: {D: python}}
tasks:
  plain: {run: echo}
  own: {run: echo, retry: {max: 1}, env: {C: own}, resources: {q: 1}, shell: sh, on_failure: echo mine}
  code: {type: python, call: "os:getcwd"}
  outer:
    defaults: {timeout: "${{ params.wait }}", priority: 1, env: {C: outer}, retry: {backoff: 2}}
    tasks:
      inner:
        defaults: {priority: 2, retries: 7}
        tasks:
          deep: {run: echo, env: {D: deep}}
"""


def tasks() -> dict[str, TaskSpec]:
    return loads_workflow(TEXT).tasks


def test_a_task_takes_the_defaults_that_it_lacks() -> None:
    task = tasks()["plain"]
    assert (task.retry.retries, task.retry.delay_s, task.timeout_s, task.grace_s) == (2, 5.0, 300.0, 30.0)
    assert task.env == {"A": "file", "B": "default", "C": "default"}
    assert task.queue.needs == (("p", 1),)
    assert task.config["shell"] == "bash"
    assert task.control_flow is not None
    assert task.control_flow.hooks["on_failure"].config["run"] == "echo failed"


def test_values_of_the_task_win_and_env_and_retry_are_merged() -> None:
    task = tasks()["own"]
    assert (task.retry.retries, task.retry.delay_s) == (1, 5.0)
    assert task.env["C"] == "own"
    assert task.queue.needs == (("q", 1),), "resources replace the pool"
    assert task.config["shell"] == "sh"
    assert task.control_flow is not None
    assert task.control_flow.hooks["on_failure"].config["run"] == "echo mine"


def test_the_type_comes_before_the_rest_of_a_block() -> None:
    task = tasks()["code"]
    assert task.retry.retries == 0
    assert task.env["D"] == "python"
    assert "shell" not in task.config


def test_the_inner_group_comes_before_the_outer_one() -> None:
    task = tasks()["outer.inner.deep"]
    assert (task.retry.retries, task.retry.backoff, task.retry.delay_s, task.queue.priority) == (7, 2.0, 5.0, 2)
    assert task.env == {"A": "file", "B": "default", "C": "outer", "D": "deep"}
    assert task.expressions is not None
    assert "timeout" in task.expressions.options


def test_a_default_is_part_of_the_definition_of_the_task() -> None:
    other = loads_workflow(TEXT.replace("B: default", "B: other")).tasks
    assert other["plain"].digest != tasks()["plain"].digest


def test_an_expression_in_a_default_has_its_place() -> None:
    expression = tasks()["outer.inner.deep"].expressions
    assert expression is not None
    (part,) = expression.options["timeout"]
    assert not isinstance(part, str)
    assert (part.location.line, part.location.column) == (21, 26)


def test_the_origin_of_each_value_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(TEXT)
    origins = {
        each.key: (each.value, each.source, each.location.line) for each in value_origins(file, "outer.inner.deep")
    }
    assert origins == {
        "run": ("echo", "the task", 26),
        "env.A": ("file", "the workflow", 3),
        "env.B": ("default", "defaults", 10),
        "env.C": ("outer", "defaults of outer", 21),
        "env.D": ("deep", "the task", 26),
        "retries": (7, "defaults of outer.inner", 24),
        "retry.backoff": (2, "defaults of outer", 21),
        "retry_delay": (5, "defaults", 8),
        "priority": (2, "defaults of outer.inner", 24),
        "timeout": ("${{ params.wait }}", "defaults of outer", 21),
        "pool": ("p", "defaults", 11),
        "on_failure": ({"run": "echo failed", "type": "shell"}, "defaults", 12),
        "shell": ("bash", "defaults, type shell", 14),
        "kill_grace": (30, "defaults, type shell", 14),
        "mode": ("thread", "the settings", 2),
    }
    with pytest.raises(WorkflowError, match=r'no task "outer\.inner\.dep", did you mean "outer\.inner\.deep"'):
        value_origins(file, "outer.inner.dep")
