"""Rows for one table, inserted many in a statement.

SQLite works without Python's lock, and a statement for each row would ask the threads that run tasks for that lock each
time (measured in docs/adr/0015).
"""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from itertools import chain
from typing import Any, Final

_SIZES: Final = (64, 16, 4, 1)  # few different statements, so that SQLite keeps all of them prepared


class BulkInsert:
    """The rows that are to be inserted into one table: `values` holds them flat, value after value.

    A column that is NULL in all of them is so in the statement: `sqlite3` looks for an adapter of each None that it
    binds, which takes ten times as long as a number (docs/adr/0054).
    """

    def __init__(self, into: str, columns: str, conflict: str = "") -> None:
        self._width = columns.count(",") + 1
        self._head = f"{into} ({columns}) VALUES "
        self._conflict = conflict
        self.values: list[Any] = []

    def write(self, connection: sqlite3.Connection) -> None:
        """Insert the rows; they stay, so that the insert can be repeated after a rollback."""
        if not self.values:
            return
        columns = [self.values[place :: self._width] for place in range(self._width)]
        is_null = [column[0] is None and column.count(None) == len(column) for column in columns]
        values = self.values
        if any(is_null):
            bound = [column for column, null in zip(columns, is_null, strict=True) if not null]
            values = list(chain.from_iterable(zip(*bound, strict=True)))
        row, start = ",".join("NULL" if null else "?" for null in is_null), 0
        for size in _SIZES:
            step = size * (self._width - sum(is_null))
            while start + step <= len(values):
                statement = _statement(self._head, row, size, self._conflict)
                connection.execute(statement, values[start : start + step])
                start += step


@lru_cache(maxsize=256)
def _statement(head: str, row: str, size: int, conflict: str) -> str:
    return f"{head}{','.join([f'({row})'] * size)} {conflict}"
