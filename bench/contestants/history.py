"""Fill a state file with many runs: one real run, copied by SQL under other names."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from bench.contestants import kit
from liteflow import Dag

TASKS = 100


def real(path: Path) -> str:
    """Run ten layers of ten tasks, and return the id of the run."""
    dag = Dag("history", str(path))
    row = [dag.task(kit.seed, f"t0_{place}", place=place) for place in range(10)]
    for layer in range(1, TASKS // 10):
        pairs = [kit.parents(place, 10) for place in range(10)]
        row = [dag.task(kit.join, f"t{layer}_{p}", left=row[a], right=row[b]) for p, (a, b) in enumerate(pairs)]
    return dag.run(kit.SLOTS, "thread").raise_for_failure().run_id


def multiply(path: Path, run_id: str, runs: int) -> None:
    """Copy a run many times: the rows of every table that names runs, except numbers that SQLite assigns."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA synchronous=OFF")
    database.execute("CREATE TEMP TABLE numbers AS WITH n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<?)"
                     " SELECT i FROM n", (runs - 1,))  # fmt: skip
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
    with database:
        for table in tables:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            if "run_id" not in columns:
                continue
            kept = [name for name in columns if name not in ("run_no", "seq", "request_no")]
            new = ["run_id || '-' || printf('%05d', i)" if name == "run_id" else name for name in kept]
            database.execute(
                f"INSERT INTO {table} ({', '.join(kept)}) SELECT {', '.join(new)} FROM temp.numbers CROSS JOIN {table} "
                "WHERE run_id = ? ORDER BY i",
                (run_id,),
            )
    found = database.execute("SELECT (SELECT count(*) FROM liteflow_dag_runs), count(*) FROM liteflow_attempts")
    kit.demand(found.fetchone() == (runs, runs * TASKS), "rows are missing")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


if __name__ == "__main__":
    shared = Path(os.environ["BENCH_SHARED"])
    real(shared / "small.db")
    multiply(shared / "large.db", real(shared / "large.db"), int(sys.argv[1]))
