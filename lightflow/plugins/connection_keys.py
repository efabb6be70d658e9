"""The keys of a connection: which keys of a task type its named connections may have, by the annotation `x-connection`.

`x-connection: true` in the schema of a key means that a connection has the key, too; a text is the name that the key
has in the connection. `x-connection-of: TYPE` in the schema of a mapping means that it has keys of that type, and may
name a connection for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

#: The key of a task that names its connection. It is replaced by the keys of the connection before the task is checked.
CONNECTION: Final[dict[str, Any]] = {
    "description": "The name of a connection of the workflow (see `connections`), whose keys the task takes where it "
    "has none itself.",
    "type": "string",
    "minLength": 1,
    "examples": ["warehouse"],
    "x-expressions": "none",
}

#: How a connection is encrypted.
TLS: Final[dict[str, Any]] = {
    "description": "Files for encrypted connections, and whether the certificate of the server is checked.",
    "type": "object",
    "properties": {
        "ca": {
            "description": "The certificates of authorities that are trusted.",
            "type": "string",
            "minLength": 1,
        },
        "cert": {"description": "The certificate of the client.", "type": "string", "minLength": 1},
        "key": {"description": "Its private key.", "type": "string", "minLength": 1},
        "verify": {"description": "Whether the server is checked.", "type": "boolean", "default": True},
    },
    "dependentRequired": {"key": ["cert"]},
    "minProperties": 1,
    "additionalProperties": False,
    "examples": [{"ca": "ca.pem"}],
    "x-connection": True,
}


#: The proxy of requests.
PROXY: Final[dict[str, Any]] = {
    "description": "The proxy: `env` (HTTP_PROXY and the other variables), `none`, or a URL.",
    "type": "string",
    "minLength": 1,
    "default": "env",
    "examples": ["none"],
    "x-connection": True,
}
_PROXY_URL: Final = re.compile(
    r"(?P<scheme>https?|socks[45][ah]?)://([^:@/]*(:(?P<password>[^/]*))?@)?(\[[^\]]+\]|[^:@/]+)(:\d+)?/?$"
)


def proxy_problem(proxy: Any, *, socks: bool) -> str:
    """Return what is wrong with a proxy; empty where nothing is. `socks`: whether it may be one of SOCKS."""
    if not isinstance(proxy, str) or proxy in ("", "env", "none") or proxy.startswith("${{"):
        return ""
    match = _PROXY_URL.match(proxy)
    if match is None:
        return "must be `env`, `none`, or a URL such as http://proxy.example.org:3128"
    if match["password"] and "${{" not in match["password"]:
        return "a password in clear text; declare it under `secrets`: http://USER:${{ secrets.NAME }}@HOST"
    if not socks and match["scheme"].startswith("socks"):
        return "SOCKS is not possible here: write a proxy of HTTP, such as http://proxy.example.org:3128"
    return ""


def keys_of_connection(schema: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the keys that connections of a type may have, each with the key of a task that it becomes."""
    properties: Mapping[str, Any] = (schema or {}).get("properties", {})
    names = {key: part.get("x-connection") for key, part in properties.items() if isinstance(part, Mapping)}
    return {key if name is True else name: key for key, name in names.items() if name}


def connection_schema(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the schemas of the keys that connections of a type may have."""
    return {name: (schema or {})["properties"][key] for name, key in keys_of_connection(schema).items()}


def has_free_names(schema: Mapping[str, Any], key: str) -> bool:
    """Return whether a key is a mapping of names of the user's, such as `headers`: then its entries are merged."""
    part = schema["properties"][key]
    return part.get("type") == "object" and "properties" not in part


def entries_of_connection(present: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that a mapping lacks; capitals do not matter, as in the names of headers."""
    names = {str(name).casefold() for name in present}
    return {name: value for name, value in entries.items() if str(name).casefold() not in names}
