"""The common part of the four databases: connect, begin, execute, commit, and the meaning of their errors.

Every connection commits each statement by itself, unless `begin` was called. Nothing is cached between attempts: a
connection belongs to one attempt.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from lightflow.sql.addresses import Address
from lightflow.sql.dialects import Dialect
from liteflow.api import Record

#: Rows that a driver fetches at a time.
FETCH: Final = 1000
#: The least seconds that a connection waits for a lock of another process, where the task has no timeout.
LOCK_WAIT_S: Final = 60.0
CONNECT_S: Final = 10

_MODULES: Final = {
    "postgresql": ("lightflow.sql.postgresql", "PostgresqlDatabase"),
    "mysql": ("lightflow.sql.mysql", "MysqlDatabase"),
    "sqlite": ("lightflow.sql.sqlite", "SqliteDatabase"),
    "duckdb": ("lightflow.sql.duckdb", "DuckdbDatabase"),
}


class ConnectionOptions(Record):
    """How a connection is opened."""

    mark: str = ""  #: by which the server shows the attempt; the same text for `end_marked`
    read_only: bool = False
    seconds: float | None = None  #: until the timeout of the task; None: it has none
    extensions: tuple[str, ...] = ()  #: of DuckDB
    forbidden_file: str = ""  #: the state file, which is not opened


class SqlFailure(NamedTuple):
    """The meaning of an error of a driver."""

    message: str  # one line, without values of the connection
    codes: tuple[str, ...] = ()
    final: bool = False  # it fails in the same way when it is tried again
    is_broken: bool = False  # the connection has ended


class StatementResult(NamedTuple):
    """The result of a statement."""

    columns: tuple[str, ...] | None  # None: it has no rows
    rows: Iterator[Sequence[Any]] = iter(())
    changed: int = -1  # the rows that it has changed; -1: the database does not say


class Database:
    """A connection to a database."""

    dialect: ClassVar[Dialect]
    #: The type of a column for long text.
    text_type: ClassVar[str] = "TEXT"
    #: Whether statements run in this process, so that a signal does not end them.
    in_process: ClassVar[bool] = False

    def __init__(self, address: Address, options: ConnectionOptions) -> None:
        """Connect. Raises the errors of the driver, and ValueError."""
        raise NotImplementedError

    def begin(self, *, reads: bool) -> None:
        """Begin a transaction; with `reads` it changes nothing."""
        self._command("BEGIN")

    def commit(self) -> None:
        self._command("COMMIT")

    def rollback(self) -> None:
        self._command("ROLLBACK")

    def execute(self, text: str, arguments: Mapping[str, Any], *, reads: bool, in_transaction: bool) -> StatementResult:
        """Execute one statement; `reads` says that it is a query. The rows are fetched while they are iterated."""
        raise NotImplementedError

    def save_parquet(self, text: str, arguments: Mapping[str, Any], path: str) -> tuple[tuple[str, ...], int]:
        """Write the rows of a query to a Parquet file; return the columns, and the number of the rows."""
        raise ValueError("only DuckDB writes .parquet; take .csv or .jsonl")

    def interrupt(self) -> None:
        """End the statement that runs, from another thread. Only for a database that is `in_process`."""

    def close(self) -> None:
        raise NotImplementedError

    @staticmethod
    def failure(error: BaseException) -> SqlFailure | None:
        """Return the meaning of an error of the driver; None: it is of another kind."""
        raise NotImplementedError

    @staticmethod
    def end_marked(address: Address, mark: str) -> int:
        """End what the server does for connections with a mark, and return how many there were."""
        return 0

    def _command(self, text: str) -> None:
        self.execute(text, {}, reads=False, in_transaction=True)


def database_class(scheme: str) -> type[Database]:
    """Return the class for a scheme, whose driver is imported. Raises ImportError."""
    module, name = _MODULES[scheme]
    kind: type[Database] = getattr(importlib.import_module(module), name)
    return kind


def one_line(text: object) -> str:
    """Return the first line of a message that is not blank."""
    return next((line.strip() for line in str(text).splitlines() if line.strip()), type(text).__name__)


def batches(cursor: Any) -> Iterator[Sequence[Any]]:
    """Yield the rows of a cursor, which are fetched in batches."""
    while rows := cursor.fetchmany(FETCH):
        yield from rows


def closing_batches(cursor: Any) -> Iterator[Sequence[Any]]:
    """Yield the rows of a cursor, and close it."""
    try:
        yield from batches(cursor)
    finally:
        cursor.close()
