"""DuckDB, in this process."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import duckdb

from lightflow.sql.addresses import IN_MEMORY, Address
from lightflow.sql.databases import (
    LOCK_WAIT_S,
    ConnectionOptions,
    Database,
    SqlFailure,
    StatementResult,
    batches,
    one_line,
)
from lightflow.sql.dialects import DUCKDB, Dialect

#: Errors that may not return.
_TEMPORARY: Final = (
    duckdb.IOException,
    duckdb.TransactionException,
    duckdb.OutOfMemoryException,
    duckdb.ConnectionException,
    duckdb.InterruptException,
    duckdb.HTTPException,
)
_LOCKED: Final = "set lock on file"
_PAUSE_S: Final = 0.1


class DuckdbDatabase(Database):
    """A connection to a file of DuckDB, which one process can open at a time."""

    dialect: ClassVar[Dialect] = DUCKDB
    in_process = True

    def __init__(self, address: Address, options: ConnectionOptions) -> None:
        config: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        end = time.monotonic() + (LOCK_WAIT_S if options.seconds is None else options.seconds)
        read_only = options.read_only and address.database != IN_MEMORY
        while True:
            try:
                self._connection = duckdb.connect(address.database, read_only=read_only, config=config)
                break
            except duckdb.IOException as error:
                if _LOCKED not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(_PAUSE_S)  # another process has the file open
        for extension in options.extensions:
            self._connection.install_extension(extension)
            self._connection.load_extension(extension)

    def execute(self, text: str, arguments: Mapping[str, Any], *, reads: bool, in_transaction: bool) -> StatementResult:
        cursor: Any = self._connection.execute(text, dict(arguments))
        if cursor.description is None:
            return StatementResult(None)
        columns = tuple(column[0] for column in cursor.description)
        # A statement without rows has the column "Count".
        if not reads and columns == ("Count",):
            rows = cursor.fetchall()
            return StatementResult(None, changed=rows[0][0] if rows and cursor.rowcount >= 0 else -1)
        return StatementResult(columns, batches(cursor))

    def save_parquet(self, text: str, arguments: Mapping[str, Any], path: str) -> tuple[tuple[str, ...], int]:
        relation = self._connection.sql(text, params=dict(arguments))
        relation.write_parquet(path)
        counted = self._connection.execute("SELECT count(*) FROM read_parquet($path)", {"path": path})
        return tuple(relation.columns), counted.fetchall()[0][0]

    def interrupt(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def failure(error: BaseException) -> SqlFailure | None:
        if not isinstance(error, duckdb.Error):
            return None
        name = type(error).__name__.removesuffix("Exception")
        code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        return SqlFailure(one_line(error), (f"duckdb:{code}",), final=not isinstance(error, _TEMPORARY))
