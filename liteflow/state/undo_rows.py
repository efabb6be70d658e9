"""The rows of `liteflow_undos`: the attempts whose undo is due, should their run lose its owner, or has failed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from liteflow.state.bulk_insert import BulkInsert
from liteflow.state.records import AttemptKey
from liteflow.work import HostId


class UndoRows:
    """The changes of one run since the last commit. Tasks that are not in `tasks` have no undo."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.tasks: Collection[str] = ()
        self._due = BulkInsert("INSERT OR REPLACE INTO liteflow_undos", "run_id, task_id, map_index, attempt")
        self._placed: list[tuple[str, str, str, str, int, int]] = []
        self._failed: list[tuple[str, str, int, int, str]] = []
        self._done: list[tuple[str, str, int, int]] = []

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._due.values or self._placed or self._failed or self._done)

    def add(self, attempt: AttemptKey) -> None:
        """Add an attempt that is about to start."""
        self._due.values += (self._run_id, *attempt)

    def place(self, attempt: AttemptKey, host_id: HostId) -> None:
        """Add the machine of a cluster that an attempt is about to start on."""
        self._placed.append((*host_id, self._run_id, *attempt))

    def end(self, attempt: AttemptKey, problem: str | None) -> None:
        """Remove an attempt that has succeeded or is undone; `problem`: why its undo has failed."""
        if problem is None:
            self._done.append((self._run_id, *attempt))
        else:
            self._failed.append((self._run_id, *attempt, problem))

    def write(self, connection: sqlite3.Connection) -> None:
        """Write it all, within the caller's transaction. It can be repeated."""
        if self._due.values:
            self._due.write(connection)
        if self._placed:
            connection.executemany(
                "UPDATE liteflow_undos SET host=?, boot=? WHERE run_id=? AND task_id=? AND map_index=? AND attempt=?",
                self._placed,
            )
        if self._failed:
            connection.executemany(
                "INSERT INTO liteflow_undos (run_id, task_id, map_index, attempt, problem) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (run_id, task_id, map_index, attempt) DO UPDATE SET problem=excluded.problem",
                self._failed,
            )
        if self._done:
            connection.executemany(
                "DELETE FROM liteflow_undos WHERE run_id=? AND task_id=? AND map_index=? AND attempt=?", self._done
            )

    def clear(self) -> None:
        """Forget what was committed."""
        self._due.values.clear()
        self._placed.clear()
        self._failed.clear()
        self._done.clear()
