"""The limits of a run as a whole: its deadline, its place in its group, pool slots, and its retries.

Times are monotonic seconds, so a laptop that sleeps stops this clock, too.
"""

from __future__ import annotations

from math import inf

from liteflow.planning.plan import Plan
from liteflow.planning.retry import RetryPolicy
from liteflow.running.ports import RunStore


class _RunClock:
    """When a run may start tasks, and when it has to be over."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._deadline = inf
        self.may_start = False  # not before the run has its place in its group, and not in the back-off before a retry
        self.due = inf  # the second of the next change that time brings

    def begin(self, now: float) -> None:
        """Begin the time of the run."""
        if self._timeout_s is not None:
            self._deadline = now + self._timeout_s
        self.may_start, self.due = True, self._deadline

    def back_off(self, now: float, wait_s: float) -> None:
        """Start nothing for so long."""
        self.may_start, self.due = False, min(now + wait_s, self._deadline)

    def timed_out(self, now: float) -> str | None:
        """Return why the run is over if its time is used up; otherwise end the back-off."""
        if now < self._deadline:
            self.may_start, self.due = True, self._deadline
            return None
        from liteflow.pictures.picture import duration_text  # imported for this rare message alone

        self.due = inf
        return f"timed out after {duration_text(self._timeout_s)}"


class RunLimits:
    """The limits that the state file and the clock set to a run."""

    def __init__(self, store: RunStore, retry: RetryPolicy, timeout_s: float | None, seed: str) -> None:
        self._store = store
        self._retry = retry
        self._seed = seed
        self._clock = _RunClock(timeout_s)
        self._refused = False  # whether slots, or the place in the group, were refused
        self._granted = False  # whether the last commit granted slots: another task may ask at once

    @property
    def may_start(self) -> bool:
        """Whether the run may start tasks now."""
        return self._clock.may_start

    @property
    def is_refused(self) -> bool:
        """Whether slots, or the place in the group, were refused: something may start when another run frees them."""
        return self._refused

    def open(self, now: float) -> None:
        """Begin the time of the run, unless it has to wait for its place in its group."""
        self._refused = self._store.queue_reason is not None
        if not self._refused:
            self._clock.begin(now)

    def slots_answered(self, *, granted: bool, refused: bool) -> None:
        """Take the answer of the store to requests for slots."""
        self._granted = granted
        self._refused = self._refused or refused

    def pause_s(self, now: float, retry_at: float | None, longest_s: float) -> float:
        """Return how long the loop may wait for outcomes."""
        if self._granted:
            self._granted = False
            return 0.0
        if retry_at is None and self._clock.due == inf:
            return longest_s
        next_at = self._clock.due if retry_at is None else min(retry_at, self._clock.due)
        return min(longest_s, max(0.0, next_at - now))

    def check_clock(self, now: float) -> str | None:
        """End a back-off that is over. Return why the run is over, if its time is used up."""
        if now < self._clock.due:
            return None
        reason = self._clock.timed_out(now)
        if reason is None:
            self._store.end_backoff()
        return reason

    def ask_again(self, now: float, plan: Plan) -> None:
        """Ask again for what was refused, if another process has freed some of it."""
        if not self._refused or not self._store.slots_changed():
            return
        if self._store.queue_reason is None:
            self._refused = False
            plan.ready.reopen()
        elif plan.stopped is None and self._store.enter_group():
            self._refused = False
            self._clock.begin(now)

    def retries_left(self, plan: Plan) -> int:
        """Return the number of the next retry of a run that is over, or 0: it is not tried again."""
        stop = plan.stopped
        if not self._retry.retries or plan.result() != "FAILED" or (stop is not None and stop.cause != "fail_fast"):
            return 0
        number = self._store.retry_count() + 1
        return number if number <= self._retry.retries else 0

    def retry_reason(self, number: int) -> str:
        """Return the reason for a retry of the run, with its back-off."""
        wait_s = self._retry.wait_s(number, self._seed)
        return f"it failed; try {number + 1} of {self._retry.retries + 1} starts in {wait_s:.3g} s"

    def back_off(self, number: int, now: float) -> None:
        """Start nothing for the back-off before a retry of the run."""
        self._clock.back_off(now, self._retry.wait_s(number, self._seed))
