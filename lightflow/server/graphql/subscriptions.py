"""Subscriptions: the live feed and the output of attempts, as server-sent events on the address of GraphQL.

Each result is an event `next`; the stream ends with an event `complete`. An error ends it: after the code `RESET` the
client reads its data again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from graphql import FieldNode, GraphQLError, OperationDefinitionNode
from graphql.execution.values import get_argument_values, get_variable_values
from starlette.concurrency import run_in_threadpool

from lightflow.server.feed import Cursor, FeedPosition
from lightflow.server.frames import dump
from lightflow.server.graphql.context import OperationContext
from lightflow.server.graphql.execution import execute, problem_shape, result_shape
from lightflow.server.graphql.limits import Operation
from lightflow.server.graphql.resolvers import log_source
from lightflow.server.graphql.types import executable_schema
from lightflow.server.logs import LogReader, find_log
from lightflow.server.problems import RequestProblem, problem_of
from lightflow.server.routing import CheckedRequest
from lightflow.server.services import Services
from lightflow.service.json_shapes import Shape
from lightflow.service.lookup import find_instance, find_run
from liteflow import LiteflowError, RunNotFound
from liteflow.api import EventRecord, History, instance_name

_HEARTBEAT_S: Final = 15.0
_LOG_S: Final = 0.1
_WINDOW: Final = 65536
#: Reading continues after the end of an attempt for so long: its last output may arrive later than its verdict.
_LINGER_S: Final = 0.5


def _end(code: str, message: str) -> dict[str, Any]:
    """Return the error that ends a subscription."""
    return {"data": None, "errors": [{"message": message, "extensions": {"code": code}}]}


_ENDING: Final = _end("UNAVAILABLE", "the server ends; follow again once it is back")
_COMPLETE: Final = b"event: complete\ndata: \n\n"
_RESET: Final = _end("RESET", "the position is too old, or of another state file; read the data again")


def open_stream(request: CheckedRequest, operation: Operation) -> AsyncIterator[bytes]:
    """Return the frames of a subscription.

    Raises:
        RequestProblem: an argument is not valid.
    """
    services = request.services
    name, arguments = _field(request, operation)
    if name == "events":
        sources = _events(services, _start(services, arguments), arguments)
    else:
        sources = _log(services, *_log_of(services, arguments), arguments.get("offset"))
    return _frames(request, operation, sources)


def _field(request: CheckedRequest, operation: Operation) -> tuple[str, Mapping[str, Any]]:
    """Return the field of a subscription, and its arguments."""
    schema = executable_schema()
    node = next(each for each in operation.document.definitions if isinstance(each, OperationDefinitionNode))
    values = get_variable_values(schema, node.variable_definitions or (), request.body.get("variables") or {})
    if isinstance(values, list):
        raise RequestProblem(400, "BAD_INPUT", "; ".join(error.message for error in values))
    field = node.selection_set.selections[0]
    if not isinstance(field, FieldNode) or schema.subscription_type is None:
        raise RequestProblem(400, "BAD_INPUT", "name the field of the subscription, without a fragment")
    try:
        arguments = get_argument_values(schema.subscription_type.fields[field.name.value], field, values)
    except GraphQLError as error:
        raise RequestProblem(400, "BAD_INPUT", error.message) from None
    return field.name.value, arguments


async def _frames(
    request: CheckedRequest, operation: Operation, sources: AsyncIterator[Any | None]
) -> AsyncIterator[bytes]:
    try:
        async for source in sources:
            if source is None:
                yield b": alive\n\n"
                continue
            is_end = isinstance(source, dict) and "errors" in source
            yield _next(source if is_end else await run_in_threadpool(_result, request, operation, source))
        yield _COMPLETE
    except LiteflowError as error:  # the state file cannot be read
        problem = problem_of(error)
        assert problem is not None
        yield _next({"data": None, "errors": [problem_shape(problem)]}) + _COMPLETE


def _next(shape: Shape) -> bytes:
    return f"event: next\ndata: {dump(shape)}\n\n".encode()


def _result(request: CheckedRequest, operation: Operation, source: Any) -> dict[str, Any]:
    with History(request.services.db) as history:
        context = OperationContext(request, history, str(request.services.feed.position))
        return result_shape(execute(operation, context, request, source))


# -- events ------------------------------------------------------------------------------------------------------------


def _start(services: Services, arguments: Mapping[str, Any]) -> Cursor | None:
    """Return the cursor at which a client begins; None if it has to read its data again."""
    text = arguments.get("after")
    if text is None:
        return services.feed.end()
    position = FeedPosition.parse(text)
    if position is None:
        raise RequestProblem(400, "BAD_INPUT", "after is not a position of this server")
    return services.feed.cursor(position)


async def _events(
    services: Services, cursor: Cursor | None, arguments: Mapping[str, Any]
) -> AsyncIterator[EventRecord | dict[str, Any] | None]:
    feed, run_id, workflow = services.feed, arguments.get("run"), arguments.get("workflow")
    with feed.waiter() as changed:
        yield None
        while True:
            if feed.is_ending:
                yield _ENDING
                return
            if feed.problem is not None:
                yield _end("STATE_FILE", feed.problem)
                return
            batch = None if cursor is None else feed.after(cursor)
            if batch is None:
                yield _RESET
                return
            cursor = batch.cursor
            events = [change.event for change in batch.changes if run_id in (None, change.event.run_id)]
            if workflow is not None and events:
                events = await run_in_threadpool(_of_workflow, services, workflow, events)
            for event in events:
                yield event
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await changed.wait()
                changed.clear()
            except TimeoutError:
                yield None


def _of_workflow(services: Services, workflow: str, events: list[EventRecord]) -> list[EventRecord]:
    """Return the events of the runs of a workflow, and of runs that are deleted: their workflow is unknown."""
    other_runs = set[str]()
    with History(services.db) as history:
        for run_id in {event.run_id for event in events}:
            with contextlib.suppress(RunNotFound):
                if history.run(run_id).dag_id != workflow:
                    other_runs.add(run_id)
    return [event for event in events if event.run_id not in other_runs]


# -- logs --------------------------------------------------------------------------------------------------------------


def _log_of(services: Services, arguments: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Return the run, the task, the index and the attempt whose output a client follows."""
    index = arguments.get("index")
    with History(services.db) as history:
        run = find_run(history, arguments["run"])
        name = arguments["task"] if index is None else instance_name(arguments["task"], index)
        record = find_instance(history, run, name)
    attempt = arguments.get("attempt") or record.try_number
    find_log(services.db, run.run_id, record.task_id, record.map_index, attempt)  # it exists
    return run.run_id, record.task_id, record.map_index, attempt


async def _log(
    services: Services, run_id: str, task_id: str, map_index: int, attempt: int, offset: int | None
) -> AsyncIterator[dict[str, Any] | None]:
    """Yield windows of a log, until the attempt has ended and all of its output was sent."""
    reader, generation = await run_in_threadpool(find_log, services.db, run_id, task_id, map_index, attempt), -1
    ended_at, beat = None, time.monotonic()
    while True:
        if services.feed.is_ending:
            yield _ENDING
            return
        size, current = reader.state()
        if generation not in (-1, current):
            offset = max(0, size - _WINDOW)  # the middle of the log was cut out
        generation = current
        if offset is None:
            offset = max(0, size - _WINDOW)
        if size > offset:
            window = await run_in_threadpool(reader.window, offset=offset, limit=_WINDOW)
            offset = window.offset + len(window.data)
            beat = time.monotonic()
            yield log_source(window)
            continue
        now = time.monotonic()
        if ended_at is not None and now - ended_at >= _LINGER_S:
            return
        if ended_at is None and await run_in_threadpool(_has_ended, services, run_id, task_id, map_index, attempt):
            ended_at = now
        if now - beat >= _HEARTBEAT_S:
            beat = now
            yield None
        await asyncio.sleep(_LOG_S)
        reader = await run_in_threadpool(_renewed, services, reader, run_id, task_id, map_index, attempt)


def _renewed(
    services: Services, reader: LogReader, run_id: str, task_id: str, map_index: int, attempt: int
) -> LogReader:
    """Return the reader of a log that has a path by now: a task that has printed nothing has none."""
    if reader.state() != (0, 0):
        return reader
    return find_log(services.db, run_id, task_id, map_index, attempt)


def _has_ended(services: Services, run_id: str, task_id: str, map_index: int, attempt: int) -> bool:
    with History(services.db) as history:
        record = history.attempt(run_id, task_id, map_index, attempt)
    return record is not None and record.ended_at is not None
