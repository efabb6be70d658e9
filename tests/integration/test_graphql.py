"""GraphQL on a real server: queries, pages, roles, mutations with problems, subscriptions, limits, a foreign client."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import build_client_schema, get_introspection_query, print_schema
from scheduler_kit import until
from server_kit import RunningServer, environment, lightflow, serving

from lightflow.server.graphql.context import OperationContext
from lightflow.server.graphql.resolvers import RESOLVERS, RunTask
from lightflow.server.graphql.types import executable_schema
from lightflow.server.routing import CheckedRequest
from liteflow import Dag
from liteflow.api import History

FLOW = """
workflow_name: five
params: {n: 3}
tasks:
  a: {run: "echo hello; echo n=1 >> $LIGHTFLOW_OUTPUT"}
  m: {run: "echo item ${{ item }}; test ${{ item }} != 2", foreach: [1, 2, 3], depends_on: [a]}
  c: {run: "exit 3", depends_on: [a]}
  d: {run: "echo d", depends_on: [c]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that may start runs of the workflow."""
    folder = tmp_path_factory.mktemp("graphql")
    (folder / "five.yaml").write_text(FLOW)
    for number in range(3):
        assert lightflow(folder, "run", "five.yaml", "--run-id", f"r{number}").returncode == 1
    with serving(folder, "serve", "five.yaml") as running:
        yield running


def post(server: RunningServer, query: str, *, token: str = "operator", status: int = 200, **variables: Any) -> Any:
    """Return the answer to an operation."""
    answer = server.request("POST", "/graphql", {"query": query, "variables": variables}, token=token)
    assert answer.status == status, answer.body
    return answer.json()


def data(server: RunningServer, query: str, **options: Any) -> Any:
    answer = post(server, query, **options)
    assert "errors" not in answer, answer
    return answer["data"]


class CountedHistory(History):
    """Counts how often the times of a mapped task are read."""

    spans = 0

    def instance_span(self, run_id: str, task_id: str) -> tuple[float | None, float | None]:
        self.spans += 1
        return super().instance_span(run_id, task_id)


def test_the_times_of_a_mapped_task_are_read_once(server: RunningServer) -> None:
    with CountedHistory(str(server.folder / "lightflow.db")) as history:
        request = CheckedRequest(services=None, role="viewer", path={}, query={})  # type: ignore[arg-type]  # not needed
        context, run = OperationContext(request, history, ""), history.run("r0")
        record = history.instance(run.run_id, "m")
        assert record is not None
        node, resolvers = RunTask(run=run, record=record), RESOLVERS["TaskInstance"]
        times = [resolvers[name](node, context) for name in ("startedAt", "endedAt", "startedAt")]
        assert times == [*history.instance_span(run.run_id, "m"), times[0]]
        assert history.spans == 2, "once for the task, and once by this test"


def ended(server: RunningServer, run_id: str) -> Any:
    """Return the state of a run once it has ended, and its tasks."""
    query = 'query ($id: ID!) { run(id: $id) { state criticalPath a: task(id: "a") { tryNumber } d: task(id: "d") '
    query += "{ state } } }"
    until(lambda: data(server, query, id=run_id)["run"]["state"] in ("SUCCESS", "FAILED"))
    return data(server, query, id=run_id)["run"]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_run_with_its_tasks_attempts_values_and_reasons(server: RunningServer) -> None:
    run = data(
        server,
        "query ($id: ID!) { run(id: $id) { id workflow state params counts { state number } resumable "
        'task(id: "a") { state tryNumber values { key content } attempts { number exitCode log { text size } } } '
        "tasks(first: 9) { nodes { id state startedAt endedAt dependsOn why "
        "instances(first: 9) { nodes { index state } } } } } }",
        id="r0",
    )["run"]
    assert (run["id"], run["workflow"], run["state"], run["params"]) == ("r0", "five", "FAILED", {"n": 3})
    assert run["task"]["values"] == [{"key": "n", "content": "1"}]
    assert run["task"]["attempts"] == [{"number": 1, "exitCode": 0, "log": {"text": "hello\n", "size": 6.0}}]
    tasks = {task["id"]: task for task in run["tasks"]["nodes"]}
    assert {name: task["state"] for name, task in tasks.items()} == {
        "a": "SUCCESS",
        "m": "FAILED",
        "c": "FAILED",
        "d": "UPSTREAM_FAILED",
    }
    spans = {name: (task["startedAt"] is not None, task["endedAt"] is not None) for name, task in tasks.items()}
    assert spans == {"a": (True, True), "m": (True, True), "c": (True, True), "d": (False, False)}
    assert tasks["d"]["dependsOn"] == ["c"]
    assert any("c" in sentence for sentence in tasks["d"]["why"])
    assert [each["index"] for each in tasks["m"]["instances"]["nodes"]] == [1, 0, 2], "failures first"


def test_pages_show_each_run_once(server: RunningServer) -> None:
    query = (
        'query ($after: String) { runs(first: 1, after: $after, workflow: "five", state: ["FAILED"]) '
        "{ nodes { id } pageInfo { endCursor hasNextPage } } }"
    )
    ids, after = list[str](), None
    for _ in range(20):
        page = data(server, query, after=after)["runs"]
        ids += [node["id"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert len(ids) == len(set(ids))
    assert ids[-3:] == ["r2", "r1", "r0"]


def test_pages_of_tasks_and_events_continue(server: RunningServer) -> None:
    query = (
        'query ($tasks: String, $events: String) { run(id: "r0") { '
        "tasks(first: 3, after: $tasks) { nodes { id } pageInfo { endCursor hasNextPage } } "
        "events(first: 5, after: $events) { nodes { seq } pageInfo { endCursor hasNextPage } } } }"
    )
    first = data(server, query)["run"]
    assert [node["id"] for node in first["tasks"]["nodes"]] == ["a", "c", "d"]
    cursors = {kind: first[kind]["pageInfo"]["endCursor"] for kind in ("tasks", "events")}
    second = data(server, query, **cursors)["run"]
    assert [node["id"] for node in second["tasks"]["nodes"]] == ["m"]
    assert not second["tasks"]["pageInfo"]["hasNextPage"]
    seqs = [node["seq"] for page in (first, second) for node in page["events"]["nodes"]]
    assert seqs == sorted(set(seqs))
    assert len(seqs) == 10


def test_filters_by_time(server: RunningServer) -> None:
    newest = data(server, '{ run(id: "r2") { createdAt } }')["run"]["createdAt"]
    query = "query ($since: DateTime, $until: DateTime) { runs(since: $since, until: $until) { nodes { id } } }"
    until = [node["id"] for node in data(server, query, until=newest)["runs"]["nodes"]]
    assert until[-3:] == ["r2", "r1", "r0"]
    assert data(server, query, since="2999-01-01T00:00:00Z")["runs"]["nodes"] == []
    assert post(server, query, since="yesterday", status=400)["errors"][0]["extensions"]["code"] == "BAD_INPUT"


def test_what_does_not_exist_is_null(server: RunningServer) -> None:
    nothing = data(server, '{ run(id: "none") { id } workflow(name: "none") { name } }')
    assert nothing == {"run": None, "workflow": None}
    assert data(server, '{ run(id: "r0") { task(id: "none") { id } } }') == {"run": {"task": None}}


def test_workflows_pools_and_the_server(server: RunningServer) -> None:
    answer = data(
        server,
        "{ workflows { nodes { name served runs(first: 1) { nodes { id } } } } pools { name } "
        "system { version startsRuns scheduler { active failures { subject } } asOf } whoami { role } }",
    )
    assert answer["workflows"]["nodes"][0]["name"] == "five"
    assert answer["workflows"]["nodes"][0]["served"]
    assert (answer["pools"], answer["whoami"], answer["system"]["startsRuns"]) == ([], {"role": "operator"}, True)


# -- roles and errors --------------------------------------------------------------------------------------------------


def test_a_viewer_reads_and_changes_nothing(server: RunningServer) -> None:
    assert data(server, "{ whoami { role } }", token="viewer") == {"whoami": {"role": "viewer"}}
    for mutation in (
        'cancelRun(id: "r0") { problems { code } }',
        'resumeRun(id: "r0") { problems { code } }',
        'startRun(input: {workflow: "five"}) { problems { code } }',
        'pauseWorkflow(name: "five") { problems { code } }',
        'unpauseWorkflow(name: "five") { problems { code } }',
        'setPool(name: "p", slots: 2) { problems { code } }',
        'clearTasks(run: "r0", tasks: ["a"]) { problems { code } }',
        'approve(run: "r0", task: "a") { problems { code } }',
        'reject(run: "r0", task: "a") { problems { code } }',
        'markTasks(run: "r0", tasks: ["a"], state: "failed") { problems { code } }',
        'deletePool(name: "p") { problems { code } }',
    ):
        answer = post(server, f"mutation {{ {mutation} }}", token="viewer")
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"], mutation
    refused = post(server, "{ __schema { types { name } } }", token="viewer", status=403)
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    ("query", "code", "status"),
    [
        ("{ nothing }", "BAD_INPUT", 400),
        ("{ runs(first: 0) { nodes { id } } }", "BAD_INPUT", 200),
        ('{ runs(after: "x y") { nodes { id } } }', "BAD_INPUT", 200),
        ('{ run(id: "r0") { task(id: "m") { instances(orderBy: "x") { nodes { id } } } } }', "BAD_INPUT", 200),
        ("{ runs(first: 1000000000) { nodes { id } } }", "TOO_COSTLY", 400),
        ("{ " + "whoami{role}" * 2_000 + "}", "TOO_COSTLY", 400),
        ("{ " + "a" * 40_000 + " }", "TOO_COSTLY", 413),
    ],
)
def test_a_mistake_has_a_code(server: RunningServer, query: str, code: str, status: int) -> None:
    answer = post(server, query, status=status)
    assert answer["errors"][0]["extensions"]["code"] == code
    assert "Traceback" not in json.dumps(answer)


def test_the_address_takes_one_post_with_an_object(server: RunningServer) -> None:
    body = {"query": "{ whoami { role } }"}
    assert server.request("GET", "/graphql?query=%7Bwhoami%7Brole%7D%7D").status == 405
    assert server.request("POST", "/graphql", [body, body]).status == 422
    assert server.request("POST", "/graphql", {**body, "extensions": {}}).status == 422
    assert server.request("POST", "/graphql", body, token=None).status == 401


# -- changing ----------------------------------------------------------------------------------------------------------


def test_a_run_is_started_once_for_a_key(server: RunningServer) -> None:
    query = (
        "mutation ($input: StartRunInput!) { startRun(input: $input) "
        "{ run { id state } status problems { message field code } } }"
    )
    given = {"workflow": "five", "params": {"n": 1}, "requestKey": "k1"}
    first = data(server, query, input=given)["startRun"]
    assert first["problems"] == []
    assert ended(server, first["run"]["id"])["state"] == "FAILED"
    assert data(server, query, input=given)["startRun"]["run"]["id"] == first["run"]["id"]


def test_problems_name_the_field(server: RunningServer) -> None:
    query = (
        "mutation ($input: StartRunInput!) { startRun(input: $input) { run { id } problems { message field code } } }"
    )
    wrong = data(server, query, input={"workflow": "five", "params": {"n": "x"}})["startRun"]
    assert wrong == {
        "run": None,
        "problems": [{"message": 'must be a whole number, not "x"', "field": ["n"], "code": "BAD_INPUT"}],
    }
    unknown = data(server, query, input={"workflow": "fife"})["startRun"]["problems"][0]
    assert unknown["code"] == "NOT_FOUND"
    assert "did you mean" in unknown["message"]
    listed = data(server, query, input={"workflow": "five", "params": [1]})["startRun"]["problems"][0]
    assert listed["field"] == ["params"]
    ended = data(server, 'mutation { cancelRun(id: "r0") { run { id } problems { code } } }')["cancelRun"]
    assert ended == {"run": None, "problems": [{"code": "CONFLICT"}]}


def test_tasks_are_set_back_and_marked_by_hand(server: RunningServer) -> None:
    clear = (
        'mutation ($tasks: [String!]!) { clearTasks(run: "r1", tasks: $tasks) '
        "{ run { state } tasks problems { code message } } }"
    )
    cleared = data(server, clear, tasks=["c"])["clearTasks"]
    assert cleared == {"run": {"state": "INTERRUPTED"}, "tasks": ["c", "d"], "problems": []}
    mark = (
        'mutation ($state: String!, $outputs: JSON) { markTasks(run: "r1", tasks: ["c"], state: $state, '
        'reason: "by hand", outputs: $outputs) { tasks problems { code field } '
        'run { task(id: "c") { state reason values { key content } } } } }'
    )
    marked = data(server, mark, state="success", outputs={"rows": 7})["markTasks"]
    task = marked["run"]["task"]
    assert (marked["tasks"], task["state"]) == (["c"], "SUCCESS")
    assert task["values"] == [{"key": "rows", "content": 7}]
    assert task["reason"] == "marked by operator of the server: by hand"
    assert data(server, mark, state="success", outputs=[1])["markTasks"]["problems"] == [
        {"code": "BAD_INPUT", "field": ["outputs"]}
    ]
    assert data(server, mark, state="nonsense")["markTasks"]["problems"][0]["code"] == "BAD_INPUT"
    assert data(server, clear, tasks=["none"])["clearTasks"]["problems"][0]["code"] in ("BAD_INPUT", "NOT_FOUND")
    resumed = data(server, 'mutation { resumeRun(id: "r1") { run { id } } }')["resumeRun"]
    assert resumed["run"]["id"] == "r1"
    assert ended(server, "r1")["d"]["state"] == "SUCCESS"


def test_a_part_runs_again_and_a_run_is_forked(server: RunningServer) -> None:
    retry = (
        'mutation ($tasks: [String!]) { retryRun(id: "r2", tasks: $tasks) '
        "{ status problems { code message field } run { id } } }"
    )
    again = data(server, retry, tasks=["a"])["retryRun"]
    assert again == {"status": "STARTED", "problems": [], "run": {"id": "r2"}}
    run = ended(server, "r2")
    assert (run["a"]["tryNumber"], run["criticalPath"][0]) == (2, "a")
    assert data(server, retry, tasks=["none"])["retryRun"]["problems"][0]["code"] in ("BAD_INPUT", "NOT_FOUND")
    fork = (
        'mutation ($params: JSON) { forkRun(id: "r2", tasks: ["c"], params: $params) '
        "{ problems { code field } run { id origin } } }"
    )
    assert data(server, fork)["forkRun"]["run"]["origin"] == "r2"
    assert data(server, fork, params=[1])["forkRun"]["problems"] == [{"code": "BAD_INPUT", "field": ["params"]}]
    assert post(server, retry, token="viewer")["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    fire = 'mutation { fireTrigger(id: "x:schedule", at: "2026-01-02T03:04:05Z") { status problems { code } } }'
    assert data(server, fire)["fireTrigger"]["problems"] == [{"code": "NOT_FOUND"}]


@pytest.mark.parametrize(
    ("mutation", "field", "message"),
    [
        ('forkRun(id: "r0", tasks: [])', ["tasks"], "must not be empty"),
        ('retryRun(id: "r0", tasks: [])', ["tasks"], "must not be empty"),
        ('retryRun(id: "r0", ignoreUpstream: true)', ["ignoreUpstream"], "needs tasks"),
        ('clearTasks(run: "r0", tasks: [""])', ["tasks", "0"], "must not be empty"),
        ('markTasks(run: "r0", tasks: ["a"], state: "done")', ["state"], "must be one of success, failed, skipped"),
        (f'pauseWorkflow(name: "five", reason: "{"x" * 501}")', ["reason"], "may be at most 500 characters long"),
        (f'approve(run: "r0", task: "a", by: "{"x" * 201}")', ["by"], "may be at most 200 characters long"),
        ('startRun(input: {workflow: "five", requestKey: "a\\nb"})', ["requestKey"], "printable ASCII"),
        ('startRunAgain(id: "r0", requestKey: "")', ["requestKey"], "printable ASCII"),
        ('fireTrigger(id: "x", at: "9999-12-31T23:59:59-01:00")', ["at"], "must be a moment"),
    ],
)
def test_arguments_have_the_rules_of_the_routes(
    server: RunningServer, mutation: str, field: list[str], message: str
) -> None:
    before = len(server.get("/api/v1/runs")["runs"])
    (payload,) = data(server, f"mutation {{ {mutation} {{ problems {{ message field code }} }} }}").values()
    (problem,) = payload["problems"]
    assert (problem["field"], problem["code"]) == (field, "BAD_INPUT")
    assert message in problem["message"]
    assert len(server.get("/api/v1/runs")["runs"]) == before


def test_a_task_that_waits_for_a_person_is_decided(server: RunningServer) -> None:
    (server.folder / "asks.yaml").write_text(
        "workflow_name: asks\ntasks:\n"
        "  ok: {type: approval, message: Deploy?, fields: {count: {type: integer}}}\n"
        "  next: {run: 'true', depends_on: [ok]}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "asks.yaml", "-q", "--run-id", "asks"],
        cwd=server.folder,
        env=environment(server.folder),
    )
    try:
        query = '{ run(id: "asks") { task(id: "ok") { approval { message fields { name type required } } } } }'
        give_up, approval = time.monotonic() + 60, None
        while approval is None:
            assert time.monotonic() < give_up
            run = data(server, query)["run"]
            approval = run and run["task"] and run["task"]["approval"]
            time.sleep(0.05)
        assert approval == {"message": "Deploy?", "fields": [{"name": "count", "type": "integer", "required": True}]}
        approve = (
            'mutation ($fields: JSON) { approve(run: "asks", task: "ok", fields: $fields, by: "ann") '
            "{ atOnce task { id } problems { code message } } }"
        )
        wrong = data(server, approve, fields={"count": "many"})["approve"]
        assert wrong["problems"][0]["code"] == "BAD_INPUT"
        assert data(server, approve, fields={"count": 3})["approve"]["problems"] == []
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    query = '{ run(id: "asks") { state task(id: "ok") { values { key content } } } }'
    values = {each["key"]: each["content"] for each in data(server, query)["run"]["task"]["values"]}
    assert (values["count"], values["by"]) == (3, "ann")
    late = data(server, 'mutation { reject(run: "asks", task: "ok") { problems { code } } }')["reject"]["problems"]
    assert late[0]["code"] in ("CONFLICT", "NOT_FOUND")


def test_pools_are_set_and_deleted(server: RunningServer) -> None:
    made = data(server, 'mutation { setPool(name: "gpu", slots: 2) { pool { name slots used } problems { code } } }')
    assert made["setPool"] == {"pool": {"name": "gpu", "slots": 2, "used": 0}, "problems": []}
    wrong = data(server, 'mutation { setPool(name: "gpu", slots: -1) { pool { name } problems { field } } }')
    assert wrong["setPool"] == {"pool": None, "problems": [{"field": ["slots"]}]}
    assert data(server, 'mutation { deletePool(name: "gpu") { pool { name } } }')["deletePool"]["pool"] == {
        "name": "gpu"
    }
    assert data(server, "{ pools { name } }")["pools"] == []


def test_a_read_only_server_changes_nothing(server: RunningServer) -> None:
    with serving(server.folder, "ui", "lightflow.db") as running:
        answer = post(running, 'mutation { setPool(name: "p", slots: 2) { problems { code } } }')
        assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"


# -- subscriptions -----------------------------------------------------------------------------------------------------


class Subscription:
    """A subscription, read as a client reads it."""

    def __init__(self, server: RunningServer, query: str, **variables: Any) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = {
            "Authorization": f"Bearer {server.viewer}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
        }
        body = json.dumps({"query": query, "variables": variables})
        self._connection.request("POST", "/graphql", body, headers)
        self.response = self._connection.getresponse()

    def __enter__(self) -> Iterator[tuple[str, Any]]:
        assert self.response.status == 200, self.response.read()
        assert self.response.headers["Content-Type"].startswith("text/event-stream")
        return self._events()

    def _events(self) -> Iterator[tuple[str, Any]]:
        name = ""
        for line in self.response:
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                name = text.removeprefix("event: ")
            elif text.startswith("data: "):
                yield name, json.loads(text.removeprefix("data: ") or "null")

    def __exit__(self, *_: object) -> None:
        self._connection.close()


EVENTS = "subscription ($after: String, $run: ID) { events(after: $after, run: $run) { seq run task state asOf } }"


def test_a_snapshot_and_the_events_after_it_have_no_gap(server: RunningServer) -> None:
    as_of = data(server, "{ system { asOf } }")["system"]["asOf"]
    lightflow(server.folder, "run", "five.yaml", "-q", "--run-id", "followed")
    with History(str(server.folder / "lightflow.db")) as history:
        expected = [(event.seq, event.task_id, event.status) for event in history.events("followed")]
    seen = list[tuple[int, str | None, str]]()
    with Subscription(server, EVENTS, after=as_of, run="followed") as events:
        for name, result in events:
            assert name == "next"
            event = result["data"]["events"]
            seen.append((event["seq"], event["task"], event["state"]))
            if len(seen) == len(expected):
                break
    assert seen == expected


def test_a_position_of_another_file_is_a_reset(server: RunningServer) -> None:
    with Subscription(server, EVENTS, after="0123abcd.1.0") as events:
        _, result = next(events)
        assert result["errors"][0]["extensions"]["code"] == "RESET"
        assert next(events)[0] == "complete"


@pytest.mark.parametrize(
    "query",
    [
        'subscription { events(after: "x") { seq } }',
        'subscription { events { seq } log(run: "r0", task: "a") { text } }',
        'subscription { log(run: 5.5, task: "a") { text } }',
    ],
)
def test_a_wrong_subscription_is_refused(server: RunningServer, query: str) -> None:
    assert post(server, query, status=400)["errors"]


def test_the_output_of_an_attempt_is_followed_to_its_end(server: RunningServer, tmp_path: Path) -> None:
    (server.folder / "slow.yaml").write_text(
        "workflow_name: slow\ntasks: {a: {run: 'echo first; while [ ! -e go ]; do sleep 0.05; done; echo last'}}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "slow.yaml", "-q", "--run-id", "slow"],
        cwd=server.folder,
        env=environment(server.folder),
    )
    try:
        query, text = '{ run(id: "slow") { task(id: "a") { attempts { log { text } } } } }', ""
        give_up = time.monotonic() + 60
        while "first" not in text:
            assert time.monotonic() < give_up
            text = json.dumps(data(server, query))
            time.sleep(0.05)
        with Subscription(server, 'subscription { log(run: "slow", task: "a", offset: 0) { text } }') as windows:
            assert next(windows)[1]["data"]["log"]["text"] == "first\n"
            (server.folder / "go").touch()
            rest = [result["data"]["log"]["text"] for name, result in windows if name == "next"]
        assert "".join(rest) == "last\n"
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


# -- a foreign client --------------------------------------------------------------------------------------------------


def test_a_client_reads_the_schema(server: RunningServer) -> None:
    schema = build_client_schema(data(server, get_introspection_query(descriptions=False)))
    assert print_schema(schema).count("type ") == print_schema(executable_schema()).count("type ")


def test_a_long_history_is_read_by_pages(tmp_path: Path) -> None:
    """The cost of a page does not depend on what is before it: the query names its runs and tasks by keys."""
    db = str(tmp_path / "lightflow.db")
    with Dag("w", db) as dag:
        for number in range(12):
            dag.task(lambda: 1, task_id=f"t{number:02}")
    for number in range(30):
        dag.run(mode="inline", run_id=f"r{number:02}")
    with serving(tmp_path, "ui", "lightflow.db") as running:
        query = "{ runs(first: 20) { nodes { id tasks(first: 10) { nodes { id state } } } } }"
        page = data(running, query)["runs"]["nodes"]
    assert [run["id"] for run in page] == [f"r{number:02}" for number in range(29, 9, -1)]
    assert all(len(run["tasks"]["nodes"]) == 10 for run in page)
