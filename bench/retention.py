"""`python -m bench retention`: prune a long history while a run continues, and print the figures.

The history is made of real runs of small dags. The run that continues has shell tasks of 50 ms; its time is measured
alone and during a prune, in turns; the median of the ratios counts. The time of the prune is also compared with that of
the same work without care: one `DELETE` for each table and an `unlink` for each log, on a second history on the same
disk, in the same minutes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from liteflow import Dag, Retention
from liteflow.api import prune_runs

TASKS_OF_LIVE_RUN = 400
ROUNDS = 3


def make_history(db: str, runs: int) -> None:
    """Make a history of runs by copying the rows of a real run, which a run for each would take an hour to make."""
    import sqlite3

    with Dag("nightly", db) as dag:
        for number in range(10):
            dag.shell(f"echo {number}", task_id=f"t{number}")
    logs = Path(db).parent / "logs"
    dag.run(run_id="r00000", log_dir=str(logs))
    connection = sqlite3.connect(db)
    tables = ("dag_runs", "task_instances", "attempts", "xcom", "events")
    for number in range(1, runs):
        name = f"r{number:05}"
        for table in tables:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info(liteflow_{table})")]
            columns = [name for name in names if name not in ("run_no", "seq")]
            values = {"run_id": ":run_id", "log_path": "replace(log_path, '.log', :end)"}
            chosen = [values.get(column, column) for column in columns]
            connection.execute(
                f"INSERT INTO liteflow_{table} ({', '.join(columns)}) SELECT {', '.join(chosen)} "
                f"FROM liteflow_{table} WHERE run_id='r00000'",
                {"run_id": name, "end": f"_{number}.log"},
            )
        for (path,) in connection.execute("SELECT log_path FROM liteflow_attempts WHERE run_id=?", (name,)):
            if path is not None:
                Path(path).write_text("0\n", encoding="utf-8")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


LIVE = """
import sys, time
from liteflow import Dag
with Dag("live", sys.argv[1]) as dag:
    for number in range(int(sys.argv[2])):
        dag.shell("sleep 0.05", task_id=f"t{number}")
print("ready", flush=True)
sys.stdin.readline()
began = time.monotonic()
run = dag.run(max_workers=4)
assert run.status == "SUCCESS"
print(time.monotonic() - began, flush=True)
"""


def delete_plainly(db: str, newest: int) -> None:
    """Delete the runs that are not the newest, with their logs, in one transaction and without any promise."""
    import sqlite3

    connection = sqlite3.connect(db, isolation_level=None)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "CREATE TEMP TABLE old AS SELECT run_id FROM liteflow_dag_runs ORDER BY run_no DESC LIMIT -1 OFFSET ?",
        (newest,),
    )
    logs = connection.execute(
        "SELECT log_path FROM liteflow_attempts WHERE run_id IN old AND log_path IS NOT NULL"
    ).fetchall()
    for table in ("events", "attempts", "xcom", "task_instances", "dag_runs"):
        connection.execute(f"DELETE FROM liteflow_{table} WHERE run_id IN old")
    connection.execute("COMMIT")
    for (path,) in logs:
        os.unlink(path)
    connection.executescript("PRAGMA incremental_vacuum")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def start_live(db: str) -> subprocess.Popen[str]:
    """Start a program that waits for a line, then runs a dag and prints its seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE, db, str(TASKS_OF_LIVE_RUN)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def main(runs: int = 10_000, newest: int = 500) -> int:
    """Measure, print, and return 1 if a goal is missed."""
    with tempfile.TemporaryDirectory() as folder:
        db, twin = (os.path.join(folder, name, "state.db") for name in ("pruned", "plain"))
        for path in (db, twin):
            os.mkdir(os.path.dirname(path))
            make_history(path, runs)
        before = os.path.getsize(db)
        took, cpu, plain, ratios = 0.0, 0.0, 0.0, list[float]()
        for turn in range(ROUNDS):
            left = newest + (runs - newest) * (ROUNDS - 1 - turn) // ROUNDS
            began = time.monotonic()
            delete_plainly(twin, left)
            plain += time.monotonic() - began
            live = start_live(db)
            alone = float(live.communicate("\n")[0])
            live = start_live(db)
            assert live.stdin is not None
            live.stdin.write("\n")
            live.stdin.flush()
            began, cpu_began = time.monotonic(), time.process_time()
            pruned = prune_runs(db, Retention(runs=left), "nightly")
            took, cpu = took + time.monotonic() - began, cpu + time.process_time() - cpu_began
            together = float(live.communicate()[0])
            ratios.append(together / alone)
            print(f"round {turn + 1}: {len(pruned.runs['nightly']):,} runs; live run {alone:.2f} s, {together:.2f} s")
        after = os.path.getsize(db)
    print(f"{runs:,} runs pruned to {newest:,}: {took:.1f} s (goal 30 s), {cpu:.1f} s of CPU; plain {plain:.1f} s")
    print(f"time of another run meanwhile: {statistics.median(ratios):.2f} times (goal 1.1 times)")
    print(f"state file: {before / 1024**2:.1f} MiB, then {after / 1024**2:.1f} MiB; load {os.getloadavg()[0]:.0f}")
    return int(took > 30 or statistics.median(ratios) > 1.1 or after > before / 4)
