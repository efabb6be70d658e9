"""Compare the event log of a state file with its rows, by SQL alone.

`liteflow_events` promises every change of status, written in the transaction of the change. Whatever a test has done to
a run, folding its events must therefore give the statuses in the rows, and each event must continue the one before it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_APPLICATION_ID = 0x4C466C77
_FIRST_VERSION = 3  # older files lack the events of a reset
_MOST_EVENTS = 300_000  # a file with more is compared without the order of its events

#: What an instance, and a run, is before its first event.
_RUNS = "SELECT run_id FROM liteflow_dag_runs r WHERE NOT EXISTS (" + (
    "SELECT 1 FROM liteflow_events d WHERE d.run_id=r.run_id AND d.task_id IS NULL AND d.status='DELETED')"
)

_LAST_EVENTS = """
    SELECT run_id, task_id, map_index, previous, status, attempt, at, max(seq) FROM liteflow_events
    WHERE task_id IS NOT NULL GROUP BY run_id, task_id, map_index
"""

_INSTANCES = f"""
    SELECT i.run_id, i.task_id, i.map_index,
      'is ' || i.status || ' (try ' || i.try_number || ', updated at ' || i.updated_at || '), its last event says '
      || coalesce(e.status || ' (try ' || e.attempt || ', at ' || e.at || ')', 'nothing')
    FROM liteflow_task_instances i LEFT JOIN ({_LAST_EVENTS}) e USING (run_id, task_id, map_index)
    WHERE i.run_id IN ({_RUNS}) AND (
      i.status IS NOT coalesce(e.status, 'PENDING')
      OR i.try_number IS NOT coalesce(e.attempt, 0) OR i.updated_at < coalesce(e.at, 0))
"""

_GONE = f"""
    SELECT e.run_id, e.task_id, e.map_index, 'has no row, and its last event says ' || e.status
    FROM ({_LAST_EVENTS}) e LEFT JOIN liteflow_task_instances i USING (run_id, task_id, map_index)
    WHERE i.status IS NULL AND e.status <> 'REMOVED' AND e.run_id IN ({_RUNS})
"""

_WHOLE_RUNS = f"""
    SELECT r.run_id, '', -1, 'the run is ' || r.status || ', its last event says ' || coalesce(e.status, 'nothing')
    FROM liteflow_dag_runs r LEFT JOIN (
      SELECT run_id, status, max(seq) FROM liteflow_events WHERE task_id IS NULL GROUP BY run_id) e USING (run_id)
    WHERE r.run_id IN ({_RUNS}) AND r.status IS NOT e.status
"""

_CHAIN = f"""
    SELECT run_id, coalesce(task_id, ''), coalesce(map_index, -1),
      'event ' || seq || ' says ' || coalesce(previous, 'nothing') || ' -> ' || status || ' after '
      || coalesce(before, 'nothing')
    FROM (
      SELECT *, lag(status) OVER (PARTITION BY run_id, task_id, map_index ORDER BY seq) AS before FROM liteflow_events)
    WHERE run_id IN ({_RUNS}) AND previous IS NOT
      CASE WHEN task_id IS NULL THEN before WHEN before IS NULL OR before='REMOVED' THEN 'PENDING' ELSE before END
"""


def differences(path: str | Path) -> list[str]:
    """Return where the events of a state file and its rows differ; nothing for what is no readable state file."""
    try:
        connection = sqlite3.connect(f"file:{_quoted(str(path))}?mode=ro", uri=True, timeout=10, isolation_level=None)
    except sqlite3.OperationalError:
        return []  # a path that is too long for SQLite
    try:
        connection.execute("BEGIN")
        application, version = (connection.execute(f"PRAGMA {name}").fetchone() for name in _PRAGMAS)
        tables = connection.execute(
            "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name IN (?,?,?)", _TABLES
        )
        if application != (_APPLICATION_ID,) or version < (_FIRST_VERSION,) or tables.fetchone() != (len(_TABLES),):
            return []
        (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM liteflow_events").fetchone()
        queries = [_WHOLE_RUNS, _INSTANCES, _GONE, *([_CHAIN] if last <= _MOST_EVENTS else [])]
        return [
            f"run {run_id}: {f'{task_id}[{index}]' if index >= 0 else task_id} {text}".replace("  ", " ")
            for query in queries
            for run_id, task_id, index, text in connection.execute(f"{query} LIMIT 5").fetchall()
        ]
    except sqlite3.DatabaseError:
        return []  # damaged on purpose, or not one of ours
    finally:
        connection.close()


def differences_below(folder: Path) -> Iterator[str]:
    """Check every state file below a folder."""
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            if name.endswith(".db") and os.path.isfile(path):  # a test may put a pipe there
                for text in differences(path):
                    yield f"{path}: {text}"


_PRAGMAS = ("application_id", "user_version")
_TABLES = ("liteflow_dag_runs", "liteflow_task_instances", "liteflow_events")  # what a test puts there may be a view


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
