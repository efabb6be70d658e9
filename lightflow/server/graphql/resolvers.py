"""The resolvers of the fields that read. Each takes the object, the context of the operation and the arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from lightflow.server.answers import ApprovalShape
from lightflow.server.feed import FeedPosition
from lightflow.server.graphql.context import OperationContext
from lightflow.server.graphql.paging import (
    Connection,
    checked_first,
    connection,
    decode_cursor,
    decode_number,
)
from lightflow.server.logs import find_log
from lightflow.server.problems import RequestProblem
from lightflow.server.shapes import approval_shape, scheduler_shape, schema_without_values
from lightflow.service import explanations, pools, queries
from lightflow.service.json_shapes import iso, output_shape, place_shapes, pool_shape
from lightflow.service.lookup import find_instance, find_run, machines_of, mode_of, with_span
from lightflow.service.shape_types import PoolShape
from liteflow import RunNotFound, __version__
from liteflow.api import (
    AttemptRecord,
    DagRecord,
    EventRecord,
    History,
    InstanceRecord,
    Record,
    RunConditions,
    RunRecord,
    critical_path_of,
    day_text,
    instance_name,
    open_approvals,
)

Resolver = Callable[..., Any]
_MOMENT_S: Final = 0.001  # DateTime has milliseconds
_PAGE: Final = 200  # tasks that are read at once where a filter passes some over
_LARGEST_VALUE: Final = 65536
_LAST_INDEX: Final = 2**31
_ORDERS: Final = ("failures", "index", "duration")


class WorkflowNode(Record):
    """A workflow that has run, or that the server serves, or both."""

    name: str
    dag: DagRecord | None
    served: Any = None


class RunTask:
    """A task instance of a run."""

    def __init__(self, *, run: RunRecord, record: InstanceRecord) -> None:
        self.run = run
        self.record = record
        self._with_span: InstanceRecord | None = None

    def with_span(self, history: History) -> InstanceRecord:
        """Return the record; a mapped task has the times of its instances, which are read once."""
        if self._with_span is None:
            self._with_span = with_span(history, self.run, self.record)
        return self._with_span


class RunAttempt(Record):
    """An attempt of a task instance of a run."""

    run: RunRecord
    record: AttemptRecord


# -- workflows ---------------------------------------------------------------------------------------------------------


def _workflows(context: OperationContext) -> dict[str, WorkflowNode]:
    control = context.services.control
    nodes = {dag.dag_id: WorkflowNode(name=dag.dag_id, dag=dag) for dag in context.history.dags()}
    for served in control.workflows() if control is not None else ():
        dag = nodes[served.name].dag if served.name in nodes else None
        nodes[served.name] = WorkflowNode(name=served.name, dag=dag, served=served)
    return nodes


def list_workflows(
    _: object, context: OperationContext, first: int | None = None, after: str | None = None, search: str | None = None
) -> Connection:
    """Return a page of the workflows, by name."""
    size, last = checked_first(first, 50), decode_cursor(after)
    nodes = _workflows(context)
    names = [name for name in sorted(nodes) if (last is None or name > last) and (search or "") in name]
    page = [nodes[name] for name in names[: size + 1]]
    return connection(page, size, context.as_of, lambda node: node.name)


def get_workflow(_: object, context: OperationContext, name: str) -> WorkflowNode | None:
    """Return a workflow, or nothing."""
    return _workflows(context).get(name)


def runs_of_workflow(
    node: WorkflowNode, context: OperationContext, first: int | None = None, after: str | None = None
) -> Connection:
    """Return a page of the runs of a workflow."""
    return list_runs(node, context, first=first, after=after, workflow=node.name)


# -- runs --------------------------------------------------------------------------------------------------------------


class RunSelection(Record):
    """The arguments that select runs, by their names in the schema."""

    workflow: str | None = None
    state: Sequence[str] | None = None
    since: float | None = None
    until: float | None = None
    all: bool | None = False  #: whether child runs are listed, too


def list_runs(
    _: object, context: OperationContext, first: int | None = None, after: str | None = None, **selected: Any
) -> Connection:
    """Return a page of runs, the newest first; `selected` are the fields of a `RunSelection`."""
    size, rule = checked_first(first, 50), RunSelection(**selected)
    runs = context.history.runs(
        rule.workflow,
        limit=size + 1,
        before=decode_number(after),
        with_children=bool(rule.all),
        matching=RunConditions(
            statuses=tuple(rule.state or ()),
            since=rule.since,
            until=None if rule.until is None else rule.until + _MOMENT_S,
        ),
    )
    return connection(runs, size, context.as_of, lambda run: run.run_no)


def get_run(_: object, context: OperationContext, id: str) -> RunRecord | None:  # noqa: A002 - the name of the argument
    """Return a run by its id or the beginning of it, or nothing."""
    try:
        return find_run(context.history, id)
    except RunNotFound:
        return None


def _list_related(read: Callable[..., list[RunRecord]]) -> Resolver:
    """Return a resolver of the runs that belong to a run, the oldest first."""

    def resolve(
        run: RunRecord, context: OperationContext, first: int | None = None, after: str | None = None
    ) -> Connection:
        size = checked_first(first, 50)
        runs = read(context.history, run.run_id, after=decode_number(after) or 0, limit=size + 1)
        return connection(runs, size, context.as_of, lambda each: each.run_no)

    return resolve


def _params_schema(node: WorkflowNode, context: OperationContext) -> Any:
    if node.served is None:
        return None
    schema = node.served.params_schema
    return schema_without_values(schema) if context.services.hides_values else schema


def _counts(run: RunRecord, context: OperationContext) -> list[dict[str, Any]]:
    return [{"state": state, "number": number} for state, number in sorted(context.history.counts(run.run_id).items())]


def _owner(run: RunRecord, _: OperationContext) -> dict[str, Any] | None:
    return None if run.owner_pid is None else {"pid": run.owner_pid, "host": run.owner_host}


def _critical_path(run: RunRecord, context: OperationContext) -> list[str]:
    return critical_path_of(context.history, run, time.time())


def list_tasks(
    run: RunRecord,
    context: OperationContext,
    first: int | None = None,
    after: str | None = None,
    state: Sequence[str] | None = None,
) -> Connection:
    """Return a page of the tasks of a run, by id; a mapped task is one of them."""
    size, nodes = checked_first(first, 100), list[RunTask]()
    for record in _tasks(context, run, decode_cursor(after)):
        if state and record.status not in state:
            continue
        nodes.append(RunTask(run=run, record=record))
        if len(nodes) > size:
            break
    return connection(nodes, size, context.as_of, lambda node: node.record.task_id)


def _tasks(context: OperationContext, run: RunRecord, last: str | None) -> Iterator[InstanceRecord]:
    """Yield the tasks of a run after a task. The instances of mapped tasks are jumped over."""
    after = None if last is None else (last, _LAST_INDEX)
    while True:
        page = context.history.instances(run.run_id, after=after, limit=_PAGE)
        after = None
        for record in page:
            if record.map_index >= 0:
                after = (record.task_id, _LAST_INDEX)
                break
            yield record
        if after is None:
            if len(page) < _PAGE:
                return
            after = (page[-1].task_id, page[-1].map_index)
        context.check_time()


def get_task(
    run: RunRecord,
    context: OperationContext,
    id: str,  # noqa: A002 - the name of the argument
    index: int | None = None,
) -> RunTask | None:
    """Return a task of a run, or an instance of it, or nothing."""
    try:
        name = id if index is None else instance_name(id, index)
        record = find_instance(context.history, run, name)
        return RunTask(run=run, record=record)
    except RunNotFound:
        return None


def list_events(
    run: RunRecord, context: OperationContext, first: int | None = None, after: str | None = None
) -> Connection:
    """Return a page of the events of a run, the oldest first."""
    size = checked_first(first, 100)
    events = context.history.events(run.run_id, after=decode_number(after) or 0, limit=size + 1)
    return connection(events, size, context.as_of, lambda event: event.seq)


def as_of_event(event: EventRecord, context: OperationContext) -> str:
    """Return the position of the feed after an event."""
    return str(FeedPosition(context.services.feed.position.generation, event.seq, 0))


# -- tasks -------------------------------------------------------------------------------------------------------------


def _last_attempts(
    node: RunTask, context: OperationContext, last: int | None = None, before: int | None = None
) -> list[RunAttempt]:
    size, place = checked_first(last, 10, "last"), (node.record.task_id, node.record.map_index)
    after = None if before is None else (*place, before)
    attempts = context.history.attempts(node.run.run_id, *place, after=after, limit=size, newest_first=True)
    return [RunAttempt(run=node.run, record=attempt) for attempt in reversed(attempts)]


def list_instances(
    node: RunTask,
    context: OperationContext,
    *,
    first: int | None = None,
    after: str | None = None,
    state: Sequence[str] | None = None,
    order_by: str | None = None,
) -> Connection:
    """Return a page of the instances of a mapped task."""
    size, offset, order = checked_first(first, 100), decode_number(after) or 0, order_by or "failures"
    if order not in _ORDERS:
        raise RequestProblem(400, "BAD_INPUT", f"orderBy must be one of {', '.join(_ORDERS)}")
    page = context.history.instance_page(
        node.run.run_id, node.record.task_id, statuses=tuple(state or ()), order=order, offset=offset, limit=size + 1
    )
    nodes = [RunTask(run=node.run, record=record) for record in page]
    places = {id(each): offset + number for number, each in enumerate(nodes, 1)}
    return connection(nodes, size, context.as_of, lambda each: places[id(each)])


def _of_span(attribute: str) -> Resolver:
    """Return a resolver that reads a time of a task; a mapped one has those of its instances."""
    return lambda node, context: getattr(node.with_span(context.history), attribute)


def _name(node: RunTask) -> str:
    return instance_name(node.record.task_id, node.record.map_index)


def _values(node: RunTask, context: OperationContext) -> list[dict[str, Any]]:
    outputs = queries.outputs(context.services.db, node.run.run_id, _name(node), largest=_LARGEST_VALUE)
    return [{"key": shape["key"], "content": shape["value"]} for shape in map(output_shape, outputs.values)]


def _approval(node: RunTask, context: OperationContext) -> ApprovalShape | None:
    if node.record.status != "WAITING":
        return None
    name, index = node.record.task_id, node.record.map_index
    found_approvals = open_approvals(context.history, node.run, name)
    approval = next((each for each in found_approvals if each.map_index == index), None)
    return None if approval is None else approval_shape(approval)


def _why(node: RunTask, context: OperationContext) -> list[str]:
    return list(explanations.why(context.services.db, node.run.run_id, _name(node)).because)


def _log(
    node: RunAttempt, context: OperationContext, offset: int | None = None, limit: int | None = None
) -> dict[str, Any]:
    most = 65536 if limit is None else limit
    if not 1 <= most <= 1024 * 1024 or (offset or 0) < 0:
        raise RequestProblem(400, "BAD_INPUT", "limit must be from 1 to 1,048,576, and offset at least 0")
    record = node.record
    reader = find_log(context.services.db, node.run.run_id, record.task_id, record.map_index, record.attempt)
    window = reader.window(offset=offset or 0, limit=most, from_end=offset is None)
    return log_source(window)


def log_source(window: Any) -> dict[str, Any]:
    """Return a window of a log; bytes that are not UTF-8 are replaced."""
    return {
        "text": window.data.decode("utf-8", "replace"),
        "offset": window.offset,
        "size": float(window.size),
        "generation": float(window.generation),
    }


# -- pools and the server ----------------------------------------------------------------------------------------------


def list_pools(_: object, context: OperationContext) -> list[PoolShape]:
    """Return the pools."""
    return [pool_shape(view) for view in pools.overview(context.services.db)]


def get_pool(context: OperationContext, name: str) -> PoolShape | None:
    """Return a pool, or nothing."""
    return next((pool for pool in list_pools(None, context) if pool["pool"] == name), None)


def _system(_: object, context: OperationContext) -> dict[str, Any]:
    services = context.services
    return {
        "version": __version__,
        "problem": services.feed.problem,
        "uptimeSeconds": round(services.uptime_s, 3),
        "readOnly": services.is_read_only,
        "startsRuns": services.control is not None,
        "scheduler": None if services.control is None else scheduler_shape(services.control.scheduler_state()),
        "asOf": context.as_of,
    }


def _whoami(_: object, context: OperationContext) -> dict[str, Any]:
    return {"role": context.request.role, "readOnly": context.services.is_read_only}


# -- the table ---------------------------------------------------------------------------------------------------------


def of(attribute: str) -> Resolver:
    """Return a resolver that reads an attribute."""
    return lambda source, context: getattr(source, attribute)


def shown(resolver: Resolver, hidden: Any = None) -> Resolver:
    """Return a resolver of what may hold values: `hidden` where the server hides them."""
    return lambda source, context, **arguments: (
        hidden if context.services.hides_values else resolver(source, context, **arguments)
    )


def _of_record(attribute: str) -> Resolver:
    """Return a resolver that reads an attribute of the record of a node."""
    return lambda source, context: getattr(source.record, attribute)


def _key(name: str) -> Resolver:
    """Return a resolver that reads a key of a mapping."""
    return lambda source, context: source[name]


def _keys(*names: str) -> dict[str, Resolver]:
    return {name: _key(name) for name in names}


def _index(map_index: int | None) -> int | None:
    return None if map_index is None or map_index < 0 else map_index


CONNECTION: Final[Mapping[str, Resolver]] = {"nodes": of("nodes"), "pageInfo": of("page_info")}
#: The resolver of each field, by type.
RESOLVERS: Final[dict[str, Mapping[str, Resolver]]] = {
    "Query": {
        "workflows": list_workflows,
        "workflow": get_workflow,
        "runs": list_runs,
        "run": get_run,
        "pools": list_pools,
        "system": _system,
        "whoami": _whoami,
    },
    "PageInfo": {"endCursor": of("end_cursor"), "hasNextPage": of("has_next_page"), "asOf": of("as_of")},
    **dict.fromkeys(("WorkflowConnection", "RunConnection", "TaskConnection", "EventConnection"), CONNECTION),
    "Workflow": {
        "name": of("name"),
        "description": lambda node, _: node.dag.description if node.dag is not None else node.served.description,
        "source": lambda node, _: node.dag.source if node.dag is not None else node.served.file,
        "served": lambda node, _: node.served is not None,
        "problem": lambda node, _: None if node.served is None else node.served.problem,
        "pausedBy": lambda node, _: None if node.served is None else node.served.paused_by,
        "params": _params_schema,
        "runs": runs_of_workflow,
    },
    "Run": {
        "id": of("run_id"),
        "workflow": of("dag_id"),
        "state": of("status"),
        "reason": shown(of("reason")),
        "params": shown(of("params")),
        "logicalDate": lambda run, _: None if run.logical_date is None else day_text(run.logical_date),
        "createdAt": of("created_at"),
        "startedAt": of("started_at"),
        "endedAt": of("ended_at"),
        "owner": _owner,
        "resumable": of("resumable"),
        "parent": of("parent_run_id"),
        "request": of("request"),
        "mode": lambda run, _: mode_of(run),
        "machines": lambda run, _: machines_of(run),
        "places": lambda run, _: place_shapes(run),
        "origin": of("origin_run_id"),
        "children": _list_related(History.children),
        "forks": _list_related(History.forks),
        "criticalPath": _critical_path,
        "counts": _counts,
        "tasks": list_tasks,
        "task": get_task,
        "events": list_events,
    },
    "RunRequest": {"action": of("action"), "requestedBy": of("requested_by"), "at": of("at")},
    "RunPlace": {**_keys("cluster", "resources", "slots", "wanted", "problem"), "missingSince": _key("missing_since")},
    "Owner": _keys("pid", "host"),
    "Count": _keys("state", "number"),
    "TaskInstance": {
        "id": _of_record("task_id"),
        "index": lambda node, _: _index(node.record.map_index),
        "label": shown(_of_record("map_key")),
        "kind": _of_record("kind"),
        "state": _of_record("status"),
        "reason": shown(_of_record("reason")),
        "tryNumber": _of_record("try_number"),
        "startedAt": _of_span("started_at"),
        "endedAt": _of_span("ended_at"),
        "dependsOn": _of_record("dependencies"),
        "attempts": _last_attempts,
        "instances": list_instances,
        "values": shown(_values, []),
        "approval": _approval,
        "why": shown(_why, []),
    },
    "Attempt": {
        "number": _of_record("attempt"),
        "state": _of_record("status"),
        "exitCode": _of_record("exit_code"),
        "host": _of_record("host"),
        "error": _of_record("error"),
        "startedAt": _of_record("started_at"),
        "endedAt": _of_record("ended_at"),
        "log": _log,
    },
    "Approval": _keys("message", "since", "fields"),
    "ApprovalField": {
        **_keys("name", "type", "description", "required"),
        "default": shown(_key("default")),
        "values": shown(_key("values")),
    },
    "Log": _keys("text", "offset", "size", "generation"),
    "Value": _keys("key", "content"),
    "Event": {
        "seq": of("seq"),
        "run": of("run_id"),
        "task": of("task_id"),
        "index": lambda event, _: _index(event.map_index),
        "attempt": of("attempt"),
        "previous": of("previous"),
        "state": of("status"),
        "reason": shown(of("reason")),
        "at": of("at"),
        "asOf": as_of_event,
    },
    "Pool": {"name": _key("pool"), **_keys("slots", "used", "description", "holders", "waiting")},
    "SlotUse": {"run": _key("run_id"), **_keys("task", "slots", "since")},
    "System": _keys("version", "problem", "uptimeSeconds", "readOnly", "startsRuns", "scheduler", "asOf"),
    "Scheduler": _keys("active", "failures"),
    "Failure": _keys("subject", "problem"),
    "Viewer": _keys("role", "readOnly"),
}


def moment_text(value: object) -> str | None:
    """Return a moment as the scalar DateTime has it."""
    return value if isinstance(value, str) else iso(value if isinstance(value, float) else None)
