"""PostgreSQL, with psycopg."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import psycopg
from psycopg import sql as psycopg_sql

from lightflow.sql.addresses import Address
from lightflow.sql.databases import (
    CONNECT_S,
    ConnectionOptions,
    Database,
    SqlFailure,
    StatementResult,
    closing_batches,
    one_line,
)
from lightflow.sql.dialects import POSTGRESQL, Dialect

#: Classes of SQLSTATE that fail in the same way when they are tried again.
_FINAL: Final = ("22", "23", "28", "42")
_BROKEN: Final = ("08", "57P")
#: The server looks so often whether the client lives, from version 14 on.
_LIFE_CHECK: Final = "500ms"
_KEEPALIVE: Final = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_END: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = %s AND pid <> pg_backend_pid() AND usename = current_user"
)


class PostgresqlDatabase(Database):
    """A connection to PostgreSQL."""

    dialect: ClassVar[Dialect] = POSTGRESQL

    def __init__(self, address: Address, options: ConnectionOptions) -> None:
        self._connection = _connected(address, options.mark, CONNECT_S)
        settings = {"standard_conforming_strings": "on"}
        if self._connection.info.server_version >= 140000:
            settings["client_connection_check_interval"] = _LIFE_CHECK
        if options.seconds is not None:  # one second above, so that the timeout of the task comes first
            milliseconds = str(int((options.seconds + 1) * 1000))
            settings["statement_timeout"] = settings["idle_in_transaction_session_timeout"] = milliseconds
        if options.read_only:
            settings["default_transaction_read_only"] = "on"
        for name, value in settings.items():
            self._connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        self._connection.add_notice_handler(_print_notice)

    def execute(self, text: str, arguments: Mapping[str, Any], *, reads: bool, in_transaction: bool) -> StatementResult:
        query = psycopg_sql.SQL(text)
        if reads and in_transaction:  # a cursor of the server, which needs a transaction
            served = self._connection.cursor("lightflow")
            try:
                served.execute(query, arguments)
            except BaseException:
                served.close()
                raise
            assert served.description is not None
            return StatementResult(tuple(column.name for column in served.description), closing_batches(served))
        cursor = self._connection.execute(query, arguments)
        if cursor.description is None:
            return StatementResult(None, changed=cursor.rowcount)
        return StatementResult(tuple(column.name for column in cursor.description), closing_batches(cursor))

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def failure(error: BaseException) -> SqlFailure | None:
        if not isinstance(error, psycopg.Error):
            return None
        state = error.sqlstate or ("08006" if isinstance(error, psycopg.OperationalError) else "")
        texts = [error.diag.message_primary or one_line(error), error.diag.message_detail, error.diag.message_hint]
        return SqlFailure(
            "; ".join(one_line(text) for text in texts if text),
            (f"sqlstate:{state}",) if state else (),
            final=state.startswith(_FINAL),
            is_broken=state.startswith(_BROKEN),
        )

    @staticmethod
    def end_marked(address: Address, mark: str) -> int:
        with _connected(address, "lightflow undo", 3) as connection:
            return sum(1 for _ in connection.execute(_END, (mark,)))


def _connected(address: Address, mark: str, connect_s: int) -> psycopg.Connection[Any]:
    parts = {"user": address.user, "password": address.password, "host": address.host, "dbname": address.database}
    settings: dict[str, Any] = {"connect_timeout": connect_s, **_KEEPALIVE, "tcp_user_timeout": 30_000}
    settings |= {name: value for name, value in parts.items() if value} | dict(address.options)
    if address.tls:
        settings |= _tls(address.tls)
    if address.port:
        settings["port"] = address.port
    return psycopg.connect(autocommit=True, **settings | {"application_name": mark})


def _tls(tls: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of libpq for an encrypted connection."""
    settings = {"sslrootcert": tls.get("ca"), "sslcert": tls.get("cert"), "sslkey": tls.get("key")}
    if not tls.get("verify", True):
        return {name: value for name, value in settings.items() if value} | {"sslmode": "require"}
    settings["sslrootcert"] = tls.get("ca", "system")
    return {name: value for name, value in settings.items() if value} | {"sslmode": "verify-full"}


def _print_notice(diagnosis: psycopg.errors.Diagnostic) -> None:
    print(f"{diagnosis.severity}: {diagnosis.message_primary}", flush=True)
