"""`lightflow wake` resumes the parked runs that are due, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from flow_folder import COMMAND, environment, lightflow, status
from test_serve_parked import FLOW, let_time_pass, parked


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
    assert "decide with `lightflow approve" in lightflow(flow, "why", "ok").stdout
    assert "to continue it: lightflow wake" in lightflow(flow, "approve", run_id, "ok", "--by", "ann").stdout
    why = lightflow(flow, "why", "ok").stdout
    assert "decide with" not in why
    assert "it was decided by ann at " in why
    assert "lightflow approve" not in lightflow(flow, "status").stdout
    due = {"run_id": run_id, "workflow": "deploy", "status": "INTERRUPTED", "problem": None}
    assert woken(elsewhere, "--dry-run", *db) == [{**due, "due": "a person has decided"}]
    assert woken(elsewhere, *db) == [{**due, "due": "a person has decided"}], "it has parked again"
    assert woken(elsewhere, *db) == []
    (flow / "ready.csv").touch()
    let_time_pass(flow)
    done = lightflow(elsewhere, "wake", *db)
    name = f"deploy: run {run_id}"
    assert (done.returncode, done.stdout) == (0, f"{name} is resumed: a wait is due\n{name}: ✓ success\n")
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
    assert (failed.returncode, failed.stdout) == (1, f"deploy: run {run_id}: ✗ failed\n")
    assert status(tmp_path)["status"] == "FAILED"
    assert lightflow(tmp_path, "wake", "--db", "absent.db").returncode == 3
    assert not (tmp_path / "absent.db").exists()


def test_a_run_that_is_deleted_meanwhile_is_left_out(tmp_path: Path) -> None:
    """The run that is woken first deletes the other one, which is due, too."""
    delete = f'{sys.executable} -m liteflow delete --run "$id" --yes --db lightflow.db'
    delete = f'test "$id" = "$LIGHTFLOW_RUN_ID" || {delete}'
    text = FLOW.replace("run: echo deployed >> done.txt", f"run: for id in $(cat ids.txt); do {delete}; done")
    ids = [parked(tmp_path, text)]
    assert lightflow(tmp_path, "run", "flow.yaml", "--park").returncode == 0
    stored = [run["run_id"] for run in json.loads(lightflow(tmp_path, "runs", "--json").stdout)]
    ids += [run_id for run_id in stored if run_id != ids[0]]
    (tmp_path / "ids.txt").write_text(" ".join(ids), encoding="utf-8")
    (tmp_path / "ready.csv").touch()
    for run_id in ids:
        assert lightflow(tmp_path, "approve", run_id, "ok").returncode == 0
    let_time_pass(tmp_path)
    (first,) = woken(tmp_path)
    assert first["run_id"] in ids
    assert (first["status"], first["problem"]) == ("SUCCESS", None)


def test_each_run_is_named_before_it_has_ended(tmp_path: Path) -> None:
    text = FLOW.replace("run: echo deployed >> done.txt", "run: until test -e go; do sleep 0.05; done")
    run_id = parked(tmp_path, text)
    lightflow(tmp_path, "approve", run_id, "ok")
    (tmp_path / "ready.csv").touch()
    let_time_pass(tmp_path)
    with subprocess.Popen(
        [*COMMAND, "wake"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"deploy: run {run_id} is resumed: a person has decided\n"
        (tmp_path / "go").touch()
        assert process.stdout.read() == f"deploy: run {run_id}: ✓ success\n"
