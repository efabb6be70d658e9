"""Python tasks in daemon threads of our own, made as needed.

A thread cannot be killed. A task that is cancelled or late is abandoned: its Outcome is posted after the grace,
its late result is thrown away, and nothing ever waits for its thread.
"""

from __future__ import annotations

import time
from _thread import LockType
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock, Thread

from liteflow.executors.base import Lane, cancelled_in_queue, failure, one_line, safe_text, timeout_message
from liteflow.executors.host import without_input
from liteflow.executors.inbox import Inbox, Timer
from liteflow.executors.inline import run_here
from liteflow.states import Verdict
from liteflow.work import Call, RunInfo, Work

_CLOSE_S = 1.0
_SHORT_S = 0.0002  # a task as short as this is over before another thread has woken up
_WAKE_AFTER_S = 0.001  # after this time of short tasks a thread is woken for each attempt that still waits


class _Running:
    __slots__ = ("started_at", "timer", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.started_at = time.time()
        self.timer: Timer | None = None


class Abandonable:
    """Who runs, for lanes whose tasks cannot be killed: whoever takes an attempt out of the book reports it."""

    def __init__(self, inbox: Inbox, freed: Callable[[], None]) -> None:
        self._inbox = inbox
        self._freed = freed  # called when an attempt was given up, which makes room for another
        self._running: dict[int, _Running] = {}  # by node; popping is atomic and decides who posts

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, work: Work) -> _Running:
        entry = self._running[work.node] = _Running(work)
        if work.timeout_s is not None:
            message = timeout_message(work)
            late = partial(self.abandon, work.node, entry, "TIMED_OUT", message)
            entry.timer = self._inbox.at(time.monotonic() + work.timeout_s, late)
        return entry

    def claim(self, entry: _Running) -> bool:
        """May the caller post this attempt's outcome? True for the first that asks."""
        if self._running.get(entry.work.node) is not entry:
            return False
        if self._running.pop(entry.work.node, None) is not entry:
            return False
        if entry.timer is not None:
            entry.timer.cancel()
        return True

    def find(self, node: int) -> _Running | None:
        return self._running.get(node)

    def abandon(self, node: int, entry: _Running, verdict: Verdict, message: str) -> None:
        """Give an attempt up, unless it has ended."""
        if self._running.get(node) is entry and self.claim(entry):
            self._inbox.post(failure(entry.work, verdict, message, started_at=entry.started_at))
            self._freed()

    def abandon_after(self, node: int, grace_s: float) -> None:
        """Cancel: give the attempt up after the grace, unless it ends by itself."""
        entry = self._running.get(node)
        if entry is None:
            return
        message = "cancelled; its thread cannot be killed and was abandoned"
        give_up = partial(self.abandon, node, entry, "CANCELLED", message)
        if grace_s <= 0:
            give_up()
        else:
            self._inbox.at(time.monotonic() + grace_s, give_up)

    def clear(self) -> None:
        """Forget everything: what still runs reports to nobody."""
        self._running.clear()


class ThreadLane(Lane):
    """At most `slots` threads that take attempts from a queue; one more is started when none is free.

    Waking a thread costs as much as a very short task takes. While tasks are that short, one thread that is awake
    takes them one after the other; the others are woken only if the queue is not empty a millisecond later.
    """

    queues = True

    def __init__(self, inbox: Inbox, calls: Mapping[str, Call], info: RunInfo, slots: int) -> None:
        self._inbox = inbox
        self._calls = calls
        self._info = info
        self._slots = slots
        self._book = Abandonable(inbox, self._call_one)
        self._line: deque[_Running] = deque()  # submitted, and not taken by a thread yet
        self._parked: list[LockType] = []  # a thread sleeps on each
        self._threads: list[Thread] = []
        self._lock = Lock()  # guards the three above, where more than one of them matters
        self._busy = 0  # threads that have taken an attempt, abandoned ones included
        self._typical_s = 1.0  # how long recent attempts took
        self._watching = False
        self._closed = False

    def submit(self, work: Work) -> None:
        entry = self._book.begin(work)
        with self._lock:
            self._line.append(entry)
            patient = self._typical_s < _SHORT_S and len(self._parked) < len(self._threads)
        if not patient:
            self._call_one()
        elif not self._watching:
            self._watching = True
            self._inbox.at(time.monotonic() + _WAKE_AFTER_S, self._watch)

    def _watch(self) -> None:
        """Those that are awake have been busy for a while: wake a thread for each attempt that still waits."""
        self._watching = False
        for _ in range(min(len(self._line), self._slots)):
            self._call_one()

    def _free(self) -> bool:
        """Does an attempt wait that a thread may take? Not while all slots are taken by tasks that go on."""
        return bool(self._line) and len(self._book) - len(self._line) < self._slots

    def _call_one(self) -> None:
        """Wake a thread, or start one."""
        with self._lock:
            if not self._free():
                return
            if self._parked:
                self._parked.pop().release()
                return
            abandoned = self._busy - (len(self._book) - len(self._line))
            if len(self._threads) - abandoned >= self._slots:
                return  # one is on its way
        thread = Thread(target=self._serve, name=f"liteflow-{len(self._threads) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._refuse(f"no thread can be started: {error}")
            return
        self._threads.append(thread)

    def _refuse(self, message: str) -> None:
        """There is nobody to take the newest attempt."""
        with self._lock:
            if not self._line:
                return
            entry = self._line.pop()
        if self._book.claim(entry):
            self._inbox.post(failure(entry.work, "FAILED", message))

    def _serve(self) -> None:
        without_input.set(True)
        bed = Lock()  # this thread sleeps on it
        bed.acquire()
        while (entry := self._next(bed)) is not None:
            work = entry.work
            began = entry.started_at = time.time()
            try:
                outcome = run_here(self._calls[work.task_id], work, self._info)
            except BaseException as error:  # noqa: BLE001 - no attempt is lost, not even for want of memory
                outcome = failure(
                    work, "FAILED", one_line(self._info.masked(f"{type(error).__name__}: {safe_text(error)}"))
                )
            self._typical_s += (outcome.ended_at - began - self._typical_s) / 4
            if self._book.claim(entry):
                self._inbox.post(outcome)
            with self._lock:
                self._busy -= 1

    def _next(self, bed: LockType) -> _Running | None:
        """The next attempt for the calling thread, which sleeps on `bed` until there is one; None: go home."""
        while True:
            with self._lock:
                if self._free():
                    self._busy += 1
                    return self._line.popleft()
                if self._closed:
                    return None
                self._parked.append(bed)
            bed.acquire()

    def cancel(self, node: int, grace_s: float) -> None:
        entry = self._book.find(node)
        if entry is not None and self._leave(entry):
            self._inbox.post(cancelled_in_queue(entry.work))
        else:
            self._book.abandon_after(node, grace_s)

    def _leave(self, entry: _Running) -> bool:
        """Take an attempt out of the line; False when it has begun."""
        with self._lock:
            if entry not in self._line:
                return False
            self._line.remove(entry)
        return self._book.claim(entry)

    def close(self, grace_s: float) -> None:
        """Let idle threads end (the process may then be forked again) and forget the others."""
        with self._lock:
            self._closed = True
            self._line.clear()
            self._book.clear()
            while self._parked:
                self._parked.pop().release()
        give_up = time.monotonic() + _CLOSE_S
        while sum(thread.is_alive() for thread in self._threads) > self._busy and time.monotonic() < give_up:
            time.sleep(0.0002)
