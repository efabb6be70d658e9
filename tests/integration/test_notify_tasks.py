"""Tasks and hooks of type notify: what arrives, how it is masked, and that a failure changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_folder import lightflow, problems, status, write
from http_kit import Server, serving

from lightflow.tasks import notify
from liteflow import Dag, DagRun, DefinitionError
from liteflow.api import History


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def sent(server: Server) -> list[Any]:
    return [json.loads(each.body) for each in server.received]


def run(folder: Path, **keys: Any) -> DagRun:
    dag = Dag("message", str(folder / "state.db"))
    dag.add("tell", notify(**keys))
    return dag.run(mode="inline", run_id="r1", log_dir=str(folder / "logs"))


def test_each_service_gets_its_form(server: Server, tmp_path: Path) -> None:
    url = server.url("/hook")
    run(tmp_path, text="a <!channel> & b", slack=url)
    ntfy = {"server": url, "topic": "t", "priority": "high", "title": "T", "token": "abc"}
    services: list[dict[str, Any]] = [{"slack": url, "mentions": True}, {"ntfy": ntfy}, {"webhook": {"url": url}}]
    for number, keys in enumerate([*services, {"webhook": {"url": url, "json": [1]}}]):
        dag = Dag("message", str(tmp_path / "state.db"))
        dag.add("tell", notify("a <!channel>", **keys))
        assert dag.run(mode="inline", run_id=f"n{number}").status == "SUCCESS"
    assert sent(server) == [
        {"text": "a &lt;!channel&gt; &amp; b"},
        {"text": "a <!channel>"},
        {"topic": "t", "message": "a <!channel>", "title": "T", "priority": 4},
        {"text": "a <!channel>", "workflow": "message", "run_id": "n2"},
        [1],
    ]
    assert server.received[2].headers["authorization"] == "Bearer abc"


def test_a_long_text_is_cut(server: Server, tmp_path: Path) -> None:
    run(tmp_path, text="ü" * 5000, slack=server.url("/hook"))
    (message,) = sent(server)
    assert message["text"] == "ü" * 2999 + "…"


@pytest.mark.parametrize(("code", "attempts"), [(404, 1), (503, 2), (429, 2)])
def test_what_is_sent_again(server: Server, tmp_path: Path, code: int, attempts: int) -> None:
    server.answers = [(code, {"Retry-After": "0"}, b"no")] * 2
    dag = Dag("message", str(tmp_path / "state.db"))
    dag.add("tell", notify("x", slack=server.url("/scripted")), retries=1)
    result = dag.run(mode="inline")
    with History(str(tmp_path / "state.db")) as history:
        last = history.attempts(result.run_id, "tell")[-1]
    assert (last.attempt, last.codes) == (attempts, (f"http:{code}",))
    assert result.failures()["tell"].startswith(f"slack: {code} ")
    assert server.url("") not in result.failures()["tell"]


FLOW = """
    secrets: [HOOK_URL]
    settings: {retries: 0}
    on_failure: {type: notify, slack: "${{ secrets.HOOK_URL }}"}
    tasks:
      good: {run: "true"}
      bad:
        foreach: [1, 2, 3]
        run: exit ${{ item }}
      other: {run: exit 4}
    """


def test_a_run_that_fails_sends_one_message(server: Server, tmp_path: Path) -> None:
    write(tmp_path, FLOW)
    url = server.url("/hook/secret-part-of-it")
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"HOOK_URL": url})
    assert done.returncode == 1
    (message,) = sent(server)
    run_id = status(tmp_path)["run_id"]
    assert message == {"text": f"flow ({run_id}): FAILED: failed: bad, other"}
    assert all(b"secret-part" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_message_that_cannot_be_sent_changes_nothing(server: Server, tmp_path: Path) -> None:
    write(tmp_path, FLOW.replace("on_failure", "on_success").replace("exit", "test 0 -le"))
    url = server.url("/status?code=500&text=down&key=secret-part-of-it")
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"HOOK_URL": url})
    assert done.returncode == 0
    view = status(tmp_path)
    (hook,) = view["hooks"]
    assert (view["status"], hook["status"]) == ("SUCCESS", "FAILED")
    assert [attempt["codes"] for attempt in hook["attempts"]] == [["http:500"]] * 2  # two attempts by default
    assert hook["reason"].startswith("slack: 500 Internal Server Error: down")
    assert "secret-part" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("slack: https://hooks.example.org/x", "tasks.a.slack: a secret in clear text"),
        ("webhook: {url: https://hooks.example.org/x}", "tasks.a.webhook.url: a secret in clear text"),
        ("text: hi", 'needs exactly one of "slack", "ntfy" and "webhook"'),
        ("ntfy: {topic: a}, slack: '${{ params.x }}'", 'needs exactly one of "slack", "ntfy" and "webhook"'),
        ("ntfy: {topic: a, server: ntfy.sh}", "must be a URL such as https://ntfy.example.org"),
        ("ntfy: {topic: a, priority: hgh}", "is not allowed, did you mean"),
    ],
)
def test_mistakes(keys: str, message: str) -> None:
    assert message in problems(f"tasks: {{a: {{type: notify, {keys}}}}}\nparams: {{x: y}}")


def test_mistakes_in_python() -> None:
    with pytest.raises(DefinitionError, match="needs exactly one of"):
        notify("hi")
