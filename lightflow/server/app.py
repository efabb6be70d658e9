"""The ASGI application: gate, route, role, body, handler, answer. One way for every request."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from lightflow.server.api import STREAM, TABLE
from lightflow.server.feed import FeedPosition
from lightflow.server.frames import dump
from lightflow.server.gate import MOST_BODY, SECURITY_HEADERS, Gate, Scope, read_body, values
from lightflow.server.metrics import Metrics
from lightflow.server.problems import MEDIA_TYPE, RequestProblem, problem_of
from lightflow.server.routing import Answer, CheckedRequest, Route, check_body, is_request_key, read_query
from lightflow.server.services import Services
from lightflow.server.static import STATIC_PATHS, answer_static
from lightflow.server.stream import MOST_STREAMS, Topics, stream
from lightflow.server.tokens import ROLES, Role
from lightflow.server.webhooks import PREFIX, Webhooks
from liteflow.api import replace

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_MOST_DEPTH: Final = 50  # nested lists and mappings of a body
_log = logging.getLogger("lightflow.server")


class Application:
    """Answers the requests of one server."""

    def __init__(self, services: Services, gate: Gate, base_path: str = "", webhooks: Webhooks | None = None) -> None:
        """Take the parts; `base_path` is what a proxy puts before all paths, without a slash at its end."""
        self._services = services
        self._gate = gate
        self._base_path = base_path
        self._webhooks = webhooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI calls it."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        answer = await self._answer(scope, receive)
        self._services.metrics.count(scope["method"], answer.status_code, time.perf_counter() - began)
        present = {name for name, _ in answer.raw_headers}
        answer.raw_headers += [header for header in SECURITY_HEADERS if header[0] not in present]
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        try:
            scope = {**scope, "raw_path": self._below_base(scope["raw_path"])}
            role = self._gate.admit(scope)
            path, method = scope["raw_path"].decode("latin-1"), scope["method"]
            if path.startswith(PREFIX) and method == "POST":
                return await self._webhook(path, scope, receive)
            if method in ("GET", "HEAD") and path in STATIC_PATHS:
                return _response(answer_static(path, scope["headers"]))
            if path == STREAM.path and method == "GET":
                return await self._stream(scope)
            return await self._routed(method, path, role, scope, receive)
        except ConnectionError:
            return Response(status_code=400)
        except asyncio.CancelledError:
            detail = "the server has ended before it had the answer; look at the run, if it was to start one"
            return _problem_response(RequestProblem(503, "UNAVAILABLE", detail))
        except Exception as error:  # noqa: BLE001 - the boundary: a defect is logged and answered with 500
            return _problem_response(error)

    def _below_base(self, raw_path: bytes) -> bytes:
        base = self._base_path.encode()
        if base and raw_path.startswith(base + b"/"):
            return raw_path[len(base) :]
        return raw_path

    async def _routed(self, method: str, path: str, role: Role | None, scope: Scope, receive: Receive) -> Response:
        route, parts = TABLE.find("GET" if method == "HEAD" else method, path)
        if role is not None and ROLES.index(role) < ROLES.index(route.role):
            raise RequestProblem(403, "FORBIDDEN", f"this needs the role {route.role}; the token is of a {role}")
        call = CheckedRequest(
            services=self._services,
            role=role or "viewer",
            path=parts,
            query=read_query(route, scope["query_string"].decode("latin-1")),
            body=await _body(route, scope, receive),
            key=_key(scope) if route.takes_key else None,
            caller=f"{role or 'nobody'} of the server",
        )
        answer = await run_in_threadpool(route.handler, call)
        if isinstance(answer.body, AsyncIterator):
            return _StreamingAnswer(answer.body, self._services.metrics)
        if not isinstance(answer.body, bytes):
            answer = replace(answer, body=(await run_in_threadpool(dump, answer.body)).encode())
        return _response(answer)

    async def _webhook(self, path: str, scope: Scope, receive: Receive) -> Response:
        if self._webhooks is None:
            raise RequestProblem(404, "NOT_FOUND", "this server receives no webhooks; `lightflow serve` does")
        body = await read_body(receive)
        answer = await run_in_threadpool(self._webhooks.receive, path, scope["headers"], body)
        return Response(dump(answer.body), answer.status, media_type=answer.media_type)

    async def _stream(self, scope: Scope) -> Response:
        query = read_query(STREAM, scope["query_string"].decode("latin-1"))
        names = [name for name in (query["topics"] or "").split(",") if name]
        topics = await run_in_threadpool(Topics, names, self._services)
        last = values(scope["headers"], b"last-event-id")
        text = last[0].decode("latin-1") if last else query["as_of"]
        start = None if text is None else FeedPosition.parse(text)
        if text is not None and start is None:
            raise RequestProblem(400, "BAD_INPUT", "as_of is not a position of this server")
        return _StreamingAnswer(stream(self._services, topics, start), self._services.metrics)


def _response(answer: Answer[bytes]) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), answer.media_type)


class _StreamingAnswer(StreamingResponse):
    """An answer without end. Those of a server are counted from here on, so that there are never too many."""

    def __init__(self, frames: AsyncIterator[bytes], metrics: Metrics) -> None:
        """Count the client; called by the thread of the event loop alone.

        Raises:
            RequestProblem: too many clients follow already.
        """
        if metrics.stream_clients >= MOST_STREAMS:
            raise RequestProblem(
                503, "TOO_MANY", f"{MOST_STREAMS} clients follow already", headers={"Retry-After": "5"}
            )
        metrics.stream_clients += 1
        self._metrics = metrics
        super().__init__(frames, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Send the frames until the client or the server ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._metrics.stream_clients -= 1


def _problem_response(error: Exception) -> Response:
    problem, identity = problem_of(error), ""
    if problem is None:
        identity = secrets.token_hex(8)
        _log.error("error %s", identity, exc_info=error)
        problem = RequestProblem(500, "INTERNAL", f"a defect of the server; its log has the error {identity}")
    return Response(dump(problem.shape(identity)), problem.status, problem.headers, MEDIA_TYPE)


def _key(scope: Scope) -> str | None:
    keys = values(scope["headers"], b"idempotency-key")
    if not keys:
        return None
    key = keys[0].decode("latin-1")
    if len(keys) > 1 or not is_request_key(key):
        raise RequestProblem(
            400, "BAD_INPUT", "Idempotency-Key must be 1 to 200 printable ASCII characters, given once"
        )
    return key


async def _body(route: Route, scope: Scope, receive: Receive) -> Any:
    """Return the body of a request as the schema of its route wants it; None for a route without one.

    Raises:
        RequestProblem: it is too large, is not JSON, or breaks the schema.
    """
    lengths = values(scope["headers"], b"content-length")
    if lengths and int(lengths[0]) > MOST_BODY:
        raise RequestProblem(413, "BAD_INPUT", f"the body has more than {MOST_BODY:,} bytes")
    raw = await read_body(receive)
    if route.body is None:
        if raw:
            raise RequestProblem(400, "BAD_INPUT", "this request takes no body")
        return None
    if not raw and not route.body.get("required"):
        return {}
    media = values(scope["headers"], b"content-type")
    if not media or media[0].partition(b";")[0].strip().lower() != b"application/json":
        raise RequestProblem(415, "BAD_INPUT", "send the body as Content-Type: application/json")
    body = parse_json(raw)
    check_body(body, route.body)
    return body


def parse_json(raw: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        RequestProblem: it is not JSON, has NaN or a name twice, is nested too deeply, or is not valid Unicode.
    """
    try:
        text = raw.decode("utf-8")
        if _depth(text) > _MOST_DEPTH:
            raise RequestProblem(400, "BAD_INPUT", f"the body is nested more than {_MOST_DEPTH} levels deep")
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique, parse_int=_whole)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # no half of a surrogate pair
    except UnicodeError:
        raise RequestProblem(400, "BAD_INPUT", "the body is not valid Unicode in UTF-8") from None
    except ValueError as error:
        raise RequestProblem(400, "BAD_INPUT", f"the body is not JSON: {error}") from None
    return value


def _depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a value of JSON")


def _whole(digits: str) -> int:
    if len(digits) > 300:
        raise ValueError("a number has more than 300 digits")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return mapping
