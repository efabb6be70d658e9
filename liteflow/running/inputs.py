"""What the tasks of a run take from each other: values of upstreams, and the items of mapped tasks.

Everything is read back from the store, encoded: nothing here knows what a value is. A value that tasks have still to
take is kept meanwhile, if it is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import InputError
from liteflow.planning.plan import Plan
from liteflow.planning.task_table import Transition
from liteflow.running.lists import Listed, listed
from liteflow.state.records import PreviousInstance
from liteflow.state.store import Store
from liteflow.states import TASK_ENDED
from liteflow.values.payload import Payload, together
from liteflow.work import MappedRow, Outcome, Ref, RunInfo, input_name

_CACHED_VALUE_BYTES: Final = 65536  # larger values are read again from the store by each consumer
_WITHOUT_VALUE: Final[Mapping[str, str]] = {
    "SKIPPED": "was skipped",
    "FAILED": "failed",
    "UPSTREAM_FAILED": "did not run, because a task before it failed",
    "CANCELLED": "was cancelled",
}
_NULL: Final = Payload("json", "null", 4)


class Inputs:
    """The inputs of one run's tasks."""

    def __init__(
        self,
        program: CompiledDag,
        plan: Plan,
        store: Store,
        info: RunInfo,
        kept: Mapping[str, Mapping[int, PreviousInstance]],
    ) -> None:
        self._program = program
        self._plan = plan
        self._store = store
        self._info = info
        self._kept = kept  # the instances of mapped tasks of an earlier part of the run, by index
        self._values: dict[int, Payload] = {}
        self._readers: dict[int, int] = {}  # how many tasks have still to read a task's value
        self._rows: dict[int, Mapping[int, MappedRow]] = {}  # of mapped tasks: what their instances get, by index
        for task in program.tasks:
            for above in task.inputs:
                self._readers[above] = self._readers.get(above, 0) + 1

    def of(self, node: int) -> dict[str, Payload] | None:
        """What an attempt of the task instance takes, by `work.input_name`."""
        program, ids, kept, task = self._program, self._plan.table.task_ids, self._values, node
        if (index := self._plan.table.map_indexes[node]) >= 0:
            task = self._plan.table.owner(node)
        upstreams = program.tasks[task].inputs
        inputs = {ids[above]: kept.get(above) or self._value(above) for above in upstreams} if upstreams else None
        if reads := program.tasks[task].settings.reads:
            inputs = {**(inputs or {}), **self.named(reads)}
        if index >= 0:
            inputs = {**(inputs or {}), **self._rows[task][index].items}
        return inputs

    def listed(self, node: int) -> Listed:
        """Read the list that a task is mapped over: what each of its instances gets. Raises InputError."""
        expansion = self._program.tasks[node].settings.expansion
        task_id, secrets = self._plan.table.task_ids[node], self._info.secrets
        assert expansion is not None
        refs = [(self._program.graph.index[ref.task_id], ref) for ref in expansion.reads]
        values = self.named(refs)
        try:
            rows = expansion.rows(values, self._info)
        except InputError as error:
            ended = {
                ref.task_id: self._plan.table.status[above] for above, ref in refs if input_name(ref) not in values
            }
            why = [f"task {name!r} {_WITHOUT_VALUE[state]}" for name, state in ended.items() if state in _WITHOUT_VALUE]
            raise InputError(f"{error} ({', '.join(why)})") if why else error from None
        found = listed(
            rows,
            self._kept.get(task_id, {}),
            partial(self._store.next_free_index, task_id),
            None if secrets is None else secrets.masker,
        )
        self._rows[node] = dict(zip(found.indexes, found.rows, strict=True))
        return found

    def items(self, task: int, index: int) -> Mapping[str, Payload]:
        """What an instance of a mapped task got, for a hook of it; nothing where that cannot be told any more."""
        if task not in self._rows:  # of an earlier part of the run
            try:
                self.listed(task)
            except InputError:
                self._rows[task] = {}
        row = self._rows[task].get(index)
        return {} if row is None else row.items

    def keep(self, outcome: Outcome) -> None:
        """Remember a value that other tasks are going to take."""
        node, value = outcome.node, outcome.value
        if value is not None and node in self._readers and value.size <= _CACHED_VALUE_BYTES:
            self._values[node] = value

    def release(self, moves: Sequence[Transition]) -> None:
        """Forget what no task will take any more, now that some have ended."""
        tasks, readers, rows = self._program.tasks, self._readers, self._rows
        for move in moves:
            if move.status in TASK_ENDED:
                node = move.node
                if node >= len(tasks):  # an instance or a hook
                    continue
                if rows and not tasks[node].settings.hooks:
                    rows.pop(node, None)
                for above in tasks[node].inputs:
                    readers[above] -= 1
                    if not readers[above]:
                        self._values.pop(above, None)

    def _value(self, node: int) -> Payload:
        """What a task returned, where that is not kept here; a task that returned None has stored nothing."""
        return self._stored(node, "return_value") or _NULL

    def named(self, refs: Sequence[tuple[int, Ref]]) -> dict[str, Payload]:
        """The values of upstreams that are stored."""
        found = ((input_name(ref), self._stored(node, ref.key)) for node, ref in refs)
        return {name: payload for name, payload in found if payload is not None}

    def _stored(self, node: int, key: str) -> Payload | None:
        """A stored value of a task; of a mapped one the list of its instances' values, without those that have none."""
        task_id = self._plan.table.task_ids[node]
        if self._program.tasks[node].settings.expansion is not None:
            return together(self._store.values(task_id, key) if node in self._plan.table.mapped else [])
        return self._store.value(task_id, key=key)
