"""The tasks that may start, in the order in which they start. Pure.

Without queue options it is a plain queue. With them, a higher priority goes first, and among equals the task that has
waited longest; a task starts only while fewer than `max_parallel` of its instances run; and a task that needs slots of
pools is handed out as a candidate, one for each set of needs at a time, because only the store knows the slots that
other runs hold (see `state`). A task starts only while its place (this machine, or a cluster) has room. A task that may
not start now does not hold up the tasks behind it.
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
    place: str = ""  # where it runs: the name of a cluster; empty: this machine
    holds: bool = False  # whether it holds its slots while it waits, too


DEFAULT_QUEUE = QueueOptions()
#: A position in a line; the smallest goes first: -priority, time of arrival, task.
_Position = tuple[int, int, int]
#: Tasks of the same line wait for the same: an owner whose running instances are limited (or -1), slots, and a place.
_LineKey = tuple[int, SlotNeeds, str]


class ReadyQueue:
    """Tasks in the order in which they may start.

    A line is open while its first task may start. The heads of all open lines are in a heap; heads of closed lines, and
    outdated ones, are passed over.

    Args:
        options: of the tasks that have some, by task number.
        owner: returns the task of an instance.
    """

    def __init__(
        self, options: Mapping[int, QueueOptions] | None = None, owner: Callable[[int], int] | None = None
    ) -> None:
        self._options = options or {}
        self._different = tuple({id(each): each for each in self._options.values()}.values())  # tasks share them
        self._owner = owner or _itself
        self._queue: deque[int] = deque()  # all tasks, as long as there are no options
        self._lines: dict[_LineKey, list[_Position]] = {}  # heaps
        self._heads: list[_Position] = []  # a heap
        self._asking: set[_LineKey] = set()  # lines with a candidate that has not got its slots
        self._running: dict[int, int] = {}  # how many instances run of each owner with a limit
        self._room: dict[str, int] = {}  # of the places whose room is counted
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
        self._give_back(node)
        self._first -= 1
        self._insert(node, self._first)

    def pop(self) -> int | None:
        """Return the next task, or None. After a task with needs, no other with the same needs until `admitted`."""
        if not self._options:
            return self._queue.popleft() if self._queue else None
        while self._heads:
            position = heappop(self._heads)
            node = position[2]
            key = self._key(node)
            line = self._lines.get(key)
            if not line or line[0] != position or not self._is_open(key):
                continue
            heappop(line)
            owner, needs, place = key
            if owner >= 0:
                self._running[owner] = self._running.get(owner, 0) + 1
            if needs:
                self._asking.add(key)
            if place in self._room:
                self._room[place] -= 1
            if line:
                self._show(key)
            else:
                del self._lines[key]
            return node
        return None

    def admitted(self, node: int) -> None:
        """Record that the task got the slots it needs: the next candidate with the same needs may be handed out."""
        key = self._key(node)
        self._asking.discard(key)
        self._show(key)

    def ended(self, node: int) -> None:
        """Record the end of an attempt: another instance of its task may start. Freed slots are for `reopen`."""
        if not self._options:
            return
        owner, _, _ = key = self._key(node)
        if owner >= 0:
            self._running[owner] -= 1
            if self._running[owner] == self._limit(owner) - 1:
                self._show(key)

    def restored(self, node: int) -> None:
        """Count an instance that was running or waiting before the run was resumed."""
        owner = self._key(node)[0]
        if owner >= 0:
            self._running[owner] = self._running.get(owner, 0) + 1

    def drop(self, node: int) -> None:
        """Record that a task that was handed out has been cancelled."""
        if self._options:
            self._give_back(node)
            self.admitted(node)

    def reopen(self) -> None:
        """Hand out candidates for slots again, because slots may have become free."""
        asking, self._asking = self._asking, set()
        for key in asking:
            self._show(key)

    def resize(self, place: str, room: int) -> None:
        """Set how many more tasks may start in a place. As long as it is not set, the caller counts them."""
        was_full = self._room.get(place, 1) <= 0
        self._room[place] = room
        if was_full and room > 0:
            for key in self._lines:
                if key[2] == place:
                    self._show(key)

    def waiting(self, place: str) -> int:
        """Return how many tasks wait for room in a place, and for nothing else that this run decides."""
        return sum(
            len(line) if owner < 0 else min(len(line), max(0, self._limit(owner) - self._running.get(owner, 0)))
            for (owner, _, where), line in self._lines.items()
            if where == place
        )

    @property
    def is_ordered(self) -> bool:
        """Whether a task has an option besides its place."""
        return any(options.priority or options.max_parallel or options.needs for options in self._different)

    def clusters(self) -> frozenset[str]:
        """Return the places of the tasks, apart from this machine."""
        return frozenset(options.place for options in self._different if options.place)

    def options(self, node: int) -> QueueOptions:
        """Return the options of a task."""
        return self._options.get(self._owner(node), DEFAULT_QUEUE) if self._options else DEFAULT_QUEUE

    def _key(self, node: int) -> _LineKey:
        owner = self._owner(node)
        options = self._options.get(owner, DEFAULT_QUEUE)
        return (-1 if options.max_parallel is None else owner, options.needs, options.place)

    def _is_open(self, key: _LineKey) -> bool:
        owner, _, place = key
        if key in self._asking or self._room.get(place, 1) <= 0:
            return False
        return owner < 0 or self._running.get(owner, 0) < self._limit(owner)

    def _limit(self, owner: int) -> int:
        return self._options[owner].max_parallel or 0

    def _insert(self, node: int, arrival: int) -> None:
        key = self._key(node)
        position = (-self.options(node).priority, arrival, node)
        line = self._lines.setdefault(key, [])
        heappush(line, position)
        if line[0] is position:
            self._show(key)

    def _give_back(self, node: int) -> None:
        """Give back the room that a task was handed out for."""
        place = self._key(node)[2]
        if place in self._room:
            self.resize(place, self._room[place] + 1)
        self.ended(node)

    def _show(self, key: _LineKey) -> None:
        """Add the head of a line that is open to the heap."""
        line = self._lines.get(key)
        if line and self._is_open(key):
            heappush(self._heads, line[0])


def _itself(node: int) -> int:
    return node
