"""Mapped tasks whose upstream task has no value, and the names of instances."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from flow_folder import lightflow, write

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import loads_workflow

FLOW = """\
tasks:
  bad: {run: 'false'}
  list: {%s, output: json, run: "echo '[1, 2]'"}
  each: {foreach: "${{ tasks.list.result%s }}", trigger_rule: %s, depends_on: list, run: "echo ${{ item }}"}
"""


def each(folder: Path) -> str:
    view = json.loads(lightflow(folder, "status", "--json").stdout)
    return str(next(entry["status"] for entry in view["tasks"] if entry["task"] == "each"))


@pytest.mark.parametrize("rule", ["none_failed", "all_done"])
@pytest.mark.parametrize(
    ("how", "state"),
    [
        ("if: false", "task 'list' was skipped"),
        ("depends_on: bad", "task 'list' did not run, because an upstream task failed"),
        ("cwd: nowhere", "task 'list' failed"),
        ("continue_on_error: true, cwd: nowhere", "task 'list' failed"),
    ],
)
def test_a_list_that_is_not_there_is_reported_with_its_reason_and_the_fix(
    tmp_path: Path, how: str, state: str, rule: str
) -> None:
    write(tmp_path, FLOW % (how, "", rule))
    lightflow(tmp_path, "run", "flow.yaml")
    why = lightflow(tmp_path, "why", "each").stdout
    if each(tmp_path) == "FAILED":
        assert f"task 'list' has no result; where it may have none, write | default(…) ({state})" in why
    else:  # the rule does not let it run
        assert (each(tmp_path), rule) == ("UPSTREAM_FAILED", "none_failed")


@pytest.mark.parametrize("how", ["if: false", "continue_on_error: true, cwd: nowhere"])
def test_a_default_makes_it_an_empty_list(tmp_path: Path, how: str) -> None:
    write(tmp_path, FLOW % (how, " | default([])", "all_done"))
    lightflow(tmp_path, "run", "flow.yaml")
    assert each(tmp_path) == "SKIPPED"
    write(tmp_path, FLOW % (how, " | default(['x'])", "all_done"))
    lightflow(tmp_path, "run", "flow.yaml")
    assert each(tmp_path) == "SUCCESS"
    assert lightflow(tmp_path, "logs", "each[0]").stdout == "x\n"


def test_a_matrix_shows_the_names_of_its_instances(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        params: {site: north}
        tasks:
          t:
            matrix:
              os: [linux, mac]
              key: ${{ params.site }}/${{ matrix.os }} ${{ task.index }}
              include: [{os: linux, note: a long text that nobody wants to see beside each instance}]
            run: echo ${{ matrix.os }}
        """,
    )
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    view = json.loads(lightflow(tmp_path, "status", "--json").stdout)
    keys = [entry["map_key"] for entry in view["tasks"][0]["instances"]]
    assert keys == ["north/linux 0", "north/mac 1"]
    text = "tasks: {t: {matrix: {os: [a], key: [1]}, run: echo}}"
    with pytest.raises(WorkflowError, match="an axis cannot be called key"):
        loads_workflow(text)
    with pytest.raises(WorkflowError, match="matrix has no 'so'"):
        loads_workflow("tasks: {t: {matrix: {os: [a], key: '${{ matrix.so }}'}, run: echo}}")
