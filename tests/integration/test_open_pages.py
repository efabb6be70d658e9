"""`lightflow open` and `--open`: a browser is let in once, by a code that no command line shows."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

import pytest
from server_kit import RunningServer, lightflow, serving

FLOW = "workflow_name: w\ntasks: {a: {run: 'true'}}\n"
NIGHTLY = "workflow_name: n\nschedule: {every: 1s}\ntasks: {a: {run: 'true'}}\n"
ASKS = """#!{python}
import re, sys, urllib.request
page = open(sys.argv[1].removeprefix("file://")).read()
server = re.search("url=(http://[^#]+)", page)[1]
try:
    answer = urllib.request.urlopen(server + "healthz", timeout=60).status
except OSError as error:
    answer = error
open("{calls}", "w").write(str(answer))
"""


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that only writes what it was called with."""
    script, calls = tmp_path / "browser", tmp_path / "calls"
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> "{calls}"\n')
    script.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(script))
    (tmp_path / "w.yaml").write_text(FLOW)
    return calls


def opened_link(calls: Path) -> str:
    """Return the link in the file that the browser was called with."""
    (address,) = calls.read_text().split()
    calls.unlink()
    assert address.startswith("file:///")
    page = Path(address.removeprefix("file://"))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    match = re.search(r"url=(http://[^\"]+)", page.read_text())
    assert match is not None
    assert match[1].partition("code=")[2] not in address
    return match[1]


def log_in(server: RunningServer, link: str) -> tuple[int, str]:
    """Trade the code of a link; return the status and the role."""
    assert link.startswith(f"{server.url}/#code=")
    answer = server.request("POST", "/api/v1/login", {"code": link.partition("code=")[2]}, token=None)
    return answer.status, answer.json().get("role", "")


def test_a_browser_is_let_in_once(tmp_path: Path, browser: Path) -> None:
    with serving(tmp_path, "serve") as server:
        assert lightflow(tmp_path, "open").returncode == 0
        link = opened_link(browser)
        assert log_in(server, link) == (200, "operator")
        assert log_in(server, link)[0] == 401
        printed = lightflow(tmp_path, "open", "--print", "--viewer").stdout.strip()
        assert log_in(server, printed) == (200, "viewer")
        [link] = re.findall(r'"link": "([^"]+)"', lightflow(tmp_path, "open", "--json").stdout)
        assert log_in(server, link) == (200, "operator")
        assert not browser.exists()
        assert "code=" not in lightflow(tmp_path, "open").stdout
    refused = lightflow(tmp_path, "open")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no server works on this state file" in refused.stderr


def test_a_server_opens_its_pages(tmp_path: Path, browser: Path) -> None:
    os.mkfifo(browser)  # the server does not wait for the browser, so the test does
    with serving(tmp_path, "serve", "--open", "--read-only") as server:
        assert log_in(server, opened_link(browser)) == (200, "viewer")


def test_a_server_answers_the_browser_that_it_starts(tmp_path: Path, browser: Path) -> None:
    os.mkfifo(browser)
    (tmp_path / "browser").write_text(ASKS.format(python=sys.executable, calls=browser))
    with serving(tmp_path, "serve", "--open"):
        assert browser.read_text() == "200"


def test_a_server_without_scheduler_answers_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text(NIGHTLY)
    with serving(tmp_path, "serve", "--no-scheduler") as server:
        refused = server.request("POST", "/api/v1/workflows/n/runs", {})
        assert (refused.status, refused.json()["code"]) == (409, "CONFLICT")
        assert "no other one schedules" in refused.json()["detail"]
        assert server.get("/api/v1/triggers")["has_scheduler"] is False
        assert server.get("/api/v1/fires")["fires"] == []
        assert lightflow(tmp_path, "run", "n.yaml", "-q", "--run-id", "by-hand").returncode == 0
        again = server.request("POST", "/api/v1/runs/by-hand/retry", {"tasks": ["a"]})
        assert (again.status, again.json()["status"]) == (201, "STARTED")
    assert lightflow(tmp_path, "serve", "--no-ui", "--no-scheduler").returncode == 2
