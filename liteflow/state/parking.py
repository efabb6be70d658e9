"""Parked runs: nothing but long waits is left of them, and no process runs them until one of these is due.

A parked run has an open request to itself. It is handled when the run ends in another way, so a run whose next process
is killed is still parked.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Final, NamedTuple

from liteflow.record import Record
from liteflow.state.answers import ANSWER

#: The action of the request.
WAKE: Final = "wake"

PARKED_SQL: Final = f"""
SELECT run.run_id, run.dag_id, run.source, run.cwd, request.detail, EXISTS (
  WITH RECURSIVE family(run_id) AS (
    SELECT run.run_id UNION
    SELECT child.run_id FROM family JOIN liteflow_dag_runs AS child ON child.parent_run_id=family.run_id)
  SELECT 1 FROM liteflow_requests AS other JOIN family USING (run_id)
  WHERE other.action='{ANSWER}' AND other.handled_at IS NULL)
FROM liteflow_requests AS request JOIN liteflow_dag_runs AS run USING (run_id)
WHERE request.action='{WAKE}' AND request.handled_at IS NULL AND run.parent_run_id IS NULL ORDER BY request.request_no
"""

#: An attempt that runs, or will soon, in a run, in the runs above it, or in a child run of one of those. (A mapped task
#: as a whole has no attempts.)
BUSY_FAMILY_SQL: Final = """
WITH RECURSIVE line(run_id, parent) AS (
    SELECT run_id, parent_run_id FROM liteflow_dag_runs WHERE run_id=? UNION
    SELECT above.run_id, above.parent_run_id FROM line JOIN liteflow_dag_runs AS above ON above.run_id=line.parent),
  family(run_id) AS (
    SELECT run_id FROM line UNION
    SELECT child.run_id FROM family JOIN liteflow_dag_runs AS child ON child.parent_run_id=family.run_id)
SELECT 1 FROM family JOIN liteflow_task_instances AS instance USING (run_id)
WHERE instance.status IN ('RUNNING', 'QUEUED', 'UP_FOR_RETRY') AND instance.try_number > 0 LIMIT 1
"""

#: Those of some child runs, which are named by a JSON list, that are not as they were when they parked.
DUE_CHILD_RUNS_SQL: Final = f"""
WITH RECURSIVE below(run_id, top) AS (
    SELECT value, value FROM json_each(?) UNION
    SELECT child.run_id, below.top FROM below JOIN liteflow_dag_runs AS child ON child.parent_run_id=below.run_id)
SELECT top FROM below JOIN liteflow_requests AS request USING (run_id)
WHERE request.action='{ANSWER}' AND request.handled_at IS NULL
UNION SELECT run_id FROM below JOIN liteflow_dag_runs AS run USING (run_id) WHERE run_id=top AND status<>'INTERRUPTED'
"""


class ParkedUntil(NamedTuple):
    """The time at which a parked run is due."""

    wake_at: float | None  # epoch seconds; None: after a decision only

    @classmethod
    def of(cls, detail: str | None) -> ParkedUntil:
        """Return what a request stores; where it was altered, there is no time."""
        try:
            value = json.loads(detail or "null")
        except (ValueError, RecursionError):
            value = None
        return cls(float(value) if isinstance(value, int | float) else None)

    def write(self, connection: sqlite3.Connection, run_id: str, now: float) -> None:
        """Store the request."""
        connection.execute(
            "INSERT INTO liteflow_requests (run_id, action, detail, created_at) VALUES (?,?,?,?)",
            (run_id, WAKE, json.dumps(self.wake_at), now),
        )


class ParkedRun(Record):
    """A parked run; a process may already run it again."""

    run_id: str
    dag_id: str
    source: str | None  #: the workflow file
    cwd: str | None
    wake_at: float | None  #: epoch seconds; None: after a decision only
    has_answer: bool  #: whether a person has decided meanwhile

    def is_due(self, now: float) -> bool:
        """Return whether the run can continue."""
        return self.has_answer or (self.wake_at is not None and self.wake_at <= now)


def parked_run(
    run_id: str, dag_id: str, source: str | None, cwd: str | None, detail: str | None, has_answer: int
) -> ParkedRun:
    """Return a parked run from a row; where the request was altered, it is due at no time."""
    wake_at = ParkedUntil.of(detail).wake_at
    return ParkedRun(run_id=run_id, dag_id=dag_id, source=source, cwd=cwd, wake_at=wake_at, has_answer=bool(has_answer))
