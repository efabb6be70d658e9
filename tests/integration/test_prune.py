"""Retention: what `prune` and `settings.retention` delete, what they never delete, and how they complete each other."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path

import flow_folder
import pytest

from liteflow import Dag, DagRun, DefinitionError, Retention, RunOwned
from liteflow.api import find_leftovers, prune_runs, remove_leftovers
from liteflow.state import deletion, state_file
from liteflow.state.history import History
from liteflow.state.locks import LockFile
from liteflow.state.retention import PRUNE_LOCK

FLOW = """\
workflow_name: w
tasks:
  a: {run: echo a}
  b: {depends_on: a, run: exit 1, on_failure: echo hook}
"""
DAY = 86_400.0
BY_HAND = pytest.mark.alters_rows("the tests make runs old, and relate them")


def make(db: str, *run_ids: str, dag_id: str = "w", retention: Retention | None = None) -> None:
    with Dag(dag_id, db, retention=retention) as dag:
        dag.task(lambda: 1, task_id="t")
    for run_id in run_ids:
        dag.run(mode="inline", run_id=run_id)


def change(db: str, sql: str, *values: object) -> None:
    connection = sqlite3.connect(db)
    connection.execute(sql, values)
    connection.commit()
    connection.close()


def make_old(db: str, days: float, *run_ids: str) -> None:
    for run_id in run_ids:
        change(
            db,
            "UPDATE liteflow_dag_runs SET created_at=created_at-?1, ended_at=ended_at-?1 WHERE run_id=?2",
            days * DAY,
            run_id,
        )
        change(db, "UPDATE liteflow_events SET at=at-? WHERE run_id=?", days * DAY, run_id)


def run_ids(db: str) -> list[str]:
    with History(db) as history:
        return sorted(run.run_id for run in history.runs(limit=1000))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- the command -------------------------------------------------------------------------------------------------


def test_runs_beyond_the_newest_are_deleted_with_their_files(tmp_path: Path) -> None:
    flow_folder.write(tmp_path, FLOW)
    for number in range(4):
        assert flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", f"r{number}").returncode == 1
    with History(str(tmp_path / "lightflow.db")) as history:
        logs = sorted(
            os.path.basename(each.log_path)
            for run_id in ("r2", "r3")
            for each in history.attempts(run_id)
            if each.log_path is not None
        )
    arguments = ("prune", "--older-than", "0", "--keep", "2")
    tried = json.loads(flow_folder.lightflow(tmp_path, *arguments, "--dry-run", "--json").stdout)
    assert (tried["deleted"], tried["workflows"], tried["dry_run"]) == (2, {"w": ["r0", "r1"]}, True)
    assert len(names(tmp_path / ".lightflow-checkpoints")) == 4
    done = flow_folder.lightflow(tmp_path, *arguments)
    assert done.stdout.splitlines()[0] == "w: deleted 2 runs, r0 to r1"
    assert run_ids(str(tmp_path / "lightflow.db")) == ["r2", "r3"]
    assert names(tmp_path / "logs") == logs
    assert names(tmp_path / ".lightflow-checkpoints") == [f"w.r{n}.lightflow-checkpoint.json" for n in (2, 3)]
    assert flow_folder.lightflow(tmp_path, *arguments).stdout == "nothing to delete\n"


@BY_HAND
def test_by_default_it_deletes_only_old_runs_that_are_not_among_the_newest(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    make(db, *(f"r{number:02}" for number in range(25)))
    assert json.loads(flow_folder.lightflow(tmp_path, "prune", "--json").stdout)["deleted"] == 0
    make_old(db, 100, *(f"r{number:02}" for number in range(3)))
    assert json.loads(flow_folder.lightflow(tmp_path, "prune", "--json").stdout)["workflows"] == {
        "w": ["r00", "r01", "r02"]
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--older-than", "5x"], 2, "--older-than '5x': must be a time such as \"90d\""),
        (["--older-than", "99999999d"], 2, "must be at most 36500d"),
        (["--keep", "-1"], 2, "--keep"),
        (["nope"], 3, "there is no workflow 'nope'"),
        (["--db", "other.db"], 3, "other.db"),
    ],
)
def test_wrong_input_is_refused(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    make(str(tmp_path / "lightflow.db"), "r0")
    done = flow_folder.lightflow(tmp_path, "prune", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert not (tmp_path / "other.db").exists()


def test_one_process_prunes_at_a_time(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    make(db, "r0", "r1")
    locks = LockFile(db)
    assert locks.acquire(PRUNE_LOCK)
    assert flow_folder.lightflow(tmp_path, "prune").returncode == 4
    with pytest.raises(RunOwned, match="another process prunes"):
        prune_runs(db)
    make(db, "r2", retention=Retention(runs=1))
    assert run_ids(db) == ["r0", "r1", "r2"], "the retention of a run leaves it to the other process"
    locks.close()


# -- what stays ----------------------------------------------------------------------------------------------------


def test_each_workflow_has_its_newest_runs(db: str) -> None:
    make(db, "a0", "a1", "a2", dag_id="a")
    make(db, "b0", "b1", dag_id="b")
    assert prune_runs(db, Retention(runs=1), "a").runs == {"a": ["a0", "a1"]}
    assert prune_runs(db, Retention(runs=1)).runs == {"b": ["b0"]}
    assert run_ids(db) == ["a2", "b1"]


@BY_HAND
def test_a_run_stays_by_its_age_or_by_its_number(db: str) -> None:
    make(db, "r0", "r1", "r2", "r3")
    make_old(db, 10, "r0", "r1", "r2")
    assert prune_runs(db, Retention(days=20)).runs == {}
    assert prune_runs(db, Retention(days=5, runs=2)).runs == {"w": ["r0", "r1"]}
    assert prune_runs(db, Retention(days=5)).runs == {"w": ["r2"]}
    assert prune_runs(db, Retention(days=0)).runs == {"w": ["r3"]}


def test_a_run_with_an_owner_stays(db: str) -> None:
    make(db, "r0", "r1", "r2")
    locks = LockFile(db)
    assert locks.acquire(1)
    for dry_run in (True, False):
        pruned = prune_runs(db, Retention(runs=1), dry_run=dry_run)
        assert (pruned.runs, pruned.preserved) == ({"w": ["r1"]}, {"running": 1})
    locks.close()
    assert run_ids(db) == ["r0", "r2"]


@BY_HAND
def test_a_run_that_waits_stays_at_any_age(db: str) -> None:
    make(db, "r0", "r1")
    make_old(db, 1000, "r0")
    change(db, "UPDATE liteflow_dag_runs SET status='INTERRUPTED' WHERE run_id='r0'")
    change(db, "UPDATE liteflow_task_instances SET status='WAITING' WHERE run_id='r0'")
    assert prune_runs(db, Retention(runs=1)).preserved == {"waiting": 1}
    change(db, "UPDATE liteflow_task_instances SET status='PENDING' WHERE run_id='r0'")
    assert prune_runs(db, Retention(runs=1)).runs == {"w": ["r0"]}


@BY_HAND
def test_an_unfinished_run_counts_from_its_last_change(db: str) -> None:
    make(db, "r0", "r1")
    make_old(db, 100, "r0")
    change(db, "UPDATE liteflow_dag_runs SET status='RUNNING', ended_at=NULL WHERE run_id='r0'")  # its owner died
    change(db, "UPDATE liteflow_events SET at=at+? WHERE run_id='r0'", 98 * DAY)  # it was resumed two days ago
    assert prune_runs(db, Retention(days=5)).preserved == {"changed since": 1}
    assert prune_runs(db, Retention(days=1)).runs == {"w": ["r0"]}


@BY_HAND
def test_a_child_run_has_the_fate_of_its_parent(db: str) -> None:
    make(db, "p0", "c0", "g0", "p1", "c1")
    for child, parent in (("c0", "p0"), ("g0", "c0"), ("c1", "p1")):
        change(db, "UPDATE liteflow_dag_runs SET parent_run_id=? WHERE run_id=?", parent, child)
    make_old(db, 10, "p0", "c0", "p1", "c1")
    pruned = prune_runs(db, Retention(days=5))
    assert (pruned.runs, pruned.preserved) == ({"w": ["p1", "c1"]}, {"changed since": 1}), "g0 is young"
    make_old(db, 10, "g0")
    assert prune_runs(db, Retention(days=5, runs=1)).runs == {}, "a child run is not counted among the newest"
    assert prune_runs(db, Retention(days=5)).runs == {"w": ["p0", "c0", "g0"]}


@BY_HAND
def test_a_child_run_is_deleted_with_its_parent_by_hand_too(db: str) -> None:
    make(db, "p0", "c0", "p1")
    change(db, "UPDATE liteflow_dag_runs SET parent_run_id='p0' WHERE run_id='c0'")
    DagRun.load(db, "p0").delete()
    assert run_ids(db) == ["p1"]


@BY_HAND
def test_a_run_stays_while_its_fork_exists(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    flow_folder.write(tmp_path, FLOW)
    for run_id in ("r0", "r1"):
        flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", run_id)
    change(db, "UPDATE liteflow_dag_runs SET origin_run_id='r0' WHERE run_id='r1'")
    change(
        db,
        "UPDATE liteflow_task_instances SET log_path=(SELECT log_path FROM liteflow_attempts WHERE run_id='r0' "
        "AND task_id='a') WHERE run_id='r1' AND task_id='a'",
    )
    assert prune_runs(db, Retention(runs=1)).preserved == {"forked": 1}
    DagRun.load(db, "r0").delete()  # by hand it goes, and the log that the fork names stays
    assert find_leftovers(db).missing_logs == []
    assert prune_runs(db, Retention(days=0)).runs == {"w": ["r1"]}
    assert names(tmp_path / "logs") == []


# -- the retention of a workflow -----------------------------------------------------------------------------------


def test_the_retention_of_a_workflow_file_works_after_each_run(tmp_path: Path) -> None:
    flow_folder.write(tmp_path, f"{FLOW}settings: {{retention: {{runs: 2}}}}\n")
    make(str(tmp_path / "lightflow.db"), "o0", "o1", "o2", dag_id="other")
    for number in range(4):
        assert flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", f"r{number}").returncode == 1
    assert run_ids(str(tmp_path / "lightflow.db")) == ["o0", "o1", "o2", "r2", "r3"]


def test_the_retention_of_a_dag_works_after_each_run(db: str) -> None:
    make(db, "r0", "r1", "r2", retention=Retention(runs=1))
    assert run_ids(db) == ["r2"]
    make(db, "r3", retention=Retention(days=0))
    assert run_ids(db) == ["r3"], "the run that has just ended stays"


def test_a_run_that_was_resumed_stays_after_its_end(db: str) -> None:
    make(db, "r1")
    with Dag("w", db, retention=Retention(runs=1)) as dag:
        dag.task(lambda: 1 // 0, task_id="t")
    dag.run(mode="inline", run_id="r0")
    assert run_ids(db) == ["r0"]
    make(db, "r2")
    assert dag.resume("r0", mode="inline").failures().keys() == {"t"}
    assert run_ids(db) == ["r0", "r2"]


@pytest.mark.parametrize(
    "retention", [Retention(), Retention(days=-1), Retention(runs=1.5), Retention(days=True), {"runs": 2}]
)
def test_a_wrong_retention_is_refused(db: str, retention: object) -> None:
    with pytest.raises(DefinitionError, match="retention"):
        Dag("w", db, retention=retention)  # type: ignore[arg-type]


def test_what_exceeds_the_time_limit_is_left_for_the_next_time(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "_TRANSACTION_S", 0.0)  # a fast machine deletes all of them in one transaction
    make(db, *(f"r{number:03}" for number in range(120)))
    first = prune_runs(db, Retention(runs=1), limit_s=0.0)
    assert not first.complete
    assert 0 < len(first.runs["w"]) < 119
    second = prune_runs(db, Retention(runs=1))
    assert second.complete
    assert run_ids(db) == ["r119"]
    assert find_leftovers(db).deletions == []


def test_many_small_runs_share_a_transaction(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(db, *(f"r{number:03}" for number in range(101)))
    monkeypatch.setattr(deletion, "_TRANSACTION_S", 0.4)
    pauses, now_s = list[float](), 1000.0

    def monotonic() -> float:
        nonlocal now_s
        now_s += 0.001
        return now_s

    def pause(seconds: float) -> None:
        nonlocal now_s
        pauses.append(seconds)
        now_s += 0.5  # the time of a transaction begins after the pause before it

    monkeypatch.setattr(time, "monotonic", monotonic)
    monkeypatch.setattr(deletion, "pause", pause)
    assert len(prune_runs(db, Retention(runs=1)).runs["w"]) == 100
    assert len(pauses) <= 6, "rows, sync, files, and the free pages"


def test_a_log_that_was_copied_into_the_file_counts_from_nothing(db: str) -> None:
    make(db, "r0")
    locks = LockFile(db)
    connection = state_file.connect(db)

    def write(size: int) -> None:
        with state_file.Transaction(connection, locks):
            connection.execute(
                "INSERT OR REPLACE INTO liteflow_state (scope, key, value, version, updated_at) VALUES ('w',?,?,1,0)",
                (f"k{size}", "x" * size),
            )

    write(5 * 1024 * 1024)
    full = os.path.getsize(f"{db}-wal")
    state_file.checkpoint_wal(connection, db, locks)
    write(1)
    assert os.path.getsize(f"{db}-wal") < 4 * 1024 * 1024 < full, "else each transaction is followed by a checkpoint"
    connection.close()
    locks.close()


# -- deletions that were cut off, and leftovers ----------------------------------------------------------------------


def test_the_next_prune_removes_the_files_of_a_deletion_that_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = str(tmp_path / "lightflow.db")
    flow_folder.write(tmp_path, FLOW)
    for run_id in ("r0", "r1"):
        flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", run_id)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deletion.RunDeletion, "remove_files", killed)
        with pytest.raises(KeyboardInterrupt):
            DagRun.load(db, "r0").delete()
    assert run_ids(db) == ["r1"]
    assert len(names(tmp_path / "logs")) == 4
    found = json.loads(flow_folder.lightflow(tmp_path, "db", "check", "--json").stdout)["findings"]
    assert [each["check"] for each in found if each["verdict"] == "warning"] == ["deletions"]
    flow_folder.lightflow(tmp_path, "prune")
    assert len(names(tmp_path / "logs")) == 2
    assert names(tmp_path / ".lightflow-checkpoints") == ["w.r1.lightflow-checkpoint.json"]


def test_a_request_of_an_altered_file_removes_no_other_file(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    make(db, "r0")
    files = [tmp_path / name for name in ("mine.txt", "w.r0.lightflow-checkpoint.json", "task_x.log.txt")]
    for file in files:
        file.write_text("mine")
    for detail in (json.dumps(list(map(str, files))), '["a', "5", json.dumps([5, None]), None):
        change(
            db,
            "INSERT INTO liteflow_requests (run_id, action, detail, created_at) "
            "VALUES ('../r', 'remove_files', ?, 0.0)",
            detail,
        )
    prune_runs(db)
    assert all(file.exists() for file in files)
    assert find_leftovers(db).requested_files == 0


def request_removals(db: str, logs: Path, requests: int, files: int) -> None:
    """Write logs, and the requests to remove them, as deletions that were cut off leave them."""
    logs.mkdir()
    for number in range(requests):
        paths = [str(logs / f"task_t_20260102_030405_{number:03}{each:03}.log") for each in range(files)]
        for path in paths:
            Path(path).write_text("0")
        change(
            db,
            "INSERT INTO liteflow_requests (run_id, action, detail, created_at) VALUES (?, 'remove_files', ?, 0.0)",
            f"old{number}",
            json.dumps(paths),
        )


def test_the_files_of_many_requests_are_removed_until_the_time_limit(tmp_path: Path) -> None:
    db, logs = str(tmp_path / "lightflow.db"), tmp_path / "logs"
    make(db, "r0")
    request_removals(db, logs, 40, 5)
    prune_runs(db, limit_s=0.0)
    assert len(names(logs)) == find_leftovers(db).requested_files == 200
    prune_runs(db)
    assert names(logs) == []
    assert find_leftovers(db).requested_files == 0


def test_the_time_limit_holds_between_the_files_of_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db, logs = str(tmp_path / "lightflow.db"), tmp_path / "logs"
    make(db, "r0")
    request_removals(db, logs, 1, 500)
    unlink, monotonic, removed = os.unlink, time.monotonic, list[str]()

    def slow_unlink(path: str) -> None:
        removed.append(path)
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", slow_unlink)
        patch.setattr(time, "monotonic", lambda: monotonic() + 60.0 * len(removed))
        prune_runs(db, limit_s=600.0)
    assert 0 < len(removed) < 100
    assert len(names(logs)) == 500 - len(removed)
    prune_runs(db)
    assert names(logs) == []


@BY_HAND
def test_files_stay_until_the_deletion_of_their_rows_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db, logs = str(tmp_path / "lightflow.db"), tmp_path / "logs"
    make(db, "r0", "old0")
    change(db, "UPDATE liteflow_dag_runs SET status='DELETED' WHERE run_id='old0'")
    request_removals(db, logs, 102, 1)
    unlink, unnoted = os.unlink, dict[str, int]()

    def unlink_after_another(path: str) -> None:
        if not unnoted:  # meanwhile another process deletes the last rows of old0
            change(db, "DELETE FROM liteflow_dag_runs WHERE run_id='old0'")
        with contextlib.closing(sqlite3.connect(db)) as connection:
            sql = "SELECT count(*) FROM liteflow_requests WHERE handled_at IS NULL"
            (unnoted[os.path.basename(path)],) = connection.execute(sql).fetchone()
        unlink(path)

    monkeypatch.setattr(os, "unlink", unlink_after_another)
    prune_runs(db)
    assert names(logs) == []
    assert unnoted["task_t_20260102_030405_000000.log"] == 0, "a synced transaction has noted its request before"


def test_files_of_no_run_are_listed_and_removed(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    make(db, "r0")
    value, young = tmp_path / "lightflow.db_xcom/gone" / f"{'0' * 64}.json", tmp_path / "lightflow.db_xcom/r0"
    outputs, mine = tmp_path / "lightflow.db_out-gone", tmp_path / "lightflow.db_xcom/gone/mine.txt"
    for folder in (value.parent, young, outputs):
        folder.mkdir(parents=True)
    value.write_text("1")
    mine.write_text("mine")
    os.utime(value, (0, 0))
    (young / f"{'1' * 64}.json").write_text("a value that gets its row in a moment")
    assert find_leftovers(db).values == [str(value)]
    shown = flow_folder.lightflow(tmp_path, "prune", "--orphans", "--dry-run").stdout
    assert "would delete 2 files of no run" in shown
    assert value.exists()
    assert remove_leftovers(db) == [str(value), str(outputs)]
    assert mine.exists()
    assert names(young) == [f"{'1' * 64}.json"]


def test_containers_that_the_engine_does_not_remove_are_named(tmp_path: Path) -> None:
    """A program that stands in for the client of an engine removes all containers but one."""
    flow_folder.write(tmp_path, FLOW)
    assert flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q", "--run-id", "r1").returncode == 1
    (tmp_path / "containers").write_text("free\tr1\ta\tExited\nstuck\tr1\ta\tDead\nother\tr2\ta\tExited\n")
    (tmp_path / "bin").mkdir()
    client = tmp_path / "bin" / "docker"
    client.write_text(f"""#!/bin/sh
        cd {tmp_path}
        case "$1" in
          ps) cat containers ;;
          rm) grep -v ^free containers > left; mv left containers
              echo "Error response from daemon: stuck: device or resource busy" >&2; exit 1 ;;
        esac
    """)
    client.chmod(0o755)
    env = {"PATH": f"{client.parent}:{os.environ['PATH']}"}
    pruned = flow_folder.lightflow(tmp_path, "prune", "--older-than", "0", "--keep", "0", "--json", extra_env=env)
    report = json.loads(pruned.stdout)
    assert (report["deleted"], report["containers"]) == (1, ["free"])
    assert report["containers_left"].keys() == {"stuck"}
    assert "stuck: device or resource busy" in report["containers_left"]["stuck"]
