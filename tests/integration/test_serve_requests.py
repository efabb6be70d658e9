"""`lightflow serve` with its web part: requests start, resume, fire and pause what it serves, each with its caller."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scheduler_kit import until
from server_kit import RunningServer, filled, lightflow, serving

from lightflow.client import Client, ServerError
from lightflow.server.api import ROUTES
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
LATE = """
workflow_name: late
secrets: [{name: TOKEN, run: "while [ ! -e go ]; do sleep 0.1; done; echo open-sesame"}]
tasks: {load: {run: "true", secrets: [TOKEN]}}
"""
#: A body with all that a route needs; it names nothing that exists.
BODIES: dict[str, Any] = {
    "/api/v1/pools/{pool}": {"slots": -1},
    "/api/v1/runs/{run}/fork": {"tasks": ["a"]},
    "/api/v1/runs/{run}/clear": {"tasks": ["a"]},
    "/api/v1/runs/{run}/mark": {"tasks": ["a"], "status": "success"},
    "/api/v1/runs/{run}/tasks/{task}/decision": {"approved": True},
    "/api/v1/runs/{run}/tasks/{task}/{index}/decision": {"approved": True},
}
#: Routes that concern the whole state file, and need no body.
OF_THE_FILE = ("/api/v1/wake", "/api/v1/prune")


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


def test_a_run_that_starts_late_is_answered_with_its_id(tmp_path: Path) -> None:
    """Its secret lasts until the answer has come."""
    (tmp_path / "late.yaml").write_text(LATE)
    with serving(tmp_path, "serve") as server:
        client = Client(server.url, server.operator)
        answer = server.request("POST", "/api/v1/workflows/late/runs")
        run_id = answer.json()["run_id"]
        assert (answer.status, answer.json()["status"]) == (202, "CLAIMED")
        assert client.runs()["runs"] == []
        with pytest.raises(TimeoutError, match="is CLAIMED after 0 s"):
            client.wait(run_id, timeout_s=0)
        with pytest.raises(ServerError, match="no run 'other'"):
            client.wait("other")
        (tmp_path / "go").touch()
        assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"
        (tmp_path / "go").unlink()
        again = server.request("POST", f"/api/v1/runs/{run_id}/retry", {"tasks": ["load"]})
        assert (again.status, again.json()["status"], again.json()["run_id"]) == (202, "CLAIMED", run_id)
        with pytest.raises(TimeoutError, match="is CLAIMED after 0 s"):
            client.wait(run_id, timeout_s=0)  # not for the end that it had before
        (tmp_path / "go").touch()
        assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"
        assert len(client.task(run_id, "load")["attempts"]) == 2


def test_a_fork_that_starts_late_is_awaited_and_says_why_it_did_not_start(tmp_path: Path) -> None:
    flow, go = tmp_path / "late.yaml", tmp_path / "go"
    flow.write_text(LATE)
    go.touch()
    with serving(tmp_path, "serve") as server:
        client = Client(server.url, server.operator)
        origin = client.start("late")["run_id"]
        assert client.wait(origin, timeout_s=60)["status"] == "SUCCESS"
        go.unlink()
        fork = client.fork(origin, ["load"])
        assert (fork["status"], fork["pending"]) == ("CLAIMED", True)
        assert client.started(fork["run_id"]) == fork
        with pytest.raises(TimeoutError, match="is CLAIMED after 0 s"):
            client.wait(fork["run_id"], timeout_s=0)
        go.touch()
        assert client.wait(fork["run_id"], timeout_s=60)["status"] == "SUCCESS"
        assert client.started(fork["run_id"])["status"] == "STARTED"
        flow.write_text(LATE.replace("echo open-sesame", "exit 3"))
        go.unlink()
        until(lambda: "exit 3" in client.source("late")["text"])
        refused = client.fork(origin, ["load"])
        assert refused["pending"]
        go.touch()
        with pytest.raises(ServerError, match=f"run {refused['run_id']} was not started: .*TOKEN") as error:
            client.wait(refused["run_id"], timeout_s=60)
        assert (error.value.status, error.value.code) == (404, "NOT_STARTED")


def test_a_key_that_was_used_for_something_else_is_refused(server: RunningServer, client: Client) -> None:
    started = client.start("nightly", {"count": 2, "day": "2026-01-30"}, key="one")
    assert client.start("nightly", {"day": "2026-01-30", "count": 2}, key="one")["run_id"] == started["run_id"]
    with pytest.raises(ServerError, match=f"has started run {started['run_id']} with other parameters") as refused:
        client.start("nightly", {"count": 3}, key="one")
    assert (refused.value.status, refused.value.code) == (422, "BAD_INPUT")
    path, headers = "/api/v1/triggers/nightly:schedule/fire", {"Idempotency-Key": "one"}
    fired = server.request("POST", path, {"at": "2026-01-01T00:00:00Z"}, headers=headers).json()
    assert server.request("POST", path, {"at": "2026-01-01T00:00:00Z"}, headers=headers).json() == fired
    assert server.request("POST", path, {"at": "2026-01-02T00:00:00Z"}, headers=headers).status == 422
    query = 'mutation($c: JSON) { startRun(input: {workflow: "nightly", params: $c, requestKey: "one"}) '
    sent = {"query": query + "{ run { id } problems { message code } } }", "variables": {"c": {"count": 3}}}
    payload = server.request("POST", "/graphql", sent).json()["data"]["startRun"]
    assert payload["run"] is None
    assert "send another key" in payload["problems"][0]["message"]


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        ({}, {"count": "needs a value: a whole number; give it with params.count"}),
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


def test_the_document_has_the_answer_where_nothing_starts(server: RunningServer, client: Client) -> None:
    run_id = client.start("nightly", {"count": 1})["run_id"]
    assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"
    answer = server.request("POST", f"/api/v1/runs/{run_id}/retry", {"changed": True})
    assert (answer.status, answer.json()["reason"]) == (202, "there is nothing to run")
    paths = server.get("/api/v1/openapi.json")["paths"]
    starting = [path for path, methods in paths.items() if "202" in methods.get("post", {}).get("responses", ())]
    endings = ["again", "cancel", "fire", "fork", "resume", "retry", "runs"]
    assert sorted(path.rpartition("/")[2] for path in starting) == endings


def test_only_what_is_served_is_started(server: RunningServer, client: Client) -> None:
    with pytest.raises(ServerError, match="does not serve a workflow 'nightli', did you mean") as refused:
        client.start("nightli", {})
    assert refused.value.code == "NOT_FOUND"
    for path in ("/etc/passwd", "../nightly.yaml", "nightly.yaml"):
        with pytest.raises(ServerError):
            client.start(path, {"count": 1})
    (server.folder / "elsewhere.yaml.txt").write_text(NIGHTLY.replace("nightly", "elsewhere"))
    assert [each["workflow"] for each in server.get("/api/v1/workflows")["workflows"]] == ["nightly", "slow"]


def test_a_viewer_changes_nothing_and_an_operator_gets_an_answer_of_each_route(server: RunningServer) -> None:
    names = {
        "workflow": "none",
        "run": "none",
        "other": "none",
        "task": "none",
        "index": "0",
        "trigger": "none",
        "pool": "none",
    }
    for route in ROUTES:
        if route.role == "operator":
            path = filled(route.path, names)
            bodies: list[Any] = [None] if route.body is None else [None, {}, {"unknown": 1}, [], BODIES.get(route.path)]
            for body in bodies:
                assert server.request(route.method, path, body, token="viewer").status == 403
                answer = server.request(route.method, path, body)
                if route.path in OF_THE_FILE and body in (None, {}):
                    assert answer.status == 200, (route, body, answer)
                    continue
                assert answer.status in (400, 404, 415, 422), (route, body, answer)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["detail"]
    assert server.get("/api/v1/fires")["fires"] == []
    assert server.get("/api/v1/pools")["pools"] == []


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
        until(lambda: client.run(run_id)["counts"].get("SUCCESS"))
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
        before = client.runs()["as_of"]
        assert client.resume(run_id)["run_id"] == run_id
        for event in client.events(["runs"], as_of=before):
            if any(each["status"] == "SUCCESS" for each in event["data"].get("runs", ())):
                break
    assert (tmp_path / "trail").read_text() == "first\n"


def test_a_read_only_server_has_no_operator(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)
    with serving(tmp_path, "serve", "--read-only") as server:
        assert server.request("POST", "/api/v1/workflows/slow/runs", {}).status == 403
        assert server.get("/api/v1/whoami") == {"role": "viewer", "read_only": True}


PARTS = """
workflow_name: parts
params: {rows: {type: integer, default: 1}}
tasks:
  a: {run: "echo a >> trail"}
  b: {run: "echo b ${{ params.rows }} >> trail; test -e go", depends_on: [a]}
  c: {run: "echo c >> trail", depends_on: [b]}
  d: {run: "echo d >> trail", depends_on: [a]}
"""


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[RunningServer]:
    (tmp_path / "parts.yaml").write_text(PARTS)
    with serving(tmp_path, "serve") as running:
        yield running


def test_a_part_of_a_run_runs_again_by_request(parts: RunningServer) -> None:
    client, trail = Client(parts.url, parts.operator), parts.folder / "trail"
    run_id = client.start("parts")["run_id"]
    assert client.wait(run_id, timeout_s=60)["status"] == "FAILED"
    path = f"/api/v1/runs/{run_id}"
    (parts.folder / "go").touch()
    trail.write_text("")
    preview = parts.get(f"{path}/rerun?task=b")
    assert (preview["runs"], preview["stay"]) == (["b", "c"], ["a", "d"])
    assert client.retry(run_id)["status"] == "STARTED"
    assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"
    assert trail.read_text() == "b 1\nc\n"
    trail.write_text("")
    assert client.retry(run_id, ["d"], only=True)["run_id"] == run_id
    assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"
    assert trail.read_text() == "d\n"
    for body, status, words in (
        ({}, 409, "name the tasks"),
        ({"tasks": ["nothing"]}, 422, "nothing"),
        ({"only": True}, 422, "only needs tasks"),
        ({"tasks": ["a"], "only": True, "changed": True}, 422, "only"),
        ({"colour": "red"}, 422, "colour"),
    ):
        refused = parts.request("POST", f"{path}/retry", body)
        assert (refused.status, words in refused.json()["detail"]) == (status, True), refused.body
    assert parts.request("POST", f"{path}/retry", {"changed": True}).json()["status"] == "SKIPPED"
    assert trail.read_text() == "d\n"


def test_a_run_is_forked_and_started_again_by_request(parts: RunningServer) -> None:
    client = Client(parts.url, parts.operator)
    (parts.folder / "go").touch()
    run_id = client.start("parts", {"rows": 5})["run_id"]
    client.wait(run_id, timeout_s=60)
    (parts.folder / "trail").write_text("")
    fork = client.fork(run_id, ["b"], {"rows": 7})
    assert fork["status"] == "STARTED"
    assert client.wait(fork["run_id"], timeout_s=60)["status"] == "SUCCESS"
    assert (parts.folder / "trail").read_text() == "b 7\nc\n"
    assert client.run(fork["run_id"])["params"] == {"rows": 7}
    assert [each["run_id"] for each in parts.get(f"/api/v1/runs/{run_id}/forks")["forks"]] == [fork["run_id"]]
    refused = parts.request("POST", f"/api/v1/runs/{run_id}/fork", {"tasks": ["b"], "params": {"rows": "x"}})
    assert (refused.status, refused.json()["errors"][0]["field"]) == (422, "rows")
    path, key = f"/api/v1/runs/{run_id}/again", {"Idempotency-Key": "once"}
    again = parts.request("POST", path, headers=key).json()
    assert client.wait(again["run_id"], timeout_s=60)["params"] == {"rows": 5}
    assert parts.request("POST", path, headers=key).json()["run_id"] == again["run_id"]


def test_a_key_continues_and_forks_a_run_once(parts: RunningServer) -> None:
    client, trail = Client(parts.url, parts.operator), parts.folder / "trail"
    run_id = client.start("parts")["run_id"]
    assert client.wait(run_id, timeout_s=60)["status"] == "FAILED"
    trail.write_text("")
    for _ in range(2):
        assert client.resume(run_id, key="resume")["run_id"] == run_id
        assert client.wait(run_id, timeout_s=60)["status"] == "FAILED"
    assert trail.read_text() == "b 1\n"
    (parts.folder / "go").touch()
    trail.write_text("")
    for _ in range(2):
        assert client.retry(run_id, ["d"], key="retry")["status"] == "STARTED"
        client.wait(run_id, timeout_s=60)
    assert trail.read_text() == "d\n"
    forks = {client.fork(run_id, ["b"], {"rows": 7}, key="fork")["run_id"] for _ in range(2)}
    assert [each["run_id"] for each in client.forks(run_id)["forks"]] == list(forks)
    assert client.fork(run_id, ["b"], {"rows": 7}, key="other")["run_id"] not in forks
    for send in (
        lambda: client.resume(run_id, key="retry"),
        lambda: client.retry(run_id, ["a"], key="retry"),
        lambda: client.fork(run_id, ["b"], {"rows": 8}, key="fork"),
    ):
        with pytest.raises(ServerError, match="with other parameters; send another key") as refused:
            send()
        assert refused.value.status == 422
    fork = 'mutation($id: ID!) { forkRun(id: $id, tasks: ["b"], requestKey: "g") { run { id } problems { message } } }'
    sent = {"query": fork, "variables": {"id": run_id}}
    answers = [parts.request("POST", "/graphql", sent).json()["data"]["forkRun"] for _ in range(2)]
    assert answers[0] == answers[1]
    for each in client.forks(run_id)["forks"]:
        client.wait(each["run_id"], timeout_s=60)


def test_a_run_of_a_file_that_is_not_served_is_not_continued(parts: RunningServer) -> None:
    """What a server executes is in its files: a row of the state file names no other."""
    folder = parts.folder / ".hidden"
    folder.mkdir()
    (folder / "parts.yaml").write_text(PARTS)
    (folder / "other.yaml").write_text(PARTS.replace("parts", "other"))
    for name in ("parts", "other"):
        assert lightflow(parts.folder, "run", f".hidden/{name}.yaml").returncode == 1
    runs = parts.get("/api/v1/runs")["runs"]
    answers = {run["workflow"]: parts.request("POST", f"/api/v1/runs/{run['run_id']}/resume") for run in runs}
    assert answers["other"].status == 404
    assert "does not serve workflow 'other'" in answers["other"].json()["detail"]
    assert answers["parts"].status == 422
    assert ".hidden/parts.yaml, and this server serves" in answers["parts"].json()["detail"]
    assert [run["status"] for run in parts.get("/api/v1/runs")["runs"]] == ["FAILED", "FAILED"]


def test_a_resume_that_fails_at_once_says_why(parts: RunningServer) -> None:
    client = Client(parts.url, parts.operator)
    run_id = client.start("parts")["run_id"]
    client.wait(run_id, timeout_s=60)
    (parts.folder / "parts.yaml").write_text(PARTS.replace("depends_on: [b]", "depends_on: [nothing]"))
    with pytest.raises(ServerError, match=r"parts.yaml:7:\d+: .*nothing") as refused:
        client.resume(run_id)
    assert refused.value.status == 422
    assert client.run(run_id)["status"] == "FAILED"


def test_the_path_that_took_longest_and_the_durations(parts: RunningServer) -> None:
    client = Client(parts.url, parts.operator)
    (parts.folder / "go").touch()
    runs = [client.start("parts")["run_id"] for _ in range(2)]
    for run_id in runs:
        client.wait(run_id, timeout_s=60)
    path = parts.get(f"/api/v1/runs/{runs[0]}/critical-path")
    assert path["tasks"] in (["a", "b", "c"], ["a", "d"])
    known = parts.get("/api/v1/workflows/parts/durations?runs=50")
    assert [run["run_id"] for run in known["runs"]] == runs[::-1]
    assert [task["task"] for task in known["tasks"]] == ["a", "b", "c", "d"]
    assert all(task["median_s"] <= task["p95_s"] and len(task["durations_s"]) == 2 for task in known["tasks"])
    assert [task["task"] for task in parts.get("/api/v1/workflows/parts/durations?task=b")["tasks"]] == ["b"]


def test_what_waits_is_listed_with_its_form(tmp_path: Path) -> None:
    (tmp_path / "ask.yaml").write_text(
        "workflow_name: ask\ntasks:\n  ok:\n    type: approval\n    message: Send it\n"
        "    fields: {limit: {type: integer, default: 5}}\n"
        "  group:\n    tasks:\n      x: {run: 'true'}\n"
    )
    with serving(tmp_path, "serve") as server:
        client = Client(server.url, server.operator)
        run_id = client.start("ask")["run_id"]
        until(lambda: client.run(run_id)["counts"].get("WAITING"))
        (wait,) = server.get(f"/api/v1/runs/{run_id}/waits")["waits"]
        assert (wait["task"], wait["approval"]["message"]) == ("ok", "Send it")
        assert wait["approval"]["fields"][0]["name"] == "limit"
        assert wait["approval"]["fields"][0]["default"] == 5
        (group,) = server.get(f"/api/v1/runs/{run_id}/groups")["groups"]
        assert (group["id"], group["members"]) == ("group", ["group.x"])
        assert server.request("POST", f"/api/v1/runs/{run_id}/retry", {"tasks": ["ok"]}).status == 409
        server.request("POST", f"/api/v1/runs/{run_id}/tasks/ok/decision", {"approved": True})
        assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"


def test_one_trigger_is_paused_and_fired_for_a_moment(server: RunningServer) -> None:
    path = "/api/v1/triggers/nightly:schedule"
    assert server.request("PUT", f"{path}/pause", {"reason": "holiday"}).status == 200
    (trigger,) = server.get("/api/v1/triggers")["triggers"]
    assert (trigger["state"], trigger["paused_by"]) == ("paused", "operator of the server: holiday")
    assert server.request("DELETE", f"{path}/pause").status == 200
    fired = server.request("POST", f"{path}/fire", {"at": "2026-02-03T04:05:06Z"}).json()
    assert server.get(f"/api/v1/runs/{fired['run_id']}")["logical_date"] == "2026-02-03 04:05:06+00:00"
    wrong = server.request("POST", f"{path}/fire", {"at": "soon"})
    assert (wrong.status, wrong.json()["errors"][0]["field"]) == (422, "at")
    for _ in range(2):
        server.request("POST", f"{path}/fire")
    first = server.get("/api/v1/fires?limit=2&status=STARTED")
    rest = server.get(f"/api/v1/fires?limit=2&after={first['after']}")
    numbers = [fire["fire_no"] for fire in [*first["fires"], *rest["fires"]]]
    assert (numbers, rest["after"]) == (sorted(numbers, reverse=True), None)
    assert len(numbers) == 3


def test_triggers_and_fires_by_graphql(server: RunningServer) -> None:
    def ask(query: str, token: str = "operator") -> Any:
        answer = server.request("POST", "/graphql", {"query": query}, token=token).json()
        assert "errors" not in answer, answer
        return answer["data"]

    (trigger,) = ask("{ triggers { nodes { id kind state words nextFires(first: 2) } } }")["triggers"]["nodes"]
    assert (trigger["id"], trigger["kind"], trigger["state"]) == ("nightly:schedule", "schedule", "active")
    assert [moment[4:] for moment in trigger["nextFires"]] == ["-01-01T00:00:00.000Z"] * 2
    pause = 'mutation { pauseTrigger(id: "nightly:schedule") { trigger { state pausedBy } problems { code } } }'
    assert ask(pause)["pauseTrigger"]["trigger"] == {"state": "paused", "pausedBy": "operator of the server"}
    ask('mutation { unpauseTrigger(id: "nightly:schedule") { problems { code } } }')
    fire = (
        'mutation { fireTrigger(id: "nightly:schedule", at: "2026-02-03T04:05:06Z", requestKey: "k") '
        "{ status run { id logicalDate } fire { number startedBy trigger } problems { code } } }"
    )
    fired = ask(fire)["fireTrigger"]
    assert fired["run"]["logicalDate"] == "2026-02-03 04:05:06+00:00"
    assert (fired["fire"]["trigger"], fired["fire"]["startedBy"]) == ("nightly:schedule", "operator of the server")
    assert ask(fire)["fireTrigger"]["run"]["id"] == fired["run"]["id"]
    (started,) = ask('{ fires(state: ["STARTED"]) { nodes { number run { id fire { number } } } } }')["fires"]["nodes"]
    assert started["run"] == {"id": fired["run"]["id"], "fire": {"number": started["number"]}}
    again = f'mutation {{ startRunAgain(id: "{fired["run"]["id"]}", requestKey: "a") {{ run {{ params }} }} }}'
    assert ask(again)["startRunAgain"]["run"]["params"]["count"] == 1


def test_who_requested_a_change_of_a_run_is_stored_and_shown(parts: RunningServer) -> None:
    client, by = Client(parts.url, parts.operator), "operator of the server"

    def request(run: str) -> tuple[str, str]:
        shape = client.run(run)["request"]
        return shape["action"], shape["requested_by"]

    (parts.folder / "go").touch()
    run_id = client.start("parts")["run_id"]
    client.wait(run_id, timeout_s=60)
    assert client.run(run_id)["request"] is None
    client.retry(run_id, ["d"])
    client.wait(run_id, timeout_s=60)
    assert request(run_id) == ("retry", by)
    fork = client.fork(run_id, ["d"])["run_id"]
    client.wait(fork, timeout_s=60)
    assert request(fork) == ("fork", by)
    body = {"tasks": ["d"], "status": "failed", "reason": "wrong rows"}
    assert parts.request("POST", f"/api/v1/runs/{run_id}/mark", body).status == 200
    assert request(run_id) == ("mark", by)
    (task,) = [row for row in client.tasks(run_id) if row["task"] == "d"]
    assert task["reason"] == f"marked by {by}: wrong rows"
    assert parts.request("POST", f"/api/v1/runs/{run_id}/clear", {"tasks": ["d"]}).status == 200
    assert request(run_id) == ("clear", by)
    assert client.cancel(run_id)["status"] == "CANCELLED"
    assert request(run_id) == ("cancel", by)
    why = lightflow(parts.folder, "why", run_id, "d").stdout
    assert f"by {by}" in why
    (row,) = [run for run in json.loads(lightflow(parts.folder, "runs", "--json").stdout) if run["run_id"] == run_id]
    assert (row["request"]["action"], row["request"]["requested_by"]) == ("cancel", by)
    query = {"query": f'{{ run(id: "{run_id}") {{ request {{ action requestedBy }} }} }}'}
    answer = parts.request("POST", "/graphql", query).json()["data"]["run"]["request"]
    assert answer == {"action": "cancel", "requestedBy": by}
    assert lightflow(parts.folder, "mark", run_id, "a", "success").returncode == 0
    action, name = request(run_id)
    assert (action, "@" in name) == ("mark", True)
