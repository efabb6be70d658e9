"""Which run a command shows: the one that was at work last, or why a name is not that of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.flow_folder import lightflow, write


@pytest.mark.parametrize("command", ["status", "logs --run", "dag --run"])
def test_the_name_of_a_workflow_or_a_task_in_the_place_of_a_run(tmp_path: Path, command: str) -> None:
    write(tmp_path, "workflow_name: night\ntasks: {load: {run: echo}}")
    lightflow(tmp_path, "run", "flow.yaml")
    of_workflow = lightflow(tmp_path, *command.split(), "night")
    assert of_workflow.returncode == 3
    assert "there is no run 'night'; it is a workflow, whose latest run is 20" in of_workflow.stderr
    of_task = lightflow(tmp_path, *command.split(), "load")
    assert "there is no run 'load'; it is a task: `lightflow status --task load`" in of_task.stderr
    neither = lightflow(tmp_path, *command.split(), "other")
    assert neither.stderr.rstrip().endswith("there is no run 'other'")


def test_the_run_that_was_resumed_is_the_latest(tmp_path: Path) -> None:
    write(tmp_path, "workflow_name: old\ntasks: {load: {run: test -e mended}}")
    lightflow(tmp_path, "run", "flow.yaml")
    old = json.loads(lightflow(tmp_path, "status", "--json").stdout)["run_id"]
    (tmp_path / "new.yaml").write_text("workflow_name: new\ntasks: {load: {run: echo new}}")
    lightflow(tmp_path, "run", "new.yaml")
    assert json.loads(lightflow(tmp_path, "status", "--json").stdout)["workflow"] == "new"
    (tmp_path / "mended").touch()
    assert lightflow(tmp_path, "resume", old).returncode == 0
    for command in (["status"], ["status", "--task", "load"], ["status", "latest"], ["why", "load"]):
        shown = json.loads(lightflow(tmp_path, *command, "--json").stdout)
        assert shown["run_id"] == old, command
    lightflow(tmp_path, "run", "new.yaml")
    assert json.loads(lightflow(tmp_path, "status", "--json").stdout)["workflow"] == "new"
