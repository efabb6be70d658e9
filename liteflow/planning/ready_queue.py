"""The tasks that may start, in the order in which they start. Pure.

Without queue options it is a plain queue. With them, a higher priority goes first, and among equals the task that has
waited longest; a task starts only while fewer than `max_parallel` of its instances run; and a task that needs slots of
pools is handed out as a candidate, one for each set of needs at a time, because only the store knows the slots that
other runs hold (see `state`). A task that may not start now does not hold up the tasks behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush

from liteflow.record import Record

#: Slots of pools: (pool, how many), by name.
SlotNeeds = tuple[tuple[str, int], ...]


class QueueOptions(Record, kw_only=False):
    """The options of a task that decide when it leaves the queue."""

    priority: int = 0  # a higher number goes first
    max_parallel: int | None = None  # how many of its instances may run at once
    needs: SlotNeeds = ()


DEFAULT_QUEUE = QueueOptions()
#: A position in a line; the smallest goes first: -priority, time of arrival, task.
_Position = tuple[int, int, int]
#: Tasks of the same line wait for the same: an owner whose running instances are limited (or -1), and needed slots.
_LineKey = tuple[int, SlotNeeds]


class ReadyQueue:
    """Tasks in the order in which they may start.

    Args:
        options: of the tasks that have some, by task number.
        owner: returns the task of an instance.
    """

    def __init__(
        self, options: Mapping[int, QueueOptions] | None = None, owner: Callable[[int], int] | None = None
    ) -> None:
        self._options = options or {}
        self._owner = owner or _itself
        self._queue: deque[int] = deque()  # all tasks, as long as there are no options
        self._lines: dict[_LineKey, list[_Position]] = {}  # heaps
        self._heads: list[_Position] = []  # a heap with the head of every open line, and outdated heads
        self._closed: set[_LineKey] = set()
        self._running: dict[int, int] = {}  # how many instances run of each owner with a limit
        self._last = self._first = 0
        if not self._options:
            self.push = self._queue.append  # type: ignore[assignment, method-assign]  # saves a call per task

    def push(self, node: int) -> None:
        """Add a task, behind the others of its priority."""
        self._last += 1
        self._insert(node, self._last)

    def put_back(self, node: int) -> None:
        """Add a task again that was handed out and has not started, before the others of its priority."""
        if not self._options:
            self._queue.appendleft(node)
            return
        self.ended(node)
        self._first -= 1
        self._insert(node, self._first)

    def pop(self) -> int | None:
        """Return the next task, or None. After a task with needs, no other with the same needs until `admitted`."""
        if not self._options:
            return self._queue.popleft() if self._queue else None
        while self._heads:
            position = heappop(self._heads)
            node = position[2]
            options = self._options.get(self._owner(node), DEFAULT_QUEUE)
            key = self._key(node, options)
            line = self._lines.get(key)
            if not line or line[0] != position or key in self._closed:
                continue
            heappop(line)
            if key[0] >= 0:
                running = self._running[key[0]] = self._running.get(key[0], 0) + 1
                if running >= (options.max_parallel or 0):
                    self._closed.add(key)
            if options.needs:
                self._closed.add(key)
            if not line:
                del self._lines[key]
            elif key not in self._closed:
                heappush(self._heads, line[0])
            return node
        return None

    def admitted(self, node: int) -> None:
        """Record that the task got the slots it needs: the next candidate with the same needs may be handed out."""
        options = self._options[self._owner(node)]
        key = self._key(node, options)
        if key[0] < 0 or self._running.get(key[0], 0) < (options.max_parallel or 0):
            self._open(key)

    def ended(self, node: int) -> None:
        """Record the end of an attempt: another instance of its task may start. Freed slots are for `reopen`."""
        if not self._options:
            return
        owner = self._owner(node)
        options = self._options.get(owner)
        if options is None or options.max_parallel is None:
            return
        self._running[owner] -= 1
        if not options.needs:
            self._open((owner, ()))

    def restored(self, node: int) -> None:
        """Count an instance that was running or waiting before the run was resumed."""
        options = self._options.get(self._owner(node)) if self._options else None
        if options is not None and options.max_parallel is not None:
            owner = self._owner(node)
            running = self._running[owner] = self._running.get(owner, 0) + 1
            if running >= options.max_parallel:
                self._closed.add(self._key(node, options))

    def drop(self, node: int) -> None:
        """Record that a task that was handed out has been cancelled."""
        self.ended(node)
        if self.needs(node):
            self.admitted(node)

    def reopen(self) -> None:
        """Hand out candidates for slots again, because slots may have become free."""
        for key in list(self._closed):
            owner, needs = key
            max_parallel = None if owner < 0 else self._options[owner].max_parallel
            if needs and (max_parallel is None or self._running.get(owner, 0) < max_parallel):
                self._open(key)

    def needs(self, node: int) -> SlotNeeds:
        """Return the slots that the task needs."""
        options = self._options.get(self._owner(node)) if self._options else None
        return () if options is None else options.needs

    def _key(self, node: int, options: QueueOptions) -> _LineKey:
        return (-1 if options.max_parallel is None else self._owner(node), options.needs)

    def _insert(self, node: int, arrival: int) -> None:
        options = self._options.get(self._owner(node), DEFAULT_QUEUE)
        key = self._key(node, options)
        position = (-options.priority, arrival, node)
        line = self._lines.setdefault(key, [])
        heappush(line, position)
        if line[0] is position and key not in self._closed:
            heappush(self._heads, position)

    def _open(self, key: _LineKey) -> None:
        if key in self._closed:
            self._closed.discard(key)
            if self._lines.get(key):
                heappush(self._heads, self._lines[key][0])


def _itself(node: int) -> int:
    return node
