"""Functions of stored runs for Python programs; what changes a run is in `liteflow.Dag` and `liteflow.DagRun`."""

from lightflow.service.run_diff import (
    ChildDifference,
    RunDifference,
    TaskDifference,
    ValueDifference,
    diff_runs,
)

__all__ = ["ChildDifference", "RunDifference", "TaskDifference", "ValueDifference", "diff_runs"]
