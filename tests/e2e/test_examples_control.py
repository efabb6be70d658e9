"""The example of control flow: who runs, who is skipped, who is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "control" / "control.yaml"


def lightflow(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lightflow", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("rows", "way", "other"), [("12", "small", "large"), ("200", "large", "small")])
def test_the_example_of_control_flow(tmp_path: Path, rows: str, way: str, other: str) -> None:
    view = json.loads(lightflow(tmp_path, "run", str(EXAMPLE), "-p", f"rows={rows}", "--json"))
    states = {entry["task"]: entry["status"] for entry in view["tasks"]}
    assert states == {
        **dict.fromkeys(("workspace", "measure", "clean_up", "choose", "report", "has_news", way), "SUCCESS"),
        **dict.fromkeys(("full_check", "tell", "alarm", other), "SKIPPED"),
        "spelling": "FAILED",
    }
    assert view["status"] == "SUCCESS"
    reported = (tmp_path / "control.txt").read_text().splitlines()
    assert reported[0] == "the run begins"
    assert sorted(reported[1:-2]) == [
        f"{rows} rows",
        "spelling failed (exit code 3; the run continues as if it had succeeded (continue_on_error))",
    ]
    assert reported[-2:] == ["the run succeeded", "the run ended as SUCCESS"]
    assert not (tmp_path / "control-workspace").exists()
    assert {entry["task"] for entry in view["hooks"]} == {
        *("on_start", "on_success", "on_exit", "spelling.on_failure", "report.precondition_1"),
    }


def test_what_is_known_before_a_run(tmp_path: Path) -> None:
    plan = json.loads(lightflow(tmp_path, "run", str(EXAMPLE), "--dry-run", "--json"))
    tasks = {task["task"]: task for level in plan["levels"] for task in level}
    assert {name for name, task in tasks.items() if task["skipped"]} == {"full_check"}
    assert tasks["choose"]["special"] == ["branch"]
    assert not list(tmp_path.iterdir())
