"""The outputs of a run of its own: stored with its end, and shown by commands and in Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, DagRun
from liteflow.api import History

LIMIT_S = 120.0

FLOW = """
params: {n: 3}
tasks:
  load: {run: 'echo rows=7 >> "$LIGHTFLOW_OUTPUT"; test ! -e fail'}
  extra: {if: "false", run: echo}
outputs:
  rows: ${{ tasks.load.outputs.rows | int }}
  none: ${{ tasks.extra.outputs.value }}
  fixed: [1, "${{ params.n }}"]
"""
OUTPUTS = {"rows": 7, "none": None, "fixed": [1, 3]}


def lightflow(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "lightflow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def stored() -> dict[str, Any]:
    """Return the outputs of the latest run, as they are stored."""
    with History("lightflow.db") as history:
        return DagRun.load("lightflow.db", history.latest("flow").run_id).outputs


@pytest.fixture(autouse=True)
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("flow.yaml")
    path.write_text(FLOW)
    return path


def test_a_run_has_outputs_while_it_has_succeeded_and_commands_show_them() -> None:
    Path("fail").touch()
    lightflow("run", "flow.yaml", code=1)
    assert stored() == {}
    os.unlink("fail")
    lightflow("resume", "flow.yaml")
    assert stored() == OUTPUTS
    assert json.loads(lightflow("outputs", "--json"))["run_outputs"] == OUTPUTS
    assert json.loads(lightflow("status", "--json"))["outputs"] == OUTPUTS
    assert "outputs   rows=7, none=, fixed=[1,3]" in lightflow("status")
    assert "(run)  rows   7" in lightflow("outputs")
    assert lightflow("outputs", "latest", "--key", "rows") == "7\n"
    assert "has no output 'x'; it has rows, none, fixed" in lightflow("outputs", "latest", "--key", "x", code=3)
    lightflow("clear", "latest", "--task", "load")
    assert stored() == {}


def test_the_outputs_of_runs_are_compared(flow: Path) -> None:
    lightflow("run", "flow.yaml", "--json")
    flow.write_text(FLOW.replace("none:", "long: ${{ 'x' * 300 }}\n  none:"))
    second = json.loads(lightflow("run", "flow.yaml", "-p", "n=4", "--json"))
    assert second["outputs"] == {**OUTPUTS, "fixed": [1, 4], "long": "x" * 300}
    first_id = next(
        run["run_id"] for run in json.loads(lightflow("runs", "--json")) if run["run_id"] != second["run_id"]
    )
    differs = json.loads(lightflow("diff", first_id, "latest", "--json"))
    assert differs["outputs"] == {"fixed": [[1, 3], [1, 4]], "long": None}
    assert "outputs  fixed: [1,3] → [1,4]; long differs" in lightflow("diff", first_id, "latest")


def test_outputs_that_cannot_be_computed_are_the_reason_of_the_run(flow: Path) -> None:
    flow.write_text(FLOW.replace("rows=7", "rows=seven"))
    assert "outputs.rows: int: 'seven' is not a whole number" in lightflow("run", "flow.yaml")
    assert stored() == {}


def test_a_run_that_is_killed_before_its_end_stores_its_outputs_when_it_resumes(db: str) -> None:
    """The owner dies while it computes the outputs: the values of the tasks are committed, the end is not."""

    def die(run: DagRun) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    def flow() -> Dag:
        dag = Dag("flow", db)
        dag.outputs["rows"] = dag.shell('echo rows=7 >> "$LIGHTFLOW_OUTPUT"', task_id="load").output("rows")
        return dag

    pid = os.fork()
    if pid == 0:
        dying = flow()
        dying.compute_outputs = die
        dying.run(run_id="r")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    give_up = time.monotonic() + LIMIT_S
    while (run := DagRun.load(db, "r")).status == "RUNNING":  # its guardian holds it until all processes have ended
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert (run.status, run.statuses(), run.outputs) == ("INTERRUPTED", {"load": "SUCCESS"}, {})
    assert flow().resume("r").outputs == {"rows": "7"}
    with History(db) as history:
        assert len(history.attempts("r", "load")) == 1


def test_a_run_in_python_has_outputs_of_any_type(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.outputs["pair"] = dag.task(lambda: {1, 2}, task_id="pair")
        dag.outputs["missing"] = dag.shell("true", task_id="other").output("missing")
    run = dag.run().raise_for_failure()
    assert run.outputs == DagRun.load(db, run.run_id).outputs == {"pair": {1, 2}, "missing": None}
    dag.outputs.clear()
    assert dag.run().outputs == {}


def test_a_secret_is_not_stored_among_the_outputs(db: str, tmp_path: Path) -> None:
    dag = Dag("flow", db, secrets=["KEY"])
    dag.shell("true", task_id="load")
    dag.compute_outputs = lambda run: {"key": "hunter2hunter2"}
    run = dag.run(secrets={"KEY": "hunter2hunter2"}, log_dir=str(tmp_path))
    assert (run.status, run.outputs) == ("SUCCESS", {})
    assert "its outputs cannot be computed" in str(run.reason)
    assert "hunter2" not in str(run.reason)
