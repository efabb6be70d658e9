"""Pictures of stored runs, and of graphs that have not run yet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from liteflow.pictures.boxes import with_boxes
from liteflow.pictures.picture import Node, Picture, duration_text, make_picture, tally_text
from liteflow.planning.critical_path import critical_path
from liteflow.record import replace
from liteflow.state.history import History, InstanceRecord, RunRecord
from liteflow.states import TASK_ENDED

_SHOWN_STEPS: Final = 8  # of the critical path in the heading


def picture_of_run(history: History, run: RunRecord) -> Picture:
    """Return the picture of a run on its own graph, also if the definition of the dag has changed since."""
    snapshot = history.graph(run.graph_digest)
    dependencies, kinds = _graph(snapshot)
    by_task: dict[str, list[InstanceRecord]] = {task_id: [] for task_id in dependencies}
    for instance in (*history.instances(run.run_id), *history.groups(run.run_id)):
        if instance.task_id not in dependencies:  # the stored graph is missing or damaged
            dependencies[instance.task_id] = _texts(instance.dependencies)
        by_task.setdefault(instance.task_id, []).append(instance)
    nodes = [_node_of(task_id, kinds.get(task_id, ""), instances, run) for task_id, instances in by_task.items()]
    dag = history.dag(run.dag_id)
    started_at = run.started_at or run.created_at
    facts = [("Run", run.run_id), ("Started", time_text(started_at)), ("Duration", run_duration(run))]
    ended_at = {task_id: end for task_id, instances in by_task.items() if (end := _end(instances)) is not None}
    path = critical_path(dependencies, ended_at)
    if len(path) > 1:
        shown = path if len(path) <= _SHOWN_STEPS else [*path[:2], "…", *path[-2:]]
        facts.append(("Critical path", " → ".join(shown)))
    subtitle = (dag.description if dag else "") or None
    picture = make_picture(run.dag_id, nodes, dependencies, subtitle=subtitle, status=run.status, facts=facts)
    return with_boxes(replace(picture, critical=tuple(path)), _rows(snapshot))


def critical_path_of(history: History, run: RunRecord, now: float) -> list[str]:
    """Return the critical path of a run; of one that is active, as if what runs ended at `now`."""
    dependencies, _ = _graph(history.graph(run.graph_digest))
    by_task: dict[str, list[InstanceRecord]] = {}
    for instance in history.instances(run.run_id):
        by_task.setdefault(instance.task_id, []).append(instance)
    ended_at = {task_id: end for task_id, instances in by_task.items() if (end := _end(instances, now)) is not None}
    return critical_path(dependencies, ended_at)


def _end(instances: Sequence[InstanceRecord], now: float | None = None) -> float | None:
    """Return when a task ended; of one that has started and not ended, `now`."""
    active = [instance for instance in instances if instance.started_at is not None and instance.ended_at is None]
    if active:
        return now
    ends = [end for instance in instances if instance.started_at is not None and (end := instance.ended_at) is not None]
    return max(ends, default=None)


def _node_of(task_id: str, kind: str, instances: Sequence[InstanceRecord], run: RunRecord) -> Node:
    """Return the node of a task; its instances are the task itself and those over a list."""
    if not instances:
        return Node(task_id=task_id, label=task_id, kind=kind)
    task = instances[0]  # the task as a whole is first
    tally = Counter(instance.status for instance in instances if instance.map_index >= 0)
    died = run.status == "INTERRUPTED" and task.status == "RUNNING"
    detail = "was running when its process died" if died else task.reason or ""
    times = [(instance.started_at, instance.ended_at) for instance in instances]
    spans = [(start, end) for start, end in times if start is not None and end is not None]
    return Node(
        task_id=task_id,
        label=f"{task_id} ×{tally.total():,}" if tally else task_id,
        kind=kind,
        status=task.status,
        detail=tally_text(tally) if tally else detail,
        duration_s=max(end for _, end in spans) - min(start for start, _ in spans) if spans else None,
        status_text=_tally_status(task.status, tally),
    )


def _tally_status(status: str, tally: Counter[str]) -> str | None:
    """Return what a mapped task shows in place of the word of its state."""
    if tally and status == "FAILED":
        return f"{tally['FAILED']:,} of {tally.total():,} failed"
    if tally and status in TASK_ENDED:
        return None
    done = sum(tally[state] for state in TASK_ENDED)
    failed = f", {tally['FAILED']:,} failed" if tally["FAILED"] else ""
    return f"{done:,} of {tally.total():,} done{failed}" if tally else None


def picture_of_graph(title: str, snapshot: dict[str, Any], description: str = "") -> Picture:
    """Return the picture of a stored graph, without states."""
    dependencies, kinds = _graph(snapshot)
    mapped = [row["id"] for row in _rows(snapshot) if row.get("mapped")]
    nodes = [
        Node(task_id=task_id, label=f"{task_id} ×n" if task_id in mapped else task_id, kind=kinds[task_id])
        for task_id in dependencies
    ]
    return with_boxes(make_picture(title, nodes, dependencies, subtitle=description or None), _rows(snapshot))


def _graph(snapshot: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return dependencies and kinds of a stored graph. Invalid entries of an altered graph are left out."""
    rows = _rows(snapshot)
    kinds = {row["id"]: kind_of(row) for row in rows}
    return {row["id"]: _texts(row.get("depends_on")) for row in rows}, kinds


def _rows(snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of a stored graph, without invalid entries."""
    tasks = snapshot.get("tasks")
    rows = [row for row in tasks if isinstance(row, dict)] if isinstance(tasks, list) else []
    return [row for row in rows if isinstance(row.get("id"), str)]


def kind_of(row: Mapping[str, Any]) -> str:
    """Return the text about a task besides its name: its type, and its role in the control flow."""
    kind = str(row.get("kind", ""))
    decides = row.get("decides")
    marks = [
        "" if kind == "python" else kind,
        decides.replace("_", " ") if isinstance(decides, str) else "",
        "setup" if row.get("setup") is True else "",
        "teardown" if row.get("teardown") is True else "",
        "if" if row.get("if") else "",
    ]
    return ", ".join(mark for mark in marks if mark)


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def time_text(at: float | None) -> str:
    """Return a time for people, in the local time zone."""
    try:
        return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return "?"  # an altered file


def run_duration(run: RunRecord) -> str:
    """Return the duration of a run; "-" while it is not known."""
    if run.started_at is None or run.ended_at is None:
        return "-"
    return duration_text(run.ended_at - run.started_at)
