"""Checks an operation, executes it, and gives its result the form of JSON. A traceback is in the server's log only."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Final

from graphql import ExecutionResult, GraphQLError, execute_sync, validate

from lightflow.server.graphql.context import OperationContext
from lightflow.server.graphql.limits import MOST_BYTES, Operation, read_operation
from lightflow.server.graphql.types import executable_schema
from lightflow.server.problems import RequestProblem, problem_of
from lightflow.server.routing import CheckedRequest
from lightflow.service.json_shapes import Shape

_MOST_ERRORS: Final = 10
_log = logging.getLogger("lightflow.server")


def checked_operation(request: CheckedRequest) -> Operation:
    """Return the operation of a request, which fits the schema and the role of the caller.

    Raises:
        RequestProblem: it does not, or exceeds a limit.
    """
    variables = request.body.get("variables") or {}
    if len(request.body["query"].encode()) + len(json.dumps(variables)) > MOST_BYTES:
        raise RequestProblem(413, "TOO_COSTLY", f"the request has more than {MOST_BYTES:,} bytes")
    operation = read_operation(request.body["query"], variables, request.body.get("operationName"))
    if operation.introspects and request.role != "operator":
        raise RequestProblem(403, "FORBIDDEN", "only an operator may read the schema; it is in the documentation, too")
    errors = validate(executable_schema(), operation.document, max_errors=_MOST_ERRORS)
    if errors:
        raise RequestProblem(400, "BAD_INPUT", "; ".join(error.message for error in errors))
    return operation


def execute(
    operation: Operation, context: OperationContext, request: CheckedRequest, root: object = None
) -> ExecutionResult:
    """Execute a checked operation."""
    result = execute_sync(
        executable_schema(),
        operation.document,
        root_value=root,
        context_value=context,
        variable_values=request.body.get("variables") or {},
        operation_name=operation.name,
    )
    assert isinstance(result, ExecutionResult)
    return result


def result_shape(result: ExecutionResult) -> Shape:
    """Return a result as JSON has it."""
    shape: Shape = {"data": result.data}
    if result.errors:
        shape["errors"] = [_error_shape(error) for error in result.errors[:_MOST_ERRORS]]
    return shape


def _error_shape(error: GraphQLError) -> Shape:
    original = error.original_error
    if original is None or error.path is None:  # no field was reached: a variable is not valid
        return {"message": error.message, "path": error.path, "extensions": {"code": "BAD_INPUT"}}
    problem = problem_of(original) if isinstance(original, Exception) else None
    if problem is None:
        identity = secrets.token_hex(8)
        _log.error("error %s", identity, exc_info=original)
        problem = RequestProblem(500, "INTERNAL", f"a defect of the server; its log has the error {identity}")
    return {**problem_shape(problem), "path": error.path}


def problem_shape(problem: RequestProblem) -> Shape:
    """Return a problem of a request as an error of GraphQL."""
    return {"message": problem.detail, "extensions": {"code": problem.code}}
