"""Webhooks: a signed request starts one run, however often it is sent; without the secret nothing starts."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_kit import RunningServer, serving

from lightflow.client import Client
from lightflow.scheduler.scheduler import Scheduler, SchedulerOptions
from lightflow.server.control import SchedulerControl
from liteflow import RunNotFound

SECRET = "a-shared-secret"
FLOW = """
workflow_name: deploy
secrets: [HOOK_KEY]
params:
  body: {type: path}
on:
  webhook:
    - {secret: HOOK_KEY, scheme: github, param: body}
    - {secret: HOOK_KEY, scheme: timestamped, param: body}
    - {secret: HOOK_KEY, scheme: token, param: body}
tasks:
  read: {run: 'cat ${{ params.body }}'}
"""
BODY = b'{"ref": "main; touch injected"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("hooks")
    (folder / "deploy.yaml").write_text(FLOW)
    os.environ["HOOK_KEY"] = SECRET
    try:
        with serving(folder, "serve") as running:
            yield running
    finally:
        del os.environ["HOOK_KEY"]


def github(body: bytes, delivery: str, key: str = SECRET) -> dict[str, str]:
    digest = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Delivery": delivery}


def timestamped(body: bytes, at: float, key: str = SECRET) -> dict[str, str]:
    digest = hmac.new(key.encode(), f"{at:.0f}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Webhook-Signature": f"t={at:.0f},v1={digest}"}


def fires(server: RunningServer) -> int:
    return len(server.get("/api/v1/fires?limit=1000")["fires"])


def test_a_delivery_starts_one_run_with_its_body(server: RunningServer) -> None:
    headers = github(BODY, "first")
    answer = server.request("POST", "/hooks/deploy/webhook", BODY, token=None, headers=headers)
    assert answer.status == 202, answer.body
    run_id = answer.json()["run_id"]
    client = Client(server.url, server.viewer)
    run = client.wait(run_id, timeout_s=60)
    assert run["status"] == "SUCCESS"
    assert b"".join(client.logs(run_id, "read")) == BODY
    path = Path(run["params"]["body"])
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (BODY, 0o600)
    before = fires(server)
    again = server.request("POST", "/hooks/deploy/webhook", BODY, token=None, headers=headers)
    assert (again.status, again.json()["run_id"]) == (200, run_id)
    assert fires(server) == before
    assert not (server.folder / "injected").exists()


def test_a_delivery_whose_id_begins_that_of_another_is_not_taken_for_it(server: RunningServer) -> None:
    answers = [
        server.request("POST", "/hooks/deploy/webhook", BODY, token=None, headers=github(BODY, delivery))
        for delivery in ("id-12", "id-1")
    ]
    assert [answer.status for answer in answers] == [202, 202]
    assert answers[0].json()["run_id"] != answers[1].json()["run_id"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/hooks/deploy/webhook", {}, 401),
        ("/hooks/deploy/webhook", github(BODY, "x", "another key"), 401),
        ("/hooks/deploy/webhook", github(BODY + b" ", "x"), 401),
        ("/hooks/deploy/webhook:2", timestamped(BODY, time.time() - 20_000), 401),
        ("/hooks/deploy/webhook:2", timestamped(BODY, time.time() + 20_000), 401),
        ("/hooks/deploy/webhook:2", {"X-Webhook-Signature": "t=1,v1="}, 401),
        ("/hooks/deploy/webhook:3", {"X-Webhook-Token": SECRET[:-1]}, 401),
        ("/hooks/deploy/webhook:4", github(BODY, "x"), 404),
        ("/hooks/none/webhook", github(BODY, "x"), 404),
        ("/hooks/deploy/manual", github(BODY, "x"), 404),
        ("/hooks/../api/v1/runs", github(BODY, "x"), 404),
        ("/hooks/deploy/webhook", {**github(BODY, "x"), "Content-Type": "image/png"}, 415),
    ],
)
def test_what_is_not_signed_as_declared_starts_nothing(
    server: RunningServer, path: str, headers: dict[str, str], status: int
) -> None:
    before = fires(server)
    assert server.request("POST", path, BODY, token=None, headers=headers).status == status
    assert fires(server) == before


def test_the_other_schemes(server: RunningServer) -> None:
    signed = timestamped(BODY, time.time())
    for path, headers in (
        ("/hooks/deploy/webhook:2", signed),
        ("/hooks/deploy/webhook:3", {"X-Webhook-Token": SECRET, "X-Webhook-Id": "one"}),
    ):
        first = server.request("POST", path, BODY, token=None, headers=headers)
        second = server.request("POST", path, BODY, token=None, headers=headers)
        assert (first.status, second.status) == (202, 200)
        assert first.json()["run_id"] == second.json()["run_id"]


def test_84_to_88_of_the_hostile_requests(server: RunningServer) -> None:
    """The numbers are those of the list in `test_hostile_http`; afterwards nothing has started but the one delivery."""
    before = fires(server)
    path, stamped, now = "/hooks/deploy/webhook", "/hooks/deploy/webhook:2", time.time()
    first = server.request("POST", path, BODY, token=None, headers=github(BODY, "hostile"))
    answers = {
        84: server.request("POST", path, BODY, token=None, headers=github(BODY, "forged", key="guess")),
        85: server.request("POST", path, BODY, token=None),
        86: server.request("POST", path, BODY, token=None, headers=github(BODY, "hostile")),
        87: server.request("POST", stamped, BODY, token=None, headers=timestamped(BODY, now - 301)),
        88: server.request("POST", path, b"x" * (2 << 20), token=None, headers=github(BODY, "large")),
    }
    statuses = {number: answer.status for number, answer in answers.items()}
    assert statuses == {84: 401, 85: 401, 86: 200, 87: 401, 88: 413}
    assert answers[86].json()["run_id"] == first.json()["run_id"]
    assert server.request("GET", "/healthz", token=None).status == 200
    assert fires(server) == before + 1


def test_the_body_is_bounded_and_wrong_signatures_are_slowed_down(server: RunningServer) -> None:
    large = b"x" * (2 * 1024 * 1024)
    assert server.request("POST", "/hooks/deploy/webhook", large, token=None).status == 413
    statuses = [
        server.request("POST", "/hooks/deploy/webhook:3", BODY, token=None, headers={"X-Webhook-Token": "wrong"}).status
        for _ in range(25)
    ]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    # Who knows the secret is not hurt by those who do not.
    right = {"X-Webhook-Token": SECRET, "X-Webhook-Id": "two"}
    assert server.request("POST", "/hooks/deploy/webhook:3", BODY, token=None, headers=right).status == 202
    wrong = server.request("POST", "/hooks/deploy/webhook:3", BODY, token=None)
    assert (wrong.status, int(wrong.headers["retry-after"]) > 0) == (429, True)
    # Other webhooks are not hurt.
    accepted = server.request("POST", "/hooks/deploy/webhook", BODY, token=None, headers=github(BODY, "last"))
    assert accepted.status == 202


def test_a_paused_webhook_says_so(server: RunningServer) -> None:
    assert server.request("PUT", "/api/v1/workflows/deploy/pause", {}).status == 200
    answer = server.request("POST", "/hooks/deploy/webhook", BODY, token=None, headers=github(BODY, "paused"))
    assert (answer.status, answer.json()["detail"]) == (409, "the webhook is paused")
    forged = server.request("POST", "/hooks/deploy/webhook", BODY, token=None, headers=github(BODY, "paused", "guess"))
    assert (forged.status, "paused" in forged.json()["detail"]) == (401, False)
    assert server.request("DELETE", "/api/v1/workflows/deploy/pause").status == 200


def test_a_sender_learns_neither_files_nor_secrets_and_the_log_has_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    (tmp_path / "flow.yaml").write_text(
        "workflow_name: flow\nsecrets: [NO_SUCH_KEY]\non: {webhook: {secret: NO_SUCH_KEY, scheme: github}}\n"
        "tasks: {a: {run: 'true'}}\n"
    )
    reads = tmp_path / "reads"
    (tmp_path / "other.yaml").write_text(
        f"workflow_name: other\nsecrets: {{KEY: {{command: 'echo >> {reads}; exit 1'}}}}\n"
        "on: {webhook: {secret: KEY, scheme: github}}\ntasks: {a: {run: 'true'}}\n"
    )
    with serving(tmp_path, "serve") as server:
        for _ in range(3):
            answer = server.request("POST", "/hooks/flow/webhook", BODY, token=None, headers=github(BODY, "x"))
            assert answer.status == 503
            assert not any(word in answer.body for word in (b"NO_SUCH_KEY", b"flow.yaml", bytes(tmp_path)))
        assert server.get("/api/v1/fires")["fires"] == []
        for number in range(3):
            answer = server.request("POST", "/hooks/other/webhook", BODY, token=None, headers=github(BODY, f"{number}"))
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert reads.read_text() == "\n", "a secret that cannot be read is not read for each sender"
        server.process.terminate()
        log = server.process.communicate(timeout=120)[1]
    assert log.count("NO_SUCH_KEY is not set") == 1


def test_the_secret_is_read_for_proofs_alone_and_again_where_it_has_changed(tmp_path: Path) -> None:
    secret, reads = tmp_path / "secret", tmp_path / "reads"
    secret.write_text("first")
    reads.touch()
    (tmp_path / "flow.yaml").write_text(
        f"workflow_name: flow\nsecrets: {{KEY: {{command: 'echo >> {reads}; cat {secret}'}}}}\n"
        "on: {webhook: {secret: KEY, scheme: github}}\ntasks: {a: {run: 'true'}}\n"
    )

    def post(headers: dict[str, str]) -> int:
        return server.request("POST", "/hooks/flow/webhook", BODY, token=None, headers=headers).status

    with serving(tmp_path, "serve") as server:
        for headers in ({}, {"X-Hub-Signature-256": "sha256=no"}, {"X-Hub-Signature-256": f"sha1={'0' * 64}"}):
            assert post(headers) == 401
        assert reads.read_text() == ""
        assert [post(github(BODY, f"d{number}", "first")) for number in range(3)] == [202] * 3
        before = reads.read_text()
        assert post(github(BODY, "forged", "guess")) == 401
        secret.write_text("second")
        assert post(github(BODY, "later", "second")) == 202
        assert post(github(BODY, "old", "first")) == 401
        for _ in range(20):
            post(github(BODY, "forged", "guess"))
        read_before = reads.read_text()
        assert [post(github(BODY, "forged", "guess")) for _ in range(5)] == [429] * 5
        assert reads.read_text() == read_before
        assert post(github(BODY, "later", "second")) == 200
    # A run reads its secrets, too: three runs, and one reading of the server.
    assert before.count("\n") <= 4


def test_a_workflow_whose_file_has_gone_has_no_secret(tmp_path: Path) -> None:
    db = str(tmp_path / "lightflow.db")
    scheduler = Scheduler(SchedulerOptions(db=db, paths=(str(tmp_path),)))
    try:
        with pytest.raises(RunNotFound, match="does not serve a workflow 'gone'"):
            SchedulerControl(db, scheduler).secret("gone", "KEY", max_age_s=60.0)
    finally:
        scheduler.stop()
        scheduler.run()
