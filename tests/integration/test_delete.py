"""Deleting runs: all that belongs to them goes, in short transactions, and nothing else."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from pathlib import Path

import flow_folder
import pytest

from liteflow import Dag, DagRun
from liteflow.cli import main as liteflow
from liteflow.errors import LiteflowError, RunNotFound, RunOwned
from liteflow.state import deletion, state_file
from liteflow.state.history import History
from liteflow.state.locks import LockFile

FLOW = """\
workflow_name: w
tasks:
  a: {run: echo a}
  m: {foreach: [1, 2], run: 'echo ${{ item }}'}
  b: {depends_on: a, run: exit 1, retries: 1, on_failure: echo hook}
"""


SHORT = "workflow_name: w\ntasks:\n  a: {run: echo a >> trail}\n  b: {depends_on: a, run: exit 1}\n"


def left(folder: Path) -> list[str]:
    result = [path for name in ("logs", ".lightflow-checkpoints") for path in (folder / name).iterdir()]
    return sorted(path.name for path in result)


@pytest.mark.parametrize("how", ["command", "one run", "python"])
def test_logs_values_and_checkpoints_go_with_a_run(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow_folder.write(tmp_path, FLOW)
    for run_id in ("r1", "r2"):
        assert flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", run_id).returncode == 1
    (tmp_path / "logs" / "mine.txt").write_text("mine")
    db = str(tmp_path / "lightflow.db")
    monkeypatch.chdir("/")  # wherever it is called
    if how == "command":
        assert liteflow(["delete", "w", "--yes", "--db", db]) == 0
    elif how == "one run":
        for run_id in ("r1", "r2"):
            assert liteflow(["delete", "--run", run_id, "--yes", "--db", db]) == 0
    else:
        assert Dag.delete_dag(db, "w") == 2
    assert left(tmp_path) == ["mine.txt"]
    assert {path.name for path in tmp_path.iterdir()} <= {
        "flow.yaml", "logs", ".lightflow-checkpoints", "lightflow.db", "lightflow.db.lock",
        "lightflow.db-wal", "lightflow.db-shm",
    }  # fmt: skip


def test_only_its_own_files_go(tmp_path: Path) -> None:
    flow_folder.write(tmp_path, FLOW)
    for run_id in ("r1", "r2"):
        flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", run_id)
    db = str(tmp_path / "lightflow.db")
    with History(db) as history:
        preserved = [entry.log_path for entry in history.attempts("r2") if entry.log_path is not None]
    DagRun.load(db, "r1").delete()
    assert left(tmp_path) == sorted(
        ["w.r2.lightflow-checkpoint.json", *(os.path.basename(str(entry)) for entry in preserved)]
    )


def test_a_later_resume_does_not_begin_from_a_checkpoint_of_a_deleted_run(tmp_path: Path) -> None:
    """Not even if the file could not be removed."""
    flow_folder.write(
        tmp_path, "workflow_name: w\ntasks:\n  a: {run: echo a >> trail}\n  b: {depends_on: a, run: exit 1}\n"
    )
    flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", "r1")
    saved = tmp_path / ".lightflow-checkpoints" / "w.r1.lightflow-checkpoint.json"
    text = saved.read_text()
    Dag.delete_dag(str(tmp_path / "lightflow.db"), "w")
    assert not saved.exists()
    saved.write_text(text)
    done = flow_folder.lightflow(tmp_path, "resume", "flow.yaml")
    assert done.returncode == 3
    assert "--from-checkpoint .lightflow-checkpoints/w.r1.lightflow-checkpoint.json" in done.stderr
    assert flow_folder.lightflow(tmp_path, "run", "flow.yaml", "--resume", "-q").returncode == 1
    assert (tmp_path / "trail").read_text().split() == ["a", "a"], "it began anew"
    for left_over in tmp_path.glob("lightflow.db*"):
        left_over.unlink()
    flow_folder.lightflow(tmp_path, "resume", "flow.yaml", "-q")
    assert (tmp_path / "trail").read_text().split() == ["a", "a"], "where the state file is gone, a checkpoint helps"


def fill(db: str, runs: int, tasks: int, value: int) -> list[str]:
    """Runs with many rows and large values, written as the engine does."""
    with Dag("big", db) as dag:
        dag.task(lambda: 1, task_id="t")
    ids = [dag.run(mode="inline", run_id=f"r{number}").run_id for number in range(runs)]
    connection = sqlite3.connect(db)
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i < {tasks - 1})"
    columns = {
        "attempts (run_id, task_id, map_index, attempt, status, epoch, started_at, ended_at)": (
            "?, 't', i, 1, 'FAILED', 1, 0.0, 0.0"
        ),
        "xcom (run_id, task_id, map_index, key, encoding, value, size, created_at)": (
            f"?, 't', i, 'k', 'json', hex(randomblob({value // 2})), {value}, 0.0"
        ),
        "events (run_id, task_id, map_index, attempt, previous, status, at)": "?, 't', i, 1, 'x', 'FAILED', 0.0",
    }
    for run_id in ids:
        for table, values in columns.items():
            connection.execute(f"{numbers} INSERT INTO liteflow_{table} SELECT {values} FROM n", (run_id,))
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return ids


def test_others_may_write_between_short_transactions(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fill(db, 3, 5_000, 200)
    monkeypatch.setattr(deletion, "_TRANSACTION_S", 0.0)
    other, turns, changes = LockFile(db), 0, list[int]()
    connection = state_file.connect(db)

    def pause(_: float) -> None:
        nonlocal turns
        assert other.acquire(state_file.WRITE_LOCK), "nobody else holds it in a pause"
        other.release(state_file.WRITE_LOCK)
        changes.append(connection.execute("SELECT count(*) FROM liteflow_events").fetchone()[0])
        turns += 1

    monkeypatch.setattr(deletion, "pause", pause)
    deletion.delete_runs(db, ids, "big")
    steps = [before - after for before, after in itertools.pairwise(changes)]
    connection.close()
    other.close()
    assert turns > 20
    assert max(steps) <= 2_000, "a bounded number of rows at a time"
    with History(db) as history:
        assert history.dag_count() == history.run_count() == 0


def test_the_file_shrinks(db: str) -> None:
    ids = fill(db, 1, 2_000, 10_000)
    assert os.path.getsize(db) > 20_000_000
    deletion.delete_runs(db, ids, "big")
    assert os.path.getsize(db) < 1_000_000
    connection = sqlite3.connect(db)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    connection.close()


def test_a_file_that_was_not_made_for_it_uses_the_space_again(db: str) -> None:
    fill(db, 1, 10, 10)
    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA auto_vacuum=NONE")
    connection.execute("VACUUM")
    connection.close()
    ids = fill(db, 0, 0, 0) or ["r0"]
    deletion.delete_runs(db, ids, "big")
    assert fill(db, 1, 100, 1_000) == ["r0"]


def test_nothing_is_deleted_during_a_run(db: str) -> None:
    ids = fill(db, 2, 10, 10)
    locks = LockFile(db)
    assert locks.acquire(2)
    with pytest.raises(RunOwned, match="run r1 is owned"):
        deletion.delete_runs(db, ids, "big")
    with pytest.raises(RunNotFound):
        deletion.delete_runs(db, ["r0", "no such run"])
    with History(db) as history:
        assert history.run_count("big") == 2
        assert len(history.attempts("r0")) == 11
    locks.close()
    deletion.delete_runs(db, ids, "big")


def test_no_process_takes_a_run_over_while_it_is_deleted(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(db, 1, 3_000, 10)
    connection = sqlite3.connect(db)
    connection.execute("UPDATE liteflow_dag_runs SET status='FAILED'")
    connection.commit()
    connection.close()
    with Dag("big", db) as dag:
        dag.task(lambda: 1, task_id="t")
    monkeypatch.setattr(deletion, "_TRANSACTION_S", 0.0)
    refused = []

    def pause(_: float) -> None:
        def resume() -> None:
            with pytest.raises(LiteflowError) as caught:
                dag.resume("r0", mode="inline")
            refused.append(str(caught.value))

        if not refused:
            thread = threading.Thread(target=resume)
            thread.start()
            thread.join()

    monkeypatch.setattr(deletion, "pause", pause)
    deletion.delete_runs(db, ["r0"])
    assert len(refused) == 1
    assert "run r0 is owned by process" in refused[0]


def test_a_deletion_that_was_cut_off_can_be_repeated(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fill(db, 2, 3_000, 10)
    monkeypatch.setattr(deletion, "_TRANSACTION_S", 0.0)

    def pause(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deletion, "pause", pause)
        with pytest.raises(KeyboardInterrupt):
            deletion.delete_runs(db, ids, "big")
    with History(db) as history:
        assert history.run_count("big") == 2
    deletion.delete_runs(db, ids, "big")
    with History(db) as history:
        assert history.dag("big") is None


def test_a_file_that_sqlite_had_to_make_step_by_step_shrinks_too(db: str) -> None:
    """As on a file system that knows no nameless files: there an empty file is all there is."""
    Path(db).touch()
    ids = fill(db, 1, 100, 10_000)
    connection = sqlite3.connect(db)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()
    deletion.delete_runs(db, ids, "big")
    assert os.path.getsize(db) < 500_000
