"""Deletes runs, with all files that belong to them: logs, large values, output files, checkpoint files.

While a run is deleted its lock is held, so no process can take it over. The event DELETED comes first and stays. Then
the rows are deleted, that of the run last, and then the files: no row names a file that was deleted. The transactions
that delete rows store the names of the files as requests, so that the next deletion removes the files of a deletion
that was cut off. The transactions are short, with pauses between them, so that running runs do not wait. The free pages
are given back to the disk in the same way, if the file was created for that (`auto_vacuum=INCREMENTAL`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from liteflow.errors import RunNotFound, RunOwned
from liteflow.identifiers import (
    CHECKPOINT_DIR,
    CHECKPOINT_SUFFIX,
    LOG_NAME_PATTERN,
    STORED_ID_PATTERN,
    check_run_id,
    checkpoint_name,
)
from liteflow.outputs import outputs_dir, remove_folder
from liteflow.state.child_rows import family
from liteflow.state.locks import LockFile
from liteflow.state.state_file import Transaction, checkpoint_wal, connect, real_path, translated_errors
from liteflow.state.transitions import RunKey, mark_deleted
from liteflow.values.payload import remove_values

_TRANSACTION_S: Final = 0.02  # how long a transaction may take
#: How long the pause after a transaction is, in times of the transaction, and in seconds at most. A writer that waits
#: for the lock sleeps about as long as it has waited, and 20 ms at most.
_PAUSE_TIMES: Final = 1.5
_LONGEST_PAUSE_S: Final = 0.03
_STEPS: Final = 1000  # most of them delete the rows of a run; then their files are removed
_ROWS: Final = 1000  # rows at a time
_FILES: Final = 1000  # files of a request
_BYTES: Final = 8 * 1024 * 1024  # of values at a time
_PAGES: Final = 500  # to give back at a time
_CALLS: Final = 50  # that remove files, for a thread to be worth it
_THREADS: Final = 16
_REQUESTS: Final = 100  # whose files are removed between two transactions
_SYNCED_REQUESTS: Final = 1000  # whose files are removed after a sync
#: Selects the requests whose files may be removed, from `liteflow_requests AS request`.
_DUE: Final = (
    "action='remove_files' AND NOT EXISTS (SELECT 1 FROM liteflow_dag_runs AS run "
    "WHERE run.run_id=request.run_id AND run.status='DELETED')"
)
#: the action of the requests to remove the files of a run whose rows are deleted
REMOVE_FILES: Final = "remove_files"

#: A run's rows in tables that its status does not depend on: table, key, and what stays.
_HISTORY: Final = (
    ("events", "seq", " AND status<>'DELETED'"),
    ("requests", "request_no", f" AND action<>'{REMOVE_FILES}'"),
    ("attempts", "task_id, map_index, attempt", ""),
    ("undos", "task_id, map_index, attempt", ""),
)
_LOGS: Final = (
    "SELECT task_id, log_path FROM liteflow_attempts WHERE run_id=:run_id AND log_path IS NOT NULL UNION "
    "SELECT task_id, log_path FROM liteflow_task_instances WHERE run_id=:run_id AND log_path IS NOT NULL"
)


def delete_runs(path: str, run_ids: Iterable[str], dag_id: str | None = None) -> None:
    """Delete runs with their child runs and all that belongs to them; with `dag_id` also the row of the dag.

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
                deletion = RunDeletion(path, connection, locks)
                deletion.delete(_locked_runs(deletion, connection, run_ids), dag_id)
                deletion.give_back()
        finally:
            connection.close()
    finally:
        locks.close()


def _locked_runs(
    deletion: RunDeletion, connection: sqlite3.Connection, run_ids: Iterable[str]
) -> Iterator[list[tuple[RunKey, str]]]:
    names = dict.fromkeys(name for run_id in run_ids for name in family(connection, run_id))
    yield [deletion.take(run_id) for run_id in names]


def forks_of(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return the forks of a run, whose rows name logs of that run."""
    rows = connection.execute("SELECT run_id FROM liteflow_dag_runs WHERE origin_run_id=? ORDER BY run_no", (run_id,))
    return [str(fork) for (fork,) in rows]


class RunDeletion:
    """Deletes runs on one connection, until its deadline (of the monotonic clock); the rest stays for the next."""

    def __init__(
        self, path: str, connection: sqlite3.Connection, locks: LockFile, *, deadline: float = math.inf
    ) -> None:
        self._path = path
        self._connection = connection
        self._locks = locks
        self._deadline = deadline
        self._next_at = 0.0  # when the next transaction may begin, of the monotonic clock
        connection.execute("PRAGMA secure_delete=FAST")  # ON, as in Debian, writes each free page

    def take(self, run_id: str) -> tuple[RunKey, str]:
        """Own the run, so that no other process can while it is deleted. Return it, and its status."""
        sql = "SELECT run_no, status, owner_pid, owner_host FROM liteflow_dag_runs WHERE run_id=?"
        row = self._connection.execute(sql, (run_id,)).fetchone()
        if row is None:
            raise RunNotFound(f"{self._path}: there is no run {run_id!r}")
        check_run_id(run_id)
        run_no, status, pid, host = row
        if run_no > 0 and not self._locks.acquire(run_no):
            raise RunOwned(f"run {run_id} is owned by process {pid} on {host}, which is still running; cancel it first")
        return RunKey(run_no, run_id), str(status)

    def delete(self, families: Iterable[Sequence[tuple[RunKey, str]]], dag_id: str | None = None) -> bool:
        """Delete families of runs, and the row of the dag: first the rows, then the files.

        A family is runs that this process owns, with their statuses, which are marked at once as DELETED. It is taken
        from the iterable within a transaction; it may be empty. Returns whether the deadline is in the future.
        """
        steps = self._steps(families, dag_id)
        while self._in_transactions(islice(steps, _STEPS)) and self._has_time():
            self.remove_files()
        return self._has_time()

    def _has_time(self) -> bool:
        return time.monotonic() < self._deadline

    def _in_transactions(self, steps: Iterator[None]) -> bool:
        """Do the steps, as many in each transaction as its time allows, until the deadline.

        Returns whether there were any.
        """
        were_any, over = False, False
        while not over:
            with self._transaction():
                ends = time.monotonic() + _TRANSACTION_S  # the pause before it does not count
                over = next(steps, steps) is steps
                were_any = were_any or not over
                while not over and time.monotonic() < ends:
                    over = next(steps, steps) is steps
            checkpoint_wal(self._connection, self._path, self._locks)
            over = over or not self._has_time()
        return were_any

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Make a transaction, after a pause since the last one in which other processes write."""
        rest_s = self._next_at - time.monotonic()
        if rest_s > 0:
            pause(rest_s)
        with Transaction(self._connection, self._locks):
            began = time.monotonic()
            yield
        ended = time.monotonic()
        self._next_at = ended + min(_PAUSE_TIMES * (ended - began), _LONGEST_PAUSE_S)

    def _steps(self, families: Iterable[Sequence[tuple[RunKey, str]]], dag_id: str | None) -> Iterator[None]:
        for runs in families:
            self._mark(runs)
            yield
            for run, _ in runs:
                yield from self._run(run.run_id)
        if dag_id is not None:
            self._connection.execute("DELETE FROM liteflow_dags WHERE dag_id=?", (dag_id,))

    def _mark(self, runs: Sequence[tuple[RunKey, str]]) -> None:
        now = time.time()
        for run, status in runs:
            mark_deleted(self._connection, run, status, now)
        self._connection.executemany(
            "UPDATE liteflow_dag_runs SET resumable=0, epoch=epoch+1 WHERE run_no=?", [(run.run_no,) for run, _ in runs]
        )

    def _run(self, run_id: str) -> Iterator[None]:
        """Delete the rows of a run, that of the run last, with its graph if no other run has it."""
        execute = self._connection.execute
        yield from self._request_files(run_id)
        yield from self._values(run_id)
        for table, key, but in _HISTORY:
            sql = (
                f"DELETE FROM liteflow_{table} WHERE run_id=:run_id AND ({key}) IN "
                f"(SELECT {key} FROM liteflow_{table} WHERE run_id=:run_id{but} LIMIT {_ROWS})"
            )
            while execute(sql, {"run_id": run_id}).rowcount == _ROWS:
                yield
        (digest,) = execute("SELECT graph_digest FROM liteflow_dag_runs WHERE run_id=?", (run_id,)).fetchone()
        for table in ("slots", "task_instances", "dag_runs"):
            execute(f"DELETE FROM liteflow_{table} WHERE run_id=?", (run_id,))
        execute(
            "DELETE FROM liteflow_graphs WHERE digest=:digest AND "
            "NOT EXISTS (SELECT 1 FROM liteflow_dag_runs WHERE graph_digest=:digest)",
            {"digest": digest},
        )
        yield

    def _request_files(self, run_id: str) -> Iterator[None]:
        """Store the names of the run's files, of logs and checkpoints only those that Lightflow gives."""
        dag_id, cwd, settings = self._connection.execute(
            "SELECT dag_id, cwd, settings FROM liteflow_dag_runs WHERE run_id=?", (run_id,)
        ).fetchone()
        paths = [
            log_path
            for task_id, log_path in self._connection.execute(_LOGS, {"run_id": run_id}).fetchall()
            if os.path.basename(log_path).startswith((f"task_{task_id}_", f"task_{task_id}."))
        ]
        if forks := forks_of(self._connection, run_id):
            paths = [path for path in paths if not self._names_log(forks, path)]
        if STORED_ID_PATTERN.match(dag_id):
            name = checkpoint_name(dag_id, run_id)
            paths += [os.path.join(folder, name) for folder in _checkpoint_folders(cwd, settings)]
        now, first = time.time(), 0
        while first == 0 or first < len(paths):  # a run without such files may have values
            self._connection.execute(
                "INSERT INTO liteflow_requests (run_id, action, detail, created_at) VALUES (?,?,?,?)",
                (run_id, REMOVE_FILES, json.dumps(paths[first : first + _FILES]), now),
            )
            first += _FILES
            if first < len(paths):
                yield

    def _names_log(self, run_ids: Sequence[str], path: str) -> bool:
        sql = f"SELECT 1 FROM ({_LOGS}) WHERE log_path=:path"
        return any(self._connection.execute(sql, {"run_id": each, "path": path}).fetchone() for each in run_ids)

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

    def remove_files(self) -> None:
        """Remove the files of all runs whose rows are deleted, until the deadline."""
        sql = f"SELECT request_no FROM liteflow_requests AS request WHERE {_DUE} LIMIT {_SYNCED_REQUESTS}"
        while self._has_time() and (numbers := [number for (number,) in self._connection.execute(sql)]):
            self._sync(numbers)
            for first in range(0, len(numbers), _REQUESTS):
                self._remove_requested(numbers[first : first + _REQUESTS])

    def _remove_requested(self, numbers: Sequence[int]) -> None:
        """Remove the files of requests, and then the requests, unless the deadline comes before."""
        rows = self._connection.execute(
            "SELECT run_id, detail FROM liteflow_requests WHERE request_no IN (SELECT value FROM json_each(?))",
            (json.dumps(numbers),),
        ).fetchall()
        removals = list[Callable[[], object]]()
        for run_id, detail in rows:
            removals += [partial(_remove, path) for path in _removable(run_id, detail)]
            if not self._exists(run_id):  # else another run has the id, and these folders
                removals.append(partial(remove_values, self._path, run_id))
                removals.append(partial(remove_folder, outputs_dir(self._path, run_id)))
        _call_in_threads(removals, self._has_time)
        if self._has_time():
            with self._transaction():
                self._connection.executemany(
                    "DELETE FROM liteflow_requests WHERE request_no=?", [(number,) for number in numbers]
                )

    def _sync(self, numbers: Sequence[int]) -> None:
        """Sync the transactions so far: no power cut brings back the rows of files that are removed after this.

        Only a commit that writes is synced, so the requests note the time at which their files are removed. Requests
        that become due later, by the deletion of another process, need a later sync.
        """
        self._connection.execute("PRAGMA synchronous=FULL")
        with self._transaction():
            self._connection.executemany(
                "UPDATE liteflow_requests SET handled_at=? WHERE request_no=?",
                [(time.time(), number) for number in numbers],
            )
        self._connection.execute("PRAGMA synchronous=NORMAL")

    def _exists(self, run_id: str) -> bool:
        row = self._connection.execute("SELECT 1 FROM liteflow_dag_runs WHERE run_id=?", (run_id,)).fetchone()
        return row is not None or not STORED_ID_PATTERN.match(run_id)

    def give_back(self) -> None:
        """Give the free pages of the file back to the disk. A file of an earlier version keeps them for later rows."""
        self._in_transactions(self._free_pages())
        checkpoint_wal(self._connection, self._path, self._locks, at_least=1)  # only now the file gets shorter

    def _free_pages(self) -> Iterator[None]:
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


def pause(seconds: float) -> None:
    """Let other processes write."""
    time.sleep(seconds)


def _checkpoint_folders(cwd: str | None, settings: str) -> set[str]:
    """Return the folders in which the run may have a checkpoint file; earlier versions did not store the folder."""
    stored = _checkpoint_dir(settings)
    if stored is not None:
        return {stored}
    return set() if cwd is None else {os.path.join(cwd, CHECKPOINT_DIR)}


def _checkpoint_dir(settings: str) -> str | None:
    try:
        stored: Any = json.loads(settings)
    except (ValueError, RecursionError):
        return None
    folder = stored.get("checkpoint_dir") if isinstance(stored, Mapping) else None
    return folder if isinstance(folder, str) else None


def _removable(run_id: str, detail: str | None) -> list[str]:
    """Return the paths of a request, without names that Lightflow does not give: the file may have been altered."""
    try:
        paths: Any = json.loads(detail or "[]")
    except (ValueError, RecursionError):
        return []
    checkpoint = f".{run_id}{CHECKPOINT_SUFFIX}"
    return [
        path
        for path in (paths if isinstance(paths, list) else ())
        if isinstance(path, str)
        and (LOG_NAME_PATTERN.match(os.path.basename(path)) or os.path.basename(path).endswith(checkpoint))
    ]


def _call_in_threads(calls: Sequence[Callable[[], object]], has_time: Callable[[], bool]) -> None:
    """Call them, until there is no time, of many several at a time: some disks need milliseconds to remove a file."""
    rest = iter(calls)

    def work() -> None:
        for call in rest:
            if not has_time():
                return
            call()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(len(calls) // _CALLS, _THREADS))]
    started = list[threading.Thread]()
    with contextlib.suppress(RuntimeError):  # too many threads on the machine: this one does the work
        for thread in threads:
            thread.start()
            started.append(thread)
    work()
    for thread in started:
        thread.join()


def _remove(path: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # it does not exist
        os.unlink(path)
