"""The program that `liteflow scaffold` prints, run as a user runs it: the state file has what it promises to show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from liteflow import DagRun
from liteflow.scaffold import scaffold
from liteflow.state.history import History

ROOT = Path(__file__).resolve().parents[2]


def execute(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """Run the text as a program in the folder."""
    (folder / "nightly.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-W", "error", "nightly.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def the_run(folder: Path) -> DagRun:
    """Return the only run of the state file in the folder."""
    with History(str(folder / "liteflow.db")) as history:
        (record,) = history.runs()
    return DagRun.load(str(folder / "liteflow.db"), record.run_id)


def test_it_succeeds_and_its_retry_is_in_the_state_file(tmp_path: Path) -> None:
    done = execute(tmp_path, scaffold("nightly"))
    assert (done.returncode, done.stderr) == (0, "")
    run = the_run(tmp_path)
    assert (run.dag_id, run.status) == ("nightly", "SUCCESS")
    assert run.statuses() == dict.fromkeys(("extract", "fetch_rate", "convert", "report"), "SUCCESS")
    with History(str(tmp_path / "liteflow.db")) as history:
        attempts = {task_id: history.attempts(run.run_id, task_id) for task_id in run.statuses()}
    assert [attempt.status for attempt in attempts.pop("fetch_rate")] == ["FAILED", "SUCCESS"]
    assert [len(of_task) for of_task in attempts.values()] == [1, 1, 1]


def test_its_tasks_pass_values_and_read_their_attempt(tmp_path: Path) -> None:
    """The rate is returned at the second attempt, which the task learns from its context."""
    execute(tmp_path, scaffold("nightly"))
    run = the_run(tmp_path)
    assert run.value("fetch_rate") == 0.92
    assert run.value("convert")[0] == {"id": 1, "eur": 9.2}
    assert run.value("report") == 138.0


def test_it_names_the_failed_tasks_and_ends_with_1(tmp_path: Path) -> None:
    done = execute(tmp_path, scaffold("nightly").replace("retries=3", "retries=0"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "  fetch_rate failed: ConnectionError: the rate service did not answer\n" in done.stdout
    run = the_run(tmp_path)
    assert run.statuses() == {
        "extract": "SUCCESS",
        "fetch_rate": "FAILED",
        "convert": "UPSTREAM_FAILED",
        "report": "UPSTREAM_FAILED",
    }


def test_importing_it_runs_nothing(tmp_path: Path) -> None:
    execute(tmp_path, f"__name__ = 'nightly'\n{scaffold('nightly')}")
    assert not (tmp_path / "liteflow.db").exists()
