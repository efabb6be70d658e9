"""Hostile requests, byte by byte: each has its answer, the server answers the next request, and its memory stays small.

The number of each request is that of a list of what HTTP servers were attacked with. 84 to 88, requests to webhooks,
are in `test_webhooks`: this server has none.
"""

from __future__ import annotations

import gzip
import json
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scheduler_kit import until
from server_kit import RunningServer, lightflow, serving

CLOSED = 0  # the connection was closed without an answer
MOST_KIB = 100 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "w.yaml").write_text("workflow_name: w\ntasks: {a: {run: 'seq 1 400000'}}\n")
    assert lightflow(folder, "run", "w.yaml", "-q", "--run-id", "r").returncode == 0
    with serving(folder, "ui", "lightflow.db") as running:
        yield running
        assert resident_kib(running.process.pid) < MOST_KIB


@pytest.fixture(autouse=True)
def _the_next_request_is_answered(server: RunningServer) -> Iterator[None]:
    yield
    assert server.request("GET", "/healthz", token=None).status == 200


def resident_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


def connect(server: RunningServer, source: str = "127.0.0.1") -> socket.socket:
    """Connect from an address of this machine."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=(source, 0))


def status_of(connection: socket.socket) -> int:
    """Return the status of the next answer, or CLOSED."""
    data = b""
    final = re.compile(rb"(?:HTTP/1\.1 1\d\d [^\r]*\r\n\r\n)*HTTP/1\.1 ([2-5]\d\d) ")
    try:
        while not (match := final.match(data)) and (more := connection.recv(65536)):
            data += more
    except ConnectionResetError:
        return CLOSED
    return int(match[1]) if match else CLOSED


def send(server: RunningServer, raw: bytes, *, ends: bool = False) -> int:
    """Send bytes and return the status of the answer; with `ends` the client sends nothing more."""
    with connect(server) as connection:
        try:
            connection.sendall(raw)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was refused before all of it was sent
        return status_of(connection)


def head(server: RunningServer, line: bytes, *lines: bytes, host: bytes | None = None, token: bool = True) -> bytes:
    """Return the head of a request with a host and a token."""
    own = f"127.0.0.1:{server.port}".encode()
    parts = [line, b"Host: " + (own if host is None else host)]
    if token:
        parts.append(b"Authorization: Bearer " + server.viewer.encode())
    return b"\r\n".join([*parts, *lines]) + b"\r\n\r\n"


# -- the first line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param(b"GET /healthz", 400, id="1 HTTP/0.9"),
        pytest.param(b"PRI * HTTP/2.0", 505, id="2 HTTP/2"),
        pytest.param(b"GET  /healthz HTTP/1.1", 400, id="3 two spaces"),
        pytest.param(b"get /healthz HTTP/1.1", 400, id="4 lower case"),
        pytest.param(b"BREW /healthz HTTP/1.1", 501, id="5 unknown method"),
        pytest.param(b"TRACE /healthz HTTP/1.1", 405, id="6 TRACE"),
        pytest.param(b"CONNECT example.com:443 HTTP/1.1", 404, id="7 CONNECT"),
        pytest.param(b"GET http://evil.example/healthz HTTP/1.1", 404, id="8 absolute form, foreign"),
        pytest.param(b"GET http://127.0.0.1/healthz HTTP/1.1", 404, id="9 absolute form, own"),
        pytest.param(b"OPTIONS * HTTP/1.1", 404, id="10 star"),
        pytest.param(b"GET /" + b"a" * 8192 + b" HTTP/1.1", 404, id="11 path of 8 KB"),
        pytest.param(b"GET /healthz\x00 HTTP/1.1", 400, id="12 NUL"),
        pytest.param("GET /healthé HTTP/1.1".encode(), 400, id="13 raw UTF-8"),
        pytest.param(b"GET /api/v1/runs/%00 HTTP/1.1", 404, id="14 encoded NUL"),
        pytest.param(b"GET /api/v1/runs/%2e%2e%2fr HTTP/1.1", 404, id="15 encoded dots"),
        pytest.param(b"GET /api/v1/runs/%252e%252e HTTP/1.1", 404, id="16 encoded twice"),
        pytest.param(b"GET //evil HTTP/1.1", 404, id="17 two slashes"),
        pytest.param(b"GET /api/v1/../runs HTTP/1.1", 404, id="18 dots"),
        pytest.param(b"GET /healthz;x HTTP/1.1", 404, id="19 semicolon"),
        pytest.param(b"GET /healthz\\ HTTP/1.1", 404, id="20 backslash"),
    ],
)
def test_first_lines(server: RunningServer, line: bytes, status: int) -> None:
    assert send(server, head(server, line)) == status


@pytest.mark.parametrize("path", [b"/healthz;x", b"/healthz\\", b"//healthz", b"/%68ealthz", b"/healthz/", b"/HEALTHZ"])
def test_only_the_exact_path_needs_no_token(server: RunningServer, path: bytes) -> None:
    assert send(server, head(server, b"GET " + path + b" HTTP/1.1", token=False)) == 401


# -- Host ------------------------------------------------------------------------------------------------------------


def test_21_no_host(server: RunningServer) -> None:
    assert send(server, b"GET /healthz HTTP/1.1\r\n\r\n") == 400


def test_22_two_hosts(server: RunningServer) -> None:
    own = f"Host: 127.0.0.1:{server.port}".encode()
    assert send(server, b"\r\n".join([b"GET /healthz HTTP/1.1", own, own, b"", b""])) == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        pytest.param("", 421, id="23 empty"),
        pytest.param("evil.example:{port}", 421, id="24 foreign"),
        pytest.param("127.0.0.1:1", 421, id="25 wrong port"),
        pytest.param("127.0.0.1", 421, id="26 no port"),
        pytest.param("localhost.:{port}", 421, id="27 trailing dot"),
        pytest.param("LOCALHOST:{port}", 200, id="28 upper case"),
        pytest.param("user@127.0.0.1:{port}", 421, id="29 user"),
        pytest.param("[::1%25lo]:{port}", 421, id="30 zone"),
        pytest.param("2130706433:{port}", 421, id="31 decimal address"),
        pytest.param("0.0.0.0:{port}", 421, id="32 any address"),
        pytest.param("\t127.0.0.1:{port}", 200, id="33 tab"),
    ],
)
def test_hosts(server: RunningServer, host: str, status: int) -> None:
    sent = host.replace("{port}", str(server.port)).encode()
    assert send(server, head(server, b"GET /healthz HTTP/1.1", host=sent, token=False)) == status


# -- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param([b"X: " + b"a" * 1024 * 1024], 431, id="34 header of 1 MB"),
        pytest.param([b"X%d: a" % number for number in range(10_000)], 431, id="35 10,000 headers"),
        pytest.param([b"X: a\r\n b"], 400, id="36 folded line"),
        pytest.param([b"X: a\nY: b"], 400, id="37 LF alone"),
        pytest.param([b"X: a\rY: b"], 400, id="38 CR alone"),
        pytest.param([b"X : a"], 400, id="39 space before the colon"),
        pytest.param([b"Authorization: Bearer TOKEN"], 401, id="40 two tokens"),
        pytest.param([b"Origin: https://evil.example"], 403, id="45 foreign origin"),
        pytest.param([b"Origin: null"], 403, id="46 origin null"),
        pytest.param([b"Sec-Fetch-Site: cross-site"], 403, id="47 cross-site"),
        pytest.param([b"X-Forwarded-Host: evil.example"], 200, id="48 forwarded host"),
        pytest.param([b"Upgrade: websocket", b"Connection: Upgrade"], 200, id="49 upgrade"),
        pytest.param([b"Expect: 100-continue"], 200, id="50 expect"),
    ],
)
def test_headers(server: RunningServer, lines: list[bytes], status: int) -> None:
    assert send(server, head(server, b"GET /api/v1/whoami HTTP/1.1", *lines)) == status


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("Authorization: Bearer é".encode(), id="41 not ASCII"),
        pytest.param(b"X: 1", id="42 token in the address"),
        pytest.param(b"Authorization: Basic TOKEN", id="43 Basic"),
        pytest.param(b"Authorization: Bearer TOKENx", id="44 a byte more"),
        pytest.param(b"Cookie: token=TOKEN", id="a cookie"),
    ],
)
def test_tokens(server: RunningServer, line: bytes) -> None:
    token = server.viewer.encode()
    path = b"GET /api/v1/whoami?token=" + token + b" HTTP/1.1"
    assert send(server, head(server, path, line.replace(b"TOKEN", token), token=False)) == 401


# -- bodies ----------------------------------------------------------------------------------------------------------

QUERY = b'{"query": "{ whoami { role } }"}'
JSON_TYPE = b"Content-Type: application/json"


def post(server: RunningServer, body: bytes, *lines: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return head(server, b"POST /graphql HTTP/1.1", *(lines or (JSON_TYPE, length))) + body


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        pytest.param(
            [b"Content-Length: 5", b"Transfer-Encoding: chunked"], b"0\r\n\r\n", 400, id="51 length and chunks"
        ),
        pytest.param([b"Content-Length: 5", b"Content-Length: 6"], b"abcdef", 400, id="52 two lengths"),
        pytest.param([b"Content-Length: -1"], b"", 400, id="53 negative length"),
        pytest.param([b"Content-Length: %d" % (50 * 1024 * 1024)], b"", 413, id="56 50 MB"),
        pytest.param(
            [b"Transfer-Encoding: chunked"],
            b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(QUERY), QUERY),
            200,
            id="58 chunk extension",
        ),
    ],
)
def test_lengths(server: RunningServer, lines: list[bytes], body: bytes, status: int) -> None:
    assert send(server, post(server, body, JSON_TYPE, *lines)) == status


def test_54_a_body_that_ends_too_early(server: RunningServer) -> None:
    raw = post(server, QUERY, JSON_TYPE, b"Content-Length: %d" % (len(QUERY) + 100))
    assert send(server, raw, ends=True) in (400, CLOSED)


def test_55_bytes_after_the_body_are_no_request(server: RunningServer) -> None:
    smuggled = head(server, b"GET /api/v1/whoami HTTP/1.1")
    with connect(server) as connection:
        connection.sendall(post(server, QUERY + smuggled, JSON_TYPE, b"Content-Length: %d" % len(QUERY)))
        answer = b""
        while more := connection.recv(65536):
            answer += more
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("lines", "body", "status"),
    [
        pytest.param(
            [JSON_TYPE, b"Content-Encoding: gzip"], gzip.compress(b" " * 50_000_000), 415, id="59 compressed bomb"
        ),
        pytest.param([b"Content-Type: application/x-www-form-urlencoded"], b"query=%7B%7D", 415, id="60 form"),
        pytest.param([b"Content-Type: multipart/form-data; boundary=x"], b"--x--\r\n", 415, id="61 multipart"),
        pytest.param([JSON_TYPE], b"[" * 100_000 + b"]" * 100_000, 400, id="62 depth"),
        pytest.param([JSON_TYPE], b'{"query": NaN}', 400, id="63 NaN"),
        pytest.param([JSON_TYPE], b'{"query": "{ a }", "query": "{ b }"}', 400, id="64 a name twice"),
        pytest.param([JSON_TYPE], b'{"query": "\\ud800"}', 400, id="65 half of a surrogate pair"),
        pytest.param([JSON_TYPE], b'{"query": ' + b"9" * 10_000 + b"}", 400, id="66 a number of 10,000 digits"),
    ],
)
def test_contents(server: RunningServer, lines: list[bytes], body: bytes, status: int) -> None:
    assert send(server, post(server, body, *lines, b"Content-Length: %d" % len(body))) == status


# -- time ------------------------------------------------------------------------------------------------------------


def _store(found: dict[str, int], name: str, case: Callable[[], int]) -> None:
    found[name] = case()


def _slowly(server: RunningServer) -> int:
    with connect(server) as connection:
        connection.settimeout(0.5)
        for number in range(60):
            try:
                connection.sendall(
                    b"GET /healthz HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[number : number + 1]
                )
                return status_of(connection)
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return CLOSED
    return -1


@pytest.mark.timeout(120)
def test_57_and_67_to_69_a_client_that_does_not_send_is_left(server: RunningServer) -> None:
    """A silent client, a byte each half second, a body that never comes: at the same time, while others are served."""
    cases: dict[str, Callable[[], int]] = {
        "67 silent": lambda: send(server, b""),
        "68 slow": lambda: _slowly(server),
        "69 no body": lambda: send(server, post(server, b"", JSON_TYPE, b"Content-Length: 10")),
        "57 chunk of 2^64 bytes": lambda: send(
            server, post(server, b"1" + b"0" * 16 + b"\r\n", JSON_TYPE, b"Transfer-Encoding: chunked")
        ),
    }
    found: dict[str, int] = {}
    threads = [threading.Thread(target=_store, args=(found, name, case)) for name, case in cases.items()]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert server.request("GET", "/healthz", token=None).status == 200
        time.sleep(0.2)
    assert found == {"67 silent": CLOSED, "68 slow": 408, "69 no body": 408, "57 chunk of 2^64 bytes": 408}


def test_a_request_that_arrives_line_by_line_is_answered(server: RunningServer) -> None:
    with connect(server) as connection:
        for line in head(server, b"GET /healthz HTTP/1.1", b"X: a").splitlines(keepends=True):
            connection.sendall(line)
            assert server.request("GET", "/healthz", token=None).status == 200  # so the line has been read
        assert status_of(connection) == 200


def test_70_a_client_that_reads_nothing_delays_no_other(server: RunningServer) -> None:
    path = b"GET /api/v1/runs/r/tasks/a/attempts/1/log?limit=1048576 HTTP/1.1"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head(server, path))
        for _ in range(20):
            assert server.request("GET", "/healthz", token=None).status == 200


def test_71_half_requests_beyond_the_limits_are_refused_and_others_are_served(server: RunningServer) -> None:
    """A client address has 116 connections, and all of them together 128: so one leaves room for others."""

    def answered(source: str) -> int:
        with connect(server, source) as connection:
            connection.sendall(head(server, b"GET /healthz HTTP/1.1"))
            return status_of(connection)

    slow: list[socket.socket] = []

    def add(source: str, count: int) -> None:
        for _ in range(count):
            slow.append(connect(server, source))
            slow[-1].sendall(b"GET /healthz HTTP/1.1\r\n")

    try:
        add("127.0.0.1", 116)
        assert answered("127.0.0.1") in (503, CLOSED)
        assert answered("127.0.0.2") == 200
        add("127.0.0.2", 12)
        assert answered("127.0.0.3") in (503, CLOSED)
        assert not select.select(slow, [], [], 0)[0], "those that were there first are served"
        slow.pop(0).close()
        until(lambda: answered("127.0.0.1") == 200)
    finally:
        for connection in slow:
            connection.close()
    until(lambda: answered("127.0.0.1") == 200)


def test_72_a_client_that_resets_the_connection(server: RunningServer) -> None:
    path = b"GET /api/v1/runs/r/tasks/a/attempts/1/log?limit=1048576 HTTP/1.1"
    for _ in range(20):
        connection = connect(server)
        connection.sendall(head(server, path))
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


# -- GraphQL ---------------------------------------------------------------------------------------------------------

DOUBLING = "{ ...f0 } " + " ".join(
    f"fragment f{number} on Query {{ ...f{number + 1} ...f{number + 1} }}" for number in range(20)
)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("{" + "whoami{role}" * 3_000 + "}", 413, id="73 3,000 twins"),
        pytest.param(
            "{system{" + "".join(f"a{number}:version " for number in range(5_000)) + "}}", 413, id="74 aliases"
        ),
        pytest.param("{a" * 200 + "}" * 200, 400, id="75 depth 200"),
        pytest.param("{ ...f } fragment f on Query { ...g } fragment g on Query { ...f }", 400, id="76 circle"),
        pytest.param(DOUBLING + " fragment f20 on Query { whoami { role } }", 400, id="77 2^20 fragments"),
        pytest.param("{whoami{role" + "@skip(if:false)" * 1_000 + "}}", 400, id="78 1,000 directives"),
        pytest.param("{ __schema { types { name } } }", 403, id="81 introspection by a viewer"),
        pytest.param("{ runs(first: 1000000000) { nodes { id } } }", 400, id="82 first: 10^9"),
        pytest.param('{ runs(after: "?") { nodes { id } } }', 200, id="83 wrong cursor"),
    ],
)
def test_operations(server: RunningServer, query: str, status: int) -> None:
    answer = server.request("POST", "/graphql", {"query": query}, token="viewer")
    assert answer.status == status
    assert answer.json()["errors"][0]["extensions"]["code"] in ("BAD_INPUT", "TOO_COSTLY", "FORBIDDEN")


def test_79_a_batch(server: RunningServer) -> None:
    assert server.request("POST", "/graphql", json.dumps([json.loads(QUERY)] * 10).encode()).status == 422


def test_80_a_mutation_by_get(server: RunningServer) -> None:
    assert send(server, head(server, b"GET /graphql?query=mutation%7BcancelRun HTTP/1.1")) == 405
