"""The task instances of a run, by number: the task of each, its state, and how many attempts it has had.

The number of a task is its number in the graph. A task that is mapped over a list gets a further number for each of its
instances once the list is known; its own number then stands for all of them. Hooks have numbers, too: they are added
during the run, and no task waits for them. Only the plan changes a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from liteflow.planning.graph import Graph
from liteflow.states import TaskStatus

_WORST_FIRST: Final[tuple[TaskStatus, ...]] = ("FAILED", "CANCELLED", "UPSTREAM_FAILED", "SUCCESS")


class Transition(NamedTuple):
    """A change of the state of a task instance."""

    node: int
    previous: TaskStatus
    status: TaskStatus
    attempt: int  # how many attempts have started
    reason: str | None = None  # why, where the state alone does not say it
    tolerated: bool = False  # it FAILED and counts as a success for other tasks (`continue_on_error`)


def worst_status(statuses: Collection[TaskStatus]) -> TaskStatus:
    """Return the state of a whole whose parts have ended in these states: the worst; SKIPPED if all are."""
    for status in _WORST_FIRST:
        if status in statuses:
            return status
    return "SKIPPED"


class MappedInstances:
    """The instances of a mapped task: the numbers `first`, `first + 1`, …, in the order of the list."""

    __slots__ = ("count", "ended", "fail_fast", "first", "remaining")

    def __init__(self, first: int, count: int, *, fail_fast: bool) -> None:
        self.first = first
        self.count = count
        self.remaining = count  # how many have not ended
        self.ended: dict[TaskStatus, int] = {}  # how many have ended in each state
        self.fail_fast = fail_fast  # whether the next failure cancels the other instances

    @property
    def nodes(self) -> range:
        """The numbers of the instances."""
        return range(self.first, self.first + self.count)

    @property
    def status(self) -> TaskStatus:
        """The state of the task as a whole, once all instances have ended: the worst; SKIPPED if all are."""
        return worst_status(self.ended)

    @property
    def reason(self) -> str | None:
        """The reason for the state of the whole, where there is more to say than the state."""
        failed = self.ended.get("FAILED")
        return f"{failed:,} of {self.count:,} instances failed" if failed else None


class TaskTable:
    """The records of all numbers. The plan writes them; the loop and its helpers read them."""

    def __init__(self, graph: Graph) -> None:
        size = len(graph)
        self.graph = graph
        self.task_ids: list[str] = graph.ids.copy()
        self.map_indexes: list[int] = [-1] * size  # -1: the task itself
        self.status: list[TaskStatus] = ["PENDING"] * size
        self.attempts: list[int] = [0] * size
        self.owners: dict[int, int] = {}  # the task of each instance of a mapped task
        self.mapped: dict[int, MappedInstances] = {}  # the instances of each mapped task whose list is known
        self.waiting: set[int] = set()  # instances whose attempt waits without a worker
        self.hooks: set[int] = set()
        self.tolerated: set[int] = set()  # instances that count as a success for other tasks, and are none
        self.ended_before: Collection[int] = ()  # tasks that ended in the previous part of the run

    def owner(self, node: int) -> int:
        """Return the task of an instance of a mapped task, and any other number itself."""
        return self.owners.get(node, node)

    def is_hook(self, node: int) -> bool:
        """Return whether the number is a hook's."""
        return node in self.hooks

    def name(self, node: int) -> str:
        """Return the name of the instance for messages."""
        return instance_name(self.task_ids[node], self.map_indexes[node])

    def downstream_status(self, node: int) -> TaskStatus:
        """Return the state that downstream tasks see: a tolerated failure is a success."""
        return "SUCCESS" if node in self.tolerated else self.status[node]

    def instances(self, nodes: Iterable[int]) -> Iterator[int]:
        """Return the numbers, with the instances in place of mapped tasks whose list is known."""
        for node in nodes:
            if node in self.mapped:
                yield from self.mapped[node].nodes
            else:
                yield node

    def add_hook(self, task_id: str, map_index: int, status: TaskStatus, attempts: int) -> int:
        """Add a hook and return its number."""
        node = len(self.status)
        self.task_ids.append(task_id)
        self.map_indexes.append(map_index)
        self.status.append(status)
        self.attempts.append(attempts)
        self.hooks.add(node)
        return node

    def add_instances(self, node: int, indexes: Sequence[int], *, fail_fast: bool) -> MappedInstances:
        """Add the instances of a mapped task, all QUEUED, with these indexes."""
        count = len(indexes)
        instances = self.mapped[node] = MappedInstances(len(self.status), count, fail_fast=fail_fast)
        self.task_ids += [self.graph.ids[node]] * count
        self.map_indexes += indexes
        self.attempts += [0] * count
        self.status += ["QUEUED"] * count
        self.owners.update(dict.fromkeys(instances.nodes, node))
        return instances


def instance_name(task_id: str, map_index: int) -> str:
    """Return how people call a task instance: `fetch`, or `fetch[3]` for an instance of a mapped task."""
    return task_id if map_index < 0 else f"{task_id}[{map_index}]"
