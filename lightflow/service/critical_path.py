"""The critical path of a run: the tasks that determined when it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.service.lookup import find_run
from lightflow.service.mapped_instances import with_times
from liteflow.api import RUN_ENDED, History, InstanceRecord, Record, RunRecord


class CriticalPath(Record):
    """The critical path of a run, from its first task to the one that ended last."""

    run: RunRecord
    steps: Sequence[InstanceRecord]  #: tasks; a mapped task has the times of its instances
    now: float  #: the end of what is still running

    def seconds(self, step: InstanceRecord) -> float:
        """Return how many seconds a step took, or has taken."""
        return (step.ended_at or self.now) - (step.started_at or self.now)

    @property
    def total_s(self) -> float:
        """The seconds from the start of the first step to the end of the last one."""
        if not self.steps:
            return 0.0
        return (self.steps[-1].ended_at or self.now) - (self.steps[0].started_at or self.now)


def critical_path(history: History, run_id: str) -> CriticalPath:
    """Return the critical path of a run.

    Raises:
        RunNotFound: there is no such run.
    """
    run = find_run(history, run_id)
    now = time.time() if run.status not in RUN_ENDED else run.ended_at or time.time()
    records = [*with_times(history.instances(run.run_id)), *history.groups(run.run_id)]
    rows = history.graph_tasks(run.graph_digest)
    return CriticalPath(run=run, steps=_path(rows, records, now), now=now)


def _path(rows: Sequence[Mapping[str, Any]], records: Sequence[InstanceRecord], now: float) -> list[InstanceRecord]:
    """Return the path from the task that ended last, each time to the upstream that ended last, in order of time."""
    upstream = {row["id"]: row.get("depends_on", ()) for row in rows}
    tasks = {record.task_id: record for record in records if record.map_index < 0}
    ends = {name: end for name, record in tasks.items() if (end := _end(record, now)) is not None}
    path: list[InstanceRecord] = []
    seen: set[str] = set()
    name = max((each for each in ends if tasks[each].kind == "task"), key=ends.__getitem__, default=None)
    while name is not None and name not in seen:  # an altered graph may have a circle
        seen.add(name)
        if tasks[name].kind == "task":
            path.append(tasks[name])
        name = max((above for above in upstream.get(name, ()) if above in ends), key=ends.__getitem__, default=None)
    return path[::-1]


def _end(record: InstanceRecord, now: float) -> float | None:
    """Return when a task or a group ended; None for a task that did not run."""
    if record.kind != "task":
        return record.ended_at or record.updated_at
    if record.started_at is None:
        return None
    return record.ended_at or now
