"""The HTTP protocol of the server: uvicorn's on h11, with deadlines, limits and stricter syntax.

h11 accepts folded headers, lines that end with LF alone, and a body with both a length and chunks, which proxies
understand differently. uvicorn waits without end for a client that sends nothing.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_HEADER_BYTES: Final = 16 * 1024
_HEADER_S: Final = 10.0  # for the first line and the headers of a request
_SILENCE_S: Final = 15.0  # between two requests of a connection
_UNREAD_S: Final = 30.0  # in which a client reads nothing of an answer
_LINGER_S: Final = 2.0  # in which a client may read an answer after which the connection is closed
_MOST_CONNECTIONS: Final = 128
_MOST_OF_A_CLIENT: Final = 116
_MOST_HEADERS: Final = 100

#: Forbidden in the head of a request: a folded line, a line that ends with LF alone, a CR within a line, a NUL, a
#: space before the colon of a header.
_BAD_HEAD: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]|\x00|\n[^:\r\n]*[ \t]+:")
_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"})
_START: Final = re.compile(rb"([A-Z]+) ([^\s\x00-\x20\x7f-\xff]+) HTTP/1\.[01]\r\n")


class StrictProtocol(H11Protocol):
    """One connection."""

    _clients: ClassVar[Counter[str]] = Counter()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = b""  # of the request that is being received; its end is not in it
        self._in_body = False
        self._discards = False  # what still arrives: the connection is about to be closed
        self._deadline: asyncio.TimerHandle | None = None
        self._address = ""

    # -- the connection -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base class
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._clients[self._address] += 1
        if len(self.connections) > _MOST_CONNECTIONS or self._clients[self._address] > _MOST_OF_A_CLIENT:
            self._refuse(503, "too many connections")
            return
        self._set_deadline(_SILENCE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clients[self._address] -= 1
        if self._clients[self._address] <= 0:
            del self._clients[self._address]
        self._set_deadline(None)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._head, self._in_body = b"", False
        if self.conn.their_state is not h11.DONE or self.conn.trailing_data[0]:
            # The rest of a refused body, or a request before the answer to the last one: neither is read.
            self._discards = True
            self._set_deadline(_LINGER_S)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            return
        self._set_deadline(_SILENCE_S)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_deadline(_UNREAD_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._set_deadline(None)

    # -- what arrives -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._discards or self.transport.is_closing():
            return
        if not self._in_body:
            if not self._head:
                self._set_deadline(_HEADER_S)
            self._head += data
            head, end, _ = self._head.partition(b"\r\n\r\n")
            if len(head) > MOST_HEADER_BYTES:
                self._refuse(431, "the headers are too large")
                return
            problem = _problem_of_head(head + end, complete=bool(end))
            if problem is not None:
                self._refuse(*problem)
                return
            if not end:
                return
            data, self._head, self._in_body = self._head, b"", True
            self._set_deadline(None)
        super().data_received(data)

    # -- deadlines ----------------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        if self._head:
            self._refuse(408, "the request did not arrive in time")
        elif self.flow.write_paused:
            self.transport.abort()  # the client does not read the answer
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer without the application, and close the connection."""
        self._discards = True
        if not self.transport.is_closing():
            body = f"{detail}\n".encode()
            self.transport.write(
                f"HTTP/1.1 {status} {_PHRASES.get(status, 'Error')}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(400, msg)
        else:
            self.transport.close()


_PHRASES: Final = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


def _problem_of_head(head: bytes, *, complete: bool) -> tuple[int, str] | None:
    """Return the status and the reason with which a request is refused because of its first line or its headers."""
    # A CR at the end may be the first half of the end of a line.
    if _BAD_HEAD.search(head if complete else head.removesuffix(b"\r")):
        return 400, "the request has a malformed line"
    line, end, rest = head.partition(b"\r\n")
    if not end:
        return None
    start = _START.fullmatch(line + end)
    if start is None:
        version = line.rpartition(b" ")[2]
        if version.startswith(b"HTTP/") and version not in (b"HTTP/1.1", b"HTTP/1.0"):
            return 505, "only HTTP/1.1 is spoken here"
        return 400, "the first line of the request is malformed"
    if start[1] not in _METHODS:
        return 501, "this method is not known"
    names = [line.partition(b":")[0].lower() for line in rest.split(b"\r\n") if line]
    if len(names) > _MOST_HEADERS:
        return 431, "the request has too many headers"
    if not complete:
        return None
    if b"transfer-encoding" in names and b"content-length" in names:
        return 400, "the request has both a length and a transfer encoding"
    if names.count(b"content-length") > 1 or names.count(b"transfer-encoding") > 1:
        return 400, "the request has the length of its body twice"
    return None
