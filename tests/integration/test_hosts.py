"""The host of an attempt that another machine ran: in the state file, in what commands print, and in the answers."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from liteflow import Call, Dag
from liteflow.executors import Backend, BackendContext
from liteflow.executors.inline import run_attempt
from liteflow.work import Work


class _Elsewhere(Backend):
    """Runs attempts here, and says that `node7` ran those of the second task and the first attempts of all others."""

    in_this_process = True

    def __init__(self, context: BackendContext) -> None:
        self._context = context

    def submit(self, work: Work) -> None:
        outcome = run_attempt(cast("Call", self._context.bodies[work.task_id]), work, self._context.info)
        host = "node7" if work.task_id == "far" or (work.task_id == "moved" and work.attempt == 1) else None
        self._context.outcomes.post(outcome._replace(host=host))

    def cancel(self, node: int, grace_s: float) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a state file with a run whose attempts ran on two machines."""
    folder = tmp_path_factory.mktemp("hosts")
    tries: list[int] = []

    def here() -> None:
        print("printed here")

    def far() -> None:
        print("printed there")

    def moved() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("not yet")

    dag = Dag("flow", str(folder / "liteflow.db"))
    dag.task(here)
    dag.task(far)
    dag.task(moved, retries=1)
    assert (
        dag.run(mode="elsewhere", backends={"elsewhere": _Elsewhere}, log_dir=str(folder / "logs")).status == "SUCCESS"
    )
    return folder


def _lightflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightflow", *words, "--db", "liteflow.db"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)


def test_the_state_file_has_the_host_of_each_attempt(folder: Path) -> None:
    connection = sqlite3.connect(folder / "liteflow.db")
    rows = connection.execute("SELECT task_id, attempt, host FROM liteflow_attempts ORDER BY 1, 2").fetchall()
    connection.close()
    assert rows == [("far", 1, "node7"), ("here", 1, None), ("moved", 1, "node7"), ("moved", 2, None)]


def test_status_names_the_host_of_the_last_attempt(folder: Path) -> None:
    lines = _lightflow(folder, "status").stdout.splitlines()
    [head] = [line for line in lines if line.startswith("TASK")]
    column = head.index("HOST")
    hosts = {line.split()[0]: line[column:].split()[0] for line in lines[lines.index(head) + 1 :] if line.strip()}
    assert hosts == {"here": "-", "far": "node7", "moved": "-"}


def test_why_and_logs_name_the_host(folder: Path) -> None:
    assert " on node7" in _lightflow(folder, "why", "far").stdout
    assert "node7" not in _lightflow(folder, "why", "here").stdout
    heads = [line for line in _lightflow(folder, "logs").stdout.splitlines() if line.startswith("==> ")]
    assert any(line.startswith("==> far, attempt 1: SUCCESS on node7 after ") for line in heads)
    assert any(line.startswith("==> here, attempt 1: SUCCESS after ") for line in heads)


def test_json_has_the_host(folder: Path) -> None:
    tasks = json.loads(_lightflow(folder, "status", "--json").stdout)["tasks"]
    hosts = {task["task"]: [attempt["host"] for attempt in task["attempts"]] for task in tasks}
    assert hosts == {"here": [None], "far": ["node7"], "moved": ["node7", None]}
