"""A client of `lightflow serve` for Python programs. It needs only the standard library.

from lightflow.client import Client

client = Client("http://127.0.0.1:8787", token)
run = client.start("nightly", {"day": "2026-11-26"}, key="nightly-2026-11-26")
print(client.wait(run["run_id"])["status"])
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

_ENDED: Final = ("SUCCESS", "FAILED", "CANCELLED", "INTERRUPTED", "SKIPPED")
_WINDOW: Final = 262_144  # bytes of a log that one request fetches


class ServerError(Exception):
    """The server refused a request, or could not be reached.

    Attributes:
        status: the HTTP status; 0 when the server could not be reached.
        code: for programs, such as NOT_FOUND or BAD_INPUT; UNREACHABLE when the server could not be reached.
        fields: messages by the name of a parameter or a field.
    """

    def __init__(self, status: int, code: str, detail: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.fields = dict(fields or {})


class Client:
    """A client of one server. Each call is a request of its own; a client may be used from many threads."""

    def __init__(self, url: str, token: str, *, timeout_s: float = 30.0) -> None:
        """Take the address of the server, such as `http://127.0.0.1:8787`, and a token that `lightflow token` prints.

        Raises:
            ValueError: the scheme of the address is neither http nor https.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8787")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s

    def login_code(self) -> str:
        """Return a code with which a browser logs in once, within a minute: `ADDRESS/#code=CODE`."""
        return str(self._json("POST", "codes")["code"])

    # -- runs ---------------------------------------------------------------------------------------------------

    def start(
        self, workflow: str, params: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """Start a run; return its `run_id`, `status` and `reason`. The same key starts it once.

        Raises:
            ServerError: the workflow is not served, or the parameters are wrong (`fields` names them).
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"workflows/{_quoted(workflow)}/runs"
        return self._json("POST", path, {"params": dict(params or {})}, headers=headers)

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run."""
        return self._json("GET", f"runs/{_quoted(run_id)}")

    def runs(self, workflow: str | None = None, *, limit: int = 50, after: str | None = None) -> dict[str, Any]:
        """Return a page of runs, the newest first: `runs`, and `after` for the next page."""
        return self._json("GET", "runs", query={"workflow": workflow, "limit": limit, "after": after})

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        answer = self._json("GET", f"runs/{_quoted(run_id)}/tasks")
        return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]

    def wait(self, run_id: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until a run has ended, and return it.

        Raises:
            TimeoutError: it has not ended in time.
            ServerError: there is no such run, or the server cannot be reached.
        """
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        pause = 0.05
        while (run := self.run(run_id))["status"] not in _ENDED:
            if give_up is not None and time.monotonic() >= give_up:
                raise TimeoutError(f"run {run_id} is {run['status']} after {timeout_s:g} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        return run

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a run; the second call also ends its teardowns and hooks."""
        return self._json("POST", f"runs/{_quoted(run_id)}/cancel")

    def resume(self, run_id: str) -> dict[str, Any]:
        """Resume a run that has ended."""
        return self._json("POST", f"runs/{_quoted(run_id)}/resume")

    def retry(
        self, run_id: str, tasks: Sequence[str] = (), *, only: bool = False, changed: bool = False
    ) -> dict[str, Any]:
        """Run tasks of a run again, and without `only` what follows them; without tasks all that did not succeed.

        Args:
            changed: whether the tasks run again, too, whose definition has changed.
        """
        body = {"tasks": list(tasks), "only": only, "changed": changed}
        sent = {name: value for name, value in body.items() if value}
        return self._json("POST", f"runs/{_quoted(run_id)}/retry", sent)

    def fork(self, run_id: str, tasks: Sequence[str], params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Start a new run from the middle of another one; `params` are the parameters that differ."""
        body = {"tasks": list(tasks), "params": dict(params or {})}
        return self._json("POST", f"runs/{_quoted(run_id)}/fork", body)

    # -- logs and events ----------------------------------------------------------------------------------------

    def logs(self, run_id: str, task: str, *, index: int | None = None, attempt: int = 1) -> Iterator[bytes]:
        """Yield what an attempt has printed so far."""
        instance = "" if index is None else f"/{index}"
        path = f"runs/{_quoted(run_id)}/tasks/{_quoted(task)}{instance}/attempts/{attempt}/log"
        offset = 0
        while True:
            data, headers = self._request("GET", path, query={"offset": offset, "limit": _WINDOW})
            if not data:
                return
            yield data
            offset = int(headers["X-Log-Offset"]) + len(data)
            if offset >= int(headers["X-Log-Size"]):
                return

    def events(self, topics: Sequence[str] = ("runs",), *, as_of: str | None = None) -> Iterator[dict[str, Any]]:
        """Follow the live feed: yield `{"event", "id", "data"}` without end.

        `as_of` is that of a snapshot, which the feed continues. After `reset` read the snapshot again.
        """
        connection = self._connect(None)
        try:
            path = self._path("stream", {"topics": ",".join(topics), "as_of": as_of})
            response = self._send(connection, "GET", path, None, {})
            if response.status != 200:
                raise _error(response.status, response.read())
            yield from _frames(response)
        finally:
            connection.close()

    # -- requests -----------------------------------------------------------------------------------------------

    def _json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        data, _ = self._request(method, path, body, query=query, headers=headers)
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[bytes, http.client.HTTPMessage]:
        connection = self._connect(self._timeout_s)
        try:
            response = self._send(connection, method, self._path(path, query or {}), body, headers or {})
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(0, "UNREACHABLE", f"{self._host}: the server cannot be reached: {error}") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise _error(response.status, data)
        return data, response.headers

    def _connect(self, timeout_s: float | None) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout_s)

    def _path(self, path: str, query: Mapping[str, Any]) -> str:
        text = urlencode({name: value for name, value in query.items() if value is not None})
        return f"{self._base}/api/v1/{path}" + (f"?{text}" if text else "")

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        sent = {"Authorization": f"Bearer {self._token}", **headers}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, path, data, sent)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(0, "UNREACHABLE", f"{self._host}: the server cannot be reached: {error}") from None


def _frames(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    frame: dict[str, Any] = {}
    for raw in response:
        line = raw.decode("utf-8").rstrip("\r\n")
        if not line:
            if "data" in frame:
                yield {"event": "message", "id": None, **frame, "data": json.loads(frame["data"])}
            frame = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            frame[name] = value


def _error(status: int, body: bytes) -> ServerError:
    """Return the error that an answer means."""
    try:
        problem = json.loads(body)
        fields = {each["field"]: each["message"] for each in problem.get("errors", ())}
        return ServerError(status, problem["code"], problem["detail"], fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ServerError(status, "UNKNOWN", body[:500].decode("utf-8", "replace").strip() or f"status {status}")


def _quoted(part: str) -> str:
    return quote(part, safe="")
