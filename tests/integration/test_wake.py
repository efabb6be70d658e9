"""`lightflow wake` resumes the parked runs that are due, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flow_folder import lightflow, status
from test_serve_parked import let_time_pass, parked


def woken(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(lightflow(folder, "wake", "--json", *arguments).stdout)["runs"]
    return runs


def test_a_decision_and_a_due_wait_each_wake_a_parked_run_in_its_folder(tmp_path: Path) -> None:
    flow, elsewhere = tmp_path / "flow", tmp_path / "elsewhere"
    flow.mkdir()
    elsewhere.mkdir()
    run_id = parked(flow)
    db = ("--db", "../flow/lightflow.db")
    assert lightflow(elsewhere, "wake", *db).stdout == "no parked run is due\n"
    assert "to continue it: lightflow wake" in lightflow(flow, "approve", run_id, "ok").stdout
    due = {"run_id": run_id, "workflow": "deploy", "status": "INTERRUPTED", "problem": None}
    assert woken(elsewhere, "--dry-run", *db) == [{**due, "due": "a person has decided"}]
    assert woken(elsewhere, *db) == [{**due, "due": "a person has decided"}], "it has parked again"
    assert woken(elsewhere, *db) == []
    (flow / "ready.csv").touch()
    let_time_pass(flow)
    done = lightflow(elsewhere, "wake", *db)
    assert (done.returncode, done.stdout) == (0, f"deploy: run {run_id} (a wait is due): ✓ success\n")
    assert (flow / "done.txt").read_text(encoding="utf-8") == "deployed\n"


def test_a_run_that_fails_or_cannot_be_resumed_is_named(tmp_path: Path) -> None:
    run_id = parked(tmp_path)
    lightflow(tmp_path, "reject", run_id, "ok")
    (tmp_path / "flow.yaml").rename(tmp_path / "hidden.yaml")
    lost = lightflow(tmp_path, "wake", "--quiet")
    assert lost.returncode == 1
    assert f"deploy: run {run_id} was not resumed: " in lost.stderr
    (tmp_path / "hidden.yaml").rename(tmp_path / "flow.yaml")
    (tmp_path / "ready.csv").touch()
    let_time_pass(tmp_path)
    failed = lightflow(tmp_path, "wake", "--quiet")
    assert (failed.returncode, failed.stdout) == (1, f"deploy: run {run_id} (a person has decided): ✗ failed\n")
    assert status(tmp_path)["status"] == "FAILED"
    assert lightflow(tmp_path, "wake", "--db", "absent.db").returncode == 3
    assert not (tmp_path / "absent.db").exists()
