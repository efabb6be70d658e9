"""`lightflow serve` resumes runs that were parked: when a wait is due, and when a person has decided."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from flow_folder import lightflow, write
from scheduler_kit import log, processes_of, rows, runs, serving, starter_of, until

FLOW = """
workflow_name: deploy
tasks:
  ok: {type: approval, message: Deploy}
  file: {type: wait, file: ready.csv, every: 1h}
  after:
    depends_on: [ok, file]
    run: echo deployed >> done.txt
"""


def parked(folder: Path, text: str = FLOW) -> str:
    """Park a run of the workflow, and return its id."""
    write(folder, text)
    done = lightflow(folder, "run", "flow.yaml", "--park")
    assert done.returncode == 0, done.stdout
    (row,) = runs(folder, "deploy")
    assert row[1] == "INTERRUPTED"
    return str(row[0])


def let_time_pass(folder: Path) -> None:
    """Change the state file as if the hour until the next look were over."""
    with closing(sqlite3.connect(folder / "lightflow.db", timeout=30)) as connection, connection:
        connection.execute("UPDATE liteflow_requests SET detail='1.0' WHERE action='wake' AND handled_at IS NULL")
        connection.execute("UPDATE liteflow_task_instances SET wake_at=1.0 WHERE wake_at IS NOT NULL")


def waiting(folder: Path) -> set[str]:
    return {row[0] for row in rows(folder, "SELECT task_id FROM liteflow_task_instances WHERE status='WAITING'")}


def open_wakes(folder: Path) -> int:
    return len(rows(folder, "SELECT 1 FROM liteflow_requests WHERE action='wake' AND handled_at IS NULL"))


def test_a_decision_and_a_due_wait_each_continue_a_parked_run(tmp_path: Path) -> None:
    run_id = parked(tmp_path)
    with serving(tmp_path):
        lightflow(tmp_path, "approve", run_id, "ok")
        until(lambda: waiting(tmp_path) == {"file"} and runs(tmp_path, "deploy")[0][1] == "INTERRUPTED")
        until(lambda: not [pid for pid in processes_of(tmp_path) if is_run(pid)])
        (tmp_path / "ready.csv").touch()
        let_time_pass(tmp_path)
        until(lambda: runs(tmp_path, "deploy")[0][1] == "SUCCESS")
    assert (tmp_path / "done.txt").read_text(encoding="utf-8") == "deployed\n"
    assert "(a person has decided)" in log(tmp_path)
    assert "(a wait is due)" in log(tmp_path)
    assert open_wakes(tmp_path) == 0


def is_run(pid: int) -> bool:
    """Return whether a process is that of a run: it has a lock of the state file open."""
    try:
        files = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(name.endswith("lightflow.db") for name in files) and b"serve" not in command


def test_several_servers_and_a_person_resume_a_run_once(tmp_path: Path) -> None:
    run_id = parked(tmp_path)
    (tmp_path / "ready.csv").touch()
    with serving(tmp_path), serving(tmp_path):
        let_time_pass(tmp_path)
        lightflow(tmp_path, "approve", run_id, "ok")
        lightflow(tmp_path, "resume", run_id, "--park")
        until(lambda: runs(tmp_path, "deploy")[0][1] == "SUCCESS")
        until(lambda: not [pid for pid in processes_of(tmp_path) if is_run(pid)])
    assert (tmp_path / "done.txt").read_text(encoding="utf-8") == "deployed\n"
    attempts = rows(tmp_path, "SELECT task_id, attempt, status FROM liteflow_attempts ORDER BY 1")
    assert attempts == [("after", 1, "SUCCESS"), ("file", 1, "SUCCESS"), ("ok", 1, "SUCCESS")]


def test_a_run_whose_process_is_killed_is_still_parked(tmp_path: Path) -> None:
    """It is due again after a minute; a new server, which does not know of the first try, resumes it at once."""
    run_id = parked(tmp_path, FLOW.replace("run: echo", "run: sleep $(cat pause); echo"))
    (tmp_path / "ready.csv").touch()
    (tmp_path / "pause").write_text("60", encoding="utf-8")
    with serving(tmp_path) as server:
        let_time_pass(tmp_path)
        lightflow(tmp_path, "approve", run_id, "ok")
        sql = "SELECT owner_pid FROM liteflow_dag_runs WHERE status='RUNNING'"
        until(lambda: rows(tmp_path, "SELECT 1 FROM liteflow_task_instances WHERE status='RUNNING'"))
        ((pid,),) = rows(tmp_path, sql)
        assert starter_of(server) != pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: "was not resumed: its process was ended by signal 9" in log(tmp_path))
    assert open_wakes(tmp_path) == 1
    (tmp_path / "pause").write_text("0", encoding="utf-8")
    with serving(tmp_path):
        until(lambda: runs(tmp_path, "deploy")[0][1] == "SUCCESS")
    assert (tmp_path / "done.txt").read_text(encoding="utf-8") == "deployed\n"


def test_a_run_that_a_person_has_cancelled_is_not_resumed(tmp_path: Path) -> None:
    run_id = parked(tmp_path)
    lightflow(tmp_path, "cancel", run_id)
    assert open_wakes(tmp_path) == 0
