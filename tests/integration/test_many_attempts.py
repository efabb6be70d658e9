"""A task that ran very often: what is shown of it has its last attempts, and says that there are more."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from history_kit import multiply
from server_kit import lightflow, serving

from lightflow.engine import checkpoint
from lightflow.service import queries

FLOW = """
workflow_name: often
tasks:
  often: {run: "echo hello; exit 3"}
  each: {run: "echo ${{ item }}", foreach: [1, 2]}
"""


@pytest.fixture
def count(tmp_path: Path, quick: Callable[[int, int], int]) -> int:
    """The number of attempts of the task `often` of a run in the folder."""
    count = quick(3_000, 1_000_000)
    (tmp_path / "often.yaml").write_text(FLOW)
    lightflow(tmp_path, "run", "often.yaml", "--run-id", "often1")
    db = tmp_path / "lightflow.db"
    changes = {"attempt": "i", "exit_code": f"CASE WHEN i={count} THEN 7 ELSE exit_code END"}
    multiply(db, "liteflow_attempts", "task_id='often' AND attempt=1", range(2, count + 1), **changes)
    with contextlib.closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE liteflow_task_instances SET try_number=? WHERE task_id='often'", (count,))
        connection.execute("UPDATE liteflow_events SET attempt=? WHERE task_id='often' AND attempt=1", (count,))
    return count


def test_status_has_the_last_attempts_of_each_task(tmp_path: Path, count: int) -> None:
    view = queries.run_view(str(tmp_path / "lightflow.db"), "often1")
    numbers = [each.attempt for each in view.attempts if each.task_id == "often"]
    assert numbers == [*range(count - 999, count + 1)]
    assert {(each.task_id, each.map_index) for each in view.attempts} == {("often", -1), ("each", 0), ("each", 1)}
    printed = json.loads(lightflow(tmp_path, "status", "often1", "--json").stdout)
    often = next(task for task in printed["tasks"] if task["task"] == "often")
    assert (len(often["attempts"]), printed["earlier_attempts"]) == (1000, True)
    assert str(count) in lightflow(tmp_path, "status", "often1").stdout, "how often it ran"
    of_task = json.loads(lightflow(tmp_path, "status", "often1", "--task", "each[1]", "--json").stdout)
    assert not of_task["earlier_attempts"]


def test_logs_are_those_of_the_last_attempts_and_of_one_by_its_number(tmp_path: Path, count: int) -> None:
    shown = lightflow(tmp_path, "logs", "often", "--run", "often1")
    assert shown.stdout == "hello\n" * 1000
    assert "--attempt N shows an earlier one" in shown.stderr
    printed = json.loads(lightflow(tmp_path, "logs", "often", "--json").stdout)
    assert (len(printed["attempts"]), printed["earlier_attempts"]) == (1000, True)
    early = json.loads(lightflow(tmp_path, "logs", "often", "--attempt", "5", "--json").stdout)
    assert [each["attempt"] for each in early["attempts"]] == [5]
    of_run = json.loads(lightflow(tmp_path, "logs", "--run", "often1", "--attempt", "5", "--json").stdout)
    assert [(each["task"], each["attempt"]) for each in of_run["attempts"]] == [("often", 5)]
    assert lightflow(tmp_path, "logs", "often", "--attempt", str(count + 1)).returncode == 3


def test_a_checkpoint_has_the_last_attempt(tmp_path: Path, count: int) -> None:
    path = checkpoint.write(str(tmp_path), str(tmp_path / "lightflow.db"), "often1")
    assert {name: entry["exit_code"] for name, entry in checkpoint.read(path).completed.items()} == {
        "often": 7,
        "each": 0,
        "each[0]": 0,
        "each[1]": 0,
    }


def test_graphql_pages_through_the_attempts_from_the_last_one_on(tmp_path: Path, count: int) -> None:
    query = 'query ($last: Int, $before: Int) { run(id: "often1") { task(id: "often") { '
    query += "attempts(last: $last, before: $before) { number } } } }"
    with serving(tmp_path, "ui", "lightflow.db") as server:

        def numbers(last: int | None, before: int | None) -> list[int]:
            variables = {name: value for name, value in (("last", last), ("before", before)) if value is not None}
            answer = server.request("POST", "/graphql", {"query": query, "variables": variables}).json()
            return [each["number"] for each in answer["data"]["run"]["task"]["attempts"]]

        assert numbers(None, None) == [*range(count - 9, count + 1)]
        assert numbers(2, count - 5) == [count - 7, count - 6]
        assert numbers(5, 3) == [1, 2]
        mapped = server.get("/api/v1/runs/often1/tasks/each")
        assert mapped["duration_s"] > 0, "from the first start to the last end of its instances"
