"""A real HTTP server in the test process, which does what servers do to clients: drips, cuts, redirects, counts."""

from __future__ import annotations

import gzip
import json
import select
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit


class Received(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Server(ThreadingHTTPServer):
    """Listens on a free port of the loopback; `received` has all requests."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []
        self.lock = threading.Lock()
        self.arrived = threading.Event()
        self.released = threading.Event()
        self.gone = threading.Event()  # the client of /wait has closed its connection
        self.sunk: list[int] = []  # the sizes of the bodies that /sink has read
        self.held = 0  # requests that wait for their answer while their client is there
        self.holds = True  # whether requests to /wait and first invocations wait
        self.acknowledged = 0  # requests to /wait that were answered while their client was there
        self.answers: list[tuple[int, dict[str, str], bytes]] = []  # of /scripted, one after the other
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients that go away belong to the tests."""

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_address[1]}{path}"

    def counts(self) -> Counter[str]:
        return Counter(f"{each.method} {each.path}" for each in self.received)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *args: object) -> None:
        """Print nothing."""

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self._sink(length) if self.path == "/sink" else self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append(Received(self.command, self.path, headers, body))
        self.server.arrived.set()
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        name = "invocation" if parts.path.endswith("/invocations") else parts.path.strip("/").split("/")[0]
        getattr(self, f"_{name}" if name != "sink" else "_echo", self._echo)(query, body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815 - the names of the base class

    def _answer(self, status: int, body: bytes, media_type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _sink(self, length: int) -> bytes:
        """Read a body without storing it."""
        size = 0
        while size < length and (block := self.rfile.read(min(65536, length - size))):
            size += len(block)
        self.server.sunk.append(size)
        return b""

    def _echo(self, query: dict[str, str], body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = {"method": self.command, "path": self.path, "headers": headers, "body": body.decode("utf-8", "replace")}
        self._answer(200, json.dumps(seen).encode())

    def _status(self, query: dict[str, str], body: bytes) -> None:
        self._answer(int(query["code"]), query.get("text", "").encode(), "text/plain")

    def _scripted(self, query: dict[str, str], body: bytes) -> None:
        status, headers, content = self.server.answers.pop(0)
        self._answer(status, content, **headers)

    def _invocation(self, query: dict[str, str], body: bytes) -> None:
        """Answer as AWS Lambda; the status 0 closes the connection, 1 waits."""
        status, headers, content = self.server.answers.pop(0) if self.server.answers else self._called(body)
        if status == 1:
            self._hold()
        if status in (0, 1):
            self.close_connection = True
            return
        common = {"x-amzn-RequestId": "r-1", "X-Amz-Executed-Version": "7"}
        self._answer(status, content, **(common | headers))

    def _called(self, event: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return the answer of a function that waits in its first attempt."""
        waits = json.loads(event).get("attempt", 1) == 1 and self.server.holds
        return (1 if waits else 200), {}, b"{}"

    def _raw(self, query: dict[str, str], body: bytes) -> None:
        content = bytes.fromhex(query["hex"]) if "hex" in query else query.get("body", "").encode()
        self._answer(200, content, query.get("type", "text/plain"))

    def _redirect(self, query: dict[str, str], body: bytes) -> None:
        self._answer(int(query.get("code", "302")), b"", Location=query["to"], Set_Cookie="session=s1; Path=/")

    def _loop(self, query: dict[str, str], body: bytes) -> None:
        self._answer(302, b"", Location="/loop")

    def _wait(self, query: dict[str, str], body: bytes) -> None:
        """Answer when the server is released; at once for a later attempt."""
        waits = query.get("attempt", "1") == "1" and self.server.holds
        if self._hold() if waits else self._has_client():
            with self.server.lock:
                self.server.acknowledged += 1
            self._answer(200, b"{}")
        else:
            self.close_connection = True

    def _has_client(self) -> bool:
        return not select.select([self.connection], [], [], 0)[0] or bool(self.connection.recv(1, socket.MSG_PEEK))

    def _hold(self) -> bool:
        """Wait until the server is released or the client is gone; return whether the client is still there."""
        with self.server.lock:
            self.server.held += 1
        try:
            while not self.server.released.wait(0.02):
                if not self._has_client():
                    self.server.gone.set()
                    return False
            return True
        finally:
            with self.server.lock:
                self.server.held -= 1

    def _drip(self, query: dict[str, str], body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        with suppress(OSError):
            while not self.server.released.wait(0.05):
                self.wfile.write(b".")
                self.wfile.flush()
        self.close_connection = True

    def _cut(self, query: dict[str, str], body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")
        self.wfile.flush()
        self.close_connection = True

    def _hangup(self, query: dict[str, str], body: bytes) -> None:
        self.close_connection = True

    def _bomb(self, query: dict[str, str], body: bytes) -> None:
        self._answer(200, gzip.compress(bytes(50_000_000)), "text/plain", Content_Encoding="gzip")

    def _large(self, query: dict[str, str], body: bytes) -> None:
        size = int(query["size"])
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        block = b"0123456789abcdef" * 4096
        for start in range(0, size, len(block)):
            self.wfile.write(block[: min(len(block), size - start)])


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Server]:
    """Serve until the end of the block."""
    server = Server(certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
