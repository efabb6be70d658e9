"""`lightflow serve` with its web part: requests start, resume, fire and pause what it serves, each with its caller."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_kit import RunningServer, lightflow, serving

from lightflow.client import Client, ServerError
from liteflow.api import History

NIGHTLY = """
workflow_name: nightly
schedule: {cron: "0 0 1 1 *", params: {count: 1}}
params:
  day: {type: date, default: 2026-01-31}
  count: {type: integer, minimum: 1}
tasks:
  load: {run: "echo ${{ params.count }} of ${{ params.day }}"}
"""
SLOW = """
workflow_name: slow
tasks:
  first: {run: "echo first >> trail"}
  wait: {run: "test -e go || sleep 600", depends_on: [first]}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "nightly.yaml").write_text(NIGHTLY)
    (tmp_path / "slow.yaml").write_text(SLOW)
    with serving(tmp_path, "serve") as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Client:
    return Client(server.url, server.operator)


def test_a_request_starts_a_run_once_for_its_key(server: RunningServer, client: Client) -> None:
    started = client.start("nightly", {"count": 2}, key="one")
    assert started["status"] == "STARTED"
    run = client.wait(started["run_id"], timeout_s=60)
    assert (run["status"], run["params"]) == ("SUCCESS", {"day": "2026-01-31", "count": 2})
    assert client.start("nightly", {"count": 2}, key="one")["run_id"] == started["run_id"]
    assert client.start("nightly", {"count": 2}, key="two")["run_id"] != started["run_id"]
    assert b"".join(client.logs(run["run_id"], "load")) == b"2 of 2026-01-31\n"
    assert "requested by operator of the server" in lightflow(server.folder, "status", run["run_id"]).stdout
    (fire, *_) = server.get("/api/v1/fires?trigger=nightly:manual&limit=1")["fires"]
    assert (fire["status"], fire["started_by"]) == ("STARTED", "operator of the server")


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({}, {"count": "needs a value: a whole number"}),
        ({"count": 0}, {"count": "must be at least 1, not 0"}),
        ({"count": 1, "colour": "red"}, {"colour": None}),
        ({"count": "x", "day": "never"}, {"count": None, "day": None}),
    ],
)
def test_wrong_parameters_are_named_and_start_nothing(
    server: RunningServer, client: Client, params: dict[str, object], fields: dict[str, str | None]
) -> None:
    with pytest.raises(ServerError) as refused:
        client.start("nightly", params)
    assert refused.value.status == 422
    assert set(refused.value.fields) == set(fields)
    for name, message in fields.items():
        assert message is None or refused.value.fields[name].startswith(message)
    checked = server.request("POST", "/api/v1/workflows/nightly/check", {"params": params}, token="viewer").json()
    assert {problem["field"] for problem in checked["problems"]} == set(fields)
    assert client.runs()["runs"] == []


def test_only_what_is_served_is_started(server: RunningServer, client: Client) -> None:
    with pytest.raises(ServerError, match="does not serve a workflow 'nightli', did you mean") as refused:
        client.start("nightli", {})
    assert refused.value.code == "NOT_FOUND"
    for path in ("/etc/passwd", "../nightly.yaml", "nightly.yaml"):
        with pytest.raises(ServerError):
            client.start(path, {"count": 1})
    (server.folder / "elsewhere.yaml.txt").write_text(NIGHTLY.replace("nightly", "elsewhere"))
    assert [each["workflow"] for each in server.get("/api/v1/workflows")["workflows"]] == ["nightly", "slow"]


def test_a_viewer_changes_nothing(server: RunningServer) -> None:
    for method, path, body in (
        ("POST", "/api/v1/workflows/nightly/runs", {"params": {"count": 1}}),
        ("PUT", "/api/v1/workflows/nightly/pause", None),
        ("DELETE", "/api/v1/workflows/nightly/pause", None),
        ("POST", "/api/v1/triggers/nightly:schedule/fire", None),
        ("POST", "/api/v1/runs/x/resume", None),
    ):
        assert server.request(method, path, body, token="viewer").status == 403
    assert server.get("/api/v1/fires")["fires"] == []


def test_a_trigger_is_paused_and_fired(server: RunningServer) -> None:
    (trigger,) = server.get("/api/v1/triggers")["triggers"]
    assert (trigger["trigger"], trigger["state"]) == ("nightly:schedule", "active")
    instants = server.get("/api/v1/triggers/nightly:schedule/next?limit=2")["instants"]
    assert [each["local"][4:19] for each in instants] == ["-01-01 00:00:00"] * 2
    assert server.request("PUT", "/api/v1/workflows/nightly/pause", {}).status == 200
    (trigger,) = server.get("/api/v1/triggers")["triggers"]
    assert (trigger["state"], trigger["paused_by"]) == ("paused", "operator of the server")
    fired = server.request("POST", "/api/v1/triggers/nightly:schedule/fire")
    assert (fired.status, fired.json()["status"]) == (201, "STARTED")
    assert server.request("DELETE", "/api/v1/workflows/nightly/pause").status == 200
    assert server.get("/api/v1/triggers")["triggers"][0]["state"] == "active"
    assert server.request("PUT", "/api/v1/workflows/none/pause", {}).status == 404


def test_a_killed_server_ends_no_run_and_a_new_server_resumes(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)
    with serving(tmp_path, "serve") as server:
        client = Client(server.url, server.operator)
        run_id = client.start("slow")["run_id"]
        for event in client.events([f"run:{run_id}"], as_of=client.run(run_id)["as_of"]):
            if event["data"]["run"]["counts"].get("SUCCESS"):
                break
        server.process.kill()
        server.process.wait()
    with History(str(tmp_path / "lightflow.db")) as history:
        run = history.run(run_id)
    assert run.status == "RUNNING"
    assert run.owner_pid is not None
    os.kill(run.owner_pid, signal.SIGKILL)
    (tmp_path / "go").write_text("")
    with serving(tmp_path, "serve") as server:
        client = Client(server.url, server.operator)
        assert client.wait(run_id, timeout_s=30)["status"] == "INTERRUPTED"
        assert client.resume(run_id)["run_id"] == run_id
        for event in client.events(["runs"], as_of=client.runs()["as_of"]):
            if any(each["status"] == "SUCCESS" for each in event["data"].get("runs", ())):
                break
    assert (tmp_path / "trail").read_text() == "first\n"


def test_a_read_only_server_has_no_operator(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)
    with serving(tmp_path, "serve", "--read-only") as server:
        assert server.request("POST", "/api/v1/workflows/slow/runs", {}).status == 403
        assert server.get("/api/v1/whoami") == {"role": "viewer", "read_only": True}
