"""Checkpoint files: where they are written, which is the newest, and odd clocks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import flow_folder
import pytest

from lightflow.engine import checkpoint
from liteflow import Dag
from liteflow.identifiers import CHECKPOINT_SUFFIX

FLOW = """\
workflow_name: two
tasks:
  a: {run: echo a >> did.txt}
  b: {depends_on: a, run: 'test -e step2; echo b >> did.txt; test -e step2'}
  c: {depends_on: b, run: 'echo c >> did.txt; test -e step3'}
"""


def ran(db: str, folder: Path, run_id: str = "nightly") -> None:
    with Dag("flow", db) as dag:
        dag.task(lambda: 1, task_id="a")
    dag.run(mode="inline", run_id=run_id, observers=[checkpoint.CheckpointWriter(str(folder))])


def test_a_link_at_the_temporary_name_is_not_followed(db: str, tmp_path: Path) -> None:
    """As somebody plants it who owns the folder."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    for name in (".writing-nightly", f".writing-nightly-{os.getpid()}", "flow.nightly.lightflow-checkpoint.json"):
        (folder / name).symlink_to(precious)
    ran(db, folder)
    assert precious.read_text() == "precious"
    path = folder / "flow.nightly.lightflow-checkpoint.json"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert checkpoint.read(str(path)).succeeded.keys() == {"a"}


def test_what_a_killed_writer_has_left_is_not_an_obstacle(db: str, tmp_path: Path) -> None:
    (tmp_path / ".writing-nightly").write_text("half of it")
    ran(db, tmp_path)
    assert checkpoint.read(str(tmp_path / "flow.nightly.lightflow-checkpoint.json")).status == "SUCCESS"
    assert not (tmp_path / ".writing-nightly").exists()


def test_the_newest_is_the_one_written_last_in_any_time_zone(tmp_path: Path) -> None:
    flow_folder.write(tmp_path, FLOW)
    flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", "first", extra_env={"TZ": "Asia/Kolkata"})
    (tmp_path / "step2").touch()
    flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", "second", extra_env={"TZ": "America/Lima"})
    for zone in ("Asia/Kolkata", "UTC", "America/Lima"):
        done = flow_folder.lightflow(tmp_path, "list-checkpoints", "two", "--json", extra_env={"TZ": zone})
        result = json.loads(done.stdout)
        assert [entry["run_id"] for entry in result] == ["second", "first"]
        assert all(entry["timestamp"].endswith("+00:00") for entry in result)
    text = flow_folder.lightflow(tmp_path, "list-checkpoints", "two", extra_env={"TZ": "Asia/Kolkata"}).stdout
    utc = flow_folder.lightflow(tmp_path, "list-checkpoints", "two", extra_env={"TZ": "UTC"}).stdout
    assert text != utc, "people see the time of where they are"


def test_files_of_the_release_before_have_local_times_and_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        for number, stamp in enumerate(["2026-11-26T12:34:00", "2026-11-26T07:05:00+00:00", "nonsense"]):
            (tmp_path / f"two.{number}{CHECKPOINT_SUFFIX}").write_text(
                json.dumps({"workflow_name": "two", "timestamp": stamp, "completed_tasks": {}, "run_id": str(number)})
            )
        result, _ = checkpoint.find(str(tmp_path))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [entry.run_id for entry in result] == ["1", "0", "2"]


def test_a_task_that_took_less_than_no_time_is_done_all_the_same(db: str, tmp_path: Path) -> None:
    """The clock was set back while it ran."""
    for duration in (-3600.0, 0, -0.001):
        path = tmp_path / f"flow.r{CHECKPOINT_SUFFIX}"
        path.write_text(
            json.dumps({"workflow_name": "flow", "completed_tasks": {"a": {"success": True, "duration": duration}}})
        )
        assert checkpoint.read(str(path)).succeeded == {"a": 0.0}
        with Dag("flow", db) as dag:
            dag.task(lambda: 1, task_id="a")
        assert dag.run(mode="inline", done=checkpoint.read(str(path)).succeeded).status == "SUCCESS"


@pytest.mark.parametrize("duration", ["Infinity", "NaN", "1e400", "-1e300", '"5"', "[]", "true"])
def test_a_time_that_cannot_be_is_none(tmp_path: Path, duration: str) -> None:
    path = tmp_path / f"flow.r{CHECKPOINT_SUFFIX}"
    path.write_text(
        f'{{"workflow_name": "flow", "completed_tasks": {{"a": {{"success": true, "duration": {duration}}}}}}}'
    )
    assert checkpoint.read(str(path)).succeeded in ({}, {"a": 0.0}, {"a": 1.0})
