"""Servers that tests start: the command as a user types it, in a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jsonschema_rs

from lightflow.server.api import OPEN_ROUTES, ROUTES, STREAM, TABLE
from lightflow.server.openapi import document
from lightflow.server.problems import RequestProblem

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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            answer = Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
        check_described(method, path, answer)
        return answer

    def get(self, path: str, *, token: str | None = "operator") -> Any:
        """Return the JSON of a successful answer."""
        answer = self.request("GET", path, token=token)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()


@cache
def described() -> dict[str, Any]:
    """Return the OpenAPI document; a mapping with fixed keys has no others."""
    return closed(document(ROUTES, STREAM, OPEN_ROUTES))


def closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    others = {"additionalProperties": False} if "properties" in schema and "required" in schema else {}
    return {**others, **{name: closed(each) for name, each in schema.items()}}


@cache
def checker(text: str) -> jsonschema_rs.Draft202012Validator:
    schema = json.loads(text)
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": described()["components"]}, validate_formats=True
    )


def check_described(method: str, path: str, answer: Answered) -> None:
    """Check that an answer of a route is as the OpenAPI document describes it, and sets no cookie."""
    assert "set-cookie" not in answer.headers
    try:
        route, _ = TABLE.find(method, urlsplit(path).path)
    except RequestProblem:
        return
    operation = described()["paths"][route.path][method.lower()]
    response = operation["responses"].get(str(answer.status))
    if response is None:
        assert answer.status >= 400, f"{method} {route.path} does not describe the status {answer.status}"
        response = described()["components"]["responses"]["Problem"]
    media = answer.headers["content-type"].partition(";")[0]
    if answer.status >= 400 and route.path == "/graphql" and media == "application/json":
        response = operation["responses"]["200"]
    assert media in response["content"], f"{method} {route.path}: {media}"
    if media.endswith("json"):
        problems = [
            f"{'/'.join(map(str, error.instance_path))}: {error.message[:300]}"
            for error in checker(json.dumps(response["content"][media]["schema"])).iter_errors(answer.json())
        ]
        assert not problems, f"{method} {route.path}: {'; '.join(problems)}"


def filled(path: str, names: Mapping[str, str]) -> str:
    """Return the path of a route with names in place of its parts `{part}`."""
    return re.sub(r"\{(\w+)\}", lambda match: names[match[1]], path)


def environment(folder: Path, first_path: str = "") -> dict[str, str]:
    path = os.pathsep.join([*filter(None, [first_path]), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(folder / "state"), "NO_COLOR": "1"}


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
def serving(folder: Path, *arguments: str, below: Sequence[str] = (), first_path: str = "") -> Iterator[RunningServer]:
    """Start `lightflow ARGUMENTS` (`ui FILE.db` or `serve`) on a free port, with a tracer or without; end it after.

    Modules in the folder `first_path` come before all others.
    """
    process = subprocess.Popen(
        [*below, sys.executable, "-m", "lightflow", *arguments, "--port", "0"],
        cwd=folder,
        env=environment(folder, first_path),
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
        process.communicate(timeout=120)
