"""The lists of a server: each is read by pages, and has what its filters say, in REST and GraphQL alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from server_kit import RunningServer, lightflow, serving

from lightflow.client import Client

PARENT = """
workflow_name: parent
tasks:
  each:
    type: workflow
    file: child.yaml
    foreach: [1, 2, 3]
"""
CHILD = """
workflow_name: child
schedule: {cron: "0 0 1 1 *"}
tasks:
  work: {run: "echo work"}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("lists")
    (folder / "parent.yaml").write_text(PARENT)
    (folder / "child.yaml").write_text(CHILD)
    with serving(folder, "serve") as running:
        yield running


@pytest.fixture(scope="module")
def parent(server: RunningServer) -> str:
    """A run with three child runs and three forks."""
    client = Client(server.url, server.operator)
    run_id: str = client.start("parent")["run_id"]
    assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"
    for _ in range(3):
        client.wait(client.fork(run_id, ["each"])["run_id"], timeout_s=60)
    return run_id


def pages(server: RunningServer, path: str, name: str) -> list[list[dict[str, Any]]]:
    """Return the pages of a list, two entries each."""
    separator = "&" if "?" in path else "?"
    result, after = [], ""
    while True:
        page = server.get(f"{path}{separator}limit=2{after}")
        result.append(page[name])
        if page["after"] is None:
            return result
        after = f"&after={page['after']}"


def connection(server: RunningServer, query: str, *names: str) -> dict[str, Any]:
    """Return a connection of GraphQL that is below these fields."""
    answer = server.request("POST", "/graphql", {"query": query}).json()
    value = answer.get("data") or pytest.fail(json.dumps(answer))
    for name in names:
        value = value[name]
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("name", ["children", "forks"])
def test_the_runs_that_belong_to_a_run_are_read_by_pages(server: RunningServer, parent: str, name: str) -> None:
    read = pages(server, f"/api/v1/runs/{parent}/{name}", name)
    assert [len(page) for page in read] == [2, 1]
    runs = [run["run_id"] for page in read for run in page]
    assert len(set(runs)) == 3
    first = connection(
        server,
        f'{{ run(id: "{parent}") {{ {name}(first: 2) {{ nodes {{ id }} pageInfo {{ endCursor hasNextPage }} }} }} }}',
        "run", name,
    )  # fmt: skip
    assert first["pageInfo"]["hasNextPage"]
    rest = connection(
        server,
        f'{{ run(id: "{parent}") {{ {name}(after: "{first["pageInfo"]["endCursor"]}") '
        "{ nodes { id } pageInfo { hasNextPage } } } }",
        "run", name,
    )  # fmt: skip
    assert [node["id"] for node in first["nodes"] + rest["nodes"]] == runs
    assert not rest["pageInfo"]["hasNextPage"]


def test_child_runs_are_listed_on_request(server: RunningServer, parent: str) -> None:
    of_command = json.loads(lightflow(server.folder, "runs", "--all", "--json", "--limit", "50").stdout)
    expected = [run["run_id"] for run in of_command]
    assert [run["run_id"] for page in pages(server, "/api/v1/runs?all=true", "runs") for run in page] == expected
    nodes = connection(server, "{ runs(first: 50, all: true) { nodes { id parent } } }", "runs")["nodes"]
    assert [node["id"] for node in nodes] == expected
    children = {run["run_id"] for page in pages(server, f"/api/v1/runs/{parent}/children", "children") for run in page}
    assert {node["id"] for node in nodes if node["parent"] == parent} == children
    assert not children & {run["run_id"] for run in server.get("/api/v1/runs")["runs"]}


def test_the_fires_of_a_workflow_have_those_by_request(server: RunningServer) -> None:
    client = Client(server.url, server.operator)
    run_id = client.start("child")["run_id"]
    fired = server.request("POST", "/api/v1/triggers/child:schedule/fire", {}).json()["run_id"]
    both = [fired, run_id]
    fires = [fire for page in pages(server, "/api/v1/fires?workflow=child", "fires") for fire in page]
    assert [fire["run_id"] for fire in fires] == both
    assert [fire["started_by"] for fire in fires] == ["operator of the server"] * 2
    (only,) = server.get("/api/v1/fires?workflow=child&trigger=child:manual")["fires"]
    assert only["run_id"] == run_id
    assert server.get("/api/v1/fires?workflow=child&trigger=parent:manual")["fires"] == []
    nodes = connection(server, '{ fires(workflow: "child") { nodes { run { id } } } }', "fires")["nodes"]
    assert [node["run"]["id"] for node in nodes] == both
    history = json.loads(lightflow(server.folder, "schedule", "history", "child", "--json").stdout)
    assert [fire["run_id"] for fire in history] == both
    for name in ("fires", "triggers"):  # as for each list: what no server has served has none
        assert server.get(f"/api/v1/{name}?workflow=nothing")[name] == []
    count = len(server.get("/api/v1/fires")["fires"])
    metrics = server.request("GET", "/metrics").body.decode()
    assert f"lightflow_fire_lateness_seconds_count {count}\n" in metrics
    assert f'lightflow_fire_lateness_seconds_bucket{{le="300"}} {count}\n' in metrics
