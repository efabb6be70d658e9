"""The OpenAPI document of the server, made from the table of its routes."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from typing import Any, Final, get_args, get_type_hints

from lightflow.server.json_schema import Definitions, schema_of
from lightflow.server.problems import MEDIA_TYPE as PROBLEM_TYPE
from lightflow.server.routing import Handler, Query, Route
from liteflow import __version__

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Problem details, RFC 9457.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "For programs, such as NOT_FOUND or BAD_INPUT."},
        "detail": {"type": "string", "description": "The cause, and the action to take."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "instance": {"type": "string"},
    },
    "required": ["type", "title", "status", "code", "detail"],
}


def document(routes: Sequence[Route], stream: Route, open_routes: Set[tuple[str, str]]) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1)."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: Definitions = {"Problem": _PROBLEM}
    for route in (*routes, stream):
        is_open = (route.method, route.path) in open_routes
        answer = schema_of(answer_type(route.handler), schemas)
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, answer, is_open=is_open)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lightflow",
            "version": __version__,
            "description": "Runs, tasks, logs and pools of one state file. Times are ISO 8601 in UTC, durations "
            "seconds. A list that continues has `after`, the cursor of its next page.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "The request failed.",
                    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


def answer_type(handler: Handler) -> Any:
    """Return the type of the body with which a handler answers."""
    return get_args(get_type_hints(handler)["return"])[0]


def _operation(route: Route, answer: dict[str, Any], *, is_open: bool) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [_parameter(query) for query in route.query]
    if route.takes_key:
        about = "Requests with the same key act once; with other parameters the key is refused."
        parameters.append(
            {"name": "Idempotency-Key", "in": "header", "description": about, "schema": {"type": "string"}}
        )
    content = {route.media_type: {"schema": answer}}
    if route.follows:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    successes = {str(route.status): {"description": route.answers, "content": content}}
    if route.starts:
        successes["202"] = {
            "description": "The run has not started: `status` and `reason` say why, `run_id` is the id it will have.",
            "content": content,
        }
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": operation_id(route),
        "parameters": parameters,
        "x-role": "none" if is_open else route.role,
        "responses": {**successes, "default": {"$ref": "#/components/responses/Problem"}},
    }
    if is_open:
        operation["security"] = []
    if route.body is not None:
        required = bool(route.body.get("required"))
        body = {"application/json": {"schema": dict(route.body)}}
        operation["requestBody"] = {"required": required, "content": body}
    return operation


def operation_id(route: Route) -> str:
    """Return the name of a route: that of its handler, and of an instance's route the name with `_of_instance`."""
    if route.media_type == "text/event-stream":
        return "stream"
    name = route.handler.__name__.strip("_")
    if "{index}" in route.path:
        return f"{name}_of_instance"
    return f"{name}_of_run" if route.path.endswith("/runs/{run}/events") else name


def _parameter(query: Query) -> dict[str, Any]:
    limits = {"default": query.default, "minimum": query.minimum, "maximum": query.maximum}
    schema: dict[str, Any] = {"type": query.kind}
    schema |= {name: value for name, value in limits.items() if value is not None}
    if query.enum:
        schema["enum"] = list(query.enum)
    if query.many:
        schema = {"type": "array", "items": schema}
    return {"name": query.name, "in": "query", "description": query.about, "schema": schema}
