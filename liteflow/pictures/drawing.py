"""Pictures of stored runs, and of graphs that have not run yet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from liteflow.pictures.picture import Picture, duration_text, from_dependencies, tally_text
from liteflow.state.history import History, InstanceRecord, RunRecord


def picture_of_run(history: History, run: RunRecord) -> Picture:
    """Return the picture of a run on its own graph, also if the definition of the dag has changed since."""
    dependencies, kinds = _graph(history.graph(run.graph_digest))
    by_task: dict[str, list[InstanceRecord]] = {}
    tallies: dict[str, Counter[str]] = {}
    for instance in history.instances(run.run_id):
        by_task.setdefault(instance.task_id, []).append(instance)
        if instance.map_index >= 0:
            tallies.setdefault(instance.task_id, Counter())[instance.status] += 1
        if instance.task_id not in dependencies:  # the stored graph is missing or damaged
            dependencies[instance.task_id] = _texts(instance.dependencies)
    statuses, details, durations, labels = {}, {}, {}, {}
    status_text: dict[str, str] = {}
    for task_id, instances in by_task.items():
        whole = instances[0]  # the task itself; the instances of a mapped task follow
        statuses[task_id] = whole.status
        dead = run.status == "INTERRUPTED" and whole.status == "RUNNING"
        details[task_id] = "was running when its process died" if dead else whole.reason or ""
        times = [(instance.started_at, instance.ended_at) for instance in instances]
        spans = [(start, end) for start, end in times if start is not None and end is not None]
        if spans:
            durations[task_id] = max(end for _, end in spans) - min(start for start, _ in spans)
        if task_id in tallies:
            labels[task_id] = f"{task_id} ×{tallies[task_id].total():,}"
            details[task_id] = tally_text(tallies[task_id])
            if whole.status == "FAILED":
                tally = tallies[task_id]
                status_text[task_id] = f"{tally['FAILED']:,} of {tally.total():,} failed"
    dag = history.dag(run.dag_id)
    started_at = run.started_at or run.created_at
    facts = [("Run", run.run_id), ("Started", time_text(started_at)), ("Duration", run_duration(run))]
    return from_dependencies(
        run.dag_id,
        dependencies,
        statuses=statuses,
        labels=labels,
        kinds=kinds,
        details=details,
        durations=durations,
        status_text=status_text,
        subtitle=(dag.description if dag else "") or None,
        status=run.status,
        facts=facts,
    )


def picture_of_graph(title: str, snapshot: dict[str, Any], description: str = "") -> Picture:
    """Return the picture of a stored graph, without states."""
    dependencies, kinds = _graph(snapshot)
    rows = snapshot.get("tasks")
    mapped = [row for row in rows if isinstance(row, dict) and row.get("mapped")] if isinstance(rows, list) else []
    labels = {row["id"]: f"{row['id']} ×n" for row in mapped if isinstance(row.get("id"), str)}
    return from_dependencies(title, dependencies, labels=labels, kinds=kinds, subtitle=description or None)


def _graph(snapshot: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return dependencies and kinds of a stored graph. Invalid entries of an altered graph are left out."""
    tasks = snapshot.get("tasks")
    rows = [row for row in tasks if isinstance(row, dict)] if isinstance(tasks, list) else []
    rows = [row for row in rows if isinstance(row.get("id"), str)]
    kinds = {row["id"]: kind_of(row) for row in rows}
    return {row["id"]: _texts(row.get("depends_on")) for row in rows}, kinds


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
