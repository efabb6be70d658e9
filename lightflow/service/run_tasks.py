"""The tasks and instances of one run, with the rows of its graph: what reasons for statuses are derived from."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, cast

from lightflow.service.mapped_instances import instance_name_of
from liteflow.api import History, InstanceRecord, RunRecord, TriggerRule
from liteflow.planning.control_flow import status_for_downstream


class RunTasks:
    """The tasks and instances of one run.

    Attributes:
        rows: the tasks of the stored graph, by id.
        tasks: the tasks by id.
        instances: the instances of mapped tasks, by task.
    """

    def __init__(self, history: History, run: RunRecord, records: Sequence[InstanceRecord]) -> None:
        self._history = history
        self._run = run
        self.rows: dict[str, dict[str, Any]] = {row["id"]: row for row in history.graph_tasks(run.graph_digest)}
        self.tasks: dict[str, InstanceRecord] = {}
        self.instances: dict[str, list[InstanceRecord]] = {}
        for record in records:
            if record.map_index < 0:
                self.tasks[record.task_id] = record
            else:
                self.instances.setdefault(record.task_id, []).append(record)

    @functools.cached_property
    def hooks(self) -> list[InstanceRecord]:
        """The hooks and preconditions of the run that were triggered."""
        return self._history.hooks(self._run.run_id)

    def upstream(self, instance: InstanceRecord) -> Iterator[InstanceRecord]:
        """Yield the upstream tasks, each with its instances after it."""
        for upstream in instance.dependencies:
            if upstream in self.tasks:
                yield self.tasks[upstream]
                yield from self.instances.get(upstream, ())

    def rule(self, instance: InstanceRecord) -> tuple[TriggerRule, dict[str, str]]:
        """Return the trigger rule, and the statuses of the upstream tasks and instances as the rule sees them."""
        rule = cast(TriggerRule, self.rows.get(instance.task_id, {}).get("rule", "all_success"))
        upstream: dict[str, str] = {}
        for task_id in instance.dependencies:
            if task_id in self.instances:
                for each in self.instances[task_id]:
                    upstream[instance_name_of(each)] = status_for_downstream(each.status, each.tolerated)
            elif task_id in self.tasks and (self.tasks[task_id].kind != "entry" or instance.kind == "group"):
                task = self.tasks[task_id]
                upstream[task_id] = status_for_downstream(task.status, task.tolerated)
        return rule, upstream

    def needed_setups(self, task_id: str) -> list[InstanceRecord]:
        """Return the setups that a task needs without a direct dependency on them, as the engine derives them."""
        return [self.tasks[setup] for setup in self._needed_setups.get(task_id, ()) if setup in self.tasks]

    @functools.cached_property
    def _needed_setups(self) -> dict[str, list[str]]:
        names = list(self.rows)
        numbers = {name: number for number, name in enumerate(names)}
        setups = {numbers[name] for name, row in self.rows.items() if row.get("setup") is True}
        if not setups:
            return {}
        from liteflow.planning.setup_teardown import Teardown, needed_setups

        upstream = [
            [numbers[above] for above in row.get("depends_on", ()) if above in numbers] for row in self.rows.values()
        ]
        downstream: list[list[int]] = [[] for _ in names]
        for number, above in enumerate(upstream):
            for each in above:
                downstream[each].append(number)
        teardowns = {
            numbers[name]: Teardown(tuple(above for above in upstream[numbers[name]] if above in setups))
            for name, row in self.rows.items()
            if row.get("teardown") is True
        }
        needed = needed_setups(setups, teardowns, upstream, downstream)
        return {names[number]: [names[setup] for setup in needed[number]] for number in needed}
