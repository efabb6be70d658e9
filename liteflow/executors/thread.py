"""Python tasks in daemon threads, made as needed.

A thread cannot be killed. A task that is cancelled or late is abandoned: its Outcome is posted after the grace, its
late result is dropped, and nothing waits for its thread.
"""

from __future__ import annotations

import time
from _thread import LockType
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Lock, Thread
from typing import cast

from liteflow.executors.attempt import cancelled_in_queue, failure, one_line, safe_text, timeout_message
from liteflow.executors.host_guards import without_input
from liteflow.executors.inline import run_attempt
from liteflow.executors.outcome_queue import OutcomeQueue, Timer
from liteflow.executors.protocol import Backend, BackendContext
from liteflow.states import Verdict
from liteflow.work import Call, Work

_CLOSE_S = 1.0
_SHORT_S = 0.0002  # a task as short as this has ended before another thread has woken up
_WAKE_AFTER_S = 0.001  # then a thread is woken for each attempt that is queued behind short ones


class Submission:
    """An attempt that was submitted."""

    __slots__ = ("started_at", "timer", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.started_at = time.time()
        self.timer: Timer | None = None


class Abandonable:
    """The attempts of a backend that cannot kill them. The one caller that claims an attempt posts its outcome."""

    def __init__(self, outcomes: OutcomeQueue, on_abandon: Callable[[], None]) -> None:
        self._outcomes = outcomes
        self._on_abandon = on_abandon  # called when an attempt was abandoned, so that another one has a slot
        self._submissions: dict[int, Submission] = {}  # by node; `dict.pop` is atomic

    def __len__(self) -> int:
        return len(self._submissions)

    def add(self, work: Work) -> Submission:
        submission = self._submissions[work.node] = Submission(work)
        if work.timeout_s is not None:
            on_timeout = partial(self.abandon, work.node, submission, "TIMED_OUT", timeout_message(work))
            submission.timer = self._outcomes.at(time.monotonic() + work.timeout_s, on_timeout)
        return submission

    def claim(self, submission: Submission) -> bool:
        """Return whether the caller is the first to claim this attempt, and so has to post its outcome."""
        if self._submissions.get(submission.work.node) is not submission:
            return False
        if self._submissions.pop(submission.work.node, None) is not submission:
            return False
        if submission.timer is not None:
            submission.timer.cancel()
        return True

    def find(self, node: int) -> Submission | None:
        return self._submissions.get(node)

    def abandon(self, node: int, submission: Submission, verdict: Verdict, message: str) -> None:
        """Abandon an attempt, unless it has ended."""
        if self._submissions.get(node) is submission and self.claim(submission):
            self._outcomes.post(failure(submission.work, verdict, message, started_at=submission.started_at))
            self._on_abandon()

    def abandon_after(self, node: int, grace_s: float) -> None:
        """Cancel an attempt: abandon it after the grace, unless it ends by itself."""
        submission = self._submissions.get(node)
        if submission is None:
            return
        message = "cancelled; its thread cannot be killed and was abandoned"
        abandon = partial(self.abandon, node, submission, "CANCELLED", message)
        if grace_s <= 0:
            abandon()
        else:
            self._outcomes.at(time.monotonic() + grace_s, abandon)

    def clear(self) -> None:
        """Forget all attempts: the outcomes of those that still run are dropped."""
        self._submissions.clear()


class _Queue:
    """The attempts that no thread has taken, and the threads that wait for one."""

    def __init__(self, attempts: Abandonable, slots: int) -> None:
        self._attempts = attempts
        self._slots = slots
        self._queued: deque[Submission] = deque()
        self._sleeping: list[LockType] = []  # each thread sleeps on a lock of its own
        self._lock = Lock()
        self._closed = False
        self.busy = 0  # threads that have taken an attempt, including abandoned ones

    def __len__(self) -> int:
        return len(self._queued)

    def put(self, submission: Submission) -> int:
        """Add an attempt; return how many threads sleep."""
        with self._lock:
            self._queued.append(submission)
            return len(self._sleeping)

    def take(self, alarm: LockType) -> Submission | None:
        """Return the next attempt for the calling thread, which sleeps on `alarm` meanwhile; None: end the thread."""
        while True:
            with self._lock:
                if self._has_slot():
                    self.busy += 1
                    return self._queued.popleft()
                if self._closed:
                    return None
                self._sleeping.append(alarm)
            alarm.acquire()

    def done(self) -> None:
        """Note that the calling thread has ended its attempt."""
        with self._lock:
            self.busy -= 1

    def _has_slot(self) -> bool:
        return bool(self._queued) and len(self._attempts) - len(self._queued) < self._slots

    def wake_thread(self, threads: int) -> bool:
        """Wake a thread for the next attempt; return whether there is none, so that one has to start."""
        with self._lock:
            if not self._has_slot():
                return False
            if self._sleeping:
                self._sleeping.pop().release()
                return False
            abandoned = self.busy - (len(self._attempts) - len(self._queued))
            return threads - abandoned < self._slots  # otherwise a thread is about to take it

    def remove(self, submission: Submission) -> bool:
        """Take an attempt out of the queue; return whether it was there."""
        with self._lock:
            if submission not in self._queued:
                return False
            self._queued.remove(submission)
            return True

    def pop_newest(self) -> Submission | None:
        with self._lock:
            return self._queued.pop() if self._queued else None

    def close(self) -> None:
        """Let sleeping threads end, and forget queued attempts."""
        with self._lock:
            self._closed = True
            self._queued.clear()
            while self._sleeping:
                self._sleeping.pop().release()


class ThreadBackend(Backend):
    """At most `slots` threads that take attempts from a queue; one more is started when none is free.

    Waking a thread costs as much as a very short task takes. While tasks are that short, one thread that is awake
    takes them one after the other; the others are woken only if the queue is not empty a millisecond later.
    """

    in_this_process = True
    queues = True

    def __init__(self, context: BackendContext) -> None:
        self._context = context
        self._attempts = Abandonable(context.outcomes, self._wake_thread)
        self._queue = _Queue(self._attempts, context.slots)
        self._threads: list[Thread] = []
        self._typical_s = 1.0  # how long recent attempts took
        self._wakes_later = False

    def submit(self, work: Work) -> None:
        sleeping = self._queue.put(self._attempts.add(work))
        if sleeping == len(self._threads) or self._typical_s >= _SHORT_S:
            self._wake_thread()
        elif not self._wakes_later:
            self._wakes_later = True
            self._context.outcomes.at(time.monotonic() + _WAKE_AFTER_S, self._wake_threads)

    def _wake_threads(self) -> None:
        """Wake a thread for each attempt that is still queued: the threads that are awake have been busy for long."""
        self._wakes_later = False
        for _ in range(min(len(self._queue), self._context.slots)):
            self._wake_thread()

    def _wake_thread(self) -> None:
        """Wake a thread, or start one."""
        if not self._queue.wake_thread(len(self._threads)):
            return
        thread = Thread(target=self._serve, name=f"liteflow-{len(self._threads) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            submission = self._queue.pop_newest()
            if submission is not None and self._attempts.claim(submission):
                self._context.outcomes.post(failure(submission.work, "FAILED", f"no thread can be started: {error}"))
            return
        self._threads.append(thread)

    def _serve(self) -> None:
        """Run attempts, in a thread, until the queue is closed."""
        without_input.set(True)
        bodies, info = self._context.bodies, self._context.info
        alarm = Lock()
        alarm.acquire()
        while (submission := self._queue.take(alarm)) is not None:
            work = submission.work
            started_at = submission.started_at = time.time()
            try:
                outcome = run_attempt(cast("Call", bodies[work.task_id]), work, info)
            except BaseException as error:  # noqa: BLE001 - no attempt is lost, not even for want of memory
                message = f"{type(error).__name__}: {safe_text(error)}"
                outcome = failure(work, "FAILED", one_line(info.masked(message)))
            self._typical_s += (outcome.ended_at - started_at - self._typical_s) / 4
            if self._attempts.claim(submission):
                self._context.outcomes.post(outcome)
            self._queue.done()

    def cancel(self, node: int, grace_s: float) -> None:
        submission = self._attempts.find(node)
        if submission is None:
            return
        if not self._queue.remove(submission):
            self._attempts.abandon_after(node, grace_s)
        elif self._attempts.claim(submission):
            self._context.outcomes.post(cancelled_in_queue(submission.work))

    def close(self, grace_s: float) -> None:
        """Let idle threads end, so that the process may be forked again, and forget the others."""
        self._queue.close()
        self._attempts.clear()
        end = time.monotonic() + _CLOSE_S
        while sum(thread.is_alive() for thread in self._threads) > self._queue.busy and time.monotonic() < end:
            time.sleep(0.0002)
