"""The JSON shapes of what is in a state file, as `--json` prints them: see docs/reference/json.md.

The shapes of workflow files are in `file_shapes`, which imports the parser. Keys are only ever added. Times are ISO
8601 in UTC, durations (`…_s`) seconds; an unknown value is null.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.engine.checkpoint import Checkpoint
from lightflow.service.approvals import Decided
from lightflow.service.child_views import ChildView
from lightflow.service.doctor import Finding
from lightflow.service.explanations import Explanation
from lightflow.service.groups import Groups
from lightflow.service.lookup import machines_of, mode_of
from lightflow.service.mapped_instances import instance_name_of
from lightflow.service.pools import PoolView, slot_owner
from lightflow.service.queries import Output, Outputs, RunSummary, RunView, WorkflowSummary, plain
from lightflow.service.run_diff import RunDifference, ValueDifference
from lightflow.service.shape_types import (
    AttemptShape,
    CancelledRunShape,
    ChangedTasksShape,
    DecisionShape,
    ExplanationShape,
    GroupShape,
    OutputShape,
    ParentShape,
    PlaceShape,
    PoolShape,
    RaisedShape,
    RequestShape,
    RunDifferenceShape,
    RunFireShape,
    RunShape,
    SlotUseShape,
    TaskShape,
    WorkflowShape,
)
from lightflow.service.tolerated_failures import reason_text
from liteflow.api import (
    EMPTY_MAPPING,
    AttemptRecord,
    InstanceRecord,
    RunFire,
    RunRecord,
    RunRequest,
    SlotRecord,
    day_text,
    read_trace,
)

Shape = dict[str, Any]
#: The attempts of each task instance, by task id and map index.
Attempts = Mapping[tuple[str, int], Sequence[AttemptRecord]]


def iso(at: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    if at is None:
        return None
    try:
        second, milliseconds = divmod(int(at * 1000), 1000)
        return _second_text(second) + _thousandths()[milliseconds]
    except (OverflowError, ValueError, OSError, TypeError):
        return None  # the state file was altered: an answer without the time is better than no answer


def iso_column(moments: Sequence[float | None]) -> list[str | None]:
    """Return many times as `iso` does."""
    ends = _thousandths()
    try:
        return [
            None if at is None else _second_text((milliseconds := int(at * 1000)) // 1000) + ends[milliseconds % 1000]
            for at in moments
        ]
    except (OverflowError, ValueError, OSError, TypeError):
        return [iso(at) for at in moments]


def moment_of(text: object) -> float:
    """Return the seconds since 1970 of a moment in ISO 8601; without a zone it is UTC.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str):
        raise ValueError("a moment is a text such as 2026-01-31T03:00:00Z")
    moment = datetime.datetime.fromisoformat(text)
    try:
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except OverflowError as error:
        raise ValueError(str(error)) from None


@functools.lru_cache(4096)
def _second_text(second: int) -> str:
    """Return a whole second as ISO 8601; a run of 10,000 tasks has 20,000 times in few seconds."""
    return datetime.datetime.fromtimestamp(second, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


@functools.cache
def _thousandths() -> tuple[str, ...]:
    """Return the ends of the texts of times, by millisecond."""
    return tuple(f".{number:03}Z" for number in range(1000))


def seconds_between(started_at: float | None, ended_at: float | None) -> float | None:
    """Return the seconds between two times to the microsecond, where both are known."""
    return None if started_at is None or ended_at is None else round(ended_at - started_at, 6)


# -- runs -------------------------------------------------------------------------------------------------------


def run_shape(
    run: RunRecord, counts: Mapping[str, int], instances: Mapping[str, int], approvals: Sequence[str]
) -> RunShape:
    """Return a run. `counts` has the number of tasks in each state, `instances` that of instances of mapped tasks."""
    return {
        "run_id": run.run_id,
        "workflow": run.dag_id,
        "status": run.status,
        "reason": run.reason,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "duration_s": seconds_between(run.started_at, run.ended_at),
        "counts": dict(counts),
        "instances": dict(instances),
        "approvals": list(approvals),
        "source": run.source,
        "logical_date": None if run.logical_date is None else day_text(run.logical_date),
        "params": run.params,
        "origin": run.origin_run_id,
        "parent": None if run.parent_run_id is None else _parent_shape(run),
        "selection": run.selection,
        "trigger": None if run.fire is None else fire_shape(run.fire),
        "request": None if run.request is None else _request_shape(run.request),
        "mode": mode_of(run),
        "machines": machines_of(run),
        "places": place_shapes(run),
    }


def place_shapes(run: RunRecord) -> list[PlaceShape]:
    """Return what the owner of a run has stored about the machines of its clusters."""
    return [_place_shape(place) for place in run.places if isinstance(place, dict)]


def _place_shape(place: Mapping[str, Any]) -> PlaceShape:
    slots, wanted = place.get("slots"), place.get("wanted")
    resources, since, problem = place.get("resources"), place.get("missing_since"), place.get("problem")
    return {
        "cluster": str(place.get("cluster")),
        "resources": resources if isinstance(resources, dict) else {},
        "slots": slots if isinstance(slots, int) else None,
        "wanted": wanted if isinstance(wanted, int) else None,
        "missing_since": iso(since) if isinstance(since, float) else None,
        "problem": problem if isinstance(problem, str) and problem else None,
    }


def _request_shape(request: RunRequest) -> RequestShape:
    """Return the last change of a run that a person or program requested."""
    return {"action": request.action, "requested_by": request.requested_by, "at": iso(request.at)}


def _parent_shape(run: RunRecord) -> ParentShape:
    """Return the task that executes a child run."""
    index = run.parent_map_index
    return {
        "run_id": run.parent_run_id,
        "task": run.parent_task_id,
        "map_index": None if index is None or index < 0 else index,
    }


def child_shape(child: ChildView) -> Shape:
    """Return a child run with those below it."""
    return {
        **run_shape(child.run, child.counts, child.instances, child.approvals),
        "child_runs": [child_shape(each) for each in child.children],
    }


def fire_shape(fire: RunFire) -> RunFireShape:
    """Return the fire of a trigger that started a run."""
    return {"trigger": fire.trigger_id, "at": iso(fire.at), "started_by": fire.started_by}


def summary_shape(summary: RunSummary) -> RunShape:
    """Return a run without its tasks."""
    return run_shape(summary.run, summary.counts, summary.instances, summary.approvals)


def view_shape(view: RunView) -> Shape:
    """Return a run with its tasks, their instances and attempts, and the hooks that were triggered."""
    attempts: dict[tuple[str, int], list[AttemptRecord]] = {}
    for attempt in view.attempts:
        attempts.setdefault((attempt.task_id, attempt.map_index), []).append(attempt)
    instances: dict[str, list[InstanceRecord]] = {}
    for record in view.instances:
        if record.map_index >= 0:
            instances.setdefault(record.task_id, []).append(record)
    return {
        **run_shape(view.run, *view.tally(), view.approvals),
        "outputs": dict(view.outputs),
        "tasks": [
            {
                **task_shape(task, attempts, instances.get(task.task_id, ()), view.stale),
                "group": view.parents.get(task.task_id),
            }
            for task in view.tasks
        ],
        "groups": group_shapes(Groups(view.groups, view.parents)),
        "hooks": [task_shape(hook, attempts) for hook in view.hooks],
        "earlier_attempts": view.earlier_attempts,
        "child_runs": [child_shape(child) for child in view.children],
        "standing": view.standing,
        "overlooked": [{"task": failure.task_id, "because": reason_text(failure)} for failure in view.overlooked],
    }


def skipped_run_shape(workflow: str, reason: str | None) -> Shape:
    """Return a run that was not started because of other runs of its group. It is not in the state file."""
    shape = {"run_id": None, "workflow": workflow, "status": "SKIPPED", "reason": reason}
    return {**shape, "counts": {}, "tasks": []}


def cancelled_run_shape(run: RunRecord) -> CancelledRunShape:
    """Return what `cancel` has made of a run."""
    return {"run_id": run.run_id, "workflow": run.dag_id, "status": run.status}


def run_difference_shape(difference: RunDifference) -> RunDifferenceShape:
    """Return two runs, compared; each pair is that of the first and the second run."""
    return {
        "runs": [run.run_id for run in difference.runs],
        "status": [run.status for run in difference.runs],
        "differs": difference.differs,
        "definition": {"added": difference.added, "removed": difference.removed, "changed": difference.changed},
        "params": {name: list(pair) for name, pair in difference.params.items()},
        "selection": [run.selection for run in difference.runs],
        "outputs": _values_shape(difference.outputs),
        "tasks": [
            {
                "task": task.name[0],
                "map_index": None if task.name[1] < 0 else task.name[1],
                "status": list(task.statuses),
                "attempts": list(task.attempts),
                "duration_s": [None if each is None else round(each, 6) for each in task.durations_s],
                "outputs": _values_shape(task.values),
            }
            for task in difference.tasks
        ],
        "child_runs": [
            {
                "task": child.name[0],
                "map_index": None if child.name[1] < 0 else child.name[1],
                "runs": [None if run is None else run.run_id for run in child.runs],
                "status": [None if run is None else run.status for run in child.runs],
                "differs": child.differs,
            }
            for child in difference.children
        ],
    }


def _values_shape(values: Sequence[ValueDifference]) -> dict[str, list[Any] | None]:
    """Return the values that differ by name, as pairs; null: one of them is long or pickled."""
    return {value.key: None if value.values is None else list(value.values) for value in values}


def decision_shape(decided: Decided) -> DecisionShape:
    """Return a decision about a task that waited; `at_once` is false where the next resume acts on it."""
    approval, choice = decided.approval, decided.choice
    return {
        "run_id": approval.run_id,
        "task": approval.task_id,
        "map_index": None if approval.map_index < 0 else approval.map_index,
        "decision": "approved" if choice.approved else "rejected",
        "by": choice.by,
        "at_once": decided.state == "done",
    }


def changed_tasks_shape(run: RunRecord, names: Sequence[str]) -> ChangedTasksShape:
    """Return a run, and its tasks and instances that `clear --task` or `mark` has changed."""
    return {**cancelled_run_shape(run), "tasks": list(names)}


def workflow_shape(summary: WorkflowSummary) -> WorkflowShape:
    """Return a workflow with its latest run."""
    return {
        "workflow": summary.dag.dag_id,
        "description": summary.dag.description,
        "source": summary.dag.source,
        "latest": summary_shape(summary.latest) if summary.latest else None,
        "next_at": iso(summary.next_at),
    }


# -- tasks ------------------------------------------------------------------------------------------------------


def task_shape(
    record: InstanceRecord,
    attempts: Attempts,
    instances: Sequence[InstanceRecord] = (),
    stale: Mapping[tuple[str, int], str] = EMPTY_MAPPING,
) -> TaskShape:
    """Return a task of a run, or an instance of a mapped task, with its attempts. A mapped task has `instances`."""
    return {
        "task": record.task_id,
        "map_index": None if record.map_index < 0 else record.map_index,
        "map_key": record.map_key,
        "status": record.status,
        "reason": record.reason,
        "stale": stale.get((record.task_id, record.map_index)),
        "depends_on": record.dependencies,
        "started_at": iso(record.started_at),
        "ended_at": iso(record.ended_at),
        "wake_at": iso(record.wake_at),
        "duration_s": seconds_between(record.started_at, record.ended_at),
        "attempts": [attempt_shape(attempt) for attempt in attempts.get((record.task_id, record.map_index), ())],
        "instances": [task_shape(instance, attempts, (), stale) for instance in instances] if instances else None,
    }


def group_shapes(groups: Groups) -> list[GroupShape]:
    """Return the groups of a run; `group` is the group around one."""
    members = groups.members()
    return [
        {
            "id": record.task_id,
            "group": groups.parents.get(record.task_id),
            "status": record.status,
            "reason": record.reason,
            "members": members[record.task_id],
            "started_at": iso(record.started_at),
            "ended_at": iso(record.ended_at),
            "duration_s": seconds_between(record.started_at, record.ended_at),
        }
        for record in groups.groups
    ]


def attempt_shape(attempt: AttemptRecord) -> AttemptShape:
    """Return an attempt. `log` is null where it has no output; `log_lost` is the reason if part of it is missing.

    `host` is null on the machine of the run, and for half a second after the start on another one.
    """
    return {
        "attempt": attempt.attempt,
        "status": attempt.status,
        "exit_code": attempt.exit_code,
        "error": attempt.error,
        "codes": list(attempt.codes),
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "duration_s": seconds_between(attempt.started_at, attempt.ended_at),
        "log": attempt.log_path,
        "trace": trace_shape(attempt.trace),
        "log_lost": attempt.log_lost,
        "host": attempt.host,
    }


def trace_shape(text: str | None) -> list[RaisedShape] | None:
    """Return the frames of the user's code for a Python exception and its causes; null where there is none."""
    return [
        {
            "error": raised.error,
            "relation": raised.relation or None,
            "notes": list(raised.notes),
            "frames": [
                {
                    "file": frame.file,
                    "line": frame.line,
                    "function": frame.function,
                    "source": frame.source,
                    "repeats": frame.repeats,
                }
                for frame in raised.frames
            ],
            "left_out": raised.left_out,
        }
        for raised in read_trace(text)
    ] or None


def task_logs_shape(run_id: str, task: InstanceRecord, attempts: Sequence[AttemptRecord], *, earlier: bool) -> Shape:
    """Return the attempts of a task or an instance with the paths of their logs."""
    shapes = [_indexed_attempt_shape(attempt) for attempt in attempts]
    shape = {"run_id": run_id, "task": instance_name_of(task), "status": task.status}
    return {**shape, "attempts": shapes, "earlier_attempts": earlier}


def run_logs_shape(run: RunRecord, attempts: Sequence[AttemptRecord], *, earlier: bool) -> Shape:
    """Return the attempts of all tasks of a run with the paths of their logs."""
    shapes = [{"task": attempt.task_id, **_indexed_attempt_shape(attempt)} for attempt in attempts]
    shape = {"run_id": run.run_id, "task": None, "status": run.status}
    return {**shape, "attempts": shapes, "earlier_attempts": earlier}


def _indexed_attempt_shape(attempt: AttemptRecord) -> Shape:
    index = {} if attempt.map_index < 0 else {"map_index": attempt.map_index}
    return {**index, **attempt_shape(attempt)}


def outputs_shape(outputs: Outputs) -> Shape:
    """Return the outputs of a run, and the output values of its tasks."""
    return {
        "run_id": outputs.run_id,
        "run_outputs": outputs.of_run,
        "outputs": [output_shape(output) for output in outputs.values],
    }


def output_shape(output: Output) -> OutputShape:
    """Return a stored value."""
    record = output.record
    return {
        "task": record.task_id,
        "map_index": None if record.map_index < 0 else record.map_index,
        "key": record.key,
        "encoding": record.encoding,
        "size": record.size,
        "value": plain(output.payload),
    }


def explanation_shape(explanation: Explanation) -> ExplanationShape:
    """Return why a task is in its state."""
    return {
        "run_id": explanation.run_id,
        "task": explanation.task_id,
        "status": explanation.status,
        "because": list(explanation.because),
        "trace": trace_shape(next(iter(explanation.traces.values()), None)),
    }


# -- pools and checkpoints --------------------------------------------------------------------------------------


def pool_shape(view: PoolView) -> PoolShape:
    """Return a pool with its holders and its queue."""
    return {
        "pool": view.pool.name,
        "slots": view.pool.slots,
        "used": view.used,
        "description": view.pool.description,
        "set_by_hand": view.pool.by_hand,
        "holders": [_slot_shape(slot) for slot in view.holders],
        "waiting": [_slot_shape(slot) for slot in view.waiting],
    }


def _slot_shape(slot: SlotRecord) -> SlotUseShape:
    since = slot.asked_at if slot.taken_at is None else slot.taken_at
    return {"run_id": slot.run_id, "task": slot_owner(slot), "slots": slot.slots, "since": iso(since)}


def checkpoint_shape(checkpoint: Checkpoint) -> Shape:
    """Return a checkpoint file."""
    return {
        "workflow": checkpoint.workflow_name,
        "run_id": checkpoint.run_id,
        "status": checkpoint.status,
        "timestamp": checkpoint.timestamp,
        "completed": len(checkpoint.succeeded),
        "total": checkpoint.total_tasks,
        "file": checkpoint.path,
    }


def finding_shape(finding: Finding) -> Shape:
    """Return what a check of `doctor` found."""
    return {"check": finding.check, "verdict": finding.severity, "message": finding.message, "hint": finding.hint}
