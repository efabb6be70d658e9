"""`POST /graphql`: one operation in each request, within the limits, two at a time.

Errors that a request has as a whole are answered with the status 400 (or 403, 503); errors of fields with 200, next to
the data of the other fields. `extensions.code` is for programs.
"""

from __future__ import annotations

import threading
from typing import Any

from graphql import ExecutionResult, OperationType

from lightflow.server.feed import FeedPosition
from lightflow.server.graphql.context import MUTATION_S, QUERY_S, OperationContext
from lightflow.server.graphql.execution import checked_operation, execute, problem_shape, result_shape
from lightflow.server.graphql.limits import Operation
from lightflow.server.graphql.subscriptions import open_stream
from lightflow.server.problems import RequestProblem
from lightflow.server.routing import Answer, CheckedRequest
from liteflow.api import History

#: Queries that run at the same time: they compute, and the other routes need the processor too.
_places = threading.BoundedSemaphore(2)


def answer(request: CheckedRequest) -> Answer[Any]:
    """Execute an operation; the answer to a subscription is a stream."""
    try:
        operation = checked_operation(request)
        if operation.kind is OperationType.SUBSCRIPTION:
            return Answer(body=open_stream(request, operation), media_type="text/event-stream")
        if operation.kind is OperationType.MUTATION:
            return _answer(_execute(request, operation))
        if not _places.acquire(timeout=QUERY_S):
            raise RequestProblem(503, "TIMEOUT", "too many requests at the same time; send it again later")
        try:
            result = _execute(request, operation)
        finally:
            _places.release()
    except RequestProblem as problem:
        return Answer(body={"errors": [problem_shape(problem)]}, status=problem.status)
    return _answer(result)


def _answer(result: ExecutionResult) -> Answer[Any]:
    reached_no_field = bool(result.errors) and all(error.path is None for error in result.errors or ())
    return Answer(body=result_shape(result), status=400 if reached_no_field else 200)


def _execute(request: CheckedRequest, operation: Operation) -> ExecutionResult:
    services = request.services
    with History(services.db) as history:
        if operation.kind is OperationType.MUTATION:  # it reads what it has just written
            context = OperationContext(request, history, str(services.feed.position), MUTATION_S)
            return execute(operation, context, request)
        with history.snapshot() as position:
            as_of = str(FeedPosition(services.feed.position.generation, *position))
            return execute(operation, OperationContext(request, history, as_of), request)
