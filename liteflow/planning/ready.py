"""The tasks that may start, and which of them is next. Pure.

Without orders it is a queue and nothing else. With them: a higher priority goes first, the longest ready first among
equals; a task starts only while fewer than `at_once` of its instances run; and a task that needs slots of pools is
given out for asking, one of each kind of need at a time, because only the store knows what other runs hold (`slots`).
A task that may not start now is passed over by those behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

#: Slots of pools: (pool, how many), by name.
Needs = tuple[tuple[str, int], ...]


class Order(NamedTuple):
    """What is said of a task's place in the queue."""

    priority: int = 0  # higher goes first
    at_once: int | None = None  # so many of its instances at most
    needs: Needs = ()


PLAIN = Order()
#: A place in a line: the smallest goes first.
_Place = tuple[int, int, int]  # -priority, when it came, task
#: Tasks of one line wait for the same: an owner whose instances are counted (or -1), and what they need.
_Line = tuple[int, Needs]


class Ready:
    """Tasks in the order in which they may start.

    Args:
        orders: of the tasks that have one, by their own number.
        owner: the number of the task that an instance is of.
    """

    def __init__(self, orders: Mapping[int, Order] | None = None, owner: Callable[[int], int] | None = None) -> None:
        self._orders = orders or {}
        self._owner = owner or _itself
        self._queue: deque[int] = deque()  # all there is while there are no orders
        self._lines: dict[_Line, list[_Place]] = {}  # heaps
        self._heads: list[_Place] = []  # a heap with the head of every open line, and some that are so no more
        self._shut: set[_Line] = set()
        self._at_work: dict[int, int] = {}  # of owners whose instances are counted
        self._last = self._first = 0
        if not self._orders:
            self.push = self._queue.append  # type: ignore[assignment, method-assign]

    def push(self, node: int) -> None:
        """The task may start: it stands behind those of its priority."""
        self._last += 1
        self._enter(node, self._last)

    def put_back(self, node: int) -> None:
        """The task was given out and has not started: it stands before those of its priority."""
        if not self._orders:
            self._queue.appendleft(node)
            return
        self.ended(node)
        self._first -= 1
        self._enter(node, self._first)

    def pop(self) -> int | None:
        """The next task, or None. If it has needs, no other with the same ones follows until it is `admitted`."""
        if not self._orders:
            return self._queue.popleft() if self._queue else None
        while self._heads:
            place = heappop(self._heads)
            node = place[2]
            order = self._orders.get(self._owner(node), PLAIN)
            key = self._line(node, order)
            line = self._lines.get(key)
            if not line or line[0] != place or key in self._shut:
                continue
            heappop(line)
            if key[0] >= 0:
                at_work = self._at_work[key[0]] = self._at_work.get(key[0], 0) + 1
                if at_work >= (order.at_once or 0):
                    self._shut.add(key)
            if order.needs:
                self._shut.add(key)
            if not line:
                del self._lines[key]
            elif key not in self._shut:
                heappush(self._heads, line[0])
            return node
        return None

    def admitted(self, node: int) -> None:
        """The task has been given the slots it needs: another one may ask."""
        order = self._orders[self._owner(node)]
        key = self._line(node, order)
        if key[0] < 0 or self._at_work.get(key[0], 0) < (order.at_once or 0):
            self._open(key)

    def ended(self, node: int) -> None:
        """An attempt has ended, so another instance of its task may start. What pools say is for `reopen`."""
        owner = self._owner(node)
        order = self._orders.get(owner)
        if order is None or order.at_once is None:
            return
        self._at_work[owner] -= 1
        if not order.needs:
            self._open((owner, ()))

    def drop(self, node: int) -> None:
        """The task was given out, and has been cancelled meanwhile."""
        self.ended(node)
        if self.needs(node):
            self.admitted(node)

    def reopen(self) -> None:
        """Slots may have become free: those that need some may ask again."""
        for key in list(self._shut):
            owner, needs = key
            at_once = None if owner < 0 else self._orders[owner].at_once
            if needs and (at_once is None or self._at_work.get(owner, 0) < at_once):
                self._open(key)

    def needs(self, node: int) -> Needs:
        """The slots that the task needs."""
        order = self._orders.get(self._owner(node))
        return () if order is None else order.needs

    def _line(self, node: int, order: Order) -> _Line:
        return (-1 if order.at_once is None else self._owner(node), order.needs)

    def _enter(self, node: int, since: int) -> None:
        order = self._orders.get(self._owner(node), PLAIN)
        key = self._line(node, order)
        place = (-order.priority, since, node)
        line = self._lines.setdefault(key, [])
        heappush(line, place)
        if line[0] is place and key not in self._shut:
            heappush(self._heads, place)

    def _open(self, key: _Line) -> None:
        if key in self._shut:
            self._shut.discard(key)
            if self._lines.get(key):
                heappush(self._heads, self._lines[key][0])


def _itself(node: int) -> int:
    return node
