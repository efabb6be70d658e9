"""The address of a database: `postgresql://user:password@host/database`, `sqlite:///file.db`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from liteflow.api import EMPTY_MAPPING, Record

#: The schemes, and the scheme that each means.
SCHEMES: Final[Mapping[str, str]] = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "duckdb": "duckdb",
}
#: The driver of each scheme: its module, and the extra that installs it.
DRIVERS: Final[Mapping[str, tuple[str, str]]] = {
    "postgresql": ("psycopg", "postgres"),
    "mysql": ("pymysql", "mysql"),
    "sqlite": ("sqlite3", ""),
    "duckdb": ("duckdb", "duckdb"),
}
FILES: Final = frozenset(["sqlite", "duckdb"])
IN_MEMORY: Final = ":memory:"
_MAX_PORT: Final = 65535
_SHAPE: Final = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*)://"
    r"(?:(?P<user>[^:@/?]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<host>\[[^\]/?]*\]|[^:/?@]*)(?::(?P<port>\d{1,5}))?"
    r"(?:/(?P<database>[^?]*))?(?:\?(?P<options>.*))?",
    re.DOTALL,
)


class Address(Record):
    """The parts of an address, decoded."""

    scheme: str  #: a value of `SCHEMES`
    user: str = ""
    password: str = ""
    host: str = ""
    port: int | None = None
    database: str = ""  #: the name of the database, or the path of its file
    options: Mapping[str, str] = EMPTY_MAPPING
    tls: Mapping[str, Any] = EMPTY_MAPPING  #: files and `verify`; empty: as the driver does by default

    @property
    def shown(self) -> str:
        """The database for people: without the user and the password."""
        if self.scheme in FILES:
            return self.database
        where = self.host or self.options.get("host") or self.options.get("unix_socket") or "localhost"
        return f"{where}:{self.port}/{self.database}" if self.port else f"{where}/{self.database}"


def scheme_of(text: str) -> str:
    """Return the scheme of an address as a value of `SCHEMES`; empty where there is none, or another."""
    return SCHEMES.get(text.partition("://")[0].lower(), "")


def address_of(text: str, folder: str) -> Address:
    """Return the address in a text; the path of a file starts from `folder`.

    Raises:
        ValueError: it is not an address. The message has nothing of the text, which may hold a password.
    """
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"the connection is not an address such as {_examples()}")
    parts = match.groupdict(default="")
    scheme = SCHEMES.get(parts["scheme"].lower())
    if scheme is None:
        raise ValueError(f"the connection begins with {parts['scheme']}://, and there are {_examples()}")
    if parts["port"] and int(parts["port"]) > _MAX_PORT:
        raise ValueError(f"the port {parts['port']} is too large: ports end with {_MAX_PORT}")
    database = unquote(parts["database"])
    options = dict(_option(entry) for entry in parts["options"].split("&") if entry)
    if scheme in FILES:
        if parts["host"] or not database:
            raise ValueError(f"the path of a file comes after three slashes: {scheme}:///data/orders.db")
        if options:
            raise ValueError(f"{scheme}:/// takes no options after the path")
        if database != IN_MEMORY:
            database = os.path.normpath(os.path.join(folder, os.path.expanduser(database)))
    return Address(
        scheme=scheme,
        user=unquote(parts["user"]),
        password=unquote(parts["password"]),
        host=parts["host"].strip("[]"),
        port=int(parts["port"]) if parts["port"] else None,
        database=database,
        options=options,
    )


def clear_password(text: str) -> bool:
    """Return whether an address has a password in clear: not as an expression."""
    match = re.match(r"[A-Za-z][\w+.-]*://[^:@/]*:([^@/]*)@", text)
    if match is not None and match[1] and "${{" not in match[1]:
        return True
    return re.search(r"[?&]password=(?!\$\{\{)[^&]", text) is not None


def _option(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return unquote(name), unquote(value.replace("+", " "))


def _examples() -> str:
    return "postgresql://user@host/database, mysql://…, sqlite:///file.db and duckdb:///file.duckdb"
