"""Rows for one table, inserted many in a statement.

SQLite works without Python's lock, and a statement for each row would ask the threads that run tasks for that lock each
time (measured in docs/adr/0015).
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

_SIZES: Final = (64, 16, 4, 1)  # few different statements, so that SQLite keeps all of them prepared


class BulkInsert:
    """The rows that are to be inserted into one table: `values` holds them flat, value after value."""

    def __init__(self, into: str, columns: str, conflict: str = "") -> None:
        self._width = columns.count(",") + 1
        row = "(" + ",".join("?" * self._width) + ")"
        head = f"{into} ({columns}) VALUES "
        self._statements = [(size, f"{head}{','.join([row] * size)} {conflict}") for size in _SIZES]
        self.values: list[Any] = []

    def write(self, connection: sqlite3.Connection) -> None:
        """Insert the rows; they stay, so that the insert can be repeated after a rollback."""
        values, start = self.values, 0
        for size, statement in self._statements:
            step = size * self._width
            while start + step <= len(values):
                connection.execute(statement, values[start : start + step])
                start += step
