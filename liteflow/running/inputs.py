"""The inputs of tasks: values of upstream tasks, and the items of mapped tasks.

Values are read from the store, encoded: nothing here knows what a value is. A small value that other tasks have still
to read is cached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import InputError
from liteflow.planning.task_table import TaskTable, Transition
from liteflow.running.mapped_lists import MatchedList, match_list
from liteflow.running.ports import RunStore
from liteflow.state.records import PreviousInstance
from liteflow.states import TASK_ENDED
from liteflow.values.payload import Payload, together
from liteflow.work import MappedRow, Outcome, Ref, RunInfo, input_name

_CACHED_VALUE_BYTES: Final = 65536  # each consumer reads a larger value from the store again
_WITHOUT_VALUE: Final[Mapping[str, str]] = {
    "SKIPPED": "was skipped",
    "FAILED": "failed",
    "UPSTREAM_FAILED": "did not run, because an upstream task failed",
    "CANCELLED": "was cancelled",
}
_NULL: Final = Payload("json", "null", 4)


class Inputs:
    """The inputs of the tasks of one plan."""

    def __init__(
        self,
        *,
        compiled: CompiledDag,
        table: TaskTable,
        store: RunStore,
        info: RunInfo,
        previous: Mapping[str, Mapping[int, PreviousInstance]],
    ) -> None:
        self._compiled = compiled
        self._table = table
        self._store = store
        self._info = info
        self._previous = previous  # instances of mapped tasks of the previous part of the run, by index
        self._cache: dict[int, Payload] = {}  # values by task
        self._readers: dict[int, int] = {}  # how many tasks have still to read the value of a task
        self._rows: dict[int, Mapping[int, MappedRow]] = {}  # of mapped tasks: the items of their instances, by index
        for task in compiled.tasks:
            for upstream in task.inputs:
                self._readers[upstream] = self._readers.get(upstream, 0) + 1
        self.any = bool(self._readers) or bool(compiled.mapped())

    def of(self, node: int) -> dict[str, Payload] | None:
        """Return the inputs of an attempt of the task instance, by `work.input_name`."""
        table, cache = self._table, self._cache
        task_def = self._compiled.tasks[table.owner(node)]
        inputs = None
        if task_def.inputs:
            ids = table.task_ids
            inputs = {
                ids[upstream]: cache.get(upstream) or self._return_value(upstream) for upstream in task_def.inputs
            }
        if reads := task_def.settings.reads:
            inputs = {**(inputs or {}), **self.named(reads)}
        return inputs

    def read_list(self, node: int) -> MatchedList:
        """Read the list that a task is mapped over: the items of each of its instances. Raises InputError."""
        expansion = self._compiled.tasks[node].settings.expansion
        task_id, index = self._table.task_ids[node], self._compiled.graph.index
        assert expansion is not None
        refs = [(index[ref.task_id], ref) for ref in expansion.reads]
        values = self.named(refs)
        try:
            rows = expansion.rows(values, self._info)
        except InputError as error:
            absent = {ref.task_id: self._table.status[task] for task, ref in refs if input_name(ref) not in values}
            why = [
                f"task {name!r} {_WITHOUT_VALUE[state]}" for name, state in absent.items() if state in _WITHOUT_VALUE
            ]
            raise InputError(f"{error} ({', '.join(why)})") if why else error from None
        previous = self._previous.get(task_id, {})
        matched = match_list(rows, previous, partial(self._store.next_free_index, task_id), self._info.masker)
        self._rows[node] = dict(zip(matched.indexes, matched.rows, strict=True))
        return matched

    def items(self, task: int, index: int) -> Mapping[str, Payload]:
        """Return the items of an instance of a mapped task, for its hooks; empty if the list cannot be read."""
        if task not in self._rows:  # of the previous part of the run
            try:
                self.read_list(task)
            except InputError:
                self._rows[task] = {}
        row = self._rows[task].get(index)
        return {} if row is None else row.items

    def cache(self, outcome: Outcome) -> None:
        """Cache a value that other tasks are going to read."""
        node, value = outcome.node, outcome.value
        if value is not None and node in self._readers and value.size <= _CACHED_VALUE_BYTES:
            self._cache[node] = value

    def release(self, transitions: Sequence[Transition]) -> None:
        """Drop values that no open task will read, now that some tasks have ended."""
        tasks, readers, rows = self._compiled.tasks, self._readers, self._rows
        for transition in transitions:
            node = transition.node
            if transition.status not in TASK_ENDED or node >= len(tasks):  # an instance or a hook has no readers
                continue
            if rows and not tasks[node].settings.hooks:
                rows.pop(node, None)
            for upstream in tasks[node].inputs:
                readers[upstream] -= 1
                if not readers[upstream]:
                    self._cache.pop(upstream, None)

    def named(self, refs: Sequence[tuple[int, Ref]]) -> dict[str, Payload]:
        """Return the stored values of these upstream tasks, by `work.input_name`."""
        values = ((input_name(ref), self._stored(node, ref.key)) for node, ref in refs)
        return {name: payload for name, payload in values if payload is not None}

    def _return_value(self, node: int) -> Payload:
        """Return what a task returned; a task that returned None has stored nothing."""
        return self._stored(node, "return_value") or _NULL

    def _stored(self, node: int, key: str) -> Payload | None:
        """Return a stored value of a task; of a mapped task the list of the values that its instances have."""
        task_id = self._table.task_ids[node]
        if self._compiled.tasks[node].settings.expansion is not None:
            return together(self._store.values(task_id, key) if node in self._table.mapped else [])
        return self._store.value(task_id, key=key)
