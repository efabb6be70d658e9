"""How long the tasks of a workflow took in its last runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from liteflow.api import History, Record, RunRecord


class TaskDurations(Record):
    """The durations of a task; a mapped task counts from its first start to its last end."""

    task_id: str
    seconds: Sequence[float | None]  #: for each run; None: it did not succeed there

    def percentile(self, share: float) -> float | None:
        """Return the duration that this share of the successes does not exceed; None without a success."""
        successes = sorted(each for each in self.seconds if each is not None)
        return successes[max(0, math.ceil(share * len(successes)) - 1)] if successes else None


class WorkflowDurations(Record):
    """The durations of the tasks of a workflow."""

    runs: Sequence[RunRecord]  #: the newest first
    tasks: Sequence[TaskDurations]


def durations(history: History, workflow: str, task_id: str | None, limit: int) -> WorkflowDurations:
    """Return how long each task of a workflow, or one of them, took in the last runs."""
    runs = history.runs(workflow, limit=limit)
    seconds: dict[str, dict[str, float]] = {}
    for name, run_id, started_at, ended_at in history.task_times([run.run_id for run in runs], task_id):
        seconds.setdefault(name, {})[run_id] = ended_at - started_at
    tasks = [
        TaskDurations(task_id=name, seconds=[by_run.get(run.run_id) for run in runs])
        for name, by_run in seconds.items()
    ]
    return WorkflowDurations(runs=runs, tasks=tasks)
