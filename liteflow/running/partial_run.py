"""Which tasks of a new run are selected, and whose values they read from another run."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

from liteflow.definition.compiled import CompiledDag
from liteflow.errors import DefinitionError
from liteflow.planning.selection import Selection, select
from liteflow.planning.targets import find_targets, groups_of
from liteflow.state.copies import copy_files, values_of
from liteflow.state.history import History
from liteflow.state.records import CopiedResults


def selected_tasks(compiled: CompiledDag, selection: Selection) -> frozenset[int] | None:
    """Return the tasks that are selected; None: all.

    Raises:
        DefinitionError: there is no such task, or nothing is left.
    """
    if not selection:
        if selection.values_from is not None:
            raise DefinitionError("all tasks run, so none reads the values of another run: select some")
        return None
    ids, groups = dict.fromkeys(compiled.graph.ids), groups_of(json.loads(compiled.snapshot)["tasks"])

    def find(names: Sequence[str]) -> Collection[str]:
        targets = find_targets(names, ids, lambda task_id: {}, f"workflow {compiled.dag_id!r}", groups)
        return targets.keys()

    selected = select(selection, compiled.graph, compiled.control, find)
    if not selected:
        raise DefinitionError("no task is selected")
    return selected


def copied_values(
    compiled: CompiledDag, selected: frozenset[int] | None, selection: Selection, db_path: str, run_id: str
) -> CopiedResults | None:
    """Return the values of tasks that are not selected, and that selected tasks read, from another run.

    Raises:
        DefinitionError: there is no run to take them from, or one of the tasks has not succeeded there.
        RunNotFound: there is no such run.
    """
    if selected is None:
        return None
    ids = compiled.graph.ids
    pairs = ((node, above) for node in sorted(selected) for above in _reads(compiled, node))
    read = {ids[above]: ids[node] for node, above in pairs if above not in selected}
    if not read:
        if selection.values_from is not None:
            with History(db_path) as history:
                history.run(selection.values_from)  # a name that is wrong is an error all the same
        return None
    if selection.values_from is None:
        above, node = next(iter(read.items()))
        raise DefinitionError(
            f"task {node!r} reads a value of {above!r}, which is not selected: select it, too, or take its values from "
            "an earlier run with --values-from RUN (values_from=)"
        )
    with History(db_path) as history:
        origin = history.run(selection.values_from)
        instances = values_of(history, origin, read)
        return copy_files(history, origin, run_id, instances, values_only=True)


def _reads(compiled: CompiledDag, node: int) -> Iterator[int]:
    """Yield the tasks whose values a task reads, also in its list, conditions and hooks."""
    task, index = compiled.tasks[node], compiled.graph.index
    yield from task.inputs
    yield from (above for above, _ in task.settings.reads)
    if task.settings.expansion is not None:
        yield from (index[ref.task_id] for ref in task.settings.expansion.reads)
    for check in task.settings.start_checks:
        if check.condition is not None:
            yield from (index[ref.task_id] for ref in check.condition.reads)
    for hook in task.settings.hooks.values():
        yield from (above for above, _ in hook.reads)
