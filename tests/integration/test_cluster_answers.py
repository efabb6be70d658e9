"""What status, REST and GraphQL say of the machines of a run, and what continues it on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ssh_stand_in
from server_kit import environment, lightflow, serving

from lightflow.client import Client
from liteflow import init_schema

LIMIT_S = 60.0
MODE = ("--mode", "ssh", "--cluster", "node1:1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = os.path.dirname(sys.executable)  # the `python3` of the machines has Lightflow
    monkeypatch.setenv("PATH", ssh_stand_in.install(tmp_path / "bin", programs))
    return tmp_path


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def status(folder: Path) -> Any:
    """Return the latest run as `status --json` prints it; None: there is none yet."""
    printed = lightflow(folder, "status", "--json").stdout
    return json.loads(printed) if printed.startswith("{") else None


def hosts(folder: Path) -> list[str | None]:
    run = status(folder)
    return [] if run is None else [attempt["host"] for task in run["tasks"] for attempt in task["attempts"]]


@contextmanager
def open_at_end(gate: Path) -> Iterator[None]:
    """Let a task that waits for a file end, also when the test fails."""
    try:
        yield
    finally:
        gate.touch()


def test_a_run_names_its_machines_and_where_an_attempt_runs(folder: Path) -> None:
    (folder / "flow.yaml").write_text("tasks: {a: {run: 'while [ ! -e gate ]; do sleep 0.01; done'}}\n")
    command = [sys.executable, "-m", "lightflow", "run", "flow.yaml", *MODE, "--quiet"]
    with subprocess.Popen(command, cwd=folder, env=environment(folder)) as run, open_at_end(folder / "gate"):
        until(lambda: hosts(folder) == ["node1"])
        printed = status(folder)
        place = {
            "cluster": "ssh",
            "resources": {},
            "slots": 1,
            "wanted": 1,
            "missing_since": None,
            "problem": None,
        }
        assert (printed["mode"], printed["machines"], printed["places"]) == ("ssh", "node1:1", [place])
        with serving(folder, "ui", "lightflow.db") as server:
            client = Client(server.url, server.operator)
            run_id = printed["run_id"]
            answer = server.get(f"/api/v1/runs/{run_id}")
            assert (answer["mode"], answer["machines"], answer["places"]) == ("ssh", "node1:1", [place])
            assert [each["host"] for each in client.task(run_id, "a")["attempts"]] == ["node1"]
            assert [each["host"] for each in client.tasks(run_id)] == ["node1"]
            fields = "mode machines places { cluster resources slots wanted missingSince problem }"
            query = f'{{ run(id: "{run_id}") {{ {fields} task(id: "a") {{ attempts(last: 9) {{ host state }} }} }} }}'
            answer = client.graphql(query)["data"]["run"]
            place["missingSince"] = place.pop("missing_since")
            assert (answer["mode"], answer["machines"], answer["places"]) == ("ssh", "node1:1", [place])
            assert answer["task"]["attempts"] == [{"host": "node1", "state": "RUNNING"}]
    assert run.returncode == 0
    (folder / "flow.yaml").write_text("tasks: {a: {run: 'true'}}\n")
    assert lightflow(folder, "run", "flow.yaml", "--quiet").returncode == 0
    printed = status(folder)
    assert (printed["mode"], printed["machines"], printed["places"]) == ("thread", None, [])


def test_the_feed_names_the_machine_of_an_attempt_that_runs_and_of_one_that_has_ended(folder: Path) -> None:
    (folder / "flow.yaml").write_text("tasks: {a: {run: 'while [ ! -e gate ]; do sleep 0.01; done'}}\n")
    init_schema(str(folder / "lightflow.db"))
    command = [sys.executable, "-m", "lightflow", "run", "flow.yaml", *MODE, "--quiet", "--run-id", "far"]
    seen = list[tuple[str, str | None]]()
    with serving(folder, "ui", "lightflow.db") as server:
        client = Client(server.url, server.viewer)
        as_of = client.runs()["as_of"]
        with subprocess.Popen(command, cwd=folder, env=environment(folder)) as run, open_at_end(folder / "gate"):
            for event in client.events(["run:far"], as_of=as_of):
                tasks = event["data"]["tasks"]
                for row in tasks["rows"]:
                    task = dict(zip(tasks["columns"], row, strict=True))
                    seen.append((task["status"], task["host"]))
                    if task["status"] == "RUNNING" and task["host"] is not None:
                        (folder / "gate").touch()
                if event["data"]["run"]["status"] == "SUCCESS":
                    break
        assert run.returncode == 0
        assert ("RUNNING", "node1") in seen
        assert seen[-1] == ("SUCCESS", "node1")
        assert [(each["status"], each["host"]) for each in client.tasks("far")] == [("SUCCESS", "node1")]


def test_a_server_and_a_fork_use_the_machines_of_the_run(folder: Path) -> None:
    (folder / "flow.yaml").write_text("tasks: {a: {run: 'test -e gate'}}\n")
    assert lightflow(folder, "run", "flow.yaml", *MODE, "--quiet").returncode == 1
    with serving(folder, "serve", "flow.yaml") as server:
        client = Client(server.url, server.operator)
        run_id = status(folder)["run_id"]
        client.resume(run_id)
        until(lambda: hosts(folder) == ["node1", "node1"])
        fork = client.fork(run_id, ["a"])["run_id"]
        until(lambda: client.run(fork)["status"] == "FAILED")
        assert client.run(fork)["machines"] == "node1:1"
        assert [each["host"] for each in client.task(fork, "a")["attempts"]] == ["node1"]
    (folder / "gate").touch()
    assert lightflow(folder, "fork", run_id, "--from", "a", "--quiet").returncode == 0
    assert hosts(folder) == ["node1"]


def test_a_parked_run_is_woken_on_its_machines(folder: Path) -> None:
    (folder / "flow.yaml").write_text(
        "tasks:\n  ok: {type: approval, message: Go on}\n  a: {run: 'true', depends_on: [ok]}\n"
    )
    parked = lightflow(folder, "run", "flow.yaml", *MODE, "--park", "--quiet")
    assert status(folder)["status"] == "INTERRUPTED", parked.stderr
    assert lightflow(folder, "approve", "latest", "ok").returncode == 0
    woken = lightflow(folder, "wake")
    assert status(folder)["status"] == "SUCCESS", woken.stdout + woken.stderr
    assert hosts(folder)[-1] == "node1"
