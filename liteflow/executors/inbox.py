"""Where outcomes arrive: one queue, one poll, one consumer.

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

_READ = select.EPOLLIN
_READ_WRITE = select.EPOLLIN | select.EPOLLOUT


class Timer:
    """A callback to come; `cancel` it as often as you like."""

    __slots__ = ("callback", "deadline")

    def __init__(self, deadline: float, callback: Callable[[], None]) -> None:
        self.deadline = deadline
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Inbox:
    """Collects outcomes. Only `post` and `wake` may be called from other threads or signal handlers."""

    def __init__(self) -> None:
        self._queue: deque[Outcome] = deque()
        self._waiting = False
        self._woken = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._wake_fd, _READ)
        self._watched: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_number = 0
        self._closed = False

    def post(self, outcome: Outcome) -> None:
        """Add an outcome, from any thread; it is dropped once the inbox is closed."""
        self._queue.append(outcome)
        if self._waiting:  # set before the consumer looks at the queue a last time: no wake-up is missed
            self._waiting = False
            self._signal()

    def wake(self) -> None:
        """Make `wait` return early, perhaps with nothing. Safe in a signal handler."""
        self._woken = True
        self._signal()

    def _signal(self) -> None:
        if not self._closed:
            os.eventfd_write(self._wake_fd, 1)

    def watch(self, fd: int, callback: Callable[[], None], *, writable: bool = False) -> None:
        """Call back whenever `fd` is readable or closed (with `writable`, also when it can be written to)."""
        mask = _READ_WRITE if writable else _READ
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Stop watching; call it before the descriptor is closed."""
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, deadline: float, callback: Callable[[], None]) -> Timer:
        """Call back once at `deadline`, in seconds of `time.monotonic()`."""
        timer = Timer(deadline, callback)
        self._timer_number += 1
        heapq.heappush(self._timers, (deadline, self._timer_number, timer))
        return timer

    def wait(self, timeout_s: float | None = None) -> list[Outcome]:
        """Return the outcomes that have come; wait for the first one up to `timeout_s` seconds (None: for ever).

        Returns an empty list when the time is over or `wake` was called.
        """
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._waiting = True
            ready = bool(self._queue) or self._woken
            if self._watched or not ready:
                self._poll(0.0 if ready else self._pause(give_up))
            self._waiting = False
            self._run_timers()
            if self._queue or self._woken or (give_up is not None and time.monotonic() >= give_up):
                self._woken = False
                return self._take()

    def _take(self) -> list[Outcome]:
        taken: list[Outcome] = []
        while self._queue:
            taken.append(self._queue.popleft())
        return taken

    def _pause(self, give_up: float | None) -> float | None:
        """Seconds until the next thing that has a time; None when nothing has."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        next_time = self._timers[0][0] if self._timers else None
        if give_up is not None and (next_time is None or give_up < next_time):
            next_time = give_up
        return None if next_time is None else max(0.0, next_time - time.monotonic())

    def _poll(self, pause_s: float | None) -> None:
        for fd, _ in self._epoll.poll(pause_s):
            if fd == self._wake_fd:
                os.eventfd_read(fd)
                continue
            callback = self._watched.get(fd)  # an earlier callback of this turn may have unwatched it
            if callback is not None:
                callback()

    def _run_timers(self) -> None:
        while self._timers:
            deadline, _, timer = self._timers[0]
            if timer.callback is not None and deadline > time.monotonic():
                return
            heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()

    def close(self) -> None:
        """Let go of the descriptors. Outcomes posted later go nowhere."""
        if not self._closed:
            self._closed = True
            self._epoll.close()
            os.close(self._wake_fd)
