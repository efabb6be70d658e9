"""The clock of the machine, beside the time since its start, which nobody can set."""

from __future__ import annotations

import time
from typing import NamedTuple


class ClockReading(NamedTuple):
    """What the two clocks of the machine show at one moment, in seconds."""

    since_1970_s: float
    since_boot_s: float  #: also the time for which the machine was suspended

    @property
    def offset_s(self) -> float:
        """The difference of the two, which changes only when the clock is set."""
        return self.since_1970_s - self.since_boot_s


def read_clock() -> ClockReading:
    """Return what the clocks show now."""
    return ClockReading(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))
