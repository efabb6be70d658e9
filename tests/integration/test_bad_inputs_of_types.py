"""Inputs of tasks that reach out that only a run can judge: one line that names the host, image, statement or function.

Mistakes that a file can show are in `tests/data/bad`; here the values come from a parameter when the task runs.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from sql_servers import free_port

from lightflow.tasks import aws_lambda, docker, http, mail, notify, sql
from liteflow import Call, Dag, Secret

TOKEN = "t-2718281828"
#: A port on which nothing listens.
CLOSED = f"127.0.0.1:{free_port()}"
AWS = {"region": "eu-central-1", "credentials": {"access_key": "AKIDEXAMPLE", "secret_key": Secret("TOKEN")}}

BODIES: dict[str, tuple[Any, str]] = {
    "http: no server": (lambda: http(f"http://{CLOSED}/a", proxy="none"), rf"GET http://{CLOSED}/a: no connection"),
    "http: no file": (lambda: http(f"http://{CLOSED}/", file="absent"), "the file absent cannot be read"),
    "http: no certificate": (lambda: http("https://127.0.0.1:1/", tls={"ca": "absent.pem"}), "no file absent.pem"),
    "http: header": (lambda: http(f"http://{CLOSED}/", headers={"A": "b\r\nc: d"}), "header A holds a line break"),
    "http: no proxy": (
        lambda: http("http://shop.invalid/", proxy=f"http://{CLOSED}"),
        rf"through the proxy http://{CLOSED} \(from proxy\): \[Errno 111\] Connection refused$",
    ),
    "http: name of a header": (
        lambda: http(f"http://{CLOSED}/", auth={"header": {"name": Secret("NAME"), "value": Secret("TOKEN")}}),
        "cannot be the name of a header",
    ),
    "notify: no server": (
        lambda: notify("hello", webhook={"url": f"http://{CLOSED}/{TOKEN}"}),
        "webhook: no connection",
    ),
    "mail: no server": (
        lambda: mail(f"smtp://{CLOSED}", sender="a@example.org", to="b@example.org", text=""),
        rf"mail through {CLOSED}: connect",
    ),
    "mail: no file": (
        lambda: mail(f"smtp://{CLOSED}", sender="a@example.org", to="b@example.org", attach="absent*"),
        r"no file to attach: absent\*",
    ),
    "mail: no certificate": (
        lambda: mail(f"smtps://{CLOSED}", sender="a@example.org", to="b@example.org", ca="absent.pem"),
        f"mail through {CLOSED}: ca: there is no file absent.pem",
    ),
    "lambda: no proxy": (
        lambda: aws_lambda("score", endpoint="http://aws.invalid", proxy=f"http://{CLOSED}", **AWS),
        f"lambda score: no connection: .*{CLOSED}",
    ),
    "lambda: no profile": (
        lambda: aws_lambda("score", region="eu-central-1", credentials={"profile": "nope"}),
        r"lambda score: .*\(nope\)",
    ),
    "lambda: no server": (
        lambda: aws_lambda("score", endpoint=f"http://{CLOSED}", **AWS),
        "lambda score: no connection",
    ),
    "lambda: no region": (lambda: aws_lambda("score"), "lambda score: no region"),
    "sql: no server": (
        lambda: sql(f"postgresql://me@{CLOSED}/shop", "SELECT 1", password=Secret("TOKEN")),
        rf"{CLOSED}/shop",
    ),
    "sql: no MySQL": (
        lambda: sql(f"mysql://me@{CLOSED}/shop", "SELECT 1", password=Secret("TOKEN")),
        rf"{CLOSED}/shop",
    ),
    "sql: statement": (lambda: sql("sqlite:///a.db", "SELECT 1; SELECT nothing"), "statement 2"),
    "sql: folder": (lambda: sql("sqlite:///absent/a.db", "SELECT 1"), "absent/a.db"),
    "docker: no engine": (lambda: docker("shop/none", engine="docker"), "no answer from docker at unix:///absent.sock"),
    "docker: no volume": (lambda: docker("shop/none", volumes=["./absent:/data"], engine="docker"), "absent|no answer"),
}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("DOCKER_HOST", "unix:///absent.sock")
    monkeypatch.setenv("TOKEN", TOKEN)
    monkeypatch.setenv("NAME", "X Key")


def test_each_failure_is_one_line_that_names_its_object(tmp_path: Path) -> None:
    dag = Dag("bad", str(tmp_path / "state.db"), secrets=[Secret("TOKEN"), Secret("NAME")])
    names = {f"t{number}": name for number, name in enumerate(BODIES)}
    for task_id, name in names.items():
        body: Call = BODIES[name][0]()
        dag.add(task_id, body)
    result = dag.run(mode="process", max_workers=2, log_dir=str(tmp_path / "logs"))
    failures = result.failures()
    for task_id, name in names.items():
        reason = failures.get(task_id, "")
        assert re.search(BODIES[name][1], reason), (name, reason)
        assert "\n" not in reason.strip(), name
        assert not re.match(r"[A-Za-z_.]*(Error|Exception): ", reason), f"{name}: the class of a library: {reason}"
        assert "object at 0x" not in reason, name
        assert TOKEN not in json.dumps(reason), name
    logs = b"".join(log.read_bytes() for log in (tmp_path / "logs").rglob("*.log"))
    assert b"Traceback" not in logs
    assert TOKEN.encode() not in logs
