"""Tasks of type lambda against moto, a service of AWS on this machine that runs functions in containers.

Proved: a real function gets its payload, its result is the value of the task, and what it prints is in the log; its
exception and a function that does not exist fail the task with a code, without another attempt. In the quick form
botocore talks to an endpoint of the tests that counts invocations (tests/integration/test_lambda_tasks.py). The service
comes from a registry of packages, by uv, and needs docker.

    CI=true pytest tests/crash/test_lambda_service.py --crash-scale 10
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import container_kit
import pytest
from container_kit import PYTHON_IMAGE, SHELL_IMAGE, Engine
from sql_servers import free_port

from lightflow.plugins.python_environment import find_uv
from lightflow.tasks import aws_lambda
from liteflow import Dag
from liteflow.api import History

IMAGE = "lightflow/lambda:test"
REGION = "eu-central-1"
KEYS = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI"}
#: The program of the image: it gets the name of a handler and the event, and prints the result on its last line.
ENTRY = """
import importlib, json, sys, traceback
sys.path.insert(0, "/var/task")
module, _, name = sys.argv[1].rpartition(".")
class Context:
    aws_request_id = "r-1"
try:
    print(json.dumps(getattr(importlib.import_module(module), name)(json.loads(sys.argv[2]), Context())))
except Exception as error:
    trace = traceback.format_exc().splitlines()
    print(json.dumps({"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": trace}))
    sys.exit(1)
"""
HANDLER = """
def add(event, context):
    print("adding")
    return {"sum": event["a"] + event["b"]}
"""


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start the service with an engine of its own; return its address."""
    if float(request.config.getoption("--crash-scale")) <= 1:
        pytest.skip("the long form: --crash-scale 10")
    uv = find_uv()
    if uv is None:
        container_kit.unavailable("needs uv")
    with container_kit.docker(has_python=True) as engine:
        _make_images(engine)
        port = free_port()
        env = {**os.environ, **engine.env, "MOTO_DOCKER_LAMBDA_IMAGE": IMAGE, "MOTO_DOCKER_NETWORK_MODE": "host"}
        words = [str(uv), "run", "--no-project", "--with", "moto[server]>=5.2", "moto_server"]
        words += ["-H", "127.0.0.1", "-p", str(port)]
        log = Path(tempfile.mkdtemp(prefix="lf-moto-"))
        with (log / "log").open("wb") as output:
            process = subprocess.Popen(words, env=env, stdout=output, stderr=output, start_new_session=True)
        try:
            _await(process, port, log / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(log)


def _make_images(engine: Engine) -> None:
    """Make the image that runs functions, and the one with which the service copies their code."""
    engine.run("tag", SHELL_IMAGE, "busybox:latest")
    container = engine.run("create", PYTHON_IMAGE, "/bin/true").strip()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "entry.py")
        path.write_text(ENTRY)
        engine.run("cp", str(path), f"{container}:/entry.py")
    engine.run("commit", "--change", 'ENTRYPOINT ["/bin/python3", "/entry.py"]', container, IMAGE)
    engine.run("rm", container)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < give_up:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"the service does not start: {log.read_text()[-2000:]}")


def _client(name: str, endpoint: str) -> Any:
    import botocore.session

    keys = {"aws_access_key_id": KEYS["access_key"], "aws_secret_access_key": KEYS["secret_key"]}
    return botocore.session.Session().create_client(name, region_name=REGION, endpoint_url=endpoint, **keys)


def _create_function(endpoint: str) -> None:
    role = _client("iam", endpoint).create_role(RoleName="runs", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("sums.py", HANDLER)
    _client("lambda", endpoint).create_function(
        FunctionName="score", Runtime="python3.11", Role=role, Handler="sums.add", Code={"ZipFile": code.getvalue()}
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_function_in_a_container(service: str, tmp_path: Path) -> None:
    _create_function(service)
    keys = {"region": REGION, "endpoint": service, "credentials": KEYS, "proxy": "none"}
    dag = Dag("calls", str(tmp_path / "state.db"))
    dag.add("good", aws_lambda("score", {"a": 1, "b": 2}, **keys))
    dag.add("bad", aws_lambda("score", {"a": 1}, **keys))
    dag.add("nobody", aws_lambda("absent", {}, **keys), retries=2)
    run = dag.run(log_dir=str(tmp_path / "logs"))
    assert run.statuses() == {"good": "SUCCESS", "bad": "FAILED", "nobody": "FAILED"}
    assert run.value("good") == {"sum": 3}
    assert run.failures()["bad"] == "lambda score: KeyError: 'b'"
    assert "Function not found" in run.failures()["nobody"]
    logs = "".join(path.read_text() for path in (tmp_path / "logs").rglob("*.log"))
    assert "adding" in logs
    with History(str(tmp_path / "state.db")) as history:
        ends = {name: history.attempts(run.run_id, name) for name in ("good", "bad", "nobody")}
    assert {name: (len(each), each[-1].codes) for name, each in ends.items()} == {
        "good": (1, ()),
        "bad": (1, ("lambda:Handled",)),
        "nobody": (1, ("lambda:NotFound", "http:404")),
    }
