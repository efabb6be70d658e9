"""The JSON shapes of the server that the command line does not have: columns for long lists, keys of changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from lightflow.scheduler.failures import SchedulerState
from lightflow.scheduler.overview import TriggerView
from lightflow.server.answers import (
    ApprovalShape,
    AttemptColumns,
    EventShape,
    FailureShape,
    FieldShape,
    FireShape,
    InstanceColumns,
    OwnerShape,
    RunStateShape,
    SchedulerShape,
    TriggerShape,
)
from lightflow.service.json_shapes import Shape, iso, iso_column, summary_shape
from lightflow.service.queries import RunSummary
from liteflow.api import AttemptRecord, EventRecord, FireRecord, InstanceRecord, InstanceStates, OpenApproval

#: An attribute of records, and what makes a column of its values JSON.
Column = tuple[str, Callable[[Sequence[Any]], Iterable[Any]] | None]


def _places(indexes: Iterable[int]) -> Iterable[int | None]:
    return [None if index < 0 else index for index in indexes]


def _truths(values: Iterable[int]) -> Iterable[bool]:
    return map(bool, values)


_INSTANCE: Final[dict[str, Column]] = {
    "task": ("task_id", None),
    "map_index": ("map_index", _places),
    "map_key": ("map_key", None),
    "status": ("status", None),
    "attempt": ("try_number", None),
    "started_at": ("started_at", iso_column),
    "ended_at": ("ended_at", iso_column),
    "reason": ("reason", None),
    "tolerated": ("tolerated", _truths),
    "kind": ("kind", None),
    "host": ("host", None),
}
_ATTEMPT: Final[dict[str, Column]] = {
    "task": ("task_id", None),
    "map_index": ("map_index", _places),
    "attempt": ("attempt", None),
    "status": ("status", None),
    "started_at": ("started_at", iso_column),
    "ended_at": ("ended_at", iso_column),
    "exit_code": ("exit_code", None),
    "host": ("host", None),
}
INSTANCE_COLUMNS: Final = list(_INSTANCE)
ATTEMPT_COLUMNS: Final = list(_ATTEMPT)


def instance_columns(records: Iterable[InstanceRecord]) -> InstanceColumns:
    """Return task instances as the names of columns and a list of rows, which is a fifth of the size of mappings."""
    return {"columns": INSTANCE_COLUMNS, "rows": _rows(_INSTANCE, _transposed(_INSTANCE, records))}


def state_columns(states: InstanceStates) -> InstanceColumns:
    """Return task instances as `instance_columns` does."""
    values = [getattr(states, attribute) for attribute, _ in _INSTANCE.values()]
    return {"columns": INSTANCE_COLUMNS, "rows": _rows(_INSTANCE, values)}


def attempt_columns(records: Iterable[AttemptRecord]) -> AttemptColumns:
    """Return attempts as columns."""
    return {"columns": ATTEMPT_COLUMNS, "rows": _rows(_ATTEMPT, _transposed(_ATTEMPT, records))}


def _transposed(columns: dict[str, Column], records: Iterable[Any]) -> Iterable[Sequence[Any]]:
    """Return the values of records for each column; nothing where there is no record."""
    return zip(*map(attrgetter(*(attribute for attribute, _ in columns.values())), records), strict=True)


def _rows(columns: dict[str, Column], values: Iterable[Sequence[Any]]) -> list[Any]:
    """Return the rows of columns of values, which are converted a column at a time."""
    makers = [make for _, make in columns.values()]
    shaped = [column if make is None else make(column) for column, make in zip(values, makers, strict=False)]
    return list(zip(*shaped, strict=True))


def event_shape(event: EventRecord) -> EventShape:
    """Return a change of the state of a run, or of a task instance."""
    return {
        "seq": event.seq,
        "run_id": event.run_id,
        "task": event.task_id,
        "map_index": None if event.map_index is None or event.map_index < 0 else event.map_index,
        "attempt": event.attempt,
        "previous": event.previous,
        "status": event.status,
        "reason": event.reason,
        "at": iso(event.at),
    }


def fire_shape(fire: FireRecord) -> FireShape:
    """Return a fire of a trigger, or of a start by a person or a program."""
    return {
        "fire_no": fire.fire_no,
        "trigger": fire.trigger_id,
        "key": fire.key.partition("\n")[0],
        "at": iso(fire.at),
        "due_at": iso(fire.due_at),
        "status": fire.status,
        "run_id": fire.run_id,
        "started_by": fire.started_by,
        "reason": fire.reason,
        "decided_at": iso(fire.decided_at),
    }


def trigger_shape(view: TriggerView) -> TriggerShape:
    """Return a trigger with its next fire."""
    return {
        "trigger": view.row.trigger_id,
        "workflow": view.row.dag_id,
        "kind": view.row.kind,
        "words": view.words,
        "timezone": view.zone,
        "state": view.state,
        "problem": view.row.problem,
        "paused_by": view.row.paused_by,
        "next_at": iso(view.next_at),
    }


def scheduler_shape(state: SchedulerState) -> SchedulerShape:
    """Return the state of the scheduler of a server."""
    failures: list[FailureShape] = [
        {"subject": name, "problem": state.failures[name]} for name in sorted(state.failures)
    ]
    return {"active": state.is_active, "failures": failures}


#: The fields of runs, tasks and fires that hold values: parameters, labels of instances, files that have fired, choices
#: of a form; and those that may quote values: reasons, conditions and the options of tasks.
_VALUES: Final = frozenset({"params", "map_key", "key", "outputs", "values", "default", "reason", "if", "options"})
#: The keys of the JSON Schema of a parameter that hold values of it.
_SCHEMA_VALUES: Final = frozenset({"default", "enum", "minimum", "maximum", "pattern"})


def without_values(shape: Any) -> Any:
    """Return the shape of runs, tasks or fires without values, for a server that hides them."""
    if isinstance(shape, list):
        return [without_values(each) for each in shape]
    if not isinstance(shape, dict):
        return shape
    if "columns" in shape:
        hidden = [name in _VALUES for name in shape["columns"]]
        rows = [[None if hides else value for hides, value in zip(hidden, row, strict=True)] for row in shape["rows"]]
        return {**shape, "rows": rows}
    return {name: None if name in _VALUES else without_values(each) for name, each in shape.items()}


def schema_without_values(schema: Mapping[str, Any]) -> Shape:
    """Return the JSON Schema of parameters without the values in it, for a server that hides values."""
    properties = {
        name: {key: value for key, value in each.items() if key not in _SCHEMA_VALUES}
        for name, each in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}


def run_state_shape(summary: RunSummary) -> RunStateShape:
    """Return a run with what only a server needs: who owns it, and whether it can be resumed."""
    run = summary.run
    owner: OwnerShape | None = None if run.owner_pid is None else {"pid": run.owner_pid, "host": run.owner_host}
    shape = summary_shape(summary)
    return {**shape, "owner": owner, "resumable": run.resumable, "graph": run.graph_digest, "cwd": run.cwd}


def approval_shape(approval: OpenApproval) -> ApprovalShape:
    """Return what a task waits for that a person decides, with the fields of its form."""
    fields: list[FieldShape] = [
        {
            "name": name,
            "type": param.type,
            "description": param.description,
            "required": param.required,
            "default": None if param.required else param.default,
            "values": list(param.values) or None,
        }
        for name, param in approval.fields.items()
    ]
    return {"message": approval.message, "since": iso(approval.since), "fields": fields}
