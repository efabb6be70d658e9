"""Harness of R19: a prune is killed at the entry of each of its writes, syncs, truncations and unlinks.

    python tests/crash/prune_kill.py FOLDER --points 60 --seed 7 [--control files_first]

After each kill no row names a file that does not exist, and the newest runs have all their files. The next prune
completes the deletion: nothing of a deleted run is left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from boundaries import calls_of, kill_at, until_killed
from crashkit import as_harness, fork, report, wait_for

from liteflow.limits import Retention
from liteflow.state.deletion import RunDeletion
from liteflow.state.retention import prune_runs
from liteflow.state.transitions import RunKey

CALLS = "pwrite64,fdatasync,fsync,ftruncate,unlink,rmdir"
RUNS = 6
NEWEST = 2
FLOW = {
    "workflow_name": "w",
    "tasks": {
        "a": {"run": "echo a; echo n=1 >> $LIGHTFLOW_OUTPUT"},
        "m": {"foreach": [1, 2, 3], "run": "echo ${{ item }}"},
        "b": {"depends_on": "a", "run": "echo b; exit 1", "on_failure": "echo hook"},
    },
}


def make(folder: str) -> None:
    """Make runs with logs, values, a large value and a checkpoint each."""
    os.chdir(folder)
    Path("flow.json").write_text(json.dumps(FLOW), encoding="utf-8")
    for number in range(RUNS):
        words = ["run", "flow.json", "-q", "--db", "state.db", "--run-id", f"r{number}"]
        done = subprocess.run([sys.executable, "-m", "lightflow", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
    connection = sqlite3.connect("state.db")
    for number in range(RUNS):
        name = f"r{number}/{number:064x}.json"
        os.makedirs(f"state.db_xcom/r{number}")
        Path(f"state.db_xcom/{name}").write_text("1", encoding="utf-8")
        row = (f"r{number}", "a", -1, "large", "json", None, 1, name, "0" * 64, 0.0)
        connection.execute("INSERT INTO liteflow_xcom VALUES (?,?,?,?,?,?,?,?,?,?)", row)
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def prune() -> None:
    prune_runs("state.db", Retention(runs=NEWEST))


def files_first() -> None:
    """Remove the files before the rows, as a deletion must not."""
    delete = RunDeletion.delete

    def backwards(
        self: RunDeletion, families: Iterable[Sequence[tuple[RunKey, str]]], dag_id: str | None = None
    ) -> bool:
        def without_files() -> Iterator[Sequence[tuple[RunKey, str]]]:
            for runs in families:
                for run, _ in runs:
                    shutil.rmtree(f"state.db_xcom/{run.run_id}", ignore_errors=True)
                yield runs

        return delete(self, without_files(), dag_id)

    RunDeletion.delete = backwards  # type: ignore[method-assign]


def look(counts: Counter[str]) -> None:
    """Compare the rows with the files, from outside."""
    connection = sqlite3.connect("state.db")
    counts["corrupt"] += connection.execute("PRAGMA integrity_check").fetchone() != ("ok",)
    named = connection.execute("SELECT log_path FROM liteflow_attempts WHERE log_path IS NOT NULL").fetchall()
    named += connection.execute("SELECT 'state.db_xcom/' || file FROM liteflow_xcom WHERE file IS NOT NULL").fetchall()
    named += [
        (f".lightflow-checkpoints/w.{run_id}.lightflow-checkpoint.json",)
        for (run_id,) in connection.execute("SELECT run_id FROM liteflow_dag_runs")
    ]
    counts["missing"] += sum(not os.path.exists(path) for (path,) in named)
    newest = connection.execute(
        "SELECT count(*) FROM liteflow_dag_runs WHERE status='FAILED' AND run_id IN ('r4', 'r5')"
    ).fetchone()
    counts["lost"] += newest != (NEWEST,)
    connection.close()


def look_at_the_end(counts: Counter[str]) -> None:
    """Check that nothing of a deleted run is left, in rows and files."""
    look(counts)
    connection = sqlite3.connect("state.db")
    counts["rows"] += connection.execute("SELECT count(*) FROM liteflow_dag_runs").fetchone() != (NEWEST,)
    counts["rows"] += connection.execute("SELECT count(*) FROM liteflow_requests").fetchone() != (0,)
    logs = connection.execute("SELECT count(*) FROM liteflow_attempts WHERE log_path IS NOT NULL").fetchone()[0]
    counts["files"] += abs(len(os.listdir("logs")) - logs)
    counts["files"] += abs(len(os.listdir("state.db_xcom")) - NEWEST)
    counts["files"] += abs(len(os.listdir(".lightflow-checkpoints")) - NEWEST)
    connection.close()


def restore(folder: str) -> None:
    os.chdir("/")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(f"{folder}-template", folder)  # to the same path: the rows name the logs by it
    os.chdir(folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--points", type=int, default=0, help="how many; 0: all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--control", choices=["files_first"])
    options = parser.parse_args()
    began = time.monotonic()
    counts: Counter[str] = Counter()
    if options.control:
        files_first()
    with as_harness(limit_s=1800):
        work = f"{os.path.realpath(options.folder)}/work"
        os.mkdir(work)
        make(work)
        shutil.copytree(work, f"{work}-template")
        points, total = calls_of(prune, CALLS, options.points, random.Random(options.seed))

        def strike(call: str, number: int) -> int | None:
            restore(work)
            code = kill_at(prune, call, number)
            counts["kills" if code == -9 else "not_reached"] += 1
            look(counts)
            counts["crashed"] += wait_for(fork(prune)) != 0
            look_at_the_end(counts)
            return code

        for call, number in points:
            until_killed(strike, call, number)
    kinds = ("kills", "not_reached", "corrupt", "missing", "lost", "crashed", "rows", "files")
    report(**{kind: counts[kind] for kind in kinds}, worst_of=total, worst_seconds=time.monotonic() - began)


if __name__ == "__main__":
    main()
