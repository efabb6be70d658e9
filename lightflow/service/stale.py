"""Find results that are out of date: a task that they depend on has succeeded again since. Computed, never stored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightflow.service.mapped_instances import instance_name_of
from liteflow import Status
from liteflow.api import TASK_ENDED, Graph, InstanceRecord

#: The reason for each stale task instance, by task id and map index.
Stale = dict[tuple[str, int], str]
#: Rules by which a task may start before its upstream tasks have ended.
_EARLY: Final = ("one_success", "one_failed", "one_done", "always")


def find_stale(rows: Sequence[Mapping[str, Any]], instances: Sequence[InstanceRecord]) -> Stale:
    """Return the instances whose last attempt began before the last success of an upstream task, and all that follow.

    `rows` are the tasks of the graph. A task whose rule does not wait for all upstream tasks is stale only if one of
    them is.
    """
    succeeded: dict[str, float] = {}  # when each task has last succeeded
    for each in instances:
        if each.status == Status.SUCCESS and each.ended_at is not None:
            succeeded[each.task_id] = max(succeeded.get(each.task_id, 0.0), each.ended_at)
    rules = {row["id"]: row.get("rule", "all_success") for row in rows}
    upstream = {row["id"]: row.get("depends_on", ()) for row in rows}
    stale: Stale = {}
    for each in instances:
        if each.started_at is None or each.status not in TASK_ENDED or rules.get(each.task_id) in _EARLY:
            continue
        for above in upstream.get(each.task_id, ()):
            if succeeded.get(above, 0.0) > each.started_at:
                at = time.strftime("%H:%M:%S", time.localtime(succeeded[above]))
                stale[each.task_id, each.map_index] = f"{above} succeeded at {at}, later than this started"
                break
    return _with_followers(rows, instances, stale) if stale else stale


def _with_followers(rows: Sequence[Mapping[str, Any]], instances: Sequence[InstanceRecord], stale: Stale) -> Stale:
    """Return the stale instances, with those that have ended after a stale task."""
    graph = Graph({row["id"]: row.get("depends_on", ()) for row in rows})
    by_task: dict[str, list[InstanceRecord]] = {}
    for each in instances:
        by_task.setdefault(each.task_id, []).append(each)
    names = {task_id for task_id, _ in stale}
    for node in graph.order:
        task_id = graph.ids[node]
        above = next((graph.ids[each] for each in graph.upstream[node] if graph.ids[each] in names), None)
        for each in by_task.get(task_id, ()):
            if above is not None and each.started_at is not None and each.status in TASK_ENDED:
                stale.setdefault((task_id, each.map_index), f"{above} is stale")
                names.add(task_id)
        of_instances = [each for each in by_task.get(task_id, ()) if (task_id, each.map_index) in stale]
        if of_instances:
            stale.setdefault((task_id, -1), f"{instance_name_of(of_instances[0])} is stale")
    return stale
