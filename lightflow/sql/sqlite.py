"""SQLite, with the driver of the standard library."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final
from urllib.parse import quote

from lightflow.sql.addresses import IN_MEMORY, Address
from lightflow.sql.databases import LOCK_WAIT_S, ConnectionOptions, Database, SqlFailure, StatementResult, one_line
from lightflow.sql.dialects import SQLITE, Dialect

#: Errors that may not return: another process has a lock, or the disk is full.
_TEMPORARY: Final = frozenset(["busy", "locked", "full", "ioerr", "nomem", "interrupt", "protocol", "cantopen"])


class SqliteDatabase(Database):
    """A connection to a file of SQLite."""

    dialect: ClassVar[Dialect] = SQLITE
    in_process = True

    def __init__(self, address: Address, options: ConnectionOptions) -> None:
        path, forbidden = address.database, options.forbidden_file
        _refuse(path, forbidden)
        name = path if path == IN_MEMORY else f"file:{quote(path)}?mode={'ro' if options.read_only else 'rwc'}"
        wait_s = LOCK_WAIT_S if options.seconds is None else max(1.0, min(options.seconds, 3600.0))
        # A thread of its own executes the statements, so that a signal can interrupt them.
        self._connection = sqlite3.connect(
            name, timeout=wait_s, isolation_level=None, check_same_thread=False, uri=path != IN_MEMORY
        )
        if options.read_only:
            self._connection.execute("PRAGMA query_only = ON")
        if forbidden:
            self._connection.set_authorizer(_Authorizer(forbidden))

    def begin(self, *, reads: bool) -> None:
        # A transaction that writes takes the lock at once: to wait for it later would be a deadlock of two readers.
        self._command("BEGIN" if reads else "BEGIN IMMEDIATE")

    def execute(self, text: str, arguments: Mapping[str, Any], *, reads: bool, in_transaction: bool) -> StatementResult:
        cursor = self._connection.execute(text, {name: _plain(value) for name, value in arguments.items()})
        if cursor.description is None:
            return StatementResult(None, changed=cursor.rowcount)
        return StatementResult(tuple(column[0] for column in cursor.description), _rows(cursor))

    def interrupt(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # it has been closed
            self._connection.interrupt()

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def failure(error: BaseException) -> SqlFailure | None:
        if not isinstance(error, sqlite3.Error):
            return None
        name = getattr(error, "sqlite_errorname", "SQLITE_ERROR").removeprefix("SQLITE_").lower()
        kind = name.partition("_")[0]
        codes = tuple(dict.fromkeys([f"sqlite:{kind}", f"sqlite:{name}"]))
        return SqlFailure(one_line(error), codes, final=kind not in _TEMPORARY)


class _Authorizer:
    """Refuses to attach a file."""

    def __init__(self, forbidden: str) -> None:
        self._forbidden = forbidden

    def __call__(self, action: int, name: str | None, *rest: str | None) -> int:
        if action == sqlite3.SQLITE_ATTACH and name and _is_same(name, self._forbidden):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK


def _refuse(path: str, forbidden: str) -> None:
    if forbidden and _is_same(path, forbidden):
        raise ValueError("it is the state file of this run; take another file")


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path.removeprefix("file:").partition("?")[0], other)
    except (OSError, ValueError):
        return False


def _plain(value: Any) -> Any:
    """Return a value that the driver takes without an adapter."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _rows(cursor: sqlite3.Cursor) -> Iterator[Sequence[Any]]:
    yield from cursor
