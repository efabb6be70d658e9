"""Prefetch: while tasks are very short, attempts are committed and handed to the executor before there is a slot.

A commit costs the same for one task as for fifty. The executor starts the attempts in order, each when a slot is free.
Until then they are QUEUED, in the state file too. Measured in docs/adr/0032, and for clusters in docs/adr/0074.
"""

from __future__ import annotations

from typing import Final

from liteflow.record import Record
from liteflow.work import Outcome

_SHORTEST_S: Final = 1e-6
_UNKNOWN_S: Final = 1.0  # assumed until some tasks have ended


class PrefetchLimits(Record):
    """How far attempts are handed out beyond the slots of a place."""

    short_s: float  #: only tasks as short as this are prefetched
    queue_s: float  #: the time in which the queue should be worked off
    most: int


#: A turn of the loop takes as long as the shortest tasks.
NEAR: Final = PrefetchLimits(short_s=0.0002, queue_s=0.005, most=64)
#: A message there and back takes longer than a turn.
FAR: Final = PrefetchLimits(short_s=0.002, queue_s=0.01, most=128)
NONE: Final = PrefetchLimits(short_s=0.0, queue_s=0.0, most=0)


class Prefetch:
    """The queue of the attempts of one place that the executor has and that wait for a slot.

    Attributes:
        free: how many slots of the place are free; less than zero where attempts have none.
        queued: the log file of each attempt that is QUEUED in the state file, by node, the first to start first.
    """

    __slots__ = ("_limits", "_typical_s", "free", "queued")

    def __init__(self, limits: PrefetchLimits) -> None:
        self._limits = limits
        self._typical_s = _UNKNOWN_S  # how long recent attempts took
        self.free = 0
        self.queued: dict[int, str | None] = {}

    def room(self) -> int:
        """Return how many more attempts the executor may be given."""
        limits, typical_s = self._limits, self._typical_s
        if typical_s >= limits.short_s:
            return self.free
        return self.free + min(limits.most, int(limits.queue_s / typical_s))

    @property
    def _has_slot(self) -> bool:
        """Whether a slot is free for an attempt that is not queued."""
        return self.free + len(self.queued) > 0

    def take_slot(self) -> bool:
        """Count an attempt that starts; return whether a slot is free for it."""
        has_slot = self._has_slot
        self.free -= 1
        return has_slot

    def promote(self) -> list[tuple[int, str | None]]:
        """Take the attempts out of the queue for which slots have become free; return them with their log files."""
        promoted = []
        while self.queued and self._has_slot:
            node = next(iter(self.queued))
            promoted.append((node, self.queued.pop(node)))
        return promoted

    def observe(self, outcome: Outcome) -> None:
        """Take the duration of an attempt into the estimate."""
        if outcome.started_at is not None:
            duration_s = max(_SHORTEST_S, outcome.ended_at - outcome.started_at)  # a clock may have been set back
            self._typical_s += (duration_s - self._typical_s) / 4
