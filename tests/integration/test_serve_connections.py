"""The server connects to no other machine: a session with all routes, as the kernel sees it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from scheduler_kit import until
from server_kit import filled, serving

from lightflow.client import Client
from lightflow.server.api import ROUTES

#: A task connects to an address that is reserved for examples: the trace has it, and nothing else.
ELSEWHERE = "192.0.2.1"
FLOW = f"""
workflow_name: flow
schedule: "@yearly"
secrets: [KEY]
on: {{webhook: {{secret: KEY, scheme: token, param: body}}}}
params: {{body: {{type: path, default: none}}}}
tasks:
  t:
    run: python3 -c "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('{ELSEWHERE}', 9))"
"""
_ADDRESS = re.compile(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"')


def test_only_tasks_connect_to_other_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("strace") is None:
        assert os.environ.get("CI", "").lower() not in ("1", "true"), "strace is missing: apt-get install strace"
        pytest.skip("strace is not installed")
    monkeypatch.setenv("KEY", "a-secret-of-a-sender")
    (tmp_path / "flow.yaml").write_text(FLOW)
    trace = tmp_path / "trace"
    tracer = ["strace", "-D", "-f", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,setsockopt", "-o", str(trace)]
    with serving(tmp_path, "serve", below=tracer) as server:
        client = Client(server.url, server.operator)
        run_id = client.start("flow", {})["run_id"]
        assert client.wait(run_id, timeout_s=60)["status"] == "SUCCESS"
        sent = {"X-Webhook-Token": "a-secret-of-a-sender"}
        assert server.request("POST", "/hooks/flow/webhook", {}, token=None, headers=sent).status == 202
        names = {"run": run_id, "other": run_id, "task": "t", "index": "0", "attempt": "1", "workflow": "flow",
                 "key": "return_value", "pool": "none", "trigger": "flow:schedule"}  # fmt: skip
        for route in ROUTES:
            server.request(route.method, filled(route.path, names))
        assert next(client.events(["runs"], as_of="0.0.0"))["event"] == "reset"
        assert server.request("POST", "/graphql", {"query": "{ runs { nodes { id } } }"}).status == 200
        until(lambda: all(run["status"] != "RUNNING" for run in server.get("/api/v1/runs")["runs"]))
    until(lambda: "exited with" in trace.read_text().splitlines()[-1])
    addresses = set(_ADDRESS.findall(trace.read_text()))
    assert "TCP_NODELAY, [1]" in trace.read_text(), "the body of an answer waits for no acknowledgement of its headers"
    assert ELSEWHERE in addresses, "the trace has the connections of the session"
    assert {each for each in addresses if not each.startswith("127.") and each != "::1"} == {ELSEWHERE}
