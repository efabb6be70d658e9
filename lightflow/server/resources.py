"""The reading routes below `/api/v1`: runs, tasks, logs, workflows, pools. Each reads in one transaction."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lightflow.scheduler import overview
from lightflow.server.answers import (
    AttemptsAnswer,
    BarShape,
    CriticalPathAnswer,
    EventsPage,
    FileProblemShape,
    FiresPage,
    GeometryAnswer,
    GraphAnswer,
    GridAnswer,
    GridRunShape,
    InstancesPage,
    InstantShape,
    ListedWorkflowShape,
    PlannedAnswer,
    PoolsAnswer,
    RoleAnswer,
    RunAnswer,
    RunColumns,
    RunsPage,
    ServedShape,
    SourceAnswer,
    SystemAnswer,
    TaskAnswer,
    TriggersAnswer,
    ValueAnswer,
    ValuesAnswer,
    WorkflowAnswer,
    WorkflowsAnswer,
)
from lightflow.server.feed import FeedPosition
from lightflow.server.logs import find_log
from lightflow.server.problems import RequestProblem
from lightflow.server.routing import Answer, Body, CheckedRequest, name_in_path
from lightflow.server.services import ServedWorkflow
from lightflow.server.shapes import (
    attempt_columns,
    event_shape,
    fire_shape,
    instance_columns,
    run_state_shape,
    scheduler_shape,
    schema_without_values,
    state_columns,
    trigger_shape,
    without_values,
)
from lightflow.service import explanations, pools, queries, workflows
from lightflow.service.json_shapes import (
    explanation_shape,
    iso,
    moment_of,
    output_shape,
    pool_shape,
    summary_shape,
    task_shape,
    workflow_shape,
)
from lightflow.service.lookup import find_instance, find_run, with_span
from lightflow.service.queries import WorkflowSummary
from lightflow.service.shape_types import ExplanationShape
from liteflow import RunNotFound, __version__
from liteflow.api import (
    History,
    RunConditions,
    RunRecord,
    arranged,
    critical_path_of,
    gc_paused,
    picture_of_graph,
    read_fires,
)

_MOST_SOURCE: Final = 1_000_000  # characters of a workflow file
_FAILURES_S: Final = 30 * 86_400.0  # in which failures of tasks are counted,
_FAILED_RUNS: Final = 100  # in so many failed runs


@contextlib.contextmanager
def reading(request: CheckedRequest) -> Iterator[tuple[History, str]]:
    """Open the state file for reads that see one state; the second value is the position of that state, as text."""
    generation = request.services.feed.position.generation
    with History(request.services.db) as history, history.snapshot() as file:
        yield history, str(FeedPosition(generation, *file))


def shown(request: CheckedRequest, body: Body) -> Answer[Body]:
    """Return runs, tasks or fires as an answer, without values where the server hides them."""
    return Answer(body=without_values(body) if request.services.hides_values else body)


# -- runs --------------------------------------------------------------------------------------------------------------


def list_runs(request: CheckedRequest) -> Answer[RunsPage]:
    """Return a page of runs, the newest first."""
    query = request.query
    with reading(request) as (history, as_of):
        records = history.runs(
            query["workflow"],
            limit=query["limit"] + 1,
            before=cursor_number(query["after"]),
            matching=RunConditions(
                statuses=query["status"],
                text=query["text"],
                hides_params=request.services.hides_values,
                trigger=query["trigger"],
                since=_moment(query, "since"),
                until=_moment(query, "until"),
            ),
            with_children=query["all"],
        )
        page = records[: query["limit"]]
        runs = [summary_shape(queries.summary_of(history, run)) for run in page]
    after = str(page[-1].run_no) if len(records) > len(page) else None
    return shown(request, {"as_of": as_of, "runs": runs, "after": after})


def get_run(request: CheckedRequest) -> Answer[RunAnswer]:
    """Return a run with the numbers of its tasks by state, and its outputs."""
    with reading(request) as (history, as_of):
        run = _run(history, request)
        shape = run_state_shape(queries.summary_of(history, run))
        outputs = queries.run_outputs(history, run.run_id)
    return shown(request, {"as_of": as_of, **shape, "outputs": outputs})


def list_tasks(request: CheckedRequest) -> Answer[RunColumns]:
    """Return all task instances and hooks of a run, as columns."""
    with gc_paused():
        with reading(request) as (history, as_of):
            run = _run(history, request)
            states = history.instance_states(run.run_id)
        return shown(request, {"as_of": as_of, "run_id": run.run_id, **state_columns(states)})


def list_attempts(request: CheckedRequest) -> Answer[AttemptsAnswer]:
    """Return the last attempts of each task and instance of a run, as columns: as many of each, 20,000 in all."""
    with reading(request) as (history, as_of):
        run = _run(history, request)
        last = history.last_attempts(run.run_id, of_each=request.query["attempts"], most=queries.MOST_ATTEMPTS)
    columns = attempt_columns(last.records)
    return Answer(body={"as_of": as_of, "run_id": run.run_id, **columns, "earlier": last.earlier})


def get_graph(request: CheckedRequest) -> Answer[GraphAnswer]:
    """Return the graph of a run as it was when the run was last started or resumed."""
    with reading(request) as (history, as_of):
        run = _run(history, request)
        graph = history.graph(run.graph_digest)
    return shown(request, {"as_of": as_of, "digest": run.graph_digest, "tasks": graph.get("tasks", [])})


def get_geometry(request: CheckedRequest) -> Answer[GeometryAnswer]:
    """Return where the boxes and edges of the graph of a run are; a graph that is too large is folded."""
    return _geometry_of_run(request, lambda history: _run(history, request))


def get_workflow_geometry(request: CheckedRequest) -> Answer[GeometryAnswer]:
    """Return where the boxes and edges of the graph of a workflow are: of its file, or else of its latest run."""
    served = _served(request)
    if served is not None and not served.file.endswith(".py"):  # a Python file would be executed
        picture = workflows.picture(workflows.outline(served.reference))
        return Answer(body=request.services.layouts.geometry(arranged(picture, *_folding(request))))
    return _geometry_of_run(request, lambda history: _latest_run(history, request.path["workflow"]))


def _latest_run(history: History, workflow: str) -> RunRecord:
    runs = history.runs(workflow, limit=1)
    if not runs:
        raise RunNotFound(f"workflow {workflow!r} has not run yet, so its graph is not available")
    return runs[0]


def _geometry_of_run(request: CheckedRequest, find: Callable[[History], RunRecord]) -> Answer[GeometryAnswer]:
    layouts, folding = request.services.layouts, _folding(request)
    with reading(request) as (history, _):
        run = find(history)
        key = (run.dag_id, run.graph_digest, *folding)
        answer = layouts.answer_of(key)
        graph = history.graph(run.graph_digest) if answer is None else {}
    if answer is None:
        answer = layouts.geometry(arranged(picture_of_graph(run.dag_id, graph), *folding), key)
    return Answer(body=answer)


def _folding(request: CheckedRequest) -> tuple[Any, frozenset[str]]:
    return request.query["fold"], frozenset(filter(None, (request.query["toggled"] or "").split(",")))


def get_critical_path(request: CheckedRequest) -> Answer[CriticalPathAnswer]:
    """Return the chain of tasks that decided when a run ended, or that is the longest so far."""
    with reading(request) as (history, as_of):
        run = _run(history, request)
        now = time.time()
        path = critical_path_of(history, run, now)
        work_s = history.tasks_work_s(run.run_id, path, now)
    return Answer(body={"as_of": as_of, "run_id": run.run_id, "tasks": path, "work_s": work_s})


def list_events(request: CheckedRequest) -> Answer[EventsPage]:
    """Return a page of changes of state, the oldest first."""
    run_id = request.path.get("run")
    after = cursor_number(request.query["after"]) or 0
    with reading(request) as (history, as_of):
        run = None if run_id is None else find_run(history, run_id).run_id
        events = history.events(run, after=after, limit=request.query["limit"])
    end = str(events[-1].seq if events else after)
    return shown(request, {"as_of": as_of, "events": [event_shape(event) for event in events], "after": end})


def list_values(request: CheckedRequest) -> Answer[ValuesAnswer]:
    """Return the outputs of a run, and the values that its tasks have stored.

    Nothing is unpickled, and large values are left out.
    """
    _refuse_hidden(request)
    outputs = queries.outputs(request.services.db, request.path["run"], None, largest=65536)
    values = [output_shape(output) for output in outputs.values]
    return Answer(body={"run_id": outputs.run_id, "outputs": outputs.of_run, "values": values})


def get_value(request: CheckedRequest) -> Answer[ValueAnswer]:
    """Return one value."""
    _refuse_hidden(request)
    path = request.path
    value = queries.output(request.services.db, path["run"], name_in_path(request), path["key"])
    return Answer(body={"run_id": path["run"], "task": name_in_path(request), "key": path["key"], "value": value})


def _refuse_hidden(request: CheckedRequest) -> None:
    if request.services.hides_values:
        raise RequestProblem(403, "FORBIDDEN", "this server was started with --hide-values")


def _run(history: History, request: CheckedRequest) -> RunRecord:
    return find_run(history, request.path["run"])


def _moment(query: Mapping[str, Any], name: str) -> float | None:
    """Return the seconds since 1970 of a moment of a query.

    Raises:
        RequestProblem: it is not a moment.
    """
    try:
        return None if query[name] is None else moment_of(query[name])
    except ValueError:
        message = "write a moment as 2026-01-31T02:30:00Z"
        raise RequestProblem(400, "BAD_INPUT", f"{name}: {message}", fields={name: message}) from None


def cursor_number(cursor: str | None) -> int | None:
    """Return the number that a cursor is.

    Raises:
        RequestProblem: it is not a cursor of this list.
    """
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= 18):
        message = "is not a cursor of this list"
        raise RequestProblem(400, "BAD_INPUT", f"after {message}", fields={"after": message})
    return int(cursor)


# -- tasks -------------------------------------------------------------------------------------------------------------


def get_task(request: CheckedRequest) -> Answer[TaskAnswer]:
    """Return a task of a run, or an instance of it, with its last attempts, the oldest first."""
    before, limit = request.query["before"], request.query["attempts"]
    with reading(request) as (history, as_of):
        run = _run(history, request)
        record = with_span(history, run, find_instance(history, run, name_in_path(request)))
        place = record.task_id, record.map_index
        after = None if before is None else (*place, before)
        attempts = history.attempts(run.run_id, *place, after=after, limit=limit, newest_first=True)[::-1]
    shape = task_shape(record, {(record.task_id, record.map_index): attempts})
    return shown(request, {"as_of": as_of, "run_id": run.run_id, **shape})


def list_instances(request: CheckedRequest) -> Answer[InstancesPage]:
    """Return a page of the instances of a mapped task, as columns; by default the failed ones are first."""
    query = request.query
    if query["label"] is not None:
        _refuse_hidden(request)
    with reading(request) as (history, as_of):
        run = _run(history, request)
        task = find_instance(history, run, request.path["task"])
        page = history.instance_page(
            run.run_id,
            task.task_id,
            statuses=query["status"],
            label=query["label"],
            order=query["order"],
            offset=cursor_number(query["after"]) or 0,
            limit=query["limit"] + 1,
        )
    records = page[: query["limit"]]
    after = str((cursor_number(query["after"]) or 0) + len(records)) if len(page) > len(records) else None
    return shown(request, {"as_of": as_of, "run_id": run.run_id, **instance_columns(records), "after": after})


def get_why(request: CheckedRequest) -> Answer[ExplanationShape]:
    """Return why a task is in its state."""
    _refuse_hidden(request)
    explanation = explanations.why(request.services.db, request.path["run"], name_in_path(request))
    return Answer(body=explanation_shape(explanation))


def get_log(request: CheckedRequest) -> Answer[bytes]:
    """Return a window of the log of an attempt, as text."""
    query, path = request.query, request.path
    attempt = path["attempt"]
    if not (attempt.isascii() and attempt.isdecimal() and len(attempt) <= 9):
        raise RequestProblem(404, "NOT_FOUND", f"{attempt!r} is not the number of an attempt")
    index = -1 if path.get("index") is None else int(name_in_path(request).rpartition("[")[2].rstrip("]"))
    log = find_log(request.services.db, path["run"], path["task"], index, int(attempt))
    window = log.window(
        offset=query["offset"], limit=query["limit"], from_end=query["from"] == "end", find=query["find"]
    )
    headers = {
        "X-Log-Offset": str(window.offset),
        "X-Log-Size": str(window.size),
        "X-Log-Generation": str(window.generation),
    }
    return Answer(body=window.data, media_type="text/plain; charset=utf-8", headers=headers)


# -- workflows ---------------------------------------------------------------------------------------------------------


def list_workflows(request: CheckedRequest) -> Answer[WorkflowsAnswer]:
    """Return the workflows that have run or are served, by name, with their latest run."""
    served = (
        {} if request.services.control is None else {each.name: each for each in request.services.control.workflows()}
    )
    with reading(request) as (history, as_of):
        shapes = {dag.dag_id: _workflow(history, request, dag.dag_id) for dag in history.dags()}
    for name, workflow in served.items():
        shape = shapes.setdefault(name, _unused(workflow))
        shape["served"] = _served_shape(request, workflow)
    control = request.services.control
    problems = {} if control is None else control.problems()
    files: list[FileProblemShape] = [{"file": path, "problem": problems[path]} for path in sorted(problems)]
    return Answer(body={"as_of": as_of, "workflows": [shapes[name] for name in sorted(shapes)], "problems": files})


def get_workflow(request: CheckedRequest) -> Answer[WorkflowAnswer]:
    """Return a workflow with its last runs."""
    name = request.path["workflow"]
    with reading(request) as (history, as_of):
        shape = None if history.dag(name) is None else _workflow(history, request, name)
    served = _served(request)
    if shape is None and served is not None:
        shape = _unused(served)
    if shape is None:
        raise RunNotFound(f"there is no workflow {name!r}")
    return Answer(body={**shape, "as_of": as_of, "served": None if served is None else _served_shape(request, served)})


def _unused(served: ServedWorkflow) -> ListedWorkflowShape:
    """Return a workflow that has not run yet."""
    return {
        "workflow": served.name,
        "description": served.description,
        "source": served.file,
        "latest": None,
        "next_at": None,
        "runs": [],
        "served": None,
    }


def _workflow(history: History, request: CheckedRequest, name: str) -> ListedWorkflowShape:
    dag, count = history.dag(name), request.query["runs"]
    assert dag is not None
    runs = history.runs(name, limit=max(count, 1))
    latest = queries.summary_of(history, runs[0]) if runs else None
    shape = workflow_shape(WorkflowSummary(dag=dag, latest=latest))
    if request.services.hides_values:
        shape["latest"] = without_values(shape["latest"])
    return {**shape, "runs": [bar_shape(run) for run in runs[:count]], "served": None}


def bar_shape(run: RunRecord) -> BarShape:
    """Return a run in a list of many."""
    seconds = queries.elapsed_s(run)
    duration_s = None if seconds is None else round(seconds, 3)  # until now, of one that runs
    return {"run_id": run.run_id, "status": run.status, "started_at": iso(run.started_at), "duration_s": duration_s}


def _served(request: CheckedRequest) -> ServedWorkflow | None:
    """Return the workflow of the path of a request; None where this server does not serve it."""
    control, name = request.services.control, request.path["workflow"]
    return None if control is None else next((each for each in control.workflows() if each.name == name), None)


def require_workflow(history: History, request: CheckedRequest) -> None:
    """Raise RunNotFound unless the workflow of the path of a request has run or is served."""
    if history.dag(request.path["workflow"]) is None and _served(request) is None:
        raise RunNotFound(f"there is no workflow {request.path['workflow']!r}")


def _served_shape(request: CheckedRequest, workflow: ServedWorkflow) -> ServedShape:
    schema = workflow.params_schema
    return {
        "file": workflow.file,
        "problem": workflow.problem,
        "paused_by": workflow.paused_by,
        "params": schema_without_values(schema) if request.services.hides_values else schema,
        "triggers": list(workflow.triggers),
    }


def get_source(request: CheckedRequest) -> Answer[SourceAnswer]:
    """Return the text of the file of a workflow that this server serves."""
    _refuse_hidden(request)
    name, served = request.path["workflow"], _served(request)
    if served is None:
        raise RunNotFound(f"this server does not serve a file of the workflow {name!r}")
    path = served.file
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_SOURCE)
    except OSError as error:
        raise RunNotFound(f"{path}: {error.strerror}") from None
    return Answer(body={"workflow": name, "file": path, "text": text})


def get_grid(request: CheckedRequest) -> Answer[GridAnswer]:
    """Return the states of the tasks in the last runs of a workflow: a column a run, a row a task, in graph order."""
    name = request.path["workflow"]
    with reading(request) as (history, as_of):
        require_workflow(history, request)
        records = history.runs(name, limit=request.query["runs"] + 1, before=cursor_number(request.query["after"]))
        page = records[: request.query["runs"]]
        columns = [(run, history.task_statuses(run.run_id)) for run in page]
        drawn = history.graph_tasks(page[0].graph_digest) if page else []
        failures = history.task_failures(name, time.time() - _FAILURES_S, _FAILED_RUNS)
    places = {row["id"]: place for place, row in enumerate(drawn)}
    names = dict.fromkeys(task_id for _, cells in columns for task_id in cells)
    tasks = sorted(names, key=lambda task_id: places.get(task_id, len(places)))
    runs: list[GridRunShape] = [
        {**bar_shape(run), "states": [cells.get(task_id) for task_id in tasks]} for run, cells in columns
    ]
    after = str(page[-1].run_no) if page and len(records) > len(page) else None
    counts = [failures.get(task_id, 0) for task_id in tasks]
    return Answer(
        body={"as_of": as_of, "workflow": name, "tasks": tasks, "failures": counts, "runs": runs, "after": after}
    )


# -- triggers ----------------------------------------------------------------------------------------------------------


def list_triggers(request: CheckedRequest) -> Answer[TriggersAnswer]:
    """Return the triggers of all workflows, or of one, with their next fires."""
    summary = overview.triggers_of(request.services.db, request.query["workflow"])
    triggers = [trigger_shape(view) for view in summary.triggers]
    return Answer(body={"has_scheduler": summary.has_scheduler, "triggers": triggers})


def list_planned(request: CheckedRequest) -> Answer[PlannedAnswer]:
    """Return the next instants of a schedule."""
    views = overview.overview(request.services.db, request.path["trigger"]).triggers
    clocks = {view.row.trigger_id: view.clock for view in views if view.clock is not None and view.state == "active"}
    planned = overview.planned(clocks, time.time(), request.query["limit"])
    instants: list[InstantShape] = [
        {"at": iso(each.instant), "due_at": iso(each.due_at), "local": each.local} for each in planned
    ]
    return Answer(body={"trigger": request.path["trigger"], "instants": instants})


def list_fires(request: CheckedRequest) -> Answer[FiresPage]:
    """Return a page of fires, the newest first: of all triggers, of a workflow, or of one trigger."""
    query, limit = request.query, request.query["limit"]
    fires = read_fires(
        request.services.db,
        overview.chosen_triggers(request.services.db, query["workflow"], query["trigger"]),
        statuses=query["status"],
        before=cursor_number(query["after"]),
        limit=limit + 1,
    )
    after = str(fires[limit - 1].fire_no) if len(fires) > limit else None
    return shown(request, {"fires": [fire_shape(fire) for fire in fires[:limit]], "after": after})


# -- pools and the server ----------------------------------------------------------------------------------------------


def list_pools(request: CheckedRequest) -> Answer[PoolsAnswer]:
    """Return the pools, who holds their slots and who waits."""
    return Answer(body={"pools": [pool_shape(view) for view in pools.overview(request.services.db)]})


def get_system(request: CheckedRequest) -> Answer[SystemAnswer]:
    """Return what the server is, and the state of its file."""
    services = request.services
    return Answer(
        body={
            "version": __version__,
            "db": services.db,
            "bytes": _size(services.db),
            "wal_bytes": _size(f"{services.db}-wal"),
            "disk_free_bytes": _free(services.db),
            "time": iso(time.time()),
            "clock_set_s": round(services.clock_set_s, 3),
            "problem": services.feed.problem,
            "uptime_s": round(services.uptime_s, 3),
            "read_only": services.is_read_only,
            "hides_values": services.hides_values,
            "starts_runs": services.control is not None,
            "scheduler": None if services.control is None else scheduler_shape(services.control.scheduler_state()),
            "stream_clients": services.metrics.stream_clients,
            "as_of": str(services.feed.position),
        }
    )


def _free(path: str) -> int | None:
    try:
        return shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    except OSError:
        return None


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def whoami(request: CheckedRequest) -> Answer[RoleAnswer]:
    """Return the role of the caller."""
    return Answer(body={"role": request.role, "read_only": request.services.is_read_only})
