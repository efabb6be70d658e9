"""The result of a run whose tasks have all ended. Pure."""

from __future__ import annotations

from collections.abc import Collection

from liteflow.planning.control_flow import ControlFlow
from liteflow.planning.task_table import TaskTable
from liteflow.states import RunStatus


def run_status(table: TaskTable, control: ControlFlow, silent: Collection[int] = ()) -> RunStatus:
    """Return the state of the run: FAILED if a task without downstream tasks failed.

    A failed task whose downstream tasks run all the same (`all_done`, `one_failed`, …) does not fail the run. Of that,
    `silent` tasks say nothing: they did not run, or before their upstream tasks ran again.
    """
    statuses = {table.downstream_status(node) for node in _deciding_tasks(table, control, silent)}
    if statuses & {"FAILED", "UPSTREAM_FAILED"}:
        return "FAILED"
    return "CANCELLED" if "CANCELLED" in statuses else "SUCCESS"


def counting_failures(table: TaskTable, control: ControlFlow) -> list[str]:
    """Return the ids of the tasks that FAILED and whose failure counts."""
    failed = [node for node in range(len(table.graph)) if table.status[node] == "FAILED" and node not in control.joins]
    return [table.task_ids[node] for node in failed if failure_counts(table, control, node)]


def failure_counts(table: TaskTable, control: ControlFlow, node: int) -> bool:
    """Return whether a failure of the instance can fail the run: it is not tolerated, and no quiet teardown's."""
    teardown = control.teardowns.get(table.owner(node))
    return node not in table.tolerated and (teardown is None or teardown.fails_run)


def _deciding_tasks(table: TaskTable, control: ControlFlow, silent: Collection[int]) -> list[int]:
    """Return the tasks whose downstream tasks are all silent, status watchers, or teardowns that fail no run."""
    quiet = {node for node, teardown in control.teardowns.items() if not teardown.fails_run}
    if not quiet and not control.status_readers and not silent:
        return table.graph.leaves()
    ignored, downstream = quiet | control.status_readers | set(silent), enumerate(table.graph.downstream)
    return [node for node, tasks in downstream if node not in quiet and ignored.issuperset(tasks)]
