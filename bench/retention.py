"""`python -m bench retention`: prune a long history while a run continues, and print the figures.

The history is made of real runs of small dags. The run that continues has shell tasks of 50 ms; its time is measured
alone and during a prune, in turns; the median of the ratios counts.
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
        db = os.path.join(folder, "state.db")
        make_history(db, runs)
        before = os.path.getsize(db)
        took, cpu, ratios, share = 0.0, 0.0, list[float](), (runs - newest) // ROUNDS
        for turn in range(ROUNDS):
            live = start_live(db)
            alone = float(live.communicate("\n")[0])
            live = start_live(db)
            left = newest if turn == ROUNDS - 1 else runs - share * (turn + 1)
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
    print(f"{runs:,} runs pruned to {newest:,}: {took:.1f} s (goal 30 s), {cpu:.1f} s of CPU")
    print(f"time of another run meanwhile: {statistics.median(ratios):.2f} times (goal 1.1 times)")
    print(f"state file: {before / 1024**2:.1f} MiB, then {after / 1024**2:.1f} MiB")
    return int(took > 30 or statistics.median(ratios) > 1.1 or after > before / 4)
