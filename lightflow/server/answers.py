"""The types of the answers of the routes. Keys are only ever added.

The checks of types hold the handlers to them, and the OpenAPI document is made from them.
"""

# Without `from __future__ import annotations`: a TypedDict compiles the text of each annotation, which takes longer
# than all else in this module.

from collections.abc import Mapping
from typing import Any, TypedDict

from lightflow.service.shape_types import (
    GroupShape,
    Moment,
    OutputShape,
    PoolShape,
    RunShape,
    TaskShape,
    WorkflowShape,
)
from lightflow.visuals.geometry import GeometryShape

# -- parts of answers --------------------------------------------------------------------------------------------------


#: task, map_index, map_key, status, attempt, started_at, ended_at, reason, tolerated, kind, host
InstanceRow = tuple[
    str, int | None, str | None, str, int, Moment | None, Moment | None, str | None, bool, str, str | None
]
#: task, map_index, attempt, status, started_at, ended_at, exit_code, host
AttemptRow = tuple[str, int | None, int, str, Moment | None, Moment | None, int | None, str | None]


class InstanceColumns(TypedDict):
    """Tasks, instances and hooks: the names of the columns, and a list of values for each."""

    columns: list[str]
    rows: list[InstanceRow]


class AttemptColumns(TypedDict):
    """Attempts: the names of the columns, and a list of values for each."""

    columns: list[str]
    rows: list[AttemptRow]


class OwnerShape(TypedDict):
    """The process that owns a run."""

    pid: int
    host: str | None


class RunStateShape(RunShape):
    """A run with what only a server needs: its owner, and whether it can be resumed."""

    owner: OwnerShape | None
    resumable: bool
    graph: str
    cwd: str | None


class EventShape(TypedDict):
    """A change of the state of a run, or of a task instance."""

    seq: int
    run_id: str
    task: str | None
    map_index: int | None
    attempt: int | None
    previous: str | None
    status: str
    reason: str | None
    at: Moment | None


class FireShape(TypedDict):
    """A fire of a trigger, or of a start by a person or a program."""

    fire_no: int
    trigger: str
    key: str | None
    at: Moment | None
    due_at: Moment | None
    status: str
    run_id: str | None
    started_by: str | None
    reason: str | None
    decided_at: Moment | None


class TriggerShape(TypedDict):
    """A trigger with its next fire."""

    trigger: str
    workflow: str
    kind: str
    words: str
    timezone: str | None
    state: str
    problem: str | None
    paused_by: str | None
    next_at: Moment | None


class FailureShape(TypedDict):
    """A failure in the scheduler."""

    subject: str
    problem: str


class SchedulerShape(TypedDict):
    """The state of the scheduler of a server."""

    active: bool
    failures: list[FailureShape]


class FieldShape(TypedDict):
    """A field of the form of an approval."""

    name: str
    type: str
    description: str | None
    required: bool
    default: Any
    values: list[Any] | None


class ApprovalShape(TypedDict):
    """The decision of a person that a task waits for."""

    message: str
    since: Moment | None
    fields: list[FieldShape]


class BarShape(TypedDict):
    """A run in a list of many."""

    run_id: str
    status: str
    started_at: Moment | None
    duration_s: float | None


class ServedTriggerShape(TypedDict):
    """A trigger of a workflow that is served, with its next instants."""

    trigger: str
    kind: str
    words: str
    state: str
    next: list[str]


class ServedShape(TypedDict):
    """A workflow that this server may start; `params` is the JSON Schema of its parameters."""

    file: str
    problem: str | None
    paused_by: str | None
    params: Mapping[str, Any]
    triggers: list[ServedTriggerShape]


class ListedWorkflowShape(WorkflowShape):
    """A workflow with its last runs; `served` is null where this server does not serve it."""

    runs: list[BarShape]
    served: ServedShape | None


class FileProblemShape(TypedDict):
    """Why a file cannot be served."""

    file: str
    problem: str


class FieldProblemShape(TypedDict):
    """A mistake in a field of a request."""

    field: str
    message: str


class GridRunShape(BarShape):
    """A column of a grid: `states` has the state of each task; null: the run does not have it."""

    states: list[str | None]


class TaskDurationsShape(TypedDict):
    """How long a task took in each of the runs; null: it did not succeed there."""

    task: str
    median_s: float | None
    p95_s: float | None
    durations_s: list[float | None]


class InstantShape(TypedDict):
    """An instant of a schedule; `local` is in its time zone."""

    at: Moment | None
    due_at: Moment | None
    local: str


class WaitShape(TypedDict):
    """An instance that waits without a worker."""

    task: str
    map_index: int | None
    map_key: str | None
    attempt: int
    reason: str | None
    since: Moment | None
    wake_at: Moment | None
    approval: ApprovalShape | None


# -- answers of the routes that read -----------------------------------------------------------------------------------


class RunsPage(TypedDict):
    """A page of runs."""

    as_of: str
    runs: list[RunShape]
    after: str | None


class RunAnswer(RunStateShape):
    """A run with its outputs."""

    as_of: str
    outputs: dict[str, Any] | None


class RunColumns(InstanceColumns):
    """Tasks of a run, as columns."""

    as_of: str
    run_id: str


class AttemptsAnswer(AttemptColumns):
    """The last attempts of the tasks of a run, as columns."""

    as_of: str
    run_id: str
    earlier: bool  # whether there are attempts before these


class InstancesPage(RunColumns):
    """A page of the instances of a mapped task, as columns."""

    after: str | None


GraphTaskShape = TypedDict(
    "GraphTaskShape",
    {
        "id": str,
        "kind": str,
        "gate": str,
        "group": str,
        "depends_on": list[str],
        "takes": dict[str, str],
        "rule": str,
        "timeout": float,
        "retries": int,
        "if": str | None,
        "preconditions": int,
        "decides": str,
        "setup": bool,
        "teardown": bool,
        "continue_on_error": bool,
        "hooks": list[str],
        "run_if": bool,
        "priority": int,
        "max_parallel": int,
        "resources": dict[str, int],
        "mapped": bool,
        "here": bool,
        "options": dict[str, Any] | None,
        "digest": str,
    },
    total=False,
)
GraphTaskShape.__doc__ = (
    "A task of a graph, with the keys that it needs; `options` are those without a key of their own."
)


class GraphAnswer(TypedDict):
    """The graph of a run."""

    as_of: str
    digest: str
    tasks: list[GraphTaskShape]


class GeometryAnswer(GeometryShape):
    """Where the boxes and edges of a graph are; equal digests have equal places."""

    digest: str


class CriticalPathAnswer(TypedDict):
    """The chain of tasks that decided when a run ended, and the seconds for which they ran."""

    as_of: str
    run_id: str
    tasks: list[str]
    work_s: float


class EventsPage(TypedDict):
    """A page of changes of state."""

    as_of: str
    events: list[EventShape]
    after: str


class ValuesAnswer(TypedDict):
    """The outputs of a run, and the values of its tasks."""

    run_id: str
    outputs: dict[str, Any]
    values: list[OutputShape]


class ValueAnswer(TypedDict):
    """A value."""

    run_id: str
    task: str
    key: str
    value: Any


class TaskAnswer(TaskShape):
    """A task or an instance of a run."""

    as_of: str
    run_id: str


class WorkflowsAnswer(TypedDict):
    """The workflows that have run or are served."""

    as_of: str
    workflows: list[ListedWorkflowShape]
    problems: list[FileProblemShape]


class WorkflowAnswer(ListedWorkflowShape):
    """A workflow."""

    as_of: str


class SourceAnswer(TypedDict):
    """The text of the file of a workflow."""

    workflow: str
    file: str
    text: str


class GridAnswer(TypedDict):
    """The states of the tasks in the last runs of a workflow.

    `failures` has for each task in how many runs of the last 30 days it failed, among the last 100 that failed.
    """

    as_of: str
    workflow: str
    tasks: list[str]
    failures: list[int]
    runs: list[GridRunShape]
    after: str | None


class DurationsAnswer(TypedDict):
    """How long the tasks of a workflow took."""

    as_of: str
    workflow: str
    runs: list[BarShape]
    tasks: list[TaskDurationsShape]


class TriggersAnswer(TypedDict):
    """Triggers, and whether a scheduler works."""

    has_scheduler: bool
    triggers: list[TriggerShape]


class PlannedAnswer(TypedDict):
    """The next instants of a schedule."""

    trigger: str
    instants: list[InstantShape]


class FiresPage(TypedDict):
    """A page of fires."""

    fires: list[FireShape]
    after: str | None


class PoolsAnswer(TypedDict):
    """The pools."""

    pools: list[PoolShape]


class SystemAnswer(TypedDict):
    """The server and the state of its file; `problem`: why the file cannot be read."""

    version: str
    db: str
    bytes: int | None
    wal_bytes: int | None
    disk_free_bytes: int | None
    time: Moment | None
    clock_set_s: float  # by how much the clock was set since the server has started
    problem: str | None
    uptime_s: float
    read_only: bool
    hides_values: bool
    starts_runs: bool
    scheduler: SchedulerShape | None
    stream_clients: int
    as_of: str


class RoleAnswer(TypedDict):
    """The role of the caller."""

    role: str
    read_only: bool


class WaitsAnswer(TypedDict):
    """The instances of a run that wait."""

    as_of: str
    run_id: str
    waits: list[WaitShape]


class GroupsAnswer(TypedDict):
    """The groups of a run."""

    as_of: str
    run_id: str
    groups: list[GroupShape]


class RelatedPage(TypedDict):
    """A page of the runs that belong to a run, with the run above it and the run that it is a fork of."""

    as_of: str
    run_id: str
    parent: str | None
    origin: str | None
    after: str | None


class ChildrenPage(RelatedPage):
    """A page of the runs that the tasks of a run have started."""

    children: list[RunShape]


class ForksPage(RelatedPage):
    """A page of the forks of a run."""

    forks: list[RunShape]


class RerunAnswer(TypedDict):
    """The tasks that a retry would run, and those that keep their results."""

    run_id: str
    runs: list[str]
    stay: list[str]


# -- answers of the routes that change something -----------------------------------------------------------------------


class LoginAnswer(TypedDict):
    """A token."""

    token: str
    role: str


class CodeAnswer(TypedDict):
    """A login code."""

    code: str
    expires_s: int


class StartedAnswer(TypedDict):
    """A run that was requested; it exists if `status` is STARTED. `run_id` is null where it will not start.

    While it is `pending` (CLAIMED, WAITING), `run_id` is the id that it will have.
    """

    run_id: str | None
    fire_no: int | None
    status: str
    pending: bool
    reason: str | None


class ProblemsAnswer(TypedDict):
    """The mistakes in the parameters of a run."""

    problems: list[FieldProblemShape]


class PausedWorkflowAnswer(TypedDict):
    """Whether a workflow is paused."""

    workflow: str
    paused: bool


class PausedTriggerAnswer(TypedDict):
    """Whether a trigger is paused."""

    trigger: str
    paused: bool


class PoolSizeAnswer(TypedDict):
    """The slots of a pool."""

    pool: str
    slots: int


class DeletedPoolAnswer(TypedDict):
    """A pool that was deleted."""

    pool: str
    deleted: bool


class OperationAnswer(TypedDict, total=False):
    """The result of an operation of GraphQL, or its errors."""

    data: dict[str, Any] | None
    errors: list[dict[str, Any]]
