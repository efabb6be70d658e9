"""The server behind nginx, below a sub-path, as `docs/howto/use-the-server.md` describes it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_kit import Tabs, launched, log_in
from server_kit import RunningServer, environment, lightflow, serving
from sql_servers import free_port

from lightflow.client import Client, ServerError

CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location /flows/ {{
      proxy_pass http://127.0.0.1:{backend};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[str, RunningServer]]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    (tmp_path / "flow.yaml").write_text("workflow_name: flow\ntasks: {a: {run: 'echo a'}}\n")
    assert lightflow(tmp_path, "run", "flow.yaml").returncode == 0
    port = free_port()
    arguments = ("ui", "lightflow.db", "--base-path", "/flows", "--allow-host", f"127.0.0.1:{port}")
    with serving(tmp_path, *arguments) as server:
        config = tmp_path / "nginx.conf"
        config.write_text(CONFIG.format(folder=tmp_path, port=port, backend=server.port))
        process = subprocess.Popen([program, "-c", str(config), "-p", str(tmp_path)])
        try:
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (tmp_path / "error.log").read_text()
            yield f"http://127.0.0.1:{port}/flows", server
        finally:
            process.terminate()
            process.wait(120)


def test_requests_and_the_feed_pass_a_proxy_with_a_sub_path(proxied: tuple[str, RunningServer]) -> None:
    url, server = proxied
    client = Client(url, server.viewer)
    (run,) = client.runs()["runs"]
    assert run["status"] == "SUCCESS"
    assert b"".join(client.logs(run["run_id"], "a")) == b"a\n"
    events = client.events(["runs"], as_of=client.runs()["as_of"])
    started = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "flow.yaml", "--quiet"],
        cwd=server.folder,
        env=environment(server.folder),
    )
    ends = (event for event in events if any(each["status"] == "SUCCESS" for each in event["data"].get("runs", ())))
    assert next(ends)["event"] == "change"
    assert started.wait(60) == 0
    with pytest.raises(ServerError) as refused:
        Client(url, "wrong").runs()
    assert refused.value.status == 401


def test_the_dashboard_works_below_a_sub_path(proxied: tuple[str, RunningServer]) -> None:
    url, server = proxied
    with launched() as browser:
        tabs = Tabs(browser)
        page = log_in(tabs.tab(), url, server.viewer, "#/runs")
        page.locator("table.runs td a", has_text="flow").first.click()
        page.wait_for_selector(".connection.live")
        page.locator("svg .node").first.wait_for()
        tabs.close()


def test_the_server_answers_only_below_its_base_path(proxied: tuple[str, RunningServer]) -> None:
    _, server = proxied
    assert server.request("GET", "/flows/healthz", token=None).status == 200
    assert server.request("GET", "/flowsx/healthz", token=None).status == 401
