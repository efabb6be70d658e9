"""The groups of a run: their states and times, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from liteflow.api import EMPTY_MAPPING, History, InstanceRecord, RunRecord


class Groups(NamedTuple):
    """The groups of a run."""

    groups: Sequence[InstanceRecord] = ()  #: in the order of the graph, with the times of their tasks
    parents: Mapping[str, str] = EMPTY_MAPPING  #: the innermost group of each task and group that is in one

    def members(self) -> dict[str, list[str]]:
        """Return the tasks and groups that are directly in each group."""
        members: dict[str, list[str]] = {group.task_id: [] for group in self.groups}
        for name, group in self.parents.items():
            members.setdefault(group, []).append(name)
        return members


def run_groups(history: History, run: RunRecord) -> Groups:
    """Return the groups of a run. For a run without groups, neither its graph nor its tasks are read."""
    stored = history.groups(run.run_id)
    if not stored:
        return Groups()
    states = history.instance_states(run.run_id)
    starts = zip(states.task_id, states.started_at, strict=True)
    return groups_in(stored, history.graph_tasks(run.graph_digest), starts)


def groups_in(
    stored: Sequence[InstanceRecord], rows: Sequence[Mapping[str, Any]], starts: Iterable[tuple[str, float | None]]
) -> Groups:
    """Return the groups of a run.

    Args:
        stored: what `History.groups` returns.
        rows: the tasks of its graph.
        starts: when each instance has started.
    """
    names = [row["id"] for row in rows if row.get("gate") == "group"]
    if not names:
        return Groups()
    records = {record.task_id: record for record in stored if record.kind == "group"}
    groups = {name: records[name] for name in names if name in records}
    parents = {row["id"]: row["group"] for row in rows if row.get("group") in groups and row.get("gate") != "entry"}
    for name, started_at in starts:
        while (name := parents.get(name, "")) in groups:
            first = groups[name].started_at
            if first is None or (started_at is not None and started_at < first):
                groups[name] = groups[name]._replace(started_at=started_at)
    return Groups(list(groups.values()), parents)


def groups_around(name: str, parents: Mapping[str, str]) -> Iterator[str]:
    """Yield the groups around a task or group, the innermost first."""
    while name := parents.get(name, ""):
        yield name
