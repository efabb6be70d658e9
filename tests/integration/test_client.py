"""The client has a method for every route, and sends what the route takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lightflow.client import Client, ServerError
from lightflow.server.api import ROUTES, STREAM, TABLE
from lightflow.server.openapi import operation_id
from lightflow.server.routing import Route, RouteTable, check_body, read_query


def follow(client: Client) -> None:
    """Follow the feed to the end of the server."""
    with pytest.raises(ServerError, match="the server has ended"):
        list(client.events(["run:r"], as_of="1"))


#: The call of each route, by the name of its operation.
CALLS: dict[str, Callable[[Client], Any]] = {
    "health": lambda client: client.health(),
    "metrics": lambda client: client.metrics(),
    "openapi": lambda client: client.openapi(),
    "login": lambda client: client.login("code"),
    "make_code": lambda client: client.login_code(),
    "whoami": lambda client: client.whoami(),
    "get_system": lambda client: client.system(),
    "graphql": lambda client: client.graphql("{ runs { nodes { id } } }", {"x": 1}, operation="Q"),
    "list_workflows": lambda client: client.workflows(runs=3),
    "get_workflow": lambda client: client.workflow("a", runs=3),
    "get_workflow_geometry": lambda client: client.workflow_geometry("a", fold="none", toggled=["g"]),
    "get_grid": lambda client: client.grid("a", runs=3, after="1"),
    "get_source": lambda client: client.source("a"),
    "list_durations": lambda client: client.durations("a", task="t", runs=3),
    "check_params": lambda client: client.check("a", {"x": 1}),
    "start_run": lambda client: client.start("a", {"x": 1}, key="k", only=["t"], start=["u"], values_from="latest"),
    "pause_workflow": lambda client: client.pause_workflow("a", "holiday"),
    "unpause_workflow": lambda client: client.unpause_workflow("a"),
    "list_runs": lambda client: client.runs("a", after="1", status="FAILED", since="2026-01-31", all=True),
    "get_run": lambda client: client.run("r/1"),
    "get_start": lambda client: client.started("r"),
    "get_graph": lambda client: client.graph("r"),
    "get_geometry": lambda client: client.geometry("r", fold="all"),
    "get_critical_path": lambda client: client.critical_path("r"),
    "list_waits": lambda client: client.waits("r"),
    "list_groups": lambda client: client.groups("r"),
    "list_children": lambda client: client.children("r", limit=2, after="1"),
    "list_forks": lambda client: client.forks("r", limit=2, after="1"),
    "compare_runs": lambda client: client.diff("r", "s"),
    "preview_rerun": lambda client: client.preview_retry("r", ["a", "b"], only=True),
    "list_values": lambda client: client.values("r"),
    "get_value": lambda client: client.value("r", "t", "k"),
    "get_value_of_instance": lambda client: client.value("r", "t", "k", index=0),
    "cancel_run": lambda client: client.cancel("r"),
    "resume_run": lambda client: client.resume("r", key="k"),
    "retry_run": lambda client: client.retry("r", ["t"], only=True, ignore_upstream=True, key="k"),
    "fork_run": lambda client: client.fork("r", ["t"], {"x": 1}, key="k"),
    "start_again": lambda client: client.again("r", key="k"),
    "clear_tasks": lambda client: client.clear("r", ["t"], only=True),
    "mark_tasks": lambda client: client.mark("r", ["t"], "success", reason="seen", outputs={"n": 1}),
    "list_tasks": lambda client: client.tasks("r"),
    "list_attempts": lambda client: client.attempts("r"),
    "get_task": lambda client: client.task("r", "t"),
    "get_task_of_instance": lambda client: client.task("r", "t", index=0),
    "list_instances": lambda client: client.instances("r", "t", status=["FAILED", "SUCCESS"], order="index"),
    "get_why": lambda client: client.why("r", "t"),
    "get_why_of_instance": lambda client: client.why("r", "t", index=0),
    "decide": lambda client: client.decide("r", "t", approved=True, fields={"n": 1}, comment="fine", by="ann"),
    "decide_of_instance": lambda client: client.decide("r", "t", approved=False, index=0),
    "get_log": lambda client: list(client.logs("r", "t")),
    "get_log_of_instance": lambda client: list(client.logs("r", "t", index=0, attempt=2)),
    "list_triggers": lambda client: client.triggers("a"),
    "list_planned": lambda client: client.planned("a:schedule", limit=2),
    "fire_trigger": lambda client: client.fire("a:schedule", at="2026-01-31T00:00:00Z", key="k"),
    "pause_trigger": lambda client: client.pause_trigger("a:schedule", "holiday"),
    "unpause_trigger": lambda client: client.unpause_trigger("a:schedule"),
    "list_fires": lambda client: client.fires(workflow="a", status=["STARTED", "SKIPPED"]),
    "wake_runs": lambda client: client.wake(dry_run=True),
    "prune": lambda client: client.prune("a", older_than="30d", keep=5, orphans=True),
    "list_pools": lambda client: client.pools(),
    "set_pool": lambda client: client.set_pool("p", 2),
    "delete_pool": lambda client: client.delete_pool("p"),
    "list_events": lambda client: client.changes(limit=2, after="1"),
    "list_events_of_run": lambda client: client.changes("r"),
    "stream": follow,
}
#: An answer with all that the methods read.
ANSWER = {
    **{name: [] for name in ("problems", "runs", "tasks", "waits", "groups", "values", "pools", "columns", "rows")},
    **dict.fromkeys(("code", "value", "as_of", "after"), "x"),
}


class Received:
    """The requests that a server of the tests has received."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []


@pytest.fixture(scope="module")
def received() -> Iterator[tuple[Client, Received]]:
    record = Received()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            record.requests.append((self.command, self.path, headers, body))
            data = b"" if self.path.endswith("/stream") else json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Log-Offset", "0")
            self.send_header("X-Log-Size", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names that the base class calls

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Client(f"http://127.0.0.1:{server.server_port}", "token"), record
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_each_route_has_a_call() -> None:
    assert sorted(CALLS) == sorted(map(operation_id, (*ROUTES, STREAM)))


@pytest.mark.parametrize("route", [*ROUTES, STREAM], ids=operation_id)
def test_a_call_sends_what_its_route_takes(route: Route, received: tuple[Client, Received]) -> None:
    client, record = received
    record.requests.clear()
    CALLS[operation_id(route)](client)
    ((method, target, headers, body),) = record.requests
    path, _, query = target.partition("?")
    found, _ = (TABLE if route is not STREAM else RouteTable([STREAM])).find(method, path)
    assert found == route
    read_query(route, query)
    if body:
        assert route.body is not None
        check_body(json.loads(body), route.body)
    else:
        assert not (route.body or {}).get("required")
    assert ("idempotency-key" in headers) == route.takes_key
    assert headers["authorization"] == "Bearer token"
