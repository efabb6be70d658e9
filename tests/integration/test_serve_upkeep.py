"""What the command line can do for upkeep, by REST: parts of a workflow, parked runs that are due, old runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_kit import RunningServer, lightflow, serving

from lightflow.client import Client, ServerError
from liteflow.state.locks import LockFile
from liteflow.state.retention import PRUNE_LOCK

PARTS = """
workflow_name: parts
tasks:
  a: {run: 'echo a >> trail; echo n=5 >> "$LIGHTFLOW_OUTPUT"'}
  b: {run: "echo b ${{ tasks.a.outputs.n }} >> trail"}
  c: {run: "echo c >> trail", depends_on: [b]}
"""
PARKED = """
workflow_name: deploy
tasks:
  ok: {type: approval, message: Deploy}
  after: {run: echo deployed >> done.txt, depends_on: [ok]}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "parts.yaml").write_text(PARTS)
    with serving(tmp_path, "serve") as running:
        yield running


def test_a_part_of_a_workflow_is_started(server: RunningServer) -> None:
    client, trail = Client(server.url, server.operator), server.folder / "trail"
    assert client.wait(client.start("parts")["run_id"], timeout_s=60)["status"] == "SUCCESS"
    for words, selected, lines in (
        ({"only": ["b"], "values_from": "latest"}, ["b"], "b 5\n"),
        ({"until": ["b"]}, ["a", "b"], "a\nb 5\n"),
        ({"start": ["b"], "skip": ["c"], "values_from": "latest"}, ["b"], "b 5\n"),
    ):
        trail.write_text("")
        run = client.wait(client.start("parts", **words)["run_id"], timeout_s=60)  # type: ignore[arg-type]  # typed words
        assert (run["status"], sorted(run["selection"])) == ("SUCCESS", selected)
        assert trail.read_text() == lines


def test_a_part_that_cannot_run_is_refused_with_the_reason(server: RunningServer) -> None:
    client = Client(server.url, server.operator)
    for words, reason in (({"only": ["nothing"]}, "nothing"), ({"only": ["b"]}, "b reads")):
        refused = client.start("parts", **words)  # type: ignore[arg-type]  # typed words
        assert (refused["run_id"], refused["status"], refused["pending"]) == (None, "FAILED", False)
        assert reason.split()[0] in refused["reason"]
    wrong = server.request("POST", "/api/v1/workflows/parts/runs", {"only": "b", "from": [], "colour": 1})
    assert wrong.status == 422
    assert {each["field"] for each in wrong.json()["errors"]} == {"only", "from", "colour"}
    assert client.runs()["runs"] == []


def test_a_key_belongs_to_the_tasks_that_it_started(server: RunningServer) -> None:
    client = Client(server.url, server.operator)
    run_id = client.start("parts", only=["a"], key="k")["run_id"]
    assert client.start("parts", only=["a"], key="k")["run_id"] == run_id
    with pytest.raises(ServerError, match="with other parameters; send another key"):
        client.start("parts", key="k")


def park(folder: Path) -> str:
    done = lightflow(folder, "run", "deploy.yaml", "--park", "--json")
    assert done.returncode == 0, done.stderr
    run_id: str = json.loads(done.stdout)["run_id"]
    assert lightflow(folder, "approve", run_id, "ok").returncode == 0
    return run_id


def test_parked_runs_that_are_due_are_resumed(tmp_path: Path) -> None:
    (tmp_path / "deploy.yaml").write_text(PARKED)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "deploy.yaml").write_text(PARKED.replace("deploy\n", "unserved\n"))
    run_id = park(tmp_path)
    other = lightflow(tmp_path, "run", "elsewhere/deploy.yaml", "--park", "--run-id", "other")
    assert other.returncode == 0, other.stderr
    assert lightflow(tmp_path, "approve", "other", "ok").returncode == 0
    with serving(tmp_path, "serve", "--no-scheduler", "deploy.yaml") as server:
        client = Client(server.url, server.operator)
        due = client.wake(dry_run=True)
        assert {each["run_id"]: each["due"] for each in due} == dict.fromkeys((run_id, "other"), "a person has decided")
        assert {each["problem"] for each in due} == {None}
        assert not (tmp_path / "done.txt").exists()
        woken = {each["run_id"]: each for each in client.wake()}
        assert woken[run_id]["problem"] is None
        assert "this server does not serve workflow 'unserved'" in woken["other"]["problem"]
        run = client.wait(run_id, timeout_s=60)
        assert (run["status"], run["request"]["requested_by"]) == ("SUCCESS", "operator of the server")
        assert (tmp_path / "done.txt").read_text() == "deployed\n"
        assert [each["run_id"] for each in client.wake(dry_run=True)] == ["other"]
        assert server.request("POST", "/api/v1/wake", {"dry_run": "yes"}).status == 422


def test_old_runs_are_deleted_and_clients_see_it(server: RunningServer) -> None:
    client = Client(server.url, server.operator)
    runs = [client.start("parts")["run_id"] for _ in range(3)]
    for run_id in runs:
        client.wait(run_id, timeout_s=60)
    before = client.runs()["as_of"]
    would = client.prune(older_than="0", keep=1, dry_run=True)
    assert (would["dry_run"], would["deleted"], would["workflows"]) == (True, 2, {"parts": runs[:2]})
    assert len(client.runs()["runs"]) == 3
    done = client.prune("parts", older_than="0", keep=1)
    assert (done["complete"], done["deleted"], done["workflows"]) == (True, 2, {"parts": runs[:2]})
    assert [run["run_id"] for run in client.runs()["runs"]] == runs[2:]
    gone = set[str]()
    for frame in client.events(["runs"], as_of=before):
        gone |= set(frame["data"].get("deleted", ()))
        if gone == set(runs[:2]):
            break
    events = client.changes(limit=5000)["events"]
    reasons = {event["reason"] for event in events if event["status"] == "DELETED"}
    assert reasons == {"deleted by operator of the server"}
    for body, status, words in (
        ({"older_than": "soon"}, 422, "older_than 'soon': must be a time"),
        ({"keep": -1}, 422, "keep"),
        ({"workflow": "nothing"}, 404, "there is no workflow 'nothing'"),
    ):
        refused = server.request("POST", "/api/v1/prune", body)
        assert (refused.status, words in refused.json()["detail"]) == (status, True), refused.body
    assert server.request("POST", "/api/v1/prune", {}, token="viewer").status == 403


def test_a_prune_beside_another_one_is_a_conflict(server: RunningServer) -> None:
    client = Client(server.url, server.operator)
    locks = LockFile(str(server.folder / "lightflow.db"))
    assert locks.acquire(PRUNE_LOCK)
    try:
        with pytest.raises(ServerError, match="another process prunes") as refused:
            client.prune()
        assert (refused.value.status, refused.value.code) == (409, "CONFLICT")
    finally:
        locks.close()
