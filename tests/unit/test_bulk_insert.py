"""Rows that are inserted many in a statement are those that were added, and no NULL column is bound."""

from __future__ import annotations

import sqlite3
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from liteflow.state.bulk_insert import BulkInsert

_COLUMNS = "a, b, c"
_TABLE = f"CREATE TABLE t ({_COLUMNS}, d DEFAULT 7)"


class Recorder:
    """A connection that records what is bound."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.bound: list[Any] = []

    def execute(self, statement: str, values: list[Any]) -> None:
        self.bound += values
        self._connection.execute(statement, values)


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.text("xy", max_size=2), st.none()), max_size=150))
def test_the_rows_are_those_that_were_added(rows: list[tuple[Any, ...]]) -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute(_TABLE)
        recorder, insert = Recorder(connection), BulkInsert("INSERT INTO t", _COLUMNS)
        for row in rows:
            insert.values += row
        insert.write(recorder)  # type: ignore[arg-type]
        insert.write(recorder)  # type: ignore[arg-type]  # as after a rollback
        stored = connection.execute("SELECT a, b, c, d FROM t ORDER BY rowid").fetchall()
    assert stored == [(*row, 7) for row in [*rows, *rows]]
    is_mixed = any(row[1] is not None for row in rows)
    assert len(recorder.bound) == len(rows) * (3 - 1 - (not is_mixed)) * 2


def test_a_null_replaces_the_value_of_a_row_that_exists() -> None:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (a PRIMARY KEY, b)")
        for value in ("old", None):
            insert = BulkInsert("INSERT INTO t", "a, b", "ON CONFLICT DO UPDATE SET b=excluded.b")
            insert.values += (1, value)
            insert.write(connection)
        assert connection.execute("SELECT a, b FROM t").fetchall() == [(1, None)]
