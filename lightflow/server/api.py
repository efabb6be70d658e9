"""The table of routes of `/api/v1`. `openapi` is made from it, and the tests walk it."""

from __future__ import annotations

from typing import Any, Final

from lightflow.server import actions, resources, run_details
from lightflow.server.answers import OperationAnswer
from lightflow.server.bodies import BODIES
from lightflow.server.metrics import MEDIA_TYPE as METRICS_TYPE
from lightflow.server.openapi import document
from lightflow.server.routing import Answer, CheckedRequest, Query, Route, RouteTable
from lightflow.service import queries
from liteflow import __version__
from liteflow.api import FIRE_STATUSES, RUN_STATUSES, TASK_STATUSES

_RUN: Final = "/api/v1/runs/{run}"
_TASK: Final = f"{_RUN}/tasks/{{task}}"
_WORKFLOW: Final = "/api/v1/workflows/{workflow}"
_TRIGGER: Final = "/api/v1/triggers/{trigger}"


def _limit(default: int, most: int) -> Query:
    return Query(name="limit", about="The most entries.", kind="integer", default=default, minimum=1, maximum=most)


_AFTER: Final = Query(name="after", about="The cursor at the end of the previous page.")
_RUNS: Final = Query(name="runs", about="How many runs.", kind="integer", default=14, minimum=0, maximum=100)
_OPERATION: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "The operation, in the language of GraphQL."},
        "variables": {"type": ["object", "null"]},
        "operationName": {"type": ["string", "null"], "maxLength": 200},
    },
    "required": ["query"],
    "additionalProperties": False,
}
_LOG_QUERY: Final = (
    Query(name="offset", about="The first byte.", kind="integer", default=0, minimum=0),
    Query(name="from", about="Where the window begins.", default="offset", enum=("offset", "end")),
    Query(name="limit", about="The most bytes.", kind="integer", default=65536, minimum=1, maximum=1024 * 1024),
    Query(name="find", about="Begin at the next line with this text, from `offset` on."),
)
_ATTEMPTS_QUERY: Final = (
    Query(name="attempts", about="The most attempts.", kind="integer", default=1000, minimum=0, maximum=100_000),
    Query(name="before", about="Only attempts before this one.", kind="integer", minimum=1),
)
_LAST_ATTEMPTS_QUERY: Final = (
    Query(
        name="attempts",
        about="The most attempts of each.",
        kind="integer",
        default=queries.ATTEMPTS_OF_EACH,
        minimum=1,
        maximum=queries.MOST_ATTEMPTS,
    ),
)
_FOLD_QUERY: Final = (
    Query(
        name="fold",
        about="Which groups and stacks of alike tasks are one box; `auto` folds what is large.",
        default="auto",
        enum=("auto", "none", "all"),
    ),
    Query(name="toggled", about="Groups and stacks in the other state, separated by commas."),
)
_INSTANCES_QUERY: Final = (
    Query(name="status", about="Only these states.", enum=tuple(TASK_STATUSES), many=True),
    Query(name="label", about="Only instances whose label contains this text."),
    Query(name="order", about="The order.", default="failures", enum=("failures", "index", "duration")),
    _AFTER,
    _limit(100, 100_000),
)


def _health(request: CheckedRequest) -> Answer[bytes]:
    """Return that the server answers; it shows no data."""
    return Answer(body=b"ok\n", media_type="text/plain; charset=utf-8")


def _metrics(request: CheckedRequest) -> Answer[bytes]:
    """Return the metrics of the server and of the state file."""
    services = request.services
    text = services.metrics.text(services.db, __version__, services.feed.position.generation)
    return Answer(body=text.encode(), media_type=METRICS_TYPE)


def _openapi(request: CheckedRequest) -> Answer[dict[str, Any]]:
    """Return the description of all routes."""
    return Answer(body=document(ROUTES, STREAM, OPEN_ROUTES))


def _stream(request: CheckedRequest) -> Answer[bytes]:
    """Follow the live feed, as server-sent events."""
    raise NotImplementedError  # `stream` answers: the answer has no end


def _graphql(request: CheckedRequest) -> Answer[OperationAnswer]:
    """Execute a GraphQL operation; a subscription is answered as server-sent events."""
    from lightflow.server.graphql.endpoint import answer  # graphql-core takes 0.1 s to import

    return answer(request)


def _route(method: str, path: str, handler: Any, **options: Any) -> Route:
    """Return a route whose summary is the first line of its handler's docstring."""
    summary = (handler.__doc__ or "").strip().partition("\n")[0]
    body = options.pop("body", BODIES.get(handler))
    return Route(method=method, path=path, handler=handler, summary=summary, body=body, **options)


ROUTES: Final[tuple[Route, ...]] = (
    _route("GET", "/healthz", _health, media_type="text/plain"),
    _route("GET", "/metrics", _metrics, media_type="text/plain"),
    _route("GET", "/api/v1/openapi.json", _openapi),
    _route("POST", "/api/v1/login", actions.login),
    _route("POST", "/api/v1/codes", actions.make_code, status=201),
    _route("GET", "/api/v1/whoami", resources.whoami),
    _route("GET", "/api/v1/system", resources.get_system),
    _route("GET", "/api/v1/workflows", resources.list_workflows, query=(_RUNS,)),
    _route("GET", _WORKFLOW, resources.get_workflow, query=(_RUNS,)),
    _route("GET", f"{_WORKFLOW}/geometry", resources.get_workflow_geometry, query=_FOLD_QUERY),
    _route("GET", f"{_WORKFLOW}/grid", resources.get_grid, query=(_RUNS, _AFTER)),
    _route("GET", f"{_WORKFLOW}/source", resources.get_source),
    _route(
        "GET",
        f"{_WORKFLOW}/durations",
        run_details.list_durations,
        query=(
            Query(name="task", about="Only this task."),
            Query(name="runs", about="How many runs.", kind="integer", default=50, minimum=1, maximum=200),
        ),
    ),
    _route("POST", f"{_WORKFLOW}/check", actions.check_params),
    _route("POST", f"{_WORKFLOW}/runs", actions.start_run, role="operator", starts=True, status=201, takes_key=True),
    _route("PUT", f"{_WORKFLOW}/pause", actions.pause_workflow, role="operator"),
    _route("DELETE", f"{_WORKFLOW}/pause", actions.unpause_workflow, role="operator"),
    _route(
        "GET",
        "/api/v1/runs",
        resources.list_runs,
        query=(
            Query(name="workflow", about="Only runs of this workflow."),
            Query(name="status", about="Only runs in these states.", enum=tuple(RUN_STATUSES), many=True),
            Query(name="text", about="Only runs with this text in their id, their parameters or their reason."),
            Query(name="trigger", about="Only runs that this trigger started; `NAME:manual` for starts by hand."),
            Query(name="since", about="Only runs from this moment on, such as `2026-01-31T02:30:00Z`."),
            Query(name="until", about="Only runs before this moment."),
            Query(name="all", about="Whether child runs are listed, too.", kind="boolean", default=False),
            _AFTER,
            _limit(50, 500),
        ),
    ),
    _route("GET", "/api/v1/events", resources.list_events, query=(_AFTER, _limit(1000, 5000))),
    _route("GET", _RUN, resources.get_run),
    _route("GET", f"{_RUN}/start", run_details.get_start),
    _route("GET", f"{_RUN}/tasks", resources.list_tasks),
    _route("GET", f"{_RUN}/attempts", resources.list_attempts, query=_LAST_ATTEMPTS_QUERY),
    _route("GET", f"{_RUN}/graph", resources.get_graph),
    _route("GET", f"{_RUN}/geometry", resources.get_geometry, query=_FOLD_QUERY),
    _route("GET", f"{_RUN}/critical-path", resources.get_critical_path),
    _route("GET", f"{_RUN}/waits", run_details.list_waits),
    _route("GET", f"{_RUN}/groups", run_details.list_groups),
    _route("GET", f"{_RUN}/children", run_details.list_children, query=(_AFTER, _limit(100, 500))),
    _route("GET", f"{_RUN}/forks", run_details.list_forks, query=(_AFTER, _limit(100, 500))),
    _route(
        "GET",
        f"{_RUN}/rerun",
        run_details.preview_rerun,
        query=(
            Query(name="task", about="A task that runs again, as in a retry.", many=True),
            Query(name="only", about="Whether what follows the tasks stays.", kind="boolean", default=False),
        ),
    ),
    _route("GET", f"{_RUN}/diff/{{other}}", run_details.compare_runs),
    _route("GET", f"{_RUN}/events", resources.list_events, query=(_AFTER, _limit(1000, 5000))),
    _route("GET", f"{_RUN}/values", resources.list_values),
    _route("GET", f"{_RUN}/values/{{task}}/{{key}}", resources.get_value),
    _route("GET", f"{_RUN}/values/{{task}}/{{index}}/{{key}}", resources.get_value),
    _route("POST", f"{_RUN}/cancel", actions.cancel_run, role="operator", status=202),
    _route("POST", f"{_RUN}/resume", actions.resume_run, role="operator", starts=True, status=201, takes_key=True),
    _route("POST", f"{_RUN}/retry", actions.retry_run, role="operator", starts=True, status=201, takes_key=True),
    _route("POST", f"{_RUN}/fork", actions.fork_run, role="operator", starts=True, status=201, takes_key=True),
    _route("POST", f"{_RUN}/again", actions.start_again, role="operator", starts=True, status=201, takes_key=True),
    _route("POST", f"{_RUN}/clear", actions.clear_tasks, role="operator"),
    _route("POST", f"{_RUN}/mark", actions.mark_tasks, role="operator"),
    _route("GET", _TASK, resources.get_task, query=_ATTEMPTS_QUERY),
    _route("POST", f"{_TASK}/decision", actions.decide, role="operator"),
    _route("POST", f"{_TASK}/{{index}}/decision", actions.decide, role="operator"),
    _route("GET", f"{_TASK}/why", resources.get_why),
    _route("GET", f"{_TASK}/instances", resources.list_instances, query=_INSTANCES_QUERY),
    _route("GET", f"{_TASK}/attempts/{{attempt}}/log", resources.get_log, query=_LOG_QUERY, media_type="text/plain"),
    _route("GET", f"{_TASK}/{{index}}", resources.get_task, query=_ATTEMPTS_QUERY),
    _route("GET", f"{_TASK}/{{index}}/why", resources.get_why),
    _route(
        "GET",
        f"{_TASK}/{{index}}/attempts/{{attempt}}/log",
        resources.get_log,
        query=_LOG_QUERY,
        media_type="text/plain",
    ),
    _route(
        "GET",
        "/api/v1/triggers",
        resources.list_triggers,
        query=(Query(name="workflow", about="Only triggers of this workflow."),),
    ),
    _route("GET", f"{_TRIGGER}/next", resources.list_planned, query=(_limit(10, 1000),)),
    _route(
        "POST",
        f"{_TRIGGER}/fire",
        actions.fire_trigger,
        role="operator",
        starts=True,
        status=201,
        takes_key=True,
    ),
    _route("PUT", f"{_TRIGGER}/pause", actions.pause_trigger, role="operator"),
    _route("DELETE", f"{_TRIGGER}/pause", actions.unpause_trigger, role="operator"),
    _route(
        "GET",
        "/api/v1/fires",
        resources.list_fires,
        query=(
            Query(name="workflow", about="Only fires of this workflow, those by request too."),
            Query(name="trigger", about="Only fires of this trigger; `NAME:manual` for starts by request."),
            Query(name="status", about="Only fires in these states.", enum=FIRE_STATUSES, many=True),
            _AFTER,
            _limit(50, 1000),
        ),
    ),
    _route("POST", "/api/v1/wake", actions.wake_runs, role="operator"),
    _route("POST", "/api/v1/prune", actions.prune, role="operator"),
    _route("GET", "/api/v1/pools", resources.list_pools),
    _route("PUT", "/api/v1/pools/{pool}", actions.set_pool, role="operator"),
    _route("DELETE", "/api/v1/pools/{pool}", actions.delete_pool, role="operator"),
    _route("POST", "/graphql", _graphql, body=_OPERATION, follows=True),
)
TABLE: Final = RouteTable(ROUTES)
#: The stream is answered by `stream`, not by its handler: its answer has no end.
STREAM: Final = _route(
    "GET",
    "/api/v1/stream",
    _stream,
    query=(
        Query(name="topics", about="Topics, separated by commas: `runs`, `run:ID`, `log:RUN:TASK:INDEX:ATTEMPT`."),
        Query(name="as_of", about="The position of the client's snapshot; `Last-Event-ID` wins over it."),
    ),
    answers="Events `change`, `log` and `reset`; the id of a frame is its position.",
    media_type="text/event-stream",
)
#: The routes without a token.
OPEN_ROUTES: Final = frozenset({("GET", "/healthz"), ("POST", "/api/v1/login")})
