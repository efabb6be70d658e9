"""The queue in which outcomes arrive: one poll, one consumer.

Threads `post`, file descriptors and timers call back inside `wait`, signal handlers `wake`.
"""

from __future__ import annotations

import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable

from liteflow.work import Outcome


class Timer:
    """A callback that is due at a time; `cancel` may be called more than once."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _Timers:
    """Timers in the order in which they are due."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._last_number = 0  # timers of the same time are due in the order in which they were set

    def add(self, deadline: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(deadline, callback)
        self._last_number += 1
        heapq.heappush(self._heap, (deadline, self._last_number, timer))
        return timer

    def next_deadline(self) -> float | None:
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run(self) -> None:
        """Call the callbacks that are due."""
        while self._heap:
            deadline, _, timer = self._heap[0]
            if timer.callback is not None and deadline > time.monotonic():
                return
            heapq.heappop(self._heap)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()


class OutcomeQueue:
    """Collects outcomes. Only `post` and `wake` may be called from other threads or signal handlers."""

    def __init__(self) -> None:
        self._queue: deque[Outcome] = deque()
        self._waiting = False
        self._woken = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._wake_fd, select.EPOLLIN)
        self._watched: dict[int, Callable[[], None]] = {}
        self._writing: set[int] = set()  # those of which also writability is watched
        self._timers = _Timers()
        self._closed = False

    def post(self, outcome: Outcome) -> None:
        """Add an outcome, from any thread; it is dropped once the queue is closed."""
        self._queue.append(outcome)
        self._signal()

    def wake(self) -> None:
        """Make `wait` return early, perhaps with no outcome. Safe in a signal handler."""
        self._woken = True
        self._signal()

    def _signal(self) -> None:
        """End the poll, if there is one: what calls back between polls needs none, and saves three system calls."""
        if self._waiting and not self._closed:
            self._waiting = False
            os.eventfd_write(self._wake_fd, 1)

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call back whenever `fd` is readable or closed."""
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = callback

    def watch_writing(self, fd: int, *, on: bool) -> None:
        """Call back also whenever a descriptor that is watched takes more data, or no longer."""
        if fd in self._watched and on != (fd in self._writing):
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if on else select.EPOLLIN)
            (self._writing.add if on else self._writing.discard)(fd)

    def pause(self, fd: int, pause_s: float) -> None:
        """Do not watch a descriptor for some seconds."""
        callback = self._watched[fd]
        self._epoll.modify(fd, 0)

        def resume() -> None:
            if self._watched.get(fd) is callback:  # it may be another file by now
                self._epoll.modify(fd, select.EPOLLIN)

        self.at(time.monotonic() + pause_s, resume)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor; required before it is closed."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._writing.discard(fd)

    def at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call back once at `deadline`, in seconds of `time.monotonic()`."""
        return self._timers.add(deadline, callback)

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Return the outcomes that have arrived; wait up to `timeout_s` seconds for the first (None: without limit).

        The list is empty when the time is over or `wake` was called.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._waiting = True  # before the last look at what has arrived: no wake-up is missed
            ready = bool(self._queue) or self._woken
            if self._watched or not ready:
                self._poll(0.0 if ready else self._pause(end))
            self._waiting = False
            self._timers.run()
            if self._queue or self._woken or (end is not None and time.monotonic() >= end):
                self._woken = False
                return self._take()

    def _take(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while self._queue:
            outcomes.append(self._queue.popleft())
        return outcomes

    def _pause(self, end: float | None) -> float | None:
        """Return the seconds until the next timer or the end of the wait; None when there is neither."""
        deadline = self._timers.next_deadline()
        if end is not None and (deadline is None or end < deadline):
            deadline = end
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def _poll(self, pause_s: float | None) -> None:
        events = self._epoll.poll(pause_s)
        self._waiting = False
        for fd, _ in events:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
                continue
            callback = self._watched.get(fd)  # an earlier callback of this poll may have unwatched it
            if callback is not None:
                callback()

    def close(self) -> None:
        """Close the descriptors. Outcomes that are posted later are dropped."""
        if not self._closed:
            self._closed = True
            self._epoll.close()
            os.close(self._wake_fd)
