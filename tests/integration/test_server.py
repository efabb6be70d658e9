"""The server: what each route answers, to whom, and what it refuses. Real servers, real runs."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from openapi_spec_validator import validate
from scheduler_kit import until
from server_kit import Answered, RunningServer, check_described, environment, filled, lightflow, serving

from lightflow.client import Client, ServerError
from lightflow.server.api import OPEN_ROUTES, ROUTES, STREAM
from lightflow.server.options import WebOptions
from lightflow.server.stream import MOST_STREAMS
from lightflow.server.tokens import load_tokens
from lightflow.server.web import WebServer
from liteflow import Dag
from liteflow.api import History

FLOW = """
workflow_name: five
params: {n: 3}
tasks:
  a: {run: "echo hello; echo n=1 >> $LIGHTFLOW_OUTPUT"}
  m:
    run: echo n=1 >> $LIGHTFLOW_OUTPUT; echo item ${{ item }}; test ${{ item }} != 2
    foreach: [1, 2, 3]
    depends_on: [a]
  c: {run: "exit 3", depends_on: [a]}
  d: {run: "echo d", depends_on: [c]}
"""
LONG = """
workflow_name: long
tasks:
  wait: {run: "sleep 600"}
  teardown: {run: "echo torn", teardown_of: wait}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "five.yaml").write_text(FLOW)
    assert lightflow(folder, "run", "five.yaml").returncode == 1
    with serving(folder, "ui", "lightflow.db") as running:
        yield running


@pytest.fixture(scope="module")
def run_id(server: RunningServer) -> str:
    text: str = server.get("/api/v1/runs")["runs"][0]["run_id"]
    return text


def in_path(path: str, run: str, task: str = "a") -> str:
    """Return the path of a route for this run, or with names that do not exist."""
    task = "m" if "{index}" in path or "instances" in path else task
    names = {
        "run": run,
        "other": run,
        "task": task,
        "index": "0",
        "attempt": "1",
        "workflow": "five",
        "key": "n",
        "pool": "none",
        "trigger": "none:schedule",
    }
    return filled(path, names)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_needs_a_token_of_its_role(server: RunningServer, run_id: str, route: object) -> None:
    assert isinstance(route, type(STREAM))
    path = in_path(route.path, run_id)
    is_open = (route.method, route.path) in OPEN_ROUTES
    for token in (None, "wrong", server.operator[:-1], server.operator + "x"):
        status = server.request(route.method, path, token=token).status
        assert (status != 401) if is_open else (status == 401), (token, status)
    # This server is read-only: it has viewers alone.
    for token in ("viewer", "operator"):
        status = server.request(route.method, path, token=token).status
        if route.role == "operator":
            assert status == 403
        elif route.method == "GET":
            # This server has no triggers, and serves no files.
            assert status == (404 if "{trigger}" in route.path or route.path.endswith("/source") else 200)


def test_a_server_that_hides_values_shows_them_nowhere(tmp_path: Path) -> None:
    secret = "a-value-to-hide"
    (tmp_path / f"{secret}.csv").touch()
    params = f"params: {{n: 3, who: {{type: string, default: {secret}}}, in: {{type: path}}, "
    params += f"kind: {{type: enum, values: [{secret}, other], default: other}}}}"
    trigger = "on: {file: {path: '*.csv', param: in, settle: 0s, initial: true}}"
    text = FLOW.replace("params: {n: 3}", f"{params}\n{trigger}").replace("[1, 2, 3]", f"[1, 2, {secret}]")
    text += f"  e: {{run: 'true', if: \"params.who == '{secret}-2'\"}}\n"
    (tmp_path / "five.yaml").write_text(text)
    choice = f"workflow_name: choice\nparams: {{size: {{type: enum, values: [{secret}, other]}}}}\n"
    (tmp_path / "choice.yaml").write_text(choice + "tasks: {a: {run: 'true'}}\n")
    lightflow(tmp_path, "run", "five.yaml", "--run-id", "hidden", "-p", "in=x")
    assert secret in lightflow(tmp_path, "why", "hidden", "e").stdout
    lightflow(tmp_path, "fork", "hidden", "--from", "d", "--run-id", "forked")
    assert lightflow(tmp_path, "status", "hidden", "--json").stdout.count(secret) > 1
    with serving(tmp_path, "serve", "--hide-values") as server:
        client = Client(server.url, server.viewer)
        until(lambda: [fire["status"] for fire in server.get("/api/v1/fires")["fires"]] == ["STARTED"])
        as_of = client.runs()["as_of"]
        for route in ROUTES:
            for task in ("a", "m", "e") if route.method == "GET" else ():
                body = server.request("GET", in_path(route.path, "hidden", task)).body
                assert route.path.endswith("/log") or secret.encode() not in body, route.path
        refused = server.request("GET", f"/api/v1/runs/hidden/tasks/m/instances?label={secret}")
        assert refused.status == 403
        found = [len(server.get(f"/api/v1/runs?text={text}")["runs"]) for text in (secret, secret[:3], "hidden")]
        assert found == [0, 0, 1]
        query = '{ run(id: "hidden") { params task(id: "m", index: 2) { label values { key content } } } '
        query += 'workflow(name: "five") { params } fires { nodes { key } } }'
        answer = server.request("POST", "/graphql", {"query": query})
        reasons = '{ run(id: "hidden") { reason task(id: "e") { reason why } events { nodes { reason } } } }'
        assert secret.encode() not in server.request("POST", "/graphql", {"query": reasons}).body
        assert secret.encode() not in answer.body
        assert answer.json()["data"]["run"] == {"params": None, "task": {"label": None, "values": []}}
        path, sent = "/api/v1/triggers/choice:manual/fire", {"Idempotency-Key": "k"}
        fired = server.request("POST", path, {}, headers=sent)
        assert (fired.status, fired.json()["status"], fired.json()["reason"]) == (202, "FAILED", None)
        mutations = 'mutation { fireTrigger(id: "choice:manual", requestKey: "k") { status reason } '
        mutations += 'startRun(input: {workflow: "choice", params: {size: 1}}) { problems { message field } } }'
        payload = server.request("POST", "/graphql", {"query": mutations})
        assert secret.encode() not in payload.body
        assert payload.json()["data"]["fireTrigger"] == {"status": "FAILED", "reason": None}
        assert payload.json()["data"]["startRun"]["problems"][0]["field"] == ["size"]
        for body in ({}, {"params": {"size": 1}}):
            for path in ("/api/v1/workflows/choice/check", "/api/v1/workflows/choice/runs"):
                answer = server.request("POST", path, body)
                assert b"size" in answer.body
                assert secret.encode() not in answer.body
        lightflow(tmp_path, "resume", "hidden", "-p", f"who={secret}")
        topics = {"runs", "run:hidden"}
        for event in client.events(sorted(topics), as_of=as_of):
            assert secret not in str(event)
            topics.discard(event["data"]["topic"])
            if not topics:
                break


@pytest.mark.parametrize("topics", ["runs", "run:x", "log:x:y:-1:1"])
def test_the_stream_needs_a_token(server: RunningServer, topics: str) -> None:
    for token in (None, "wrong"):
        assert server.request("GET", f"/api/v1/stream?topics={topics}", token=token).status == 401


def test_the_stream_names_the_logs_that_it_does_not_have(server: RunningServer) -> None:
    answer = server.request("GET", "/api/v1/stream?topics=log:none:a:-1:1,runs,log:none:b:-1:1")
    assert (answer.status, answer.json()["code"]) == (404, "NOT_FOUND")
    assert [error["field"] for error in answer.json()["errors"]] == ["log:none:a:-1:1", "log:none:b:-1:1"]


@pytest.mark.parametrize(
    "path", ["/healthz/", "/healthz;x", "//healthz", "/%68ealthz", "/api/v1/../../healthz", "/healthz/../api/v1/runs"]
)
def test_only_the_exact_path_is_open(server: RunningServer, path: str) -> None:
    assert server.request("GET", path, token=None).status == 401


def test_health_shows_nothing_but_ok(server: RunningServer) -> None:
    answer = server.request("GET", "/healthz", token=None)
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert "set-cookie" not in answer.headers
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


# -- files of the dashboard -------------------------------------------------------------------------------------------


def test_the_files_of_the_dashboard_need_no_token_and_are_cached(server: RunningServer) -> None:
    for path in ("/", "/ui/app.js", "/ui/ui.css"):
        first = server.request("GET", path, token=None)
        assert first.status == 200
        assert "set-cookie" not in first.headers
        assert first.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert first.headers["x-content-type-options"] == "nosniff"
        assert first.headers["cache-control"] == "no-cache"
        etag = first.headers["etag"]
        again = server.request("GET", path, token=None, headers={"If-None-Match": f'"x", {etag}'})
        assert (again.status, again.body) == (304, b"")
        small = server.request("GET", path, token=None, headers={"Accept-Encoding": "gzip"})
        assert gzip.decompress(small.body) == first.body
        assert len(small.body) < len(first.body)


@pytest.mark.parametrize("path", ["/healthz", "/", "/ui/app.js"])
def test_a_head_of_what_is_open_needs_no_token(server: RunningServer, path: str) -> None:
    whole, head = (server.request(method, path, token=None) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.body))
    assert server.request("HEAD", "/api/v1/runs", token=None).status == 401


@pytest.mark.parametrize(
    "path", ["/ui/", "/ui/none.js", "/ui/../api.py", "/ui/%2e%2e/api.py", "/ui/vendor/", "/ui/app.js/"]
)
def test_no_other_file_can_be_named(server: RunningServer, path: str) -> None:
    assert server.request("GET", path, token=None).status == 401


def test_a_link_of_another_page_may_lead_to_the_dashboard_and_to_nothing_else(server: RunningServer) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.request("GET", "/", token=None, headers=headers).status == 200
    assert server.request("GET", "/api/v1/runs", headers=headers).status == 403


def test_runs_are_listed_by_state(server: RunningServer) -> None:
    assert len(server.get("/api/v1/runs?status=FAILED")["runs"]) == 1
    assert server.get("/api/v1/runs?status=SUCCESS")["runs"] == []


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ("text=ID", 1),
        ("text=nowhere", 0),
        ('text="n": 3', 1),
        ("since=CREATED", 1),
        ("until=CREATED", 0),
        ("since=2026-01-01T00:00:00Z&until=2999-01-01T00:00:00Z", 1),
        ("trigger=five:manual", 0),
    ],
)
def test_runs_are_filtered(server: RunningServer, run_id: str, filters: str, count: int) -> None:
    created = server.get(f"/api/v1/runs/{run_id}")["created_at"]
    query = quote(filters.replace("ID", run_id).replace("CREATED", created), safe="=&")
    assert len(server.get(f"/api/v1/runs?{query}")["runs"]) == count


def test_the_system_has_a_clock_and_a_disk(server: RunningServer) -> None:
    system = server.get("/api/v1/system")
    assert system["disk_free_bytes"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", system["time"])


def test_a_preview_names_what_a_resume_would_run(server: RunningServer, run_id: str) -> None:
    preview = server.get(f"/api/v1/runs/{run_id}/rerun")
    assert (sorted(preview["runs"]), preview["stay"]) == (["c", "d", "m"], ["a"])


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_run_with_its_tasks(server: RunningServer, run_id: str) -> None:
    run = server.get(f"/api/v1/runs/{run_id}")
    assert (run["workflow"], run["status"], run["params"]) == ("five", "FAILED", {"n": 3})
    assert run["counts"] == {"SUCCESS": 1, "FAILED": 2, "UPSTREAM_FAILED": 1}
    tasks = server.get(f"/api/v1/runs/{run_id}/tasks")
    rows = [dict(zip(tasks["columns"], row, strict=True)) for row in tasks["rows"]]
    assert {(row["task"], row["map_index"]): row["status"] for row in rows} == {
        ("a", None): "SUCCESS",
        ("c", None): "FAILED",
        ("d", None): "UPSTREAM_FAILED",
        ("m", None): "FAILED",
        ("m", 0): "SUCCESS",
        ("m", 1): "FAILED",
        ("m", 2): "SUCCESS",
    }
    assert tasks["as_of"] == run["as_of"]
    graph = server.get(f"/api/v1/runs/{run_id}/graph")
    assert {task["id"] for task in graph["tasks"]} == {"a", "c", "d", "m"}


def test_pages_are_complete_and_in_order(server: RunningServer, run_id: str) -> None:
    everything = server.get(f"/api/v1/runs/{run_id}/events?limit=1000")["events"]
    paged, after = [], "0"
    while True:
        page = server.get(f"/api/v1/runs/{run_id}/events?limit=3&after={after}")
        if not page["events"]:
            break
        paged += page["events"]
        after = page["after"]
    assert paged == everything
    first = server.get(f"/api/v1/runs/{run_id}/tasks/m/instances?limit=2")
    names = [row[first["columns"].index("map_index")] for row in first["rows"]]
    rest = server.get(f"/api/v1/runs/{run_id}/tasks/m/instances?limit=2&after={first['after']}")
    names += [row[rest["columns"].index("map_index")] for row in rest["rows"]]
    assert (names, rest["after"]) == ([1, 0, 2], None)  # the failed instance is the first
    only = server.get(f"/api/v1/runs/{run_id}/tasks/m/instances?status=SUCCESS&order=index")
    assert [row[1] for row in only["rows"]] == [0, 2]


MANY_OPTIONS = """
workflow_name: many
pools: {p: 2}
tasks:
  make: {run: "true", setup: true}
  a: {run: "true", retries: 2, timeout: 1m, priority: 3, pool: p, depends_on: [make], on_success: {run: "true"}}
  m: {run: "echo ${{ item }}", foreach: [1, 2], max_parallel: 1, depends_on: [a]}
  g: {tasks: {x: {run: "true"}, y: {run: "true", if: "1 == 1", preconditions: ["true"]}}, depends_on: [a]}
  f: {run: "exit 1", continue_on_error: true, trigger_rule: all_done, depends_on: [g]}
  end: {run: "true", teardown_of: make, depends_on: [f]}
"""


def test_the_document_describes_each_place_of_a_row_and_each_key_of_a_graph(tmp_path: Path) -> None:
    """The kit holds each answer to the document; a key that it does not describe is refused there."""
    (tmp_path / "many.yaml").write_text(MANY_OPTIONS)
    done = lightflow(tmp_path, "run", "many.yaml", "--run-id", "many")
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(tmp_path, "ui", "lightflow.db") as server:
        schemas = server.get("/api/v1/openapi.json")["components"]["schemas"]
        graph = server.get("/api/v1/runs/many/graph")
        for path, name in (
            ("/tasks", "RunColumns"), ("/tasks/m/instances", "InstancesPage"), ("/attempts", "AttemptsAnswer")
        ):  # fmt: skip
            answer, row = server.get(f"/api/v1/runs/many{path}"), schemas[name]["properties"]["rows"]["items"]
            assert len(row["prefixItems"]) == row["minItems"] == row["maxItems"] == len(answer["columns"])
            assert answer["rows"]
    described = schemas["GraphTask"]["properties"].keys()
    used = {key for task in graph["tasks"] for key in task}
    assert used <= described
    assert len(used) > 15, used


def test_a_log_in_windows(server: RunningServer, run_id: str) -> None:
    base = f"/api/v1/runs/{run_id}/tasks/m/1/attempts/1/log"
    whole = server.request("GET", base)
    assert (whole.body, whole.headers["x-log-size"], whole.headers["x-log-generation"]) == (b"item 2\n", "7", "0")
    assert whole.headers["content-type"].startswith("text/plain")
    end = server.request("GET", f"{base}?from=end&limit=3")
    assert (end.body, end.headers["x-log-offset"]) == (b" 2\n", "4")
    found = server.request("GET", f"{base}?find=2")
    assert (found.body, found.headers["x-log-offset"]) == (b"item 2\n", "0")
    assert server.request("GET", f"{base}?find=absent").body == b""
    assert server.request("GET", f"/api/v1/runs/{run_id}/tasks/d/attempts/1/log").status == 404


def test_a_log_whose_middle_was_cut_out_has_another_generation(server: RunningServer, run_id: str) -> None:
    """The end of such a log moves down: who follows it begins again with the generation that the answer has."""
    log = Path(server.get(f"/api/v1/runs/{run_id}/tasks/a")["attempts"][0]["log"])
    away, base = log.with_suffix(".away"), f"/api/v1/runs/{run_id}/tasks/a/attempts/1/log"
    log.rename(away)
    try:
        with log.open("wb") as file:  # as the engine writes it above 96 MiB; the file has holes
            file.truncate(48 * 1024 * 1024)
            file.seek(0, os.SEEK_END)
            file.write("\n… 1,234,567 bytes dropped …\nthe end\n".encode())
        topic = f"log:{run_id}:a:-1:1"
        frame = next(event for event in Client(server.url, server.viewer).events([topic]) if event["event"] == "log")
        end = server.request("GET", f"{base}?from=end&limit=8")
        assert (end.body, end.headers["x-log-generation"]) == (b"the end\n", "1234567")
        assert frame["data"] == {"topic": topic, "size": log.stat().st_size, "generation": 1234567}
    finally:
        log.unlink()
        away.rename(log)


def test_why_values_and_workflows(server: RunningServer, run_id: str) -> None:
    why = server.get(f"/api/v1/runs/{run_id}/tasks/d/why")
    assert why["status"] == "UPSTREAM_FAILED"
    assert any("c" in sentence for sentence in why["because"])
    assert server.get(f"/api/v1/runs/{run_id}/values/a/n")["value"] == "1"
    assert server.get(f"/api/v1/runs/{run_id}/values")["outputs"] == {}  # the run has failed
    (workflow,) = server.get("/api/v1/workflows")["workflows"]
    assert (workflow["workflow"], workflow["latest"]["run_id"], workflow["served"]) == ("five", run_id, None)
    grid = server.get("/api/v1/workflows/five/grid")
    assert grid["tasks"] == ["a", "m", "c", "d"]
    assert dict(zip(grid["tasks"], grid["runs"][0]["states"], strict=True))["d"] == "UPSTREAM_FAILED"


def test_so_many_clients_may_follow_also_when_they_come_at_once(server: RunningServer) -> None:
    head = f"GET /api/v1/stream?topics=runs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
    head += f"Authorization: Bearer {server.viewer}\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(MOST_STREAMS + 8)]
    try:
        for client in clients:
            client.sendall(head.encode())
        answers = [client.recv(1000).partition(b"\r\n")[0] for client in clients]
        assert sorted(Counter(answers).values()) == [8, MOST_STREAMS], answers
        assert server.get("/api/v1/system")["stream_clients"] == MOST_STREAMS
    finally:
        for client in clients:
            client.close()
    until(lambda: server.get("/api/v1/system")["stream_clients"] == 0)


def test_a_grid_of_no_runs_has_no_further_page(server: RunningServer) -> None:
    grid = server.get("/api/v1/workflows/five/grid?runs=0")
    assert (grid["runs"], grid["after"]) == ([], None)


@pytest.mark.parametrize("attempt", ["-1", "x", "1e3", "9" * 18])
def test_what_is_no_number_of_an_attempt_is_not_found(server: RunningServer, run_id: str, attempt: str) -> None:
    answer = server.request("GET", f"/api/v1/runs/{run_id}/tasks/a/attempts/{attempt}/log")
    assert (answer.status, answer.json()["detail"]) == (404, f"{attempt!r} is not the number of an attempt")


def test_metrics_are_in_the_text_format(server: RunningServer) -> None:
    lines = server.request("GET", "/metrics").body.decode().splitlines()
    assert 'lightflow_runs{workflow="five",state="FAILED"} 1' in lines
    for line in lines:
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{(\w+=\"[^\"]*\",?)*\})? [0-9.e+-]+", line), line


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/api/v1/runs?limit=0", 400, "limit"),
        ("/api/v1/runs?limit=many", 400, "limit"),
        ("/api/v1/runs?limit=5&limit=6", 400, "limit"),
        ("/api/v1/runs?after=x", 400, "after"),
        ("/api/v1/runs?since=yesterday", 400, "since"),
        ("/api/v1/runs?colour=red", 400, "colour"),
        ("/api/v1/stream?topics=nothing", 400, None),
        ("/api/v1/stream", 400, None),
        ("/api/v1/runs/none", 404, None),
        ("/api/v1/runs/%00", 404, None),
        ("/api/v1/runs/%ff", 400, None),
        ("/api/v1/nothing", 404, None),
    ],
)
def test_a_mistake_is_answered_with_a_problem(server: RunningServer, path: str, status: int, field: str | None) -> None:
    answer = server.request("GET", path)
    problem = answer.json()
    assert (answer.status, problem["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"]
    assert [error["field"] for error in problem.get("errors", ())] == ([] if field is None else [field])


def test_a_method_that_a_path_does_not_have(server: RunningServer) -> None:
    answer = server.request("DELETE", "/api/v1/runs")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


# -- who may call ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.:{port}", "user@127.0.0.1:{port}", "0.0.0.0:{port}"]
)
def test_another_host_is_refused(server: RunningServer, host: str) -> None:
    answer = server.request("GET", "/healthz", token=None, headers={"Host": host.format(port=server.port)})
    assert answer.status == 421


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_a_page_of_another_origin_is_refused(server: RunningServer, headers: dict[str, str]) -> None:
    assert server.request("GET", "/api/v1/runs", headers=headers).status == 403
    same = {"Origin": server.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert server.request("GET", "/api/v1/runs", headers=same).status == 200


def test_the_tokens_are_readable_by_their_user_only(server: RunningServer) -> None:
    (path,) = (server.folder / "state" / "lightflow").glob("server-*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {len(token) for token in json.loads(path.read_text()).values()} == {43}
    path.chmod(0o644)
    try:
        refused = lightflow(server.folder, "token")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "other users may read the tokens" in refused.stderr
    finally:
        path.chmod(0o600)


def test_the_file_of_the_tokens_may_be_named_from_here(server: RunningServer) -> None:
    first = lightflow(server.folder, "token", "--token-file", "tokens")
    assert (first.returncode, len(first.stdout.strip())) == (0, 43)
    assert lightflow(server.folder, "token", "--token-file", "tokens").stdout == first.stdout


def test_a_server_with_tokens_elsewhere_needs_no_state_folder(tmp_path: Path) -> None:
    (tmp_path / "five.yaml").write_text(FLOW)
    (tmp_path / "state").touch()  # so that no folder can be made there
    with serving(tmp_path, "serve", "--token-file", "tokens.json") as server:
        assert (tmp_path / "tokens.json.address").read_text() == f"{server.url}/"
        assert server.request("GET", "/healthz", token=None).status == 200
        server.process.terminate()
        _, errors = server.process.communicate(timeout=120)
        assert "hooks of runs do not know the address of this server, unless LIGHTFLOW_URL has it" in errors


def test_the_document_of_the_api_has_every_route(server: RunningServer) -> None:
    paths = server.get("/api/v1/openapi.json")["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {(route.method, route.path) for route in (*ROUTES, STREAM)}
    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_the_document_is_openapi_and_a_wrong_answer_breaks_it(server: RunningServer) -> None:
    validate(server.get("/api/v1/openapi.json"))
    runs = server.request("GET", "/api/v1/runs")
    check_described("GET", "/api/v1/runs", runs)
    for run in ({"run_id": 1}, {"created_at": "yesterday"}, {"colour": "red"}):
        body = runs.json()
        body["runs"][0] |= run
        with pytest.raises(AssertionError, match="runs/0"):
            check_described("GET", "/api/v1/runs", runs._replace(body=json.dumps(body).encode()))


def test_a_server_that_ends_ends_its_streams(tmp_path: Path) -> None:
    Dag("first", str(tmp_path / "lightflow.db")).run()
    with serving(tmp_path, "ui", "lightflow.db") as server, socket.create_connection(("127.0.0.1", server.port)) as raw:
        head = f"GET /api/v1/stream?topics=runs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        raw.sendall(f"{head}Authorization: Bearer {server.viewer}\r\n\r\n".encode())
        received = b""
        while b"retry" not in received:
            received += raw.recv(65536)
        assert f"id: {server.get('/api/v1/runs')['as_of']}\n".encode() in received, "the first block names the position"
        query = {"query": "subscription { events { seq } }"}
        subscribed = threading.Thread(target=lambda: answers.append(server.request("POST", "/graphql", query)))
        answers = list[Answered]()
        subscribed.start()
        until(lambda: server.get("/api/v1/system")["stream_clients"] == 2)
        server.process.terminate()
        assert server.process.wait(120) == 0
        while part := raw.recv(65536):
            received += part
        assert received.endswith(b"0\r\n\r\n"), "the end is a part of the answer"
        subscribed.join(120)
        assert b"the server ends" in answers[0].body
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


# -- changing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def operated(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of this process that may change the state file."""
    (tmp_path / "long.yaml").write_text(LONG)
    token_file = tmp_path / "tokens.json"
    assert lightflow(tmp_path, "run", "long.yaml", "--dry-run").returncode == 0
    (tmp_path / "first.yaml").write_text("workflow_name: first\ntasks: {a: {run: 'true'}}\n")
    assert lightflow(tmp_path, "run", "first.yaml").returncode == 0
    ready = threading.Event()
    options = WebOptions(
        db=str(tmp_path / "lightflow.db"),
        port=0,
        token_file=str(token_file),
        on_ready=lambda address: ready.set(),
        stop_on_signals=False,
    )
    server = WebServer(options)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(120)
    tokens = load_tokens(str(token_file))
    try:
        yield RunningServer(server.address, tmp_path, None, tokens.operator, tokens.viewer)  # type: ignore[arg-type]
    finally:
        server.stop()
        thread.join(120)


def test_an_operator_cancels_a_run_and_a_viewer_does_not(operated: RunningServer) -> None:
    client = Client(operated.url, operated.operator)
    before = client.runs()["as_of"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "long.yaml", "--quiet"],
        cwd=operated.folder,
        env=environment(operated.folder),
    )
    try:
        events = client.events(["runs"], as_of=before)
        for event in events:
            runs = event["data"].get("runs", [])
            if any(run["workflow"] == "long" and run["counts"].get("RUNNING") for run in runs):
                run_id = runs[0]["run_id"]
                break
        assert operated.request("POST", f"/api/v1/runs/{run_id}/cancel", token="viewer").status == 403
        assert client.cancel(run_id)["run_id"] == run_id
        assert client.wait(run_id, timeout_s=60)["status"] == "CANCELLED"
        assert client.run(run_id)["reason"] == "cancelled by operator of the server"
        with pytest.raises(ServerError, match="has ended already") as error:
            client.cancel(run_id)
        assert (error.value.status, error.value.code) == (409, "CONFLICT")
    finally:
        process.wait(60)


def test_a_killed_run_becomes_interrupted_in_the_feed(operated: RunningServer) -> None:
    client = Client(operated.url, operated.viewer)
    before = client.runs()["as_of"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "long.yaml", "--quiet"],
        cwd=operated.folder,
        env=environment(operated.folder),
    )
    seen = []
    for event in client.events(["runs"], as_of=before):
        for run in event["data"].get("runs", []):
            if run["workflow"] == "long":
                seen.append(run["status"])
                if run["counts"].get("RUNNING") and process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
        if "INTERRUPTED" in seen:
            break
    assert set(seen) <= {"PENDING", "RUNNING", "INTERRUPTED"}
    states = {}
    for state in ("INTERRUPTED", "RUNNING", "SUCCESS", "SUCCESS&status=INTERRUPTED"):
        states[state] = [run["workflow"] for run in operated.get(f"/api/v1/runs?status={state}")["runs"]]
        query = f"{{ runs(state: {json.dumps(state.split('&status='))}) {{ nodes {{ workflow }} }} }}"
        answer = operated.request("POST", "/graphql", {"query": query}).json()["data"]["runs"]["nodes"]
        assert [node["workflow"] for node in answer] == states[state]
    assert states == {
        "INTERRUPTED": ["long"],
        "RUNNING": [],
        "SUCCESS": ["first"],
        "SUCCESS&status=INTERRUPTED": ["long", "first"],
    }


def test_pools_are_set_and_deleted(operated: RunningServer) -> None:
    assert operated.request("PUT", "/api/v1/pools/gpu", {"slots": 2}).status == 200
    assert operated.get("/api/v1/pools")["pools"][0]["slots"] == 2
    assert operated.request("DELETE", "/api/v1/pools/gpu").status == 200
    assert operated.request("DELETE", "/api/v1/pools/gpu").status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"slots": NaN}', 400),
        (b'{"slots": 1, "slots": 2}', 400),
        (b'{"slots": ' + b"9" * 10_000 + b"}", 400),
        (b"[" * 100_000, 400),
        (b'{"slots": "\\ud800"}', 400),
        (b"\xff", 400),
        (b"{}", 422),
        (b'{"slots": -1}', 422),
        (b'{"slots": 1, "colour": 2}', 422),
        (b" " * 1_100_000, 413),
    ],
)
def test_a_wrong_body_is_refused(operated: RunningServer, body: bytes, status: int) -> None:
    assert operated.request("PUT", "/api/v1/pools/gpu", body).status == status
    assert operated.get("/api/v1/pools")["pools"] == []


def test_a_body_of_another_type_is_refused(operated: RunningServer) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {"Content-Type": kind}
        assert operated.request("PUT", "/api/v1/pools/gpu", b'{"slots": 1}', headers=headers).status == 415
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert operated.request("PUT", "/api/v1/pools/gpu", b"x", headers=headers).status == 415


def test_a_login_code_is_valid_once(operated: RunningServer) -> None:
    code = operated.request("POST", "/api/v1/codes").json()["code"]
    answer = operated.request("POST", "/api/v1/login", {"code": code}, token=None)
    assert answer.json() == {"token": operated.operator, "role": "operator"}
    assert operated.request("POST", "/api/v1/login", {"code": code}, token=None).status == 401
    viewer = operated.request("POST", "/api/v1/codes", token="viewer").json()["code"]
    assert operated.request("POST", "/api/v1/login", {"code": viewer}, token=None).json()["role"] == "viewer"


def test_a_server_without_a_scheduler_starts_nothing(operated: RunningServer) -> None:
    answer = operated.request("POST", "/api/v1/workflows/first/runs", {"params": {}})
    assert (answer.status, answer.json()["code"]) == (409, "CONFLICT")
    with History(str(operated.folder / "lightflow.db")) as history:
        assert history.run_count() == 1


def test_a_port_in_use_is_an_error_before_anything_starts(operated: RunningServer) -> None:
    refused = lightflow(operated.folder, "ui", "lightflow.db", "--port", str(operated.port))
    assert refused.returncode == 2
    assert "Address already in use; use another port with --port" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ui", "none.db"], "no such state file"),
        (["ui", "lightflow.db", "--host", "0.0.0.0"], "--allow-host"),
        (["ui", "lightflow.db", "--base-path", "a?b"], "--base-path"),
    ],
)
def test_wrong_options_are_refused(operated: RunningServer, arguments: list[str], message: str) -> None:
    refused = lightflow(operated.folder, *arguments)
    assert refused.returncode in (2, 3)
    assert message in refused.stderr
