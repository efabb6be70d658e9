"""Included files on the command line and in Python: run, explained, chosen to run again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flow_folder import environment, lightflow, status, write

from liteflow.api import History

PART = """
workflow_name: part
params: {region: {type: string}, limit: 3}
env: {REGION: "${{ params.region }}"}
dotenv: part.env
tasks:
  fetch:
    run: |
      echo "$REGION $STAGE"
      echo "rows=${{ params.limit }}" >> "$LIGHTFLOW_OUTPUT"
    on_success: echo "loaded ${{ params.region }}" >> hooks.txt
  check:
    preconditions: ["test ! -e stop-${{ params.region }}"]
    if: tasks.fetch.outputs.rows == '3' and params.limit == 3
    run: test ! -e fail-${{ params.region }}
  code:
    type: python
    call: facts:facts
"""
FACTS = """
from liteflow import current_context

def facts():
    return dict(current_context().params)
"""
MAIN = """
workflow_name: flow
params: {limit: 3}
tasks:
  eu: {include: parts/part.yaml, with: {region: eu, limit: "${{ params.limit }}"}}
  us: {include: parts/part.yaml, with: {region: us}, depends_on: eu}
  report: {run: "echo ${{ tasks.eu.fetch.outputs.rows }} > report.txt", depends_on: us.check}
"""


def folder_with_files(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "part.env").write_text("STAGE=part\n")
    write(folder, PART, "parts/part.yaml")
    write(folder, FACTS, "parts/facts.py")
    write(folder, MAIN)


def test_a_failure_in_an_included_file_is_mended_and_its_group_runs_again(tmp_path: Path) -> None:
    folder_with_files(tmp_path)
    (tmp_path / "fail-us").touch()
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    view = status(tmp_path)
    states = {row["task"]: row["status"] for row in view["tasks"]}
    assert states == {
        **dict.fromkeys(["eu.fetch", "eu.check", "eu.code", "us.fetch", "us.code"], "SUCCESS"),
        "us.check": "FAILED",
        "report": "UPSTREAM_FAILED",
    }
    assert {group["id"]: group["status"] for group in view["groups"]} == {"eu": "SUCCESS", "us": "FAILED"}
    assert (tmp_path / "hooks.txt").read_text() == "loaded eu\nloaded us\n"
    assert "eu part" in lightflow(tmp_path, "logs", "eu.fetch").stdout
    assert "us is FAILED" in lightflow(tmp_path, "why", "latest", "us").stdout
    (tmp_path / "fail-us").unlink()
    assert lightflow(tmp_path, "retry", "latest", "--from", "us.*").returncode == 0
    with History(str(tmp_path / "lightflow.db")) as history:
        attempts = {row["task"]: len(history.attempts(view["run_id"], row["task"])) for row in view["tasks"]}
    assert attempts == {
        **dict.fromkeys(["eu.fetch", "eu.check", "eu.code"], 1),
        **dict.fromkeys(["us.fetch", "us.check", "us.code"], 2),
        "report": 1,
    }
    assert (tmp_path / "report.txt").read_text() == "3\n"
    values = lightflow(tmp_path, "outputs", "latest", "us.code").stdout
    assert "us" in values
    assert "region" in values


def test_a_changed_value_is_a_changed_definition(tmp_path: Path) -> None:
    folder_with_files(tmp_path)
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    write(tmp_path, MAIN.replace("with: {region: us}", "with: {region: west}"))
    done = lightflow(tmp_path, "retry", "latest", "--changed")
    assert done.returncode == 0
    assert (tmp_path / "hooks.txt").read_text() == "loaded eu\nloaded us\nloaded west\n"


def test_a_value_that_does_not_fit_stops_a_run_before_it_begins(tmp_path: Path) -> None:
    folder_with_files(tmp_path)
    write(tmp_path, MAIN.replace("params: {limit: 3}", 'params: {limit: "many"}'))
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 2
    assert done.stderr == 'flow.yaml:5:60: tasks.eu.params.limit: must be a whole number, not "many"\n'
    assert not (tmp_path / "lightflow.db").exists()


def test_a_dag_in_python_runs_an_included_file(tmp_path: Path) -> None:
    folder_with_files(tmp_path)
    (tmp_path / "flow.py").write_text(
        """
from lightflow.tasks import included_file
from liteflow import Dag

with Dag("flow", "lightflow.db") as dag:
    us = dag.include("us", included_file("parts/part.yaml", {"region": "us"}))
    us >> dag.task(print, "after")

if __name__ == "__main__":
    run = dag.run(mode="thread")
    print(run.status, run.value("us.code"))
"""
    )
    done = subprocess.run(
        [sys.executable, "flow.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip().endswith("SUCCESS {'region': 'us', 'limit': 3}")
