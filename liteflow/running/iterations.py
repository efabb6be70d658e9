"""Iterations of tasks that are repeated: whether another one follows, and what it knows of those before.

They are counted in the stored attempts, so a resumed run counts on.
"""

from __future__ import annotations

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import InputError
from liteflow.planning.task_table import TaskTable
from liteflow.record import Record, replace
from liteflow.repeat import IterationFacts, Repeat
from liteflow.running.inputs import Inputs
from liteflow.running.ports import RunStore
from liteflow.state.transitions import WaitRow
from liteflow.work import ErrorInfo, Outcome, RunInfo, Work


class Iterations(Record):
    """The iterations of the tasks of one plan."""

    compiled: CompiledDag
    table: TaskTable
    store: RunStore
    inputs: Inputs
    info: RunInfo
    repeats: dict[int, Repeat]  #: by task
    counts: dict[int, tuple[int, float]]  #: by instance: how many have ended, and when the first began

    @staticmethod
    def of(compiled: CompiledDag, table: TaskTable, store: RunStore, inputs: Inputs, info: RunInfo) -> Iterations:
        """Return the iterations of a plan, none of which is counted yet."""
        repeats = compiled.repeats()
        return Iterations(
            compiled=compiled, table=table, store=store, inputs=inputs, info=info, repeats=repeats, counts={}
        )

    def work(self, work: Work) -> Work:
        """Return the work of an attempt with the number of its iteration, and the values of the iteration before."""
        if self.table.owner(work.node) not in self.repeats or work.hook is not None:
            return work
        count, _ = self._count(work.node)
        previous = self.store.instance_values(work.task_id, work.map_index) if count else None
        return replace(work, iteration=count + 1, previous=previous)

    def judge(self, outcome: Outcome) -> tuple[Outcome, float]:
        """Return the outcome of an attempt, REPEATED if another iteration follows, and the seconds until that."""
        node = outcome.node
        repeat = None if node in self.table.hooks else self.repeats.get(self.table.owner(node))
        if repeat is None or outcome.verdict != "SUCCESS":
            return outcome, 0.0
        count, began_at = self._count(node)
        began_at = began_at or outcome.started_at or outcome.ended_at
        try:
            if repeat.condition().is_done(self._facts(outcome, repeat, count + 1)):
                return outcome, 0.0
        except InputError as error:
            return _failed(outcome, str(error)), 0.0
        self.counts[node] = (count + 1, began_at)
        plural = "" if count == 0 else "s"
        if repeat.max is not None and count + 1 >= repeat.max:
            return _failed(outcome, f"not done after {count + 1} iteration{plural}"), 0.0
        if repeat.timeout is not None and outcome.ended_at + repeat.every >= began_at + repeat.timeout:
            return _failed(outcome, f"not done after {repeat.timeout:g} s, in {count + 1} iteration{plural}"), 0.0
        note = ErrorInfo(f"iteration {count + 1} has ended, and it is not done")
        return outcome._replace(verdict="REPEATED", error=note), repeat.every

    def row(self, outcome: Outcome, repeat_s: float) -> WaitRow | None:
        """Return what is stored of an instance that waits for its next iteration."""
        if outcome.verdict != "REPEATED":
            return None
        return WaitRow(None, outcome.ended_at + repeat_s, outcome.started_at, outcome.log_path)

    def _count(self, node: int) -> tuple[int, float]:
        if node not in self.counts:
            ended, began_at = self.store.iterations(self.table.task_ids[node], self.table.map_indexes[node])
            self.counts[node] = (ended, began_at or 0.0)
        return self.counts[node]

    def _facts(self, outcome: Outcome, repeat: Repeat, iteration: int) -> IterationFacts:
        index, node = self.table.graph.index, outcome.node
        values = dict(outcome.pushed or {})
        if outcome.value is not None:
            values["return_value"] = outcome.value
        return IterationFacts(
            info=self.info,
            task_id=self.table.task_ids[node],
            map_index=self.table.map_indexes[node],
            attempt=outcome.attempt,
            iteration=iteration,
            values=values,
            inputs=self.inputs.named([(index[ref.task_id], ref) for ref in repeat.condition().reads]),
        )


def _failed(outcome: Outcome, message: str) -> Outcome:
    """Return the outcome as a failure that is not tried again."""
    error = ErrorInfo(message, "", ("RepeatFailed", "Exception"), final=True)
    return outcome._replace(verdict="FAILED", error=error, value=None, pushed=None)
