"""Servers that tests start: the command as a user types it, in a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]


class Answered(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RunningServer(NamedTuple):
    """A server, its folder, and its tokens."""

    url: str
    folder: Path
    process: subprocess.Popen[str]
    operator: str
    viewer: str

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "operator",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Send a request with one of the tokens (`operator`, `viewer`), another text, or none."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {getattr(self, token, token)}"
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, *, token: str | None = "operator") -> Any:
        """Return the JSON of a successful answer."""
        answer = self.request("GET", path, token=token)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state"), "NO_COLOR": "1"}


def lightflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "lightflow", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[RunningServer]:
    """Start `lightflow ARGUMENTS` (`ui FILE.db` or `serve`) on a free port; end it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", *arguments, "--port", "0"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if match := re.search(r"(http://[^\s;,]+?)/?[;,\s]", line):
                break
        else:
            raise AssertionError(f"the server did not start: {lines} {process.stderr and process.stderr.read()}")
        tokens = [lightflow(folder, "token", *extra).stdout.strip() for extra in ((), ("--viewer",))]
        yield RunningServer(match[1], folder, process, *tokens)
    finally:
        process.terminate()
        process.communicate(timeout=30)
