"""Inserts the rows of a new run, within the transaction of the caller."""

from __future__ import annotations

import json
import sqlite3

from liteflow.errors import RunOwned, StoreError
from liteflow.state import transitions
from liteflow.state.records import NewRun
from liteflow.state.state_file import current_folder
from liteflow.state.transitions import RunKey


def insert_run(connection: sqlite3.Connection, path: str, run: NewRun, now: float) -> RunKey:
    """Insert a run with its dag and its graph; its first `change_run` and its tasks follow in the same transaction.

    Raises:
        StoreError: there is a run with its id.
        RunOwned: another process has started it, or its fire was decided otherwise.
    """
    if not transitions.start_fire(connection, run.run_id, now):
        raise RunOwned(f"run {run.run_id} was started, or its fire was decided, by another process")
    connection.execute(
        "INSERT INTO liteflow_dags VALUES (?,?,?,?,?) ON CONFLICT (dag_id) DO UPDATE SET "
        "description=excluded.description, source=excluded.source, updated_at=excluded.updated_at",
        (run.dag_id, run.description, run.source, now, now),
    )
    insert_graph(connection, run.graph_digest, run.graph_snapshot)
    row = {
        "run_id": run.run_id,
        "dag_id": run.dag_id,
        "created_at": now,
        "logical_date": run.logical_date,
        "parent_run_id": None if run.parent is None else run.parent.run_id,
        "parent_task_id": None if run.parent is None else run.parent.task_id,
        "parent_map_index": None if run.parent is None else run.parent.map_index,
        "origin_run_id": run.origin_run_id,
        "params": json.dumps(dict(run.params), default=str),
        "graph_digest": run.graph_digest,
        "source": run.source,
        "cwd": current_folder(),
        "settings": json.dumps(dict(run.settings)),
        "selection": None if run.selected is None else json.dumps(list(run.selected)),
    }
    try:
        run_no = transitions.insert_run(connection, row)
    except sqlite3.IntegrityError:
        raise StoreError(f"{path}: there is a run {run.run_id!r} already; choose another run id") from None
    return RunKey(run_no, run.run_id)


def insert_graph(connection: sqlite3.Connection, digest: str, snapshot: str) -> None:
    """Insert a graph, unless a run has it already."""
    connection.execute("INSERT OR IGNORE INTO liteflow_graphs VALUES (?,?)", (digest, snapshot))
