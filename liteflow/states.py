"""The statuses of runs and task instances and the verdicts of attempts, as plain strings in SQL, JSON and Python.

Both are open sets: the database has no CHECK on them, and a later version may add words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal


class Status:
    """Statuses of runs and task instances, and verdicts of attempts."""

    PENDING: Final = "PENDING"
    QUEUED: Final = "QUEUED"
    RUNNING: Final = "RUNNING"
    WAITING: Final = "WAITING"  # instances only: an attempt waits without a worker, or the next iteration is due later
    SUCCESS: Final = "SUCCESS"
    FAILED: Final = "FAILED"
    UP_FOR_RETRY: Final = "UP_FOR_RETRY"
    SKIPPED: Final = "SKIPPED"
    UPSTREAM_FAILED: Final = "UPSTREAM_FAILED"
    CANCELLED: Final = "CANCELLED"
    INTERRUPTED: Final = "INTERRUPTED"  # runs only: stopped before the end, can be resumed
    TIMED_OUT: Final = "TIMED_OUT"  # attempts only: the instance is FAILED or UP_FOR_RETRY
    LOST: Final = "LOST"  # attempts only: its owner died, the outcome is unknown
    REPEATED: Final = "REPEATED"  # attempts only: it succeeded, and another iteration follows


TaskStatus = Literal[
    "PENDING",
    "QUEUED",
    "RUNNING",
    "WAITING",
    "SUCCESS",
    "FAILED",
    "UP_FOR_RETRY",
    "SKIPPED",
    "UPSTREAM_FAILED",
    "CANCELLED",
]
RunStatus = Literal["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "INTERRUPTED"]
Verdict = Literal["SUCCESS", "FAILED", "SKIPPED", "CANCELLED", "TIMED_OUT", "LOST", "REPEATED"]

TASK_STATUSES: Final[tuple[TaskStatus, ...]] = (
    "PENDING",
    "QUEUED",
    "RUNNING",
    "WAITING",
    "SUCCESS",
    "FAILED",
    "UP_FOR_RETRY",
    "SKIPPED",
    "UPSTREAM_FAILED",
    "CANCELLED",
)
RUN_STATUSES: Final[tuple[RunStatus, ...]] = (
    "PENDING",
    "RUNNING",
    "SUCCESS",
    "FAILED",
    "CANCELLED",
    "INTERRUPTED",
)
#: The states of a fire of a trigger.
FIRE_STATUSES: Final = ("WAITING", "CLAIMED", "STARTED", "SKIPPED", "MISSED", "FAILED")

#: A task instance in one of these will not change again in this run, unless it is run again on purpose.
TASK_ENDED: Final[frozenset[str]] = frozenset({"SUCCESS", "FAILED", "SKIPPED", "UPSTREAM_FAILED", "CANCELLED"})
#: A run in one of these has no owner; INTERRUPTED, FAILED and CANCELLED runs can be resumed. The deletion of a DELETED
#: run was cut off.
RUN_ENDED: Final[frozenset[str]] = frozenset({"SUCCESS", "FAILED", "CANCELLED", "INTERRUPTED", "DELETED"})
#: The status of several instances together is the first of these that one of them has.
_COMBINED: Final = (
    "RUNNING",
    "WAITING",
    "UP_FOR_RETRY",
    "QUEUED",
    "PENDING",
    "FAILED",
    "CANCELLED",
    "UPSTREAM_FAILED",
    "SUCCESS",
)


def combined_status(statuses: Iterable[str]) -> str | None:
    """Return the status of several instances together; None where there is none."""
    present = list(dict.fromkeys(statuses))
    return next((status for status in _COMBINED if status in present), present[0] if present else None)
