"""When a run may start tasks, and when it has to be over: by the clock, which the plan never sees.

Times are monotonic seconds, so a laptop that sleeps stops this clock too.
"""

from __future__ import annotations

from math import inf


class Pace:
    """The time of one run.

    `open` tells whether tasks may start: not before the run has its place in its group, and not while it rests between
    two tries. `due` is the second of the next change that time brings, infinite if there is none.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._deadline = inf
        self.open = False
        self.due = inf
        self.timed_out: str | None = None  # why the run was ended

    def begin(self, now: float) -> None:
        """The run begins: its time counts from here."""
        if self._timeout_s is not None:
            self._deadline = now + self._timeout_s
        self.open, self.due = True, self._deadline

    def rest(self, now: float, wait_s: float) -> None:
        """Start nothing for so long."""
        self.open, self.due = False, min(now + wait_s, self._deadline)

    def is_over(self, now: float) -> bool:
        """It is due. Has the run used up its time? Otherwise a rest has ended."""
        if now < self._deadline:
            self.open, self.due = True, self._deadline
            return False
        from liteflow.pictures.picture import duration_text  # for this rare sentence alone

        self.due = inf
        self.timed_out = f"timed out after {duration_text(self._timeout_s)}"
        return True
