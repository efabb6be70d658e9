"""Tasks that their trigger rule lets run, by what they wait for before they start. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping

from liteflow.planning.ready_queue import QueueOptions, ReadyQueue
from liteflow.planning.task_table import TaskTable


class StartQueue:
    """Where a task waits between the decision of its trigger rule and its start.

    It waits for its start checks, for the list that it is mapped over, for the time of its next attempt, or only for a
    free worker. A blocking hook keeps all other tasks from starting until it has ended.
    """

    def __init__(self, table: TaskTable, options: Mapping[int, QueueOptions], mapped: Collection[int]) -> None:
        self.ready = ReadyQueue(options, table.owner)
        self._status = table.status
        self._mapped = mapped  # the tasks that are mapped over a list
        self._checks: list[int] = []
        self._lists: list[int] = []
        self._retries: list[tuple[float, int]] = []  # a heap: (monotonic seconds, instance)
        self._blocking: int | None = None
        self._blocking_is_ready = False

    # -- adding --------------------------------------------------------------------------------------------

    def add(self, node: int, *, checked: bool) -> None:
        """Add a task that may run; one that is not `checked` waits for its start checks first."""
        if not checked:
            self._checks.append(node)
        elif node in self._mapped:
            self._lists.append(node)
        else:
            self.ready.push(node)

    def add_retry(self, node: int, due: float) -> None:
        """Add an instance whose next attempt, a retry or an iteration, starts at this monotonic second or later."""
        heapq.heappush(self._retries, (due, node))

    def add_blocking(self, node: int) -> None:
        """Add a hook before whose end nothing else starts."""
        self._blocking, self._blocking_is_ready = node, True

    def unblock(self, node: int) -> None:
        """Let other tasks start again, if this is the blocking hook."""
        if node == self._blocking:
            self._blocking = None

    # -- taking --------------------------------------------------------------------------------------------

    def requeue(self, now: float) -> None:
        """Queue the instances whose back-off is over."""
        status = self._status
        while self._retries and self._retries[0][0] <= now:
            due = heapq.heappop(self._retries)[1]
            if status[due] not in ("UP_FOR_RETRY", "WAITING"):
                continue  # it was cancelled
            if due == self._blocking:
                self._blocking_is_ready = True
            else:
                self.ready.push(due)

    def pop(self, now: float) -> int | None:
        """Return the next task to start, or None."""
        self.requeue(now)
        status = self._status
        if self._blocking is not None:
            node, self._blocking_is_ready = self._blocking if self._blocking_is_ready else None, False
            return node
        while (node := self.ready.pop()) is not None and status[node] == "CANCELLED":
            self.ready.drop(node)
        return node

    def put_back(self, node: int) -> None:
        """Add an instance again that was taken and has not started: it is the next of its priority."""
        if node == self._blocking:
            self._blocking_is_ready = True
        else:
            self.ready.put_back(node)

    def next_retry_at(self) -> float | None:
        """Return the monotonic second at which the next retry is due, if one is waiting."""
        while self._retries and self._status[self._retries[0][1]] not in ("UP_FOR_RETRY", "WAITING"):
            heapq.heappop(self._retries)  # it was cancelled
        return self._retries[0][0] if self._retries else None

    def due_checks(self) -> list[int]:
        """Return, once, the tasks whose start checks are to be evaluated."""
        nodes, self._checks = self._checks, []
        return [node for node in nodes if self._status[node] == "QUEUED"]

    def due_lists(self) -> list[int]:
        """Return, once, the mapped tasks whose list is wanted."""
        nodes, self._lists = self._lists, []
        return [node for node in nodes if self._status[node] == "QUEUED"]
