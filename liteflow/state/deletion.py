"""Deletes runs, with all files that belong to them: logs, large values, output files, checkpoint files.

While a run is deleted its lock is held, so no process can take it over. The event DELETED comes first and stays. The
files are deleted first, then the rows, and the row of the run last: a deletion that was cut off can be repeated. It
uses short transactions with pauses between them, so that running runs do not wait. The free pages are given back to the
disk in the same way, if the file was created for that (`auto_vacuum=INCREMENTAL`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from liteflow.errors import RunNotFound, RunOwned
from liteflow.identifiers import CHECKPOINT_DIR, LOG_NAME_PATTERN, STORED_ID_PATTERN, check_run_id, checkpoint_name
from liteflow.outputs import outputs_dir, remove_folder
from liteflow.state.locks import LockFile
from liteflow.state.state_file import Transaction, checkpoint_wal, connect, real_path, translated_errors
from liteflow.state.transitions import RunKey, mark_deleted
from liteflow.values.payload import remove_values

_TRANSACTION_S: Final = 0.1  # how long a transaction may take
_PAUSE_S: Final = 0.03  # longer than the sleep of a writer that waits for the lock
_ROWS: Final = 1000  # rows at a time
_BYTES: Final = 8 * 1024 * 1024  # of values at a time
_PAGES: Final = 500  # to give back at a time

#: A run's rows in tables that its status does not depend on: table, key, and what stays.
_HISTORY: Final = (
    ("events", "seq", " AND status<>'DELETED'"),
    ("requests", "request_no", ""),
    ("attempts", "task_id, map_index, attempt", ""),
    ("undos", "task_id, map_index, attempt", ""),
)


def delete_runs(path: str, run_ids: Iterable[str], dag_id: str | None = None) -> None:
    """Delete runs with all that belongs to them, and the dag's own row when `dag_id` is given.

    Raises:
        RunNotFound: one of them does not exist; nothing was deleted.
        RunOwned: one of them is still running; nothing was deleted.
    """
    path = real_path(path)
    locks = LockFile(path)
    try:
        connection = connect(path)
        try:
            with translated_errors(path):
                _Deletion(path, connection, locks).run(list(run_ids), dag_id)
        finally:
            connection.close()
    finally:
        locks.close()


class _Deletion:
    """The deletion of some runs on one connection."""

    def __init__(self, path: str, connection: sqlite3.Connection, locks: LockFile) -> None:
        self._path = path
        self._connection = connection
        self._locks = locks

    def run(self, run_ids: Sequence[str], dag_id: str | None) -> None:
        """Delete the runs."""
        now = time.time()
        with Transaction(self._connection, self._locks):
            for run_id in run_ids:
                run, status = self._take(run_id)
                mark_deleted(self._connection, run, status, now)
            self._connection.executemany(
                "UPDATE liteflow_dag_runs SET resumable=0, epoch=epoch+1 WHERE run_id=?",
                [(run_id,) for run_id in run_ids],
            )
        for run_id in run_ids:
            remove_files(self._path, run_id, self._connection)
        self._in_transactions(self._steps(run_ids, dag_id))
        self._in_transactions(self._give_back())

    def _take(self, run_id: str) -> tuple[RunKey, str]:
        """Own the run, so that no other process can while it is deleted. Returns it, and its status."""
        sql = "SELECT run_no, status, owner_pid, owner_host FROM liteflow_dag_runs WHERE run_id=?"
        row = self._connection.execute(sql, (run_id,)).fetchone()
        if row is None:
            raise RunNotFound(f"{self._path}: there is no run {run_id!r}")
        check_run_id(run_id)
        run_no, status, pid, host = row
        if run_no > 0 and not self._locks.acquire(run_no):
            raise RunOwned(f"run {run_id} is owned by process {pid} on {host}, which is still running; cancel it first")
        return RunKey(run_no, run_id), str(status)

    def _in_transactions(self, steps: Iterator[None]) -> None:
        """Do the steps, as many in each transaction as its time allows."""
        over = False
        while not over:
            ends = time.monotonic() + _TRANSACTION_S
            with Transaction(self._connection, self._locks):
                over = next(steps, steps) is steps
                while not over and time.monotonic() < ends:
                    over = next(steps, steps) is steps
            checkpoint_wal(self._connection, self._path, self._locks)
            if not over:
                pause()

    def _steps(self, run_ids: Sequence[str], dag_id: str | None) -> Iterator[None]:
        execute, graphs = self._connection.execute, set[tuple[str]]()
        for run_id in run_ids:
            yield from self._values(run_id)
            for table, key, but in _HISTORY:
                sql = (
                    f"DELETE FROM liteflow_{table} WHERE run_id=:run_id AND ({key}) IN "
                    f"(SELECT {key} FROM liteflow_{table} WHERE run_id=:run_id{but} LIMIT {_ROWS})"
                )
                while execute(sql, {"run_id": run_id}).rowcount == _ROWS:
                    yield
            graphs.update(execute("SELECT graph_digest FROM liteflow_dag_runs WHERE run_id=?", (run_id,)).fetchall())
            for table in ("slots", "task_instances", "dag_runs"):
                execute(f"DELETE FROM liteflow_{table} WHERE run_id=?", (run_id,))
            yield
        self._connection.executemany(
            "DELETE FROM liteflow_graphs WHERE digest=:digest AND "
            "NOT EXISTS (SELECT 1 FROM liteflow_dag_runs WHERE graph_digest=:digest)",
            [{"digest": digest} for (digest,) in graphs],
        )
        if dag_id is not None:
            execute("DELETE FROM liteflow_dags WHERE dag_id=?", (dag_id,))

    def _values(self, run_id: str) -> Iterator[None]:
        """Delete the values, a few large or many small ones at a time."""
        execute = self._connection.execute
        while rows := execute(
            f"SELECT task_id, map_index, key, size FROM liteflow_xcom WHERE run_id=? LIMIT {_ROWS}", (run_id,)
        ).fetchall():
            size = 0
            for task_id, map_index, key, each in rows:
                execute(
                    "DELETE FROM liteflow_xcom WHERE run_id=? AND task_id=? AND map_index=? AND key=?",
                    (run_id, task_id, map_index, key),
                )
                size += each
                if size >= _BYTES:
                    break
            yield

    def _give_back(self) -> Iterator[None]:
        """Give the free pages of the file back to the disk. A file of an earlier version keeps them for later rows."""
        execute = self._connection.execute
        if execute("PRAGMA auto_vacuum").fetchone() != (2,):
            return
        left = execute("PRAGMA freelist_count").fetchone()[0]
        while left > 0:
            for _ in range(min(left, _PAGES)):
                execute("PRAGMA incremental_vacuum(1)")  # of a larger number, `sqlite3` does the first step only
            before, left = left, execute("PRAGMA freelist_count").fetchone()[0]
            if left >= before:
                return
            yield


def pause() -> None:
    """Let other processes write."""
    time.sleep(_PAUSE_S)


def remove_files(path: str, run_id: str, connection: sqlite3.Connection) -> None:
    """Remove the files of a run; of its logs and folders only those with names that Lightflow gives."""
    dag_id, cwd, text = connection.execute(
        "SELECT dag_id, cwd, settings FROM liteflow_dag_runs WHERE run_id=?", (run_id,)
    ).fetchone()
    sql = (
        "SELECT task_id, log_path FROM liteflow_attempts WHERE run_id=:run_id AND log_path IS NOT NULL UNION "
        "SELECT task_id, log_path FROM liteflow_task_instances WHERE run_id=:run_id AND log_path IS NOT NULL"
    )
    for task_id, log_path in connection.execute(sql, {"run_id": run_id}).fetchall():
        name = os.path.basename(log_path)
        if LOG_NAME_PATTERN.match(name) and name.startswith((f"task_{task_id}_", f"task_{task_id}.")):
            _remove(log_path)
    remove_values(path, run_id)
    remove_folder(outputs_dir(path, run_id))
    if STORED_ID_PATTERN.match(dag_id):
        for folder in _checkpoint_folders(cwd, text):
            _remove(os.path.join(folder, checkpoint_name(dag_id, run_id)))


def _checkpoint_folders(cwd: str | None, settings: str) -> set[str]:
    """Return the folders in which the run may have a checkpoint file; earlier versions did not store the folder."""
    try:
        stored: Any = json.loads(settings).get("checkpoint_dir")
    except (ValueError, AttributeError, RecursionError):
        stored = None
    if isinstance(stored, str):
        return {stored}
    return set() if cwd is None else {os.path.join(cwd, CHECKPOINT_DIR)}


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except (OSError, ValueError):
        return  # it does not exist
