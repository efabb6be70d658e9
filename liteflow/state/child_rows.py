"""Child runs as rows: those below a run, and the end of those that no task waits for.

A child run is INTERRUPTED if the process that executed it has ended, and the task of its parent continues it. If that
task is cancelled, marked or set back, nothing does: so the child run is cancelled in the same transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection
from typing import Final

from liteflow.outputs import outputs_dir, remove_folder
from liteflow.state import transitions
from liteflow.state.records import InstanceKey
from liteflow.state.transitions import RunKey
from liteflow.states import RUN_ENDED

#: States of a run that is to be executed further.
_NOT_ENDED: Final = ("PENDING", "RUNNING", "UP_FOR_RETRY", "INTERRUPTED")


def family(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return a run, which need not exist, and the runs that its tasks started, and so on."""
    rows = connection.execute(
        "WITH RECURSIVE family(run_id) AS (VALUES(?) UNION SELECT child.run_id FROM family "
        "JOIN liteflow_dag_runs AS child ON child.parent_run_id=family.run_id) SELECT run_id FROM family",
        (run_id,),
    )
    return [str(name) for (name,) in rows]


def cancel_child_runs(
    connection: sqlite3.Connection, run_id: str, keys: Collection[InstanceKey], reason: str, now: float
) -> None:
    """Cancel the child runs of these instances that have not ended, with all below them.

    The writes of a process that still executes one of them are refused, and it ends.
    """
    rows = connection.execute(
        "SELECT run_id, parent_task_id, parent_map_index FROM liteflow_dag_runs WHERE parent_run_id=? "
        f"AND status IN {_NOT_ENDED}",
        (run_id,),
    ).fetchall()
    for child, task_id, index in rows:
        if (task_id, index) in keys:
            for member in family(connection, child):
                cancel_run(connection, member, reason, now)


def cancel_run(connection: sqlite3.Connection, run_id: str, reason: str, now: float) -> None:
    """Cancel a run that has not ended: its attempts are LOST, and its tasks that have not ended are CANCELLED."""
    run_no, status, epoch = connection.execute(
        "SELECT run_no, status, epoch FROM liteflow_dag_runs WHERE run_id=?", (run_id,)
    ).fetchone()
    if status in _NOT_ENDED:
        cancel_open_run(connection, RunKey(run_no, run_id), status, epoch, reason, now)


def cancel_open_run(
    connection: sqlite3.Connection, run: RunKey, status: str, epoch: int, reason: str, now: float
) -> None:
    """Cancel a run of which some tasks may not have ended."""
    run_no, run_id = run
    transitions.record_lost(connection, run_id, epoch, now)
    transitions.cancel(connection, run_id, reason, now)
    if status not in RUN_ENDED:
        transitions.change_run(connection, run, status, "INTERRUPTED", now, reason="its owner died")
        status = "INTERRUPTED"
    transitions.change_run(connection, run, status, "CANCELLED", now, reason=reason)
    connection.execute("UPDATE liteflow_dag_runs SET epoch=epoch+1 WHERE run_no=?", (run_no,))
    connection.execute("UPDATE liteflow_requests SET handled_at=? WHERE run_id=? AND handled_at IS NULL", (now, run_id))
    (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
    remove_folder(outputs_dir(os.path.realpath(path), run_id))  # in the transaction: the run stays without owner
