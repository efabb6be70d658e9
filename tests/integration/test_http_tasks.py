"""Tasks of type http against a real server: keys, answers, failures, retries, redirects, ends, secrets."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from flow_folder import COMMAND, environment, lightflow, problems, status, write
from http_kit import Server, serving
from sql_servers import free_port

from lightflow.parser.workflow_loader import load_with_hints, loads_workflow
from lightflow.tasks import http
from liteflow import Dag, DagRun, DefinitionError, Secret
from liteflow.api import History

pytestmark = pytest.mark.usefixtures("no_proxy_variables")


@pytest.fixture
def no_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


class Requests:
    """Runs one request as a task of a dag in this process."""

    def __init__(self, folder: Path) -> None:
        self.db = str(folder / "state.db")

    def run(self, url: str, *, options: dict[str, Any] | None = None, **keys: Any) -> DagRun:
        dag = Dag("request", self.db)
        dag.add("fetch", http(url, **keys), **(options or {}))
        return dag.run(mode="inline", log_dir=f"{self.db}.logs")

    def value(self, url: str, key: str = "return_value", **keys: Any) -> Any:
        run = self.run(url, **keys)
        assert run.status == "SUCCESS", run.failures()
        return run.value("fetch", key)

    def failure(self, url: str, **keys: Any) -> tuple[str, tuple[str, ...], int]:
        """Return the reason, the codes and the number of attempts; there is one retry at most."""
        run = self.run(url, options={"retries": 1}, **keys)
        with History(self.db) as history:
            attempts = history.attempts(run.run_id, "fetch")
        assert run.status == "FAILED"
        return run.failures()["fetch"], attempts[-1].codes, len(attempts)


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    monkeypatch.chdir(tmp_path)
    return Requests(tmp_path)


# -- requests and answers ----------------------------------------------------------------------------------------------


def test_the_parts_of_a_request(server: Server, requests: Requests) -> None:
    seen = requests.value(
        server.url("/echo?a=1"),
        query={"day": "2026-01-31", "tag": ["x y", "z"], "n": 3, "yes": True},
        headers={"X-Key": "k", "User-Agent": "mine"},
        auth={"basic": {"user": "u", "password": "p"}},
        json={"rows": 3, "text": "ü"},
    )
    assert seen["method"] == "POST"
    assert seen["path"] == "/echo?a=1&day=2026-01-31&tag=x+y&tag=z&n=3&yes=true"
    assert json.loads(seen["body"]) == {"rows": 3, "text": "ü"}
    assert seen["headers"]["content-type"] == "application/json"
    assert seen["headers"]["authorization"] == "Basic dTpw"
    assert (seen["headers"]["x-key"], seen["headers"]["user-agent"]) == ("k", "mine")


@pytest.mark.parametrize(
    ("keys", "media_type", "body"),
    [
        ({"form": {"a": "1 2", "b": [1, 2]}}, "application/x-www-form-urlencoded", "a=1+2&b=1&b=2"),
        ({"body": "text ü"}, "text/plain; charset=utf-8", "text ü"),
        ({"body": "<a/>", "headers": {"content-type": "text/xml"}}, "text/xml", "<a/>"),
        ({"file": "body.bin"}, "application/octet-stream", "from a file"),
        ({"json": None, "body": "x", "method": "PUT"}, "text/plain; charset=utf-8", "x"),
    ],
)
def test_bodies(server: Server, requests: Requests, keys: dict[str, Any], media_type: str, body: str) -> None:
    Path("body.bin").write_text("from a file")
    seen = requests.value(server.url("/echo"), **keys)
    assert (seen["headers"]["content-type"], seen["body"]) == (media_type, body)
    assert seen["headers"]["content-length"] == str(len(body.encode()))


def test_a_body_of_several_parts(server: Server, requests: Requests) -> None:
    Path("r.csv").write_text("a,b\n")
    seen = requests.value(
        server.url("/echo"), multipart={"note": "hi", "report": {"file": "r.csv", "type": "text/csv"}}
    )
    assert seen["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    assert 'name="note"\r\n\r\nhi\r\n' in seen["body"]
    assert 'name="report"; filename="r.csv"\r\nContent-Type: text/csv\r\n\r\na,b\n' in seen["body"]


@pytest.mark.parametrize(
    ("content", "media_type", "response", "wanted"),
    [
        (b'{"a": [1]}', "application/json", None, {"a": [1]}),
        (b'{"a": 1}', "application/vnd.x+json; charset=utf-8", None, {"a": 1}),
        (b"\xe9", "text/plain; charset=latin-1", None, "é"),
        (b"\xff\xfe", "image/png", None, "//4="),
        (b"abc", "text/csv", "base64", "YWJj"),
        (b"1", "text/plain", "json", 1),
        (b"abc\xff", "text/plain; charset=nonsense", None, "abc\ufffd"),
        (b"abc", "text/plain", "none", None),
        (b"", "text/plain", None, None),
    ],
)
def test_how_an_answer_becomes_a_value(
    server: Server, requests: Requests, content: bytes, media_type: str, response: str | None, wanted: object
) -> None:
    url = server.url(f"/raw?hex={content.hex()}&type={quote(media_type, safe='')}")
    assert requests.value(url.replace("hex=&", "body=&") if not content else url, response=response) == wanted


def test_the_named_values_of_an_answer(server: Server, requests: Requests) -> None:
    run = requests.run(server.url("/raw?body=abc"))
    assert run.value("fetch", "status") == 200
    assert run.value("fetch", "url") == server.url("/raw?body=abc")
    assert run.value("fetch", "size") == 3
    assert run.value("fetch", "sha256") == hashlib.sha256(b"abc").hexdigest()
    assert run.value("fetch", "headers")["content-type"] == "text/plain"


def test_a_saved_answer_is_a_file_and_no_value(server: Server, requests: Requests) -> None:
    run = requests.run(server.url("/large?size=20000000"), save="out/data.bin")
    assert run.status == "SUCCESS"
    assert run.value("fetch") is None
    assert run.value("fetch", "size") == Path("out/data.bin").stat().st_size == 20_000_000
    assert run.value("fetch", "file") == str(Path("out/data.bin").resolve())
    assert os.listdir("out") == ["data.bin"]


def test_a_cut_answer_leaves_no_file(server: Server, requests: Requests) -> None:
    reason, codes, attempts = requests.failure(server.url("/cut"), save="out/data.bin")
    assert codes == ("http:closed",)
    assert attempts == 2
    assert "the connection was closed" in reason
    assert os.listdir("out") == []


def test_an_answer_that_is_not_expected_replaces_no_file(server: Server, requests: Requests) -> None:
    Path("data.json").write_text("before")
    _, codes, _ = requests.failure(server.url("/echo"), save="data.json", expect={"json": {"$.method": "PUT"}})
    assert codes == ("http:expect",)
    assert Path("data.json").read_text() == "before"
    assert not Path("data.json.part").exists()
    requests.value(server.url("/echo"), save="data.json", expect={"json": {"$.method": "GET"}})
    assert json.loads(Path("data.json").read_text())["method"] == "GET"


def test_values_that_are_expected(server: Server, requests: Requests) -> None:
    url = server.url("/echo")
    assert requests.value(url, expect={"json": {"$.method": "GET", "$.headers.accept": "*/*"}})["method"] == "GET"
    reason, codes, attempts = requests.failure(url, expect={"json": {"$.method": "PUT"}})
    assert reason.startswith(f'GET {url}: $.method is "GET", expected "PUT"')
    assert (codes, attempts) == (("http:expect",), 1)
    assert requests.value(server.url("/status?code=404&text=no"), expect={"status": [200, "4xx"]}) == "no"


# -- failures and retries ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status_code", "keys", "attempts"),
    [
        (503, {}, 2),
        (429, {"method": "DELETE"}, 2),
        (404, {}, 1),
        (400, {"method": "PUT", "json": {}}, 1),
        (503, {"json": {}}, 1),  # a POST might have its effect twice
        (503, {"json": {}, "idempotency": "header"}, 2),
    ],
)
def test_which_answers_are_tried_again(
    server: Server, requests: Requests, status_code: int, keys: dict[str, Any], attempts: int
) -> None:
    path = f"/status?code={status_code}&text=busy"
    reason, codes, number = requests.failure(server.url(path), **keys)
    assert (codes, number) == ((f"http:{status_code}",), attempts)
    assert f"{status_code} " in reason
    assert "busy" in reason
    assert len(server.received) == attempts


def test_a_status_that_the_policy_names_is_tried_again_also_after_a_post(server: Server, requests: Requests) -> None:
    options = {"retries": 2, "retry_on_codes": ["http:503"]}
    assert requests.run(server.url("/status?code=503"), json={}, options=options).status == "FAILED"
    assert len(server.received) == 3


def test_all_attempts_send_the_same_key(server: Server, requests: Requests) -> None:
    server.answers = [(503, {}, b""), (200, {}, b"{}")]
    keys = {"json": {}, "idempotency": "X-Request-Id"}
    assert requests.run(server.url("/scripted"), options={"retries": 1}, **keys).status == "SUCCESS"
    first, second = (each.headers["x-request-id"] for each in server.received)
    assert first == second != ""


def test_the_wait_that_a_server_requires(server: Server, requests: Requests) -> None:
    server.answers = [(429, {"Retry-After": "1"}, b""), (200, {}, b"{}")]
    run = requests.run(server.url("/scripted"), options={"retries": 1})
    assert run.status == "SUCCESS"
    with History(requests.db) as history:
        reasons = [event.reason for event in history.events(run.run_id) if event.status == "UP_FOR_RETRY"]
        first, second = history.attempts(run.run_id, "fetch")
    assert reasons[0] is not None
    assert reasons[0].endswith("attempt 2 in 1 s, as the service requires")
    assert first.ended_at is not None
    assert second.started_at - first.ended_at >= 0.99


@pytest.mark.parametrize(("method", "attempts"), [("GET", 2), ("POST", 1)])
def test_a_connection_that_is_closed_without_an_answer(
    server: Server, requests: Requests, method: str, attempts: int
) -> None:
    reason, codes, number = requests.failure(server.url("/hangup"), method=method)
    assert (codes, number) == (("http:closed",), attempts)
    assert ("whether the server has done it is unknown" in reason) is (method == "POST")
    assert "object at 0x" not in reason


def test_no_connection_is_tried_again_also_for_a_post(requests: Requests) -> None:
    reason, codes, attempts = requests.failure(f"http://127.0.0.1:{free_port()}/x", json={})
    assert (codes, attempts) == (("http:connect",), 2)
    assert "Connection refused" in reason
    assert "object at 0x" not in reason


def test_a_refused_connection_names_the_proxy(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://user:pw@127.0.0.1:{free_port()}"
    monkeypatch.setenv("http_proxy", proxy)
    reason, codes, _ = requests.failure("http://localhost:1/x")
    assert codes == ("http:connect",)
    assert f"through the proxy http://{proxy.rpartition('@')[2]} (from http_proxy)" in reason


@pytest.mark.parametrize("value", ["127.0.0.1", "[::1],127.0.0.1", "*"])
def test_hosts_without_a_proxy(server: Server, requests: Requests, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", value)
    assert requests.value(server.url("/echo"))["method"] == "GET"
    monkeypatch.delenv("no_proxy")
    assert requests.value(server.url("/echo"), proxy="none")["method"] == "GET"


def test_content_that_is_too_large(server: Server, requests: Requests) -> None:
    reason, codes, attempts = requests.failure(server.url("/bomb"))
    assert (codes, attempts) == (("http:too_large",), 1)
    assert "larger than 10,000,000 bytes: write it to a file with `save`" in reason
    assert requests.failure(server.url("/large?size=5000"), max_size="1KB")[1] == ("http:too_large",)
    assert requests.failure(server.url("/large?size=5000"), max_size=1000, save="x")[1] == ("http:too_large",)
    assert not Path("x").exists()
    assert not Path("x.part").exists()


def test_content_that_is_not_json(server: Server, requests: Requests) -> None:
    reason, codes, _ = requests.failure(server.url("/raw?body=%3Chtml%3E"), response="json")
    assert codes == ("http:json",)
    assert "the content is not JSON: Expecting value: line 1 column 1 (char 0); it begins with '<html>'" in reason


def test_a_missing_file_is_reported_before_anything_is_sent(server: Server, requests: Requests) -> None:
    reason, codes, _ = requests.failure(server.url("/echo"), file="missing.bin")
    assert codes == ("http:file",)
    assert reason.startswith("the file missing.bin cannot be read: No such file or directory")
    assert server.received == []


# -- redirects ---------------------------------------------------------------------------------------------------------

DECLARED = {"X-Api-Key": "k", "Cookie": "mine=1", "Accept": "text/x"}


def redirect(server: Server, target: str, code: int = 302) -> str:
    return server.url(f"/redirect?code={code}&to={quote(target, safe='')}")


def test_headers_stay_with_their_server(server: Server, requests: Requests) -> None:
    with serving() as other:
        seen = requests.value(redirect(server, "/echo"), headers=DECLARED, auth={"bearer": "t"})
        assert (seen["headers"]["x-api-key"], seen["headers"]["authorization"]) == ("k", "Bearer t")
        for target in (other.url("/echo"), server.url("/echo", host="localhost")):
            seen = requests.value(redirect(server, target), headers=DECLARED, auth={"bearer": "t"})
            assert not {"x-api-key", "authorization", "cookie"} & seen["headers"].keys()
            assert seen["headers"]["accept"] == "*/*"


def test_cookies_live_for_one_attempt_at_their_server(server: Server, requests: Requests) -> None:
    assert requests.value(redirect(server, "/echo"))["headers"]["cookie"] == "session=s1"
    assert "cookie" not in requests.value(server.url("/echo"))["headers"]
    with serving() as other:
        assert "cookie" not in requests.value(redirect(server, other.url("/echo")))["headers"]


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_post_is_not_sent_twice(server: Server, requests: Requests, code: int) -> None:
    reason, codes, attempts = requests.failure(redirect(server, "/echo", code), json={"a": 1})
    assert (codes, attempts) == (("http:redirect",), 1)
    assert f"{code} leads to {server.url('/echo')}, and a POST is not sent twice" in reason
    assert len(server.received) == 1


def test_a_post_may_follow_307_to_the_same_server(server: Server, requests: Requests) -> None:
    seen = requests.value(redirect(server, "/echo", 307), json={"a": 1}, redirects={"post": True})
    assert (seen["method"], seen["body"]) == ("POST", '{"a": 1}')
    with serving() as other:
        target = redirect(server, other.url("/echo"), 307)
        assert requests.failure(target, json={}, redirects={"post": True})[1] == ("http:redirect",)
        assert other.received == []


def test_303_becomes_a_get_without_a_body(server: Server, requests: Requests) -> None:
    seen = requests.value(redirect(server, "/echo", 303), json={"a": 1})
    assert (seen["method"], seen["body"], "content-type" in seen["headers"]) == ("GET", "", False)


def test_the_number_of_redirects_is_limited(server: Server, requests: Requests) -> None:
    reason, codes, _ = requests.failure(server.url("/loop"))
    assert codes == ("http:redirect",)
    assert "this is redirect 6, one more than allowed" in reason
    assert requests.failure(redirect(server, "/echo"), redirects=0)[1] == ("http:302",)


def test_hosts_that_are_not_allowed(server: Server, requests: Requests) -> None:
    target = redirect(server, server.url("/echo", host="localhost"))
    reason, codes, _ = requests.failure(target, allow_hosts=["127.0.0.1"])
    assert codes == ("http:host",)
    assert "the host localhost is not among allow_hosts: 127.0.0.1" in reason
    assert requests.failure(redirect(server, "file:///etc/passwd"))[1] == ("http:url",)


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder


def test_encrypted_connections(requests: Requests, certificates: Path, server: Server) -> None:
    with serving(certificates / "server.pem") as secure:
        url = secure.url("/echo")
        assert requests.value(url, tls={"ca": str(certificates / "ca.pem")})["method"] == "GET"
        assert requests.value(url, tls={"verify": False})["method"] == "GET"
        reason, codes, attempts = requests.failure(url)
        assert (codes, attempts) == (("http:tls",), 1)
        assert "certificate verify failed" in reason
        assert requests.failure(url, tls={"ca": "missing.pem"})[1] == ("http:tls",)
        plain = redirect(secure, server.url("/echo"))
        reason, codes, _ = requests.failure(plain, tls={"verify": False})
        assert codes == ("http:redirect",)
        assert "which is not encrypted" in reason


# -- workflow files ----------------------------------------------------------------------------------------------------


def test_a_file_and_python_give_the_same(server: Server, requests: Requests, tmp_path: Path) -> None:
    write(
        tmp_path,
        f"""
        params: {{id: "a/b"}}
        tasks:
          count: {{type: python, call: "operator:add", args: [1, 2]}}
          send:
            type: http
            url: {server.url("/echo")}/${{{{ params.id }}}}
            json: {{rows: "${{{{ tasks.count.result }}}}"}}
            headers: {{X-A: "1"}}
        """,
    )
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 0, done.stdout
    from_file = server.received[-1]
    dag = Dag("again", str(tmp_path / "py.db"))
    count = dag.task(max, "count") if False else dag.task(three, "count")
    dag.add("send", http(server.url("/echo/a%2Fb"), json={"rows": count}, headers={"X-A": "1"}))
    assert dag.run(mode="thread").status == "SUCCESS"
    assert server.received[-1] == from_file
    assert json.loads(from_file.body) == {"rows": 3}


def three() -> int:
    return 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("url: example.org", "w.yaml:1:30: tasks.a.url: must begin with http:// or https:// and a host"),
        ("url: 'file:///etc/passwd'", "must begin with http:// or https:// and a host"),
        ("url: 'https://${{ params.x }}.org/'", "an expression is not allowed before the path of a URL"),
        ("url: 'http://h/', json: {}, body: x", '"body" and "json" are both a body; keep one of them'),
        ("url: 'http://h/', method: GET, json: {}", "GET has no body: remove `json`, or write POST"),
        ("url: 'http://h/', headers: {A: x, a: y}", 'the header "a" is written twice'),
        ("url: 'http://h/', headers: {'a b': x}", "'a b' cannot be the name of a header"),
        ("url: 'http://h/', auth: {bearer: abc}", "tasks.a.auth.bearer: a secret in clear text"),
        ("url: 'http://h/', auth: {}", "must not be empty"),
        ("url: 'http://h/', max_size: 10 apples", "must be a number of bytes, or a size such as 10MB"),
        ("url: 'http://h/', expect: {json: {state: 1}}", "'state' is not a path such as $.items[0].state"),
        ("url: 'http://h/', expect: {status: 99}", "must be at least 100"),
        ("url: 'http://h/', methd: GET", 'unknown key "methd", did you mean "method"?'),
        ("method: GET", 'needs "url"'),
        ("url: 'http://h/', body: '${{ secrets.NONE }}'", "there is no secret 'NONE'"),
    ],
)
def test_mistakes_in_a_file(keys: str, message: str) -> None:
    text = problems(f"tasks: {{a: {{type: http, {keys}}}}}\nparams: {{x: y}}")
    assert message in text
    assert text.startswith("w.yaml:1:")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "example.org"}, "url: must begin with"),
        ({"url": "http://h/", "methd": "GET"}, "there is no key 'methd'"),
        ({"url": "http://h/", "json": {}, "body": "x"}, "are both a body"),
        ({"url": "http://h/", "expect": {"status": "many"}}, "expect.status"),
    ],
)
def test_mistakes_in_python(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=r"^http\(…\): ") as caught:
        http(**keys)
    assert message in str(caught.value)


def test_retries_of_a_post_give_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {a: {type: http, url: 'http://h/', json: {}, retries: 3}}")
    hints = [hint.message for hint in load_with_hints(tmp_path / "flow.yaml")[1]]
    assert hints[0].startswith("a POST is tried again only if nothing was sent")
    write(tmp_path, "tasks: {a: {type: http, url: 'http://h/', json: {}, retries: 3, idempotency: header}}")
    assert load_with_hints(tmp_path / "flow.yaml")[1] == []


def test_the_timeout_of_the_type() -> None:
    spec = loads_workflow("tasks: {a: {type: http, url: 'http://h/'}, b: {type: http, url: 'http://h/', timeout: 9}}")
    assert [spec.tasks[name].timeout_s for name in "ab"] == [300.0, 9.0]


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/drip", "/wait"])
def test_a_timeout_bounds_all_of_the_request(server: Server, tmp_path: Path, path: str) -> None:
    write(tmp_path, f"tasks: {{a: {{type: http, url: '{server.url(path)}', timeout: 1, kill_grace: 600}}}}")
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    (task,) = status(tmp_path)["tasks"]
    assert task["attempts"][0]["status"] == "TIMED_OUT"


def test_a_cancelled_post_says_that_its_effect_is_unknown(server: Server, tmp_path: Path) -> None:
    write(tmp_path, f"tasks: {{a: {{type: http, url: '{server.url('/wait')}', json: {{}}}}}}")
    process = subprocess.Popen(
        [*COMMAND, "run", "flow.yaml"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert server.arrived.wait(120)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert "whether the server has done it is unknown" in lightflow(tmp_path, "logs", "a").stdout
    server.released.set()
    assert lightflow(tmp_path, "resume", "flow.yaml").returncode == 0
    assert len(server.received) == 2


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("victims", ["orchestrator", "guardian", "worker", "orchestrator guardian"])
def test_no_connection_survives_a_kill_and_the_key_stays(server: Server, tmp_path: Path, victims: str) -> None:
    keys = f"url: '{server.url('/wait')}', json: {{}}, idempotency: header, retries: 0"
    write(tmp_path, f"tasks: {{a: {{type: http, {keys}}}}}")
    process = subprocess.Popen([*COMMAND, "run", "flow.yaml", "-q"], cwd=tmp_path, env=environment())
    assert server.arrived.wait(120)
    guardian = children(process.pid)[0]
    pids = {"orchestrator": process.pid, "guardian": guardian, "worker": children(guardian)[0]}
    for name in victims.split():
        os.kill(pids[name], signal.SIGKILL)
    if victims != "orchestrator guardian":  # whoever resumes ends what both have left
        assert server.gone.wait(120)
    if victims == "guardian":  # the attempt is LOST, and starts again
        server.released.set()
        assert process.wait(120) == 0
    else:
        process.wait(120)
        resumed = subprocess.Popen([*COMMAND, "resume", "flow.yaml", "-q"], cwd=tmp_path, env=environment())
        assert server.gone.wait(120)
        server.released.set()
        assert resumed.wait(120) == 0
    assert len({each.headers["idempotency-key"] for each in server.received}) == 1
    assert len(server.received) == 2


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_sent_and_stored_nowhere(server: Server, tmp_path: Path) -> None:
    write(
        tmp_path,
        f"""
        secrets: [TOKEN]
        tasks:
          a:
            type: http
            url: {server.url("/status")}?code=500&text=${{{{ secrets.TOKEN }}}}
            headers: {{X-Api-Key: "${{{{ secrets.TOKEN }}}}"}}
            auth: {{bearer: "${{{{ secrets.TOKEN }}}}"}}
            json: {{t: "${{{{ secrets.TOKEN }}}}"}}
          b:
            type: http
            url: {server.url("/raw")}?body=fine&token=${{{{ secrets.TOKEN }}}}
        """,
    )
    secret = "s3cr3t/to ken+x"
    done = lightflow(tmp_path, "run", "flow.yaml", "--debug", extra_env={"TOKEN": secret})
    assert done.returncode == 1
    received = next(each for each in server.received if each.path.startswith("/status"))
    assert (received.headers["x-api-key"], received.headers["authorization"]) == (secret, f"Bearer {secret}")
    assert json.loads(received.body) == {"t": secret}
    encoded = quote(secret, safe="")
    for text in (secret, encoded):
        assert text not in done.stdout + done.stderr
        for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
            assert text.encode() not in path.read_bytes(), path
    url = json.loads(lightflow(tmp_path, "outputs", "b", "--json").stdout)["outputs"]
    assert next(each["value"] for each in url if each["key"] == "url").endswith("token=***")


def test_a_secret_in_python(server: Server, requests: Requests, tmp_path: Path) -> None:
    dag = Dag("secret", requests.db, secrets=[Secret("TOKEN")])
    dag.add("send", http(server.url("/status?code=204"), headers={"X-Key": Secret("TOKEN")}))
    dag.add("bad", http(server.url("/echo"), headers={"X-Key": Secret("OTHER")}))
    run = dag.run(mode="inline", secrets={"TOKEN": "abcdefgh"}, log_dir=str(tmp_path / "logs"))
    assert run.statuses() == {"send": "SUCCESS", "bad": "FAILED"}
    assert server.received[-1].headers["x-key"] == "abcdefgh"
    assert "there is no secret 'OTHER'" in run.failures()["bad"]


# -- cost --------------------------------------------------------------------------------------------------------------


def test_checking_a_file_loads_no_library(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {a: {type: http, url: 'http://h/'}}")
    for arguments in (["validate", "flow.yaml"], ["run", "flow.yaml", "--dry-run"]):
        program = (
            f"import sys\nfrom lightflow.cli.main import main\ntry: main({arguments!r})\nexcept SystemExit: pass\n"
            "print('loaded', *[name for name in ('urllib3', 'http.client', 'ssl') if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "loaded", done.stdout + done.stderr
        assert "GET http://h/" in done.stdout or "validate" in arguments


def test_a_missing_library_is_one_line(tmp_path: Path) -> None:
    write(tmp_path, "tasks: {first: {run: touch ran}, fetch: {type: http, url: 'http://h/'}}")
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['urllib3'] = None\n")
    done = lightflow(
        tmp_path, "run", "flow.yaml", extra_env={"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"}
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "tasks.fetch: type http needs urllib3: pip install 'lightflow-workflows[http]'" in done.stderr
    assert not (tmp_path / "ran").exists()
