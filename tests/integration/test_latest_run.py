"""What commands show of a run: of the run that was at work last, of a lost attempt, and of a plan."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from liteflow import init_schema
from tests.integration.flow_folder import COMMAND, environment, lightflow, write


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
    latest = json.loads(lightflow(tmp_path, "status", "--json").stdout)["run_id"]
    assert neither.stderr.rstrip().endswith(
        f"there is no run 'other'; the latest: {latest}; `lightflow runs` lists all"
    )


@pytest.mark.parametrize("command", ["status", "cancel", "resume"])
def test_a_run_that_does_not_exist_beside_several_and_in_an_empty_file(tmp_path: Path, command: str) -> None:
    write(tmp_path, "workflow_name: night\ntasks: {load: {run: echo}}")
    init_schema(str(tmp_path / "lightflow.db"))
    none = lightflow(tmp_path, command, "r9")
    assert "there is no run 'r9'; there is none yet: `lightflow run FILE` starts one" in none.stderr
    for number in range(5):
        lightflow(tmp_path, "run", "flow.yaml", "--run-id", f"r{number}")
    several = lightflow(tmp_path, command, "r")
    assert several.stderr.rstrip().endswith("more than one run begins with 'r'; give more of it")
    latest = lightflow(tmp_path, command, "r9")
    assert latest.stderr.rstrip().endswith("there is no run 'r9'; the latest: r4, r3, r2; `lightflow runs` lists all")


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


def test_a_plan_shows_the_first_line_with_content(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          script: {run: "# load\\nset -eu\\nmake all\\nmake install"}
          code: {type: python, run: "import json\\nprint(json)"}
          comment: {run: "# nothing yet"}
        """,
    )
    rows = lightflow(tmp_path, "run", "flow.yaml", "--dry-run").stdout.splitlines()
    assert [row.rpartition("  ")[2] for row in rows if " shell " in row or " python " in row] == [
        "make all …",
        "print(json) …",
        "# nothing yet",
    ]


def test_a_lost_attempt_that_printed_nothing_has_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "up")
    os.mkfifo(tmp_path / "down")
    write(tmp_path, "tasks: {a: {run: 'test $LIGHTFLOW_ATTEMPT = 2 || { echo > up; read line < down; }'}}")
    owner = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml"], cwd=tmp_path, env=environment({}), stdout=subprocess.DEVNULL
    )
    (tmp_path / "up").read_text()
    owner.kill()
    owner.wait()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert "attempt 1 was lost, and has no log: logs/task_a_" in lightflow(tmp_path, "logs", "a").stderr
