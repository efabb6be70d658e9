"""Prefetch: while tasks are very short, attempts are committed and handed to the executor before there is a slot.

A commit costs the same for one task as for fifty. The executor starts the attempts in order, each when a slot is free.
Until then they are QUEUED, in the state file too. Measured in docs/adr/0032.
"""

from __future__ import annotations

import sys
from typing import Final

from liteflow.work import Outcome

_SHORT_S: Final = 0.0002  # only tasks as short as this are prefetched: a turn of the loop takes about as long
_QUEUE_S: Final = 0.005  # the time in which the queue should be worked off
_MOST_QUEUED: Final = 64
#: The slots where the ready queue counts the room of each place.
NO_LIMIT: Final = sys.maxsize
_UNKNOWN_S: Final = 1.0  # assumed until some tasks have ended


class Prefetch:
    """The queue of attempts that the executor has and that wait for a slot.

    Attributes:
        queued: the log file of each attempt that is QUEUED in the state file, by node, the first to start first.
    """

    __slots__ = ("_enabled", "_slots", "_typical_s", "queued")

    def __init__(self, slots: int, *, enabled: bool) -> None:
        self._slots = slots
        self._enabled = enabled
        self._typical_s = _UNKNOWN_S  # how long recent attempts took
        self.queued: dict[int, str | None] = {}

    def room(self, submitted: int) -> int:
        """Return how many more attempts the executor may be given when it has `submitted` ones."""
        depth = 0
        if self._enabled and self._typical_s < _SHORT_S:
            depth = min(_MOST_QUEUED, int(_QUEUE_S / self._typical_s))
        return self._slots + depth - submitted

    def has_slot(self, submitted: int) -> bool:
        """Return whether a slot is free when the executor has `submitted` attempts, the queued ones among them."""
        return submitted - len(self.queued) < self._slots

    def promote(self, submitted: int) -> list[tuple[int, str | None]]:
        """Take the attempts out of the queue for which slots have become free; return them with their log files."""
        promoted = []
        while self.queued and self.has_slot(submitted):
            node = next(iter(self.queued))
            promoted.append((node, self.queued.pop(node)))
        return promoted

    def observe(self, outcome: Outcome) -> None:
        """Take the duration of an attempt into the estimate."""
        if outcome.started_at is not None:
            self._typical_s += (outcome.ended_at - outcome.started_at - self._typical_s) / 4
