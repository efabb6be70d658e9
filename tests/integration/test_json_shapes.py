"""The keys that `--json` prints: those that programs rely on are there, and each is in the reference."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOW = """
workflow_name: shapes
pools: {desk: 2}
params: {rows: 3}
tasks:
  make:
    run: |
      echo "n=1" >> "$LIGHTFLOW_OUTPUT"
    pool: desk
    on_success: echo made
  each:
    run: echo ${{ item }}
    foreach: [a, b]
    depends_on: [make]
  broken:
    type: python
    run: |
      raise ValueError("no")
    depends_on: [make]
"""
RUN = {
    *("run_id", "workflow", "status", "reason", "created_at", "started_at", "ended_at", "duration_s", "counts"),
    *(
        "instances",
        "approvals",
        "source",
        "logical_date",
        "trigger",
        "params",
        "origin",
        "parent",
        "selection",
        "request",
    ),
    *("mode", "machines", "places"),
}
TASK = {
    *(
        "task",
        "map_index",
        "map_key",
        "status",
        "reason",
        "stale",
        "depends_on",
        "started_at",
        "ended_at",
        "wake_at",
        "duration_s",
    ),
    *("attempts", "instances"),
}
ATTEMPT = {
    *("attempt", "status", "exit_code", "error", "codes", "started_at", "ended_at", "duration_s"),
    *("log", "trace", "log_lost", "host"),
}
TRACE = {"error", "relation", "notes", "frames", "left_out"}
FRAME = {"file", "line", "function", "source", "repeats"}
PLAN = {
    *("workflow", "max_workers", "mode", "params", "secrets", "timeout_s", "retries", "concurrency", "pools", "levels")
}
PLANNED = {
    *("task", "type", "depends_on", "trigger_rule", "retries", "timeout_s", "priority", "max_parallel", "resources"),
    *("summary", "done", "special", "skipped", "mapped", "instances"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    (folder / "flow.yaml").write_text(FLOW, encoding="utf-8")
    (folder / "bad.yaml").write_text("workflow_name: bad\ntasks: {a: {rum: x}}\n", encoding="utf-8")
    assert lightflow(folder, 1, "run", "flow.yaml", "--quiet") is None
    return folder


def lightflow(folder: Path, code: int, *words: str) -> Any:
    """Run a command and return what it printed as JSON; None where that was not asked for."""
    line = [sys.executable, "-m", "lightflow", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if "--json" in words else None


def test_a_run(folder: Path) -> None:
    run = lightflow(folder, 0, "status", "--json")
    more = {"tasks", "groups", "hooks", "child_runs", "standing", "overlooked", "outputs", "earlier_attempts"}
    assert set(run) == RUN | more
    tasks = {task["task"]: task for task in run["tasks"]}
    assert [set(task) for task in tasks.values()] == [TASK | {"group"}] * 3
    assert [set(instance) for instance in tasks["each"]["instances"]] == [TASK] * 2
    assert [instance["map_key"] for instance in tasks["each"]["instances"]] == ["a", "b"]
    assert tasks["each"]["attempts"] == []
    [attempt] = tasks["broken"]["attempts"]
    assert set(attempt) == ATTEMPT
    [trace] = attempt["trace"]
    assert set(trace) == TRACE
    assert {frozenset(frame) for frame in trace["frames"]} == {frozenset(FRAME)}
    [hook] = run["hooks"]
    assert set(hook) == TASK
    assert run["counts"] == {"SUCCESS": 2, "FAILED": 1}
    assert run["instances"] == {"SUCCESS": 2}
    assert run["params"] == {"rows": 3}


def test_lists(folder: Path) -> None:
    [run] = lightflow(folder, 0, "runs", "--json")
    assert set(run) == RUN
    [workflow] = lightflow(folder, 0, "list", "--json")
    assert set(workflow) == {"workflow", "description", "source", "latest", "next_at"}
    assert set(workflow["latest"]) == RUN
    [checkpoint] = lightflow(folder, 0, "list-checkpoints", "--json")
    assert set(checkpoint) == {"workflow", "run_id", "status", "timestamp", "completed", "total", "file"}
    [pool] = lightflow(folder, 0, "pools", "--json")
    assert set(pool) == {"pool", "slots", "used", "description", "set_by_hand", "holders", "waiting"}


def test_tasks(folder: Path) -> None:
    logs = lightflow(folder, 0, "logs", "each", "--json")
    assert set(logs) == {"run_id", "task", "status", "attempts", "earlier_attempts"}
    assert [set(attempt) for attempt in logs["attempts"]] == [ATTEMPT | {"map_index"}] * 2
    every = lightflow(folder, 0, "logs", "--json")
    assert every["task"] is None
    assert {frozenset(attempt) for attempt in every["attempts"]} == {
        frozenset(ATTEMPT | {"task"}),
        frozenset(ATTEMPT | {"task", "map_index"}),
    }
    outputs = lightflow(folder, 0, "outputs", "--json")
    assert set(outputs) == {"run_id", "outputs", "run_outputs"}
    assert outputs["outputs"][0] == {
        "task": "make",
        "map_index": None,
        "key": "n",
        "encoding": "json",
        "size": 3,
        "value": "1",
    }
    why = lightflow(folder, 0, "why", "broken", "--json")
    assert set(why) == {"run_id", "task", "status", "because", "trace"}
    assert set(why["trace"][0]) == TRACE


def test_files(folder: Path) -> None:
    checked = lightflow(folder, 2, "validate", "flow.yaml", "bad.yaml", "--json")
    assert set(checked) == {"valid", "files"}
    good, bad = checked["files"]
    assert set(good) == set(bad) == {"file", "valid", "workflows", "tasks", "problems", "warnings"}
    assert set(bad["problems"][0]) == {"file", "line", "column", "path", "message"}
    plan = lightflow(folder, 0, "run", "flow.yaml", "-n", "--json")
    assert set(plan) == PLAN
    assert {frozenset(task) for level in plan["levels"] for task in level} == {frozenset(PLANNED)}
    mapped = next(task for level in plan["levels"] for task in level if task["mapped"])
    assert mapped["instances"][0] == {"map_index": 0, "map_key": "a", "summary": "echo a"}


def test_other_commands(folder: Path, tmp_path: Path) -> None:
    doctor = lightflow(folder, 0, "doctor", "--json")
    assert set(doctor) == {"ok", "db", "findings"}
    assert {frozenset(finding) for finding in doctor["findings"]} == {
        frozenset({"check", "verdict", "message", "hint"})
    }
    assert set(lightflow(tmp_path, 0, "template", "mine", "--json")) == {"file"}
    assert set(lightflow(tmp_path, 0, "clear", "mine", "--json")) == {"workflow", "files", "runs"}


def test_every_key_of_a_run_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
    words = {word for code in re.findall(r"`([^`]+)`", page) for word in re.findall(r"\w+", code)}
    assert (RUN | TASK | ATTEMPT | TRACE | FRAME | PLAN | PLANNED) - words == set()
