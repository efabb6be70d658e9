"""The gate: the checks of every request before it reaches a route.

In this order: the name by which the server was called (against pages that rebind a name to this machine), the token,
the origin, the encoding and the size of the body. A page of another origin has no token: the server sets no cookie.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from lightflow.server.problems import RequestProblem
from lightflow.server.tokens import Role, Tokens
from liteflow.api import Record

Scope = dict[str, Any]
Headers = Sequence[tuple[bytes, bytes]]

#: Headers of every answer. Nothing may be loaded from elsewhere, framed, or guessed to be of another type.
SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
     b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
     b"require-trusted-types-for 'script'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)  # fmt: skip
MOST_BODY: Final = 1024 * 1024
_BODY_S: Final = 15.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_HOST: Final = re.compile(rb"[A-Za-z0-9.\-]{1,253}(?::[0-9]{1,5})?\Z|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?\Z")
_TOKEN: Final = re.compile(rb"Bearer ([A-Za-z0-9_\-.~+/]{1,256}=*)\Z")


class Gate(Record):
    """The rules of one server."""

    tokens: Tokens
    hosts: frozenset[str]  #: the values of `Host` that name this server, in lower case
    is_read_only: bool
    open_routes: frozenset[tuple[str, str]]  #: method and path of what needs no token
    open_prefixes: tuple[tuple[str, str], ...] = ()  #: likewise; the path continues after the prefix

    def admit(self, scope: Scope) -> Role | None:
        """Return the role of a request; None for an open route.

        Raises:
            RequestProblem: the request is refused.
        """
        headers: Headers = scope["headers"]
        self._check_host(headers)
        method, path = "GET" if scope["method"] == "HEAD" else scope["method"], scope["raw_path"].decode("latin-1")
        is_open = (method, path) in self.open_routes or any(
            method == each and path.startswith(prefix) for each, prefix in self.open_prefixes
        )
        role = None if is_open else self._role(headers)
        if not (is_open and method == "GET"):  # what is open holds no data, and other pages may have a link to it
            self._check_origin(headers)
        if values(headers, b"content-encoding"):
            raise RequestProblem(415, "BAD_INPUT", "send the body without Content-Encoding")
        return role

    def _check_host(self, headers: Headers) -> None:
        hosts = values(headers, b"host")
        if len(hosts) != 1 or not _HOST.match(hosts[0]) or hosts[0].decode("ascii").lower() not in self.hosts:
            raise RequestProblem(
                421, "BAD_INPUT", "the header Host does not name this server; --allow-host NAME adds a name"
            )

    def _role(self, headers: Headers) -> Role:
        sent = values(headers, b"authorization")
        match = _TOKEN.match(sent[0]) if len(sent) == 1 else None
        role = self.tokens.role(match[1].decode("ascii"), read_only=self.is_read_only) if match else None
        if role is None:
            raise RequestProblem(
                401,
                "UNAUTHENTICATED",
                "send the token of the server as `Authorization: Bearer TOKEN`; `lightflow token` prints it",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return role

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what a page of another origin sends, even if it knew the token."""
        origins = values(headers, b"origin")
        same = {f"{scheme}://{host}".encode() for scheme in ("http", "https") for host in self.hosts}
        sites = values(headers, b"sec-fetch-site")
        if any(origin.lower() not in same for origin in origins) or any(
            site not in (b"same-origin", b"none") for site in sites
        ):
            raise RequestProblem(403, "FORBIDDEN", "requests of other web pages are refused")


def hosts_of(host: str, port: int, allowed: Iterable[str]) -> frozenset[str]:
    """Return the values of `Host` under which a server can be called."""
    names = [*_LOOPBACK, *allowed]
    if host not in ("0.0.0.0", "::"):
        names.append(f"[{host}]" if ":" in host else host)
    with_port = {name.lower() if _has_port(name) else f"{name.lower()}:{port}" for name in names}
    return frozenset(with_port | ({name.lower() for name in names} if port in (80, 443) else set()))


def _has_port(name: str) -> bool:
    return re.search(r":[0-9]+\Z", name) is not None and not name.endswith("]")


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of a header."""
    return [value for key, value in headers if key == name]


async def read_body(receive: Callable[[], Awaitable[Any]], most: int = MOST_BODY) -> bytes:
    """Return the body of a request.

    Raises:
        RequestProblem: it is too large, or takes too long.
        ConnectionError: the client has gone.
    """
    import asyncio

    body, end = bytearray(), time.monotonic() + _BODY_S
    while True:
        try:
            message = await asyncio.wait_for(receive(), max(0.01, end - time.monotonic()))
        except TimeoutError:
            raise RequestProblem(408, "BAD_INPUT", f"the body did not arrive within {_BODY_S:g} s") from None
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client has closed the connection")
        body += message.get("body", b"")
        if len(body) > most:
            raise RequestProblem(413, "BAD_INPUT", f"the body has more than {most:,} bytes")
        if not message.get("more_body"):
            return bytes(body)
