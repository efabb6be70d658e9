"""Statements in SQL as the body of a task."""

from __future__ import annotations

from typing import Any

from lightflow.tasks.bodies import call_of
from liteflow import Call


def sql(connection: Any, sql: Any = None, **keys: Any) -> Call:
    """Return the body of a task: `sql(Secret("DB"), "DELETE FROM orders WHERE day = :day", params={"day": day})`.

    The keywords are the keys of `type: sql`: file, params, transaction, rows, max_rows, save, numbers, read_only, once,
    split, extensions, user, password, tls. The connection may also be what `connection("sql", …)` returns. A `file`
    starts from the folder in which the run is started.

    Raises:
        DefinitionError: an invalid key.
    """
    return call_of("sql", {"connection": connection, "sql": sql, **keys})
