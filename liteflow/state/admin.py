"""Writes of processes that own no run: requests, values, pools, and cancelling a run whose owner is dead.

Each is one short transaction on a connection of its own.
"""

from __future__ import annotations

import os
import sqlite3
import time

from liteflow.errors import RunNotFound, RunOwned
from liteflow.state.answers import ANSWER, StoredAnswer
from liteflow.state.child_rows import cancel_open_run, cancel_run, family
from liteflow.state.locks import LockFile
from liteflow.state.records import Request
from liteflow.state.state_file import Transaction, connect, real_path, translated_errors
from liteflow.state.transitions import RunKey
from liteflow.values.payload import Payload, spill_root


def request(path: str, run_id: str, action: str, detail: str | None = None) -> None:
    """Send a request to the owner of a run, which sees it within a quarter of a second."""
    with StateWriter(path) as connection:
        connection.execute(
            "INSERT INTO liteflow_requests (run_id, action, detail, created_at) VALUES (?,?,?,?)",
            (run_id, action, detail, time.time()),
        )


def send_answer(path: str, run_id: str, answer: StoredAnswer) -> tuple[int, StoredAnswer | None]:
    """Send an answer to the owner of a run, or to the next one where there is none. The first answer counts.

    Returns the number of the request, and an earlier answer to the same attempt: then nothing was sent.

    Raises:
        RunNotFound: the instance does not wait in this attempt.
    """
    key = (run_id, answer.task_id, answer.map_index)
    with StateWriter(path) as connection:
        earlier = [
            (number, StoredAnswer.of(Request(number, ANSWER, detail)))
            for number, detail in connection.execute(
                "SELECT request_no, detail FROM liteflow_requests WHERE run_id=? AND action=? ORDER BY request_no",
                (run_id, ANSWER),
            ).fetchall()
        ]
        for number, other in earlier:
            if other.attempt_key == answer.attempt_key:
                return number, other
        row = connection.execute(
            "SELECT status, try_number FROM liteflow_task_instances WHERE run_id=? AND task_id=? AND map_index=?", key
        ).fetchone()
        if row != ("WAITING", answer.attempt):
            raise RunNotFound(f"{path}: it no longer waits" if row else f"{path}: there is no such task")
        cursor = connection.execute(
            "INSERT INTO liteflow_requests (run_id, action, detail, created_at) VALUES (?,?,?,?)",
            (run_id, ANSWER, answer.to_text(), answer.at),
        )
        return int(cursor.lastrowid or 0), None


def save_value(path: str, run_id: str, task_id: str, key: str, payload: Payload, map_index: int = -1) -> None:
    """Store a value from outside the loop (`XCom.save`)."""
    file = None if payload.file is None else os.path.relpath(payload.file, spill_root(path))
    row = (run_id, task_id, map_index, key, payload.encoding, payload.data, payload.size, file, payload.sha256)
    with StateWriter(path) as connection:
        connection.execute("INSERT OR REPLACE INTO liteflow_xcom VALUES (?,?,?,?,?,?,?,?,?,?)", (*row, time.time()))


def save_dag(path: str, dag_id: str, description: str, source: str | None) -> None:
    """Record a dag's metadata without a run."""
    now = time.time()
    with StateWriter(path) as connection:
        connection.execute(
            "INSERT INTO liteflow_dags VALUES (?,?,?,?,?) ON CONFLICT (dag_id) DO UPDATE SET "
            "description=excluded.description, source=excluded.source, updated_at=excluded.updated_at",
            (dag_id, description, source, now, now),
        )


def cancel_interrupted(path: str, run_id: str, reason: str) -> None:
    """Cancel a run whose owner is dead: its attempts are LOST, and its tasks that have not ended are CANCELLED.

    So are its child runs that have not ended.

    Raises:
        RunNotFound, RunOwned: see `Store.claim`; nothing was cancelled.
    """
    with StateWriter(path) as connection:
        now = time.time()
        run, status, epoch = lock_out(connection, path, run_id)
        cancel_open_run(connection, run, status, epoch, reason, now)
        for child in family(connection, run_id)[1:]:
            lock_out(connection, path, child)
            cancel_run(connection, child, f"its parent run was {reason}", now)


def exclude_from_resume(path: str, dag_id: str) -> int:
    """Exclude the unfinished runs of a dag from "resume the latest run". Returns how many there were.

    The runs stay in the history, and can be resumed by their id.
    """
    with StateWriter(path) as connection:
        return connection.execute(
            "UPDATE liteflow_dag_runs SET resumable=0 WHERE dag_id=? AND resumable AND status<>'SUCCESS'", (dag_id,)
        ).rowcount


def set_pool(path: str, name: str, slots: int, description: str | None = None) -> None:
    """Create a pool or set its size, which then overrides that of workflows; 0 slots: it is paused."""
    with StateWriter(path) as connection:
        connection.execute(
            "INSERT INTO liteflow_pools VALUES (?,?,coalesce(?,''),1,?) ON CONFLICT DO UPDATE SET "
            "slots=excluded.slots, by_hand=1, updated_at=excluded.updated_at, description=coalesce(?, description)",
            (name, slots, description, time.time(), description),
        )


def delete_pool(path: str, name: str) -> bool:
    """Delete a pool; the next run that declares it creates it again. Returns whether there was one.

    Raises:
        RunOwned: tasks hold slots of it, or are queued for some.
    """
    with StateWriter(path) as connection:
        rows = connection.execute("SELECT DISTINCT run_no, run_id FROM liteflow_slots WHERE pool=?", (name,)).fetchall()
        locks = LockFile(os.path.realpath(path), read_only=True)
        try:
            for run_no, run_id in rows:
                if locks.is_held(run_no):
                    raise RunOwned(f"pool {name!r} is in use by run {run_id}; wait for its end, or cancel it")
        finally:
            locks.close()
        return bool(connection.execute("DELETE FROM liteflow_pools WHERE name=?", (name,)).rowcount)


def lock_out(connection: sqlite3.Connection, path: str, run_id: str) -> tuple[RunKey, str, int]:
    """Return a run, its status and its epoch; no live process owns it while this transaction lasts."""
    row = connection.execute(
        "SELECT run_no, status, epoch, owner_pid, owner_host FROM liteflow_dag_runs WHERE run_id=?", (run_id,)
    ).fetchone()
    if row is None:
        raise RunNotFound(f"{path}: there is no run {run_id!r}")
    run_no, status, epoch, pid, host = row
    if status == "DELETED":
        raise RunNotFound(f"{path}: run {run_id!r} is deleted; delete it again to remove what is left")
    locks = LockFile(path, read_only=True)
    try:
        if locks.is_held(run_no):
            raise RunOwned(f"run {run_id} is owned by process {pid} on {host}, which is still running; cancel it first")
    finally:
        locks.close()
    return RunKey(run_no, run_id), str(status), int(epoch)


class StateWriter:
    """A connection for one transaction."""

    def __init__(self, path: str) -> None:
        self._path = real_path(path)

    def __enter__(self) -> sqlite3.Connection:
        self._locks = LockFile(self._path)
        try:
            self._connection = connect(self._path)
            self._transaction = Transaction(self._connection, self._locks)
            with translated_errors(self._path):
                self._transaction.__enter__()
        except BaseException:
            self._locks.close()
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        try:
            with translated_errors(self._path):
                self._transaction.__exit__(kind, value, trace)
                if isinstance(value, sqlite3.Error):
                    raise value
        finally:
            self._connection.close()
            self._locks.close()
