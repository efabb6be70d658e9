"""Hostile names in each part of each route: no defect of the server, and no file that is not for clients."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from server_kit import RunningServer, filled, lightflow, serving

from lightflow.server.api import ROUTES
from lightflow.server.routing import Route

FLOW = """
workflow_name: flow
tasks:
  t: {run: "echo printed; echo n=1 >> $LIGHTFLOW_OUTPUT"}
  m: {run: "echo n=1 >> $LIGHTFLOW_OUTPUT", foreach: [1]}
"""
CONTENT = "content of a file outside"
NAMES = {"run": "r", "other": "r", "task": "t", "index": "0", "attempt": "1", "workflow": "flow", "key": "n",
         "pool": "none", "trigger": "flow:manual"}  # fmt: skip
#: Bodies that each reach what the name in the path chooses.
BODIES: Mapping[str, Any] = {
    "pool": {"slots": 1},
    "fork": {"tasks": ["t"]},
    "clear": {"tasks": ["t"]},
    "mark": {"tasks": ["t"], "status": "success"},
    "decision": {"approved": True},
    "graphql": {"query": "{ whoami { role } }"},
    "login": {"code": "x"},
}
#: Addresses outside the table of routes.
OTHERS = [("GET", "/{}"), ("GET", "/ui/{}"), ("POST", "/hooks/{}/webhook"), ("POST", "/hooks/flow/{}")]
TEXTS = [
    ".", "..", "...", "/", "//", "../..", "../../../../../../etc/passwd", "/etc/passwd", "....//....//etc/passwd",
    "..\\..\\b", "\\\\host\\share", "C:\\b", "~", "~root", "file:///etc/passwd", "http://127.0.0.1:1/", "flow.yaml",
    "lightflow.db", "lightflow.db-wal", "../outside", ".git", "CON", "-h", "--help", "'", '"', "`", "' OR 1=1 --",
    "'; DROP TABLE liteflow_dags; --", '" OR ""="', "%", "_", "*", "?", "[", "m[", "m[-1]", "m[99999999999999999999]",
    "m[1e3]", "#", ";id", "|id", "&", "$(id)", "${{ params }}", "${jndi:ldap://a}", "{run}", "{0.__class__}", "%s%n",
    "<script>", "&#39;", "__proto__", "__class__", "None", "null", "true", "-1", "9223372036854775808", "1e9", "0x1",
    "1_0", "+1", " 1", "1.0", "nan", "٣", "²", "9" * 400, "flow:", ":", "flow:manual:x", "a" * 600, "a" * 255,
    "\x00", "\n", "\r\nX: y", "\x1b[2J", "\x7f", "\u202e", "\u200b", "\u2028", "\ufeff", "\uff0f..\uff0f", "e\u0301",
    "🙂" * 100,
]  # fmt: skip
#: How a text is sent as a part of an address.
FORMS: list[Callable[[str], str]] = [
    lambda text: quote(text, safe=""),
    lambda text: quote(text, safe="/\\'\"`;|&$(){}[]<>*:@!,=+~^"),
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: quote(text, safe="").lower(),
    lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    lambda text: quote(text, safe="").replace(".", "%c0%ae").replace("%2F", "%c0%af"),
    lambda text: quote(f"r/../{text}", safe=""),
    lambda text: quote(f"{text}\x00.yaml", safe=""),
    lambda text: quote(text, safe="") + "%ff",
    lambda text: quote(text, safe="") + "%ed%a0%80",
    lambda text: quote(text, safe="") + "%",
    lambda text: quote(f"t/../{text}", safe=""),
    lambda text: quote(f" {text} ", safe=""),
]
HOSTILE = [form(text) for text in TEXTS for form in FORMS]


class Target(NamedTuple):
    """Where a name is put: `{}` in an address."""

    method: str
    address: str
    body: Any


def targets_of(route: Route) -> Iterator[Target]:
    """Return the named parts of the path of a route, and the parameters of its query that take a text or a number."""
    words = reversed(re.findall(r"\w+", route.path))
    body: Any = None if route.body is None else next((BODIES[word] for word in words if word in BODIES), {})
    for part in re.findall(r"\{(\w+)\}", route.path):
        yield Target(route.method, filled(route.path, NAMES | {part: "{}"}), body)
    plain = filled(route.path, NAMES)
    for query in route.query:
        yield Target(route.method, f"{plain}?{query.name}={{}}", body)


class Caller:
    """Sends addresses as they are, over one connection while the server leaves it open."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._socket: socket.socket | None = None

    def status(self, target: Target, name: str) -> tuple[int, bytes]:
        """Send a request and return the status and the body of the answer."""
        body = b"" if target.body is None else json.dumps(target.body).encode()
        lines = [
            f"{target.method} {target.address.replace('{}', name)} HTTP/1.1",
            f"Host: 127.0.0.1:{self._server.port}",
            f"Authorization: Bearer {self._server.operator}",
        ]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._server.port), timeout=60)
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        with http.client.HTTPResponse(self._socket, method=target.method) as response:
            response.begin()
            answer = response.status, response.read()
            ends = response.will_close
        if ends:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    (tmp_path / "outside").write_text(CONTENT)
    (folder / "flow.yaml").write_text(FLOW)
    assert lightflow(folder, "run", "flow.yaml", "--run-id", "r").returncode == 0
    with serving(folder, "serve") as running:
        yield running


def files_of(folder: Path) -> set[str]:
    """Return all files but those of the database."""
    return {str(path) for path in folder.rglob("*") if not path.name.startswith("lightflow.db")}


@pytest.mark.timeout(3600)
def test_no_name_leads_to_a_defect_or_to_a_file(
    server: RunningServer, quick: Callable[[int, int], int], pytestconfig: pytest.Config
) -> None:
    """Each part of each route gets some of the names, and all of them with `--long`."""
    assert len(set(HOSTILE)) >= 900
    chosen = random.Random(pytestconfig.getoption("--crash-seed"))
    names = [*HOSTILE, quote(str(server.folder.parent / "outside"), safe="")]
    targets = [target for route in ROUTES for target in targets_of(route)]
    targets += [Target(method, address, None) for method, address in OTHERS]
    before, caller = files_of(server.folder.parent), Caller(server)
    try:
        for target in targets:
            for name in chosen.sample(names, quick(2, len(names))):
                status, body = caller.status(target, name)
                assert 200 <= status < 500, (status, target, name, body)
                assert CONTENT.encode() not in body, (target, name)
                assert b"root:x:" not in body, (target, name)
    finally:
        caller.close()
    assert server.get("/api/v1/runs/r")["status"] == "SUCCESS"
    assert [run["run_id"] for run in server.get("/api/v1/runs")["runs"]] == ["r"]
    assert files_of(server.folder.parent) == before
