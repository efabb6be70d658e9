"""How many attempts may stand in line before the slots of a lane.

A commit costs the same for one task as for four, and so does waking whoever runs it. While tasks are very short, a
lane takes more of them than it has slots: one commit then feeds many. None waits for longer than some milliseconds;
where what runs turns out to take longer, those that wait go back to the loop (measured in docs/adr/0015).
"""

from __future__ import annotations

from typing import Final

SHORT_S: Final = 0.0002  # a task as short as this is over before another thread or process has woken up
PATIENCE_S: Final = 0.001  # how long a line may stand still before others are woken to help
RECALL_S: Final = 0.05  # and how long before it is given back
_LONGEST: Final = 64
_LONGEST_S: Final = 0.005  # how long the last in line should have to wait

CANCELLED: Final = "cancelled before it began"


class Pace:
    """How long tasks have taken lately."""

    __slots__ = ("typical_s",)

    def __init__(self) -> None:
        self.forget()

    def took(self, seconds: float) -> None:
        """A task has ended."""
        self.typical_s += (seconds - self.typical_s) / 4

    def forget(self) -> None:
        """Nothing is known: there is no line until some tasks have ended."""
        self.typical_s = 1.0

    @property
    def ahead(self) -> int:
        """How many may stand in line."""
        return min(_LONGEST, int(_LONGEST_S / self.typical_s)) if self.typical_s < SHORT_S else 0
