"""The types of the JSON shapes of what is in a state file: see `json_shapes`.

The checks of types hold the functions that write the shapes to them, and the OpenAPI document of the server is made
from them. Keys are only ever added.
"""

# Without `from __future__ import annotations`: a TypedDict compiles the text of each annotation, which takes longer
# than all else in this module.

from typing import Annotated, Any, TypedDict

#: ISO 8601 in UTC, to the millisecond.
Moment = Annotated[str, "date-time"]


class RunFireShape(TypedDict):
    """The fire of a trigger that started a run."""

    trigger: str
    at: Moment | None
    started_by: str | None


class RequestShape(TypedDict):
    """The last change of a run that a person or program requested."""

    action: str
    requested_by: str | None
    at: Moment | None


class PlaceShape(TypedDict):
    """The machines of a cluster of a run whose slots take these resources, as its owner has seen them last."""

    cluster: str
    resources: dict[str, int]
    slots: int | None
    wanted: int | None
    missing_since: Moment | None
    problem: str | None


class ParentShape(TypedDict):
    """The task that executes a child run."""

    run_id: str | None
    task: str | None
    map_index: int | None


class RunShape(TypedDict):
    """A run: the numbers of its tasks by state, and those of the instances of its mapped tasks.

    `approvals` are the names of those that wait for the decision of a person.
    """

    run_id: str
    workflow: str
    status: str
    reason: str | None
    created_at: Moment | None
    started_at: Moment | None
    ended_at: Moment | None
    duration_s: float | None
    counts: dict[str, int]
    instances: dict[str, int]
    approvals: list[str]
    source: str | None
    logical_date: str | None
    params: dict[str, Any] | None
    origin: str | None
    parent: ParentShape | None
    selection: list[str] | None
    trigger: RunFireShape | None
    request: RequestShape | None
    mode: str | None
    machines: str | None
    places: list[PlaceShape]


class CancelledRunShape(TypedDict):
    """A run after a request to cancel it."""

    run_id: str
    workflow: str
    status: str


class ChangedTasksShape(CancelledRunShape):
    """A run, and its tasks and instances that `clear` or `mark` has changed."""

    tasks: list[str]


class PruneShape(TypedDict):
    """The runs and files that `prune` has deleted, or with `dry_run` would delete.

    `complete` is false where the time was over before all was deleted.
    """

    db: str
    dry_run: bool
    complete: bool
    deleted: int
    workflows: dict[str, list[str]]
    preserved: dict[str, int]
    leftovers: list[str]
    environments: list[str]
    containers: list[str]
    containers_left: dict[str, str]
    size_before: int
    size_after: int


class DueRunShape(TypedDict):
    """A parked run that is or was due; `problem` is the reason why it was not resumed."""

    run_id: str
    workflow: str
    due: str
    status: str
    problem: str | None


class WakeShape(TypedDict):
    """The parked runs that are or were due."""

    db: str
    dry_run: bool
    runs: list[DueRunShape]


class DecisionShape(TypedDict):
    """A decision about a task that waited; `at_once` is false where the next resume acts on it."""

    run_id: str
    task: str
    map_index: int | None
    decision: str
    by: str | None
    at_once: bool


class WorkflowShape(TypedDict):
    """A workflow with its latest run."""

    workflow: str
    description: str
    source: str | None
    latest: RunShape | None
    next_at: Moment | None


class FrameShape(TypedDict):
    """A line of the user's code in a trace."""

    file: str
    line: int
    function: str
    source: str
    repeats: int


class RaisedShape(TypedDict):
    """A Python exception with the frames of the user's code, the outermost first."""

    error: str
    relation: str | None
    notes: list[str]
    frames: list[FrameShape]
    left_out: int


class AttemptShape(TypedDict):
    """An attempt. `log` is null where it has no output; `log_lost` is the reason if part of it is missing."""

    attempt: int
    status: str
    exit_code: int | None
    error: str | None
    codes: list[str]
    started_at: Moment | None
    ended_at: Moment | None
    duration_s: float | None
    log: str | None
    trace: list[RaisedShape] | None
    log_lost: str | None
    host: str | None


class TaskShape(TypedDict):
    """A task of a run, or an instance of a mapped task, with its attempts."""

    task: str
    map_index: int | None
    map_key: str | None
    status: str
    reason: str | None
    stale: str | None
    depends_on: list[str]
    started_at: Moment | None
    ended_at: Moment | None
    wake_at: Moment | None
    duration_s: float | None
    attempts: list[AttemptShape]
    instances: "list[TaskShape] | None"


class GroupShape(TypedDict):
    """A group of tasks; `group` is the group around it."""

    id: str
    group: str | None
    status: str
    reason: str | None
    members: list[str]
    started_at: Moment | None
    ended_at: Moment | None
    duration_s: float | None


class OutputShape(TypedDict):
    """A stored value."""

    task: str
    map_index: int | None
    key: str
    encoding: str
    size: int
    value: Any


class ExplanationShape(TypedDict):
    """Why a task is in its state."""

    run_id: str
    task: str
    status: str
    because: list[str]
    trace: list[RaisedShape] | None


class SlotUseShape(TypedDict):
    """A task that holds slots of a pool, or waits for them."""

    run_id: str
    task: str | None
    slots: int
    since: Moment | None


class PoolShape(TypedDict):
    """A pool with its holders and its queue."""

    pool: str
    slots: int
    used: int
    description: str | None
    set_by_hand: bool
    holders: list[SlotUseShape]
    waiting: list[SlotUseShape]


class DefinitionDifferenceShape(TypedDict):
    """The tasks that only the second definition has, those that it lacks, and the keys of those that have changed."""

    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]


class TaskDifferenceShape(TypedDict):
    """A task or an instance in each of two runs; a state is null where the run does not have it.

    `outputs` has the values that differ, as pairs; a pair is null where a value is long or pickled.
    """

    task: str
    map_index: int | None
    status: list[str | None]
    attempts: list[int]
    duration_s: list[float | None]
    outputs: dict[str, list[Any] | None] | None


class ChildDifferenceShape(TypedDict):
    """The last child run of a task or an instance in each of two runs; null: the run has none."""

    task: str
    map_index: int | None
    runs: list[str | None]
    status: list[str | None]
    differs: bool


class RunDifferenceShape(TypedDict):
    """Two runs, compared; each list of two has the value of the first and of the second run."""

    runs: list[str]
    status: list[str]
    differs: bool
    definition: DefinitionDifferenceShape
    params: dict[str, list[Any]] | None
    selection: list[list[str] | None]
    outputs: dict[str, list[Any] | None] | None
    tasks: list[TaskDifferenceShape]
    child_runs: list[ChildDifferenceShape]
