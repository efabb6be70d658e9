"""Undoes the attempts of a dead owner before a resumed run starts them again."""

from __future__ import annotations

from liteflow.definition.compiled import CompiledDag
from liteflow.executors import Executor
from liteflow.hooks import RUN_OWNER
from liteflow.running.inputs import Inputs
from liteflow.running.ports import RunStore
from liteflow.running.recorder import Recorder
from liteflow.state.records import DueUndo
from liteflow.work import Work


def undo_lost(
    compiled: CompiledDag, store: RunStore, executor: Executor, inputs: Inputs, recorder: Recorder, now: float
) -> None:
    """Do the undos that are stored as due: of attempts that a dead owner left, and those that have failed before.

    The undo of a task that no longer exists stays due.
    """
    with_undo = compiled.with_undo()
    due = [undo for undo in store.due_undos() if undo.attempt.task_id in with_undo and not _waits(undo)]
    if not due:
        return
    works = [_work(compiled, undo, node, inputs) for node, undo in enumerate(due)]
    for undo, problem in zip(due, executor.undo(works), strict=True):
        recorder.undone(undo, problem, now)
    recorder.commit()
    recorder.publish()


def _waits(undo: DueUndo) -> bool:
    """Return whether the attempt has not ended: it waits, and is polled."""
    return undo.status == "WAITING" and undo.attempt.attempt == undo.last_attempt


def _work(compiled: CompiledDag, undo: DueUndo, node: int, inputs: Inputs) -> Work:
    """Return the work that was the attempt, as far as it is stored."""
    task_id, index, number = undo.attempt
    hook = next((hook for hook in compiled.hooks() if hook.task_id == task_id), None)
    owner = compiled.graph.index[task_id] if hook is None else hook.owner
    return Work(
        node=node,
        task_id=task_id,
        map_index=index,
        attempt=number,
        inputs=inputs.of(owner) if hook is None else inputs.named(hook.reads) or None,
        ran_on=undo.ran_on,
        items=inputs.items(owner, index) if index >= 0 and owner != RUN_OWNER else None,
    )
