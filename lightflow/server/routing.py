"""Routes: the handler of a request, the role and the parameters that it needs. OpenAPI is made from the same table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import parse_qsl

from lightflow.parser.messages import message_of
from lightflow.parser.schema_validator import SchemaError, Validator
from lightflow.server.problems import RequestProblem
from lightflow.server.services import Services
from lightflow.server.tokens import Role
from liteflow.api import EMPTY_MAPPING, Record, instance_name

Kind = Literal["string", "integer", "boolean"]
_MOST_QUERY: Final = 50  # parameters of a request
_WHOLE: Final = re.compile(r"-?[0-9]{1,15}\Z")


class Query(Record):
    """A parameter in the query of an address."""

    name: str
    about: str
    kind: Kind = "string"
    default: Any = None
    minimum: int | None = None
    maximum: int | None = None
    enum: tuple[str, ...] = ()
    many: bool = False  #: Whether it may be given more than once; its value is a tuple.

    def read(self, text: str) -> Any:
        """Return the value of a text.

        Raises:
            ValueError: the text is not a value of the parameter; the message completes "NAME …".
        """
        if self.kind == "integer":
            if not _WHOLE.match(text):
                raise ValueError("must be a whole number")
            number = int(text)
            if self.minimum is not None and number < self.minimum:
                raise ValueError(f"must be at least {self.minimum:,}")
            if self.maximum is not None and number > self.maximum:
                raise ValueError(f"must be at most {self.maximum:,}")
            return number
        if self.kind == "boolean":
            if text not in ("true", "false"):
                raise ValueError("must be true or false")
            return text == "true"
        if self.enum and text not in self.enum:
            raise ValueError(f"must be one of {', '.join(self.enum)}")
        return text


Body = TypeVar("Body")


class Answer(Record, Generic[Body]):
    """The result of a handler: a body that JSON can have, of a type with a schema, or bytes with their media type."""

    body: Body
    status: int = 200
    media_type: str = "application/json"
    headers: Mapping[str, str] = EMPTY_MAPPING


class CheckedRequest(Record):
    """A checked request."""

    services: Services
    role: Role
    path: Mapping[str, str]  #: the parts of the path that have names
    query: Mapping[str, Any]
    body: Any = None
    key: str | None = None  #: the value of `Idempotency-Key`
    caller: str = ""  #: who sent it, for the history


Handler = Callable[[CheckedRequest], Answer[Any]]


class Route(Record):
    """A method and a path, and what they do."""

    method: str
    path: str  #: `/api/v1/runs/{run}`: a name in braces is one part of the path
    handler: Handler
    summary: str
    role: Role = "viewer"
    query: tuple[Query, ...] = ()
    body: Mapping[str, Any] | None = None  #: the JSON Schema of the body; None: the request has none
    answers: str = "The result."  #: what a successful answer holds
    media_type: str = "application/json"
    status: int = 200
    starts: bool = False  #: Whether it starts a run: its answer is 202 where the run has not started yet.
    follows: bool = False  #: Whether it may answer with server-sent events, too.
    takes_key: bool = False  #: Whether a request with the same `Idempotency-Key` acts once.


class RouteTable:
    """Finds the route of a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._patterns = [(re.compile(_pattern(route.path)), route) for route in routes]

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
        """Return the route of a request and the named parts of its path, decoded.

        Raises:
            RequestProblem: no route has this path (404), or not with this method (405).
        """
        methods = set[str]()
        for pattern, route in self._patterns:
            match = pattern.fullmatch(raw_path)
            if match is None:
                continue
            if route.method == method:
                return route, {name: _decoded(part) for name, part in match.groupdict().items()}
            methods.add(route.method)
        if methods:
            allowed = ", ".join(sorted(methods))
            raise RequestProblem(
                405, "BAD_INPUT", f"{method} is not allowed here; use {allowed}", headers={"Allow": allowed}
            )
        raise RequestProblem(404, "NOT_FOUND", "no such address; GET /api/v1/openapi.json lists all of them")


def _pattern(path: str) -> str:
    parts = re.split(r"\{(\w+)\}", path)
    return "".join(f"(?P<{part}>[^/]+)" if number % 2 else re.escape(part) for number, part in enumerate(parts))


_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")


def _decoded(part: str) -> str:
    """Return a part of a path without percent encoding.

    Raises:
        RequestProblem: it holds bytes that are not UTF-8, or control characters.
    """
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), part)
    try:
        text = raw.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise RequestProblem(400, "BAD_INPUT", "the address is not UTF-8") from None
    if not text.isprintable() or len(text) > 512:
        raise RequestProblem(404, "NOT_FOUND", "no such address")
    return text


def read_query(route: Route, text: str) -> dict[str, Any]:
    """Return the parameters of a query.

    Raises:
        RequestProblem: one is unknown, given twice, or has no valid value. All mistakes are reported together.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict")
    except ValueError:
        raise RequestProblem(400, "BAD_INPUT", "the query of the address cannot be read") from None
    if len(pairs) > _MOST_QUERY:
        raise RequestProblem(400, "BAD_INPUT", f"the query has more than {_MOST_QUERY} parameters")
    declared = {query.name: query for query in route.query}
    values: dict[str, Any] = {query.name: () if query.many else query.default for query in route.query}
    mistakes, given_names = dict[str, str](), set[str]()
    for name, value in pairs:
        query = declared.get(name)
        if query is None:
            takes = ", ".join(declared) or "none"
            mistakes[name[:100]] = f"is unknown here; the parameters are: {takes}"
        elif name in given_names and not query.many:
            mistakes[name] = "is given twice"
        else:
            given_names.add(name)
            try:
                values[name] = (*values[name], query.read(value)) if query.many else query.read(value)
            except ValueError as error:
                mistakes[name] = str(error)
    if mistakes:
        detail = "; ".join(f"{name} {message}" for name, message in mistakes.items())
        raise RequestProblem(400, "BAD_INPUT", detail, fields=mistakes)
    return values


def check_body(body: Any, schema: Mapping[str, Any]) -> None:
    """Check the body of a request, also of one that an operation of GraphQL makes.

    Raises:
        RequestProblem: it breaks the schema. All mistakes are reported together.
    """
    errors = Validator(schema).errors(body)
    if errors:
        fields = dict(map(_mistake, errors))
        detail = "; ".join(f"{name}: {message}" for name, message in fields.items())
        raise RequestProblem(422, "BAD_INPUT", detail, fields=fields)


def _mistake(error: SchemaError) -> tuple[str, str]:
    """Return the field and the message of a value that breaks a schema."""
    if error.keyword == "additionalProperties":
        return error.names[0], "is unknown here"
    if error.keyword == "required":
        return error.names[0], "is missing"
    return ".".join(map(str, error.path)) or "body", message_of(error, list(error.path))


def is_request_key(text: str) -> bool:
    """Return whether a text may identify a request, as `Idempotency-Key` does."""
    return 1 <= len(text) <= 200 and text.isascii() and text.isprintable()


def name_in_path(request: CheckedRequest) -> str:
    """Return the name of the task or the instance in the path."""
    index = request.path.get("index")
    if index is None:
        return request.path["task"]
    if not (index.isascii() and index.isdecimal() and len(index) <= 9):
        raise RequestProblem(404, "NOT_FOUND", f"{index!r} is not the index of an instance")
    return instance_name(request.path["task"], int(index))
