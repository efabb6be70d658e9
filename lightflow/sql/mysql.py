"""MariaDB and MySQL, with PyMySQL."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import pymysql
from pymysql.cursors import SSCursor

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
from lightflow.sql.dialects import MYSQL, MYSQL_WITHOUT_BACKSLASHES, Dialect

#: The SQLSTATE of the errors that decide about a retry; the driver does not pass on the server's.
_STATES: Final = {
    1040: "08004", 1044: "42000", 1045: "28000", 1048: "23000", 1049: "42000", 1053: "08S01", 1054: "42S22",
    1062: "23000", 1064: "42000", 1142: "42000", 1146: "42S02", 1205: "HY000", 1213: "40001", 1264: "22003",
    1317: "70100", 1364: "HY000", 1366: "22007", 1406: "22001", 1451: "23000", 1452: "23000", 1792: "25006",
    1969: "70100", 2002: "08001", 2003: "08001", 2005: "08001", 2006: "08S01", 2013: "08S01", 3024: "HY000",
    4025: "23000",
}  # fmt: skip
_FINAL: Final = ("22", "23", "28", "42", "25")
_BROKEN: Final = frozenset([2006, 2013, 2055])
_OPTIONS: Final = ("charset", "connect_timeout", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_identity", "unix_socket")
_MARKED: Final = (
    "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND info LIKE %s AND command <> 'Killed'"
)


class MysqlDatabase(Database):
    """A connection to MariaDB or MySQL."""

    dialect: ClassVar[Dialect] = MYSQL
    text_type = "LONGTEXT"

    def __init__(self, address: Address, options: ConnectionOptions) -> None:
        self._connection = _connected(address, CONNECT_S)
        self._comment = f"/* {options.mark} */ " if options.mark else ""
        version, modes = self._setup("SELECT version(), @@sql_mode")
        if "NO_BACKSLASH_ESCAPES" in modes:
            self.dialect = MYSQL_WITHOUT_BACKSLASHES  # type: ignore[misc]  # of this connection alone
        if options.read_only:
            self._setup("SET SESSION TRANSACTION READ ONLY")
        if options.seconds is not None:  # one second above, so that the timeout of the task comes first
            seconds = options.seconds + 1
            is_mariadb = "MariaDB" in version
            name, value = ("max_statement_time", seconds) if is_mariadb else ("max_execution_time", seconds * 1000)
            self._setup(f"SET SESSION {name} = {round(value, 3 if is_mariadb else None)}")

    def _setup(self, text: str) -> tuple[Any, ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchone() or ()

    def execute(self, text: str, arguments: Mapping[str, Any], *, reads: bool, in_transaction: bool) -> StatementResult:
        cursor: Any = self._connection.cursor(SSCursor)
        cursor.execute(self._comment + text, dict(arguments))
        if cursor.description is None:
            return StatementResult(None, changed=cursor.rowcount)
        return StatementResult(tuple(column[0] for column in cursor.description), closing_batches(cursor))

    def close(self) -> None:
        self._connection.close()

    @staticmethod
    def failure(error: BaseException) -> SqlFailure | None:
        if not isinstance(error, pymysql.MySQLError | OSError | EOFError):
            return None
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        text = error.args[1] if len(error.args) > 1 and isinstance(error, pymysql.MySQLError) else error
        state = _STATES.get(number, "")
        codes = [f"sqlstate:{state}"] * bool(state) + [f"mysql:{number}"] * bool(number)
        final = state.startswith(_FINAL) if state else False
        return SqlFailure(one_line(text), tuple(codes), final=final, is_broken=number in _BROKEN or not number)

    @staticmethod
    def end_marked(address: Address, mark: str) -> int:
        connection = _connected(address, 3)
        try:
            with connection.cursor() as cursor:
                cursor.execute(_MARKED, (f"/* {mark} */%",))
                numbers = [int(row[0]) for row in cursor.fetchall()]
                for number in numbers:
                    _kill(cursor, number)
                return len(numbers)
        finally:
            connection.close()


def _kill(cursor: Any, number: int) -> None:
    try:
        cursor.execute(f"KILL {number}")
    except pymysql.MySQLError as error:
        if error.args[0] != 1094:  # it has ended by itself
            raise


def _connected(address: Address, connect_s: int) -> pymysql.Connection[Any]:
    unknown = sorted(set(address.options) - set(_OPTIONS))
    if unknown:
        raise ValueError(f"the connection has the option {unknown[0]!r}, and there are {', '.join(_OPTIONS)}")
    settings: dict[str, Any] = {"connect_timeout": connect_s, "charset": "utf8mb4", **address.options}
    settings["connect_timeout"] = int(settings["connect_timeout"])
    if "ssl_verify_identity" in settings:
        settings["ssl_verify_identity"] = settings["ssl_verify_identity"].lower() in ("true", "1", "yes")
    if address.user:
        settings["user"] = address.user
    if address.tls:
        settings["ssl"] = _tls(address.tls)
    connection = pymysql.connect(
        host=address.host or "localhost",
        port=address.port or 3306,
        password=address.password,
        database=address.database or None,
        autocommit=True,
        **settings,
    )
    if address.tls and not _is_encrypted(connection):
        connection.close()
        raise ValueError("the server offers no encrypted connection (see `tls`)")
    return connection


def _tls(tls: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.get("ca"))
    if not tls.get("verify", True):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if "cert" in tls:
        context.load_cert_chain(tls["cert"], tls.get("key"))
    return context


def _is_encrypted(connection: pymysql.Connection[Any]) -> bool:
    """Return whether a connection is encrypted; old versions of the driver continue without."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        row = cursor.fetchone()
    return bool(row and row[1])
