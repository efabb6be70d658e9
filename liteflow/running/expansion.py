"""Expands mapped tasks: reads their lists, and adds an instance for each item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import InputError
from liteflow.planning.plan import InstanceResult, Plan
from liteflow.planning.task_table import Transition, instance_name
from liteflow.record import replace
from liteflow.running.inputs import Inputs
from liteflow.running.mapped_lists import MatchedList
from liteflow.running.observers import ListChange, Observers
from liteflow.running.recorder import Recorder
from liteflow.state.records import PreviousInstance
from liteflow.states import TaskStatus


class TaskExpander:
    """Expands the mapped tasks of one plan."""

    def __init__(
        self,
        *,
        compiled: CompiledDag,
        plan: Plan,
        inputs: Inputs,
        recorder: Recorder,
        observers: Observers,
        previous: Mapping[str, Mapping[int, PreviousInstance]],
    ) -> None:
        self._compiled = compiled
        self._plan = plan
        self._inputs = inputs
        self._recorder = recorder
        self._observers = observers
        self._previous = previous  # instances of the previous part of the run, by index

    def expand_due(self, now: float) -> bool:
        """Expand the mapped tasks whose list is wanted. Return whether there were any."""
        due = self._plan.due_lists()
        for node in due:
            if self._plan.table.status[node] == "QUEUED":  # else the failure of another one has stopped the run
                self._recorder.record(self._expand(node, now), now)
        return bool(due)

    def _expand(self, node: int, now: float) -> list[Transition]:
        plan, recorder, task_id = self._plan, self._recorder, self._plan.table.task_ids[node]
        try:
            matched = self._inputs.read_list(node)
        except InputError as error:
            return plan.reject_list(node, f"{error}{self._without_list(node)}")
        previous, note = self._previous.get(task_id, {}), ""
        labels = [recorder.mask(row.label) for row in matched.rows]
        removed = {index: previous[index] for index in matched.removed}
        instances = zip(matched.indexes, labels, matched.digests, strict=True)
        recorder.add_instances(node, instances, self._compiled.tasks[node].settings.timeout_s, removed, now)
        if matched.added or matched.removed:
            change = self._list_change(task_id, matched)
            note = f"its list has changed: {change}"
            self._observers.notify("list_changed", task_id, change)
        before = {
            index: InstanceResult(cast(TaskStatus, instance.status), instance.attempts, instance.tolerated)
            for index, instance in previous.items()
            if index not in removed
        }
        transitions = plan.expand(node, matched.indexes, before, note)
        recorder.add_labels(node, labels)
        return transitions

    def report_changed_lists(self, done: Mapping[int, TaskStatus]) -> None:
        """Report mapped tasks that have succeeded, and whose lists have changed since: they stay as they are."""
        for node in self._compiled.mapped():
            task_id = self._plan.table.task_ids[node]
            if node not in done or task_id not in self._previous:
                continue
            try:
                matched = self._inputs.read_list(node)
            except InputError:
                continue
            if matched.added or matched.removed:
                change = replace(self._list_change(task_id, matched), kept=True)
                self._observers.notify("list_changed", task_id, change)

    def _without_list(self, node: int) -> str:
        """Return, for the end of a message, the tasks that did not make the list, and their states."""
        expansion = self._compiled.tasks[node].settings.expansion
        index, status = self._compiled.graph.index, self._plan.table.status
        states = {ref.task_id: status[index[ref.task_id]] for ref in (expansion.reads if expansion else ())}
        absent = [f"task {task_id!r} is {state}" for task_id, state in states.items() if state != "SUCCESS"]
        return f"; {', '.join(absent)}, so it has no list" if absent else ""

    def _list_change(self, task_id: str, matched: MatchedList) -> ListChange:
        """Return the change of the list of a mapped task since the previous part of the run, in names of items."""
        labels = [matched.rows[position].label or f"item {position}" for position in matched.added]
        previous = self._previous[task_id]
        labels_removed = [previous[index].label or instance_name(task_id, index) for index in matched.removed]
        return ListChange(tuple(str(self._recorder.mask(label)) for label in labels), tuple(labels_removed))
