"""Long histories for tests: rows of a real run, copied by one statement for each table."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def multiply(path: Path, table: str, where: str, places: range, **changes: str) -> None:
    """Copy the rows of a table that meet a condition once for each number of `places`.

    Args:
        changes: for a column the SQL of its new value, in which `i` is the number; `NULL` for the number of a row.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(changes.get(name, name) for name in columns)
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + ? FROM n WHERE i + ? < ?) "
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM n, (SELECT * FROM {table} WHERE {where})",
            (places.start, places.step, places.step, places.stop),
        )
