"""`lightflow db`: check, backup and vacuum of a real state file, also while a run continues."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import flow_folder
import pytest

from liteflow import Dag, DagRun, RunOwned, StoreError
from liteflow.api import back_up, vacuum
from liteflow.state.history import History
from liteflow.state.locks import LockFile
from liteflow.state.retention import PRUNE_LOCK

LARGE = 11 * 1024 * 1024
FLOW = "workflow_name: w\ntasks:\n  a: {run: echo a}\n  wait: {run: 'touch started; read line < go', depends_on: a}\n"


def make(db: str, *run_ids: str) -> None:
    with Dag("w", db) as dag:
        dag.task(lambda: "x" * LARGE, task_id="large")
        dag.task(lambda: 1, task_id="small")
    for run_id in run_ids:
        dag.run(mode="inline", run_id=run_id)


def findings(folder: Path, code: int) -> dict[str, str]:
    done = flow_folder.lightflow(folder, "db", "check", "--json")
    assert done.returncode == code, done.stdout
    return {each["check"]: each["verdict"] for each in json.loads(done.stdout)["findings"]}


def test_a_sound_file_passes(tmp_path: Path) -> None:
    make(str(tmp_path / "lightflow.db"), "r0")
    assert set(findings(tmp_path, 0).values()) == {"fine"}
    assert flow_folder.lightflow(tmp_path, "db", "check", "--db", "none.db").returncode == 0


def test_a_missing_value_is_a_problem_and_a_missing_log_a_warning(tmp_path: Path) -> None:
    make(str(tmp_path / "lightflow.db"), "r0")
    flow_folder.write(tmp_path, "workflow_name: v\ntasks: {a: {run: echo a}}\n")
    flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q")
    (log,) = (tmp_path / "logs").iterdir()
    log.unlink()
    assert findings(tmp_path, 0)["logs"] == "warning"
    (value,) = (tmp_path / "lightflow.db_xcom" / "r0").iterdir()
    value.unlink()
    assert findings(tmp_path, 3)["values"] == "problem"


@pytest.mark.alters_rows("an index loses a row")
def test_an_index_without_its_rows_is_a_problem(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    make(db, "r0")
    connection = sqlite3.connect(db)
    connection.execute("PRAGMA writable_schema=ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql=replace(sql, 'WHERE parent_run_id IS NOT NULL', 'WHERE run_id IS NOT NULL') "
        "WHERE name='liteflow_runs_by_parent'"
    )
    connection.commit()
    connection.close()
    assert findings(tmp_path, 3)["state file"] == "problem"


def test_a_backup_during_a_run_has_the_state_of_an_instant(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    make(db, "r0")
    flow_folder.write(tmp_path, FLOW)
    os.mkfifo(tmp_path / "go")
    words = [*flow_folder.COMMAND, "run", "flow.yaml", "-q", "--run-id", "live"]
    run = subprocess.Popen(words, cwd=tmp_path, env=flow_folder.environment())
    try:
        handle = os.open(tmp_path / "go", os.O_RDWR)  # the task is at its read, once the file `started` exists
        while not (tmp_path / "started").exists():
            assert run.poll() is None
        done = json.loads(flow_folder.lightflow(tmp_path, "db", "backup", "copy.db", "--json").stdout)
        assert (done["values"], done["missing_values"]) == (1, 0)
        assert flow_folder.lightflow(tmp_path, "db", "vacuum").returncode == 4, "a run is running"
        os.write(handle, b"\n")
        assert run.wait(60) == 0
        os.close(handle)
    finally:
        run.kill()
        run.wait()
    copy = str(tmp_path / "copy.db")
    assert os.stat(copy).st_mode & 0o777 == 0o600
    with History(copy) as history:
        assert [status for _, _, status in history.statuses("live")] == ["SUCCESS", "RUNNING"]
        assert history.run("live").status == "INTERRUPTED", "of the copy no process is the owner"
    assert DagRun.load(copy, "r0").value("large") == "x" * LARGE
    assert not [path.name for path in tmp_path.iterdir() if "writing" in path.name]


def test_a_backup_replaces_nothing(tmp_path: Path) -> None:
    db, target = str(tmp_path / "lightflow.db"), tmp_path / "copy.db"
    make(db, "r0")
    target.write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        back_up(db, str(target))
    assert target.read_text() == "mine"
    assert flow_folder.lightflow(tmp_path, "db", "backup", "no/such/folder.db").returncode == 3
    locks = LockFile(db)
    assert locks.acquire(PRUNE_LOCK)
    with pytest.raises(RunOwned):
        back_up(db, str(tmp_path / "other.db"))
    locks.close()


def test_vacuum_makes_a_file_of_an_earlier_version_give_space_back(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    make(db, "r0")
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA auto_vacuum=NONE")
    connection.execute("VACUUM")
    connection.execute("CREATE TABLE filler AS SELECT randomblob(2000000) AS data")
    connection.execute("DROP TABLE filler")
    connection.close()
    assert findings(tmp_path, 0)["space"] == "note"
    before, after = vacuum(db)
    assert after < before - 1_500_000
    assert os.path.getsize(db) == after
    assert findings(tmp_path, 0)["space"] == "fine"
    connection = sqlite3.connect(db)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    make(db, "r1")


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    for words in (["db"], ["db", "backup"], ["db", "check", "x"]):
        assert flow_folder.lightflow(tmp_path, *words).returncode == 2
    with pytest.raises(StoreError, match="no such state file"):
        vacuum(str(tmp_path / "none.db"))
    assert not (tmp_path / "none.db").exists()
