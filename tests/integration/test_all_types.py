"""What holds for every task type that reaches out: the same work in YAML and Python, secrets, libraries, and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flow_folder import COMMAND, environment, lightflow, status, write
from http_kit import serving
from scheduler_kit import until
from smtp_kit import receiving
from sql_servers import free_port

from lightflow.parser.workflow_loader import loads_workflow
from lightflow.plugins.registry import Registry
from lightflow.tasks import aws_lambda, docker, http, mail, notify, python, shell, sql, wait
from liteflow import Call, DefinitionError
from liteflow.api import Body

#: A task of each type, in a file and in Python.
SAME: dict[str, tuple[str, Body]] = {
    "shell": (
        "{run: [make, make install], container: 'shop:1', output: json}",
        shell(run=["make", "make install"], container="shop:1", output="json"),
    ),
    "python": (
        "{call: 'a:b', args: [1], environment: {packages: [six==1.16.0]}}",
        python(call="a:b", args=[1], environment={"packages": ["six==1.16.0"]}),
    ),
    "wait": (
        "{http: {url: 'http://h/', expect: {status: [200]}}, every: 30s, on_timeout: skip}",
        wait(http={"url": "http://h/", "expect": {"status": [200]}}, every="30s", on_timeout="skip"),
    ),
    "http": (
        "{url: 'http://h/', json: {a: 1}, expect: {status: [200]}, idempotency: header}",
        http("http://h/", json={"a": 1}, expect={"status": [200]}, idempotency="header"),
    ),
    "sql": (
        "{connection: 'sqlite:///a.db', sql: 'SELECT :a', params: {a: 1}, rows: value}",
        sql("sqlite:///a.db", "SELECT :a", params={"a": 1}, rows="value"),
    ),
    "docker": (
        "{image: 'shop:1', args: [a, 1], memory: 1g, network: none}",
        docker("shop:1", args=["a", 1], memory="1g", network="none"),
    ),
    "lambda": (
        "{function: score, payload: {a: 1}, region: eu-central-1, proxy: none}",
        aws_lambda("score", {"a": 1}, region="eu-central-1", proxy="none"),
    ),
    "mail": (
        "{server: 'smtp://h', from: a@example.org, to: [b@example.org], text: hi, strict: true}",
        mail("smtp://h", sender="a@example.org", to=["b@example.org"], text="hi", strict=True),
    ),
    "notify": (
        "{ntfy: {topic: a, priority: high}, text: hi}",
        notify("hi", ntfy={"topic": "a", "priority": "high"}),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_a_file_and_python_give_the_same_work(name: str) -> None:
    keys, body = SAME[name]
    task = loads_workflow(f"tasks: {{a: {{type: {name}, {keys[1:]}}}").tasks["a"]
    from_file = Registry().load(name).build(task)
    assert isinstance(from_file, Call)
    assert isinstance(body, Call)
    assert from_file.poll == body.poll
    assert (from_file.func, from_file.lane, from_file.output) == (body.func, body.lane, body.output)
    assert (from_file.undo is None) == (body.undo is None)
    written, called = _work_of(from_file), _work_of(body)
    assert written == called


def _work_of(body: Call) -> dict[str, Any]:
    """Return the arguments of a body without the place of its file."""
    return {name: value for name, value in dict(body.kwargs).items() if name not in ("context", "folder")}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image": "./folder"}, "image: .* is not the name of an image"),
        ({"image": "Shop:1"}, "image: the name of an image is in lower case"),
        ({"image": "shop:1", "volumes": ["data"]}, "volumes.0: 'data' is not a volume"),
        ({"image": "shop:1", "user": "me and you"}, "user: must be"),
        ({"image": "shop:1", "platform": "windows/amd64"}, "platform: only containers of Linux"),
    ],
)
def test_mistakes_in_a_container_in_python(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        docker(**keys)


# -- libraries -------------------------------------------------------------------------------------------------------

ALL = """
    secrets: {S: {from: env}}
    tasks:
      first: {run: touch ran}
      http: {type: http, url: "http://127.0.0.1:9/"}
      wait: {type: wait, http: {url: "http://127.0.0.1:9/"}}
      notify: {type: notify, slack: "${{ secrets.S }}"}
      lambda: {type: lambda, function: score}
      postgresql: {type: sql, connection: "postgresql://me@h/shop", sql: SELECT 1}
      mysql: {type: sql, connection: "mysql://me@h/shop", sql: SELECT 1}
      duckdb: {type: sql, connection: "duckdb:///a.db", sql: SELECT 1}
      environment: {type: python, run: pass, environment: {packages: [six==1.16.0]}}
      sqlite: {type: sql, connection: "sqlite:///a.db", sql: SELECT 1}
      docker: {type: docker, image: "shop:1"}
      mail: {type: mail, server: "smtp://127.0.0.1:9", from: a@example.org, to: b@example.org}
    """
LIBRARIES = {
    "http": ("urllib3", "http"),
    "wait": ("urllib3", ""),
    "notify": ("urllib3", "http"),
    "lambda": ("botocore.session", "aws"),
    "postgresql": ("psycopg", "sql"),
    "mysql": ("pymysql", "sql"),
    "duckdb": ("duckdb", "sql"),
    "environment": ("uv", ""),
}
HIDING = """
import sys
class Hide:
    def find_spec(self, name, *rest):
        if name in {names!r}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Hide())
"""


def test_each_missing_library_is_one_line_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path, ALL)
    names = sorted({module.partition(".")[0] for module, _ in LIBRARIES.values()})
    (tmp_path / "sitecustomize.py").write_text(HIDING.format(names=names))
    without_uv = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists()
    )
    env = {"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}", "S": "http://h/", "PATH": without_uv}
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env=env)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == len(LIBRARIES), done.stderr
    for task, (module, extra) in LIBRARIES.items():
        (line,) = [line for line in lines if f"tasks.{task}: " in line]
        assert f" needs {module}: pip install " in line
        assert not extra or line.endswith(f"'lightflow-workflows[{extra}]'"), line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("arguments", [["validate", "flow.yaml"], ["run", "flow.yaml", "--dry-run"]])
def test_checking_a_file_with_all_types_loads_no_library(tmp_path: Path, arguments: list[str]) -> None:
    write(tmp_path, ALL)
    modules = [*(module for module, _ in LIBRARIES.values()), "http.client", "ssl", "smtplib", "botocore"]
    program = (
        f"import sys\nfrom lightflow.cli.main import main\ntry: main({arguments!r})\nexcept SystemExit: pass\n"
        f"print('loaded', *sorted({{*{modules!r}}} & {{*sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment({"S": "http://h/"}),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "loaded", done.stdout + done.stderr


# -- secrets ---------------------------------------------------------------------------------------------------------

SECRET = "s3cr3t-2718281828/ä b"
#: A task for each way in which a secret reaches a key. None of the servers is there.
SECRETS = """
    secrets: {S: {from: env}, URL: {from: env}}
    settings: {max_parallel_tasks: 2}
    tasks:
      url: {type: http, proxy: none, url: "http://CLOSED/${{ secrets.S }}", query: {a: "${{ secrets.S }}"}}
      bodies: {type: http, proxy: none, url: "http://CLOSED/", form: {a: "${{ secrets.S }}"}}
      text: {type: http, proxy: none, url: "http://CLOSED/", body: "${{ secrets.S }}"}
      token: {type: http, proxy: none, url: "http://CLOSED/", auth: {bearer: "${{ secrets.S }}"}}
      parts: {type: http, proxy: none, url: "http://CLOSED/", multipart: {a: "${{ secrets.S }}"}}
      basic: {type: http, proxy: none, url: "http://CLOSED/", auth: {basic: {user: me, password: "${{ secrets.S }}"}}}
      proxy: {type: http, url: "http://shop.invalid/", proxy: "${{ secrets.URL }}"}
      files: {type: http, proxy: none, url: "http://CLOSED/", file: "${{ secrets.S }}"}
      sql: {type: sql, connection: "postgresql://me@CLOSED/shop", password: "${{ secrets.S }}", sql: SELECT 1}
      mysql: {type: sql, connection: "mysql://me@CLOSED/shop", password: "${{ secrets.S }}", sql: SELECT 1}
      address: {type: sql, connection: "${{ secrets.S }}", sql: SELECT 1}
      params: {type: sql, connection: "sqlite:///a.db", sql: "SELECT nothing, :a", params: {a: "${{ secrets.S }}"}}
      value: {type: sql, connection: "sqlite:///a.db", sql: "SELECT ${{ secrets.S }} AS a"}
      lambda:
        type: lambda
        function: score
        payload: {a: "${{ secrets.S }}"}
        region: eu-central-1
        endpoint: http://CLOSED
        credentials: {access_key: AKID, secret_key: "${{ secrets.S }}", session_token: "${{ secrets.S }}"}
      lambda_proxy:
        type: lambda
        function: score
        region: eu-central-1
        endpoint: http://aws.invalid
        proxy: ${{ secrets.URL }}
        credentials: {access_key: AKID, secret_key: "${{ secrets.S }}"}
      mail:
        type: mail
        server: smtp://me@CLOSED
        password: ${{ secrets.S }}
        from: a@example.org
        to: b@example.org
        subject: ${{ secrets.S }}
        text: ${{ secrets.S }}
      attached: {type: mail, server: "smtp://CLOSED", from: a@h.org, to: b@h.org, attach: ["${{ secrets.S }}"]}
      slack: {type: notify, slack: "${{ secrets.URL }}", text: "${{ secrets.S }}"}
      ntfy:
        type: notify
        ntfy: {topic: a, server: "http://CLOSED", token: "${{ secrets.S }}", title: "${{ secrets.S }}"}
      webhook: {type: notify, webhook: {url: "${{ secrets.URL }}", json: {a: "${{ secrets.S }}"}}}
      shell: {run: "printf '%s' ${{ secrets.S }} >&2; false"}
    """


def test_secrets_of_every_type_are_stored_and_shown_nowhere(tmp_path: Path) -> None:
    closed = f"127.0.0.1:{free_port()}"
    write(tmp_path, SECRETS.replace("CLOSED", closed))
    encoded = quote(SECRET, safe="")
    env = {"S": SECRET, "URL": f"http://me:{encoded}@{closed}/{encoded}", "AWS_EC2_METADATA_DISABLED": "true"}
    done = lightflow(tmp_path, "run", "flow.yaml", "--debug", "--log-dir", "logs", extra_env=env)
    assert done.returncode == 1, done.stderr
    tasks = {task["task"]: task for task in status(tmp_path)["tasks"]}
    assert {name for name, task in tasks.items() if task["status"] != "FAILED"} == set()
    shown = done.stdout + done.stderr + "".join(lightflow(tmp_path, "why", name).stdout for name in ("proxy", "slack"))
    for text in (SECRET, encoded):
        assert text not in shown
        for path in [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "flow.yaml"]:
            assert text.encode() not in path.read_bytes(), path


# -- ends ------------------------------------------------------------------------------------------------------------


class SilentServer:
    """Accepts connections, and says nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._changed = threading.Condition()
        self._count = 0

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._read, args=[connection], daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        self._add(1)
        with connection, suppress(OSError):
            while connection.recv(65536):
                pass
        self._add(-1)

    def _add(self, number: int) -> None:
        with self._changed:
            self._count += number
            self._changed.notify_all()

    def await_count(self, count: int) -> bool:
        """Wait until so many connections are open; return whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == count, 30)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    server = SilentServer()
    threading.Thread(target=server.serve, daemon=True).start()
    yield server
    server.close()


@pytest.mark.parametrize("how", ["timeout", "SIGTERM", "SIGKILL"])
def test_no_message_is_still_being_sent_after_the_end(silent: SilentServer, tmp_path: Path, how: str) -> None:
    limit = "1s" if how == "timeout" else "10m"
    write(
        tmp_path,
        f"""
        secrets: {{URL: {{from: env}}}}
        tasks:
          mail: {{type: mail, server: "smtp://{silent.place}", tls: none, from: a@h.org, to: b@h.org, timeout: {limit}}}
          tell: {{type: notify, webhook: {{url: "${{{{ secrets.URL }}}}"}}, timeout: {limit}}}
        """,
    )
    env = environment({"URL": f"http://{silent.place}/", "NO_PROXY": "*"})
    process = subprocess.Popen([*COMMAND, "run", "flow.yaml", "-q"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
    assert silent.await_count(2)
    if how != "timeout":
        process.send_signal(getattr(signal, how))
    assert silent.await_count(0)
    assert process.wait(120) != 0


def test_a_cancelled_message_says_that_its_effect_is_unknown(tmp_path: Path) -> None:
    with serving() as server, receiving() as post:
        write(
            tmp_path,
            f"""
            secrets: {{URL: {{from: env}}}}
            tasks:
              mail: {{type: mail, server: "smtp://127.0.0.1:{post.port}", tls: none, from: a@h.org, to: b@h.org}}
              tell: {{type: notify, webhook: {{url: "${{{{ secrets.URL }}}}"}}}}
            """,
        )
        env = environment({"URL": server.url("/wait"), "NO_PROXY": "*"})
        process = subprocess.Popen([*COMMAND, "run", "flow.yaml", "-q", "--log-dir", "logs"], cwd=tmp_path, env=env)
        until(lambda: server.held == 1 and len(post.identities) == 1)
        process.terminate()
        assert process.wait(60) != 0
    logs = "".join(path.read_text() for path in (tmp_path / "logs").glob("*.log"))
    assert "the message was being sent; whether it has arrived is unknown" in logs
    assert "webhook: whether the message has arrived is unknown" in logs
