"""Compare two runs: their definitions, parameters, tasks and values. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lightflow.service.lookup import find_run
from lightflow.service.mapped_instances import with_times
from lightflow.service.queries import readable
from liteflow import PayloadError
from liteflow.api import History, InstanceRecord, Payload, Record, RunRecord

_MAX_SHOWN: Final = 200  # bytes of a value that is shown
Key = tuple[str, int]


class ValueDifference(Record):
    """A value that only one of two runs has, or that differs."""

    key: str
    values: tuple[object, object] | None  #: both, where they are short and readable; None stands for no value


class TaskDifference(Record):
    """How a task or an instance of a mapped task ended in each of two runs."""

    name: Key
    statuses: tuple[str | None, str | None]  #: None: the run does not have it
    attempts: tuple[int, int]
    durations_s: tuple[float | None, float | None]
    values: list[ValueDifference]

    @property
    def differs(self) -> bool:
        """Whether its state or a value differs."""
        return self.statuses[0] != self.statuses[1] or bool(self.values)


class ChildDifference(Record):
    """The last child run of a task or an instance in each of two runs."""

    name: Key  #: the task of the parent run
    runs: tuple[RunRecord | None, RunRecord | None]  #: None: that run has none
    differs: bool  #: whether anything differs besides times and attempts, at any depth


class RunDifference(Record):
    """Two runs, compared."""

    runs: tuple[RunRecord, RunRecord]
    added: list[str]  #: tasks that only the second definition has
    removed: list[str]
    changed: dict[str, list[str]]  #: tasks whose definitions differ, with the keys
    params: dict[str, tuple[object, object]]  #: those that differ
    outputs: list[ValueDifference]  #: those of the runs that differ
    tasks: list[TaskDifference]
    children: list[ChildDifference]

    @property
    def differs(self) -> bool:
        """Whether anything differs besides times and attempts."""
        first, second = self.runs
        definition = self.added or self.removed or self.changed
        return bool(
            definition
            or self.params
            or self.outputs
            or first.status != second.status
            or first.selection != second.selection
            or any(task.differs for task in self.tasks)
            or any(child.differs for child in self.children)
        )


def diff_runs(db: str, first_id: str, second_id: str) -> RunDifference:
    """Compare two runs of a state file.

    Raises:
        RunNotFound: one of them does not exist.
    """
    with History(db) as history:
        return _difference(history, find_run(history, first_id), find_run(history, second_id))


def _difference(history: History, first: RunRecord, second: RunRecord) -> RunDifference:
    rows = [{row["id"]: row for row in history.graph_tasks(run.graph_digest)} for run in (first, second)]
    return RunDifference(
        runs=(first, second),
        added=[task_id for task_id in rows[1] if task_id not in rows[0]],
        removed=[task_id for task_id in rows[0] if task_id not in rows[1]],
        changed=_changed(*rows),
        params=_different(first.params, second.params),
        outputs=_compared_all(*(history.run_outputs(run.run_id) for run in (first, second))),
        tasks=_tasks(history, first, second),
        children=_children(history, first, second),
    )


def _children(history: History, first: RunRecord, second: RunRecord) -> list[ChildDifference]:
    """Return the child runs of both runs, by task and instance."""
    before, after = ({_parent_of(child): child for child in history.children(run.run_id)} for run in (first, second))
    children = []
    for name in sorted(before.keys() | after.keys()):
        pair = before.get(name), after.get(name)
        differs = pair[0] is None or pair[1] is None or _difference(history, pair[0], pair[1]).differs
        children.append(ChildDifference(name=name, runs=pair, differs=differs))
    return children


def _parent_of(child: RunRecord) -> Key:
    index = child.parent_map_index
    return child.parent_task_id or "", -1 if index is None else index


def _changed(first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the tasks of both definitions that differ, with the keys that do."""
    changed = {}
    for task_id in first.keys() & second.keys():
        if keys := sorted(_different(first[task_id], second[task_id])):
            changed[task_id] = keys
    return {task_id: changed[task_id] for task_id in second if task_id in changed}


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    names = dict.fromkeys([*first, *second])
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def _tasks(history: History, first: RunRecord, second: RunRecord) -> list[TaskDifference]:
    """Return all tasks and instances of both runs, in the order of the second."""
    records = [_by_key(history, run) for run in (second, first)]
    keys = dict.fromkeys(key for instances in records for key in instances)
    values = [_values(history, run) for run in (first, second)]
    tasks = []
    for key in keys:
        pair = records[1].get(key), records[0].get(key)
        tasks.append(
            TaskDifference(
                name=key,
                statuses=(_status(pair[0]), _status(pair[1])),
                attempts=(pair[0].try_number if pair[0] else 0, pair[1].try_number if pair[1] else 0),
                durations_s=(_duration(pair[0]), _duration(pair[1])),
                values=_compared_all(*(each.get(key, {}) for each in values)),
            )
        )
    return tasks


def _by_key(history: History, run: RunRecord) -> dict[Key, InstanceRecord]:
    places = {row["id"]: place for place, row in enumerate(history.graph_tasks(run.graph_digest))}
    records = with_times(history.instances(run.run_id))
    records.sort(key=lambda each: (places.get(each.task_id, len(places)), each.map_index))
    return {(each.task_id, each.map_index): each for each in records}


def _values(history: History, run: RunRecord) -> dict[Key, dict[str, Payload]]:
    values: dict[Key, dict[str, Payload]] = {}
    for record in history.values(run.run_id):
        payload = history.value(run.run_id, record.task_id, record.key, record.map_index)
        if payload is not None:
            values.setdefault((record.task_id, record.map_index), {})[record.key] = payload
    return values


def _equal(first: Payload | None, second: Payload | None) -> bool:
    """Return whether two stored values are the same; of large ones the digests are compared."""
    if first is None or second is None:
        return first is second
    if first.sha256 is not None or second.sha256 is not None:
        return (first.encoding, first.sha256) == (second.encoding, second.sha256)
    return (first.encoding, first.data) == (second.encoding, second.data)


def _compared_all(first: Mapping[str, Payload | None], second: Mapping[str, Payload | None]) -> list[ValueDifference]:
    """Return the values that differ, in the order of the names."""
    pairs = {name: (first.get(name), second.get(name)) for name in dict.fromkeys([*first, *second])}
    return [_compared(name, *pair) for name, pair in pairs.items() if not _equal(*pair)]


def _compared(key: str, first: Payload | None, second: Payload | None) -> ValueDifference:
    if any(each is not None and each.size > _MAX_SHOWN for each in (first, second)):
        return ValueDifference(key=key, values=None)
    try:
        return ValueDifference(key=key, values=(first and readable(first), second and readable(second)))
    except PayloadError:
        return ValueDifference(key=key, values=None)


def _status(record: InstanceRecord | None) -> str | None:
    return None if record is None else record.status


def _duration(record: InstanceRecord | None) -> float | None:
    if record is None or record.started_at is None or record.ended_at is None:
        return None
    return record.ended_at - record.started_at
