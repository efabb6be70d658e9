"""The tasks of a new run that a user selects. Pure.

The other tasks of a partial run are SKIPPED when it is created, and count as a success for the tasks that depend on
them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from liteflow.planning.control_flow import ControlFlow
from liteflow.planning.graph import Graph, reachable
from liteflow.planning.setup_teardown import needed_setups
from liteflow.record import Record

#: The reason of a task that is not selected.
NOT_SELECTED: Final = "not selected"


class Selection(Record):
    """A request to run a part of a workflow, by names of tasks. Without any, all tasks run."""

    only: Sequence[str] = ()
    start: Sequence[str] = ()  # these and all that follows them
    until: Sequence[str] = ()  # these and all that they depend on
    skip: Sequence[str] = ()  # not these
    values_from: str | None = None  # the run whose values of other tasks are read

    def __bool__(self) -> bool:
        """Whether it selects anything."""
        return bool(self.only or self.start or self.until or self.skip)


def select(
    selection: Selection, graph: Graph, control: ControlFlow, find: Callable[[Sequence[str]], Collection[str]]
) -> frozenset[int]:
    """Return the tasks that run: what is selected, with the setups it needs and their teardowns.

    `start` and `until` together select what lies between them; `find` returns the ids that names stand for.
    """
    nodes: set[int] = set(range(len(graph)))
    if selection.start:
        nodes &= reachable(_numbers(graph, find(selection.start)), graph.downstream).keys()
    if selection.until:
        nodes &= reachable(_numbers(graph, find(selection.until)), graph.upstream).keys()
    if selection.only:
        only = set(_numbers(graph, find(selection.only)))
        nodes = nodes | only if selection.start or selection.until else only
    skipped = set(_numbers(graph, find(selection.skip))) if selection.skip else set[int]()
    return frozenset(_with_setups(nodes - skipped, graph, control) - skipped)


def _numbers(graph: Graph, task_ids: Collection[str]) -> list[int]:
    return [graph.index[task_id] for task_id in task_ids]


def _with_setups(nodes: set[int], graph: Graph, control: ControlFlow) -> set[int]:
    """Return the tasks with the setups that they need, and the teardowns of these."""
    if not control.setups:
        return nodes
    needed = needed_setups(control.setups, control.teardowns, graph.upstream, graph.downstream)
    selected, waiting = set(nodes), sorted(nodes)
    for node in waiting:  # the body appends to this list
        direct = [above for above in graph.upstream[node] if above in control.setups]
        after = [teardown for teardown, each in control.teardowns.items() if node in each.setups]
        for other in (*needed.get(node, ()), *direct, *after):
            if other not in selected:
                selected.add(other)
                waiting.append(other)
    return selected
