"""The example of a night on a Dask cluster: a worker is killed, and the night ends well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from dask_kit import need_dask

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python examples/cluster/night.py"


def test_a_night_in_which_a_worker_is_killed(tmp_path: Path) -> None:
    need_dask()
    assert COMMAND in (ROOT / "docs" / "howto" / "from-a-laptop-to-a-cluster.md").read_text(encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = ROOT / COMMAND.split()[1]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the worker east is killed" in done.stdout
    status = [sys.executable, "-m", "lightflow", "status", "--json"]
    answer = json.loads(subprocess.run(status, cwd=tmp_path, env=environ, capture_output=True, check=True).stdout)
    rows = [row for task in answer["tasks"] for row in (task, *(task["instances"] or []))]
    attempts = [attempt for row in rows for attempt in row["attempts"]]
    assert {"east", "west"} <= {attempt["host"] for attempt in attempts}
    lost = [row for row in rows if any(attempt["status"] == "LOST" for attempt in row["attempts"])]
    assert lost, "the worker is killed while it has an attempt"
    for row in lost:
        assert row["attempts"][-1] | {"status": "SUCCESS", "host": "west"} == row["attempts"][-1], row
    for row in rows:
        verdicts = [attempt["status"] for attempt in row["attempts"]]
        assert verdicts.count("SUCCESS") <= 1, f"{row} ran again although it had succeeded"
