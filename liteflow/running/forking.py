"""Stores a fork: a new run that takes over results of another one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from liteflow.definition.compiled import CompiledDag
from liteflow.planning.rerun import closure
from liteflow.planning.setup_teardown import to_set_up_again
from liteflow.running.resume import new_instances
from liteflow.state.copies import copy_files
from liteflow.state.history import History, RunRecord
from liteflow.state.records import InstanceKey, NewRun
from liteflow.state.reruns import create_fork, reason_of, results_of, targets_of


def store_fork(
    path: str, compiled: CompiledDag, origin: RunRecord, run_id: str, names: Sequence[str], params: Mapping[str, Any]
) -> None:
    """Store a fork of a run, in one transaction: the named tasks and all that follows them have still to run.

    Raises:
        DefinitionError: there is no such task, or a value to copy no longer exists.
        StoreError: there is a run with the id.
    """
    graph = compiled.graph
    with History(path) as history:
        chosen = targets_of(history, origin, names, graph.ids)
        numbers = {graph.index[task_id]: indexes for task_id, indexes in chosen.items()}
        again = {node: indexes for node, (indexes, _) in closure(numbers, graph.downstream, follow=True).items()}
        instances = results_of(history, origin, graph, again)
        torn_down = {each.task_id for each in history.instances(origin.run_id) if each.try_number > 0}
        again |= dict.fromkeys(_to_set_up(compiled, instances, torn_down))
        copied = copy_files(history, origin, run_id, results_of(history, origin, graph, again))
    create_fork(
        path,
        NewRun(
            run_id=run_id,
            dag_id=compiled.dag_id,
            description=compiled.description,
            graph_digest=compiled.digest,
            graph_snapshot=compiled.snapshot,
            instances=new_instances(compiled),
            params=params,
            logical_date=origin.logical_date,
            source=compiled.source,
            settings=origin.settings,
            origin_run_id=origin.run_id,
            selected=origin.selection,
            copied=copied,
        ),
        reason_of(f"forked from run {origin.run_id} at", chosen),
    )


def _to_set_up(compiled: CompiledDag, instances: Sequence[InstanceKey], attempted: Collection[str]) -> set[int]:
    """Return the setups, with their teardowns, that a task of the fork needs and that the other run has torn down.

    `instances` are those whose results the fork takes over, `attempted` the tasks that ran in the other run.
    """
    control, graph = compiled.control, compiled.graph
    done = {graph.index[task_id] for task_id, index in instances if index < 0}
    return to_set_up_again(
        control.setups,
        control.teardowns,
        graph.upstream,
        graph.downstream,
        to_do=set(range(len(graph))) - done,
        torn_down=[node for node, each in control.teardowns.items() if each.setups and graph.ids[node] in attempted],
    )
