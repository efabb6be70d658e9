"""The reading routes for what is computed about a run: what waits, its groups, what a retry would run."""

from __future__ import annotations

from collections.abc import Callable

from lightflow.engine.choices import RerunOptions
from lightflow.server.actions import started_answer
from lightflow.server.answers import (
    ChildrenPage,
    DurationsAnswer,
    ForksPage,
    GroupsAnswer,
    RelatedPage,
    RerunAnswer,
    StartedAnswer,
    TaskDurationsShape,
    WaitsAnswer,
    WaitShape,
)
from lightflow.server.resources import bar_shape, cursor_number, reading, require_workflow, shown
from lightflow.server.routing import Answer, CheckedRequest
from lightflow.server.services import StartedRun, started_by_fire
from lightflow.server.shapes import approval_shape
from lightflow.service import queries, reruns
from lightflow.service.durations import durations
from lightflow.service.groups import run_groups
from lightflow.service.json_shapes import group_shapes, iso, run_difference_shape, summary_shape
from lightflow.service.lookup import find_run
from lightflow.service.run_diff import diff_runs
from lightflow.service.shape_types import RunDifferenceShape, RunShape
from liteflow.api import History, RunRecord, open_approvals


def get_start(request: CheckedRequest) -> Answer[StartedAnswer]:
    """Return what has become of the last request to start or continue a run, which may start later."""
    services, run_id = request.services, request.path["run"]
    late = None if services.control is None else services.control.late_start(run_id)
    started = late or started_by_fire(services.db, run_id)
    if started is None:
        run = queries.run_record(services.db, run_id)
        started = StartedRun(run_id=run.run_id, fire_no=None, status="STARTED", reason=None)
    return Answer(body=started_answer(started, hides_values=services.hides_values))


def list_waits(request: CheckedRequest) -> Answer[WaitsAnswer]:
    """Return the instances of a run that wait without a worker; an approval has the fields of its form."""
    with reading(request) as (history, as_of):
        run = find_run(history, request.path["run"])
        approvals = {(each.task_id, each.map_index): each for each in open_approvals(history, run)}
        waiting = [each for each in history.instances(run.run_id) if each.status == "WAITING"]
    waits: list[WaitShape] = []
    for record in waiting:
        approval = approvals.get((record.task_id, record.map_index))
        waits.append(
            {
                "task": record.task_id,
                "map_index": None if record.map_index < 0 else record.map_index,
                "map_key": record.map_key,
                "attempt": record.try_number,
                "reason": record.reason,
                "since": iso(record.started_at),
                "wake_at": iso(record.wake_at),
                "approval": None if approval is None else approval_shape(approval),
            }
        )
    return shown(request, {"as_of": as_of, "run_id": run.run_id, "waits": waits})


def list_groups(request: CheckedRequest) -> Answer[GroupsAnswer]:
    """Return the groups of a run with their states and members."""
    with reading(request) as (history, as_of):
        run = find_run(history, request.path["run"])
        groups = run_groups(history, run)
    return shown(request, {"as_of": as_of, "run_id": run.run_id, "groups": group_shapes(groups)})


def list_children(request: CheckedRequest) -> Answer[ChildrenPage]:
    """Return a page of the runs that the tasks of a run have started, the oldest first."""
    page, runs = _related(request, History.children)
    return shown(request, {**page, "children": runs})


def list_forks(request: CheckedRequest) -> Answer[ForksPage]:
    """Return a page of the forks of a run, the oldest first."""
    page, runs = _related(request, History.forks)
    return shown(request, {**page, "forks": runs})


def _related(request: CheckedRequest, read: Callable[..., list[RunRecord]]) -> tuple[RelatedPage, list[RunShape]]:
    after, limit = cursor_number(request.query["after"]) or 0, request.query["limit"]
    with reading(request) as (history, as_of):
        run = find_run(history, request.path["run"])
        records = read(history, run.run_id, after=after, limit=limit + 1)
        page = [queries.summary_of(history, each) for each in records[:limit]]
    related: RelatedPage = {
        "as_of": as_of,
        "run_id": run.run_id,
        "parent": run.parent_run_id,
        "origin": run.origin_run_id,
        "after": str(page[-1].run.run_no) if len(records) > len(page) else None,
    }
    return related, [summary_shape(each) for each in page]


def preview_rerun(request: CheckedRequest) -> Answer[RerunAnswer]:
    """Return the tasks that a retry would run, and those that keep their results; changed tasks are not looked for."""
    query = request.query
    run = queries.run_record(request.services.db, request.path["run"])
    again = reruns.preview(request.services.db, run.run_id, RerunOptions(start=query["task"], only=query["only"]))
    with reading(request) as (history, _):
        names = history.task_statuses(run.run_id)
    runs = [name for name in names if name in again]
    return Answer(body={"run_id": run.run_id, "runs": runs, "stay": [name for name in names if name not in again]})


def compare_runs(request: CheckedRequest) -> Answer[RunDifferenceShape]:
    """Return two runs, compared: definitions, parameters, states, values and child runs; `other` is the second one."""
    path = request.path
    return shown(request, run_difference_shape(diff_runs(request.services.db, path["run"], path["other"])))


def list_durations(request: CheckedRequest) -> Answer[DurationsAnswer]:
    """Return how long the tasks of a workflow took in its last runs, with the median and the 95th percentile."""
    query, name = request.query, request.path["workflow"]
    with reading(request) as (history, as_of):
        require_workflow(history, request)
        result = durations(history, name, query["task"], query["runs"])
    runs = [bar_shape(run) for run in result.runs]
    tasks: list[TaskDurationsShape] = [
        {
            "task": each.task_id,
            "median_s": _rounded(each.percentile(0.5)),
            "p95_s": _rounded(each.percentile(0.95)),
            "durations_s": [_rounded(value) for value in each.seconds],
        }
        for each in result.tasks
    ]
    return Answer(body={"as_of": as_of, "workflow": name, "runs": runs, "tasks": tasks})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
