"""Tasks and the dependencies between them, checked and numbered. Pure: no clock, no I/O, no recursion.

Inside the engine a task is a number: its position in the definition. Its id is for people.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from liteflow.errors import CycleError, UnknownDependency
from liteflow.identifiers import did_you_mean


class Graph:
    """An acyclic graph over task ids.

    `dependencies` maps every task, in order of definition, to its upstream tasks. The graph is built in time linear in
    tasks and edges. It holds hundreds of thousands of tasks: each number is a single object wherever it is used, and
    tasks without downstream tasks share a list.

    Raises:
        UnknownDependency: a task depends on a task that does not exist; names both and the nearest name.
        CycleError: tasks depend on each other; `.path` is a shortest cycle.
    """

    __slots__ = ("downstream", "ids", "index", "order", "upstream")

    def __init__(self, dependencies: Mapping[str, Iterable[str]]) -> None:
        self.ids: list[str] = list(dependencies)
        #: the number of each task; lists of all tasks share its integers, which take 28 bytes each
        self.index: dict[str, int] = {task_id: number for number, task_id in enumerate(self.ids)}
        #: the upstream tasks of each task, in order of definition
        self.upstream: list[tuple[int, ...]] = []
        nothing: list[int] = []
        self.downstream: list[list[int]] = [nothing] * len(self.ids)
        index, downstream = self.index, self.downstream
        for (task_id, number), wanted in zip(index.items(), dependencies.values(), strict=True):
            try:
                upstream = tuple(sorted({index[name] for name in wanted})) if wanted else ()
            except KeyError:
                unknown = next(name for name in sorted(wanted) if name not in index)
                raise unknown_dependency(task_id, unknown, self.ids) from None
            self.upstream.append(upstream)
            for other in upstream:
                downstream_tasks = downstream[other]
                if downstream_tasks:
                    downstream_tasks.append(number)
                else:
                    downstream[other] = [number]
        #: every task after all its upstream tasks; tasks that become free together stay in order of definition
        self.order: list[int] = self._sort()

    def __len__(self) -> int:
        return len(self.ids)

    def _sort(self) -> list[int]:
        waiting = [len(upstream) for upstream in self.upstream]
        order = [number for number, count in zip(self.index.values(), waiting, strict=True) if not count]
        for number in order:  # the body appends to this list
            for downstream in self.downstream[number]:
                waiting[downstream] -= 1
                if not waiting[downstream]:
                    order.append(downstream)
        if len(order) < len(self.ids):
            stuck = {number for number, count in enumerate(waiting) if count}
            raise CycleError([self.ids[number] for number in self._shortest_cycle(stuck)])
        return order

    def _shortest_cycle(self, stuck: set[int]) -> list[int]:
        """Return a shortest cycle among `stuck`; in a very large graph, the shortest that a sample of tasks finds."""
        starts: Sequence[int] = sorted(stuck)
        budget = 2_000_000  # steps: exact for up to about a thousand tasks in cycles
        best: list[int] = []
        for start in starts:
            came_from: dict[int, int] = {}
            queue = deque([start])
            while queue:
                number = queue.popleft()
                budget -= len(self.downstream[number])
                if start in self.downstream[number]:
                    path = [start, number] if number != start else [start]
                    while path[-1] != start:
                        path.append(came_from[path[-1]])
                    path = [start, *reversed(path[1:-1]), start] if number != start else [start, start]
                    if not best or len(path) < len(best):
                        best = path
                    break
                for downstream in self.downstream[number]:
                    if downstream in stuck and downstream not in came_from:
                        came_from[downstream] = number
                        queue.append(downstream)
            if best and (budget < 0 or len(best) == 2):
                break
        return best

    def levels(self) -> list[list[int]]:
        """Return the tasks by the length of the longest path to them: the tasks of a level can run in parallel."""
        level = [0] * len(self.ids)
        rows: list[list[int]] = []
        for number in self.order:
            here = max((level[upstream] + 1 for upstream in self.upstream[number]), default=0)
            level[number] = here
            if here == len(rows):
                rows.append([])
            rows[here].append(number)
        return rows

    def leaves(self) -> list[int]:
        """Return the tasks without downstream tasks: they decide the result of a run."""
        return [number for number, downstream in enumerate(self.downstream) if not downstream]


def reachable(starts: Sequence[int], edges: Sequence[Sequence[int]]) -> dict[int, None]:
    """Return all tasks that can be reached along the edges, the starts included."""
    seen = dict.fromkeys(starts)
    waiting = list(seen)
    for node in waiting:  # the body appends to this list
        for neighbour in edges[node]:
            if neighbour not in seen:
                seen[neighbour] = None
                waiting.append(neighbour)
    return seen


def unknown_dependency(task_id: str, wanted: str, task_ids: Iterable[str]) -> UnknownDependency:
    """Return the error for a task that depends on a task that does not exist, with the nearest name."""
    hint = did_you_mean(wanted, task_ids)
    return UnknownDependency(f"task {task_id!r} depends on {wanted!r}, which does not exist{hint}")
