"""Tasks of type lambda against an endpoint that counts invocations."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_folder import COMMAND, environment, lightflow, problems, write
from http_kit import Server, serving
from sql_servers import free_port

from lightflow.tasks import aws_lambda
from liteflow import Dag, DagRun, DefinitionError, Secret
from liteflow.api import History

KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI"}


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def run(folder: Path, server: Server, *, retries: int = 1, **keys: Any) -> tuple[DagRun, tuple[str, ...]]:
    """Invoke `score` with one retry; return the run and the codes of the last attempt."""
    values = {"region": "eu-central-1", "endpoint": server.url(""), "credentials": KEYS} | keys
    secrets = values.pop("secrets", {})
    dag = Dag("calls", str(folder / "state.db"), secrets=list(map(Secret, secrets)))
    dag.add("score", aws_lambda(values.pop("function", "score"), **values), retries=retries)
    result = dag.run(mode="inline", secrets=secrets, log_dir=str(folder / "logs"))
    with History(str(folder / "state.db")) as history:
        return result, history.attempts(result.run_id, "score")[-1].codes


def test_a_result(server: Server, tmp_path: Path) -> None:
    tail = b"START\nREPORT RequestId: r-1 Duration: 3 ms Billed Duration: 4 ms\n"
    server.answers = [(200, {"X-Amz-Log-Result": base64.b64encode(tail).decode()}, b'{"total": 12}')]
    result, _ = run(tmp_path, server, payload={"rows": 3, "text": "\u00fc"}, function="score:prod")
    assert result.value("score") == {"total": 12}
    values = {key: result.value("score", key) for key in ("status", "request_id", "version", "billed_ms")}
    assert values == {"status": 200, "request_id": "r-1", "version": "7", "billed_ms": 4}
    (request,) = server.received
    assert request.path == "/2015-03-31/functions/score%3Aprod/invocations"
    assert json.loads(request.body) == {"rows": 3, "text": "\u00fc"}
    custom = json.loads(base64.b64decode(request.headers["x-amz-client-context"]))["custom"]
    assert custom["lightflow_key"].startswith("lf-")
    assert b"REPORT RequestId" in next((tmp_path / "logs").rglob("*score*.log")).read_bytes()


def test_an_event_has_no_result(server: Server, tmp_path: Path) -> None:
    server.answers = [(202, {}, b"")]
    result, _ = run(tmp_path, server, invoke="event")
    assert (result.status, result.value("score")) == ("SUCCESS", None)
    assert server.received[0].headers["x-amz-invocation-type"] == "Event"


def error(code: str) -> dict[str, str]:
    return {"x-amzn-errortype": code}


@pytest.mark.parametrize(
    ("answer", "keys", "codes", "invocations"),
    [
        ((429, error("TooManyRequestsException"), b"{}"), {}, ("lambda:TooManyRequests", "http:429"), 2),
        ((500, error("ServiceException"), b"{}"), {}, ("lambda:Service", "http:500"), 2),
        ((404, error("ResourceNotFoundException"), b"{}"), {}, ("lambda:NotFound", "http:404"), 1),
        ((403, error("AccessDeniedException"), b"{}"), {}, ("lambda:Access", "http:403"), 1),
        ((0, {}, b""), {}, ("lambda:closed",), 1),
        ((0, {}, b""), {"idempotent": True}, ("lambda:closed",), 2),
        ((200, {}, b"no JSON"), {}, ("lambda:result",), 1),
    ],
)
def test_each_attempt_invokes_once(
    server: Server,
    tmp_path: Path,
    answer: tuple[int, dict[str, str], bytes],
    keys: dict[str, Any],
    codes: tuple[str, ...],
    invocations: int,
) -> None:
    server.answers = [answer] * 5
    result, found = run(tmp_path, server, **keys)
    assert (found, len(server.received)) == (codes, invocations), result.failures()
    assert result.failures()["score"].startswith("lambda score: ")


@pytest.mark.parametrize("kind", ["Unhandled", "Handled"])
def test_an_error_of_the_function(server: Server, tmp_path: Path, kind: str) -> None:
    details = {"errorType": "KeyError", "errorMessage": "'rows'", "stackTrace": ["  File a.py, line 3\n"]}
    server.answers = [(200, {"X-Amz-Function-Error": kind}, json.dumps(details).encode())] * 2
    result, codes = run(tmp_path, server)
    assert result.failures()["score"] == "lambda score: KeyError: 'rows'"
    assert codes == (f"lambda:{kind}",)
    assert len(server.received) == 2
    assert b"File a.py, line 3" in next((tmp_path / "logs").rglob("*score*.log")).read_bytes()


def test_no_connection_is_tried_again(server: Server, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    result, codes = run(tmp_path, server, endpoint=endpoint)
    assert codes == ("lambda:connect",)
    assert "no connection" in result.failures()["score"]


def test_a_proxy(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers = [(200, {}, b"1"), (200, {}, b"2")]
    endpoint = "http://lambda.example.invalid:1"
    proxy = server.url("").replace("//", "//me:t-3141592653@")
    result, _ = run(tmp_path, server, endpoint=endpoint, proxy=Secret("PROXY"), secrets={"PROXY": proxy})
    assert result.statuses() == {"score": "SUCCESS"}
    (request,) = server.received
    assert request.path.startswith(endpoint)
    assert "proxy-authorization" in request.headers
    closed = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("HTTP_PROXY", closed)
    assert run(tmp_path, server, proxy="none")[0].statuses() == {"score": "SUCCESS"}
    failed, codes = run(tmp_path, server, retries=0)
    assert codes == ("lambda:connect",)
    assert closed in failed.failures()["score"]


def test_what_is_missing_is_named_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    result, codes = run(tmp_path, server, region=None)
    assert codes == ("lambda:region",)
    result, codes = run(tmp_path, server, credentials=None)
    assert codes == ("lambda:credentials",)
    assert "no credentials; these were read: `credentials`, the variables AWS_" in result.failures()["score"]
    result, codes = run(tmp_path, server, credentials={"profile": "nobody"})
    assert codes == ("lambda:credentials",)
    result, codes = run(tmp_path, server, payload={"text": "x" * 7_000_000})
    assert codes == ("lambda:too_large",)
    assert "more than the 6,291,456 of the service" in result.failures()["score"]
    assert run(tmp_path, server, payload={"text": "x" * 1_100_000}, invoke="event")[1] == ("lambda:too_large",)
    assert server.received == []


FLOW = """
    secrets: [KEY]
    tasks:
      score:
        type: lambda
        function: score
        region: eu-central-1
        endpoint: %s
        credentials: {access_key: AKID, secret_key: "${{ secrets.KEY }}"}
        %s
    """


def test_a_timeout_does_not_invoke_again(server: Server, tmp_path: Path) -> None:
    server.answers = [(1, {}, b"")] * 4
    write(tmp_path, FLOW % (server.url(""), "timeout: 6s\n        kill_grace: 2"))
    assert lightflow(tmp_path, "run", "flow.yaml", extra_env={"KEY": "k" * 12}).returncode == 1
    assert len(server.received) == 1
    assert "the function continues at AWS" in lightflow(tmp_path, "logs", "score").stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_resumed_run_sends_the_same_key(server: Server, tmp_path: Path, number: int) -> None:
    server.answers = [(1, {}, b""), (200, {}, b"3")]
    write(tmp_path, FLOW % (server.url(""), ""))
    process = subprocess.Popen([*COMMAND, "run", "flow.yaml", "-q"], cwd=tmp_path, env=environment({"KEY": "k" * 12}))
    assert server.arrived.wait(120)
    process.send_signal(number)
    process.wait(120)
    server.released.set()
    assert lightflow(tmp_path, "resume", "flow.yaml", extra_env={"KEY": "k" * 12}).returncode == 0
    first, second = (each.headers["x-amz-client-context"] for each in server.received)
    assert first == second
    assert all(b"k" * 12 not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("function: 'a b'", "must be the name of a function"),
        ("function: f, credentials: {access_key: a, secret_key: b}", "a secret in clear text"),
        ("function: f, credentials: {access_key: a}", 'needs "secret_key"'),
        ("function: f, credentials: mine", "must be default, or a mapping with a profile or with keys"),
        ("function: f, invoke: later", "must be one of wait, event"),
        ("function: f, invoke: event, log_tail: true", "an event has no log"),
        ("payload: {}", 'needs "function"'),
    ],
)
def test_mistakes(keys: str, message: str) -> None:
    assert message in problems(f"tasks: {{a: {{type: lambda, {keys}}}}}")


def test_mistakes_in_python() -> None:
    with pytest.raises(DefinitionError, match="must be the name of a function"):
        aws_lambda("a b")
