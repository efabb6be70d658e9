"""The example of limits, in both languages: the order of its tasks, its pools, and the run that is tried again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "limits"


def execute(folder: Path, *command: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", [("-m", "lightflow", "run", str(EXAMPLES / "limits.yaml")), ("limits.py",)])
def test_the_example_of_limits(tmp_path: Path, command: tuple[str, ...]) -> None:
    command = (str(EXAMPLES / command[0]),) if len(command) == 1 else command
    execute(tmp_path, *command)

    def told(*arguments: str) -> Any:
        return json.loads(execute(tmp_path, "-m", "lightflow", *arguments, "--json"))

    run = told("status")
    assert run["status"] == "SUCCESS"
    tasks = {entry["task"]: entry for entry in run["tasks"]}
    assert [entry["status"] for entry in tasks["publish"]["attempts"]] == ["FAILED", "SUCCESS"]
    assert {len(entry["attempts"]) for name, entry in tasks.items() if name != "publish"} == {1}
    assert tasks["train_large"]["ended_at"] <= tasks["train_small"]["started_at"]
    pools = {entry["pool"]: (entry["slots"], entry["used"], entry["description"]) for entry in told("pools")}
    assert pools == {"gpu": (1, 0, ""), "connections": (4, 0, "to the warehouse")}
