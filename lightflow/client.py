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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

_API: Final = "/api/v1"
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


class _TooLate(Exception):
    """The time to wait is over."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class _Requests:
    """Sends requests to one server."""

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

    def _json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
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

    def _text(self, path: str) -> str:
        data, _ = self._request("GET", path)
        return data.decode("utf-8", "replace")

    def _connect(self, timeout_s: float | None) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout_s)

    def _path(self, path: str, query: Mapping[str, Any]) -> str:
        sent = {name: _query_value(value) for name, value in query.items() if value is not None}
        text = urlencode(sent, doseq=True)
        return f"{self._base}{path}" + (f"?{text}" if text else "")

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


class Client(_Requests):
    """A client of one server. Each call is a request of its own; a client may be used from many threads.

    A method returns the answer of its route as docs/reference/rest.md describes it. A page has `after`, the cursor of
    the next page. Instances of mapped tasks are named by `task` and `index`. Each method raises ServerError.
    """

    # -- the server ---------------------------------------------------------------------------------------------

    def health(self) -> str:
        """Return `ok` when the server answers; it needs no token."""
        return self._text("/healthz").strip()

    def metrics(self) -> str:
        """Return the metrics, as Prometheus reads them."""
        return self._text("/metrics")

    def openapi(self) -> dict[str, Any]:
        """Return the description of all routes."""
        return self._json("GET", f"{_API}/openapi.json")

    def whoami(self) -> dict[str, Any]:
        """Return the role of the token, and whether the server is read-only."""
        return self._json("GET", f"{_API}/whoami")

    def system(self) -> dict[str, Any]:
        """Return the state of the server: versions, the state file, the scheduler."""
        return self._json("GET", f"{_API}/system")

    def login(self, code: str) -> dict[str, Any]:
        """Return the `token` and the `role` for a login code; it needs no token."""
        return self._json("POST", f"{_API}/login", {"code": code})

    def login_code(self) -> str:
        """Return a code with which a browser logs in once, within a minute: `ADDRESS/#code=CODE`."""
        return str(self._json("POST", f"{_API}/codes")["code"])

    def graphql(
        self, query: str, variables: Mapping[str, Any] | None = None, *, operation: str | None = None
    ) -> dict[str, Any]:
        """Execute a query or a mutation of GraphQL; return `data` and `errors`. For live changes use `events`."""
        body = {"query": query, "variables": None if variables is None else dict(variables), "operationName": operation}
        return self._json("POST", "/graphql", body)

    # -- workflows ----------------------------------------------------------------------------------------------

    def workflows(self, *, runs: int = 14) -> dict[str, Any]:
        """Return all workflows with their last runs, and the files that cannot be served."""
        return self._json("GET", f"{_API}/workflows", query={"runs": runs})

    def workflow(self, workflow: str, *, runs: int = 14) -> dict[str, Any]:
        """Return a workflow with its last runs."""
        return self._json("GET", _workflow(workflow), query={"runs": runs})

    def workflow_geometry(self, workflow: str, *, fold: str = "auto", toggled: Sequence[str] = ()) -> dict[str, Any]:
        """Return the boxes and edges of the graph of a workflow."""
        return self._json("GET", _workflow(workflow, "geometry"), query=_folding(fold, toggled))

    def grid(self, workflow: str, *, runs: int = 14, after: str | None = None) -> dict[str, Any]:
        """Return the states of the tasks in the last runs of a workflow."""
        return self._json("GET", _workflow(workflow, "grid"), query={"runs": runs, "after": after})

    def source(self, workflow: str) -> dict[str, Any]:
        """Return the `text` of the file of a workflow."""
        return self._json("GET", _workflow(workflow, "source"))

    def durations(self, workflow: str, *, task: str | None = None, runs: int = 50) -> dict[str, Any]:
        """Return how long the tasks of a workflow took, in seconds."""
        return self._json("GET", _workflow(workflow, "durations"), query={"task": task, "runs": runs})

    def check(self, workflow: str, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the mistakes in the parameters of a run: `field` and `message` of each."""
        answer = self._json("POST", _workflow(workflow, "check"), {"params": dict(params or {})})
        return list(answer["problems"])

    def start(self, workflow: str, params: Mapping[str, Any] | None = None, *, key: str | None = None,
              only: Sequence[str] = (), start: Sequence[str] = (), until: Sequence[str] = (), skip: Sequence[str] = (),
              values_from: str | None = None) -> dict[str, Any]:  # fmt: skip
        """Start a run; return its `run_id`, `status` and `reason`. The same key starts it once.

        Args:
            params: values of the declared parameters.
            key: identifies the request.
            only, start, until, skip: the tasks of a partial run, as `lightflow run` has them; `start` is `--from`.
            values_from: the run whose values of other tasks are read, or `latest`.

        Raises:
            ServerError: the workflow is not served, or the parameters are wrong (`fields` names them).
        """
        tasks = {"only": only, "from": start, "until": until, "skip": skip}
        sent = {name: list(names) for name, names in tasks.items() if names}
        body = {"params": dict(params or {}), **sent, **_without_none(values_from=values_from)}
        return self._json("POST", _workflow(workflow, "runs"), body, key=key)

    def pause_workflow(self, workflow: str, reason: str | None = None) -> dict[str, Any]:
        """Pause the triggers of a workflow."""
        return self._json("PUT", _workflow(workflow, "pause"), _without_none(reason=reason))

    def unpause_workflow(self, workflow: str) -> dict[str, Any]:
        """End the pause of a workflow."""
        return self._json("DELETE", _workflow(workflow, "pause"))

    # -- runs ---------------------------------------------------------------------------------------------------

    def runs(
        self, workflow: str | None = None, *, limit: int = 50, after: str | None = None, **conditions: Any
    ) -> dict[str, Any]:
        """Return a page of runs, the newest first: `runs`, and `after` for the next page.

        `conditions` are the other parameters of the route: `status`, `text`, `trigger`, `since`, `until`, `all`.
        """
        query = {"workflow": workflow, "limit": limit, "after": after, **conditions}
        return self._json("GET", f"{_API}/runs", query=query)

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run."""
        return self._json("GET", _run(run_id))

    def started(self, run_id: str) -> dict[str, Any]:
        """Return what has become of the last request to start or continue a run; `pending`: it may start later."""
        return self._json("GET", _run(run_id, "start"))

    def wait(self, run_id: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until a run has ended, and return it; it need not have started yet.

        Raises:
            TimeoutError: it has not ended in time.
            ServerError: there is no such run, it was not started, or the server cannot be reached.
        """
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            start = _awaited(lambda: self.started(run_id), lambda start: not start["pending"], give_up)
            if start["run_id"] is None:
                raise ServerError(404, "NOT_STARTED", f"run {run_id} was not started: {start['reason']}")
            return _awaited(lambda: self.run(run_id), lambda run: run["status"] in _ENDED, give_up)
        except _TooLate as late:
            raise TimeoutError(f"run {run_id} is {late.status} after {timeout_s:g} s") from None

    def graph(self, run_id: str) -> dict[str, Any]:
        """Return the graph of a run as it was when the run was last started or resumed."""
        return self._json("GET", _run(run_id, "graph"))

    def geometry(self, run_id: str, *, fold: str = "auto", toggled: Sequence[str] = ()) -> dict[str, Any]:
        """Return the boxes and edges of the graph of a run."""
        return self._json("GET", _run(run_id, "geometry"), query=_folding(fold, toggled))

    def critical_path(self, run_id: str) -> list[str]:
        """Return the tasks that decided when a run ended."""
        return list(self._json("GET", _run(run_id, "critical-path"))["tasks"])

    def waits(self, run_id: str) -> list[dict[str, Any]]:
        """Return the instances of a run that wait without a worker; an approval has its form."""
        return list(self._json("GET", _run(run_id, "waits"))["waits"])

    def groups(self, run_id: str) -> list[dict[str, Any]]:
        """Return the groups of a run with their states and members."""
        return list(self._json("GET", _run(run_id, "groups"))["groups"])

    def children(self, run_id: str, *, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """Return a page of the child runs of a run, the oldest first."""
        return self._json("GET", _run(run_id, "children"), query={"limit": limit, "after": after})

    def forks(self, run_id: str, *, limit: int = 100, after: str | None = None) -> dict[str, Any]:
        """Return a page of the forks of a run, the oldest first."""
        return self._json("GET", _run(run_id, "forks"), query={"limit": limit, "after": after})

    def preview_retry(self, run_id: str, tasks: Sequence[str] = (), *, only: bool = False) -> dict[str, Any]:
        """Return the tasks that a retry would run, `runs`, and those that keep their results, `stay`."""
        return self._json("GET", _run(run_id, "rerun"), query={"task": list(tasks), "only": only})

    def diff(self, run_id: str, other_id: str) -> dict[str, Any]:
        """Return two runs, compared, as `lightflow diff --json` prints them."""
        return self._json("GET", _run(run_id, "diff", other_id))

    def values(self, run_id: str) -> list[dict[str, Any]]:
        """Return the values that a run has stored."""
        return list(self._json("GET", _run(run_id, "values"))["values"])

    def value(self, run_id: str, task: str, key: str, *, index: int | None = None) -> Any:
        """Return one value."""
        return self._json("GET", _run(run_id, "values", task, *_index(index), key))["value"]

    def cancel(self, run_id: str) -> dict[str, Any]:
        """Cancel a run; the second call also ends its teardowns and hooks."""
        return self._json("POST", _run(run_id, "cancel"))

    def resume(self, run_id: str, *, key: str | None = None) -> dict[str, Any]:
        """Resume a run that has ended. The same key resumes it once."""
        return self._json("POST", _run(run_id, "resume"), key=key)

    def retry(self, run_id: str, tasks: Sequence[str] = (), *, only: bool = False, changed: bool = False,
              ignore_upstream: bool = False, key: str | None = None) -> dict[str, Any]:  # fmt: skip
        """Run tasks of a run again, and without `only` what follows them; without tasks all that did not succeed.

        Args:
            changed: whether the tasks run again, too, whose definition has changed.
            ignore_upstream: whether the tasks run although an upstream task did not succeed.
            key: the same key runs them again once.
        """
        body = {"tasks": list(tasks), "only": only, "changed": changed, "ignore_upstream": ignore_upstream}
        sent = {name: value for name, value in body.items() if value}
        return self._json("POST", _run(run_id, "retry"), sent, key=key)

    def fork(
        self, run_id: str, tasks: Sequence[str], params: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """Start a new run from the middle of another one; `params` are those that differ. A key starts it once."""
        body = {"tasks": list(tasks), "params": dict(params or {})}
        return self._json("POST", _run(run_id, "fork"), body, key=key)

    def again(self, run_id: str, *, key: str | None = None) -> dict[str, Any]:
        """Start a new run with the parameters of another one. The same key starts it once."""
        return self._json("POST", _run(run_id, "again"), key=key)

    def clear(self, run_id: str, tasks: Sequence[str], *, only: bool = False) -> dict[str, Any]:
        """Set tasks of a run, and without `only` what follows them, back; the next resume runs them."""
        return self._json("POST", _run(run_id, "clear"), {"tasks": list(tasks), "only": only})

    def mark(self, run_id: str, tasks: Sequence[str], status: str, *, reason: str | None = None,
             outputs: Mapping[str, Any] | None = None) -> dict[str, Any]:  # fmt: skip
        """Give tasks of a run a state by hand: `success`, `failed` or `skipped`. `outputs` are values of a success."""
        sent = _without_none(reason=reason, outputs=None if outputs is None else dict(outputs))
        return self._json("POST", _run(run_id, "mark"), {"tasks": list(tasks), "status": status, **sent})

    # -- tasks --------------------------------------------------------------------------------------------------

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        return _rows(self._json("GET", _run(run_id, "tasks")))

    def attempts(self, run_id: str, *, attempts: int = 1000) -> list[dict[str, Any]]:
        """Return the last attempts of each task and instance of a run: at most `attempts` of each, 20,000 in all."""
        return _rows(self._json("GET", _run(run_id, "attempts"), query={"attempts": attempts}))

    def task(
        self, run_id: str, task: str, *, index: int | None = None, attempts: int = 1000, before: int | None = None
    ) -> dict[str, Any]:
        """Return a task of a run with its last `attempts`, or with the last of those before an attempt."""
        query = {"attempts": attempts, "before": before}
        return self._json("GET", _run(run_id, "tasks", task, *_index(index)), query=query)

    def instances(
        self, run_id: str, task: str, *, limit: int = 100, after: str | None = None, **conditions: Any
    ) -> dict[str, Any]:
        """Return a page of the `instances` of a mapped task.

        `conditions` are the other parameters of the route: `status`, `label`, `order`.
        """
        query = {"limit": limit, "after": after, **conditions}
        answer = self._json("GET", _run(run_id, "tasks", task, "instances"), query=query)
        return {"as_of": answer["as_of"], "instances": _rows(answer), "after": answer["after"]}

    def why(self, run_id: str, task: str, *, index: int | None = None) -> dict[str, Any]:
        """Return why a task is in its state."""
        return self._json("GET", _run(run_id, "tasks", task, *_index(index), "why"))

    def decide(self, run_id: str, task: str, *, approved: bool, index: int | None = None,
               fields: Mapping[str, Any] | None = None, comment: str | None = None,
               by: str | None = None) -> dict[str, Any]:  # fmt: skip
        """Approve or reject a task that waits for a person; the first decision counts."""
        sent = _without_none(fields=None if fields is None else dict(fields), comment=comment, by=by)
        return self._json(
            "POST", _run(run_id, "tasks", task, *_index(index), "decision"), {"approved": approved, **sent}
        )

    def logs(self, run_id: str, task: str, *, index: int | None = None, attempt: int = 1) -> Iterator[bytes]:
        """Yield what an attempt has printed so far."""
        path = _run(run_id, "tasks", task, *_index(index), "attempts", str(attempt), "log")
        offset = 0
        while True:
            data, headers = self._request("GET", path, query={"offset": offset, "limit": _WINDOW})
            if not data:
                return
            yield data
            offset = int(headers["X-Log-Offset"]) + len(data)
            if offset >= int(headers["X-Log-Size"]):
                return

    # -- triggers and pools -------------------------------------------------------------------------------------

    def triggers(self, workflow: str | None = None) -> dict[str, Any]:
        """Return the triggers of all workflows, or of one, with their next fires."""
        return self._json("GET", f"{_API}/triggers", query={"workflow": workflow})

    def planned(self, trigger: str, *, limit: int = 10) -> dict[str, Any]:
        """Return the next instants of a trigger, without firing it."""
        return self._json("GET", _trigger(trigger, "next"), query={"limit": limit})

    def fire(self, trigger: str, *, at: str | None = None, key: str | None = None) -> dict[str, Any]:
        """Fire a trigger now; `at` is the moment that the run is for. The same key fires it once."""
        return self._json("POST", _trigger(trigger, "fire"), _without_none(at=at), key=key)

    def pause_trigger(self, trigger: str, reason: str | None = None) -> dict[str, Any]:
        """Pause a trigger."""
        return self._json("PUT", _trigger(trigger, "pause"), _without_none(reason=reason))

    def unpause_trigger(self, trigger: str) -> dict[str, Any]:
        """End the pause of a trigger."""
        return self._json("DELETE", _trigger(trigger, "pause"))

    def fires(self, *, limit: int = 50, after: str | None = None, **conditions: Any) -> dict[str, Any]:
        """Return a page of fires, the newest first.

        `conditions` are the other parameters of the route: `workflow`, `trigger`, `status`.
        """
        return self._json("GET", f"{_API}/fires", query={"limit": limit, "after": after, **conditions})

    def pools(self) -> list[dict[str, Any]]:
        """Return the pools with the holders of their slots."""
        return list(self._json("GET", f"{_API}/pools")["pools"])

    def set_pool(self, pool: str, slots: int) -> dict[str, Any]:
        """Set the number of slots of a pool; 0 pauses it."""
        return self._json("PUT", f"{_API}/pools/{_quoted(pool)}", {"slots": slots})

    def delete_pool(self, pool: str) -> dict[str, Any]:
        """Delete a pool that is not in use."""
        return self._json("DELETE", f"{_API}/pools/{_quoted(pool)}")

    # -- upkeep -------------------------------------------------------------------------------------------------

    def wake(self, *, dry_run: bool = False) -> list[dict[str, Any]]:
        """Resume the parked runs that are due, and return them; with `dry_run` only return them."""
        return list(self._json("POST", f"{_API}/wake", {"dry_run": dry_run})["runs"])

    def prune(self, workflow: str | None = None, *, older_than: str | None = None, keep: int | None = None,
              orphans: bool = False, dry_run: bool = False) -> dict[str, Any]:  # fmt: skip
        """Delete old runs of a workflow, or of all, as `lightflow prune` does; call again until `complete` is true."""
        sent = _without_none(workflow=workflow, older_than=older_than, keep=keep)
        return self._json("POST", f"{_API}/prune", {**sent, "orphans": orphans, "dry_run": dry_run})

    # -- changes ------------------------------------------------------------------------------------------------

    def changes(self, run_id: str | None = None, *, limit: int = 1000, after: str | None = None) -> dict[str, Any]:
        """Return a page of the stored changes of state, of one run or of all, the oldest first."""
        path = f"{_API}/events" if run_id is None else _run(run_id, "events")
        return self._json("GET", path, query={"limit": limit, "after": after})

    def events(self, topics: Sequence[str] = ("runs",), *, as_of: str | None = None) -> Iterator[dict[str, Any]]:
        """Follow the live feed: yield `{"event", "id", "data"}` without end.

        `as_of` is that of a snapshot, which the feed continues. After `reset` read the snapshot again.

        Raises:
            ServerError: the server has refused the request, or has ended.
        """
        connection = self._connect(None)
        try:
            path = self._path(f"{_API}/stream", {"topics": ",".join(topics), "as_of": as_of})
            response = self._send(connection, "GET", path, None, {})
            if response.status != 200:
                raise _error(response.status, response.read())
            yield from _frames(response)
            raise ServerError(503, "UNAVAILABLE", f"{self._host}: the server has ended; follow again once it is back")
        finally:
            connection.close()


def _awaited(
    read: Callable[[], dict[str, Any]], is_over: Callable[[dict[str, Any]], bool], give_up: float | None
) -> dict[str, Any]:
    """Read a state until it is the last one, and return that. Raises _TooLate: the time to give up has come."""
    pause = 0.05
    while not is_over(state := read()):
        if give_up is not None and time.monotonic() >= give_up:
            raise _TooLate(state["status"])
        time.sleep(pause)
        pause = min(pause * 1.5, 1.0)
    return state


def _workflow(workflow: str, *parts: str) -> str:
    return "/".join([f"{_API}/workflows", *map(_quoted, (workflow, *parts))])


def _run(run_id: str, *parts: str) -> str:
    return "/".join([f"{_API}/runs", *map(_quoted, (run_id, *parts))])


def _trigger(trigger: str, *parts: str) -> str:
    return "/".join([f"{_API}/triggers", *map(_quoted, (trigger, *parts))])


def _index(index: int | None) -> tuple[str, ...]:
    return () if index is None else (str(index),)


def _folding(fold: str, toggled: Sequence[str]) -> dict[str, str | None]:
    return {"fold": fold, "toggled": ",".join(toggled) or None}


def _without_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _rows(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an answer with columns."""
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


def _query_value(value: Any) -> Any:
    return ("false", "true")[value] if isinstance(value, bool) else value


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
