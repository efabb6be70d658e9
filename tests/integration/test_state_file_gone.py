"""A state file that is deleted or moved under a server: clients are told, no read creates one, and they go on."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scheduler_kit import until
from server_kit import RunningServer, filled, lightflow, serving

from lightflow.client import Client, ServerError
from lightflow.server.api import ROUTES

FLOW = "workflow_name: small\ntasks: {a: {run: echo a}}\n"
ENDS = ("", "-wal", "-shm")
NAMES = dict.fromkeys(("workflow", "run", "other", "task", "key", "pool", "trigger"), "small") | dict.fromkeys(
    ("index", "attempt"), "1"
)
#: What answers without the state file.
WITHOUT_FILE = {"/healthz", "/api/v1/openapi.json", "/api/v1/whoami", "/api/v1/system"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(FLOW)
    assert lightflow(tmp_path, "run", "small.yaml").returncode == 0
    (tmp_path / "away").mkdir()
    return tmp_path


def move(folder: Path, target: Path) -> None:
    for end in ENDS:
        with contextlib.suppress(FileNotFoundError):
            (folder / f"lightflow.db{end}").rename(target / f"lightflow.db{end}")


def sentence(folder: Path) -> str:
    return (
        f"{folder / 'lightflow.db'}: the state file was deleted or moved; the server continues when there is one again"
    )


class Follower:
    """Follows the feed in a thread."""

    def __init__(self, client: Client, as_of: str | None = None) -> None:
        self._frames: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._client, self._as_of = client, as_of
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        with contextlib.suppress(ServerError):
            for frame in self._client.events(["runs"], as_of=self._as_of):
                self._frames.put(frame)

    def next(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while not is_it(frame := self._frames.get(timeout=60)):
            pass
        return frame

    def problem(self) -> str | None:
        text: str | None = self.next(lambda frame: frame["event"] == "problem")["data"]["problem"]
        return text


@pytest.mark.parametrize("back", ["the same file", "another file"])
def test_clients_are_told_that_the_file_is_gone_and_go_on_when_there_is_one(folder: Path, back: str) -> None:
    if back == "another file":
        (folder / "other").mkdir()
        words = ("--db", "other/lightflow.db", "--run-id", "elsewhere")
        assert lightflow(folder, "run", "small.yaml", *words).returncode == 0
    with serving(folder, "ui", "lightflow.db") as server:
        client = Client(server.url, server.operator)
        (before,) = client.runs()["runs"]
        follower = Follower(client, client.runs()["as_of"])
        move(folder, folder / "away")
        assert follower.problem() == sentence(folder)
        assert client.system()["problem"] == sentence(folder)
        assert Follower(client).problem() == sentence(folder), "also to a client that comes now"
        for route in ROUTES:
            if route.method == "GET" and route.path not in WITHOUT_FILE:
                answer = server.request("GET", filled(route.path, NAMES))
                expected = 404 if route.path.endswith("/source") else 503
                assert answer.status == expected, (route.path, answer.body)
                if expected == 503:
                    assert (answer.json()["code"], answer.json()["detail"]) == ("STATE_FILE", sentence(folder))
        assert not any((folder / f"lightflow.db{end}").exists() for end in ENDS), "a read creates nothing"
        for each in WITHOUT_FILE:
            assert server.request("GET", each).status == 200
        move(folder / ("other" if back == "another file" else "away"), folder)
        seen = {follower.next(lambda frame: frame["event"] in ("reset", "problem"))["event"] for _ in range(2)}
        assert seen == {"reset", "problem"}
        assert client.system()["problem"] is None
        (after,) = client.runs()["runs"]
        assert after["run_id"] == (before["run_id"] if back == "the same file" else "elsewhere")
        assert lightflow(folder, "run", "small.yaml", "--run-id", "new").returncode == 0
        changed = follower.next(lambda frame: any(run["run_id"] == "new" for run in frame["data"].get("runs", ())))
        assert changed["event"] == "change"


def subscription(server: RunningServer) -> Iterator[dict[str, Any]]:
    """Follow the events of GraphQL."""
    client = Client(server.url, server.operator)
    connection = client._connect(60)
    response = client._send(connection, "POST", "/graphql", {"query": "subscription { events { seq } }"}, {})
    try:
        for line in response:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
            elif line == b": alive\n":
                yield {}
    finally:
        connection.close()


def test_graphql_says_that_the_file_is_gone(folder: Path) -> None:
    with serving(folder, "ui", "lightflow.db") as server:
        frames = subscription(server)
        assert next(frames) == {}
        move(folder, folder / "away")
        (last,) = frames
        assert last["errors"] == [{"message": sentence(folder), "extensions": {"code": "STATE_FILE"}}]
        answer = server.request("POST", "/graphql", {"query": "{ runs { nodes { id } } }"})
        assert (answer.status, answer.json()["detail"]) == (503, sentence(folder))


def test_a_request_that_changes_something_creates_no_file(folder: Path) -> None:
    with serving(folder, "serve", "--no-scheduler") as server:
        run_id = server.get("/api/v1/runs")["runs"][0]["run_id"]
        move(folder, folder / "away")
        names = {**NAMES, "run": run_id, "task": "a"}
        bodies: dict[str, Any] = {
            "clear": {"tasks": ["a"]},
            "mark": {"tasks": ["a"], "status": "success"},
            "fork": {"tasks": ["a"]},
            "decision": {"approved": True},
            "{pool}": {"slots": 2},
        }
        for route in ROUTES:
            if route.role == "operator":
                path = filled(route.path, names)
                body = None if route.body is None else bodies.get(route.path.rpartition("/")[2])
                answer = server.request(route.method, path, body)
                if not route.path.endswith("/fire"):  # which first asks whether somebody schedules
                    assert (answer.status, answer.json()["detail"]) == (503, sentence(folder)), path
        assert not (folder / "lightflow.db").exists()
        move(folder / "away", folder)
        assert server.get("/api/v1/runs")["runs"][0]["run_id"] == run_id


def test_a_server_that_schedules_begins_a_file_again_and_its_clients_start_over(folder: Path) -> None:
    with serving(folder, "serve") as server:
        client = Client(server.url, server.operator)
        assert len(client.runs()["runs"]) == 1
        follower = Follower(client, client.runs()["as_of"])
        move(folder, folder / "away")
        follower.next(lambda frame: frame["event"] == "reset")
        until(lambda: (folder / "lightflow.db").exists())
        assert client.runs()["runs"] == []
        path = "/api/v1/workflows/small/runs"
        started = until(lambda: (answer := server.request("POST", path, {})).status < 300 and answer.json())
        assert client.wait(started["run_id"], timeout_s=60)["status"] == "SUCCESS"
